"""Growth: whether the exposure gap grows linearly with the length of the own context, or faster.

He et al. (EMNLP 2021) found the bias limited, Arora et al. (2022) found it faster than linear. The
gap after ``k`` chunks of own context, which is 0 at ``k = 0`` where both contexts are the true
prefix, is fitted by ``a k`` and by ``a k + b k^2, b >= 0``, which contains it: the second must be
worth its parameter. A quadratic because regret theory of imitation learning has it (Ross and
Bagnell 2010), because it is linear in its parameters, and because over a few chunks an exponential
is hardly anything else. The two are compared by the Bayesian information criterion (Schwarz 1978).

Errors of one clip go together, so prompts are what is counted, not chunks: the part of ``k^2`` that
``k`` cannot explain makes one number of each prompt's curve, its own ``b``, and the criterion is
that of ``b = 0`` against any ``b >= 0`` for these independent numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_rows import Grouped
from .schema import Estimate

Floats = NDArray[np.float64]

OF = "BIC of linear growth less that of faster growth"
FASTER, LINEAR, NONE = "faster than linear", "linear or slower", "none"
UNTOLD = "not told apart from linear"
POSITIVE = 2.0  # from here on a difference is positive evidence (Kass and Raftery 1995)
LEAST_PROMPTS, LEAST_CHUNKS = 3, 3


def growth_class(gap: Grouped, gap_level: Estimate) -> Estimate:
    """Above 0: faster than linear. The class in words, which asks for more, stands in ``method``.

    At :data:`POSITIVE` linear growth is called faster in 3 % of samples of 8 prompts, and in 1 % of
    32; at 0 it would be in 9 and 3 %. ``gap``: rows of ``own - true``, one value a chunk, the first
    under equal contexts; ``gap_level``: its mean, whose interval says whether there is a gap.

    The interval shows how the evidence varies over resamples and is not calibrated: of 8 to 32
    prompts it holds the evidence of so many average ones in 71 to 95 %, for resamples repeat
    prompts and so overstate it.
    """
    curves = np.array([np.mean(np.asarray(rows, np.float64), axis=0) for rows in gap.values()])
    if len(curves) < LEAST_PROMPTS or curves.shape[1] < LEAST_CHUNKS:
        reason = f"n/a: {OF} needs {LEAST_PROMPTS} prompts and {LEAST_CHUNKS} chunks"
        return stats.missing(reason, better="lower")
    bends = curvature(curves)
    value = evidence(bends[None])[0]
    picks = np.random.default_rng(stats.RNG_SEED).integers(
        len(bends), size=(stats.RESAMPLES, len(bends))
    )
    tail = (1 - stats.CONFIDENCE) / 2
    low, high = np.quantile(evidence(bends[picks]), [tail, 1 - tail])
    word = LINEAR if value <= 0 else FASTER if value > POSITIVE else UNTOLD
    if gap_level.low is not None and gap_level.low <= 0:
        word = f"{NONE} (the gap is not shown to be above 0)"
    return Estimate(
        value=round(float(value), stats.DIGITS),
        low=round(float(low), stats.DIGITS),
        high=round(float(high), stats.DIGITS),
        n=sum(len(rows) for rows in gap.values()),
        clusters=len(curves),
        method=f"growth: {word}; {OF}; percentile bootstrap over prompts, not calibrated",
        better="lower",
    )


def curvature(curves: Floats) -> Floats:
    """Least-squares ``b`` of ``a k + b k^2`` for each curve ``[prompts, chunks]``, ``k`` from 0."""
    k = np.arange(curves.shape[1], dtype=np.float64)
    bend = k**2 - (k**3).sum() / (k**2).sum() * k  # orthogonal to k
    found: Floats = curves @ bend / (bend @ bend)
    return found


def evidence(bends: Floats) -> Floats:
    """BIC of ``b = 0`` less BIC of ``b >= 0``, for samples ``[..., prompts]`` of normal numbers."""
    n = bends.shape[-1]
    least = n * 10.0 ** (-2 * stats.DIGITS)  # curves are no finer than their digits
    middle = bends.mean(axis=-1)
    straight = (bends**2).sum(axis=-1) + least
    bent = ((bends - middle[..., None]) ** 2).sum(axis=-1) + least
    found: Floats = np.where(middle > 0, n * np.log(straight / bent), 0.0) - math.log(n)
    return found
