"""Two half-lives: which is shorter, how sure that is, and what is said if one is not reached."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sfbench.exposure_recovery import difference, half_life
from sfbench.exposure_rows import Grouped
from sfbench.schema import Estimate
from sfbench.verdicts import excludes_zero

Floats = NDArray[np.float64]
ENDS = [2.0 * n for n in range(1, 13)]
CHUNK = np.arange(12)
TRIALS = 200
ERROR = math.sqrt(0.05 * 0.95 / TRIALS)  # one Monte Carlo standard deviation
Law = Callable[[np.random.Generator, int], Floats]
"""``(rng, prompts) -> excess violation [prompts, chunks]``"""


def decay(chunks: float, left: float = 0, noise: float = 0.1) -> Law:
    """Halved every so many chunks, down to a share that is never undone; prompts differ in size."""

    def draw(rng: np.random.Generator, prompts: int) -> Floats:
        share = left + (1 - left) * 2 ** (-CHUNK / chunks)
        wander = 0.5 * np.cumsum(rng.normal(size=(prompts, 12)), axis=1)
        sizes: Floats = np.linspace(0.3, 0.9, prompts)[:, None]
        return sizes * share + noise * (wander + rng.normal(size=(prompts, 12)))

    return draw


def rows(curves: Floats) -> Grouped:
    return {f"p{n}": [curve.tolist()] for n, curve in enumerate(curves)}


def two(seed: int, first: Law, second: Law, prompts: int = 32) -> Estimate:
    rng = np.random.default_rng([seed, prompts])
    return difference(rows(first(rng, prompts)), rows(second(rng, prompts)), (ENDS, ENDS))


def exactly(chunks: float, prompts: int = 12, left: float = 0) -> Grouped:
    """Curves without chance but for their size."""
    return rows(decay(chunks, left, noise=0)(np.random.default_rng(0), prompts))


EQUAL = {
    "fast": decay(1.5),
    "slow": decay(5),
    "at the end of the clip": decay(12),
    "halts near half": decay(2, left=0.48, noise=0.05),
}


@pytest.mark.parametrize("prompts", [8, 32])
@pytest.mark.parametrize("law", EQUAL)
def test_equal_models_are_seldom_told_apart(law: str, prompts: int) -> None:
    told = [excludes_zero(two(t, EQUAL[law], EQUAL[law], prompts)) for t in range(TRIALS)]
    assert np.mean(told) <= 0.05 + 2 * ERROR


@pytest.mark.parametrize("other", [decay(6), decay(50)], ids=["slow", "never"])
def test_a_real_difference_is_found_on_its_side(other: Law) -> None:
    found = []
    for trial in range(40):
        faster, slower = two(trial, decay(1.5), other), two(trial, other, decay(1.5))
        assert faster.low is None or faster.low <= 0
        assert slower.high is None or slower.high >= 0
        found.append((faster.high or 0) < 0 and (slower.low or 0) > 0)
    assert np.mean(found) > 0.9


def test_it_is_the_difference_of_the_half_lives() -> None:
    first, second = exactly(3), exactly(5)
    found = difference(first, second, (ENDS, ENDS))
    one, other = (half_life(side, ENDS).value for side in (first, second))
    assert one is not None and other is not None
    assert found.value == one - other == -4
    assert (found.low, found.high) == (-4, -4)  # the curves have but one shape
    assert (found.n, found.clusters, found.unit, found.better) == (24, 12, "frames", "lower")
    assert "shorter in 100.0% of resamples, longer in 0.0%" in found.method
    assert "bootstrap over prompts" in found.method


def test_the_clips_of_two_models_may_have_other_chunks() -> None:
    curves = {p: [row[1::2] for row in seeds] for p, seeds in exactly(5).items()}
    found = difference(exactly(5), curves, (ENDS, ENDS[1::2]))
    assert found.value == half_life(exactly(5), ENDS).value - half_life(curves, ENDS[1::2]).value


def test_one_that_is_never_reached_bounds_the_difference() -> None:
    """It is longer than the clip by nobody knows how much: an end is open, the other is not."""
    found = difference(exactly(3), exactly(3, left=0.6), (ENDS, ENDS))
    assert (found.value, found.low, found.high) == (None, None, 6 - 24)
    assert excludes_zero(found) and "the second never reached" in found.method
    back = difference(exactly(3, left=0.6), exactly(3), (ENDS, ENDS))
    assert (back.value, back.low, back.high) == (None, 24 - 6, None)
    assert excludes_zero(back) and "the first never reached" in back.method


def test_two_that_are_never_reached_cannot_be_compared() -> None:
    found = difference(exactly(3, left=0.6), exactly(3, left=0.8), (ENDS, ENDS))
    assert (found.value, found.low, found.high, found.clusters) == (None, None, None, 0)
    assert found.method.startswith("n/a: ") and "neither within the clip" in found.method


def test_resamples_that_reach_neither_speak_for_no_side() -> None:
    """Seven prompts recover and six do not: in half of the resamples neither model does."""
    mixed = exactly(1, 7) | {f"never{n}": [[0.5] * 12] for n in range(6)}
    later = {p: [row[:1] + row[:11] for row in seeds] for p, seeds in mixed.items()}
    found = difference(mixed, later, (ENDS, ENDS))
    assert found.clusters == 13 and (found.low, found.high) == (None, None)
    assert not excludes_zero(found)


def test_no_damage_is_no_fast_recovery() -> None:
    rng = np.random.default_rng(0)
    unmoved = rows(rng.normal(0, 0.1, (12, 12)))
    assert half_life(unmoved, ENDS).value == 0
    for sides, word in (((unmoved, exactly(3)), "first"), ((exactly(3), unmoved), "second")):
        found = difference(*sides, (ENDS, ENDS))
        assert found.value is None and found.clusters == 0
        assert f"no excess in the first chunk of the {word}" in found.method


def test_prompts_are_those_that_both_have() -> None:
    first = exactly(3) | {"alone": [[9.0] * 12]}
    found = difference(first, exactly(5), (ENDS, ENDS))
    assert (found.value, found.clusters) == (-4, 12)
    few = difference(exactly(3, 7), exactly(5), (ENDS, ENDS))
    assert few.value is None and few.method.endswith("needs 8 prompts that both have, has 7")


def test_both_models_get_the_same_prompts() -> None:
    """However much prompts differ, a model is as fast as itself in every resample."""
    noisy = rows(decay(4, noise=0.2)(np.random.default_rng(0), 16))
    alone = half_life(noisy, ENDS)
    assert alone.low is not None and alone.high is not None and alone.low < alone.high < 24
    found = difference(noisy, noisy, (ENDS, ENDS))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_more_confidence_is_a_wider_interval() -> None:
    rng = np.random.default_rng(3)
    sides = rows(decay(3)(rng, 16)), rows(decay(5)(rng, 16))
    usual = difference(*sides, (ENDS, ENDS))
    wider = difference(*sides, (ENDS, ENDS), confidence=0.999)
    assert (usual.confidence, wider.confidence) == (0.95, 0.999)
    ends = [(-math.inf if e.low is None else e.low, e.high or math.inf) for e in (usual, wider)]
    assert ends[1][0] <= ends[0][0] and ends[1][1] >= ends[0][1] and ends[0] != ends[1]
    assert difference(*sides, (ENDS, ENDS)) == usual
