"""Comparisons that are made of the records beside two results, where no values by prompt pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import registry, stats, survival
from .interfaces import Task
from .leaderboard import differences
from .paired import Run, Statistic
from .rebuild import NotHere, task_of
from .schema import Estimate, Record, Result, Scores, TaskCard
from .store import read_records

Again = Callable[[float], Estimate]
"""A paired difference at a level of confidence."""


@dataclass(frozen=True)
class Entry:
    """A row and where it lies."""

    label: str
    result: Result
    folder: Path

    @cached_property
    def records(self) -> list[Record]:
        """What the result was concluded from; empty where it lies alone."""
        return read_records(self.folder)


@dataclass(frozen=True)
class LogRank:
    """The test that two models fail alike."""

    p: float
    longer: bool
    """Whether the first is alive for longer, on the average clip as far as it was watched."""
    clips: tuple[int, int]

    def shown(self, comparisons: int = 1) -> bool:
        """Whether they do not, with so many comparisons taken together."""
        return self.p * comparisons < 1 - stats.CONFIDENCE


@dataclass(frozen=True)
class Recorded:
    """Two rows of one task and the records beside them."""

    first: Entry
    second: Entry

    @property
    def _task(self) -> str:
        return self.first.result.task.name

    def log_rank(self, key: str) -> tuple[LogRank | None, str]:
        """The test, for the estimate that has one; else why there is none."""
        if key != "time_to_failure" or self._task not in registry.providers("failures"):
            return None, ""
        entries = (self.first, self.second)
        if not all(entry.result.model.causal for entry in entries):
            return None, ""
        failure_time = registry.load("failures", self._task)
        watched = []
        for entry in entries:
            clips = _watched(entry, failure_time)
            if not clips:
                return None, _alone(entry)
            watched.append(clips)
        p = survival.log_rank(*watched)
        if p is None:
            return None, "nobody failed, or fewer than two prompts in common"
        sides = [[time for clips in side.values() for time, _ in clips] for side in watched]
        means = [sum(times) / len(times) for times in sides]
        return LogRank(p, means[0] > means[1], (len(sides[0]), len(sides[1]))), ""

    def takes(self, key: str) -> bool:
        """Whether an estimate is compared by a statistic of the task, which may take a while."""
        rows = [entry.result for entry in (self.first, self.second)]
        if not all(key in row.estimates and key not in row.per_prompt for row in rows):
            return False
        return key in self._statistics and not any(not_measured(row, key) for row in rows)

    def statistic(self, key: str) -> tuple[Again | None, str]:
        """The paired difference that the task makes of an estimate; else why there is none.

        The reason is empty where there is no such statistic, as for most estimates.
        """
        entries = (self.first, self.second)
        if key not in self._statistics:
            return None, ""
        for entry in entries:
            if reason := not_measured(entry.result, key):
                return None, f"{entry.label}: {reason}"
        for entry in entries:
            if not entry.records:
                return None, _alone(entry)
        if fields := differences(self.first.result, self.second.result):
            return None, f"rows that differ in {', '.join(fields)} have no paired statistic"
        try:
            task = self._as_it_was
        except NotHere as error:
            return None, str(error).removesuffix(".")
        one, other = self._runs
        make = self._statistics[key]
        return lambda confidence: _told(make(task, one, other, confidence)), ""

    @cached_property
    def _as_it_was(self) -> Task:
        """The task, set up once: what it knows of true clips is found once."""
        return _as_it_was(self.first.result.task)

    @cached_property
    def _runs(self) -> tuple[Run, Run]:
        return Run(self.first.result, self.first.records), Run(
            self.second.result, self.second.records
        )

    @cached_property
    def _statistics(self) -> dict[str, Statistic]:
        if self._task not in registry.providers("statistics"):
            return {}
        found: dict[str, Statistic] = registry.load("statistics", self._task)
        return found


def not_measured(result: Result, key: str) -> str:
    """Why a row has no estimate of that name; empty where it has one, be it a bound alone."""
    estimate = result.estimates.get(key)
    if estimate is not None and (estimate.value is not None or estimate.low is not None):
        return ""
    return estimate.method.removeprefix("n/a: ") if estimate else "not measured"


# --- helpers --------------------------------------------------------------------------------------


def _alone(entry: Entry) -> str:
    return f"no records beside the result of {entry.label} ({entry.folder})"


def _told(gap: Estimate) -> Estimate:
    """Without an interval where all prompts move the difference alike."""
    untold = stats.UNTOLD in gap.method
    return gap.model_copy(update={"low": None, "high": None}) if untold else gap


def _as_it_was(card: TaskCard) -> Task:
    """The task set up anew, whose true clips and vectors are those that the records know."""
    task = task_of(card)
    own = task.card.metrics
    same = all(card.metrics.get(name, version) == version for name, version in own.items())
    if (task.card.version, task.card.prompts_sha256) != (card.version, card.prompts_sha256):
        same = False
    if not same:
        raise NotHere(f"the rows are of another version of the task {card.name} than is here")
    return task


def _watched(
    entry: Entry, failure_time: Callable[[Scores], float | None]
) -> dict[str, list[tuple[float, bool]]]:
    """Each free clip by prompt: when it failed, or until when it was watched."""
    found: dict[str, list[tuple[float, bool]]] = {}
    for record in entry.records:
        if record.request.arm == "free" and record.scores is not None:
            time = failure_time(record.scores)
            end = float(record.request.geometry.frames)
            clips = found.setdefault(record.request.prompt.id, [])
            clips.append((end if time is None else time, time is not None))
    return found
