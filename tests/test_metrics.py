"""Pixel measures see what they declare and are blind where they say so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sfbench import metrics
from sfbench.interfaces import Frames
from sfbench.tasks import shapes


@pytest.fixture(scope="module")
def clip() -> Frames:
    return shapes.render(shapes.sample_scene("shapes-1", "test", 3), 48, 32)


def faded(clip: Frames) -> Frames:
    return np.round(clip * 0.5 + 64).astype(np.uint8)


def stopped(clip: Frames) -> Frames:
    return np.repeat(clip[:1], len(clip), axis=0)


def looped(clip: Frames) -> Frames:
    return np.tile(clip[:12], (4, 1, 1, 1))


@pytest.mark.parametrize(
    ("measure", "damage", "sign"),
    [
        (metrics.contrast, faded, -1),
        (metrics.motion_energy, stopped, -1),
        (metrics.frozen, stopped, 1),
        (metrics.repeated, looped, 1),
    ],
)
def test_damage_moves_the_measure(
    clip: Frames,
    measure: Callable[[Frames], np.ndarray],
    damage: Callable[[Frames], Frames],
    sign: int,
) -> None:
    before, after = measure(clip), measure(damage(clip))
    assert before.shape == after.shape == (len(clip),)
    assert sign * (after.mean() - before.mean()) > 0.02 * max(abs(before.mean()), 0.1)


def test_known_values() -> None:
    white = np.full((3, 8, 8, 3), 255, np.uint8)
    assert metrics.contrast(white) == pytest.approx([0, 0, 0])
    halves = white.copy()
    halves[:, :4] = 0
    assert metrics.contrast(halves) == pytest.approx([0.5, 0.5, 0.5])
    flash = np.concatenate([white, 0 * white])
    assert metrics.motion_energy(flash) == pytest.approx([0, 0, 0, 1, 0, 0])
    assert metrics.frozen(flash) == pytest.approx([1, 1, 1, 0, 1, 1])


def test_a_level_of_flicker_is_still_frozen() -> None:
    still = np.full((10, 8, 8, 3), 100, np.uint8)
    still[::2] += 1
    assert metrics.frozen(still).all()
    still[::2] += 1
    assert not metrics.frozen(still).any()


def test_repeats_need_distance_in_time(clip: Frames) -> None:
    copies = metrics.repeated(looped(clip))
    assert not copies[:12].any() and copies[12:].all()
    assert not metrics.repeated(clip[:12]).any()


def test_repeats_are_seen_through_flicker_and_faint_noise(clip: Frames) -> None:
    flicker = np.where(np.arange(48) % 5, 1, -1)[:, None, None, None]
    noise = np.random.default_rng(0).integers(-1, 2, clip.shape)
    damaged = (looped(clip) + flicker + noise).clip(0, 255).astype(np.uint8)
    assert metrics.repeated(damaged)[12:].all()


def test_runs() -> None:
    assert metrics.longest_run(np.array([0, 1, 1, 0, 1, 1, 1, 0.0])) == 3
    assert metrics.longest_run(np.zeros(4)) == metrics.longest_run(np.zeros(0)) == 0
    assert metrics.longest_run(np.ones(5)) == 5


def test_still_is_told_through_noise(clip: Frames) -> None:
    noise = np.random.default_rng(0).integers(-1, 2, clip.shape)
    assert metrics.still(stopped(clip)).tolist() == [0] + [1] * 47
    assert metrics.still((stopped(clip) + noise).clip(0, 255).astype(np.uint8))[1:].all()
    assert not metrics.still(clip).any()


def test_one_frame_is_measured_too(clip: Frames) -> None:
    for measure in metrics.MEASURES:
        assert measure.per_frame(clip[:1]).shape == (1,)


def test_windows_average_and_keep_the_rest() -> None:
    assert metrics.windows(np.arange(7.0), 3) == pytest.approx([1, 4, 6])
