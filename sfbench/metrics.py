"""Pixel measures that need no network and no download: what they are, what they see, what not.

Each maps a clip ``uint8 [T, H, W, 3]`` to one number a frame ``[T]``; :func:`windows` averages
those over consecutive windows. Values are in units of the full range: 1 is white, fully saturated,
or black turning white in one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .interfaces import Frames
from .schema import Better

Floats = NDArray[np.float64]

REC709 = np.array([0.2126, 0.7152, 0.0722])
SAME_LEVELS = 1  # frames that differ by no more than this, of 255, count as equal
REPEAT_RMS = 0.5  # levels of 255; a frame this near to a past one is a copy of it


@dataclass(frozen=True)
class Measure:
    """A metric with its declaration."""

    name: str
    version: int
    better: Better | None
    unit: str
    sees: str
    blind_to: str
    per_frame: Callable[[Frames], Floats]


def windows(values: Floats, length: int) -> Floats:
    """Means over consecutive windows of ``length`` frames; a shorter rest is a window too."""
    starts = np.arange(0, len(values), length)
    counts = np.diff(np.append(starts, len(values)))
    means: Floats = np.add.reduceat(values, starts) / counts
    return means


def luma(frames: Frames) -> Floats:
    """Mean Rec. 709 luma."""
    return _mean(frames @ REC709) / 255


def saturation(frames: Frames) -> Floats:
    """Mean HSV saturation."""
    high = frames.max(-1).astype(np.float64)
    return _mean((high - frames.min(-1)) / np.maximum(high, 1))


def contrast(frames: Frames) -> Floats:
    """Root mean square contrast: standard deviation of luma."""
    values: Floats = (frames @ REC709).std(axis=(1, 2)) / 255
    return values


def sharpness(frames: Frames) -> Floats:
    """Logarithm of the variance of the 4-neighbour Laplacian of luma (in levels of 255)."""
    y = frames @ REC709
    laplacian = (
        y[:, :-2, 1:-1] + y[:, 2:, 1:-1] + y[:, 1:-1, :-2] + y[:, 1:-1, 2:] - 4 * y[:, 1:-1, 1:-1]
    )
    values: Floats = np.log10(laplacian.var(axis=(1, 2)) + 1)
    return values


def motion_energy(frames: Frames) -> Floats:
    """Mean absolute change from the frame before; the first frame takes the second's value."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3)) / 255
    return _lead(change)


def frozen(frames: Frames) -> Floats:
    """1 where a frame equals the one before within a level; the first takes the second's value."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3), initial=0)
    return _lead((change <= SAME_LEVELS).astype(np.float64))


def repeated(frames: Frames, lag: int = 6) -> Floats:
    """1 where a frame is a copy of one at least ``lag`` frames earlier: what a loop looks like."""
    flat = frames.reshape(len(frames), -1).astype(np.float32)
    flat -= flat.mean(axis=0)  # distances stay, rounding shrinks
    square = np.einsum("td,td->t", flat, flat, dtype=np.float64)
    distance = square[:, None] + square[None, :] - 2 * (flat @ flat.T).astype(np.float64)
    near = distance <= flat.shape[1] * REPEAT_RMS**2
    copies: Floats = np.tril(near, -lag).any(axis=1).astype(np.float64)
    return copies


MEASURES = (
    Measure("luma", 1, None, "0..1", "brightening, darkening, collapse", "motion, structure", luma),
    Measure(
        "saturation", 1, None, "0..1", "over-saturation, greying", "motion, structure", saturation
    ),
    Measure("contrast", 1, None, "0..1", "fading, burning out", "motion, hue", contrast),
    Measure(
        "sharpness", 1, None, "log10", "blur (falls), noise (rises)", "motion, colour", sharpness
    ),
    Measure(
        "motion_energy",
        1,
        None,
        "0..1 a frame",
        "freezing, slowing, flicker",
        "where motion goes; noise raises it",
        motion_energy,
    ),
    Measure(
        "frozen", 1, "lower", "share of frames", "exact freezing", "slow motion, loops", frozen
    ),
    Measure(
        "repeated",
        1,
        "lower",
        "share of frames",
        "loops, copies, freezing",
        "loops under fresh noise",
        repeated,
    ),
)


# --- helpers --------------------------------------------------------------------------------------


def _mean(values: NDArray[np.float64]) -> Floats:
    means: Floats = values.mean(axis=(1, 2))
    return means


def _lead(changes: Floats) -> Floats:
    """Per-frame values from the ``T - 1`` changes; a single frame has changed by nothing."""
    return np.concatenate([changes[:1], changes]) if len(changes) else np.zeros(1)
