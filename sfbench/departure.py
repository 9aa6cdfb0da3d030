"""How far a piece of a continuation has gone from what it continues, where no oracle knows better.

Eight measures hold a piece against the true prefix before it: brightness, saturation, colour,
sharpness, motion, its smoothness, the largest jump, and what image features say of its look. True
videos depart too, the more the longer they run; so a departure is graded by what *other* true
videos show at the same distance: 0 up to their 95 % quantile, rising to 1 at :data:`WORST` times
that. The violation of a piece is the mean over the measures. Whatever the future holds, a perfect
sampler's pieces depart as the true ones do, so its violation is that of truth, which is small and
measured (:func:`graded_by` never holds a video against itself).

K pieces, M measures, V videos, D numbers of a look; t frames of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .interfaces import Frames
from .metrics_video import MEASURES as OF_FRAMES
from .metrics_video import watch
from .panel import PANEL, STILL_SPEED, THUMB, Thumbs

Floats = NDArray[np.float64]
Embed = Callable[[Frames], NDArray[np.floating]]
"""``uint8 [N, H, W, 3] -> [N, D]``: image features."""

NAMES = ("exposure", "saturation", "colour", "sharpness", "motion", "smoothness", "jump", "look")
VERSION = 1
INSIDE = 0.95
"""Quantile of other true videos up to which a departure is none."""
WORST = 4.0
"""Times that quantile from which on a departure counts fully."""
LEAD = 2
"""Frames before a piece that make its first step, and how smooth that is, visible."""
LOOK_SLACK = 0.01  # of a cosine: what coding a frame again may do
MEASURED = ("exposure", "saturation", "sharpness", "motion_magnitude", "motion_smoothness_flow")
_READS = tuple(measure for measure in OF_FRAMES if measure.name in MEASURED)
_OF = {metric.name: metric.resolution for metric in (*PANEL, *_READS)}
SLACK = np.array(
    [_OF[f"{name}_change"] for name in NAMES[:5]]
    + [_OF["motion_smoothness_flow"], _OF["jump_peak"], LOOK_SLACK]
)
"""``[M]``: departures under this are none, e.g. where all true videos stand still."""


@dataclass(frozen=True, eq=False)
class Portrait:
    """What the measures take of one piece of a video."""

    exposure: float
    saturation: float
    sharpness: float
    motion: float
    """Octaves."""
    smoothness: float | None
    """``None`` where next to nothing moves."""
    chroma: Floats
    """``[3]``"""
    largest: float
    """Change from one frame to the next, in levels."""
    typical: float
    """The median change."""
    look: Floats
    """``[D]``, of length 1."""


def portrait(piece: Frames, lead: Frames | None, fps: float, look: Floats) -> Portrait:
    """Of frames ``[t, H, W, 3]``; ``lead`` ``[l, H, W, 3]``, :data:`LEAD` or fewer, stands before
    them, where the step into the piece is to count. ``look``: :func:`look_of` its frames."""
    thumbs = Thumbs()
    frames = piece if lead is None else np.concatenate([lead, piece])
    watched = watch(frames, fps, _READS, [thumbs])
    first = len(frames) - len(piece)

    def mean(name: str) -> float | None:
        series = watched.series[name]
        values = series.values[first:][series.known[first:]]
        return float(values.mean(dtype=np.float64)) if len(values) else None

    small = thumbs.all().astype(np.float64)
    changes = np.sqrt((np.diff(small, axis=0) ** 2).mean(axis=1))[max(first - 1, 0) :]
    colours = small[first:].reshape(len(piece), -1, 3) / 255
    return Portrait(
        exposure=mean("exposure") or 0.0,
        saturation=mean("saturation") or 0.0,
        sharpness=mean("sharpness") or 0.0,
        motion=float(np.log2((mean("motion_magnitude") or 0.0) + STILL_SPEED)),
        smoothness=mean("motion_smoothness_flow"),
        chroma=(colours - colours.mean(axis=2, keepdims=True)).mean(axis=(0, 1)),
        largest=float(changes.max(initial=0)),
        typical=float(np.median(changes)) if len(changes) else 0.0,
        look=look,
    )


def look_of(features: NDArray[np.floating]) -> Floats:
    """Mean of features ``[N, D]``, of length 1."""
    mean: Floats = features.astype(np.float64).mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-12)


def departures(before: Portrait, piece: Portrait) -> Floats:
    """``[M]``: how far a piece is from the one before.

    A jump counts where it is above the usual, smoothness where it is lost. Units are those of the
    panel's measures of the same names; of the look, 1 - cosine.
    """
    rough = 0.0
    if before.smoothness is not None and piece.smoothness is not None:
        rough = max(0.0, before.smoothness - piece.smoothness)
    return np.array(
        [
            abs(piece.exposure - before.exposure),
            abs(piece.saturation - before.saturation),
            np.linalg.norm(piece.chroma - before.chroma),
            abs(piece.sharpness - before.sharpness),
            abs(piece.motion - before.motion),
            rough,
            max(0.0, np.log2((piece.largest + 1) / (before.typical + 1))),
            apart(before.look, piece.look),
        ]
    )


def apart(first: Floats, second: Floats) -> float:
    """1 - cosine of two looks."""
    return max(0.0, 1.0 - float(first @ second))


def graded(own: Floats, others: Floats) -> Floats:
    """``[K, M]``, 0..1: departures ``own [K, M]`` by those of other true videos ``[V, K, M]``."""
    limit = np.quantile(others, INSIDE, axis=0) + SLACK
    grades: Floats = np.clip((own / limit - 1) / (WORST - 1), 0.0, 1.0)
    return grades


def graded_by(
    truth: Mapping[str, Floats], own: Mapping[str, Sequence[Floats]]
) -> dict[str, list[Floats]]:
    """Name of a video -> grades ``[K, M]`` of each of its continuations.

    ``truth``: departures of the true videos, by name; each is graded by the others alone.
    """
    found = {}
    for name, rows in own.items():
        others = np.stack([row for other, row in truth.items() if other != name])
        found[name] = [graded(row, others[:, : len(row)]) for row in rows]
    return found


def thumbs(frames: Frames) -> NDArray[np.float64]:
    """Features without a network: the frames at 16 x 16, less their mean, ``[N, 768]``."""
    import cv2

    side = (THUMB, THUMB)
    small = [cv2.resize(frame, side, interpolation=cv2.INTER_AREA) for frame in frames]
    rows = np.array(small, np.float64).reshape(len(small), -1) / 255
    return rows - 0.5
