"""Each injected failure is what it says, grows with its dose, and leaves the clip's start alone."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import failures
from sfbench.interfaces import Frames
from sfbench.tasks import certified, shapes
from sfbench.tasks.oracle import decode

WORLD = certified.World()
TAKE = WORLD.take("test", 3)
CLIP, OTHER = TAKE.frames, TAKE.other
QUARTER = len(CLIP) // 4
ALL = list(failures.FAILURES)


def apart(a: Frames, b: Frames) -> np.ndarray:
    """RMS distance of two clips, frame by frame, in levels."""
    difference = a.astype(float) - b.astype(float)
    return np.sqrt((difference**2).mean(axis=(1, 2, 3)))


def test_the_doses_are_those_of_the_failures() -> None:
    doses = failures.doses()
    assert list(doses) == ALL
    for line in doses.values():
        for given in (line.world, line.videos):
            sizes = np.abs(given)
            assert (np.diff(sizes) > 0).all() and sizes[0] > 0, line


@pytest.mark.parametrize("failure", ALL)
def test_a_failure_is_a_clip_and_comes_out_the_same_again(failure: str) -> None:
    dose = failures.doses()[failure].world[0]
    one, again = (TAKE.damaged(failure, dose) for _ in range(2))
    assert one.dtype == np.uint8 and one.shape == CLIP.shape
    assert np.array_equal(one, again)
    assert apart(one, CLIP).max() > 1
    generic = failures.inject(failure, CLIP, failures.doses()[failure].videos[0], OTHER)
    assert generic.dtype == np.uint8 and generic.shape == CLIP.shape
    assert not np.array_equal(generic, CLIP)


@pytest.mark.parametrize("failure", [f for f in ALL if f not in ("frozen", "jump")])
def test_the_first_quarter_is_untouched(failure: str) -> None:
    dose = failures.doses()[failure].world[-1]
    for damaged in (TAKE.damaged(failure, dose), failures.inject(failure, CLIP, dose, OTHER)):
        assert np.array_equal(damaged[:QUARTER], CLIP[:QUARTER])


@pytest.mark.parametrize("failure", ["exposure", "saturation", "blur", "noise", "colour", "jump"])
def test_what_grows_with_the_dose(failure: str) -> None:
    doses = failures.doses()[failure].world
    moved = [apart(failures.inject(failure, CLIP, dose, OTHER), CLIP).mean() for dose in doses]
    assert (np.diff(moved) > 0).all()


def test_a_turn_of_hue_keeps_luma_and_closes_the_circle() -> None:
    clip = np.clip(CLIP, 60, 190)
    turned = failures.colour(clip, 40, clip)
    assert np.abs(apart(failures.colour(clip, 360, clip)[-1:], clip[-1:])).max() < 1
    assert apart(turned[-1:], clip[-1:]).max() > 3
    grey = np.full_like(clip, 120)
    assert np.array_equal(failures.colour(grey, 90, grey), grey)


def test_known_frames() -> None:
    clip = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)

    def order(failure: str, dose: float) -> list[int]:
        return failures.inject(failure, clip, dose, clip)[:, 0, 0, 0].tolist()

    assert order("freeze", 0.5) == [*range(8), *[8] * 8]
    assert order("frozen", 0.25) == [0] * 4 + list(range(12))
    assert order("frozen", 1.0) == [0] * 16
    assert order("loop", 0.5) == [*range(8), 6, 5, 4, 5, 6, 7, 6, 5]
    assert order("regression", 0.5) == [0, 1, 2, 3, 0, 5, 0, 7, 0, 9, 0, 11, 0, 13, 0, 15]
    assert order("slowdown", 0.5) == [0, 1, 2, 3, 4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 10]
    assert order("collapse", 1.0) == list(range(16))  # flat frames have no contrast to lose


def test_a_collapse_recovers() -> None:
    away = apart(failures.collapse(CLIP, 1.0, CLIP), CLIP)
    lost = np.flatnonzero(away)
    assert lost[0] == len(CLIP) * 3 // 8 and lost[-1] == len(CLIP) * 5 // 8 - 1
    assert np.ptp(failures.collapse(CLIP, 1.0, CLIP)[len(CLIP) // 2]) == 0


def test_of_one_object_all_else_stays() -> None:
    half = len(CLIP) // 2
    state = decode(TAKE.damaged("swap", 3), 1)
    before, after = state.shape[:half, 0], state.shape[half:, 0]
    assert len({*before}) == len({*after}) == 1 and before[0] != after[0]
    assert np.median(state.radius[half:]) < 0.75 * np.median(state.radius[:half])
    jump = decode(TAKE.damaged("teleport", 0.3), 1).centre[:, 0]
    steps = np.linalg.norm(np.diff(jump, axis=0), axis=1)
    assert np.argmax(steps) == half - 1 and steps.max() > 0.25
    body = TAKE.scene.bodies[0]
    speed = np.hypot(body.vx, body.vy)
    slow = np.linalg.norm(
        np.diff(decode(TAKE.damaged("slowdown", 0.6), 1).centre[:, 0], axis=0), axis=1
    )
    assert np.median(slow[QUARTER + 1 :]) == pytest.approx(0.4 * speed, rel=0.1)
    assert np.array_equal(TAKE.damaged("slowdown", 0.0), CLIP)


def test_nuisances_hardly_touch_a_clip() -> None:
    for change in failures.NUISANCES.values():
        assert 0 < apart(change(CLIP, 16), CLIP).max() < 3


def test_two_takes_of_a_prompt_fit_it() -> None:
    assert TAKE.text == shapes.prompt(TAKE.scene)
    assert not np.array_equal(CLIP, OTHER)
