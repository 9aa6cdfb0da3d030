"""The class of growth: what bends upwards is told from what does not, prompt by prompt."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sfbench import exposure_growth
from sfbench.exposure_growth import FASTER, LINEAR, NONE, curvature, growth_class
from sfbench.exposure_rows import level

K = np.arange(12)
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda k: 0.02 * k,
    "saturating": lambda k: 0.2 * (1 - np.exp(-k / 3)),
    "quadratic": lambda k: 0.002 * k**2,
    "exponential": lambda k: 0.01 * np.expm1(0.3 * k),
}


def gaps(shape: str, seed: int = 0, prompts: int = 16) -> dict[str, list[list[float]]]:
    """Curves whose errors wander along the clip, and whose rate is each prompt's own."""
    rng = np.random.default_rng(seed)
    rates = np.exp(rng.normal(0, 0.5, prompts))
    found = {}
    for p, rate in enumerate(rates):
        noise = np.cumsum(rng.normal(0, 0.02, (2, 12)), axis=1) + rng.normal(0, 0.02, (2, 12))
        noise[:, 0] = 0
        found[f"p{p}"] = [list(rate * SHAPES[shape](K) + row) for row in noise]
    return found


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ("linear", LINEAR),
        ("saturating", LINEAR),
        ("quadratic", FASTER),
        ("exponential", FASTER),
    ],
)
def test_the_class_of_a_known_curve(shape: str, word: str) -> None:
    gap = gaps(shape)
    found = growth_class(gap, level(gap))
    assert found.value is not None and found.low is not None and found.high is not None
    assert f"growth: {word};" in found.method
    assert (found.value > 0) is (word == FASTER)
    assert found.low <= found.value <= found.high
    assert (found.n, found.clusters) == (32, 16)


def test_linear_growth_is_rarely_called_faster() -> None:
    """The criterion asks more of more prompts: 3 % at 8, 2 % at 16, 1 % at 32."""
    least = exposure_growth.POSITIVE
    wrong = np.mean([exposure_growth.evidence(_bends("linear", s)) > least for s in range(300)])
    right = np.mean([exposure_growth.evidence(_bends("quadratic", s)) > least for s in range(50)])
    assert wrong < 0.05 and right > 0.95


def _bends(shape: str, seed: int) -> np.ndarray:
    curves = [np.mean(rows, axis=0) for rows in gaps(shape, seed).values()]
    return curvature(np.array(curves))


def test_the_curvature_is_the_least_squares_one() -> None:
    curve = 0.3 * K + 0.05 * K**2
    assert curvature(curve[None])[0] == pytest.approx(0.05)
    design = np.stack([K, K**2], axis=1).astype(float)
    noisy = curve + np.random.default_rng(0).normal(0, 1, 12)
    fitted = np.linalg.lstsq(design, noisy, rcond=None)[0]
    assert curvature(noisy[None])[0] == pytest.approx(fitted[1])


def test_the_criterion_is_schwarz() -> None:
    """-2 log likelihood + log(n) a parameter, of normal numbers with a variance of their own."""
    b = np.random.default_rng(1).normal(0.5, 1, 10)

    def criterion(mean: float, parameters: int) -> float:
        variance = float(np.mean((b - mean) ** 2))
        likelihood = -0.5 * np.sum(np.log(2 * math.pi * variance) + (b - mean) ** 2 / variance)
        return float(-2 * likelihood + parameters * math.log(len(b)))

    expected = criterion(0, 1) - criterion(float(b.mean()), 2)
    assert exposure_growth.evidence(b) == pytest.approx(expected, abs=1e-6)
    assert exposure_growth.evidence(-np.abs(b)) == pytest.approx(-math.log(10))


def test_no_gap_has_no_growth() -> None:
    gap = {p: [[v - 0.2 for v in row] for row in rows] for p, rows in gaps("linear").items()}
    assert f"growth: {NONE}" in growth_class(gap, level(gap)).method


def test_too_little_is_said_so() -> None:
    few = gaps("linear", prompts=2)
    short = {p: [row[:2] for row in rows] for p, rows in gaps("linear").items()}
    for gap in (few, short, {}):
        found = growth_class(gap, level(gap))
        assert found.value is None and "needs 3 prompts and 3 chunks" in found.method


def test_equal_prompts_do_not_divide_by_zero() -> None:
    for bend in (0.0, 0.01):
        gap = {f"p{p}": [list(0.1 * K + bend * K**2)] for p in range(6)}
        found = growth_class(gap, level(gap))
        assert found.value is not None and (found.value > 0) is (bend > 0)
