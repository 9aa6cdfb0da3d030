"""Time to failure under right censoring: survival curves, medians, and tests between models.

A clip that never fails is censored: it is known to have lived until watching ended, no more. The
prompt is what is drawn: clips of one prompt may fail alike, in intervals as in the test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from . import stats
from .schema import Better, Estimate

Watched = Mapping[str, Sequence[tuple[float, bool]]]
"""Prompt -> of each clip, when it failed or until when it was watched, and whether it failed."""

FLIPS = 99_999
"""Permutations of the test between models; fewer than 2 to the power of 17 prompts' are exact."""


def survival(
    clips: Watched, at: Sequence[float], *, better: Better | None = "higher"
) -> tuple[Estimate, ...]:
    """Share still alive after each time of ``at``: Kaplan-Meier over all clips.

    Its interval is over prompts: on the scale ``log(-log S)``, by leaving out one prompt after the
    other (jackknife). Where the curve of some such part is at 0 or 1, which has no such scale,
    Wilson's interval of as many prompts stands in.
    """
    n, prompts = sum(map(len, clips.values())), sorted(clips)
    values = _alive(clips, at)
    if len(prompts) < 2:
        return tuple(_point(v, None, None, n, len(prompts), "one prompt", "share") for v in values)
    parts = np.array([_alive({p: clips[p] for p in prompts if p != out}, at) for out in prompts])
    points = []
    for value, column in zip(values, parts.T, strict=True):
        method = "Kaplan-Meier; log-log, jackknife over prompts"
        if 0 < value < 1 and (column > 0).all() and (column < 1).all():
            low, high = _log_log(value, column)
        else:
            low, high = stats.wilson(value * len(prompts), len(prompts))
            method = "Kaplan-Meier; Wilson over prompts"
        points.append(_point(value, low, high, n, len(prompts), method, "share", better))
    return tuple(points)


def median_survival(
    clips: Watched, *, unit: str = "", better: Better | None = "higher"
) -> Estimate:
    """Median time to failure under right censoring, by inverting Kaplan-Meier and its band.

    ``None`` where it was not reached: more than half were alive when watching ended. ``low`` is
    then, at the most, the end of watching.
    """
    flat = [clip for prompt in clips.values() for clip in prompt]
    if len(clips) < 2:
        return stats.missing("median survival: needs two prompts", unit=unit, better=better)
    at = sorted({time for time, failed in flat if failed})
    points = survival(clips, at)
    value = _first(at, [p.value for p in points])
    low = _first(at, [p.low for p in points])
    high = _first(at, [p.high for p in points])
    method, end = "Kaplan-Meier median, over prompts", float(max(time for time, _ in flat))
    low = end if low is None else low
    if value is None:
        method += f", not reached: more than half alive at {end:g}"
    return _point(value, low, high, len(flat), len(clips), method, unit, better)


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


def _alive(clips: Watched, at: Sequence[float]) -> list[float]:
    """The Kaplan-Meier curve at some times."""
    flat = [clip for prompt in clips.values() for clip in prompt]
    times, left = [time for time, _ in flat], [not failed for _, failed in flat]
    censored: Any = scipy_stats.CensoredData.right_censored(times, left)
    curve: Any = scipy_stats.ecdf(censored).sf
    return [float(curve.evaluate(t)) for t in at]


def _log_log(value: float, parts: NDArray[np.float64]) -> tuple[float, float]:
    """Interval of a share from those of the sample without each prompt, ``[P]``."""
    scale, count = np.log(-np.log(parts)), len(parts)
    error = math.sqrt((count - 1) / count * ((scale - scale.mean()) ** 2).sum())
    half = float(scipy_stats.t.ppf(0.5 + stats.CONFIDENCE / 2, count - 1)) * error
    middle = math.log(-math.log(value))
    return math.exp(-math.exp(middle + half)), math.exp(-math.exp(middle - half))


def _first(at: Sequence[float], alive: Sequence[float | None]) -> float | None:
    """First time at which no more than half are alive."""
    return next((t for t, a in zip(at, alive, strict=True) if a is not None and a <= 0.5), None)


def _point(
    value: float | None,
    low: float | None,
    high: float | None,
    n: int,
    clusters: int,
    method: str,
    unit: str,
    better: Better | None = None,
) -> Estimate:
    return Estimate(
        value=_rounded(value),
        low=_rounded(low),
        high=_rounded(high),
        n=n,
        clusters=clusters,
        method=method,
        unit=unit,
        better=better,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, stats.DIGITS)
