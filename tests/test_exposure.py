"""Exposure measures on series whose bias is known by construction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sfbench import exposure
from sfbench.exposure_prints import SIZE
from sfbench.schema import Estimate

ENDS = (2.0, 4.0, 6.0, 8.0)
Cells = dict[tuple[str, int], list[float]]


def cells(value: Callable[[int], float], prompts: int = 12, seeds: int = 4, seed: int = 0) -> Cells:
    """``value(k)`` at chunk ``k``, plus what a (prompt, seed) has in common in all arms."""
    shared = np.random.default_rng(99).normal(0, 0.2, (prompts, seeds))
    noise = np.random.default_rng(seed).normal(0, 0.01, (prompts, seeds, len(ENDS)))
    return {
        (f"p{p}", s): [value(k) + shared[p, s] + noise[p, s, k] for k in range(len(ENDS))]
        for p in range(prompts)
        for s in range(seeds)
    }


def measured(**arms: Cells) -> exposure.Exposure:
    return exposure.measure(
        exposure.Episodes(
            violation=arms,
            error=arms,
            floor={arm: {cell: [0.0] * len(ENDS) for cell in arms[arm]} for arm in arms},
            ends=ENDS,
            horizon=2.0,
            error_unit="sides",
        )
    )


def contains(estimate: Estimate, value: float) -> bool:
    assert estimate.low is not None and estimate.high is not None, estimate.method
    return estimate.low <= value <= estimate.high


def test_gap_and_growth_are_recovered_with_paired_precision() -> None:
    found = measured(true=cells(lambda k: 0.1, seed=1), own=cells(lambda k: 0.1 + 0.05 * k, seed=2))
    gap, growth = found.estimates["exposure_gap"], found.estimates["exposure_gap_growth"]
    assert gap.value == pytest.approx(0.075, abs=0.005)
    assert growth.value == pytest.approx(0.05, abs=0.005)  # a chunk is one horizon here
    assert gap.low is not None and gap.high is not None
    assert gap.high - gap.low < 0.02  # the shared part, ten times larger, has cancelled
    assert (gap.n, gap.clusters) == (48, 12)
    assert found.curves["gap"].x == ENDS
    assert found.per_prompt["exposure_gap"].keys() == {f"p{n}" for n in range(12)}


def test_no_bias_means_an_interval_around_zero() -> None:
    found = measured(true=cells(lambda k: 0.1, seed=1), own=cells(lambda k: 0.1, seed=2))
    for name in ("exposure_gap", "exposure_gap_growth"):
        assert contains(found.estimates[name], 0)
    assert "none" in found.estimates["exposure_growth_class"].method


def test_a_gap_of_either_sign_keeps_its_interval() -> None:
    """A difference is not bounded by 0 as a violation is."""
    found = measured(true=cells(lambda k: 0.5, seed=1), own=cells(lambda k: 0.4, seed=2))
    gap = found.estimates["exposure_gap"]
    assert gap.high is not None and gap.high < 0 and gap.unit == "-1..1"
    assert found.estimates["violation_own"].unit == "0..1"


def test_round_trip_is_kept_apart_from_the_gap() -> None:
    found = measured(
        true=cells(lambda k: 0.1, seed=1),
        own=cells(lambda k: 0.3, seed=2),
        streamed=cells(lambda k: 0.2, seed=3),
    )
    assert found.estimates["round_trip"].value == pytest.approx(-0.1, abs=0.01)
    assert found.estimates["exposure_gap"].value == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("help_", "flagged"), [(0.2, False), (0.0, True), (-0.1, True)])
def test_a_model_that_gains_nothing_from_the_truth_is_flagged(help_: float, flagged: bool) -> None:
    found = measured(
        true=cells(lambda k: 0.3, seed=1), swapped=cells(lambda k: 0.3 + help_, seeds=2, seed=2)
    )
    assert (found.flags == (exposure.IGNORES_CONTEXT,)) is flagged
    assert found.estimates["context_help"].n == 24  # only the seeds that both arms have


def test_absent_arms_are_not_measured_rather_than_zero() -> None:
    found = measured(true=cells(lambda k: 0.1))
    for name, estimate in found.estimates.items():
        assert estimate.value is None and estimate.method.startswith("n/a: "), name
    assert found.estimates["exposure_gap"].method == "n/a: no clip of the arm 'own'"
    assert found.estimates["round_trip"].method == "n/a: no clip of the arm 'streamed'"
    assert not found.flags


def test_every_measure_says_why_there_is_none() -> None:
    found = exposure.not_measured("n/a: the model does not accept context")
    assert found.estimates.keys() == exposure.MEASURES.keys()
    assert {e.method for e in found.estimates.values()} == {
        "n/a: the model does not accept context"
    }


def test_records_of_before_a_series_was_kept() -> None:
    """Clips without fingerprints, floors or longer prefixes leave those measures out, no others."""
    arm = cells(lambda k: 0.1 + 0.1 * k)
    episodes = exposure.Episodes(
        violation=dict.fromkeys(("true", "own", "noised", "twin"), arm),
        error={"own": arm},
        floor={},
        ends=ENDS,
        horizon=2.0,
        error_unit="sides",
    )
    found = exposure.measure(episodes).estimates
    assert found["exposure_gap"].value == 0
    for name in (
        "excess_error",
        "excess_accumulated_error",
        "prefix_effect",
        "context_sensitivity",
        "twin_divergence",
    ):
        assert found[name].value is None and found[name].method.startswith("n/a: "), name


def test_the_prefix_effect_pairs_the_shortest_with_the_longest() -> None:
    arms = {m: cells(lambda k, m=m: 0.1 + 0.6 / m + 0.1 * k, seed=m) for m in (6, 12, 24)}
    episodes = exposure.Episodes({"own": arms[6]}, {}, {}, ENDS, 2.0, "sides", prefixes=arms)
    found = exposure.measure(episodes)
    effect = found.estimates["prefix_effect"]
    assert contains(effect, 0.6 / 6 - 0.6 / 24)
    assert effect.high is not None and effect.low is not None and effect.high - effect.low < 0.02
    assert effect.better is None
    for m in arms:
        first = found.curves[f"exposure_prefix_{m}"].y[0].value
        assert first == pytest.approx(0.1 + 0.6 / m, abs=0.1)


@pytest.mark.parametrize(
    ("excess", "half_life"),
    [
        ((0.4, 0.3, 0.1, 0.0), 4.0),
        ((0.4, 0.1, 0.0, 0.0), 2.0),
        ((0.4, 0.1, 0.3, 0.1), 6.0),  # it comes back: recovered only after that
        ((0.4, 0.4, 0.4, 0.4), None),
    ],
)
def test_half_life(excess: tuple[float, ...], half_life: float | None) -> None:
    found = measured(
        own=cells(lambda k: 0.2, seed=1),
        corrupted=cells(lambda k: 0.2 + excess[k], seeds=2, seed=2),
    )
    estimate = found.estimates["recovery_half_life"]
    assert estimate.value == half_life
    assert ("never" in estimate.method) is (half_life is None)


def test_damage_without_effect_needs_no_recovery() -> None:
    found = measured(own=cells(lambda k: 0.2, seed=1), corrupted=cells(lambda k: 0.2, seed=2))
    assert found.estimates["recovery_half_life"].value == 0


def test_one_chunk_has_no_growth_of_any_kind() -> None:
    cell = {("a", 0): [0.1], ("b", 0): [0.2], ("c", 0): [0.4]}
    arms = dict.fromkeys(("true", "own", "twin", "noised"), cell)
    prints = {arm: {c: [float(n)] * SIZE for c in cell} for n, arm in enumerate(arms)}
    change = {"own": cell, "noised": cell}
    episodes = exposure.Episodes(arms, {}, {}, (24.0,), 12.0, "sides", prints, change)
    found = exposure.measure(episodes).estimates
    assert found["exposure_gap"].value == 0
    for name in (
        "exposure_gap_growth",
        "exposure_growth_class",
        "context_sensitivity",
        "twin_divergence",
    ):
        assert found[name].value is None and "n/a" in found[name].method, name
