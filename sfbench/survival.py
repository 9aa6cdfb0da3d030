"""Time to failure under right censoring: survival curves, medians, and tests between models.

A clip that never fails is censored: it is known to have lived until watching ended, no more. Clips
are taken as independent, so there should be one a prompt; of several seeds a prompt the intervals
would be too narrow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from . import stats
from .schema import Better, Estimate

Times = Sequence[float]


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
        return tuple(_point(a, None, None, n, "one clip", "share", better) for a in alive)
    curve: Any = scipy_stats.ecdf(_censored(times, failed)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # undefined where all or none are alive
        band = curve.confidence_interval(stats.CONFIDENCE, method="log-log")
    points = []
    for t in at:
        value, low, high = (float(f.evaluate(t)) for f in (curve, band.low, band.high))
        method = "Kaplan-Meier; log-log"
        if not (math.isfinite(low) and math.isfinite(high) and 0 < value < 1):
            low, high = stats.wilson(value * n, n)
            method = "Kaplan-Meier; Wilson"
        points.append(_point(value, low, high, n, method, "share", better))
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
        return stats.missing("median survival: needs two clips", unit=unit, better=better)
    at = sorted({t for t, f in zip(times, failed, strict=True) if f})
    points = survival(times, failed, at)
    value = _first(at, [p.value for p in points])
    low = _first(at, [p.low for p in points])
    high = _first(at, [p.high for p in points])
    method, end = "Kaplan-Meier median", float(max(times))
    low = end if low is None else low
    if value is None:
        method += f", not reached: more than half alive at {end:g}"
    return _point(value, low, high, n, method, unit, better)


def log_rank(
    first: tuple[Times, Sequence[bool]], second: tuple[Times, Sequence[bool]]
) -> float | None:
    """Two-sided p of the log-rank test that two models fail alike (Mantel 1966).

    Each side: ``(times, failed)``, as in :func:`survival`. ``None`` where a side has fewer than two
    clips or nobody fails, which leaves nothing to test.
    """
    if min(len(first[0]), len(second[0])) < 2 or not (any(first[1]) or any(second[1])):
        return None
    found = scipy_stats.logrank(*(_censored(*side) for side in (first, second)))
    return round(float(found.pvalue), stats.DIGITS)


# --- helpers --------------------------------------------------------------------------------------


def _censored(times: Times, failed: Sequence[bool]) -> Any:
    data = np.asarray(times, np.float64)
    return scipy_stats.CensoredData.right_censored(data, ~np.asarray(failed, bool))


def _first(at: Sequence[float], alive: Sequence[float | None]) -> float | None:
    """First time at which no more than half are alive."""
    return next((t for t, a in zip(at, alive, strict=True) if a is not None and a <= 0.5), None)


def _point(
    value: float | None,
    low: float | None,
    high: float | None,
    n: int,
    method: str,
    unit: str,
    better: Better | None,
) -> Estimate:
    return Estimate(
        value=_rounded(value),
        low=_rounded(low),
        high=_rounded(high),
        n=n,
        clusters=n,
        method=method,
        unit=unit,
        better=better,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, stats.DIGITS)
