"""The drift panel's measures on clips whose values are known, and on clips that are damaged."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import panel
from sfbench.interfaces import Frames
from sfbench.panel import PANEL, Clip
from sfbench.tasks import shapes


def moving(frames: int = 48) -> Frames:
    return shapes.render(shapes.sample_scene("shapes-1", "test", 5), frames, 32)


def value(name: str, frames: Frames) -> float:
    metric = next(m for m in PANEL if m.name == name)
    found = metric.value(Clip.of(frames, 16))
    assert found is not None
    return found


def grey(levels: list[int]) -> Frames:
    return np.array(levels, np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)


def test_exposure_change_is_the_largest_departure_of_a_window() -> None:
    levels = [100] * 8 + [151] * 8 + [100] * 48  # eight windows of eight frames
    assert value("exposure_change", grey(levels)) == pytest.approx(51 / 255, abs=1e-4)
    assert value("exposure_change", grey([100] * 64)) == pytest.approx(0, abs=1e-6)


def test_colour_change_sees_hue_and_not_brightness() -> None:
    red = grey([0] * 16)
    red[..., 0] = 200
    blue = red[..., ::-1]
    both = np.concatenate([red, blue])
    assert value("colour_change", both) == pytest.approx(200 / 255 * np.sqrt(2), abs=1e-3)
    assert value("colour_change", grey([50] * 16 + [200] * 16)) == pytest.approx(0, abs=1e-6)


def test_motion_change_is_in_octaves() -> None:
    clip = moving(48)
    stopped = np.concatenate([clip[:24], np.repeat(clip[24:25], 24, axis=0)])
    assert value("motion_change", stopped) > 2
    assert value("motion_change", clip) < 1


def test_still_and_returning_frames() -> None:
    clip = moving(24)
    still = np.repeat(clip[:1], 24, axis=0)
    assert value("still_share", still) == pytest.approx(1, abs=0.05)
    assert value("return_share", still) == 0, "what stands still does not return"
    there_and_back = np.concatenate([clip, clip[-2:0:-1], clip[:2]])
    assert value("return_share", there_and_back) > 0.3
    flicker = there_and_back.astype(int) + np.where(np.arange(48) % 2, 1, -1)[:, None, None, None]
    assert value("return_share", flicker.clip(0, 255).astype(np.uint8)) > 0.3


def test_jump_peak_is_the_largest_change_over_the_median() -> None:
    clip = moving(48)
    cut = np.concatenate([clip[:24], 255 - clip[24:]])
    assert value("jump_peak", cut) > value("jump_peak", clip) + 1


def test_a_clip_too_short_has_no_value() -> None:
    one = Clip.of(moving(1), 16)
    assert all(m.value(one) is None for m in PANEL if m.name in ("jump_peak", "return_share"))
    assert panel.exposure_change(one) is None


def test_thumbs_average_noise_out() -> None:
    clip = moving(8)
    noisy = (clip + np.random.default_rng(0).normal(0, 6, clip.shape)).clip(0, 255).astype(np.uint8)
    a, b = Clip.of(clip, 16).thumbs, Clip.of(noisy, 16).thumbs
    assert a.shape == (8, panel.THUMB * panel.THUMB * 3)
    assert np.sqrt(((a - b) ** 2).mean()) < 4
