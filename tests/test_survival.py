"""Survival under censoring, by hand and by simulation, and the test between two models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sfbench import survival

RNG = np.random.default_rng


def watched(
    rng: np.random.Generator, median: float, prompts: int = 32, seeds: int = 1, own: float = 1.0
) -> survival.Watched:
    """Exponential times; ``own``: share of a prompt's seeds that have a time of their own."""
    found = {}
    for n in range(prompts):
        common, single = rng.exponential(median / np.log(2), (2, seeds))
        times = np.where(rng.random(seeds) < own, single, common[0])
        found[f"p{n}"] = [(float(min(t, 96)), bool(t < 96)) for t in times]
    return found


def single(times: list[float], failed: list[bool]) -> survival.Watched:
    """A clip a prompt."""
    return {f"p{n}": [clip] for n, clip in enumerate(zip(times, failed, strict=True))}


def test_survival_handles_censoring() -> None:
    # Kaplan and Meier by hand: at 2, 1 of 4 fails; at 4, 1 of the 2 that are still watched.
    times, failed = [2.0, 3.0, 4.0, 6.0], [True, False, True, False]
    clips = single(times, failed)
    alive = [point.value for point in survival.survival(clips, [1, 2, 3, 4, 6])]
    assert alive == pytest.approx([1, 0.75, 0.75, 0.375, 0.375])
    assert survival.median_survival(clips).value == 4
    ignoring_censoring = survival.survival(single(times, [True] * 4), [4])[0].value
    assert ignoring_censoring == pytest.approx(0.25)


def test_survival_has_an_interval_where_nobody_failed() -> None:
    (point,) = survival.survival(single([96.0] * 32, [False] * 32), [96.0])
    assert point.value == 1 and point.low is not None and 0.85 < point.low < 0.95
    assert "Wilson" in point.method


@pytest.mark.parametrize("own", [1.0, 0.3])
def test_the_interval_of_a_share_alive_covers_though_clips_of_a_prompt_fail_alike(
    own: float,
) -> None:
    rng, at, trials = RNG(7), [12.0, 30.0, 60.0], 250
    covered, narrow = np.zeros(3), np.zeros(3)
    for _ in range(trials):
        clips = watched(rng, 30, prompts=32, seeds=4, own=own)
        flat = [clip for rows in clips.values() for clip in rows]
        for k, point in enumerate(survival.survival(clips, at)):
            true = 0.5 ** (at[k] / 30)
            assert point.low is not None and point.high is not None and point.clusters == 32
            covered[k] += point.low <= true <= point.high
            half = 1.96 * np.sqrt(true * (1 - true) / len(flat))
            narrow[k] += abs((point.value or 0) - true) <= half
    error = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert (np.abs(covered / trials - 0.95) < error).all(), covered / trials
    if own < 1:
        assert (narrow / trials < 0.9).all(), "as if clips were independent"


def test_a_median_that_was_not_reached_says_so() -> None:
    median = survival.median_survival(single([96.0] * 31 + [12.0], [False] * 31 + [True]))
    assert median.value is None and median.low == 96 and "not reached" in median.method
    assert survival.median_survival(single([5.0], [True])).value is None


def test_median_time_to_failure_is_recovered() -> None:
    median = survival.median_survival(watched(RNG(2), 30, prompts=75, seeds=4))
    assert median.low is not None and median.high is not None and median.value is not None
    assert median.low < 30 < median.high and abs(median.value - 30) < 5
    assert (median.n, median.clusters) == (300, 75)


def test_log_rank_tells_models_apart_and_seldom_equal_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the clips of a prompt fail together, which the test of single clips takes ill."""
    monkeypatch.setattr(survival, "FLIPS", 999)
    rng = RNG(3)
    slow = survival.log_rank(watched(rng, 60), watched(rng, 15))
    assert slow is not None and slow < 0.01
    told, taken_as_single = [], []
    for _ in range(300):
        a, b = (watched(rng, 30, prompts=24, seeds=4, own=0.1) for _ in range(2))
        told.append(survival.log_rank(a, b))
        sides = [[clip for clips in side.values() for clip in clips] for side in (a, b)]
        censored = [
            stats.CensoredData.right_censored([t for t, _ in side], [not f for _, f in side])
            for side in sides
        ]
        taken_as_single.append(stats.logrank(*censored).pvalue)
    false = np.mean([p < 0.05 for p in told if p is not None])
    assert false < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(np.array(taken_as_single) < 0.05) > 0.2


def test_log_rank_by_hand() -> None:
    # Both together: at 1 one of 4 fails, at 2 one of 3; H is 1/4, then 7/12, and stays.
    # Scores: 3/4 and 5/12 on the left, -7/12 twice on the right, so the differences of the prompts
    # are 4/3 and 1. Of their four exchanges two, none and all, part the models as far: p = 1/2.
    left = {"p": [(1.0, True)], "q": [(2.0, True)]}
    right = {"p": [(3.0, False)], "q": [(3.0, False)]}
    assert survival.log_rank(left, right) == pytest.approx(0.5)
    assert survival.log_rank(right, left) == pytest.approx(0.5)


def test_log_rank_agrees_with_scipy_where_clips_are_independent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(survival, "FLIPS", 4999)
    rng = RNG(5)
    for median in (30, 40, 55):
        a, b = watched(rng, 30, prompts=200), watched(rng, median, prompts=200)
        sides = [
            stats.CensoredData.right_censored(
                [c[0][0] for c in side.values()], [not c[0][1] for c in side.values()]
            )
            for side in (a, b)
        ]
        assert survival.log_rank(a, b) == pytest.approx(stats.logrank(*sides).pvalue, abs=0.06)


def test_log_rank_needs_failures_and_prompts() -> None:
    alive = {f"p{n}": [(96.0, False)] for n in range(4)}
    assert survival.log_rank(alive, alive) is None
    assert survival.log_rank({"p0": [(5.0, True)]}, alive) is None
