"""Time to failure under right censoring: survival curves, medians, and tests between models.

A clip that never fails is censored: it is known to have lived until watching ended, no more. Curves
and medians take clips as independent, so of several seeds a prompt their intervals are too narrow;
the test between models does not: there the prompt is what is drawn.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats as scipy_stats

from . import stats
from .schema import Better, Estimate

Times = Sequence[float]
Watched = Mapping[str, Sequence[tuple[float, bool]]]
"""Prompt -> of each clip, when it failed or until when it was watched, and whether it failed."""

FLIPS = 99_999
"""Permutations of the test between models; fewer than 2 to the power of 17 prompts' are exact."""


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


def log_rank(first: Watched, second: Watched) -> float | None:
    """Two-sided p that two models fail alike: the log-rank test, permuted within prompts.

    Mantel's (1966) observed less expected failures of the first model are the sum of its clips'
    scores ``failed - H(time)``, with ``H`` the Nelson-Aalen hazard of both models together, which
    no exchange of models changes. Were the models equal, the clips of a prompt could change sides,
    all seeds together: the p is the share of such exchanges that part the models as far. So clips
    of one prompt may fail alike. ``None`` where fewer than two prompts are common, or nobody fails.
    """
    prompts = sorted(first.keys() & second.keys())
    sides = [[clip for prompt in prompts for clip in side[prompt]] for side in (first, second)]
    if len(prompts) < 2 or not any(failed for side in sides for _, failed in side):
        return None
    hazard = _hazard([clip for side in sides for clip in side])
    less = [_score(first[p], hazard) - _score(second[p], hazard) for p in prompts]
    found = scipy_stats.permutation_test(
        (np.array(less),),
        lambda rows, axis: rows.sum(axis=axis),
        permutation_type="samples",
        n_resamples=FLIPS,
        vectorized=True,
        rng=np.random.default_rng(stats.RNG_SEED),
    )
    return round(float(found.pvalue), stats.DIGITS)


def _hazard(clips: Sequence[tuple[float, bool]]) -> dict[float, float]:
    """Cumulative hazard at each time that a clip failed or was left at (Nelson-Aalen)."""
    times = np.array([time for time, _ in clips])
    failed = np.array([failed for _, failed in clips], bool)
    whole, found = 0.0, {}
    for time in np.unique(times):
        whole += (failed & (times == time)).sum() / (times >= time).sum()
        found[float(time)] = float(whole)
    return found


def _score(clips: Sequence[tuple[float, bool]], hazard: Mapping[float, float]) -> float:
    """Failures seen less failures expected."""
    return sum(float(failed) - hazard[float(time)] for time, failed in clips)


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
