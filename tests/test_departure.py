"""Departure from a prefix: each measure answers to its failure on real film; grades are exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from sfbench.departure import (
    INSIDE,
    NAMES,
    SLACK,
    WORST,
    departures,
    graded,
    graded_by,
    look_of,
    portrait,
    thumbs,
)
from sfbench.interfaces import Frames

import real_videos

Floats = NDArray[np.float64]
START, PREFIX, CHUNK = 20, 12, 6


@cache
def film() -> tuple[Frames, float]:
    frames, fps = real_videos.excerpt("carphone_pristine", START, PREFIX + CHUNK)
    return np.stack([cv2.resize(f, (176, 144), interpolation=cv2.INTER_AREA) for f in frames]), fps


def gone(change: Callable[[Frames], Frames]) -> Floats:
    """Departures of the chunk after the prefix when it is changed so."""
    frames, fps = film()
    prefix, chunk = frames[:PREFIX], change(frames[PREFIX:])
    before = portrait(prefix, None, fps, look_of(thumbs(prefix[-1:])))
    after = portrait(chunk, prefix[-2:], fps, look_of(thumbs(chunk[-1:])))
    return departures(before, after)


def hue_turned(frames: Frames) -> Frames:
    return np.ascontiguousarray(frames[..., [1, 2, 0]])


def swapped_for_noise(frames: Frames) -> Frames:
    return np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)


def flash(frames: Frames) -> Frames:
    changed = frames.copy()
    changed[2] = 255 - changed[2]
    return changed


def shaken(frames: Frames) -> Frames:
    """To and fro by two pixels: as fast as it may be, but on no course."""
    return np.stack([np.roll(f, 2 * (-1) ** n, axis=1) for n, f in enumerate(frames)])


def still(frames: Frames) -> Frames:
    return np.repeat(film()[0][PREFIX - 1 : PREFIX], len(frames), axis=0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("exposure", real_videos.brighter),
        ("saturation", real_videos.greyer),
        ("colour", hue_turned),
        ("sharpness", real_videos.blurred),
        ("motion", still),
        ("smoothness", shaken),
        ("jump", flash),
        ("look", swapped_for_noise),
    ],
)
def test_each_measure_answers_to_its_failure(name: str, change: Callable[[Frames], Frames]) -> None:
    true, changed = gone(lambda frames: frames), gone(change)
    m = NAMES.index(name)
    assert changed[m] > 2 * true[m] + SLACK[m]


def test_a_piece_that_stays_does_not_depart() -> None:
    frames, fps = film()
    before = portrait(frames[:CHUNK], None, fps, look_of(thumbs(frames[:1])))
    assert departures(before, before)[[0, 1, 2, 3, 4, 5, 7]] == pytest.approx(0, abs=1e-9)


def test_the_step_into_a_piece_counts() -> None:
    """A cut between context and chunk is a jump, though the chunk itself runs smoothly."""
    frames, fps = film()
    look = look_of(thumbs(frames[:1]))
    before = portrait(frames[:PREFIX], None, fps, look)
    chunk = frames[PREFIX:]
    alone, joined = (portrait(chunk, lead, fps, look) for lead in (None, 255 - chunk[:1]))
    assert departures(before, joined)[6] > departures(before, alone)[6] + 1


# --- grades ---------------------------------------------------------------------------------------


def test_grades_are_exact() -> None:
    others = np.ones((20, 3, len(NAMES))) * np.arange(1, 4)[:, None]
    limit = others[0] + SLACK
    for times, grade in ((0.0, 0.0), (1.0, 0.0), ((1 + WORST) / 2, 0.5), (WORST, 1.0), (9.0, 1.0)):
        assert graded(times * limit, others) == pytest.approx(grade)


def test_a_video_is_not_held_against_itself() -> None:
    """The one that departs most would else hide behind its own departure."""
    truth = {f"v{n}": np.full((1, len(NAMES)), 1.0) for n in range(9)}
    truth["far"] = np.full((1, len(NAMES)), 50.0)
    found = graded_by(truth, {name: [gone] for name, gone in truth.items()})
    assert (found["far"][0] == 1).all()
    assert all((rows[0] == 0).all() for name, rows in found.items() if name != "far")


def test_shorter_continuations_are_held_against_their_own_chunks() -> None:
    truth = {f"v{n}": np.arange(1.0, 5)[:, None] * np.ones(len(NAMES)) for n in range(5)}
    (short,) = graded_by(truth, {"v0": [2.5 * truth["v0"][:2]]})["v0"]
    assert short.shape == (2, len(NAMES))
    assert (short > 0.3).all()


@pytest.mark.parametrize("videos", [8, 32])
def test_a_perfect_sampler_is_graded_as_truth_is(videos: int) -> None:
    """Its departures come from the law of the true ones; the floor is small whatever the law."""
    rng, floors, perfect = np.random.default_rng(5), [], []
    for _ in range(200):
        drawn = rng.lognormal(0, 0.7, (2 * videos, 4, len(NAMES)))
        truth = {f"v{n}": drawn[n] for n in range(videos)}
        made = {f"v{n}": [drawn[videos + n]] for n in range(videos)}
        floors.append(mean(graded_by(truth, {n: [row] for n, row in truth.items()})))
        perfect.append(mean(graded_by(truth, made)))
    apart = np.array(perfect) - np.array(floors)
    assert abs(apart.mean()) < 3 * apart.std() / len(apart) ** 0.5
    assert np.mean(floors) < 1 - INSIDE


def mean(found: dict[str, list[Floats]]) -> float:
    return float(np.mean([rows[0].mean() for rows in found.values()]))
