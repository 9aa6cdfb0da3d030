"""The exposure measures, validated: played, judged by the oracle and concluded as any model is.

Perfect knowledge has no bias; an error that is injected is found in proportion; and where a measure
has a closed form, that is what it gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sfbench.exposure import MEASURES
from sfbench.exposure_growth import FASTER, LINEAR, NONE
from sfbench.schema import Estimate
from sfbench.tasks import rows
from sfbench.tasks.continuations import ARMS, PREFIX
from sfbench.tasks.judge import NATIVE
from sfbench.tasks.long_horizon import LongHorizon

from known_bias import (
    Floats,
    Responding,
    Scripted,
    Seen,
    along,
    displaced,
    tinted,
    violation,
)
from simulators import Drifting, card, concluded, records

PAIR = ("own", "true")
CHUNKS, CHUNK = 6, 4  # of a continuation; frames of each
PER_HORIZON = NATIVE / CHUNK
PREFIXES = ("own", "own@12", "own@24")


@pytest.fixture(scope="module")
def task() -> LongHorizon:
    return LongHorizon(tier="smoke", seeds=(0,))


def contains(estimate: Estimate, value: float, slack: float = 0.0) -> bool:
    assert estimate.low is not None and estimate.high is not None, estimate.method
    return estimate.low - slack <= value <= estimate.high + slack


def grows(estimates: list[Estimate], least: float) -> bool:
    """Each above the one before by more than ``least``; the last is shown to be above the first."""
    values = [e.value for e in estimates]
    assert all(v is not None for v in values), [e.method for e in estimates]
    first, last = estimates[0], estimates[-1]
    assert first.high is not None and last.low is not None
    return bool((np.diff(np.array(values, float)) > least).all()) and first.high < last.low


# --- no bias --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["truth", "observer"])
def test_perfect_knowledge_has_no_bias(task: LongHorizon, name: str) -> None:
    model = rows.oracle_row(name)
    model.card = card(name, chunk=CHUNK)
    found = concluded(task, model, (*ARMS, *PREFIXES[1:])).estimates
    for bias in ("exposure_gap", "exposure_gap_growth", "prefix_effect", "round_trip"):
        assert contains(found[bias], 0, slack=1e-4), bias
    assert f"growth: {NONE}" in found["exposure_growth_class"].method
    for ratio in ("exposure_ratio", "exposure_ratio_area", "exposure_ratio_growth"):
        estimate = found[ratio]
        assert estimate.value is None or contains(estimate, float(ratio == "exposure_ratio"))
    for against_floor in ("exposure_ratio_error", "excess_accumulated_error"):
        assert found[against_floor].value is None  # no error to divide by
    excess = found["excess_error"].value  # an observer's renders are read to a thirtieth of a pixel
    assert excess is not None and -0.003 < excess < 0.001


def test_the_truth_answers_to_no_context(task: LongHorizon) -> None:
    arms = (*PAIR, "noised", "twin", "corrupted")
    concludes = concluded(task, rows.oracle_row("truth"), arms)
    found = concludes.estimates
    assert "twin_distance" not in concludes.curves
    assert found["recovery_half_life"].method.endswith("no excess in the first chunk")
    assert found["context_sensitivity"].method == "n/a: its own context is the true one"
    assert found["twin_divergence"].method == "n/a: the twins stay equal"


# --- gap, growth, ratio: errors of looks ----------------------------------------------------------


def looks(grade: Callable[[int], float]) -> Scripted:
    """Grade of violation after each number of own chunks; prompts differ, in the mean by 1."""

    def graded(seen: Seen) -> float:
        return grade(seen.own) * (0.75 + 0.5 * (seen.index % 8) / 7)

    return tinted(graded, CHUNK)


def test_an_error_that_adds_up_is_found_as_it_was_made(task: LongHorizon) -> None:
    """Grade .1 (k + 1): gap .1 k, mean .25, ratio of means 3.5, log ratio log(6!) / 6."""
    found = concluded(task, looks(lambda k: 0.1 * (k + 1)), PAIR)
    estimates = found.estimates
    assert contains(estimates["exposure_gap"], violation(0.25))
    assert contains(estimates["exposure_gap_growth"], violation(0.1) * PER_HORIZON)
    assert contains(estimates["exposure_ratio"], 3.5)
    assert contains(estimates["exposure_ratio_area"], math.log(math.factorial(6)) / 6)
    logs = [math.log(k + 1) for k in range(6)]
    slope = float(np.polyfit(range(6), logs, 1)[0]) * PER_HORIZON
    assert contains(estimates["exposure_ratio_growth"], slope, slack=0.01)
    assert FASTER not in estimates["exposure_growth_class"].method
    for k, (gap, ratio) in enumerate(
        zip(found.curves["gap"].y, found.curves["exposure_ratio"].y, strict=True)
    ):
        assert contains(gap, violation(0.1 * k), slack=2e-4)
        assert contains(ratio, k + 1, slack=0.05)


def test_growth_is_classed_as_it_was_made(task: LongHorizon) -> None:
    makes: dict[str, Callable[[int], float]] = {
        FASTER: lambda k: 0.1 + 0.03 * k**2,
        LINEAR: lambda k: 0.1 + 0.5 * (1 - 2.0**-k),
        NONE: lambda k: 0.3,
    }
    for word, grade in makes.items():
        found = concluded(task, looks(grade), PAIR).estimates
        assert f"growth: {word}" in found["exposure_growth_class"].method
    assert contains(found["exposure_ratio"], 1) and contains(found["exposure_ratio_area"], 0)


def test_measures_grow_with_what_is_injected(task: LongHorizon) -> None:
    found = [
        concluded(task, looks(lambda k, e=e: 0.15 + e * k), PAIR).estimates  # type: ignore[misc]
        for e in (0.0, 0.03, 0.09)
    ]
    for name, least in (
        ("violation_own", 0.002),
        ("exposure_gap", 0.002),
        ("exposure_gap_growth", 0.002),
        ("exposure_ratio", 0.1),
        ("exposure_ratio_area", 0.1),
    ):
        assert grows([estimates[name] for estimates in found], least), name
    assert contains(found[0]["exposure_gap"], 0)


def test_the_prefix_effect_is_the_prefixs_alone(task: LongHorizon) -> None:
    """What comes of the distance cancels; grades of 2 / m leave 2 / 6 - 2 / 24."""

    def graded(seen: Seen) -> float:
        return 2 / seen.true + 0.05 * seen.own

    found = concluded(task, tinted(graded, CHUNK), PREFIXES)
    assert contains(found.estimates["prefix_effect"], violation(2 / 6 - 2 / 24), slack=2e-4)
    flat = concluded(task, looks(lambda k: 0.2 + 0.1 * k), PREFIXES)
    assert contains(flat.estimates["prefix_effect"], 0, slack=2e-4)


@pytest.mark.parametrize("half_life", [0.5, 1.5, 2.5])
def test_the_half_life_is_that_of_the_decay(task: LongHorizon, half_life: float) -> None:
    """Excess 2^(-k / h) is above half for the chunks before h."""

    def graded(seen: Seen) -> float:
        k = (seen.start - PREFIX) / CHUNK
        return 0.05 if seen.intact else 0.05 + 0.8 * 2 ** (-k / half_life)

    found = concluded(task, tinted(graded, CHUNK), ("own", "corrupted")).estimates
    assert found["recovery_half_life"].value == math.ceil(half_life) * CHUNK


# --- accumulated error: errors of place -----------------------------------------------------------


def floors(task: LongHorizon, model: Scripted) -> tuple[float, float]:
    """Mean floors under own and under true context."""
    kept = {arm: [r.scores for r in records(task, model, (arm,))] for arm in PAIR}
    own, true = (
        float(np.mean([s.series["floor"] for s in kept[arm] if s is not None])) for arm in PAIR
    )
    return own, true


def test_the_accumulated_error_is_that_of_the_formula(task: LongHorizon) -> None:
    """An error of e a chunk that adds up is e (k + 1), less what an observer would err."""
    e, mean = 0.01, 0.01 * (CHUNKS + 1) / 2
    model = displaced(lambda seen: e * (seen.own + 1), CHUNK)
    own, true = floors(task, model)
    assert 0 < true < own < 0.003
    found = concluded(task, model, PAIR)
    estimates, times = found.estimates, (mean - own) / (e - true)
    assert contains(estimates["excess_error"], mean - own)
    assert contains(estimates["exposure_ratio_error"], times)
    assert contains(estimates["excess_accumulated_error"], 100 * (times - 1))
    assert contains(estimates["excess_accumulated_error"], 50 * (CHUNKS - 1))  # without floors
    curve = [y.value for y in found.curves["excess_accumulated_error"].y]
    assert curve == pytest.approx([50 * k for k in range(CHUNKS)], abs=6)


def test_errors_of_place_grow_with_what_is_injected(task: LongHorizon) -> None:
    found = [
        concluded(task, displaced(lambda s, e=e: 0.01 + e * s.own, CHUNK), PAIR).estimates  # type: ignore[misc]
        for e in (0.0, 0.003, 0.009)
    ]
    for name, least in (
        ("excess_error", 0.003),
        ("exposure_ratio_error", 0.3),
        ("excess_accumulated_error", 30),
    ):
        assert grows([estimates[name] for estimates in found], least), name


# --- answers to the context -----------------------------------------------------------------------


def sensitivity(task: LongHorizon, answer: Callable[[Floats, Floats], Floats]) -> Estimate:
    model = Responding(answer, push=8, chunk=CHUNK)
    return concluded(task, model, (*PAIR, "noised")).estimates["context_sensitivity"]


def test_a_gain_that_is_the_same_for_all_errors_has_a_ratio_of_one(task: LongHorizon) -> None:
    assert contains(sensitivity(task, lambda error, way: 0.6 * error), 1)


def test_a_gain_for_its_own_errors_alone_is_found(task: LongHorizon) -> None:
    """Its own errors all have one way, in which noise has next to nothing."""
    found = []
    for gain in (0.5, 0.75, 1.0):
        estimate = sensitivity(
            task,
            lambda error, way, gain=gain: (  # type: ignore[misc]
                0.5 * error + (gain - 0.5) * along(error, way)
            ),
        )
        assert contains(estimate, gain / 0.5)
        found.append(estimate)
    assert grows(found, 0.3)


def test_twins_diverge_at_the_rate_of_the_system(task: LongHorizon) -> None:
    """x' = 2 x, two chunks a horizon."""
    model = Responding(lambda error, way: 2 * error, chunk=6)
    found = concluded(task, model, ("own", "twin"))
    assert contains(found.estimates["twin_divergence"], 2 * math.log(2))
    levels = [y.value for y in found.curves["twin_distance"].y]
    assert levels == pytest.approx([2**0.5 * 2**k for k in range(4)], rel=0.2)


def test_twins_converge_at_the_rate_of_the_system(task: LongHorizon) -> None:
    """Half of the values that differ are forgotten in each chunk: the distance falls by root 2."""
    order = np.random.default_rng(1).random((6, 32, 32, 3))

    def forget(error: Floats, way: Floats) -> Floats:
        kept: Floats = error * (order < (error != 0).mean())
        return kept

    found = concluded(task, Responding(forget, chunk=6), ("own", "twin"))
    assert contains(found.estimates["twin_divergence"], -math.log(2))


def test_every_measure_of_a_biased_model_has_a_value(task: LongHorizon) -> None:
    """None is left out by mistake."""
    found = concluded(task, Drifting(0.24), (*ARMS, *PREFIXES[1:])).estimates
    absent = [n for n in MEASURES if found[n].value is None]
    assert absent == []
