"""Recovery: how long a generator takes to undo damage that was done to its context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_rows import Grouped
from .schema import Estimate

Floats = NDArray[np.float64]

CALIBRATED = 16
"""Prompts from which on the interval covers: 96 % and more with 32, as little as 90 with 8."""
UNIT, NAME = "frames", "half-life of the excess violation"


def half_life(excess: Grouped, ends: Sequence[float]) -> Estimate:
    """Frames until the excess violation has fallen, for good, to half of its first value.

    ``value`` is ``None`` where that does not happen within the clip, ``high`` where it does not in
    2.5 % of the resampled prompt sets; ``low`` is at the most the clip's end. 0 where the damage
    had no effect to recover from (the interval of the first chunk's excess includes 0). ``method``
    says which of these it is.
    """
    prompts = np.array([np.mean(seeds, axis=0) for seeds in excess.values()])
    n = sum(len(seeds) for seeds in excess.values())
    if len(prompts) < 2:
        return stats.missing(f"n/a: {NAME}: needs two prompts", unit=UNIT, better="lower")
    if _no_effect(excess):
        return Estimate(
            value=0,
            low=None,
            high=None,
            n=n,
            clusters=len(prompts),
            unit=UNIT,
            better="lower",
            method=f"{NAME}: no excess in the first chunk",
        )
    value = float(_halves(prompts.mean(axis=0), ends))
    rng = np.random.default_rng(stats.RNG_SEED)
    picks = rng.integers(len(prompts), size=(stats.RESAMPLES, len(prompts)))
    drawn = np.sort(_halves(prompts[picks].mean(axis=1), ends))
    tail = (1 - stats.CONFIDENCE) / 2
    low, high = (drawn[math.floor(q * (len(drawn) - 1))] for q in (tail, 1 - tail))
    notes = [NAME if math.isfinite(value) else f"{NAME}, never reached"]
    notes.append("percentile bootstrap clustered by prompt")
    if len(prompts) < CALIBRATED:
        notes.append(f"not calibrated for fewer than {CALIBRATED} prompts")
    if math.isfinite(value) and math.isinf(high):
        notes.append(f"the upper end is open: not reached in {tail:.1%} of resamples or more")
    return Estimate(
        value=_finite(value),
        low=min(low, float(ends[-1])),
        high=_finite(high),
        n=n,
        clusters=len(prompts),
        unit=UNIT,
        better="lower",
        method="; ".join(notes),
    )


def difference(
    first: Grouped,
    second: Grouped,
    ends: tuple[Sequence[float], Sequence[float]],
    *,
    confidence: float = stats.CONFIDENCE,
) -> Estimate:
    """Half-life of the first less that of the second, over the prompts that both have.

    A half-life that is not reached within the clip is longer than the clip, no more is known. So a
    resample that only the second does not reach says that the difference lies *below* the first's
    less the clip's end; one that neither reaches says nothing. Each end of the interval is the
    quantile of what the resamples leave possible, ``None`` where that has no bound: the difference
    has a sign where all but 2.5 % of resamples have that sign for certain. ``value`` is ``None``
    where one side does not reach its half-life.
    """
    common = sorted(first.keys() & second.keys())
    sides = [{prompt: side[prompt] for prompt in common} for side in (first, second)]
    if reason := _no_difference(sides, ends):
        return stats.missing(f"n/a: {reason}", unit=UNIT, better="lower")
    curves = [np.array([np.mean(seeds, axis=0) for seeds in side.values()]) for side in sides]
    one, other = (float(_halves(c.mean(axis=0), e)) for c, e in zip(curves, ends, strict=True))
    tail = (1 - confidence) / 2
    most = max(stats.RESAMPLES, int(stats.MEMORY / len(common)))
    count = min(max(stats.RESAMPLES, math.ceil(stats.TAIL / tail)), most)
    weights = _resamples(len(common), count)
    means = [weights @ curve for curve in curves]
    drawn = [_halves(rows, e) for rows, e in zip(means, ends, strict=True)]
    least, greatest = _bounds(drawn[0], drawn[1], (ends[0][-1], ends[1][-1]))
    beyond = math.floor(tail * (count - 1))
    never = [w for w, v in (("first", one), ("second", other)) if math.isinf(v)]
    return Estimate(
        value=_finite(one - other),
        low=_finite(np.sort(least)[beyond]),
        high=_finite(np.sort(greatest)[count - 1 - beyond]),
        n=sum(len(seeds) for side in sides for seeds in side.values()),
        clusters=len(common),
        unit=UNIT,
        better="lower",
        confidence=confidence,
        method=f"difference of the {NAME}{f', the {never[0]} never reached' if never else ''}; "
        f"percentile bootstrap over prompts, of both together: the first's is shorter in "
        f"{np.mean(greatest < 0):.1%} of resamples, longer in {np.mean(least > 0):.1%}; one not "
        "reached counts as longer than the clip, two as not told apart, and an end they leave "
        "without a bound is open",
    )


# --- helpers --------------------------------------------------------------------------------------


def _no_difference(sides: Sequence[Grouped], ends: tuple[Sequence[float], Sequence[float]]) -> str:
    """Why two half-lives cannot be held against each other; else empty."""
    count = len(sides[0])
    if count < stats.FEW:
        return f"{NAME}: needs {stats.FEW} prompts that both have, has {count}"
    for word, side in zip(("first", "second"), sides, strict=True):
        if _no_effect(side):
            return f"{NAME}: no excess in the first chunk of the {word}, so nothing to recover from"
    whole = [np.mean([np.mean(seeds, axis=0) for seeds in side.values()], axis=0) for side in sides]
    if all(math.isinf(_halves(curve, e)) for curve, e in zip(whole, ends, strict=True)):
        return f"{NAME}: reached by neither within the clip"
    return ""


@lru_cache(maxsize=4)
def _resamples(n: int, count: int) -> Floats:
    """Weights of the prompts in each resample, ``[count, n]``; always the same."""
    drawn = np.random.default_rng(stats.RNG_SEED).multinomial(n, np.full(n, 1 / n), count)
    weights: Floats = drawn / n
    weights.flags.writeable = False
    return weights


def _no_effect(excess: Grouped) -> bool:
    """Whether the first chunk shows no damage."""
    first = stats.mean({p: [row[0] for row in seeds] for p, seeds in excess.items()})
    return first.low is not None and first.low <= 0


def _halves(curves: Floats, ends: Sequence[float]) -> Floats:
    """End of the last chunk above half the first value, of curves ``[..., chunks]``.

    Infinite if that is the last chunk of all; 0 where the first value is not above 0.
    """
    above = curves > curves[..., :1] / 2
    last = above.shape[-1] - 1 - np.argmax(above[..., ::-1], axis=-1)
    reached: Floats = np.append(np.asarray(ends, np.float64)[:-1], np.inf)[last]
    return np.where((curves[..., 0] <= 0) | ~above.any(axis=-1), 0.0, reached)


def _bounds(first: Floats, second: Floats, clips: tuple[float, float]) -> tuple[Floats, Floats]:
    """Least and greatest possible ``first - second``; infinite ones are longer than their clip."""
    known = np.minimum(first, clips[0]) - np.minimum(second, clips[1])
    least = np.where(np.isinf(second), -np.inf, known)
    greatest = np.where(np.isinf(first), np.inf, known)
    return least, greatest


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
