"""Ratios of means: exact where there is a closed form, covered, absent where they mean nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfbench.exposure_pool import Pool, difference, pooled
from sfbench.exposure_ratio import (
    accumulated_curve,
    growth_pool,
    ratio,
    ratio_area,
    ratio_curve,
    ratio_growth,
    ratio_pool,
)
from sfbench.paired import TIMES
from sfbench.schema import Estimate

Rows = dict[str, list[list[float]]]
CHUNKS = 6


def rows(curve: list[float], spread: float = 0.0, seed: int = 0, prompts: int = 10) -> Rows:
    """Two seeds a prompt, each prompt with a factor of its own."""
    rng = np.random.default_rng(seed)
    factors = np.exp(rng.normal(0, spread, (prompts, 2)))
    return {f"p{p}": [list(f * np.array(curve)) for f in factors[p]] for p in range(prompts)}


def contains(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None and estimate.high is not None, estimate.method
    return estimate.low <= value <= estimate.high


def test_a_constant_factor_is_the_ratio() -> None:
    true = rows([0.1] * CHUNKS, 0.5)
    own = {p: [[3 * v for v in row] for row in seeds] for p, seeds in true.items()}
    found = ratio(own, true)
    assert (found.value, found.low, found.high) == pytest.approx((3, 3, 3), abs=2e-5)
    assert ratio(own, true, percent=True).value == pytest.approx(200)
    assert ratio_area(own, true).value == pytest.approx(math.log(3), abs=1e-4)
    assert (found.n, found.clusters, found.unit) == (20, 10, "times")


def test_the_accumulated_error_is_that_of_the_formula() -> None:
    """An error of e a chunk that adds up: 100 (sum(k e) - l e) / (l e) = 50 (l - 1)."""
    own, true = rows([0.01 * (k + 1) for k in range(CHUNKS)]), rows([0.01] * CHUNKS)
    curve = accumulated_curve(own, true, range(CHUNKS))
    assert [y.value for y in curve.y] == pytest.approx([50.0 * k for k in range(CHUNKS)], abs=2e-5)
    assert [y.value for y in ratio_curve(own, true, range(CHUNKS)).y] == pytest.approx(
        [k + 1 for k in range(CHUNKS)]
    )
    area = ratio_area(own, true).value
    assert area == pytest.approx(math.log(math.factorial(CHUNKS)) / CHUNKS, abs=1e-4)


def test_the_means_are_divided_not_the_prompts() -> None:
    """A prompt whose denominator is next to nothing has no more weight than any other."""
    true, own = rows([0.1] * CHUNKS, prompts=20), rows([0.2] * CHUNKS, prompts=20)
    true["p0"] = [[1e-9] * CHUNKS]
    assert ratio(own, true).value == pytest.approx(0.2 / 0.095, abs=2e-5)


def scaled(base: Rows, times: float, seed: int, spread: float = 0.1) -> Rows:
    """Own context: so many times the violation, each prompt with a factor of its own."""
    rng = np.random.default_rng(seed)
    return {
        p: [list(times * np.exp(rng.normal(0, spread)) * np.array(row)) for row in seeds]
        for p, seeds in base.items()
    }


def test_a_ratio_that_grows_is_found_as_it_was_made() -> None:
    """exp(.3 x) over a constant, x in native horizons."""
    x = [0.5 * (k + 1) for k in range(CHUNKS)]
    true = rows([0.1] * CHUNKS, 0.3)
    own = scaled(rows([0.2 * math.exp(0.3 * place) for place in x], 0.3), 1, 4)
    found = ratio_growth(own, true, x)
    assert found.value == pytest.approx(0.3, abs=1e-4) and found.unit == "log per horizon"
    assert ratio_growth(true, true, x).value == 0
    assert "one chunk only" in ratio_growth(own, true, x[:1]).method
    assert "not shown to be above 0" in ratio_growth(own, rows([0.0] * CHUNKS), x).method


def test_a_difference_of_ratios_is_the_log_of_their_ratio() -> None:
    true = rows([0.1] * CHUNKS, 0.5)
    one, other = scaled(true, 2, 1), scaled(true, 3, 2)
    gap = difference(ratio_pool(one, true), ratio_pool(other, true))
    first, second = ratio(one, true).value, ratio(other, true).value
    assert first is not None and second is not None
    assert gap.value == pytest.approx(math.log(first / second), abs=1e-4)
    assert gap.high is not None and gap.high < 0 and (gap.unit, gap.clusters) == (TIMES, 10)
    back = difference(ratio_pool(other, true), ratio_pool(one, true))
    assert (back.value, back.low, back.high) == (-gap.value, -gap.high, -(gap.low or 0))
    wider = difference(ratio_pool(one, true), ratio_pool(other, true), 0.999)
    assert wider.low is not None and gap.low is not None and wider.low < gap.low


def test_ratios_are_paired() -> None:
    """What prompts share cancels: the difference is told where the two intervals overlap."""
    true = rows([0.1] * CHUNKS, 0.8, prompts=16)
    one, other = scaled(true, 2, 1, 0.5), {}
    rng = np.random.default_rng(5)
    for p, seeds in one.items():
        factor = 1.15 * math.exp(rng.normal(0, 0.03))
        other[p] = [[factor * v for v in row] for row in seeds]
    a, b = ratio(one, true), ratio(other, true)
    assert a.high is not None and b.low is not None and a.high > b.low
    gap = difference(ratio_pool(one, true), ratio_pool(other, true))
    assert gap.high is not None and gap.high < 0


def test_equal_generators_are_seldom_told_apart_by_their_ratios() -> None:
    told, trials = 0, 200
    for trial in range(trials):
        true = rows([0.1] * 2, 0.5, seed=trial, prompts=16)
        one, other = (scaled(true, 2, seed, 0.4) for seed in (2 * trial + 1, 2 * trial + 2))
        gap = difference(ratio_pool(one, true), ratio_pool(other, true))
        assert gap.low is not None and gap.high is not None
        told += not gap.low <= 0 <= gap.high
    assert told / trials <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / trials)


def test_prompts_that_one_lacks_are_left_out_of_a_difference() -> None:
    true = rows([0.1] * CHUNKS, 0.5)
    one, other = scaled(true, 2, 1), scaled(true, 3, 2)
    fewer = {p: seeds for p, seeds in other.items() if p != "p3"}
    gap = difference(ratio_pool(one, true), ratio_pool(fewer, true))
    kept = {p: seeds for p, seeds in one.items() if p != "p3"}
    same = difference(ratio_pool(kept, true), ratio_pool(fewer, true))
    assert (gap.value, gap.low, gap.clusters) == (same.value, same.low, 9)
    assert "1 unmatched prompts left out" in gap.method


def test_why_there_is_no_difference_of_ratios() -> None:
    true = rows([0.1] * CHUNKS, 0.5)
    none = difference(ratio_pool(true, rows([0.0] * CHUNKS)), ratio_pool(true, true))
    assert none.value is None and "not shown to be above 0" in none.method
    lone = difference(ratio_pool(true, true), Pool({}, lambda m: 0.0, 0, "ratio", reason="none"))
    assert lone.method == "n/a: none"
    same = difference(ratio_pool(true, true), ratio_pool(true, true))
    assert same.value == 0 and "nothing tells how far off this is" in same.method
    slopes = difference(growth_pool(true, true, [1.0]), growth_pool(true, true, [1.0]))
    assert "one chunk only" in slopes.method


def test_intervals_cover() -> None:
    covered, trials = 0, 300
    for trial in range(trials):
        true = rows([0.1] * 2, 0.5, seed=2 * trial, prompts=16)
        own = rows([0.2] * 2, 0.5, seed=2 * trial + 1, prompts=16)
        covered += contains(ratio(own, true), 2)
    assert 0.92 <= covered / trials <= 0.98


def test_nothing_is_divided_by_nothing() -> None:
    own = rows([0.2] * CHUNKS, 0.3)
    for true in (rows([0.0] * CHUNKS), rows([-0.1] * CHUNKS, 0.3)):
        for found in (ratio(own, true), ratio_area(own, true)):
            assert found.value is None and "not shown to be above 0" in found.method
    noisy = {f"p{p}": [[v] * CHUNKS] for p, v in enumerate([0.0] * 9 + [1.0])}
    assert ratio(own, noisy).value is None
    assert ratio(own, {}).value is None and ratio({}, {}).method.startswith("n/a: ")


def test_what_rests_on_one_prompt_is_not_told() -> None:
    true = rows([0.1] * CHUNKS, 0.3)
    own = {p: [[float(p == "p0")] * CHUNKS] for p in true}
    assert ratio(own, true).method.startswith("n/a: ratio of means rests on one prompt")
    none = {p: [[0.0] * CHUNKS] for p in true}
    assert ratio(none, true).value is None


def test_one_prompt_has_no_interval() -> None:
    table = np.array([[2.0, 1.0]])
    found = pooled(table, lambda means: float(means[0] / means[1]), n=3, of="ratio")
    assert (found.value, found.low, found.high, found.n) == (2, None, None, 3)
    assert ratio({"a": [[2.0]]}, {"a": [[1.0]]}).value is None


def test_a_linear_statistic_has_the_interval_of_the_mean() -> None:
    from sfbench import stats

    values = np.sort(np.random.default_rng(3).normal(1, 1, 20))
    mean = stats.mean({str(n): float(v) for n, v in enumerate(values)})
    found = pooled(values[:, None], lambda means: float(means[0]), n=20, of="mean")
    assert (found.value, found.low, found.high) == pytest.approx(
        (mean.value, mean.low, mean.high), abs=3e-5
    )


def test_an_end_that_no_number_can_hold_is_open() -> None:
    table = np.array([[-700.0], [700.0], [0.0], [300.0]])
    found = pooled(table, lambda means: float(means[0]), n=4, of="ratio", shown=math.exp)
    assert found.value == pytest.approx(math.exp(75)) and found.low == 0 and found.high is None
