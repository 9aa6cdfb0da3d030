"""Recovery: how long a generator takes to undo damage that was done to its context."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_rows import Grouped
from .schema import Estimate

Floats = NDArray[np.float64]


def half_life(excess: Grouped, ends: Sequence[float]) -> Estimate:
    """Frames until the excess violation has fallen, for good, to half of its first value.

    ``value`` is ``None`` where that does not happen within the clip, ``high`` where it does not in
    2.5 % of the resampled prompt sets; ``low`` is at the most the clip's end. 0 where the damage
    had no effect to recover from (the interval of the first chunk's excess includes 0).
    """
    unit, name = "frames", "half-life of the excess violation"
    prompts = np.array([np.mean(seeds, axis=0) for seeds in excess.values()])
    n = sum(len(seeds) for seeds in excess.values())
    if len(prompts) < 2:
        return stats.missing(f"n/a: {name}: needs two prompts", unit=unit, better="lower")
    first = stats.mean({p: [row[0] for row in seeds] for p, seeds in excess.items()})
    if first.low is not None and first.low <= 0:
        return Estimate(
            value=0,
            low=None,
            high=None,
            n=n,
            clusters=len(prompts),
            unit=unit,
            better="lower",
            method=f"{name}: no excess in the first chunk",
        )
    value = _half(prompts.mean(axis=0), ends)
    rng = np.random.default_rng(stats.RNG_SEED)
    picks = rng.integers(len(prompts), size=(stats.RESAMPLES, len(prompts)))
    drawn = np.sort([_half(curve, ends) for curve in prompts[picks].mean(axis=1)])
    tail = (1 - stats.CONFIDENCE) / 2
    low, high = (drawn[math.floor(q * (len(drawn) - 1))] for q in (tail, 1 - tail))
    never = "" if math.isfinite(value) else ", never reached"
    return Estimate(
        value=_finite(value),
        low=min(low, float(ends[-1])),
        high=_finite(high),
        n=n,
        clusters=len(prompts),
        unit=unit,
        better="lower",
        method=f"{name}{never}; percentile bootstrap clustered by prompt",
    )


def _half(excess: Floats, ends: Sequence[float]) -> float:
    """End of the last chunk above half the first value; infinite if that is the last of all."""
    above = np.flatnonzero(excess > excess[0] / 2)
    if excess[0] <= 0 or not len(above):
        return 0.0
    return float(ends[above[-1]]) if above[-1] + 1 < len(ends) else math.inf


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
