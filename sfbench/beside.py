"""Published figures beside rows that were run here: does the order agree?

A file of published figures whose column ``row`` names rows of ours is such a table. Scales differ,
so only orders are compared: over all pairs of rows of one ``autoregression`` (Kendall's tau-b), and
over those pairs that are told apart here, by a paired interval that excludes zero. Rows that are
flagged are shown, and have no place in the order, as on a board.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from . import published
from .leaderboard import paired
from .schema import Estimate, Result
from .verdicts import excludes_zero

COLUMN = "row"
SCORE = "vbench_total"  # what the published order is by; higher is better
GROUPED = "autoregression"
FLAG = "†"


@dataclass(frozen=True)
class Ours:
    """An estimate of a task that is shown, and which way is better."""

    task: str
    estimate: str
    title: str
    higher: bool


OURS = (
    Ours("quality", "violation", "violation, native length v", False),
    Ours("quality", "adherence", "prompt ^", True),
    Ours("long-horizon", "violation_own", "violation, own context v", False),
    Ours("long-horizon", "drift", "drift to 8x v", False),
)
"""The first two ask what the published score does: clips of the native length, from a prompt."""


@dataclass(frozen=True)
class Agreement:
    """How the order of one group's rows by a measure of ours compares with the published one."""

    group: str
    ours: Ours
    rows: int
    tau: float
    p: float
    told_apart: int
    """Pairs with a difference here, by their paired 95 % interval."""
    reversed: tuple[tuple[str, str], ...]
    """Of these, the pairs (better here, better as published) in which the order is the other."""

    @property
    def sentence(self) -> str:
        """In words."""
        pairs = self.rows * (self.rows - 1) // 2
        name = self.ours.title.rstrip(" v^")
        text = (
            f"{self.group}, {name}: over {self.rows} rows the order has Kendall's tau "
            f"{self.tau:+.2f} with the paper's (p = {self.p:.2f}). Of {pairs} pairs "
            f"{self.told_apart} are told apart here: {self.told_apart - len(self.reversed)} as in "
            f"the paper, {len(self.reversed)} the other way"
        )
        shown = ", ".join(f"{ours} better than {theirs}" for ours, theirs in self.reversed)
        return f"{text} ({shown})." if shown else f"{text}."


def section(folder: Path, results: Sequence[Result]) -> list[str]:
    """Markdown lines: a table for each file of the folder that names rows which were run."""
    run, lines = {result.model.name for result in results}, []
    for path in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
        if any(row.get(COLUMN) in run for row in published.read(path)):
            lines += [f"## Beside what was published: {path.stem}", "", *table(path, results), ""]
    return lines


def table(path: Path, results: Sequence[Result]) -> list[str]:
    """Markdown: the published rows with ours beside them, and whether the orders agree."""
    rows = published.read(path)
    found = _by_task(results)
    titles = [ours.title for ours in OURS]
    head = ["system", GROUPED, "VBench total, published ^", "row here", *titles]
    lines = [published.line(head), published.line(["---"] * len(head))]
    for row in rows:
        cells = [_cell(found.get(ours.task, {}).get(row[COLUMN]), ours) for ours in OURS]
        lines.append(
            published.line(
                [row["system"], row[GROUPED], row[SCORE] or "-", row[COLUMN] or "-", *cells]
            )
        )
    named = {row[COLUMN] for row in rows}
    sentences = [
        f"- {FLAG} {result.task.name} does not rank {result.model.name}: "
        f"{'; '.join(result.validity.flags)}."
        for result in results
        if result.validity.flags and result.model.name in named
    ]
    sentences += [f"- {a.sentence}" for a in agreements(rows, results)]
    sources = dict.fromkeys(row["source"] for row in rows)
    return [*lines, "", *sentences, "", *(f"Published: {source}" for source in sources)]


def agreements(rows: Sequence[Mapping[str, str]], results: Sequence[Result]) -> list[Agreement]:
    """One for each group of published rows and each measure of ours with three rows or more."""
    found, made = _by_task(results), []
    for group in dict.fromkeys(row[GROUPED] for row in rows):
        for ours in OURS:
            known = found.get(ours.task, {})
            pairs = [
                (float(row[SCORE]), known[row[COLUMN]], row[COLUMN])
                for row in rows
                if row[GROUPED] == group and row[SCORE] and _ranked(known.get(row[COLUMN]), ours)
            ]
            if len(pairs) > 2:
                made.append(_agreement(group, ours, pairs))
    return made


def _agreement(group: str, ours: Ours, rows: Sequence[tuple[float, Result, str]]) -> Agreement:
    from scipy.stats import kendalltau

    sign = 1 if ours.higher else -1
    here = [sign * (result.estimates[ours.estimate].value or 0.0) for _, result, _ in rows]
    tau, p = kendalltau([score for score, _, _ in rows], here)
    told, other = 0, []
    for (score, first, name), (score2, second, name2) in combinations(rows, 2):
        gap = paired(first, second, ours.estimate)
        if gap.value is None or not excludes_zero(gap):
            continue
        told += 1
        first_leads_here, first_leads_there = sign * gap.value > 0, score > score2
        if score != score2 and first_leads_here != first_leads_there:
            other.append((name, name2) if first_leads_here else (name2, name))
    return Agreement(group, ours, len(rows), float(tau), float(p), told, tuple(other))


def _by_task(results: Sequence[Result]) -> dict[str, dict[str, Result]]:
    found: dict[str, dict[str, Result]] = {}
    for result in results:
        found.setdefault(result.task.name, {})[result.model.name] = result
    return found


def _value(result: Result | None, ours: Ours) -> Estimate | None:
    estimate = result.estimates.get(ours.estimate) if result else None
    return estimate if estimate and estimate.value is not None else None


def _ranked(result: Result | None, ours: Ours) -> bool:
    return bool(result and not result.validity.flags and _value(result, ours))


def _cell(result: Result | None, ours: Ours) -> str:
    estimate = _value(result, ours)
    if estimate is None:
        return "-"
    text = f"{estimate.value:.3f}"
    if estimate.low is not None and estimate.high is not None:
        text += f" [{estimate.low:.3f}, {estimate.high:.3f}]"
    return f"{text} {FLAG}" if result and result.validity.flags else text
