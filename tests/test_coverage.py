"""Proof by simulation: intervals cover, and two equal models are seldom told apart.

Data like ours: violations between 0 and 1, skewed or piled at the bound, with an effect of the
prompt as large as that of the seed, and unequal numbers of seeds. 2000 seeded trials a claim, by
the very functions that publish; one Monte Carlo standard deviation of a figure is half a point.
8 prompts are those of a smoke row, and as many as the turns of a latency row.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sfbench import exposure_growth, exposure_recovery, exposure_rows, stats

Floats = NDArray[np.float64]
TRIALS = 2000
ERROR = float(np.sqrt(0.05 * 0.95 / TRIALS))
SEEDS = (1, 2, 4)  # of the prompts in turn
Draw = Callable[[np.random.Generator, int, int], Floats]
"""``(trials, prompts) -> values [trials, prompts, seeds]``; a seed that was not played is NaN."""


def played(values: Floats) -> Floats:
    seeds = np.array(SEEDS)[np.arange(values.shape[1]) % len(SEEDS)]
    return np.where(np.arange(max(SEEDS)) < seeds[:, None], values, np.nan)


def skewed(rng: np.random.Generator, trials: int, n: int) -> Floats:
    """Beta, its tail to the right."""
    level = rng.beta(0.8, 3, (trials, n, 1)) + np.zeros(max(SEEDS))
    return played(rng.beta(4 * level + 0.02, 4 * (1 - level) + 0.02))


def high(rng: np.random.Generator, trials: int, n: int) -> Floats:
    """Near the other bound, as adherence is."""
    return 1 - skewed(rng, trials, n)


def piled(rng: np.random.Generator, trials: int, n: int) -> Floats:
    """A third of the prompts at 0 exactly, the others anywhere above."""
    above = rng.random((trials, n, 1)) > 1 / 3
    return played(
        above * rng.beta(1, 2, above.shape) * rng.uniform(0.5, 1, (trials, n, max(SEEDS)))
    )


def cut(rng: np.random.Generator, trials: int, n: int) -> Floats:
    """Most clips at 0 exactly: seven of ten, in and between prompts."""
    level = rng.normal(-0.09, 0.15, (trials, n, 1))
    return played(np.clip(level + rng.normal(0, 0.09, (trials, n, max(SEEDS))), 0, 1))


def exponential(rng: np.random.Generator, trials: int, n: int) -> Floats:
    """As skewed as anything measured (skewness 2), and without a bound above."""
    return played(rng.exponential(1, (trials, n, 1)) + rng.normal(0, 0.5, (trials, n, max(SEEDS))))


def bell(rng: np.random.Generator, trials: int, n: int) -> Floats:
    return played(rng.normal(0, 1, (trials, n, 1)) + rng.normal(0, 0.5, (trials, n, max(SEEDS))))


LAWS: dict[str, Draw] = {law.__name__: law for law in (skewed, high, piled, cut, exponential, bell)}
EACH = [(law, n) for law in LAWS for n in (8, 16, 32)]


def expectation(draw: Draw) -> float:
    """Of the mean over prompts, from very many of them."""
    return float(np.nanmean(draw(np.random.default_rng(0), 1, 600_000), axis=2).mean())


def sample(values: Floats) -> dict[str, Floats]:
    return {str(p): seeds for p, seeds in enumerate(values)}


@pytest.mark.parametrize(("law", "n"), EACH)
def test_the_interval_of_a_mean_covers(law: str, n: int) -> None:
    covered = coverage(LAWS[law], n)
    assert 0.93 <= covered <= 0.97, covered


def coverage(draw: Draw, n: int) -> float:
    mean, hits = expectation(draw), 0
    for values in draw(np.random.default_rng([n, 1]), TRIALS, n):
        found = stats.mean(sample(values))
        assert found.low is not None and found.high is not None
        hits += found.low <= mean <= found.high
    return hits / TRIALS


@pytest.mark.parametrize(("law", "n"), EACH)
def test_two_equal_models_are_seldom_told_apart(law: str, n: int) -> None:
    told = told_apart(LAWS[law], n)
    assert told <= 0.05 + 2 * ERROR, told


def told_apart(draw: Draw, n: int, confidence: float = 0.95) -> float:
    """Share of verdicts on two models that share the prompts' levels and differ by noise alone."""
    rng, told = np.random.default_rng([n, 2]), 0
    common, a, b = (np.nanmean(draw(rng, TRIALS, n), axis=2) for _ in range(3))
    for shared, one, other in zip(common, a, b, strict=True):
        pair = [dict(zip(map(str, range(n)), shared + own, strict=True)) for own in (one, other)]
        gap = stats.difference(pair[0], pair[1], confidence=confidence)
        assert gap.low is not None and gap.high is not None
        told += not gap.low <= 0 <= gap.high
    return told / TRIALS


@pytest.mark.parametrize("n", [8, 16, 32])
def test_the_interval_of_a_true_difference_covers(n: int) -> None:
    """One model fails here and there, the other seldom: their differences are skewed."""
    rng, hits = np.random.default_rng([n, 3]), 0
    a, b = (np.nanmean(law(rng, TRIALS, n), axis=2) for law in (piled, cut))
    true = expectation(piled) - expectation(cut)
    for one, other in zip(a, b, strict=True):
        gap = stats.difference(
            *({str(p): float(v) for p, v in enumerate(side)} for side in (one, other))
        )
        assert gap.low is not None and gap.high is not None
        hits += gap.low <= true <= gap.high
    assert 0.93 <= hits / TRIALS <= 0.97, hits / TRIALS


def test_an_interval_for_twenty_comparisons_is_wrong_as_seldom_as_it_says() -> None:
    told = told_apart(skewed, 32, confidence=1 - 0.05 / 20)
    assert told <= 0.0025 + 2 * np.sqrt(0.0025 / TRIALS), told


def test_the_interval_of_a_rank_covers() -> None:
    """Four models, the middle two nearly alike; their true ranks are those of their means."""
    offsets, n, hits = np.array([0.0, 0.08, 0.1, 0.3]), 16, np.zeros(4)
    rng = np.random.default_rng(3)
    shared = np.nanmean(skewed(rng, TRIALS, n), axis=2)
    noise = rng.normal(0, 0.1, (TRIALS, 4, n)) + offsets[:, None]
    for common, own in zip(shared, noise, strict=True):
        rows = [dict(zip(map(str, range(n)), common + one, strict=True)) for one in own]
        found = stats.rank_intervals(rows, "lower")
        assert found is not None
        hits += [low <= rank <= high for rank, (low, high) in enumerate(found, 1)]
    assert np.all(hits / TRIALS >= 0.95 - 2 * ERROR), hits / TRIALS


def test_what_was_never_seen_cannot_be_covered_and_says_so() -> None:
    """One prompt in ten fails: in 19 % of samples of 16 none does, and nothing tells the spread."""
    rng, unseen, missed = np.random.default_rng(4), 0, 0
    for values in (rng.random((TRIALS, 16)) < 0.1).astype(float):
        found = stats.mean({str(p): value for p, value in enumerate(values)})
        assert found.low is not None and found.high is not None
        missed += not found.low <= 0.1 <= found.high
        if not values.any():
            unseen += 1
            assert (found.low, found.high) == (0, 0)
            assert "all prompts equal: nothing tells how far off this is" in found.method
    assert unseen / TRIALS == pytest.approx(0.9**16, abs=0.03)
    assert missed - unseen < 0.05 * TRIALS  # all others cover


@pytest.mark.parametrize("n", [8, 32])
def test_an_equal_share_is_no_certain_one(n: int) -> None:
    """Two models differ on one prompt in 25, on the one side or the other; often on none of n."""
    rng, hits = np.random.default_rng([n, 6]), 0
    for _ in range(TRIALS // 4):
        differ, side = rng.random(n) < 0.04, rng.random(n) < 0.8
        one = {str(p): float(d and s) for p, (d, s) in enumerate(zip(differ, side, strict=True))}
        other = {
            str(p): float(d and not s) for p, (d, s) in enumerate(zip(differ, side, strict=True))
        }
        gap = stats.difference(one, other, unit="share")
        assert gap.low is not None and gap.high is not None and gap.low < gap.high
        hits += gap.low <= 0.04 * (0.8 - 0.2) <= gap.high
    assert hits / (TRIALS // 4) >= 0.93, hits


# --- intervals read off curves --------------------------------------------------------------------


ENDS = [2.0 * k for k in range(1, 13)]


def excess(rng: np.random.Generator, n: int, chunks: float) -> Floats:
    """What damage adds, halved every so many chunks; errors wander along the clip."""
    noise = 0.5 * np.cumsum(rng.normal(size=(n, 12)), axis=1) + rng.normal(size=(n, 12))
    sizes = rng.uniform(0.3, 0.9, (n, 1))
    curves: Floats = sizes * 2 ** (-np.arange(12) / chunks) + 0.1 * noise
    return curves


@pytest.mark.parametrize("chunks", [1.5, 3, 5, 12])
def test_the_interval_of_a_half_life_covers(chunks: float) -> None:
    """It holds more than 95 %, as half-lives are whole chunks."""
    rng, trials, hits = np.random.default_rng(7), 200, 0
    true = next((e for e, k in zip(ENDS, range(1, 12), strict=False) if k >= chunks), np.inf)
    for _ in range(trials):
        rows = {str(p): [curve.tolist()] for p, curve in enumerate(excess(rng, 32, chunks))}
        found = exposure_recovery.half_life(rows, ENDS)
        assert found.low is not None and "not calibrated" not in found.method
        hits += found.low <= true <= (np.inf if found.high is None else found.high)
    assert hits / trials >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / trials), hits / trials


def test_what_is_not_calibrated_says_so() -> None:
    rng = np.random.default_rng(8)
    few = {str(p): [curve.tolist()] for p, curve in enumerate(excess(rng, 8, 3))}
    assert (
        "not calibrated for fewer than 16 prompts" in exposure_recovery.half_life(few, ENDS).method
    )
    gap = {
        p: [[0.01 * k + v for k, v in enumerate(row)] for row in rows] for p, rows in few.items()
    }
    found = exposure_growth.growth_class(gap, exposure_rows.level(gap))
    assert found.low is not None and found.method.endswith("bootstrap over prompts, not calibrated")


def test_fewer_than_two_prompts_have_no_interval() -> None:
    for few in ({}, {"a": [0.1, 0.2, 0.3]}):
        found = stats.mean(few)
        assert found.low is None and found.high is None
    assert stats.difference({"a": 1.0}, {"b": 1.0}).value is None
    assert stats.difference({"a": 1.0}, {"a": 1.0}).low is None
