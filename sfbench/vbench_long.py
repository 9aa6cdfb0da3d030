"""VBench-Long's arithmetic: a long video as clips, clip-to-clip consistency, and its fusion.

Every clip is scored by VBench as a video of its own (slow branch). For the two consistencies the
first frames of the clips are compared as well (fast branch), and the two are fused through a table
that was made by matching quantiles of one pair of networks. With other networks, or without the
table, the two parts are given unmapped and unfused. VBench-Long encodes its clips anew and with
loss; slices of the frames differ from those a little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from .schema import Base
from .vbench import VBenchError, known

Floats = NDArray[np.float64]

CLIP_S, LONG_CLIP_S = 2, 10
LONG_CLIPS = {"human_action", "temporal_style", "overall_consistency"}
IN_CLIP_SHARE = 0.5
TINY = 1e-12
"""Least length that a vector is divided by, as in torch's ``normalize``."""


class Networks(Base):
    """Which networks the two branches saw through."""

    in_clip: str
    clip_to_clip: str


MATCHING = {
    "subject_consistency": Networks(in_clip="DINO ViT-B/16", clip_to_clip="DINOv2 ViT-B/14"),
    "background_consistency": Networks(in_clip="CLIP ViT-B/32", clip_to_clip="DreamSim"),
}
"""The networks that VBench-Long's tables were made with."""


class Table(Base):
    """A piecewise-linear map from clip-to-clip scores to the scale of in-clip scores."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    @model_validator(mode="after")
    def _ordered(self) -> Table:
        if len(self.x) != len(self.y) or len(self.x) < 2:
            raise ValueError("a table needs two columns of at least two numbers")
        if not (_rises(self.x, strictly=True) and _rises(self.y, strictly=False)):
            raise ValueError("both columns of a table must rise")
        return self

    def __call__(self, score: float) -> float:
        """The mapped score; beyond the ends it stays at the ends."""
        return float(np.interp(score, self.x, self.y))


class LongScore(Base):
    """One dimension of one long video."""

    in_clip: float
    clip_to_clip: float | None
    """``None``: there is only one clip."""
    mapped: float | None
    fused: float | None
    """``None``: no table was given for these networks."""
    clips: int
    networks: Networks


def clip_seconds(dimension: str, mode: str = "long_vbench_standard") -> int:
    """Seconds of a clip; in ``long_custom_input`` all dimensions take the short one."""
    known(dimension)
    standard = mode == "long_vbench_standard"
    return LONG_CLIP_S if standard and dimension in LONG_CLIPS else CLIP_S


def slices(frames: int, fps: float, seconds: float) -> list[tuple[int, int]]:
    """``(start, stop)`` of each clip of a video of ``frames`` frames.

    Rate and seconds are cut to whole numbers first, as VBench-Long does it. A video shorter than a
    clip is one clip. What is left over at the end becomes one more clip of full length, which
    begins inside the clip before it.
    """
    length = int(fps) * int(seconds)
    if length < 1 or frames < 1:
        raise VBenchError(
            f"{frames} frames at {fps:g} fps cannot be cut into clips of {seconds:g} s; "
            "both the rate and the seconds must be at least 1."
        )
    if frames < length:
        return [(0, frames)]
    starts = list(range(0, frames - length + 1, length))
    if frames % length:
        starts.append(frames - length)
    return [(start, start + length) for start in starts]


def in_clip(scores: Sequence[float]) -> float:
    """A video's slow branch: the mean over its clips."""
    if not scores or not all(map(math.isfinite, scores)):
        raise VBenchError(f"{list(scores)} are not the scores of clips; each must be a number.")
    return math.fsum(scores) / len(scores)


def clip_to_clip(embeddings: NDArray[np.floating]) -> float | None:
    """A video's fast branch, from one embedding a clip ``[clips, features]`` in time order.

    The mean over the clips after the first of ``(cos+(previous, this) + cos+(first, this)) / 2``,
    where ``cos+`` is the cosine, at least 0. ``None`` for one clip.
    """
    if embeddings.ndim != 2 or not len(embeddings) or not np.isfinite(embeddings).all():
        raise VBenchError(
            f"Embeddings of shape {list(embeddings.shape)} cannot be compared; give finite numbers "
            "[clips, features]."
        )
    if len(embeddings) == 1:
        return None
    raw: Floats = embeddings.astype(np.float64)
    unit = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), TINY)
    to_previous = np.maximum(0.0, (unit[:-1] * unit[1:]).sum(axis=1))
    to_first = np.maximum(0.0, unit[1:] @ unit[0])
    return float(((to_previous + to_first) / 2).mean())


def fuse(clips: float, mapped: float) -> float:
    """The even mean of both branches; a mapped score of 0 says that there was only one clip."""
    return clips if mapped == 0 else IN_CLIP_SHARE * clips + (1 - IN_CLIP_SHARE) * mapped


def consistency(
    dimension: str,
    scores: Sequence[float],
    embeddings: NDArray[np.floating],
    networks: Networks,
    table: Table | None = None,
) -> LongScore:
    """Subject or background consistency of one video; fused only with ``table``.

    ``scores`` are VBench's of each clip, ``embeddings [clips, features]`` those of the clips' first
    frames. A table with other networks than :data:`MATCHING` is refused: it belongs to those.
    """
    if dimension not in MATCHING:
        raise VBenchError(f"{dimension} has no clip-to-clip branch; choose from {_names()}.")
    if len(scores) != len(embeddings):
        raise VBenchError(f"There are {len(scores)} scores for {len(embeddings)} first frames.")
    if table is not None and networks != MATCHING[dimension]:
        right = MATCHING[dimension]
        raise VBenchError(
            f"The table of {dimension} belongs to {right.in_clip} and {right.clip_to_clip}, not to "
            f"{networks.in_clip} and {networks.clip_to_clip}; leave it out."
        )
    clips, between = in_clip(scores), clip_to_clip(embeddings)
    mapped = None if table is None or between is None else table(between)
    return LongScore(
        in_clip=clips,
        clip_to_clip=between,
        mapped=mapped,
        fused=None if table is None else fuse(clips, mapped or 0.0),
        clips=len(scores),
        networks=networks,
    )


def _names() -> str:
    return " and ".join(MATCHING)


def _rises(values: Sequence[float], *, strictly: bool) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() if strictly else (steps >= 0).all())
