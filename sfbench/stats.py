"""Estimates with intervals: every published number is made here.

The unit of sampling is the *cluster*: the prompt or, of a timing, the turn. Seeds of one prompt are
averaged first, then prompts are resampled, so that more seeds never pretend to be more prompts. A
sample is given as ``{prompt: values of its seeds}`` or, where there is one number a prompt,
``{prompt: value}``. With fewer than two prompts there is no interval: ``low`` and ``high`` are
``None``, never +-0. Where all prompts differ by exactly as much, nothing tells how far off that
difference is: it has no interval either, unless its unit bounds it.

Means and paired differences have the symmetric bootstrap-t interval (Hall 1988, "On symmetric
bootstrap confidence intervals"), not scipy's BCa: on skewed samples of 16 prompts that are piled at
a bound BCa covers 88 to 93 % instead of 95, and of two equal models it tells apart 7 to 10 %.
``tests/test_coverage.py`` shows what this one does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .schema import Better, Estimate

Floats = NDArray[np.float64]
Sample = Mapping[str, float | Sequence[float]]

CONFIDENCE = 0.95
RESAMPLES = 2000
RNG_SEED = 20250609
DIGITS = 5
FEW, MANY = 8, 1000
"""Clusters: under the first resamples are too coarse, from the second on they add nothing."""
TAIL = 20  # resamples that must lie beyond the limit of an interval
RANGES = {unit: (0.0, 1.0) for unit in ("0..1", "share", "share lost", "share of frames")}
"""Of quantities whose unit says so: a mean of few prompts has an interval that does not."""
MEMORY = 2e7  # numbers in a table of resamples
LEAST_SPREAD, LEAST_OF_FEW, FEWER = 0.15, 0.08, 12
"""The least spread of a resample, as a share of the sample's; that of fewer prompts than 12. With
0.15 the mean of 8 prompts of which most lie at a bound is covered in 91.5 % of samples only."""
UNTOLD = "nothing tells how far off this is"


def missing(reason: str, *, unit: str = "", better: Better | None = None) -> Estimate:
    """Nothing was measured; ``reason`` says why."""
    return Estimate(
        value=None, low=None, high=None, n=0, clusters=0, method=reason, unit=unit, better=better
    )


def by_prompt(sample: Sample) -> dict[str, float]:
    """Mean over the seeds of each prompt; a prompt without any finite value is left out."""
    return _averaged(sample)[0]


def mean(
    sample: Sample,
    *,
    unit: str = "",
    better: Better | None = None,
    of: str = "mean",
    over: str = "prompt",
) -> Estimate:
    """Mean over prompts with a clustered interval.

    ``of`` opens the method's text, ``over`` is its word for a cluster. An extreme at which several
    prompts lie is taken for a bound of the quantity, which the interval does not pass.
    """
    clusters, n = _averaged(sample)
    values = np.sort(list(clusters.values()))
    found = _mean(values, n, CONFIDENCE, of, over, unit, better)
    if found.low is None or found.high is None:
        return found
    least, most = RANGES.get(unit, (-math.inf, math.inf))
    low = max(found.low, least, _round(values[0]) if values[0] == values[1] else least)
    high = min(found.high, most, _round(values[-1]) if values[-1] == values[-2] else most)
    return found.model_copy(update={"low": low, "high": high})


def difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    unit: str = "",
    better: Better | None = None,
    over: str = "prompt",
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean of ``first - second`` over the prompts that both have, paired by prompt.

    Where it is the same for all of them there is no interval, except of what lies between 0 and 1
    (``unit``): as no prompt of ``n`` shows another difference, at most Wilson's bound of 0 in ``n``
    do, and theirs is from -1 to 1.
    """
    common = sorted(first.keys() & second.keys())
    of = "paired difference"
    if unmatched := len(first.keys() ^ second.keys()):
        of += f" ({unmatched} unmatched {over}s left out)"
    gaps = by_prompt({p: round(first[p] - second[p], DIGITS + 4) for p in common})
    found = _mean(np.array(list(gaps.values())), len(gaps), confidence, of, over, unit, better)
    if UNTOLD not in found.method:
        return found
    ends: dict[str, object] = {"low": None, "high": None}
    if unit in RANGES and found.value is not None:
        _, most = wilson(0, len(gaps), confidence)
        low, high = (found.value * (1 - most) + sign * most for sign in (-1, 1))
        method = f"{of} over {over}s; all equal, at most {most:.0%} others (Wilson) at -1 or 1"
        ends = {"low": _round(low), "high": _round(high), "method": method}
    return found.model_copy(update=ends)


def rank_intervals(
    rows: Sequence[Mapping[str, float]], better: Better | None
) -> list[tuple[int, int]] | None:
    """Best and worst rank of each row at 95 %, over the prompts that all have.

    The prompts are resampled for all rows at once, and the rows ranked each time (Hall and Miller
    2009), at the small-sample level of Hesterberg (2015). ``None``: fewer than two prompts.
    """
    common = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
    n = len(common)
    if n < 2:
        return None
    values = np.array([[row[p] for p in common] for row in rows])
    drawn = _resamples(n, RESAMPLES) @ (-values if better == "higher" else values).T
    drawn = drawn.round(DIGITS + 4)  # equal rows are equal
    ranks = 1 + (drawn[:, None, :] < drawn[:, :, None]).sum(axis=2)
    t = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)
    level = float(stats.norm.sf(t * math.sqrt(n / (n - 1))))
    low = np.quantile(ranks, level, axis=0, method="lower")
    high = np.quantile(ranks, 1 - level, axis=0, method="higher")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def slope(
    curves: Mapping[str, Sequence[Sequence[float]]],
    x: Sequence[float],
    *,
    unit: str = "",
    better: Better | None = None,
    over: str = "prompt",
) -> Estimate:
    """Least-squares slope over ``x`` of each prompt's mean curve, then the mean over prompts."""
    own = slopes(curves, x)
    estimate = mean(own, unit=unit, better=better, of="least-squares slope", over=over)
    n = sum(map(len, curves.values()))
    return estimate.model_copy(update={"n": n}) if own else estimate


def slopes(curves: Mapping[str, Sequence[Sequence[float]]], x: Sequence[float]) -> dict[str, float]:
    """Least-squares slope over ``x`` of each prompt's mean curve."""
    place = np.asarray(x, np.float64)
    means = {p: np.mean(np.asarray(rows, np.float64), axis=0) for p, rows in curves.items()}
    return {prompt: float(np.polyfit(place, y, 1)[0]) for prompt, y in means.items()}


def share(
    sample: Sample, *, unit: str = "", better: Better | None = None, over: str = "prompt"
) -> Estimate:
    """Share of successes (values 0 or 1) with a Wilson interval.

    ``n`` of the interval is the number of prompts: a prompt with several seeds counts once, by its
    own share, which is safe (too wide, never too narrow).
    """
    clusters, n = _averaged(sample)
    count = len(clusters)
    if not count:
        return missing("share: nothing was measured", unit=unit, better=better)
    value = float(np.mean(list(clusters.values())))
    if count < 2:
        return _estimate(value, None, None, n, count, f"share; one {over}", unit, better)
    low, high = wilson(value * count, count)
    return _estimate(value, low, high, n, count, f"share of {count} {over}s; Wilson", unit, better)


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval; ``successes`` may be fractional, 0 of n is not [0, 0]."""
    z = _gaussian(0.5 + confidence / 2)
    p, z2 = successes / n, z * z / n
    centre = (p + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(p * (1 - p) / n + z2 / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def percentile(
    sample: Mapping[str, Sequence[float]],
    q: float,
    *,
    unit: str = "",
    better: Better | None = None,
    over: str = "prompt",
) -> Estimate:
    """The ``q``-quantile of all values, ``{cluster: values}``; ``None`` from too few of them.

    At least :func:`least_for` values are needed, the early-stopping rule of MLPerf Inference. The
    interval is Woodruff's (1952): that of the share of values under the quantile, by clusters or as
    if values were independent, whichever is wider, read off the ordered values.
    """
    groups = [np.sort(_finite(values)) for values in sample.values()]
    ranked = np.sort(np.concatenate([*groups, np.empty(0)]))
    n, need, count = len(ranked), least_for(q), len(groups)
    if n < need:
        reason = f"percentile {100 * q:g}: {n} of the {need} values that it needs"
        return missing(reason, unit=unit, better=better)
    value = float(ranked[min(math.ceil(q * n), n) - 1])
    method = f"percentile over {over}s; Woodruff"
    if count < 2:
        return _estimate(value, None, None, n, count, f"percentile; one {over}", unit, better)
    under = np.searchsorted(ranked, value, side="right") / n
    excess = [np.searchsorted(g, value, side="right") - under * len(g) for g in groups]
    clustered = math.sqrt(count / (count - 1) * float(np.sum(np.square(excess)))) / n
    half = 0.5 + CONFIDENCE / 2
    reach = max(
        _students_t(half, count - 1) * clustered,
        _gaussian(half) * math.sqrt(q * (1 - q) / n),
    )
    low, high = math.floor((q - reach) * n) - 1, math.ceil((q + reach) * n)
    if high > n - 1:
        method += ", the upper end is the largest value seen"
    low, high = max(low, 0), min(high, n - 1)
    return _estimate(value, float(ranked[low]), float(ranked[high]), n, count, method, unit, better)


def least_for(q: float, confidence: float = 0.99) -> int:
    """Values that a percentile needs: so many that two above it are nearly sure to be among them.

    64 for p90 and 662 for p99, as in MLPerf Inference's early stopping.
    """
    n = 2
    # Written out, for it is asked hundreds of times: the chance of none and of one of `n` above it.
    while q**n + n * (1 - q) * q ** (n - 1) > 1 - confidence:
        n += 1
    return n


# --- helpers --------------------------------------------------------------------------------------


def _mean(
    values: Floats,
    n: int,
    confidence: float,
    of: str,
    over: str,
    unit: str,
    better: Better | None,
) -> Estimate:
    """Mean of ``values [clusters]``, made of ``n`` observations."""
    count = len(values)
    if not count:
        return missing(f"{of}: nothing was measured", unit=unit, better=better)
    value = float(values.mean())
    if count < 2:
        return _estimate(value, None, None, n, count, f"{of}; one {over}", unit, better)
    low, high, method = _interval(values, confidence, over)
    text = f"{of} over {over}s; {method}"
    return _estimate(value, low, high, n, count, text, unit, better, confidence)


def _interval(values: Floats, confidence: float, over: str) -> tuple[float, float, str]:
    """Interval of the mean of ``values [clusters]``, and what it is.

    ``mean -+ q s``, where ``q`` is the quantile of ``|mean* - mean| / s*`` over resamples (under
    :data:`FEW` clusters Student's t). A resample that misses the few values that differ has next to
    no spread ``s*``; it is given a share of the sample's.
    """
    middle, spread, n = float(values.mean()), float(values.std()), len(values)
    if np.ptp(values) == 0 or spread == 0:
        same = float(values[0])
        return same, same, f"all {over}s equal: {UNTOLD}"
    if FEW <= n < MANY:
        count = max(RESAMPLES, math.ceil(TAIL / (1 - confidence)))
        chosen = _resamples(n, min(count, max(RESAMPLES, int(MEMORY / n))))
        scaled = (values - middle) / spread
        shift = chosen @ scaled
        own = np.sqrt(np.maximum(chosen @ scaled**2 - shift**2, 0))
        least = LEAST_OF_FEW if n < FEWER else LEAST_SPREAD
        q = float(np.quantile(np.abs(shift) / np.maximum(own, least), confidence))
        method = "bootstrap-t, symmetric"
    else:
        q = _students_t(0.5 + confidence / 2, n - 1) / math.sqrt(n - 1)
        method = "Student's t"
    return middle - q * spread, middle + q * spread, method


@lru_cache(maxsize=8)
def _resamples(n: int, count: int) -> Floats:
    """Weights of the clusters in each resample, ``[count, n]``; rows sum to 1. Always the same."""
    drawn = np.random.default_rng(RNG_SEED).integers(n, size=(count, n))
    flat = (drawn + n * np.arange(count)[:, None]).ravel()
    weights: Floats = np.bincount(flat, minlength=count * n).reshape(count, n) / n
    weights.flags.writeable = False
    return weights


@lru_cache(maxsize=256)
def _students_t(p: float, freedom: int) -> float:
    """A quantile; remembered, for scipy takes longer over one than all else here over a mean."""
    return float(stats.t.ppf(p, freedom))


@lru_cache(maxsize=64)
def _gaussian(p: float) -> float:
    return float(stats.norm.ppf(p))


def _averaged(sample: Sample) -> tuple[dict[str, float], int]:
    """The mean of each prompt that has a finite value, and how many values there are in all."""
    means, n = {}, 0
    for prompt, values in sample.items():
        if isinstance(values, float | int):  # one number a prompt, the usual case
            if math.isfinite(values):
                means[prompt], n = float(values), n + 1
            continue
        finite = _finite(values)
        if len(finite):
            means[prompt], n = float(finite.mean()), n + len(finite)
    return means, n


def _finite(values: float | Sequence[float]) -> Floats:
    array = np.atleast_1d(np.asarray(values, np.float64))
    return array[np.isfinite(array)]


def _estimate(
    value: float | None,
    low: float | None,
    high: float | None,
    n: int,
    clusters: int,
    method: str,
    unit: str,
    better: Better | None,
    confidence: float = CONFIDENCE,
) -> Estimate:
    return Estimate(
        value=None if value is None else _round(value),
        low=None if low is None else _round(low),
        high=None if high is None else _round(high),
        n=n,
        clusters=clusters,
        method=method,
        confidence=confidence,
        unit=unit,
        better=better,
    )


def _round(value: float) -> float:
    """Five digits after the point: finer than any interval here, and stable across machines."""
    return round(float(value), DIGITS) + 0.0
