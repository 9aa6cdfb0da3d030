"""Survival under censoring, by hand and by simulation, and the test between two models."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import survival

RNG = np.random.default_rng


def test_survival_handles_censoring() -> None:
    # Kaplan and Meier by hand: at 2, 1 of 4 fails; at 4, 1 of the 2 that are still watched.
    times, failed = [2.0, 3.0, 4.0, 6.0], [True, False, True, False]
    alive = [point.value for point in survival.survival(times, failed, [1, 2, 3, 4, 6])]
    assert alive == pytest.approx([1, 0.75, 0.75, 0.375, 0.375])
    assert survival.median_survival(times, failed).value == 4
    ignoring_censoring = survival.survival(times, [True] * 4, [4])[0].value
    assert ignoring_censoring == pytest.approx(0.25)


def test_survival_has_an_interval_where_nobody_failed() -> None:
    (point,) = survival.survival([96.0] * 32, [False] * 32, [96.0])
    assert point.value == 1 and point.low is not None and 0.85 < point.low < 0.95
    assert "Wilson" in point.method


def test_a_median_that_was_not_reached_says_so() -> None:
    median = survival.median_survival([96.0] * 31 + [12.0], [False] * 31 + [True])
    assert median.value is None and median.low == 96 and "not reached" in median.method
    assert survival.median_survival([5.0], [True]).value is None


def test_median_time_to_failure_is_recovered() -> None:
    times = RNG(2).exponential(30 / np.log(2), 300)  # median 30
    median = survival.median_survival(list(np.minimum(times, 96)), list(times < 96))
    assert median.low is not None and median.high is not None and median.value is not None
    assert median.low < 30 < median.high and abs(median.value - 30) < 5


def watched(
    rng: np.random.Generator, median: float, clips: int = 32
) -> tuple[list[float], list[bool]]:
    times = rng.exponential(median / np.log(2), clips)
    return np.minimum(times, 96).tolist(), (times < 96).tolist()


def test_log_rank_tells_models_apart_and_seldom_equal_ones() -> None:
    rng = RNG(3)
    slow = survival.log_rank(watched(rng, 60), watched(rng, 15))
    assert slow is not None and slow < 0.01
    alike = [survival.log_rank(watched(rng, 30), watched(rng, 30)) for _ in range(400)]
    false = np.mean([p < 0.05 for p in alike if p is not None])
    assert false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_log_rank_by_hand() -> None:
    # At 1 one of 2 + 2 fails on the left, at 2 the other (of 1 + 2); the right is censored at 3:
    # observed 2 - expected (1/2 + 1/3), variance 1/4 + 2/9.
    p = survival.log_rank(([1, 2], [True, True]), ([3, 3], [False, False]))
    z = (2 - 5 / 6) / np.sqrt(1 / 4 + 2 / 9)
    from scipy import stats

    assert p == pytest.approx(2 * stats.norm.sf(z), abs=1e-5)


def test_log_rank_needs_failures_and_clips() -> None:
    alive = ([96.0] * 4, [False] * 4)
    assert survival.log_rank(alive, alive) is None
    assert survival.log_rank(([5.0], [True]), alive) is None
