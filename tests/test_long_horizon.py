"""The task proves itself: truth has no violation and no gap, injected error is found in proportion,
cheats do not win, and what was not measured says so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sfbench import exposure, models
from sfbench.interfaces import Frames
from sfbench.schema import Failure, Record, Request, Scores
from sfbench.tasks import drift, judge, rows, shapes
from sfbench.tasks.conclusion import Conclusion
from sfbench.tasks.continuations import ARMS, role
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.tasks.oracle import VIOLATIONS

from simulators import Drifting, Ignoring, Looping, Slowed, card, concluded, records

BIAS = ("true", "own", "swapped")


@pytest.fixture(scope="module")
def task() -> LongHorizon:
    return LongHorizon(tier="smoke", seeds=(0,))


@pytest.fixture(scope="module")
def truth(task: LongHorizon) -> Conclusion:
    return concluded(task, rows.oracle_row("truth"), ("free", *ARMS, "own@12", "own@24"))


def value(conclusion: Conclusion, name: str) -> float:
    found = conclusion.estimates[name].value
    assert found is not None, f"{name}: {conclusion.estimates[name].method}"
    return found


# --- the proofs -----------------------------------------------------------------------------------


def test_the_true_simulator_has_neither_violation_nor_gap(truth: Conclusion) -> None:
    for name in ("violation_own", "exposure_gap", "round_trip", "drift", "violation_8x"):
        assert abs(value(truth, name)) < 1e-3
    assert value(truth, "adherence_1x") == 1 and value(truth, "alive_8x") == 1
    assert value(truth, "motion_own") == pytest.approx(1, abs=0.02)
    assert truth.validity.ok and not truth.validity.flags


def test_the_gap_grows_with_the_injected_error(task: LongHorizon) -> None:
    gaps, growths = [], []
    for error in (0.0, 0.08, 0.24):
        found = concluded(task, Drifting(error), BIAS)
        assert exposure.IGNORES_CONTEXT not in found.validity.flags
        gaps.append(found.estimates["exposure_gap"])
        growths.append(value(found, "exposure_gap_growth"))
    none, small, large = gaps
    assert none.low is not None and none.high is not None and none.low <= 0 <= none.high
    assert small.low is not None and small.low > 0
    assert (large.value or 0) > 1.5 * (small.value or 0)
    assert growths == sorted(growths) and growths[1] > 0.05


def test_a_model_that_ignores_its_context_is_flagged(task: LongHorizon) -> None:
    found = concluded(task, Ignoring(), BIAS)
    assert found.validity.flags == (exposure.IGNORES_CONTEXT,)


def test_the_observer_is_the_floor(task: LongHorizon) -> None:
    observer = rows.Observer()
    observer.card = card("observer", chunk=6)
    found = concluded(task, observer, BIAS)
    assert value(found, "violation_own") < 0.01 and abs(value(found, "excess_error")) < 0.01
    assert value(found, "context_help") > 0.1


# --- cheats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [("frozen", drift.NO_MOTION), ("loop", drift.REPEATS), ("noise", drift.NOTHING)],
)
def test_the_boards_cheats_are_flagged(task: LongHorizon, name: str, word: str) -> None:
    """By the word that is true: a loop moves, though it turns back in its continuations."""
    cheat = models.resolve(f"cheat:{name}")
    models.bind(cheat, task.truth)
    found = concluded(task, cheat, ("free", *BIAS))
    assert [f for f in found.validity.flags if f.startswith("DEGENERATE")] == [word]
    assert value(found, "violation_own") > 0.15 and value(found, "alive_8x") < 0.5


def test_repeating_a_true_clip_is_worse_than_truth_and_flagged(task: LongHorizon) -> None:
    found = concluded(task, Looping(), ("free",))
    assert value(found, "violation_1x") < 0.01  # the first horizon is true
    assert value(found, "drift") > 0.02 and value(found, "alive_8x") < 0.5
    assert found.validity.flags == (drift.REPEATS,)


def test_a_slowed_truth_does_not_win(task: LongHorizon, truth: Conclusion) -> None:
    half, crawling = (concluded(task, Slowed(s), ("free", *BIAS)) for s in (0.5, 0.25))
    assert value(half, "violation_own") > value(truth, "violation_own") + 0.1
    assert value(half, "motion_own") < 0.4 and value(half, "violation_1x") > 0.05
    assert drift.NO_MOTION in crawling.validity.flags


class Vanishing(Drifting):
    """True until the prefix ends; then nothing."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        yield np.full((request.geometry.frames, 32, 32, 3), 60, np.uint8)


def test_losing_the_object_is_worse_than_showing_it_badly(task: LongHorizon) -> None:
    lost = concluded(task, Vanishing(0.0), ("free", "true", "own"))
    bad = concluded(task, Drifting(0.24), ("true", "own"))
    assert value(lost, "violation_own") > 0.9 > value(bad, "violation_own")
    assert value(lost, "motion_1x") == 0 and value(lost, "motion_own") == 0
    assert value(lost, "time_to_failure") == judge.WINDOW


# --- the world ------------------------------------------------------------------------------------


def band_maxima(split: str, count: int, noise: float) -> np.ndarray:
    """Highest window of each violation ``[clips, 7]`` of true clips, with a codec's noise."""
    rng, found = np.random.default_rng(0), []
    for index in range(count):
        scene = shapes.sample_scene("shapes-1", split, index)
        clip = shapes.render(scene, drift.FRAMES, 32) + rng.normal(0, noise, (96, 32, 32, 3))
        frames = np.clip(np.round(clip), 0, 255).astype(np.uint8)
        series = judge.free_scores(frames, shapes.prompt(scene)).series
        found.append([max(v for v in series[f"v_{n}"] if v is not None) for n in VIOLATIONS])
    return np.array(found)


@pytest.mark.parametrize("noise", [0.0, 4.5])  # 4.5 levels: 35 dB
def test_95_percent_of_held_out_truth_survives_to_8x(noise: float) -> None:
    highest = band_maxima("test", 40, noise)
    limits = np.array([drift.BAND[name] for name in VIOLATIONS])
    assert (highest <= limits).all(axis=1).mean() >= 0.95
    assert np.quantile(highest, 0.99, axis=0).max() <= 0.02  # as the comment at BAND says


def test_the_world_is_stationary() -> None:
    """The first window of true clips and the last have one distribution: no drift without cause."""
    first, last = [], []
    for index in range(40):
        scene = shapes.sample_scene("shapes-1", "selection", index)
        series = judge.free_scores(shapes.render(scene, 96, 32), shapes.prompt(scene)).series
        rows_ = np.array([series[n] for n in ("exposure", "contrast", "motion_energy")], float)
        first.append(rows_[:, 0])
        last.append(rows_[:, -1])
    change = np.array(last) - np.array(first)
    error = change.std(axis=0, ddof=1) / np.sqrt(len(change))
    assert (np.abs(change.mean(axis=0)) < 3 * error + 1e-9).all()


def test_a_free_clip_is_held_to_its_own_start() -> None:
    """Any lawful scene of the prompt is free of violation; a later change of hue or size is not."""
    for index in range(6):
        scene = shapes.sample_scene("shapes-1", "train", index)
        text, clip = shapes.prompt(scene), shapes.render(scene, 96, 32)
        lawful = judge.free_scores(clip, text).series["violation"]
        assert max(v for v in lawful if v is not None) < 0.01
        changed = np.concatenate([clip[:48], clip[48:, :, :, [1, 2, 0]]])
        judged = judge.free_scores(changed, text).series["violation"]
        assert min(v for v in judged[8:] if v is not None) > 0.05


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "requests", "frames"),
    [("smoke", 104, 2880), ("lite", 400, 9984), ("full", 800, 19968)],
)
def test_the_size_of_each_tier(tier: str, requests: int, frames: int) -> None:
    task = LongHorizon(tier=tier)
    asked = task.requests(card("any"))
    assert (len(asked), sum(r.geometry.frames for r in asked)) == (requests, frames)
    assert len({r.key for r in asked}) == len(asked)
    assert all(r.prompt.scene and r.prompt.scene.split == "test" for r in asked)


@pytest.mark.parametrize(("chunk", "after"), [(1, 12), (2, 12), (5, 10), (8, 8), (24, 24)])
def test_prefixes_are_followed_by_whole_chunks(task: LongHorizon, chunk: int, after: int) -> None:
    """So that equal chunks stand at equal distance from the true frames."""
    asked = task.requests(card("any", chunk=chunk))
    frames = {role(r): r.geometry.frames for r in asked}
    assert (frames["own"], frames["own@12"], frames["own@24"]) == (24, after, after)
    assert {r.context.prefix for r in asked if role(r) == "own@12" and r.context} == {12}


def test_diagnostic_arms_have_half_the_seeds() -> None:
    asked = LongHorizon(tier="lite").requests(card("any"))
    seeds: dict[str, set[int]] = {}
    for request in asked:
        seeds.setdefault(role(request), set()).add(request.seed)
    whole = {name for name, found in seeds.items() if found == {0, 1, 2, 3}}
    half = {name for name, found in seeds.items() if found == {0, 1}}
    assert whole == {"true", "own", "streamed"} and seeds["free"] == {0}
    assert half == {"swapped", "corrupted", "noised", "twin", "own@12", "own@24"}


def test_swapped_scenes_are_others(task: LongHorizon) -> None:
    swapped = [r for r in task.requests(card("any")) if r.arm == "swapped"]
    assert swapped
    for request in swapped:
        assert request.context and request.context.donor != request.prompt.scene


def test_what_applies_to_a_model(task: LongHorizon) -> None:
    blind = task.requests(card("blind", accepts_context=False))
    assert {r.arm for r in blind} == {"free"} and blind[0].geometry.frames == 96
    whole = task.requests(card("whole", causal=False, native_frames=10))
    assert {r.arm for r in whole} == {"free"} and whole[0].geometry.frames == 10
    by_three = task.requests(card("three", chunk=3))
    assert {r.context.chunk for r in by_three if r.context} == {3}


def test_the_card_tells_runs_apart() -> None:
    assert LongHorizon(tier="lite").card == LongHorizon(tier="lite").card
    first, other = LongHorizon(tier="lite").card, LongHorizon("shapes-2", "lite").card
    assert first.prompts_sha256 != other.prompts_sha256
    for wrong in ({"tier": "huge"}, {"dataset": "nowhere"}, {"seeds": ()}):
        with pytest.raises(ValueError):
            LongHorizon(**wrong)


def test_two_objects_are_judged_too() -> None:
    task = LongHorizon("shapes-2", "smoke", seeds=(0,))
    found = concluded(task, rows.oracle_row("truth"), ("free", "true", "own"))
    assert value(found, "violation_own") < 0.02 and value(found, "violation_8x") < 0.05


# --- what is concluded ----------------------------------------------------------------------------


def test_chunk_series_have_the_models_chunks(task: LongHorizon) -> None:
    model = rows.Observer()
    model.card = card("threes", chunk=3)
    found = concluded(task, model, ("true", "own"))
    assert found.curves["exposure_own"].x == tuple(float(n) for n in range(3, 25, 3))


def test_a_model_without_context_has_no_exposure(task: LongHorizon) -> None:
    model = rows.Truth()
    model.card = card("blind", accepts_context=False)
    found = concluded(task, model, ("free",))
    for name in exposure.MEASURES:
        assert found.estimates[name].value is None
        assert found.estimates[name].method == "n/a: the model does not accept context"
    assert found.validity.ok and value(found, "drift") == 0


def test_a_model_without_horizon_is_measured_at_native_length(task: LongHorizon) -> None:
    model = rows.Truth()
    model.card = card("whole", causal=False, native_frames=12)
    found = concluded(task, model, ("free",))
    assert value(found, "violation_1x") == 0 and value(found, "adherence_1x") == 1
    for name in ("drift", "violation_8x", "adherence_8x", "motion_8x", "alive_8x"):
        assert found.estimates[name].method == "native length only"
    assert "whole clip" in found.estimates["violation_own"].method


def test_missing_and_failed_requests_are_stated(task: LongHorizon) -> None:
    model = rows.Truth()
    some = records(task, model, ("own",))
    failed = [
        r.model_copy(update={"scores": None, "failure": Failure(kind="model", reason="no")})
        for r in some[:2]
    ]
    found = task.conclude(model.card, [*failed, *some[2:]])
    assert not found.validity.ok
    text = " ".join(found.validity.reasons)
    assert "2 of 80 requests failed (model 2)" in text
    assert "72 of 80 requests were not run" in text
    assert found.estimates["violation_own"].clusters == 6


def test_without_any_record_nothing_is_claimed(task: LongHorizon) -> None:
    for model in (card("any"), card("whole", causal=False)):
        found = task.conclude(model, [])
        assert not found.validity.ok
        assert all(e.value is None for e in found.estimates.values())
        assert all(not values for values in found.per_prompt.values())


def test_every_model_gets_the_same_names(task: LongHorizon, truth: Conclusion) -> None:
    for model in (card("blind", accepts_context=False), card("whole", causal=False)):
        missing = truth.estimates.keys() - task.conclude(model, []).estimates.keys()
        assert {n for n in missing if not n.startswith(("adherence_", "motion_"))} <= set()


def test_order_of_records_does_not_matter(task: LongHorizon) -> None:
    model = Drifting(0.1)
    played = records(task, model, ("true", "own"))
    assert task.conclude(model.card, played) == task.conclude(model.card, played[::-1])


@pytest.mark.parametrize(
    ("name", "most"), [("free", 6000), ("own", 2500), ("true", 2500), ("swapped", 1200)]
)
def test_records_are_compact(task: LongHorizon, name: str, most: int) -> None:
    """Fingerprints and all, a continuation takes less than twice what it would without."""
    request = next(r for r in task.requests(card("any")) if role(r) == name)
    assert request.prompt.scene
    frames = task.truth(request.prompt.scene, request.geometry.frames, 2)
    scores: Scores = task.score(request, frames)
    line = Record(key=request.key, request=request, scores=scores).model_dump_json()
    assert len(line) < most
