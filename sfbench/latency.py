"""What the arrival times of a stream's chunks say: first frame, gaps, deadlines, steady pace.

A stream is one clip: ``frames[k]`` frames came with chunk ``k``, ``seconds[k]`` after the chunk
before it was handed over (chunk 0: after the call). Times are the harness's (:mod:`.clock`) and end
when the frames are on the CPU. Encoding, scoring and writing lie outside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .schema import Timing

Floats = NDArray[np.float64]

MAD = 1.4826  # times the median absolute deviation: the standard deviation, were it Gaussian
# A stream is warm when its median gap is within this of the late streams' (or three deviations).
WARM = 0.05
# Streams of one turn whose medians spread by more than this were not timed on a quiet machine.
STEADY = 0.10


@dataclass(frozen=True)
class Stream:
    """Chunks of one clip as they arrived."""

    frames: tuple[int, ...]
    seconds: tuple[float, ...]

    @staticmethod
    def of(timing: Timing) -> Stream:
        """From a record; refuses a batch, whose times are not latencies."""
        if timing.batch != 1:
            raise ValueError(f"a batch of {timing.batch} has no latency; run it with --batch 1")
        frames, seconds = zip(*timing.chunks, strict=True)
        return Stream(frames, seconds)

    @property
    def first_frame(self) -> float:
        """Seconds from the call to the first frame: the first chunk, whole."""
        return self.seconds[0]

    @property
    def gaps(self) -> tuple[float, ...]:
        """Seconds between chunks; none where the clip came in one piece."""
        return self.seconds[1:]

    @property
    def jitter(self) -> float | None:
        """Spread of the gaps around their median, in seconds (scaled MAD)."""
        return spread(self.gaps) if self.gaps else None

    def misses(self, fps: float) -> tuple[float, ...]:
        """1 for each chunk that came after the one before it had been played, else 0.

        A viewer at ``fps`` without a buffer: chunk ``k`` is due ``frames[k - 1] / fps`` after the
        arrival of chunk ``k - 1``.
        """
        return tuple(
            float(gap > before / fps)
            for gap, before in zip(self.gaps, self.frames[:-1], strict=True)
        )

    def wait_at(self, frame: int) -> float:
        """Seconds for the chunk that begins at ``frame``, or for the first one after it."""
        starts = np.cumsum((0, *self.frames[:-1]))
        return self.seconds[int(np.argmax(starts >= frame))]

    def pace(self, after: int = 0) -> float | None:
        """Frames a second over the chunks that begin at frame ``after`` or later, not the first."""
        starts = np.cumsum((0, *self.frames[:-1]))
        chosen = [k for k in range(1, len(self.frames)) if starts[k] >= after]
        total = sum(self.seconds[k] for k in chosen)
        return sum(self.frames[k] for k in chosen) / total if total > 0 else None

    @property
    def paces(self) -> tuple[float, ...]:
        """Frames a second of each chunk but the first."""
        return tuple(
            n / max(s, 1e-9) for n, s in zip(self.frames[1:], self.seconds[1:], strict=True)
        )

    @property
    def typical(self) -> float:
        """Median gap in seconds; of a clip in one piece, its whole time."""
        return float(np.median(self.gaps or self.seconds))


def spread(values: Sequence[float]) -> float:
    """Scaled median absolute deviation."""
    array = np.asarray(values, np.float64)
    return float(MAD * np.median(np.abs(array - np.median(array))))


def warm_from(streams: Sequence[Stream]) -> int | None:
    """Index of the first warm stream, in the order they were played; ``None``: fewer than four.

    Warm: its typical gap is no longer than that of the later half by more than :data:`WARM` or
    three deviations.
    """
    if len(streams) < 4:
        return None
    typical = np.array([stream.typical for stream in streams])
    late = typical[len(typical) // 2 :]
    limit = np.median(late) + max(WARM * np.median(late), 3 * spread(late.tolist()))
    return int(np.argmax(typical <= limit))


def noise(turns: Sequence[Sequence[Stream]]) -> float | None:
    """Spread of streams of one turn around its mean, as a share of it (scaled MAD).

    That the turns differ is not counted: intervals over turns hold it. ``None``: no turn has two
    streams. Around the mean of ``k`` values these spread by ``sqrt(1 - 1 / k)`` too little.
    """
    away: list[float] = []
    for streams in turns:
        typical = np.array([stream.typical for stream in streams])
        if len(typical) > 1 and typical.mean() > 0:
            away += (abs(typical / typical.mean() - 1) / np.sqrt(1 - 1 / len(typical))).tolist()
    return float(MAD * np.median(away)) if away else None
