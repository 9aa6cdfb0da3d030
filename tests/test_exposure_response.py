"""Gains and divergence rates of known systems."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sfbench.exposure_response import distance_curve, divergence, sensitivity
from sfbench.schema import Estimate

Rows = dict[str, list[list[float]]]


def rows(values: list[float], spread: float = 0.2, seed: int = 0, prompts: int = 12) -> Rows:
    factors = np.exp(np.random.default_rng(seed).normal(0, spread, (prompts, 2)))
    return {f"p{p}": [list(f * np.array(values)) for f in factors[p]] for p in range(prompts)}


def contains(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None and estimate.high is not None, estimate.method
    return estimate.low <= value <= estimate.high


@pytest.mark.parametrize(("own_gain", "noise_gain"), [(0.5, 0.5), (0.9, 0.3), (0.2, 0.8)])
def test_gains_are_each_per_unit_of_change(own_gain: float, noise_gain: float) -> None:
    """The size of either change does not matter, only the gains do."""
    change, noise = rows([100.0, 400.0], seed=1), rows([4.0, 4.0], seed=2)
    moved = {p: [[own_gain**2 * v for v in row] for row in r] for p, r in change.items()}
    by_noise = {p: [[noise_gain**2 * v for v in row] for row in r] for p, r in noise.items()}
    found = sensitivity(moved, change, by_noise, noise)
    assert found.value == pytest.approx(own_gain / noise_gain, rel=1e-3)
    assert contains(found, found.value)
    assert f"{own_gain:.2f} for own errors" in found.method


def test_what_moves_nothing_has_no_gain() -> None:
    change, nothing = rows([1.0]), rows([0.0])
    for given, reason in (
        ((nothing, nothing, change, change), "its own context is the true one"),
        ((nothing, change, change, change), "its own context moves nothing"),
        ((change, change, nothing, change), "noise in the context moves nothing"),
        (({}, {}, change, change), "nothing was measured"),
    ):
        found = sensitivity(*given)
        assert found.value is None and found.method == f"n/a: {reason}"


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.6])
def test_the_rate_of_a_linear_system(rate: float) -> None:
    """x' = rate x: the log distance has the slope log(rate) a chunk, two chunks a horizon."""
    twins = rows([0.01 * rate ** (2 * k) for k in range(8)], 0.4)
    found = divergence(twins, [(k + 1) / 2 for k in range(8)], least=1e-9)
    exact = 2 * math.log(rate)
    assert (found.value, found.low, found.high) == pytest.approx((exact,) * 3, abs=1e-4)


def test_noise_of_the_distances_is_covered() -> None:
    covered, trials = 0, 200
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        start = rng.normal(0, 0.5, (16, 1))
        log = start + 0.1 * np.arange(8) + np.cumsum(rng.normal(0, 0.1, (16, 8)), axis=1)
        twins = {f"p{p}": [list(np.exp(2 * row))] for p, row in enumerate(log)}
        covered += contains(divergence(twins, list(range(8)), 1e-9), 0.1)
    assert 0.9 <= covered / trials <= 0.99


def test_one_prompt_that_runs_away_does_not_speak_for_all() -> None:
    twins = rows([1.0] * 6, 0) | {"wild": [[float(10.0**k) for k in range(6)]]}
    found = divergence(twins, list(range(6)), 1e-9)
    assert found.value == pytest.approx(math.log(10) / 2 / 13, abs=1e-4)


def test_twins_that_become_equal_take_no_logarithm_of_zero() -> None:
    found = divergence(rows([1.0, 0.01, 0.0, 0.0]), [1, 2, 3, 4], least=0.001)
    assert found.value is not None and found.value < -1
    assert "24 equal chunks stand at the least visible distance" in found.method
    some = rows([1.0] * 4) | {"equal": [[0.0] * 4]}
    found = divergence(some, [1, 2, 3, 4], 0.001)
    assert found.value == pytest.approx(0, abs=1e-6) and found.clusters == 12
    assert "without 1 prompts whose twins stay equal" in found.method


def test_twins_that_stay_equal_or_have_one_chunk_say_so() -> None:
    assert divergence(rows([0.0] * 4), [1, 2, 3, 4], 0.001).method == "n/a: the twins stay equal"
    assert "one chunk" in divergence(rows([1.0]), [1.0], 0.001).method
    assert divergence({}, [1.0, 2.0], 0.001).method.startswith("n/a: ")


def test_the_curve_is_in_levels() -> None:
    curve = distance_curve(rows([4.0, 0.0], spread=0), [2, 4], 0.01)
    assert [y.value for y in curve.y] == pytest.approx([2, 0.01], abs=2e-5)
    assert curve.y[0].unit == "levels"
