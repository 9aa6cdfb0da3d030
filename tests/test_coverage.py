"""Proof by simulation: intervals cover, and two equal models are seldom told apart.

Data like ours: violations between 0 and 1, skewed and piled at the bound, with an effect of the
prompt, and unequal numbers of seeds. 2000 seeded trials a claim, whose own Monte Carlo error (one
standard deviation: half a point) lies inside the tolerance claimed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sfbench import stats

TRIALS = 2000
Draw = Callable[[np.random.Generator, int], dict[str, list[float]]]


def seeds_of(n: int) -> list[int]:
    """Unequal numbers of seeds: 1, 2 and 4 in turn."""
    return [(1, 2, 4)[i % 3] for i in range(n)]


def skewed(rng: np.random.Generator, n: int) -> dict[str, list[float]]:
    """Beta, its tail to the right; the effect of the prompt is as large as that of the seed."""
    level = rng.beta(0.8, 3, n)
    return {
        str(p): rng.beta(4 * level[p] + 0.02, 4 * (1 - level[p]) + 0.02, k).tolist()
        for p, k in enumerate(seeds_of(n))
    }


def piled(rng: np.random.Generator, n: int) -> dict[str, list[float]]:
    """A third of the prompts at 0 exactly, the others anywhere above."""
    level = np.where(rng.random(n) < 1 / 3, 0.0, rng.beta(1, 2, n))
    return {str(p): (level[p] * rng.uniform(0.5, 1, k)).tolist() for p, k in enumerate(seeds_of(n))}


def high(rng: np.random.Generator, n: int) -> dict[str, list[float]]:
    """Near the other bound, as adherence is."""
    return {p: [1 - v for v in values] for p, values in skewed(rng, n).items()}


def bell(rng: np.random.Generator, n: int) -> dict[str, list[float]]:
    effect = rng.normal(0, 1, n)
    return {str(p): rng.normal(effect[p], 0.5, k).tolist() for p, k in enumerate(seeds_of(n))}


LAWS = {"skewed": skewed, "piled": piled, "high": high, "bell": bell}


def expectation(draw: Draw) -> float:
    """Of the mean over prompts, from very many of them."""
    values = stats.by_prompt(draw(np.random.default_rng(0), 300_000))
    return float(np.mean(list(values.values())))


@pytest.mark.parametrize("n", [16, 32])
@pytest.mark.parametrize("law", LAWS)
def test_the_interval_of_a_mean_covers(law: str, n: int) -> None:
    draw, hits = LAWS[law], 0
    mean, rng = expectation(draw), np.random.default_rng([n, len(law)])
    for _ in range(TRIALS):
        found = stats.mean(draw(rng, n))
        assert found.low is not None and found.high is not None
        hits += found.low <= mean <= found.high
    assert 0.93 <= hits / TRIALS <= 0.97, hits / TRIALS


@pytest.mark.parametrize("n", [16, 32])
@pytest.mark.parametrize("law", LAWS)
def test_two_equal_models_are_seldom_told_apart(law: str, n: int) -> None:
    """Both share the prompts' levels; what is left is noise of the seeds, of equal law."""
    draw, told = LAWS[law], 0
    rng = np.random.default_rng([n, len(law), 1])
    for _ in range(TRIALS):
        common = stats.by_prompt(draw(rng, n))
        a, b = (stats.by_prompt(draw(rng, n)) for _ in range(2))
        pair = [{p: (common[p] + own[p]) / 2 for p in common} for own in (a, b)]
        gap = stats.difference(pair[0], pair[1])
        assert gap.low is not None and gap.high is not None
        told += not gap.low <= 0 <= gap.high
    assert told / TRIALS <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS), told / TRIALS


def test_fewer_than_two_prompts_have_no_interval() -> None:
    for sample in ({}, {"a": [0.1, 0.2, 0.3]}):
        found = stats.mean(sample)
        assert found.low is None and found.high is None
    assert stats.difference({"a": 1.0}, {"b": 1.0}).value is None
    assert stats.difference({"a": 1.0}, {"a": 1.0}).low is None
