"""Drift scores of other papers, exactly, so that their numbers can be placed beside ours.

Plain arithmetic on scores that you bring: one number a frame (or a chunk, or a video) of whatever
measure the paper used, computed by whatever computes it::

    from sfbench import compat

    musiq = [...]                              # of every frame, [T]
    compat.contrast(musiq)                     # FramePack, HeliosBench
    compat.vde(compat.chunk_means(musiq))      # LV-Bench
    start, end = compat.end_seconds(len(musiq), fps=16)
    musiq[start], musiq[end]                   # Rolling Forcing: their means over many videos go
                                               # into delta_drift

``sfbench score --task long-horizon`` shows the same formulas on our own proxies. Such figures are
not the papers', whose measures differ: only the formula is theirs. :data:`SCORERS` lists all of
them with what each is blind to; that a frozen video scores best is true of every one.

``T`` frames, ``N`` chunks, ``V`` videos. What a formula has no value for is a :class:`CompatError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import vbench_long

Floats = NDArray[np.float64]
Scores = Sequence[float] | NDArray[np.floating]

ENDS = 0.15
"""Share of a video at either end, in FramePack and HeliosBench."""
SECONDS = 5.0
"""At either end of a video, in Rolling Forcing."""
CHUNKS = 10
"""Of a video, in LV-Bench."""
TINY = 1e-6
"""The corrected VDE divides by no less."""


class CompatError(ValueError):
    """Scores that a formula has no value for; the text is one sentence."""


@dataclass(frozen=True)
class Scorer:
    """One paper's drift score: lower is better, except for the slow-fast consistency."""

    name: str
    source: str
    formula: str
    blind_to: str


SCORERS = {
    scorer.name: scorer
    for scorer in (
        Scorer(
            "contrast",
            "FramePack; HeliosBench takes four: aesthetic, smoothness, semantic, naturalness",
            "|M(first 15 %) - M(last 15 %)|",
            "the middle, and so collapses that recover; freezing; loops; whether M fell or rose",
        ),
        Scorer(
            "delta_drift",
            "Rolling Forcing, on VBench's imaging quality of 200 videos of 30 s",
            "|M(first 5 s) - M(last 5 s)|",
            "the middle, and so collapses that recover; freezing; loops; whether M fell or rose",
        ),
        Scorer(
            "vde",
            "LV-Bench (BlockVid), on six of VBench's measures",
            "sum over chunks i = 2..10 of (11 - i) |m_i - m_1| / m_1",
            "the end, which weighs least; freezing; loops; a video that is bad from its start",
        ),
        Scorer(
            "vde_corrected",
            "ours, after LV-Bench",
            "sum of (i - 1) |m_i - m_1| / (s * sum of (i - 1))",
            "freezing; loops; a video that is bad from its start; whether m fell or rose",
        ),
        Scorer(
            "slow_fast_consistency",
            "VBench-Long, on VBench's subject and background consistency",
            "even mean of the clips' own scores and of clip-to-clip similarity, mapped",
            "freezing and loops, its best videos; it takes true motion and cuts for drift",
        ),
    )
}
"""Every scorer here by the function's name."""


# --- FramePack, HeliosBench -----------------------------------------------------------------------


def contrast(scores: Scores) -> float:
    """FramePack's start-end contrast ``|M(first 15 %) - M(last 15 %)|`` of scores ``[T]``.

    ``M`` is the mean of the frames' scores; a measure of whole clips (ViCLIP, a judge) is to be
    taken on the two slices of :func:`ends` instead. HeliosBench computes four contrasts and maps
    each to 1..10 by thresholds; only the contrast is given here.
    """
    return abs(signed_contrast(scores))


def signed_contrast(scores: Scores) -> float:
    """``M(last 15 %) - M(first 15 %)``: below 0 where scores fell. The published one hides it."""
    values = _known(scores, "a contrast")
    start, end = ends(len(values))
    return float(values[end].mean() - values[start].mean())


def ends(frames: int) -> tuple[slice, slice]:
    """The frames of either end: 15 % of ``T``, rounded down, and at least one.

    So HeliosBench's code does it (``eval/5_get_drifting_aesthetic.py``); FramePack does not say.
    """
    if frames < 2:
        raise CompatError(f"{frames} frames have no two ends; give at least 2.")
    length = max(1, int(ENDS * frames))
    return slice(0, length), slice(frames - length, frames)


# --- LV-Bench, BlockVid ---------------------------------------------------------------------------


def vde(scores: Scores, weights: Literal["linear", "log"] = "linear") -> float:
    """Video Drift Error of chunk scores ``[N]``, as published (Inferix, ``LV-Bench/vde.py``).

    ``sum over i = 2..N of w_i |m_i - m_1| / m_1``, with ``w_i = N - i + 1`` or its natural
    logarithm (``log``; the published figures are linear). Its defects are kept: early chunks weigh
    most, the last one least (with ``log`` nothing, though its description says that it stresses
    late chunks); the sum grows with ``N``; a first score of 0 gives infinity, one below 0 a
    negative error. The source computes in single precision. Of one chunk it says 0, which is
    refused here: no drift was looked for.
    """
    values = _known(scores, "VDE")
    if values[0] == 0:
        return math.inf
    weight = np.arange(len(values) - 1, 0, -1, dtype=np.float64)
    if weights == "log":
        weight = np.log(weight)
    return float((weight * np.abs(values[1:] - values[0])).sum() / values[0])


def vde_corrected(
    scores: Scores,
    scale: float | None = None,
    weights: Literal["rising", "uniform"] = "rising",
) -> float:
    """What the name promises: ``sum of w_i |m_i - m_1| / (scale * sum of w_i)``, scores ``[N]``.

    Four things differ from :func:`vde`. Weights do not fall: they are ``i - 1``, for an error that
    stays is what drift means, or all 1. They are divided by their sum, so that 10 chunks compare
    with 100: a loss of half in every chunk is 0.5. The divisor is ``|m_1|``, so that no error is
    negative, and at least :data:`TINY`, so that none is infinite. And ``scale``, e.g. the range of
    the measure, can be given in place of ``|m_1|``: of a measure that may be near 0 a ratio says
    nothing, and a bad start should not make the rest look steady.
    """
    values = _known(scores, "VDE")
    unit = max(abs(values[0]), TINY) if scale is None else scale
    if not unit > 0:
        raise CompatError(f"A scale of {unit:g} cannot measure a change; give a number above 0.")
    weight = np.arange(1, len(values), dtype=np.float64)
    if weights == "uniform":
        weight = np.ones_like(weight)
    return float((weight * np.abs(values[1:] - values[0])).sum() / (unit * weight.sum()))


def chunks(frames: int, count: int = CHUNKS) -> list[slice]:
    """The frames of each chunk: ``T // count`` of them, so that a rest at the end is left out.

    So LV-Bench cuts a video; it skips one of fewer frames than chunks, which is refused here.
    """
    if frames < count:
        raise CompatError(f"{frames} frames cannot be cut into {count} chunks; give more frames.")
    length = frames // count
    return [slice(n * length, (n + 1) * length) for n in range(count)]


def chunk_means(scores: Scores, count: int = CHUNKS) -> list[float]:
    """Means ``[count]`` of the scores ``[T]`` of each chunk's frames.

    LV-Bench scores every chunk as a video of its own; of a measure that is a mean over frames this
    is the same.
    """
    values = _known(scores, "a chunk", least=count)
    return [float(values[part].mean()) for part in chunks(len(values), count)]


# --- Rolling Forcing ------------------------------------------------------------------------------


def delta_drift(
    first: Scores, last: Scores, reading: Literal["mean of abs", "abs of mean"]
) -> float:
    """Rolling Forcing's delta-drift: imaging quality of the first 5 s against that of the last.

    ``first`` and ``last``: a score a video ``[V]``. The paper does not say whether the difference
    of each video is made absolute before the mean over videos, or that of the means after it. The
    first is never less, and differs as soon as some videos gain and others lose; a user who could
    not reproduce 1.66 found 70.06 - 65.31 = 4.75 by the second (TencentARC/RollingForcing#12). So
    the reading has to be chosen.
    """
    start, end = (_known(scores, "delta-drift", least=1) for scores in (first, last))
    if len(start) != len(end):
        raise CompatError(
            f"{len(start)} first and {len(end)} last scores are not those of the same videos."
        )
    change = end - start
    return float(np.abs(change).mean() if reading == "mean of abs" else abs(change.mean()))


def end_seconds(frames: int, fps: float, seconds: float = SECONDS) -> tuple[slice, slice]:
    """The frames of the first and of the last ``seconds``, rounded to the nearest frame.

    The source does not say how. A video in which the two would overlap is refused.
    """
    length = max(1, round(seconds * fps))
    if frames < 2 * length:
        raise CompatError(
            f"{frames} frames at {fps:g} fps do not hold two ends of {seconds:g} s; give a longer "
            "video or fewer seconds."
        )
    return slice(0, length), slice(frames - length, frames)


# --- VBench-Long ----------------------------------------------------------------------------------

slow_fast_consistency = vbench_long.consistency
"""Subject or background consistency of a long video: in-clip (slow) and clip-to-clip (fast)."""


# --- helpers --------------------------------------------------------------------------------------


def _known(scores: Scores, what: str, least: int = 2) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) < least:
        raise CompatError(
            f"Scores of shape {list(values.shape)} are too few for {what}; give {least} or more in "
            "a row."
        )
    if not np.isfinite(values).all():
        raise CompatError("There is NaN or infinity among the scores; leave out what has no score.")
    return values
