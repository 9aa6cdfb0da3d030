"""Every metric there is keeps within its bounds, whatever it is shown, and means one thing.

Whether a metric sees what it declares to see is certified (``test_certify.py``). Here is what must
hold of any: a number in its bounds on true video, on nothing and on noise; the same number for the
same clip; no change in what does not change; and, of a look at single frames, no arrow of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from sfbench import metrics, metrics_video, panel
from sfbench.interfaces import Frames
from sfbench.metrics import Metric
from sfbench.panel import Clip
from sfbench.tasks.certified import WORLD_METRICS, World

FRAMES, SIDE = 48, 32
ALL: dict[str, Metric] = {
    metric.name: metric
    for metric in (*metrics.MEASURES, *metrics_video.MEASURES, *panel.PANEL, *WORLD_METRICS)
}
EACH = pytest.mark.parametrize("name", ALL)
LOOKS = ("contrast", "sharpness", "exposure", "clipped", "saturation", "blockiness")
"""Of single frames; all others compare frames, or judge motion."""
CHANGES = [name for name in ALL if name.endswith("_change")]
ROUNDING = 1e-6


def flat(*colour: int) -> Frames:
    return np.broadcast_to(np.array(colour, np.uint8), (FRAMES, SIDE, SIDE, 3)).copy()


@cache
def frames(kind: str) -> Frames:
    if kind == "noise":
        return np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    colours = {"black": (0, 0, 0), "white": (255, 255, 255), "one colour": (200, 30, 90)}
    return flat(*colours[kind]) if kind in colours else World().take("test", 3).frames


def still(pixels: Frames) -> Frames:
    return np.repeat(pixels[:1], FRAMES, axis=0)


def back(pixels: Frames) -> Frames:
    return pixels[::-1].copy()


@cache
def values(kind: str, change: Callable[[Frames], Frames] = np.copy) -> dict[str, float | None]:
    """All metrics of one clip, which is made for it."""
    take = World().take("test", 3)
    shown = Clip.of(change(frames(kind)), take.fps, take.text)
    return {name: metric.value(shown) for name, metric in ALL.items()}


def test_the_names_are_all_different() -> None:
    lists = (metrics.MEASURES, metrics_video.MEASURES, panel.PANEL, WORLD_METRICS)
    assert len(ALL) == sum(map(len, lists)) and set(LOOKS) < set(ALL)
    assert len(CHANGES) == 5


@pytest.mark.parametrize("kind", ["true", "black", "white", "noise", "one colour"])
@EACH
def test_a_value_is_within_the_bounds(name: str, kind: str) -> None:
    found, (low, high) = values(kind)[name], ALL[name].bounds
    if found is None:
        assert (name, kind) in {
            ("motion_smoothness_flow", flat) for flat in ("black", "white", "one colour")
        }, "only what stands still has no smoothness"
        return
    assert math.isfinite(found)
    assert low is None or found >= low - ROUNDING
    assert high is None or found <= high + ROUNDING


@EACH
def test_the_same_clip_has_the_same_value(name: str) -> None:
    for kind in ("true", "noise"):
        # Both copy, and to the cache they are two: the clip is made and measured again.
        assert values(kind, np.array)[name] == values(kind)[name]


@pytest.mark.parametrize("name", CHANGES)
def test_what_does_not_change_has_no_change(name: str) -> None:
    """A frame held against itself; of a true clip and of noise alike."""
    for kind in ("true", "noise"):
        assert values(kind, still)[name] == pytest.approx(0, abs=ROUNDING)


@pytest.mark.parametrize("name", LOOKS)
def test_a_look_at_frames_knows_no_direction_of_time(name: str) -> None:
    for kind in ("true", "noise"):
        assert values(kind, back)[name] == pytest.approx(values(kind)[name], rel=1e-9, abs=1e-9)


def test_the_oracle_finds_no_fault_in_truth_and_loses_all_else() -> None:
    for metric in WORLD_METRICS:
        assert values("true")[metric.name] == 0
    for kind in ("black", "white", "noise", "one colour"):
        assert values(kind)["drift"] == 1
