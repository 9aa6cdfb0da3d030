"""Two rows held against each other in words, and what many such sentences amount to together.

A difference is *shown* where its 95 % interval excludes 0. Of many comparisons between equal models
one in twenty shows a difference all the same, so those that hold with the whole list taken together
(Bonferroni: each interval at ``1 - 0.05 / comparisons``) are marked, and a note says how many there
are of each kind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from . import stats
from .boards import Board, Column
from .paired import TIMES
from .schema import Estimate, Result

MARK = "†"
MOST_LOG = 99.0  # of a ratio that is shown


@dataclass(frozen=True)
class Side:
    """A row, and the name that sentences give it."""

    label: str
    result: Result


@dataclass(frozen=True)
class Comparison:
    """One estimate of two rows."""

    board: Board
    column: Column
    first: Side
    second: Side
    gap: Estimate
    """``first - second``, paired; without an interval where nothing pairs. An end of an interval
    that is ``None`` is open."""
    together: bool = False
    """Whether the difference also holds with all comparisons of its list."""
    again: Callable[[float], Estimate] | None = None
    """``gap`` at another level, where it is not made of values by prompt."""

    @property
    def made(self) -> bool:
        """Whether there is something to judge by; an interval may be open, on both sides even."""
        ends = (self.gap.value, self.gap.low, self.gap.high)
        known = self.gap.clusters > 1 and any(end is not None for end in ends)
        return known and not self.all_equal

    @property
    def all_equal(self) -> bool:
        """Whether every pair differs by as much, so that nothing tells how far off this is."""
        return self.gap.low is None and self.gap.high is None and stats.UNTOLD in self.gap.method

    @property
    def shown(self) -> bool:
        """Whether a difference is shown."""
        return excludes_zero(self.gap)

    def at(self, confidence: float) -> Estimate:
        """The paired difference at another level."""
        if self.again is not None:
            return self.again(confidence)
        return difference(
            self.first.result, self.second.result, self.column, self.board, confidence
        )

    @property
    def sentence(self) -> str | None:
        """In words, also where no difference is shown; ``None`` where none can be."""
        if not self.made:
            return None
        has, name = self.board.words(self.column)
        lower = self._lower
        first_leads = lower if self.column.better != "higher" else not lower
        ahead, behind = (self.first, self.second) if first_leads else (self.second, self.first)
        figures = f"{self._figures(1 if first_leads else -1)}{self._mark}"
        if not self.shown:
            return (
                f"No difference in {name} is shown between {ahead.label} and {behind.label}, "
                f"{figures}"
            )
        if self.column.better is None:
            return (
                f"{ahead.label} is lower in {name} than {behind.label}, which is neither better "
                f"nor worse, {figures}"
            )
        return f"{ahead.label} has {has} than {behind.label}, {figures}"

    @property
    def _lower(self) -> bool:
        """Whether the first is lower: by the value; without one, by the interval's end."""
        if self.gap.value is not None:
            return self.gap.value < 0
        return self.gap.high is not None and self.gap.high < 0

    @property
    def _mark(self) -> str:
        return f" {MARK}" if self.together else ""

    def _figures(self, sign: int) -> str:
        ends = (self.gap.low, self.gap.high)[::sign]
        shown, low, high = (
            "n/a" if v is None else difference_text(sign * v + 0.0, self.gap, self.column)
            for v in (self.gap.value, *ends)
        )
        return f"{shown} [{low}, {high}], {self.gap.clusters} paired {self.board.over}s."


def difference_text(value: float, gap: Estimate, column: Column) -> str:
    """A difference as text: signed, or ``x0.910``, a ratio, where ``gap`` is one of logarithms."""
    if gap.unit == TIMES:
        return f"x{math.exp(min(value, MOST_LOG)):.3f}"
    return column.style.replace("{:", "{:+").format(value)


def comparison(board: Board, column: Column, first: Side, second: Side) -> Comparison:
    """Two rows in one estimate, whether or not they may be ranked together."""
    gap = difference(first.result, second.result, column, board)
    return Comparison(board, column, first, second, gap)


def difference(
    first: Result,
    second: Result,
    column: Column,
    board: Board,
    confidence: float = stats.CONFIDENCE,
) -> Estimate:
    """``first - second`` over the clusters that both have."""
    known = [r.estimates[column.key] for r in (first, second) if column.key in r.estimates]
    return stats.difference(
        first.per_prompt.get(column.key, {}),
        second.per_prompt.get(column.key, {}),
        unit=known[0].unit if known else "",
        better=column.better,
        over=board.over,
        confidence=confidence,
    )


def together(found: Sequence[Comparison], besides: int = 0) -> list[Comparison]:
    """The comparisons, those marked that hold with all of them and ``besides`` others."""
    level = 1 - (1 - stats.CONFIDENCE) / max(1, besides + sum(one.made for one in found))
    return [replace(one, together=one.shown and excludes_zero(one.at(level))) for one in found]


def note(comparisons: int, shown: int, hold: int) -> str:
    """What so many comparisons amount to; empty for fewer than two."""
    if comparisons < 2:
        return ""
    chance = (1 - stats.CONFIDENCE) * comparisons
    return (
        f"{comparisons} comparisons, {shown} with a difference shown at 95 % each; were all models "
        f"equal, chance alone would show {chance:.1f}. {MARK} marks the {hold} that also hold all "
        "together (Bonferroni)."
    )


def noted(found: Sequence[Comparison]) -> str:
    """The :func:`note` on marked comparisons."""
    made = [one for one in found if one.made]
    return note(len(made), sum(one.shown for one in made), sum(one.together for one in made))


def excludes_zero(gap: Estimate) -> bool:
    """Whether the interval, which may be open on one side, lies on one side of 0."""
    return (gap.low is not None and gap.low > 0) or (gap.high is not None and gap.high < 0)
