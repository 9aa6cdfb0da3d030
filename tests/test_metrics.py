"""Pixel measures see what they declare and are blind where they say so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from sfbench import metrics
from sfbench.interfaces import Frames
from sfbench.tasks import shapes


@pytest.fixture(scope="module")
def clip() -> Frames:
    return shapes.render(shapes.sample_scene("shapes-1", "test", 3), 48, 32)


def brighter(clip: Frames) -> Frames:
    return np.clip(clip * 1.3, 0, 255).astype(np.uint8)


def greyer(clip: Frames) -> Frames:
    grey = clip.mean(-1, keepdims=True)
    return np.round((clip + grey) / 2).astype(np.uint8)


def blurred(clip: Frames) -> Frames:
    return ndimage.gaussian_filter(clip, (0, 1, 1, 0))


def faded(clip: Frames) -> Frames:
    return np.round(clip * 0.5 + 64).astype(np.uint8)


def stopped(clip: Frames) -> Frames:
    return np.repeat(clip[:1], len(clip), axis=0)


def looped(clip: Frames) -> Frames:
    return np.tile(clip[:12], (4, 1, 1, 1))


@pytest.mark.parametrize(
    ("measure", "damage", "sign"),
    [
        (metrics.luma, brighter, 1),
        (metrics.saturation, greyer, -1),
        (metrics.contrast, faded, -1),
        (metrics.sharpness, blurred, -1),
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
    assert metrics.luma(white) == pytest.approx([1, 1, 1])
    assert metrics.saturation(white) == pytest.approx([0, 0, 0])
    red = np.zeros((3, 8, 8, 3), np.uint8)
    red[..., 0] = 200
    assert metrics.saturation(red) == pytest.approx([1, 1, 1])
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


def test_one_frame_is_measured_too(clip: Frames) -> None:
    for measure in metrics.MEASURES:
        assert measure.per_frame(clip[:1]).shape == (1,)


def test_windows_average_and_keep_the_rest() -> None:
    assert metrics.windows(np.arange(7.0), 3) == pytest.approx([1, 4, 6])


def test_every_measure_declares_itself() -> None:
    names = [m.name for m in metrics.MEASURES]
    assert len(set(names)) == len(names)
    assert all(m.sees and m.blind_to and m.unit and m.version >= 1 for m in metrics.MEASURES)
