"""Effect sizes agree with their definitions, and say when there are none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from sfbench.effects import effect


def rows(*values: float) -> dict[str, float]:
    return {str(n): value for n, value in enumerate(values)}


def test_wins_are_on_the_better_side_and_a_tie_is_half() -> None:
    first, second = rows(1, 2, 3, 4), rows(2, 2, 4, 3)
    assert effect(first, second, better="lower").wins.value == pytest.approx(2.5 / 4)
    assert effect(first, second, better="higher").wins.value == pytest.approx(1.5 / 4)
    every = effect(rows(*[0.0] * 9), rows(*[1.0] * 9), better="lower").wins
    assert every.value == 1 and every.low is not None and 0.6 < every.low < 0.8


def test_the_standardised_difference_by_hand() -> None:
    gaps = np.array([0.1, 0.3, 0.2, 0.6, -0.1])
    found = effect(rows(*gaps), rows(*[0.0] * 5)).standardised
    # Hedges' factor at 4 degrees of freedom: gamma(2) / (gamma(3/2) sqrt 2)
    hedges = 1 / (np.sqrt(np.pi) / 2 * np.sqrt(2))
    assert found.value == pytest.approx(hedges * gaps.mean() / gaps.std(ddof=1), abs=1e-5)
    t = gaps.mean() / gaps.std(ddof=1) * np.sqrt(5)
    assert found.low is not None and found.high is not None
    tails = [end / hedges * np.sqrt(5) for end in (found.low, found.high)]
    assert scipy_stats.nct.cdf(t, 4, tails[0]) == pytest.approx(0.975, abs=1e-3)
    assert scipy_stats.nct.cdf(t, 4, tails[1]) == pytest.approx(0.025, abs=1e-3)


def test_its_interval_covers_and_is_not_biased() -> None:
    rng, hits, values = np.random.default_rng(1), 0, []
    for _ in range(1000):
        found = effect(rows(*rng.normal(0.5, 1, 12)), rows(*[0.0] * 12)).standardised
        assert found.value is not None and found.low is not None and found.high is not None
        hits += found.low <= 0.5 <= found.high
        values.append(found.value)
    assert 0.93 <= hits / 1000 <= 0.97
    assert np.mean(values) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (rows(1, 2), rows(0, 0), "needs three prompts"),
        (rows(1, 1, 1), rows(0, 0, 0), "all differences are equal"),
        (rows(1, 2, 3), {"x": 1.0}, "needs three prompts"),
    ],
)
def test_where_there_is_none(
    first: dict[str, float], second: dict[str, float], reason: str
) -> None:
    found = effect(first, second).standardised
    assert found.value is None and reason in found.method


def test_only_common_prompts_count() -> None:
    found = effect(rows(1, 2, 3, 9), rows(0, 0, 0), better="higher").wins
    assert (found.n, found.value) == (3, 1)
