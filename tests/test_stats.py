"""Intervals that cover, pairs that pair, shares and survival that know their limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfbench import stats

RNG = np.random.default_rng


def clustered(rng: np.random.Generator, prompts: int, seeds: int) -> dict[str, list[float]]:
    """Values with a strong effect of the prompt and a weak one of the seed; the mean is 0."""
    effect = rng.normal(0, 1, prompts)
    return {str(p): list(effect[p] + rng.normal(0, 0.3, seeds)) for p in range(prompts)}


@pytest.mark.parametrize("prompts", [8, 24])
def test_the_interval_covers_at_its_level(prompts: int) -> None:
    rng, hits = RNG(prompts), 0
    for _ in range(400):
        estimate = stats.mean(clustered(rng, prompts, seeds=4))
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= 0 <= estimate.high
    assert 0.91 <= hits / 400 <= 0.985


def test_seeds_do_not_pass_for_prompts() -> None:
    rng, naive = RNG(0), 0
    for _ in range(100):
        sample = clustered(rng, 8, seeds=4)
        flat = {f"{p}/{s}": v for p, values in sample.items() for s, v in enumerate(values)}
        wrong, right = stats.mean(flat), stats.mean(sample)
        assert (right.n, right.clusters) == (32, 8)
        assert wrong.low is not None and wrong.high is not None
        naive += wrong.low <= 0 <= wrong.high
    assert naive < 85


def test_without_two_prompts_there_is_no_interval() -> None:
    one = stats.mean({"a": [1.0, 2.0, 3.0]})
    assert (one.value, one.low, one.high, one.n, one.clusters) == (2.0, None, None, 3, 1)
    none = stats.mean({"a": [float("nan")]})
    assert (none.value, none.low, none.high, none.n) == (None, None, None, 0)


def test_equal_prompts_and_nearly_equal_ones() -> None:
    same = stats.mean({str(n): 0.25 for n in range(5)})
    assert (same.low, same.high) == (0.25, 0.25) and "equal" in same.method
    odd = stats.mean({str(n): float(n == 0) for n in range(8)})
    assert odd.low is not None and odd.high is not None and odd.low < 0.125 < odd.high


def test_estimates_are_reproducible() -> None:
    sample = clustered(RNG(3), 12, 2)
    assert stats.mean(sample) == stats.mean(sample)


def test_pairing_removes_what_prompts_share() -> None:
    rng = RNG(1)
    hard = rng.normal(0, 1, 30)
    a = {str(n): hard[n] + rng.normal(0, 0.1) for n in range(30)}
    b = {str(n): hard[n] + 0.2 + rng.normal(0, 0.1) for n in range(30)}
    gap, left, right = stats.difference(a, b), stats.mean(a), stats.mean(b)
    assert gap.high is not None and gap.low is not None and gap.high < 0
    assert left.high is not None and right.low is not None and left.high > right.low
    assert gap.high - gap.low < 0.2 * (left.high - (left.low or 0))


def test_unmatched_prompts_are_left_out_and_counted() -> None:
    gap = stats.difference({"a": 1.0, "b": 2.0, "c": 9.0}, {"a": 0.0, "b": 1.0})
    assert (gap.value, gap.n) == (1.0, 2) and "1 unmatched" in gap.method


@pytest.mark.parametrize("n", [2, 8, 32])
def test_a_difference_that_is_the_same_everywhere_is_not_certain(n: int) -> None:
    """Of what has no bounds nothing tells; of shares, how many of 0 in n may differ after all."""
    one, other = ({str(p): level + 0.1 * p for p in range(n)} for level in (0.3, 0.5))
    for first in (one, other):
        gap = stats.difference(first, other)
        assert gap.value == pytest.approx(first["0"] - 0.5) and (gap.low, gap.high) == (None, None)
        assert stats.UNTOLD in gap.method and gap.clusters == n
    _, most = stats.wilson(0, n)
    zero = stats.difference(one, one, unit="share")
    assert (zero.low, zero.high) == pytest.approx((-most, most), abs=1e-5)
    shares = stats.difference(dict.fromkeys(one, 0.0), dict.fromkeys(one, 1.0), unit="share")
    assert (shares.value, shares.low) == (-1, -1)
    assert shares.high == pytest.approx(2 * most - 1, abs=1e-5)
    wider = stats.difference(one, one, unit="share", confidence=0.999)
    assert wider.high is not None and zero.high is not None and wider.high > zero.high


def test_two_equal_models_are_seldom_told_apart() -> None:
    rng, wrong = RNG(5), 0
    for _ in range(200):
        a, b = (dict(zip("abcdefghijkl", rng.normal(size=12), strict=True)) for _ in range(2))
        gap = stats.difference(a, b)
        assert gap.low is not None and gap.high is not None
        wrong += not gap.low <= 0 <= gap.high
    assert wrong / 200 < 0.10


@pytest.mark.parametrize(("hits", "n"), [(0, 32), (1, 8), (20, 32), (8, 8)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    expected = scipy_stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert stats.wilson(hits, n) == pytest.approx((expected.low, expected.high))


def test_none_of_32_is_not_certainly_none() -> None:
    nothing = stats.share({str(n): 0.0 for n in range(32)})
    assert nothing.value == 0 and nothing.high is not None and 0.05 < nothing.high < 0.15
    seeds = stats.share({str(n): [0.0] * 4 for n in range(32)})
    assert seeds.high == nothing.high and (seeds.n, seeds.clusters) == (128, 32)


def test_the_mean_of_the_slopes_is_the_slope() -> None:
    rng = np.random.default_rng(0)
    curves = {f"p{n}": rng.normal(size=(3, 5)).tolist() for n in range(8)}
    own = stats.slopes(curves, [1, 2, 4, 5, 7])
    assert own.keys() == curves.keys()
    assert np.mean(list(own.values())) == pytest.approx(
        stats.slope(curves, [1, 2, 4, 5, 7]).value, abs=1e-5
    )


def test_slope_is_that_of_each_prompts_mean_curve() -> None:
    x = [0.0, 1.0, 2.0]
    curves = {"a": [[0, 1, 2], [0, 3, 6]], "b": [[5, 7, 9]]}  # slopes 2 and 2
    slope = stats.slope(curves, x)
    assert slope.value == pytest.approx(2) and (slope.n, slope.clusters) == (3, 2)
