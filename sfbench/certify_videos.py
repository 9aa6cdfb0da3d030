"""A folder of true videos as a source of clips to damage.

A video is either of calibration or of test, never of both, and gives one take: two neighbouring
pieces of one shot, from the first shot that is long enough. ``shots`` takes each shot of the files
for a video of its own; shots of one film are more alike than films, so a folder of many films is
better.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

from . import failures
from .certification import Film
from .certify import CertifyError
from .footage import FootageError, find
from .interfaces import Frames
from .metrics_video import watch
from .video import stream

LENGTH = 48
"""Frames of a piece."""
SIDE = 256
"""Longer side to which a video is shrunk: failures are injected many times over."""
LEAST, EVERY = 24, 3
"""Videos that verdicts need, of which each third tests: 8, as many as damaged clips of the embedded
world, and 16 whose range a true clip of another video leaves in 2 of 17 cases."""


@dataclass(frozen=True)
class Shot:
    """Frames ``start .. stop`` of a file without a cut between them."""

    path: Path
    sha256: str
    start: int
    stop: int


class Piece:
    """Two neighbouring pieces of one shot."""

    text = ""

    def __init__(self, frames: Frames, fps: float, stranger: Frames) -> None:
        half = len(frames) // 2
        self.frames, self.other, self.fps = frames[:half], frames[half:], fps
        self._stranger = stranger

    def damaged(self, failure: str, dose: float) -> Frames:
        """The first piece with a failure of that dose; what is swapped in is another video's."""
        return failures.inject(failure, self.frames, dose, self._stranger)


class Videos:
    """True clips of a folder, or of a ``.jsonl`` manifest."""

    name = "videos"

    def __init__(self, folder: Path, length: int = LENGTH, shots: bool = False) -> None:
        self._length = length
        self._shots = _usable(folder, 2 * length, shots)
        count, what = len(self._shots), "shots" if shots else "videos"
        if count < EVERY:
            raise CertifyError(
                f"'{folder}' holds {count} {what} with {2 * length} frames and no cut between; "
                f"certifying needs {EVERY}, and verdicts {LEAST}."
            )
        files = len({shot.path for shot in self._shots})
        self.words = f"{count} {what} of {files} files, clips of {length} frames"
        self.unjudged = f"needs {LEAST} {what}, here are {count}" if count < LEAST else ""
        self.films = tuple(
            Film(
                name=shot.path.name,
                sha256=shot.sha256,
                frames=(shot.start, shot.stop),
                split="test" if n % EVERY == EVERY - 1 else "selection",
            )
            for n, shot in enumerate(self._shots)
        )

    def take(self, split: str, index: int) -> Piece:
        """Of the ``index``-th video of a split; what is swapped in is the next one's."""
        own = self._of(split)
        shot = own[index]
        rest = [s for s in (*own[index + 1 :], *own[:index]) if s != shot]
        stranger = rest[0] if rest else next(s for s in self._shots if s != shot)
        frames, fps = _piece(shot, 2 * self._length)
        other, _ = _piece(stranger, self._length)
        return Piece(frames, fps, _fitted(other, frames))

    def takes(self, split: str) -> int:
        """One a video."""
        return len(self._of(split))

    def _of(self, split: str) -> list[Shot]:
        return [s for s, film in zip(self._shots, self.films, strict=True) if film.split == split]


def _usable(folder: Path, frames: int, shots: bool) -> list[Shot]:
    """Of every video the first shot that is long enough, or every such shot."""
    found = []
    for video in find(folder):
        if video.fault:
            continue
        with stream(video.path) as reader:
            watched = watch(iter(reader), reader.fps, [])
        ends = pairwise((0, *watched.cuts, watched.frames))
        long = [Shot(video.path, video.sha256, a, b) for a, b in ends if b - a >= frames]
        found += long if shots else long[:1]
    return found


def _piece(shot: Shot, count: int) -> tuple[Frames, float]:
    import cv2

    with stream(shot.path) as reader:
        frames = list(islice(iter(reader), shot.start, shot.start + count))
        scale = min(1.0, SIDE / max(reader.height, reader.width))
        size = round(reader.width * scale), round(reader.height * scale)
        if len(frames) < count:
            raise FootageError(f"{shot.path.name} ends before frame {shot.start + count}.")
        small = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames]
        return np.stack(small).astype(np.uint8), reader.fps


def _fitted(clip: Frames, like: Frames) -> Frames:
    """A clip at the size of another."""
    import cv2

    size = like.shape[2], like.shape[1]
    resized = [cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip]
    return np.stack(resized).astype(np.uint8)
