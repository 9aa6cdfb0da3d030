"""Estimates with intervals: every published number is made here.

The unit of sampling is the *prompt*. Seeds of one prompt are averaged first, then prompts are
resampled, so that more seeds never pretend to be more prompts. A sample is given as
``{prompt: values of its seeds}`` or, where there is one number a prompt, ``{prompt: value}``.
With fewer than two prompts there is no interval: ``low`` and ``high`` are ``None``, never +-0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

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


def missing(reason: str, *, unit: str = "", better: Better | None = None) -> Estimate:
    """Nothing was measured; ``reason`` says why."""
    return Estimate(
        value=None, low=None, high=None, n=0, clusters=0, method=reason, unit=unit, better=better
    )


def by_prompt(sample: Sample) -> dict[str, float]:
    """Mean over the seeds of each prompt; a prompt without any finite value is left out."""
    means = {}
    for prompt, values in sample.items():
        finite = _finite(values)
        if len(finite):
            means[prompt] = float(finite.mean())
    return means


def mean(
    sample: Sample, *, unit: str = "", better: Better | None = None, of: str = "mean"
) -> Estimate:
    """Mean over prompts with a clustered bootstrap interval; ``of`` opens the method's text."""
    clusters = by_prompt(sample)
    n = sum(len(_finite(values)) for values in sample.values())
    if not clusters:
        return missing(f"{of}: nothing was measured", unit=unit, better=better)
    values = np.array(list(clusters.values()))
    low, high, interval = _bootstrap(values)
    method = f"{of} over prompts; {interval}" if len(values) > 1 else f"{of}; one prompt"
    return _estimate(float(values.mean()), low, high, n, len(values), method, unit, better)


def difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    unit: str = "",
    better: Better | None = None,
) -> Estimate:
    """Mean of ``first - second`` over the prompts that both have, paired by prompt."""
    common = sorted(first.keys() & second.keys())
    of = "paired difference"
    if unmatched := len(first.keys() ^ second.keys()):
        of += f" ({unmatched} unmatched prompts left out)"
    return mean({p: first[p] - second[p] for p in common}, unit=unit, better=better, of=of)


def slope(
    curves: Mapping[str, Sequence[Sequence[float]]],
    x: Sequence[float],
    *,
    unit: str = "",
    better: Better | None = None,
) -> Estimate:
    """Least-squares slope over ``x`` of each prompt's mean curve, then the mean over prompts."""
    slopes, n = {}, 0
    for prompt, rows in curves.items():
        n += len(rows)
        y = np.mean(np.asarray(rows, np.float64), axis=0)
        slopes[prompt] = float(np.polyfit(np.asarray(x, np.float64), y, 1)[0])
    estimate = mean(slopes, unit=unit, better=better, of="least-squares slope")
    return estimate.model_copy(update={"n": n}) if slopes else estimate


def share(sample: Sample, *, unit: str = "", better: Better | None = None) -> Estimate:
    """Share of successes (values 0 or 1) with a Wilson interval.

    ``n`` of the interval is the number of prompts: a prompt with several seeds counts once, by its
    own share, which is safe (too wide, never too narrow).
    """
    clusters = by_prompt(sample)
    count = len(clusters)
    n = sum(len(_finite(values)) for values in sample.values())
    if not count:
        return missing("share: nothing was measured", unit=unit, better=better)
    value = float(np.mean(list(clusters.values())))
    if count < 2:
        return _estimate(value, None, None, n, count, "share; one prompt", unit, better)
    low, high = wilson(value * count, count)
    return _estimate(value, low, high, n, count, f"share of {count} prompts; Wilson", unit, better)


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval; ``successes`` may be fractional, 0 of n is not [0, 0]."""
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    p, z2 = successes / n, z * z / n
    centre = (p + z2 / 2) / (1 + z2)
    half = z / (1 + z2) * math.sqrt(p * (1 - p) / n + z2 / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def percentile(
    values: Sequence[float],
    q: float,
    *,
    clusters: int,
    unit: str = "",
    better: Better | None = None,
) -> Estimate:
    """The ``q``-quantile with its order-statistics interval; none from too few values.

    At least :func:`least_for` values are needed, the early-stopping rule of MLPerf Inference. The
    interval takes values as independent, which neighbours in a stream are not quite.
    """
    n, need = len(values), least_for(q)
    if n < need:
        reason = f"percentile {100 * q:g}: {n} of the {need} values that it needs"
        return missing(reason, unit=unit, better=better)
    ranked = np.sort(np.asarray(values, np.float64))
    half = (1 - CONFIDENCE) / 2
    low, middle, high = (
        ranked[min(max(int(rank) - 1, 0), n - 1)]
        for rank in (
            stats.binom.ppf(half, n, q),
            math.ceil(q * n),
            stats.binom.ppf(1 - half, n, q) + 1,
        )
    )
    method = "percentile; order statistics"
    return _estimate(float(middle), float(low), float(high), n, clusters, method, unit, better)


def least_for(q: float, confidence: float = 0.99) -> int:
    """Values that a percentile needs: so many that two above it are nearly sure to be among them.

    64 for p90 and 662 for p99, as in MLPerf Inference's early stopping.
    """
    n = 2
    while stats.binom.cdf(1, n, 1 - q) > 1 - confidence:
        n += 1
    return n


def survival(
    times: Sequence[float],
    failed: Sequence[bool],
    at: Sequence[float],
    *,
    better: Better | None = "higher",
) -> tuple[Estimate, ...]:
    """Share still alive after each time of ``at``: Kaplan-Meier with a log-log interval.

    ``times`` is when a clip failed or, where ``failed`` is False, until when it was watched. Where
    Kaplan-Meier has no interval (nobody or everybody has failed) Wilson's stands in.
    """
    n = len(times)
    if n < 2:
        alive = [None if not n else float(not failed[0] or times[0] > t) for t in at]
        return tuple(_estimate(a, None, None, n, n, "one clip", "share", better) for a in alive)
    curve = _ecdf(times, failed).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where all or none are alive
        band = curve.confidence_interval(CONFIDENCE, method="log-log")
    points = []
    for t in at:
        value, low, high = (float(f.evaluate(t)) for f in (curve, band.low, band.high))
        method = "Kaplan-Meier; log-log"
        if not (math.isfinite(low) and math.isfinite(high) and 0 < value < 1):
            low, high = wilson(value * n, n)
            method = "Kaplan-Meier; Wilson"
        points.append(_estimate(value, low, high, n, n, method, "share", better))
    return tuple(points)


def median_survival(
    times: Sequence[float],
    failed: Sequence[bool],
    *,
    unit: str = "",
    better: Better | None = "higher",
) -> Estimate:
    """Median time to failure under right censoring, by inverting Kaplan-Meier and its band.

    ``None`` where it was not reached: more than half were alive when watching ended. ``low`` is
    then, at the most, the end of watching.
    """
    n = len(times)
    if n < 2:
        return missing("median survival: needs two clips", unit=unit, better=better)
    at = sorted({t for t, f in zip(times, failed, strict=True) if f})
    points = survival(times, failed, at)
    value = _first(at, [p.value for p in points])
    low = _first(at, [p.low for p in points])
    high = _first(at, [p.high for p in points])
    method, end = "Kaplan-Meier median", float(max(times))
    low = end if low is None else low
    if value is None:
        method += f", not reached: more than half alive at {end:g}"
    return _estimate(value, low, high, n, n, method, unit, better)


# --- helpers --------------------------------------------------------------------------------------


def _bootstrap(values: Floats) -> tuple[float | None, float | None, str]:
    """Interval of the mean of ``values [clusters]`` and what it is.

    BCa (Efron 1987) at the small-sample level of Hesterberg (2015, section 4.3): the percentile
    whose width is that of Student's t, without which 95 % covers 90 % at n = 10.
    """
    n = len(values)
    if n < 2:
        return None, None, "n < 2"
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), "all prompts equal"
    t = stats.t.ppf(0.5 + CONFIDENCE / 2, n - 1)
    level = 1 - 2 * stats.norm.sf(t * math.sqrt(n / (n - 1)))
    for name in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            warnings.simplefilter("ignore", RuntimeWarning)  # 0 / 0 of a nearly constant sample
            found = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=RESAMPLES,
                method=name,
                confidence_level=level,
                rng=np.random.default_rng(RNG_SEED),
            )
        low, high = map(float, found.confidence_interval)
        if math.isfinite(low) and math.isfinite(high):
            return low, high, f"{name} bootstrap clustered by prompt"
    raise AssertionError("the percentile interval of finite values is finite")


def _ecdf(times: Sequence[float], failed: Sequence[bool]) -> Any:
    data = stats.CensoredData.right_censored(np.asarray(times, float), ~np.asarray(failed, bool))
    return stats.ecdf(data)


def _first(at: Sequence[float], alive: Sequence[float | None]) -> float | None:
    """First time at which no more than half are alive."""
    return next((t for t, a in zip(at, alive, strict=True) if a is not None and a <= 0.5), None)


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
) -> Estimate:
    return Estimate(
        value=_round(value),
        low=_round(low),
        high=_round(high),
        n=n,
        clusters=clusters,
        method=method,
        confidence=CONFIDENCE,
        unit=unit,
        better=better,
    )


def _round(value: float | None) -> float | None:
    """Five digits after the point: finer than any interval here, and stable across machines."""
    return None if value is None else round(value, DIGITS) + 0.0
