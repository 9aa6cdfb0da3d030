"""The page's first sentence: which model is best, by how much, and how sure that is.

Made of the board's own words and of the paired differences of :mod:`.verdicts`. A model that leads
but is not told apart from another is said to do just that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import leaderboard, tables
from .boards import Column
from .leaderboard import Group, Row
from .page_charts import Plot, forest_chart
from .page_clips import truth_row
from .page_looks import Looks, told
from .verdicts import Comparison

CAVEAT = "These weights, not these methods: one training seed each."


@dataclass(frozen=True)
class Verdict:
    """What one estimate says of the ranked models."""

    name: str
    """What the estimate is called within a sentence."""
    meaning: str
    best: str
    value: str
    sentence: str
    by: str
    """By how much it is ahead of the next, and how sure that is; empty where nothing pairs."""
    even: tuple[str, ...]
    """Those it is not told apart from."""
    compared: int
    sure: str
    """Whether it holds with many comparisons; empty where not every difference is shown."""
    plot: Plot | None

    @property
    def what(self) -> str:
        """Its name as a heading."""
        return self.name[0].upper() + self.name[1:]

    @property
    def spoken(self) -> str:
        """The drawing in words."""
        return "; ".join(text for _, _, text in self.plot.spots) if self.plot else ""


def main_board(groups: Sequence[Group]) -> Group | None:
    """The board that the verdict is of: it ranks by what it has words for, and not by time."""

    def order(group: Group) -> tuple[bool, bool, bool]:
        board = group.board
        return board.primary not in board.verdicts, group.task.timed, not board.horizon

    return min((group for group in groups if group.ranked), key=order, default=None)


def verdicts(group: Group, known: Looks) -> list[Verdict]:
    """One for each estimate that the board has words for, the ranking one first."""
    columns = {column.key: column for column in group.board.columns}
    made = leaderboard.comparisons(group, leader_only=True)
    names = sorted(group.board.verdicts, key=lambda name: name != group.board.primary)
    found = (
        _verdict(group, known, columns[name], [one for one in made if one.column.key == name])
        for name in names
    )
    return [verdict for verdict in found if verdict is not None]


def headline(found: Sequence[Verdict]) -> str:
    """The verdict in one sentence."""
    return found[0].sentence if found else "No model is ranked yet, so there is no verdict."


def but(found: Sequence[Verdict]) -> list[str]:
    """What the first sentence must not hide: the estimates in which another model is best."""
    return [f"But {other.sentence}" for other in found[1:] if other.best != found[0].best]


def asides(groups: Sequence[Group], main: Group | None) -> list[str]:
    """What must be said with the verdict, a sentence or two each."""
    told_of: list[str] = []
    if main:
        told_of = [tables.caution(main.task), CAVEAT + " " + _world(main), cheats(main)]
    told_of = [line for line in told_of if line]
    others = leaders([group for group in groups if group is not main])
    return [*told_of, *(["On other boards, " + "; ".join(others) + "."] if others else [])]


def leaders(groups: Sequence[Group]) -> list[str]:
    """Who leads each board that ranks."""
    told_of = []
    for group in groups:
        column = next((c for c in group.board.columns if c.key == group.board.primary), None)
        first = [row for row in group.ranked if row.rank.rstrip("=") == "1"]
        if column is None or not first:
            continue
        names = _listed([row.label for row in first])
        verb = "leads" if len(first) == 1 else "share the lead"
        value = told(first[0].result.estimates.get(column.key), column)
        told_of.append(f"{names} {verb} in {group.task.name} ({column.title}: {value})")
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


def _world(group: Group) -> str:
    g = group.task.geometry
    return (
        f"Measured on {group.task.dataset}, {g.frames} frames of {g.width}x{g.height}: what holds "
        "there need not hold on other videos."
    )


def _verdict(group: Group, known: Looks, column: Column, made: list[Comparison]) -> Verdict | None:
    """``made``: the comparisons of the best row in this estimate with all others."""
    found = [(row, row.result.estimates.get(column.key)) for row in group.ranked]
    values = [(e.value, row) for row, e in found if e is not None and e.value is not None]
    sign = -1 if column.better == "higher" else 1
    rows = [row for _, row in sorted(values, key=lambda pair: sign * pair[0])]
    if not rows:
        return None
    truth = [row for row in [truth_row(group)] if row is not None]
    return Verdict(
        group.board.words(column)[1],
        column.meaning,
        rows[0].label,
        told(rows[0].result.estimates[column.key], column),
        _sentence(group, column, rows, made),
        _by(group, column, rows[1:], made) if rows[1:] else "",
        tuple(_even(made)),
        len(made),
        _sure(made),
        forest_chart(known, column, rows + truth),
    )


def _sentence(group: Group, column: Column, rows: Sequence[Row], made: Sequence[Comparison]) -> str:
    """The verdict where it stands alone."""
    best, others = rows[0], rows[1:]
    has, name = group.board.words(column)
    if not others:
        return f"{best.label} is the only ranked model; there is none to hold its {name} against."
    by, even = _by(group, column, others, made), _even(made)
    if not by:
        return f"{best.label} leads in {name}; too few {group.board.over}s pair to be sure."
    if even:
        return f"{best.label} leads in {name}, but is not told apart from {_listed(even)}: {by}."
    field = f"than {others[0].label}" if len(others) == 1 else "than every other ranked model"
    return f"{best.label} has {has} {field}: {by}."


def _by(group: Group, column: Column, others: Sequence[Row], made: Sequence[Comparison]) -> str:
    """By how much the best is ahead of the next, and how sure that is."""
    near = next((one for one in made if one.second.label == others[0].label), None)
    if near is None or near.gap.value is None or near.gap.low is None or near.gap.high is None:
        return ""
    sign, more = (1, "more") if column.better == "higher" else (-1, "less")
    low, high = sorted((sign * near.gap.low, sign * near.gap.high))
    return (
        f"{column.text(sign * near.gap.value)} {more} than {near.second.label}, the next "
        f"(95 % interval {column.text(low)} to {column.text(high)}, {near.gap.clusters} paired "
        f"{group.board.over}s)"
    )


def _even(made: Sequence[Comparison]) -> list[str]:
    return [one.second.label for one in made if not one.shown]


def _sure(made: Sequence[Comparison]) -> str:
    """Whether it also holds when many comparisons are made."""
    if not made or _even(made):
        return ""
    alone = [one.second.label for one in made if not one.together]
    if alone:
        return f"With all such comparisons taken together, not against {_listed(alone)}."
    return "This also holds with all such comparisons taken together (Bonferroni)."


# --- helpers --------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
