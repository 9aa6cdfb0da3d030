"""Rows held against each other, estimate by estimate: `sfbench compare A B`.

A row is named by its model as on a board, by its run directory, or by its result file. Differences
are paired by prompt. What has no value a prompt is compared from the records beside the results
(:mod:`.compare_records`): the time to failure by log-rank, others by a statistic of their task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations, count
from pathlib import Path

from rich.console import Console

from . import progress, registry, stats, verdicts
from .boards import Board, Column, board_of
from .compare_records import Entry, LogRank, Recorded, not_measured
from .effects import Effect, effect
from .leaderboard import differences, require_comparable, sources
from .schema import Result
from .verdicts import MARK, Comparison, Side

MOST = 4  # rows that a message lists
TIMED = "timed by different commands, so their turns share no moment of the machine"


class Unclear(ValueError):
    """Names that no row has, or several; the text is one sentence."""


@dataclass(frozen=True)
class Line:
    """One estimate of two rows."""

    comparison: Comparison
    effect: Effect
    test: LogRank | None = None
    reason: str = ""
    """Why they cannot be compared in it."""
    marked: bool = False
    """Whether the test's difference holds with all comparisons."""

    @property
    def made(self) -> bool:
        """Whether there is something to judge by."""
        return self.comparison.made or self.test is not None

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return self.test.shown() if self.test else self.comparison.shown

    @property
    def together(self) -> bool:
        """Whether it holds with all comparisons made."""
        return self.marked or self.comparison.together

    @property
    def sentence(self) -> str:
        """The verdict in words, or why there is none."""
        one = self.comparison
        if self.test is None:
            return one.sentence or f"{one.column.title}: n/a, {self.reason}."
        first, second = one.first.label, one.second.label
        figures = "log-rank p = {:.3g}, {} and {} clips.".format(self.test.p, *self.test.clips)
        if not self.shown:
            what = f"'{one.column.title}'"
            return f"No difference in {what} is shown between {first} and {second}, {figures}"
        first, second = (first, second) if self.test.longer else (second, first)
        return f"{first} fails later than {second}, {figures}{f' {MARK}' if self.marked else ''}"


@dataclass(frozen=True)
class Pairing:
    """Two rows of one task."""

    first: Entry
    second: Entry
    mismatch: dict[str, tuple[str, str]]
    """Field -> both values, where they were not got under the same conditions."""
    lines: tuple[Line, ...]

    @property
    def cautions(self) -> list[str]:
        """What must be said before any figure."""
        found = []
        if self.mismatch:
            fields = "; ".join(f"{n} ({a} vs {b})" for n, (a, b) in self.mismatch.items())
            found.append(f"WARNING: these rows differ in {fields}, and must not be ranked together")
        for entry in (self.first, self.second):
            validity = entry.result.validity
            if not validity.ok:
                found.append(f"{entry.label} is INVALID: {'; '.join(validity.reasons)}")
            if validity.flags:
                found.append(f"{entry.label} is flagged: {'; '.join(validity.flags)}")
        a, b = self.first.result, self.second.result
        if a.task.timed and a.provenance.command != b.provenance.command:
            found.append(f"{self.first.label} and {self.second.label} were {TIMED}")
        return found


def compare(
    names: Sequence[str], results: Path, task: str | None = None, allow_mismatch: bool = False
) -> list[Pairing]:
    """Every two of the named rows, in each task that all have.

    ``results``: where names are looked up. Raises :class:`Unclear` for a name that no row or more
    than one has, and :class:`sfbench.leaderboard.Incomparable` for rows under different conditions
    unless ``allow_mismatch``.
    """
    if len(names) < 2:
        raise Unclear("Comparing takes two rows or more; name models, run directories or results.")
    found = [_resolve(name, results) for name in names]
    chosen = _tasks(names, found, task)
    rows = [
        _labelled(names, [_only(*pair, name) for pair in zip(names, found, strict=True)])
        for name in chosen
    ]
    if not allow_mismatch:
        for entries in rows:
            require_comparable([entry.result for entry in entries])
    two = [Recorded(a, b) for entries in rows for a, b in combinations(entries, 2)]
    with _told(two) as tell:
        pairs = [_pairing(recorded, tell) for recorded in two]
    return _together(pairs)


def note(pairs: Sequence[Pairing]) -> str:
    """What so many comparisons amount to."""
    lines = [line for pair in pairs for line in pair.lines if line.made]
    return verdicts.note(
        len(lines), sum(line.shown for line in lines), sum(line.together for line in lines)
    )


# --- which rows -----------------------------------------------------------------------------------


def _resolve(name: str, results: Path) -> list[Entry]:
    """The rows that a name or a path stands for; of several runs of one, the latest."""
    if Path(name).exists():
        found = sources([Path(name)])
        if not found:
            raise Unclear(f"{name} holds no result; a finished run has a result.json.")
    else:
        known = sources([results]) if results.exists() else []
        found = [(folder, row) for folder, row in known if name in _names(row)]
        if not known:
            raise Unclear(f"'{name}' is no path, and {results} holds no results to look it up in.")
        if not found:
            labels = {row.model.name for _, row in known}
            raise Unclear(registry.unknown("row", name, labels))
    latest: dict[tuple[str, ...], Entry] = {}
    for folder, row in sorted(found, key=lambda pair: pair[1].provenance.started):
        weights = row.model.weights_sha256 or ""
        key = (row.comparison_key, row.model.name, row.model.revision, weights)
        latest[key] = Entry(row.model.name, row, folder)
    return list(latest.values())


def _names(row: Result) -> tuple[str, str]:
    return row.model.name, f"{row.model.name}@{row.model.revision}"


def _tasks(names: Sequence[str], found: Sequence[list[Entry]], task: str | None) -> list[str]:
    """The tasks to compare on, in the order of the alphabet."""
    owned = [{entry.result.task.name for entry in entries} for entries in found]
    if task is not None:
        for name, has in zip(names, owned, strict=True):
            if task not in has:
                raise Unclear(f"'{name}' has no result of {task}; it has {_listed(has)}.")
        return [task]
    common = set.intersection(*owned)
    if not common:
        told = "; ".join(
            f"'{name}' has {_listed(has)}" for name, has in zip(names, owned, strict=True)
        )
        raise Unclear(f"These rows have no task in common: {told}.")
    return sorted(common)


def _only(name: str, entries: Sequence[Entry], task: str) -> Entry:
    """The one row of a task."""
    own = [entry for entry in entries if entry.result.task.name == task]
    if len(own) > 1:
        told = [f"{_names(e.result)[1]}, {e.result.task.tier}, in {e.folder}" for e in own]
        more = f"; and {len(told) - MOST} more" if len(told) > MOST else ""
        raise Unclear(
            f"'{name}' is {len(own)} rows of {task} ({'; '.join(told[:MOST])}{more}); name one by "
            "its path."
        )
    return own[0]


def _labelled(names: Sequence[str], entries: Sequence[Entry]) -> list[Entry]:
    """What was typed stands for rows whose models have one name."""
    labels = [entry.label for entry in entries]
    return [
        replace(entry, label=name) if labels.count(entry.label) > 1 else entry
        for name, entry in zip(names, entries, strict=True)
    ]


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))


# --- what they differ in --------------------------------------------------------------------------


@contextmanager
def _told(pairs: Sequence[Recorded]) -> Iterator[Callable[[], None]]:
    """Says on stderr how many of the estimates that are made of records are done, if any are.

    Some take most of a minute: true clips are rendered, and looked at by a network.
    """
    total = sum(
        recorded.takes(column.key)
        for recorded in pairs
        for column in _columns(*_sides(recorded.first, recorded.second))
    )
    if not total:
        yield lambda: None
        return
    done = count()
    with progress.shown(Console(stderr=True), "differences made of records") as report:

        def tell() -> None:
            report(next(done), total)

        tell()
        yield tell


def _sides(first: Entry, second: Entry) -> tuple[Board, Side, Side]:
    board = board_of(first.result.task.name)
    return board, Side(first.label, first.result), Side(second.label, second.result)


def _pairing(recorded: Recorded, tell: Callable[[], None]) -> Pairing:
    first, second = recorded.first, recorded.second
    board, a, b = _sides(first, second)
    lines = []
    for column in _columns(board, a, b):
        lines.append(_line(board, column, a, b, recorded))
        if recorded.takes(column.key):
            tell()
    mismatch = differences(first.result, second.result)
    return Pairing(first, second, mismatch, tuple(lines))


def _columns(board: Board, *sides: Side) -> list[Column]:
    """The board's columns that a row has an estimate for; without a board, all estimates."""
    known = {name: e for side in sides for name, e in side.result.estimates.items()}
    if board.parts:
        return [column for column in board.columns if column.key in known]
    return [Column(name, name, e.better, e.unit) for name, e in sorted(known.items())]


def _line(board: Board, column: Column, a: Side, b: Side, recorded: Recorded) -> Line:
    first, second = (side.result.per_prompt.get(column.key, {}) for side in (a, b))
    one = verdicts.comparison(board, column, a, b)
    sizes = effect(first, second, better=column.better, over=board.over)
    if one.made or one.all_equal:
        return Line(one, sizes, reason="" if one.made else _all_equal(one))
    test, reason = recorded.log_rank(column.key)
    if test is None and not reason:
        again, reason = recorded.statistic(column.key)
        if again is not None:
            one = replace(one, gap=again(stats.CONFIDENCE), again=again)
            reason = "" if one.made else one.gap.method.removeprefix("n/a: ")
            if one.all_equal:
                reason = _all_equal(one)
    return Line(one, sizes, test, reason or _reason(one))


def _all_equal(one: Comparison) -> str:
    """Why an equal difference on all prompts is none to judge by."""
    where = f"on all {one.gap.clusters} paired {one.board.over}s"
    if not one.gap.value:
        return f"equal {where}, and {stats.UNTOLD}"
    figure = verdicts.difference_text(one.gap.value, one.gap, one.column)
    return f"{one.first.label} less {one.second.label} is {figure} {where}, and {stats.UNTOLD}"


def _reason(one: Comparison) -> str:
    """Why two rows have no paired difference."""
    over, key = one.board.over, one.column.key
    for side in (one.first, one.second):
        if why := not_measured(side.result, key):
            return f"{side.label}: {why}"
        if key not in side.result.per_prompt:
            return f"{side.label} has no values by {over}"
    return f"fewer than two {over}s in common"


def _together(pairs: Sequence[Pairing]) -> list[Pairing]:
    """Mark what holds with all comparisons of all pairs."""
    lines = [line for pair in pairs for line in pair.lines]
    made = sum(line.made for line in lines)
    tests = sum(line.test is not None for line in lines)
    held = iter(verdicts.together([line.comparison for line in lines], besides=tests))
    marked = iter(
        [
            replace(
                line,
                comparison=next(held),
                marked=line.test is not None and line.test.shown(made),
            )
            for line in lines
        ]
    )
    return [replace(pair, lines=tuple(next(marked) for _ in pair.lines)) for pair in pairs]
