"""Sentences say what the numbers say, whichever way is better, and a list knows how long it is."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import verdicts
from sfbench.boards import Board, Column
from sfbench.paired import TIMES
from sfbench.schema import Better, Estimate
from sfbench.verdicts import Comparison, Side, comparison, together

from simulators import result

PLAIN = Board(primary=None)
NAMED = Board(primary=None, verdicts={"violation_own": ("less of it", "it")}, over="turn")


def pair(gap: float, better: Better | None, board: Board = PLAIN, prompts: int = 20) -> Comparison:
    """The first is above the second by ``gap``, with a little noise."""
    noise = np.random.default_rng(1).normal(0, 0.05, (2, prompts))
    sides = [
        Side(label, result(label, {str(p): level + float(v) for p, v in enumerate(row)}))
        for label, level, row in zip("ab", (0.5 + gap, 0.5), noise, strict=True)
    ]
    return comparison(board, Column("violation_own", "loss", better, ""), *sides)


@pytest.mark.parametrize(
    ("gap", "better", "start"),
    [
        (-0.3, "lower", "a has a lower 'loss' than b, -0."),
        (0.3, "lower", "b has a lower 'loss' than a, -0."),
        (0.3, "higher", "a has a higher 'loss' than b, +0."),
        (-0.3, "higher", "b has a higher 'loss' than a, +0."),
        (0.3, None, "b is lower in 'loss' than a, which is neither better nor worse, -0."),
        (0.0, "lower", "No difference in 'loss' is shown between "),
        (0.0, None, "No difference in 'loss' is shown between "),
    ],
)
def test_a_sentence(gap: float, better: Better | None, start: str) -> None:
    said = pair(gap, better).sentence
    assert said is not None and said.startswith(start)
    assert said.endswith("20 paired prompts.")
    assert not (better is None and " has " in said), "no side of it is better"


def test_the_board_has_words_of_its_own() -> None:
    said = pair(0.3, "lower", NAMED).sentence
    assert said is not None
    assert said.startswith("b has less of it than a") and said.endswith("20 paired turns.")


def test_the_interval_of_a_sentence_is_in_order() -> None:
    said = pair(0.3, "lower").sentence
    assert said is not None
    low, high = (float(v) for v in said.partition("[")[2].partition("]")[0].split(","))
    assert low < -0.3 + 0.1 and low < high < 0


def test_equal_on_all_prompts_is_no_finding() -> None:
    """Not "no difference is shown, [0, 0]": an equal difference everywhere has no interval."""
    side = Side("a", result("a", {str(p): 0.1 * p for p in range(8)}))
    same = comparison(PLAIN, Column("violation_own", "loss", "lower", ""), side, side)
    assert same.all_equal and not same.made and not same.shown and same.sentence is None
    assert verdicts.noted(together([same, pair(0.3, "lower"), pair(0.3, None)])).startswith("2 ")


def test_a_difference_of_logarithms_is_shown_as_a_ratio() -> None:
    gap = Estimate(value=-0.2, low=-0.3, high=-0.1, n=9, clusters=9, method="of a test", unit=TIMES)
    sides = [Side(label, result(label, {})) for label in "ab"]
    column = Column("k", "k", "lower", "", style="{:.0f}")
    one = Comparison(PLAIN, column, *sides, gap=gap, again=lambda confidence: gap)
    assert one.sentence == "a has a lower 'k' than b, x0.819 [x0.741, x0.905], 9 paired prompts."
    higher = Comparison(PLAIN, Column("k", "k", "higher", ""), *sides, gap=gap)
    assert str(higher.sentence).startswith("b has a higher 'k' than a, x1.221 [x1.105, x1.350]")


def test_one_prompt_is_no_comparison() -> None:
    one = pair(0.3, "lower", prompts=1)
    assert not one.made and not one.shown and one.sentence is None


def test_what_holds_depends_on_how_many_are_compared() -> None:
    near = pair(0.05, "lower")
    assert near.shown
    (alone,) = together([near])
    (among,) = together([near], besides=5000)
    assert alone.together and not among.together
    assert str(alone.sentence).endswith("†") and str(among.sentence).endswith(".")


def test_the_note_counts() -> None:
    said = verdicts.noted(
        together([pair(0.3, "lower"), pair(0.0, "lower"), pair(0.3, None, prompts=1)])
    )
    assert said.startswith("2 comparisons, 1 with a difference shown at 95 % each")
    assert "chance alone would show 0.1" in said and "marks the 1 " in said
    assert verdicts.note(1, 1, 1) == ""
