"""The drift panel for any video: measures of a whole clip that need no truth and no weights.

Each looks at one way in which long videos are lost. *Changes* hold every window of a clip against
its first (the largest departure counts, so what recovers is seen too); *shares* and *peaks* look at
the whole clip. No single one sees every failure; which sees which is certified
(:mod:`sfbench.certify`), not claimed. The rule that makes one headline of them: a video is *lost*
when any of them is beyond what true videos show (:func:`limits`).

``T`` frames, ``K`` windows, ``V`` videos, ``M`` metrics of the panel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .interfaces import Frames
from .metrics import Metric
from .metrics_video import VideoMeasure, View, Watched, watch

Floats = NDArray[np.float64]

WINDOWS = 8
THUMB = 16
"""Pixels a side of the small frames that are kept of a whole clip: noise averages out in them."""
SAME_LEVELS = 1.0
"""RMS levels of 255 under which two thumbs may show one frame, ..."""
SAME_SHARE = 0.25
"""... if they also differ by less than this share of the clip's median change between frames."""
INSIDE = 0.95
"""Share of true videos inside all limits."""
STILL_SPEED = 0.02
"""Diagonals a second: keeps the ratio of two slow motions finite."""


class Thumbs:
    """An observer of :func:`sfbench.metrics_video.watch` that keeps every frame, very small."""

    def __init__(self) -> None:
        self._frames: list[NDArray[np.float32]] = []

    def add(self, view: View) -> None:
        """The next frame."""
        import cv2

        small = cv2.resize(view.rgb, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
        self._frames.append(small.astype(np.float32).ravel())

    def all(self) -> NDArray[np.float32]:
        """``[T, 768]``, levels of 255."""
        return np.array(self._frames, np.float32)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as the metrics of clips see it."""

    watched: Watched
    thumbs: NDArray[np.float32]
    frames: Frames | None = None
    """``[T, H, W, 3]``, where the clip fits into memory."""
    text: str = ""
    """Its prompt."""

    @staticmethod
    def of(
        frames: Frames, fps: float, text: str = "", measures: Sequence[VideoMeasure] | None = None
    ) -> Clip:
        """From frames in memory; ``measures``: those that are needed of it, all unless said."""
        thumbs = Thumbs()
        return Clip(watch(frames, fps, measures, [thumbs]), thumbs.all(), frames, text)

    def windows(self, measure: str) -> Floats:
        """Means ``[K]`` of a measure over the clip's windows; NaN where it has no value."""
        length = max(1, self.watched.frames // WINDOWS)
        values = self.watched.series[measure].windows(length)[:WINDOWS]
        return np.array(values, np.float64)

    @cached_property
    def changes(self) -> Floats:
        """RMS change ``[T - 1]`` between neighbouring thumbs, in levels."""
        steps = np.diff(self.thumbs.astype(np.float64), axis=0)
        changes: Floats = np.sqrt((steps**2).mean(axis=1))
        return changes


@dataclass(frozen=True, kw_only=True)
class ClipMetric(Metric):
    """A metric of a whole clip."""

    of: Callable[[Clip], float | None]
    reads: tuple[str, ...] = ()
    """The measures of frames that it is made of."""

    def value(self, clip: Clip) -> float | None:
        """Of one clip."""
        return self.of(clip)


# --- the rule -------------------------------------------------------------------------------------


def limits(truth: Floats, inside: float = INSIDE) -> Floats:
    """Highest value ``[M]`` of each metric that still counts as true, from true videos ``[V, M]``.

    One rank for all metrics, as low as leaves ``inside`` of the true videos within every limit at
    once: the more metrics there are, the wider each. Below twenty videos it is their maximum.
    """
    ranked = np.sort(truth, axis=0)
    for n in range(len(ranked)):
        if (truth <= ranked[n]).all(axis=1).mean() >= inside:
            break
    highest: Floats = ranked[n]
    return highest


def lost(values: Floats, highest: Floats) -> NDArray[np.bool_]:
    """Which videos ``[V, M]`` leave the limits ``[M]`` in any metric: ``[V]``."""
    slack = np.array([metric.resolution for metric in PANEL])
    outside: NDArray[np.bool_] = (values > highest + slack).any(axis=1)
    return outside


def row(clip: Clip) -> dict[str, float | None]:
    """All of the panel's values of a clip."""
    return {metric.name: metric.value(clip) for metric in PANEL}


# --- changes --------------------------------------------------------------------------------------


def exposure_change(clip: Clip) -> float | None:
    """Largest departure of a window's mean luma from the first window's."""
    return _departure(clip.windows("exposure"))


def saturation_change(clip: Clip) -> float | None:
    """The same of mean saturation."""
    return _departure(clip.windows("saturation"))


def sharpness_change(clip: Clip) -> float | None:
    """The same of sharpness: blur lowers it, noise raises it."""
    return _departure(clip.windows("sharpness"))


def colour_change(clip: Clip) -> float | None:
    """Largest distance of a window's mean chroma from the first window's, of full scale."""
    pixels = clip.thumbs.reshape(len(clip.thumbs), -1, 3).astype(np.float64) / 255
    chroma = pixels - pixels.mean(axis=2, keepdims=True)
    # What is grey says nothing of hue: the mean over pixels, each weighing what it is coloured.
    parts = np.array_split(chroma.mean(axis=1), WINDOWS)
    means = np.array([part.mean(axis=0) for part in parts])
    return float(np.linalg.norm(means - means[0], axis=1).max())


def motion_change(clip: Clip) -> float | None:
    """Largest ratio, in octaves, of a window's optical flow to the first window's, or inverse."""
    flow = clip.windows("motion_magnitude")
    return _departure(np.log2(flow + STILL_SPEED))


# --- shares and peaks -----------------------------------------------------------------------------


def still_share(clip: Clip) -> float | None:
    """Share of frames that repeat the one before (:func:`.metrics_video.repeated_frames`)."""
    return clip.watched.values["repeated_frames"]


def return_share(clip: Clip) -> float | None:
    """Share of moving frames that look like one at least a window before: loops, regressions."""
    count = len(clip.thumbs)
    if count <= WINDOWS:
        return None
    # Without each frame's mean, so that a flicker of brightness hides no copy.
    pixels = clip.thumbs.reshape(count, -1, 3).astype(np.float64)
    flat = (pixels - pixels.mean(axis=1, keepdims=True)).reshape(count, -1)
    square = np.einsum("td,td->t", flat, flat)
    apart = square[:, None] + square[None, :] - 2 * flat @ flat.T
    limit = min(SAME_LEVELS, SAME_SHARE * float(np.median(clip.changes)))
    near = np.tril(apart <= flat.shape[1] * limit**2, -(count // WINDOWS)).any(axis=1)
    moving = np.append(False, clip.changes > limit)
    return float((near & moving).mean())


def jump_peak(clip: Clip) -> float | None:
    """Largest change between two frames over the median one, in octaves."""
    if not len(clip.changes):
        return None
    changes = clip.changes + 1
    return float(np.log2(changes.max() / np.median(changes)))


# --- helpers --------------------------------------------------------------------------------------


def _departure(windows: Floats) -> float | None:
    """Largest distance of a window's value from the first that is known."""
    known = windows[np.isfinite(windows)]
    return float(np.abs(known - known[0]).max()) if len(known) > 1 else None


PANEL = (
    ClipMetric(
        name="exposure_change",
        better="lower",
        unit="0..1",
        bounds=(0, 1),
        resolution=0.01,
        sees=("exposure", "jump"),
        partly=("colour", "collapse", "swap"),
        note="brightening and darkening, also where they recover; not what keeps the mean (a turn "
        "of hue changes it a little, for levels end at 255)",
        of=exposure_change,
        reads=("exposure",),
    ),
    ClipMetric(
        name="saturation_change",
        better="lower",
        unit="0..1",
        bounds=(0, 1),
        resolution=0.01,
        sees=("saturation", "noise", "collapse"),
        partly=("exposure", "blur", "colour", "jump", "swap"),
        note="greying and over-saturation; noise colours what is grey",
        of=saturation_change,
        reads=("saturation",),
    ),
    ClipMetric(
        name="sharpness_change",
        better="lower",
        unit="log10",
        bounds=(0, None),
        resolution=0.05,
        sees=("exposure", "blur", "noise", "colour", "collapse", "swap"),
        partly=("teleport",),
        note="blur (falls) and noise (rises), and whatever changes edges",
        of=sharpness_change,
        reads=("sharpness",),
    ),
    ClipMetric(
        name="colour_change",
        better="lower",
        unit="0..1",
        bounds=(0, None),
        resolution=0.005,
        sees=("exposure", "saturation", "colour", "collapse", "swap"),
        partly=("teleport",),
        note="hue, saturation and brightness of what is coloured; not of what is grey",
        of=colour_change,
    ),
    ClipMetric(
        name="motion_change",
        better="lower",
        unit="octaves",
        bounds=(0, None),
        resolution=0.2,
        sees=("freeze", "slowdown"),
        partly=("noise", "frozen", "collapse", "regression"),
        note="stopping and slowing within the clip; not a clip never fast; noise moves the flow",
        of=motion_change,
        reads=("motion_magnitude",),
    ),
    ClipMetric(
        name="still_share",
        better="lower",
        unit="share of frames",
        bounds=(0, 1),
        resolution=0.02,
        sees=("freeze", "frozen"),
        partly=("collapse",),
        note="frames that repeat the one before; not slow motion, not stillness under noise",
        of=still_share,
        reads=("repeated_frames",),
    ),
    ClipMetric(
        name="return_share",
        better="lower",
        unit="share of frames",
        bounds=(0, 1),
        resolution=0.03,
        partly=("loop", "regression"),
        note="loops and returns to the first frames; in a small world true clips come back by "
        "themselves, so that one clip proves nothing there",
        of=return_share,
    ),
    ClipMetric(
        name="jump_peak",
        better="lower",
        unit="octaves",
        bounds=(0, None),
        resolution=0.2,
        sees=("jump", "swap", "teleport", "slowdown", "regression"),
        partly=("blur", "noise", "freeze", "frozen", "collapse"),
        note="what happens from one frame to the next: jumps, swaps, cuts; not what creeps (but a "
        "clip that slows down has a low median)",
        of=jump_peak,
    ),
)
