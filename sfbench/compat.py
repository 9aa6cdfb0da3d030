"""Drift scores of other papers, exactly, so that their numbers can be placed beside ours.

Plain arithmetic on scores that you bring: one number a frame or a chunk of whatever measure the
paper used (MUSIQ, a LAION aesthetic score, ...). On our proxies these formulas are shown by
``sfbench score --task long-horizon``; such figures are not the papers' own, whose measures differ.

>>> contrast([0.9] * 85 + [0.6] * 15)
0.3

What they share: a frozen video scores best in all of them, and none sees a video that is bad from
its start. :func:`contrast` and :func:`delta_drift` are blind to whatever recovers before the end
and to everything in the middle; :func:`vde` as published weighs the end least. VBench-Long's
slow-fast consistency is in :mod:`sfbench.vbench_long` (:func:`.in_clip`, :func:`.clip_to_clip`) and
is named here to be found.

``T`` frames, ``N`` chunks, ``V`` videos.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .vbench_long import clip_to_clip as slow_fast_between
from .vbench_long import in_clip as slow_fast_within

__all__ = [
    "chunks",
    "contrast",
    "delta_drift",
    "signed_contrast",
    "slow_fast_between",
    "slow_fast_within",
    "vde",
    "vde_corrected",
]

Floats = NDArray[np.float64]
Weights = Literal["linear", "log"]

ENDS = 0.15
"""Share of a video at either end: FramePack's, which HeliosBench took over."""
CHUNKS = 10
"""Chunks of a video in LV-Bench."""


class CompatError(ValueError):
    """Scores that a formula has no value for; the text is one sentence."""


# --- FramePack, HeliosBench -----------------------------------------------------------------------


def contrast(scores: Sequence[float]) -> float:
    """FramePack's start-end contrast of the scores ``[T]``: ``|M(first 15 %) - M(last 15 %)|``.

    ``M`` is the mean. Neither FramePack nor HeliosBench says how 15 % of ``T`` frames is made
    whole; here it is rounded to the nearest, and is one frame at the least.
    """
    return abs(signed_contrast(scores))


def signed_contrast(scores: Sequence[float]) -> float:
    """The same with its sign: below 0 where the end scores less. The published one loses it."""
    values = _known(scores, least=2)
    length = max(1, round(ENDS * len(values)))
    return _plain(values[-length:].mean() - values[:length].mean())


# --- LV-Bench, BlockVid ---------------------------------------------------------------------------


def vde(scores: Sequence[float], weights: Weights = "linear") -> float:
    """Video Drift Error of chunk scores ``[N]``, as published with LV-Bench (BlockVid).

    ``sum over i = 2..N of w_i |m_i - m_1| / m_1`` with ``w_i = N - i + 1``, or its natural
    logarithm (``log``). So the chunk after the first weighs most and the last one least: with
    ``log`` nothing at all, though its description says that it stresses late chunks. The sum is
    not divided by the weights, and grows with ``N``. A first score of 0 gives no number, one below
    0 a negative error. (alibaba-damo-academy/Inferix, ``LV-Bench/vde.py``, read at 479c9ba.)
    """
    values = _known(scores, least=2)
    if values[0] == 0:
        raise CompatError("VDE divides by the first chunk's score, which is 0 here.")
    weight = np.arange(len(values) - 1, 0, -1, dtype=np.float64)
    if weights == "log":
        weight = np.log(weight)
    return _plain((weight * np.abs(values[1:] - values[0])).sum() / values[0])


def vde_corrected(scores: Sequence[float], scale: float) -> float:
    """The error that the name promises: ``sum of w_i |m_i - m_1| / (scale * sum of w_i)``.

    Three things differ from :func:`vde`. Weights ``w_i = i - 1`` rise, as errors that last are
    what drift means. They are divided by their sum, so that ten chunks and a hundred compare. And
    the unit is a stated ``scale`` (the range of the measure, say), not the first chunk's score,
    which makes a bad start look steady and has no meaning for a measure that may be 0.
    """
    values = _known(scores, least=2)
    if not scale > 0:
        raise CompatError(f"A scale of {scale:g} cannot measure anything; give a number above 0.")
    weight = np.arange(1, len(values), dtype=np.float64)
    return _plain((weight * np.abs(values[1:] - values[0])).sum() / (scale * weight.sum()))


def chunks(scores: Sequence[float], count: int = CHUNKS) -> tuple[float, ...]:
    """Means ``[count]`` over equal parts of the scores ``[T]``; the first ones hold the rest.

    LV-Bench scores each chunk as a video; of a measure that is a mean over frames this is the same.
    """
    values = _known(scores, least=count)
    return tuple(float(part.mean()) for part in np.array_split(values, count))


# --- Rolling Forcing ------------------------------------------------------------------------------


def delta_drift(
    first: Sequence[float], last: Sequence[float], reading: Literal["mean of abs", "abs of mean"]
) -> float:
    """Rolling Forcing's delta-drift: imaging quality of the first 5 s against that of the last.

    ``first`` and ``last``: a score a video ``[V]``, over 200 videos of 30 s in the paper. It does
    not say whether the difference is made absolute before the mean over videos or after it. The
    two differ as soon as some videos get better and others worse, so both are offered.
    """
    start, end = _known(first, least=1), _known(last, least=1)
    if len(start) != len(end):
        raise CompatError(
            f"{len(start)} first and {len(end)} last scores are not those of the same videos."
        )
    change = end - start
    return _plain(np.abs(change).mean() if reading == "mean of abs" else abs(change.mean()))


# --- helpers --------------------------------------------------------------------------------------


def _known(scores: Sequence[float], least: int) -> Floats:
    values = np.asarray(scores, np.float64)
    if values.ndim != 1 or len(values) < least:
        raise CompatError(
            f"Scores of shape {list(values.shape)} are too few; give at least {least} in a row."
        )
    if not np.isfinite(values).all():
        raise CompatError("Scores must be numbers: there is NaN or infinity among them.")
    return values


def _plain(value: float) -> float:
    """Without the dust of floating point."""
    return round(float(value), 12) + 0.0
