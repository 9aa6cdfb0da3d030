"""The page's first sentence: which model is best, by how much, and how sure that is.

Made of the board's own words and of paired differences (:func:`.leaderboard.paired`). A model that
is lowest but not told apart from another is said to be just that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from . import leaderboard
from .boards import Column
from .leaderboard import Group, Row
from .page_charts import Plot, forest_chart
from .page_clips import truth_row
from .page_looks import Looks, told
from .schema import Estimate

CAVEAT = (
    "These weights, not these methods: one training seed each. Intervals are 95 % each, over "
    "prompts, and are not adjusted for the number of comparisons."
)


@dataclass(frozen=True)
class Verdict:
    """What one estimate says of the ranked models."""

    what: str
    meaning: str
    best: str
    value: str
    sentence: str
    shown: bool
    """Whether the best is told apart from every other."""
    plot: Plot | None


def main_board(groups: Sequence[Group]) -> Group | None:
    """The board that the verdict is taken from: its ranking estimate has a sentence of its own."""
    with_words = [g for g in groups if g.ranked and g.board.primary in g.board.verdicts]
    return next(iter(with_words or [g for g in groups if g.ranked]), None)


def verdicts(group: Group, known: Looks) -> list[Verdict]:
    """One for each estimate that the board has words for, the ranking one first."""
    words = group.board.verdicts
    names = sorted(words, key=lambda name: name != group.board.primary)
    found = (_verdict(group, known, name, *words[name]) for name in names)
    return [verdict for verdict in found if verdict is not None]


def leaders(groups: Sequence[Group]) -> list[str]:
    """Of each board that ranks, a sentence on who leads it."""
    told_of = []
    for group in groups:
        column = next((c for c in group.board.columns if c.key == group.board.primary), None)
        first = [row for row in group.ranked if row.rank.rstrip("=") == "1"]
        if column is None or not first:
            continue
        names = _listed([row.label for row in first])
        verb = "leads" if len(first) == 1 else "share the lead"
        value = told(first[0].result.estimates.get(column.key), column)
        told_of.append(f"{group.task.name}: {names} {verb} ({column.title}: {value}).")
    return told_of


def cheats(group: Group) -> str:
    """Whether the board's cheats were caught."""
    rows = [row for row in group.rows if row.result.model.kind == "cheat"]
    if not rows:
        return ""
    loose = [row.label for row in rows if row.rank != "-"]
    if loose:
        return f"A cheat that no flag caught is ranked: {_listed(loose)}."
    return f"Cheats run beside the models, all flagged: {_listed([row.label for row in rows])}."


def _verdict(group: Group, known: Looks, name: str, less: str, what: str) -> Verdict | None:
    column = next((c for c in group.board.columns if c.key == name), None)
    column = column or Column(name, what, "lower", what)
    rows = [(e.value, row) for row, e in _measured(group.ranked, name) if e.value is not None]
    if not rows:
        return None
    rows.sort(key=lambda pair: pair[0])
    best, others = rows[0][1], [row for _, row in rows[1:]]
    gaps = [leaderboard.paired(best.result, other.result, name) for other in others]
    even = [o for o, gap in zip(others, gaps, strict=True) if gap.high is None or gap.high >= 0]
    sentence = _sentence(best, others, gaps, even, less, what, column)
    truth = truth_row(group)
    beside = [truth] if truth is not None else []
    return Verdict(
        what[0].upper() + what[1:],
        column.meaning,
        best.label,
        told(best.result.estimates[name], column),
        sentence,
        bool(others) and not even,
        forest_chart(group, known, column, [row for _, row in rows] + beside),
    )


def _sentence(
    best: Row,
    others: Sequence[Row],
    gaps: Sequence[Estimate],
    even: Sequence[Row],
    less: str,
    what: str,
    column: Column,
) -> str:
    if not others:
        return f"{best.label} is the only ranked model; there is none to hold its {what} against."
    near, gap = others[0], gaps[0]
    if gap.value is None or gap.low is None or gap.high is None:
        return f"{best.label} has the lowest {what}; too few prompts are common for an interval."
    sure = (
        f"95 % interval {column.text(-gap.high)} to {column.text(-gap.low)}, "
        f"{gap.clusters} paired prompts"
    )
    by = column.text(-gap.value)
    if not even:
        field = "the other ranked model" if len(others) == 1 else "every other ranked model"
        nearest = "" if len(others) == 1 else f" than {near.label}, the next"
        return f"{best.label} has {less} than {field}: {by} less{nearest} ({sure})."
    names = _listed([row.label for row in even])
    return (
        f"{best.label} has the lowest {what}, but is not told apart from {names}: {by} less than "
        f"{near.label} ({sure})."
    )


def _measured(rows: Iterable[Row], name: str) -> list[tuple[Row, Estimate]]:
    found = ((row, row.result.estimates.get(name)) for row in rows)
    return [(row, e) for row, e in found if e is not None]


# --- helpers --------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
