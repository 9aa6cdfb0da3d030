"""Measures of any video that need no weights: one pass, the memory of two frames.

:func:`watch` shows every frame to every measure as a :class:`View`; a video's value is the mean
over the frames that have one. A measure that compares frames uses :attr:`View.before`, which is
``None`` after a shot cut, so that a cut is not taken for motion or flicker. Only
``temporal_flickering`` is VBench's own measure, cuts included; all other names are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from . import metrics_flow
from .interfaces import Frames
from .metrics import Metric
from .metrics_view import Series as Series
from .metrics_view import Track
from .metrics_view import View as View
from .metrics_view import Watched as Watched
from .registry import load, providers
from .video import VideoError

if TYPE_CHECKING:
    from .panel import Clip

BLACK, WHITE = 2, 253
"""Luma levels at and beyond which a pixel counts as clipped: a codec moves the ends a little."""
GRID = 8
REPEAT_LEVELS = 4.0
"""Levels of 255 by which no tile of a repeated frame differs. Freezing, coded again by x264, stays
below 3.2 up to crf 38, single repeats within motion below 4.4 up to crf 23 (half of them at
crf 30); the least that moving frames of the same clips differed was 6.4."""


@dataclass(frozen=True, kw_only=True)
class VideoMeasure(Metric):
    """A metric with a value for each frame of a video that passes by."""

    per_frame: Callable[[View], float | None]
    """``None``: no value at this frame, e.g. the first one of a measure that compares two."""

    def value(self, clip: Clip) -> float | None:
        """Mean over the frames that have a value."""
        return clip.watched.values[self.name]


class Observer(Protocol):
    """Sees every frame in order, for results of its own; it must not keep the views."""

    def add(self, view: View) -> None:
        """Called once a frame."""
        ...


def watch(
    frames: Iterable[Frames],
    fps: float,
    measures: Sequence[VideoMeasure] | None = None,
    observers: Sequence[Observer] = (),
) -> Watched:
    """Measure a video in one pass; ``frames`` are ``uint8 [H, W, 3]``, each an array of its own.

    Without ``measures`` it is all of :func:`measures_known`. Memory is that of two frames with
    their planes, and five bytes a frame and measure, whatever the length.
    """
    measures = measures_known() if measures is None else measures
    tracks = {measure.name: Track() for measure in measures}
    cuts: list[int] = []
    count, view = 0, None
    for count, rgb in enumerate(frames, start=1):
        _ensure_like(rgb, view)
        view = View(rgb, count - 1, fps, view)
        if view.previous and view.previous.previous:
            view.previous.previous.forget()
        if view.cut:
            cuts.append(view.index)
        for measure in measures:
            tracks[measure.name].add(measure.per_frame(view))
        for observer in observers:
            observer.add(view)
    return Watched(
        values={name: track.mean() for name, track in tracks.items()},
        series={name: track.series() for name, track in tracks.items()},
        frames=count,
        fps=fps,
        cuts=tuple(cuts),
    )


def measures_known() -> tuple[VideoMeasure, ...]:
    """Ours, then those of installed packages (entry-point group ``sfbench.metrics``)."""
    ours = {measure.name for measure in MEASURES}
    return (*MEASURES, *(load("metrics", n) for n in providers("metrics") if n not in ours))


# --- two frames -----------------------------------------------------------------------------------


def temporal_flickering(view: View) -> float | None:
    """VBench: (255 - mean over pairs of the mean absolute difference) / 255, over RGB levels.

    The mean over pairs is the video's; taken after the map instead of before it, it is the same.
    """
    import cv2

    if view.previous is None:
        return None
    difference = cv2.norm(view.rgb, view.previous.rgb, cv2.NORM_L1) / view.rgb.size
    return (255 - difference) / 255


def motion_magnitude(view: View) -> float | None:
    """Mean length of the optical flow, in frame diagonals a second.

    A second, not a frame: so that one scene at 12 and at 24 frames a second moves equally fast;
    the diagonal: so that it does at 480 and at 720 lines.
    """
    if view.flow is None:
        return None
    height, width = view.rgb.shape[:2]
    small_height, small_width = view.small.shape
    scale = width / small_width, height / small_height
    length = float(metrics_flow.lengths(view.flow, scale).mean())
    return length / float(np.hypot(height, width)) * view.fps


def motion_smoothness_flow(view: View) -> float | None:
    """Share of the motion that continues from the pair of frames before: 1 minus its change.

    The formula is that of :func:`sfbench.metrics_flow.smoothness`.
    """
    if view.flow is None or view.before is None or view.before.flow is None:
        return None
    return metrics_flow.smoothness(view.flow, view.before.flow)


def warping_error(view: View) -> float | None:
    """Mean difference from the frame before, moved along the flow (Lai et al. 2018); 0..1."""
    if view.before is None or view.flow is None or view.flow_forth is None:
        return None
    return metrics_flow.warping_error(view.small, view.before.small, view.flow, view.flow_forth)


def repeated_frames(view: View) -> float | None:
    """1 where the frame repeats the one before: no tile (18 x 32) differs by 4 levels of R, G or B.

    A test for equal pixels would be blind once a video was compressed again.
    """
    if view.previous is None:
        return None
    return float(np.abs(view.tiles - view.previous.tiles).max() < REPEAT_LEVELS)


# --- one frame ------------------------------------------------------------------------------------


def sharpness(view: View) -> float:
    """Logarithm of the variance of the Laplacian of luma, as :func:`sfbench.metrics.sharpness`."""
    import cv2

    laplacian = cv2.Laplacian(view.luma, cv2.CV_32F)
    # The border has no neighbours beyond it; frames of one or two pixels are nothing but border.
    inner = laplacian[1:-1, 1:-1] if min(laplacian.shape) > 2 else laplacian
    variance = cv2.norm(inner, cv2.NORM_L2) ** 2 / inner.size - cv2.mean(inner)[0] ** 2
    return float(np.log10(max(variance, 0.0) + 1))


def exposure(view: View) -> float:
    """Mean Rec. 709 luma."""
    import cv2

    return cv2.mean(view.luma)[0] / 255


def clipped(view: View) -> float:
    """Share of pixels whose luma is at most 2 or at least 253."""
    import cv2

    within = cv2.inRange(view.grey, np.array(BLACK + 1), np.array(WHITE - 1))
    return 1 - cv2.countNonZero(within) / view.grey.size


def saturation(view: View) -> float:
    """Mean HSV saturation."""
    import cv2

    red, green, blue = cv2.split(view.rgb)
    high, low = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    # Whole steps of 1/255; where all three are 0, OpenCV's quotient of whole numbers is 0.
    return cv2.mean(cv2.divide(cv2.subtract(high, low), high, scale=255))[0] / 255


def blockiness(view: View) -> float:
    """How far differences across the lines of an 8 x 8 grid exceed those within its blocks.

    With B the mean absolute luma difference of neighbours across the grid and A that of all other
    neighbours (Wang, Sheikh and Bovik 2002), the mean over both directions of (B - A) / (B + A):
    0 without a grid, 1 where blocks are flat. The grid starts at the frame's corner.
    """
    import cv2

    grey, excess = view.grey, []
    for axis, pixels in enumerate(grey.shape):
        if pixels <= GRID:
            continue
        steps = (
            cv2.absdiff(grey[1:], grey[:-1])
            if axis == 0
            else cv2.absdiff(grey[:, 1:], grey[:, :-1])
        )
        lines = cv2.reduce(steps, 1 - axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        across = np.arange(1, pixels) % GRID == 0
        b, a = float(lines[across].mean()), float(lines[~across].mean())
        excess.append((b - a) / (b + a) if b + a else 0.0)
    return float(np.mean(excess)) if excess else 0.0


MEASURES = (
    VideoMeasure(
        name="temporal_flickering",
        better="higher",
        unit="0..1",
        bounds=(0, 1),
        resolution=0.004,
        sees=("noise", "jump"),
        partly=("freeze", "frozen", "regression"),
        note="flicker, noise, jumps; freezing and strong compression raise it; "
        "cannot tell motion and cuts from flicker",
        per_frame=temporal_flickering,
    ),
    VideoMeasure(
        name="motion_magnitude",
        better=None,
        unit="diagonals/s",
        bounds=(0, None),
        resolution=0.01,
        partly=("blur", "noise", "freeze", "frozen", "slowdown", "regression"),
        note="slowing, freezing, rushing, by less than scenes differ; noise moves the flow; not "
        "whether the motion makes sense; follows nothing on flat areas",
        per_frame=motion_magnitude,
    ),
    VideoMeasure(
        name="motion_smoothness_flow",
        better="higher",
        unit="0..1",
        bounds=(0, 1),
        resolution=0.05,
        sees=("noise", "regression"),
        partly=("frozen",),
        note="stutter, jitter, reversal, noise; freezing has no value",
        per_frame=motion_smoothness_flow,
    ),
    VideoMeasure(
        name="warping_error",
        better="lower",
        unit="0..1",
        bounds=(0, 1),
        resolution=0.004,
        sees=("jump",),
        partly=("exposure", "noise"),
        note="flicker, noise, morphing that no motion explains; "
        "freezing and strong compression lower it",
        per_frame=warping_error,
    ),
    VideoMeasure(
        name="repeated_frames",
        version=2,
        better="lower",
        unit="share of frames",
        bounds=(0, 1),
        resolution=0.02,
        sees=("freeze", "frozen"),
        partly=("collapse",),
        note="freezing and stutter, also after compression; not under noise; "
        "takes a still scene for repeats",
        per_frame=repeated_frames,
    ),
    VideoMeasure(
        name="sharpness",
        better=None,
        unit="log10",
        bounds=(0, None),
        resolution=0.02,
        partly=("blur", "noise", "collapse", "swap"),
        note="blur and strong compression (falls), noise (rises), by less than scenes differ; "
        "compare at one size only",
        per_frame=sharpness,
    ),
    VideoMeasure(
        name="exposure",
        better=None,
        unit="0..1",
        bounds=(0, 1),
        resolution=0.005,
        partly=("exposure", "jump"),
        note="brightening, darkening, by less than scenes differ; knows no right brightness",
        per_frame=exposure,
    ),
    VideoMeasure(
        name="clipped",
        better="lower",
        unit="share of pixels",
        bounds=(0, 1),
        resolution=0.01,
        note="burning out, crushed shadows: no dose in the embedded world clips enough of them; "
        "takes black bars and white ground for clipping",
        per_frame=clipped,
    ),
    VideoMeasure(
        name="saturation",
        better=None,
        unit="0..1",
        bounds=(0, 1),
        resolution=0.005,
        partly=("saturation", "noise", "collapse", "swap"),
        note="over-saturation, greying, by less than scenes differ; knows no right one",
        per_frame=saturation,
    ),
    VideoMeasure(
        name="blockiness",
        better="lower",
        unit="-1..1",
        bounds=(-1, 1),
        resolution=0.02,
        note="an 8 x 8 grid of a codec or decoder, which no failure of the list leaves; not one "
        "moved by cropping or scaling; falls under noise, by less than truth varies",
        per_frame=blockiness,
    ),
)


# --- helpers --------------------------------------------------------------------------------------


def _ensure_like(rgb: Frames, previous: View | None) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or not rgb.size:
        raise VideoError(f"A frame must be uint8 [H, W, 3], not {rgb.dtype} {list(rgb.shape)}.")
    if previous is not None and rgb.shape != previous.rgb.shape:
        raise VideoError(
            f"Frame {previous.index + 1} is of shape {list(rgb.shape)}, the one before of "
            f"{list(previous.rgb.shape)}."
        )
