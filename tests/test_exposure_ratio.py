"""Ratios of means: exact where there is a closed form, covered, absent where they mean nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfbench.exposure_ratio import (
    accumulated_curve,
    pooled,
    ratio,
    ratio_area,
    ratio_curve,
)
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
    true, own = rows([0.1] * CHUNKS), rows([0.2] * CHUNKS)
    true["p0"] = [[1e-9] * CHUNKS]
    assert ratio(own, true).value == pytest.approx(0.2 / 0.09, abs=2e-5)


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

    values = np.random.default_rng(3).normal(1, 1, 20)
    mean = stats.mean({str(n): float(v) for n, v in enumerate(values)})
    found = pooled(values[:, None], lambda means: float(means[0]), n=20, of="mean")
    assert (found.value, found.low, found.high) == pytest.approx(
        (mean.value, mean.low, mean.high), abs=2e-5
    )


def test_an_end_that_no_number_can_hold_is_open() -> None:
    table = np.array([[-700.0], [700.0], [0.0], [300.0]])
    found = pooled(table, lambda means: float(means[0]), n=4, of="ratio", shown=math.exp)
    assert found.value == pytest.approx(math.exp(75)) and found.low == 0 and found.high is None
