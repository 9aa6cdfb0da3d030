"""Ratios of means over prompts: how many times worse a generator gets on its own frames.

- ratio ``EBR(k) = (own(k) - floor(k)) / (true(k) - floor(k))``, where the floor is what even a
  perfect model would have; its logarithm, averaged over ``k``, is the area ``EB-AUC`` (0: no bias);
- excess accumulated error, after Arora et al. (2022, 2204.01171), *as reconstructed here*:
  ``%ExAccErr(l) = 100 (R - l eps) / (l eps)``, with ``R`` the error accumulated under own context
  up to chunk ``l`` and ``eps`` the mean error of a chunk under true context, both less their
  floors. 0: errors add up and no more. Theirs are divergences of word distributions.

A ratio of means is steadier than a mean of ratios, whose denominators may be next to 0. Its
interval is that of its jackknife values (:func:`pooled`); where the denominator is not shown to be
above 0 there is no ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_rows import Grouped
from .schema import Better, Curve, Estimate

Floats = NDArray[np.float64]

ACCUMULATED = "%ExAccErr, reconstructed, of means"
SAME = "nothing tells how far off this is"


def ratio(
    own: Grouped, true: Grouped, *, of: str = "ratio of means", percent: bool = False
) -> Estimate:
    """Mean under own context over that under true context; ``percent``: how much more it is.

    Both with their floors taken off, over the prompts that both have.
    """
    tops, bottoms, n = _shared(own, true)
    unit = "%" if percent else "times"
    total = {p: float(row.mean()) for p, row in bottoms.items()}
    if reason := _no_ratio(total, of):
        return stats.missing(reason, unit=unit, better="lower")
    table = np.array([[tops[p].mean(), total[p]] for p in tops])

    def log_ratio(means: Floats) -> float:
        return _log(means[0]) - _log(means[1])

    shown = _per_cent if percent else math.exp
    return pooled(table, log_ratio, n=n, of=of, unit=unit, better="lower", shown=shown)


def ratio_area(own: Grouped, true: Grouped) -> Estimate:
    """Mean over chunks of the logarithm of the ratio: 0 is no bias, .69 twice the violation."""
    of, unit = "mean over chunks of the log ratio of means", "log"
    tops, bottoms, n = _shared(own, true)
    if reason := _no_ratio({p: float(row.mean()) for p, row in bottoms.items()}, of):
        return stats.missing(reason, unit=unit, better="lower")
    table = np.array([np.concatenate([tops[p], bottoms[p]]) for p in tops])
    count = table.shape[1] // 2

    def area(means: Floats) -> float:
        return float(np.mean([_log(v) for v in means[:count]])) - float(
            np.mean([_log(v) for v in means[count:]])
        )

    return pooled(table, area, n=n, of=of, unit=unit, better="lower")


def ratio_curve(own: Grouped, true: Grouped, x: Sequence[float]) -> Curve:
    """The ratio at each chunk."""
    y = tuple(ratio(*(_chunks(g, slice(k, k + 1)) for g in (own, true))) for k in range(len(x)))
    return Curve(x=tuple(x), x_label="frame", y=y)


def accumulated_curve(own: Grouped, true: Grouped, x: Sequence[float]) -> Curve:
    """The excess accumulated error up to each chunk."""
    y = tuple(
        ratio(*(_chunks(g, slice(0, k + 1)) for g in (own, true)), of=ACCUMULATED, percent=True)
        for k in range(len(x))
    )
    return Curve(x=tuple(x), x_label="frame", y=y)


def pooled(
    table: Floats,
    statistic: Callable[[Floats], float],
    *,
    n: int,
    of: str,
    unit: str = "",
    better: Better | None = None,
    shown: Callable[[float], float] = float,
) -> Estimate:
    """A function of the means over prompts, ``table [prompts, columns] -> statistic [columns]``.

    Each prompt's jackknife value says how far it moves the whole; their mean has the interval that
    any mean over prompts has (:mod:`sfbench.stats`). For the logarithm of a ratio of 8 to 32 skewed
    prompts this covers 94 to 96 %, the percentile bootstrap 85 to 93. ``n``: observations behind
    the table. ``shown``: an increasing function that value and interval are shown through; an end
    that it sends beyond all numbers is open.
    """
    count = len(table)
    if not count:
        return stats.missing(f"n/a: {of}: nothing was measured", unit=unit, better=better)
    with np.errstate(all="ignore"):
        value = statistic(table.mean(axis=0))
        rest = _left_out(table, statistic)
    if not math.isfinite(value):
        return stats.missing(f"n/a: {of} of a mean that is not above 0", unit=unit, better=better)
    if not np.isfinite(rest).all():
        return stats.missing(f"n/a: {of} rests on one prompt", unit=unit, better=better)
    moved = count * value - (count - 1) * rest if count > 1 else np.array([value])
    found = stats.mean({str(p): float(v) for p, v in enumerate(moved)}, of="")
    half = None
    if found.low is not None and found.high is not None and found.value is not None:
        half = max(found.high - found.value, found.value - found.low)
    text = found.method.partition("; ")[2]
    return Estimate(
        value=_ending(shown, value),
        low=None if half is None else _ending(shown, value - half),
        high=None if half is None else _ending(shown, value + half),
        n=n,
        clusters=count,
        method=f"{of} over prompts; {text}{'' if SAME in text else ' of jackknife values'}",
        unit=unit,
        better=better,
    )


# --- helpers --------------------------------------------------------------------------------------


def _shared(own: Grouped, true: Grouped) -> tuple[dict[str, Floats], dict[str, Floats], int]:
    """Mean rows of the prompts that both have, and the values behind them."""
    common = sorted(own.keys() & true.keys())
    tops = {p: np.mean(np.asarray(own[p], np.float64), axis=0) for p in common}
    bottoms = {p: np.mean(np.asarray(true[p], np.float64), axis=0) for p in common}
    return tops, bottoms, sum(len(own[p]) for p in common)


def _no_ratio(bottoms: Mapping[str, float], of: str) -> str:
    """Why there is nothing to divide by; else empty."""
    found = stats.mean(bottoms)
    if found.value is None:
        return f"n/a: {of}: nothing was measured"
    if found.low is None:
        return f"n/a: {of}: needs two prompts"
    if found.low <= 0:
        return f"n/a: {of}: what it is divided by is not shown to be above 0"
    return ""


def _chunks(rows: Grouped, part: slice) -> dict[str, list[list[float]]]:
    return {prompt: [list(row[part]) for row in seeds] for prompt, seeds in rows.items()}


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _per_cent(log: float) -> float:
    return 100 * math.expm1(log)


def _left_out(table: Floats, statistic: Callable[[Floats], float]) -> Floats:
    """The statistic without each prompt, if there are others."""
    count = len(table) if len(table) > 1 else 0
    return np.array([statistic(np.delete(table, p, axis=0).mean(axis=0)) for p in range(count)])


def _ending(shown: Callable[[float], float], value: float) -> float | None:
    try:
        return round(shown(value), stats.DIGITS) + 0.0
    except OverflowError:
        return None
