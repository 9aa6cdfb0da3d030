"""A folder of true videos as a source of clips to damage: each is cut into neighbouring pieces."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np

from . import failures
from .certify import CALIBRATION, CertifyError
from .footage import FootageError, find
from .interfaces import Frames
from .video import stream

LENGTH = 48
"""Frames of a piece."""
SIDE = 256
"""Longer side to which a video is shrunk: failures are injected many times over."""


class Piece:
    """Two neighbouring pieces of one video."""

    text = ""

    def __init__(self, frames: Frames, fps: float, stranger: Frames) -> None:
        self.frames, self.other, self.fps = frames[:LENGTH], frames[LENGTH:], fps
        self._stranger = stranger

    def damaged(self, failure: str, dose: float) -> Frames:
        """The first piece with a failure of that dose; what is swapped in is another video's."""
        return failures.inject(failure, self.frames, dose, self._stranger)


class Videos:
    """True clips of a folder: each video is cut into pieces, and neighbours make a take."""

    name = "videos"

    def __init__(self, folder: Path) -> None:
        self._files = [v.path for v in find(folder) if not v.fault]
        self._places = [
            (path, start)
            for path in self._files
            for start in range(0, _length(path) - 2 * LENGTH + 1, 2 * LENGTH)
        ]
        need = CALIBRATION // 4
        if len(self._files) < 2 or len(self._places) < 2 * need:
            raise CertifyError(
                f"'{folder}' holds {len(self._places)} pieces of {2 * LENGTH} frames in "
                f"{len(self._files)} videos; certifying needs two videos and {2 * need} pieces."
            )
        self.words = f"{len(self._files)} videos, {len(self._places)} pieces of {LENGTH} frames"

    def take(self, split: str, index: int) -> Piece:
        """Even places calibrate and odd ones test; few places come again."""
        places = self._places[0 if split == "selection" else 1 :: 2]
        path, start = places[index % len(places)]
        stranger = next(p for p in self._files if p != path)
        frames, fps = _piece(path, start, 2 * LENGTH)
        other, _ = _piece(stranger, 0, LENGTH)
        return Piece(frames, fps, _fitted(other, frames))


def _length(path: Path) -> int:
    with stream(path) as reader:
        return reader.declared_frames or 0


def _piece(path: Path, start: int, count: int) -> tuple[Frames, float]:
    import cv2

    with stream(path) as reader:
        frames = list(islice(iter(reader), start, start + count))
        scale = min(1.0, SIDE / max(reader.height, reader.width))
        size = round(reader.width * scale), round(reader.height * scale)
        if len(frames) < count:
            raise FootageError(f"{path.name} ends before frame {start + count}.")
        small = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
        return np.stack(small).astype(np.uint8), reader.fps


def _fitted(clip: Frames, like: Frames) -> Frames:
    """A clip at the size of another."""
    import cv2

    size = like.shape[2], like.shape[1]
    resized = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip]
    return np.stack(resized).astype(np.uint8)
