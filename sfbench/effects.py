"""Effect sizes: how large a paired difference is, in no unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from . import stats
from .schema import Better, Estimate

UNIT = "standard deviations"


@dataclass(frozen=True)
class Effect:
    """Two effect sizes of one paired difference."""

    wins: Estimate
    """Share of prompts on which the first is better (without a direction: higher); a tie is half
    a win. Wilson interval."""
    standardised: Estimate
    """d_z: the mean of ``first - second`` in standard deviations of these differences."""


def effect(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    better: Better | None = None,
    over: str = "prompt",
) -> Effect:
    """Effect sizes over the prompts that both have; ``over`` is the word for a prompt."""
    common = sorted(first.keys() & second.keys())
    gaps = {prompt: first[prompt] - second[prompt] for prompt in common}
    sign = -1 if better == "lower" else 1
    won = {prompt: 0.5 + 0.5 * float(np.sign(sign * gap)) for prompt, gap in gaps.items()}
    wins = stats.share(won, unit="share", better="higher", over=over)
    return Effect(wins, _standardised(np.array(list(gaps.values())), over))


def _standardised(gaps: stats.Floats, over: str) -> Estimate:
    """d_z with the interval of the noncentral t distribution, both with Hedges' (1981) correction.

    The correction takes out the bias of small samples; it leaves nothing of a sample of two.
    """
    n = len(gaps)
    if n < 3:
        return stats.missing(f"d_z: needs three {over}s that both have", unit=UNIT)
    deviation = float(gaps.std(ddof=1))
    if deviation <= 1e-9 * float(np.abs(gaps).max()):
        return stats.missing("d_z: all differences are equal", unit=UNIT)
    freedom, t = n - 1, float(gaps.mean()) / deviation * math.sqrt(n)
    gamma = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    scale = math.exp(gamma) * math.sqrt(2 / freedom) / math.sqrt(n)
    half = stats.CONFIDENCE / 2
    low, high = (float(special.nctdtrinc(freedom, p, t)) for p in (0.5 + half, 0.5 - half))
    return Estimate(
        value=round(t * scale, stats.DIGITS),
        low=_finite(low * scale),
        high=_finite(high * scale),
        n=n,
        clusters=n,
        method=f"d_z over {over}s; Hedges' correction, noncentral t",
        unit=UNIT,
    )


def _finite(value: float) -> float | None:
    """Far out, the noncentral t cannot be inverted."""
    return round(value, stats.DIGITS) if math.isfinite(value) else None
