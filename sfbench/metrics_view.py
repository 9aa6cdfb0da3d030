"""What one pass over a video shows of each frame (:class:`View`), and what it keeps of all.

The measures themselves and the pass are in :mod:`sfbench.metrics_video`.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from . import metrics_flow
from .interfaces import Frames
from .metrics_flow import Flow, Grey
from .video import REC709

TILES = (32, 18)  # width, height
BAND = 64
"""Rows turned to luma at a time: what fits the cache is twice as fast, and takes no memory."""


class View:
    """One frame as the measures see it. What is derived from it is made once, when first used."""

    def __init__(self, rgb: Frames, index: int, fps: float, previous: View | None) -> None:
        self.rgb = rgb
        """``uint8 [H, W, 3]``."""
        self.index = index
        self.fps = fps
        self.previous = previous
        """The frame before, whatever it shows. In a pass, that one's ``previous`` has only what
        is small, and no ``previous``."""

    @cached_property
    def cut(self) -> bool:
        """Whether another shot begins here (:func:`sfbench.metrics_flow.is_cut`)."""
        return self.previous is not None and metrics_flow.is_cut(self.small, self.previous.small)

    @property
    def before(self) -> View | None:
        """The frame before, unless another shot begins here."""
        return None if self.cut else self.previous

    @cached_property
    def luma(self) -> NDArray[np.float32]:
        """Rec. 709 luma ``[H, W]``, 0..255."""
        import cv2

        luma = np.empty(self.rgb.shape[:2], np.float32)
        weights = REC709[None].astype(np.float32)
        for top in range(0, len(luma), BAND):
            rows = slice(top, top + BAND)
            luma[rows] = cv2.transform(self.rgb[rows].astype(np.float32), weights).reshape(
                luma[rows].shape
            )
        return luma

    @cached_property
    def grey(self) -> Grey:
        """:attr:`luma` in whole levels, ``uint8 [H, W]``."""
        import cv2

        return np.asarray(cv2.convertScaleAbs(self.luma), np.uint8)

    @cached_property
    def small(self) -> Grey:
        """:attr:`grey` at the size for flow (:func:`sfbench.metrics_flow.small_size`)."""
        size = metrics_flow.small_size(*self.rgb.shape[:2])
        return metrics_flow.shrink(self.grey, size)

    @cached_property
    def tiles(self) -> NDArray[np.float32]:
        """Mean colours of 18 x 32 tiles, ``[18, 32, 3]``, 0..255."""
        import cv2

        return np.asarray(cv2.resize(self.rgb, TILES, interpolation=cv2.INTER_AREA), np.float32)

    @cached_property
    def flow(self) -> Flow | None:
        """From this frame back to the one before, in small pixels; ``None`` without one."""
        return metrics_flow.flow(self.small, self.before.small) if self.before else None

    @cached_property
    def flow_forth(self) -> Flow | None:
        """From the frame before to this one."""
        return metrics_flow.flow(self.before.small, self.small) if self.before else None

    def forget(self) -> None:
        """Drop what later frames do not need: planes of full size, and all that came before."""
        assert self.small.size and self.tiles.size  # made while they still can be
        self.previous, self.rgb = None, self.rgb[:0]
        for plane in ("luma", "grey"):
            self.__dict__.pop(plane, None)


@dataclass(frozen=True)
class Series:
    """One measure along a video; index is the frame."""

    values: NDArray[np.float32]
    """``[T]``; 0 where there is no value."""
    known: NDArray[np.bool_]
    """``[T]``: where there is one."""

    def windows(self, length: int) -> tuple[float | None, ...]:
        """Means over consecutive windows of ``length`` frames; a shorter rest is a window too."""
        starts = range(0, len(self.values), length)
        parts = [self.values[i : i + length][self.known[i : i + length]] for i in starts]
        return tuple(float(part.mean(dtype=np.float64)) if len(part) else None for part in parts)


@dataclass(frozen=True)
class Watched:
    """What one pass over a video found."""

    values: dict[str, float | None]
    """Mean over the frames that have a value; ``None`` where none has."""
    series: dict[str, Series]
    frames: int
    fps: float
    cuts: tuple[int, ...]
    """First frame of each shot but the first."""

    @property
    def cuts_per_minute(self) -> float | None:
        """A video of many cuts is one whose motion was hardly measured."""
        return 60 * self.fps * len(self.cuts) / self.frames if self.frames else None


class Track:
    """One measure while the video runs: a float and a flag a frame, and an exact sum."""

    def __init__(self) -> None:
        self._values, self._known = array("f"), bytearray()
        self._sum, self._count = 0.0, 0

    def add(self, value: float | None) -> None:
        """The next frame's value."""
        self._known.append(value is not None)
        self._values.append(value or 0.0)
        if value is not None:
            self._sum, self._count = self._sum + value, self._count + 1

    def mean(self) -> float | None:
        """Mean over the frames that have a value."""
        return self._sum / self._count if self._count else None

    def series(self) -> Series:
        """All of it."""
        known = np.frombuffer(bytes(self._known), np.bool_)
        return Series(np.array(self._values, np.float32), known)
