"""What a metric declares, and the measures of clips in memory that need nothing but numpy.

A :class:`Measure` maps a clip ``uint8 [T, H, W, 3]`` to one number a frame ``[T]``;
:func:`windows` averages those over consecutive windows. Values are in units of the full range:
1 is white, or black turning white in one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from .failures import FAILURES
from .interfaces import Frames
from .schema import Better
from .video import REC709

if TYPE_CHECKING:
    from .panel import Clip

Floats = NDArray[np.float64]

SAME_LEVELS = 1  # frames that differ by no more than this, of 255, count as equal
REPEAT_RMS = 2.0  # levels of 255; a frame this near to a past one is a copy of it, noise aside


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric says of itself; ``sfbench certify`` holds it to that."""

    name: str
    version: int = 1
    better: Better | None
    unit: str
    bounds: tuple[float | None, float | None]
    resolution: float
    """Values nearer to each other than this are equal: what a nuisance may do."""
    sees: tuple[str, ...] = ()
    """Of :data:`.failures.FAILURES`, those that its value for a whole clip gives away from the
    smallest dose on."""
    partly: tuple[str, ...] = ()
    """Those that move it without its telling them reliably: at large doses alone, in some clips,
    or by less than truth varies."""
    note: str
    """What moves it, in words, and what it takes for something else."""

    def __post_init__(self) -> None:
        named = [*self.sees, *self.partly]
        for name in named:
            if named.count(name) > 1 or name not in FAILURES:
                raise ValueError(
                    f"Metric {self.name} declares '{name}' twice, or there is no such failure."
                )

    @property
    def blind_to(self) -> tuple[str, ...]:
        """All that is neither seen nor partly seen; that none of it moves the metric is certified
        as strictly as what it sees."""
        return tuple(name for name in FAILURES if self.declared(name) == "blind_to")

    def declared(self, failure: str) -> Literal["sees", "partly", "blind_to"]:
        """Its one label for a failure."""
        if failure in self.sees:
            return "sees"
        return "partly" if failure in self.partly else "blind_to"

    def value(self, clip: Clip) -> float | None:
        """Of a whole clip; ``None`` where it has none."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Measure(Metric):
    """A metric with a value for each frame of a clip in memory."""

    per_frame: Callable[[Frames], Floats]

    def value(self, clip: Clip) -> float | None:
        """Mean over the frames."""
        return None if clip.frames is None else float(self.per_frame(clip.frames).mean())


def windows(values: Floats, length: int) -> Floats:
    """Means over consecutive windows of ``length`` frames; a shorter rest is a window too."""
    starts = np.arange(0, len(values), length)
    counts = np.diff(np.append(starts, len(values)))
    means: Floats = np.add.reduceat(values, starts) / counts
    return means


def contrast(frames: Frames) -> Floats:
    """Root mean square contrast: standard deviation of luma."""
    values: Floats = (frames @ REC709).std(axis=(1, 2)) / 255
    return values


def motion_energy(frames: Frames) -> Floats:
    """Mean absolute change from the frame before; the first frame takes the second's value."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3)) / 255
    return _lead(change)


def frozen(frames: Frames) -> Floats:
    """1 where a frame equals the one before within a level; the first takes the second's value."""
    change = np.abs(np.diff(frames.astype(np.int16), axis=0)).max(axis=(1, 2, 3), initial=0)
    return _lead((change <= SAME_LEVELS).astype(np.float64))


def still(frames: Frames) -> Floats:
    """1 where a frame is the one before, noise aside (RMS); 0 for the first."""
    steps = np.diff(frames.astype(np.float32), axis=0)
    same = np.sqrt((steps**2).mean(axis=(1, 2, 3))) <= REPEAT_RMS
    return np.append(0.0, same.astype(np.float64))


def longest_run(marked: Floats) -> int:
    """Length of the longest run of ones."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked > 0, [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def repeated(frames: Frames, lag: int = 6) -> Floats:
    """1 where a frame is a copy of one at least ``lag`` frames earlier: what a loop looks like.

    Each frame's mean is left out, so that a flicker of brightness hides no copy.
    """
    levels = frames.astype(np.float32)
    flat = (levels - levels.mean(axis=(1, 2, 3), keepdims=True)).reshape(len(frames), -1)
    flat -= flat.mean(axis=0)  # distances stay, rounding shrinks
    square = np.einsum("td,td->t", flat, flat, dtype=np.float64)
    distance = square[:, None] + square[None, :] - 2 * (flat @ flat.T).astype(np.float64)
    near = distance <= flat.shape[1] * REPEAT_RMS**2
    copies: Floats = np.tril(near, -lag).any(axis=1).astype(np.float64)
    return copies


MEASURES = (
    Measure(
        name="contrast",
        better=None,
        unit="0..1",
        bounds=(0, 1),
        resolution=0.005,
        partly=("noise", "collapse"),
        note="fading and burning out, where both ends are of one scene: scenes differ by more; not "
        "hue, not motion",
        per_frame=contrast,
    ),
    Measure(
        name="motion_energy",
        better=None,
        unit="0..1 a frame",
        bounds=(0, 1),
        resolution=0.002,
        sees=("noise", "jump", "regression"),
        partly=("exposure", "freeze", "frozen", "slowdown"),
        note="flicker, noise and returns raise it; freezing and slowing lower it, by less than "
        "scenes differ; not where motion goes",
        per_frame=motion_energy,
    ),
    Measure(
        name="frozen",
        better="lower",
        unit="share of frames",
        bounds=(0, 1),
        resolution=0.02,
        sees=("freeze", "frozen"),
        partly=("collapse",),
        note="exact freezing; not slow motion, not freezing under noise; a picture that is gone "
        "stands still",
        per_frame=frozen,
    ),
    Measure(
        name="repeated",
        version=2,
        better="lower",
        unit="share of frames",
        bounds=(0, 1),
        resolution=0.02,
        partly=("freeze", "frozen", "loop", "regression"),
        note="loops, copies, freezing, by less than truth varies: a small world comes back to the "
        "same place by itself",
        per_frame=repeated,
    ),
)


# --- helpers --------------------------------------------------------------------------------------


def _mean(values: NDArray[np.float64]) -> Floats:
    means: Floats = values.mean(axis=(1, 2))
    return means


def _lead(changes: Floats) -> Floats:
    """Per-frame values from the ``T - 1`` changes; a single frame has changed by nothing."""
    return np.concatenate([changes[:1], changes]) if len(changes) else np.zeros(1)
