"""Ratios of means over prompts: how many times worse a generator gets on its own frames.

- ratio ``EBR(k) = (own(k) - floor(k)) / (true(k) - floor(k))``, where the floor is what even a
  perfect model would have; its logarithm, averaged over ``k``, is the area ``EB-AUC`` (0: no bias),
  and the slope of its logarithm says whether the bias grows with the length of the own context;
- excess accumulated error, after Arora et al. (2022, 2204.01171), *as reconstructed here*:
  ``%ExAccErr(l) = 100 (R - l eps) / (l eps)``, with ``R`` the error accumulated under own context
  up to chunk ``l`` and ``eps`` the mean error of a chunk under true context, both less their
  floors. 0: errors add up and no more. Theirs are divergences of word distributions.

A ratio of means is steadier than a mean of ratios, whose denominators may be next to 0. Its
interval is that of its jackknife values (:mod:`.exposure_pool`); where the denominator is not shown
to be above 0 there is no ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_pool import Pool
from .exposure_rows import Grouped
from .schema import Curve, Estimate

Floats = NDArray[np.float64]

ACCUMULATED = "%ExAccErr, reconstructed, of means"


def ratio(
    own: Grouped, true: Grouped, *, of: str = "ratio of means", percent: bool = False
) -> Estimate:
    """Mean under own context over that under true context; ``percent``: how much more it is.

    Both with their floors taken off, over the prompts that both have.
    """
    return ratio_pool(own, true, of=of, percent=percent).estimate


def ratio_area(own: Grouped, true: Grouped) -> Estimate:
    """Mean over chunks of the logarithm of the ratio: 0 is no bias, .69 twice the violation."""
    return area_pool(own, true).estimate


def ratio_growth(own: Grouped, true: Grouped, x: Sequence[float]) -> Estimate:
    """Least-squares slope over ``x`` of the logarithm of the ratio: 0 is a ratio that stays."""
    return growth_pool(own, true, x).estimate


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


# --- what they are made of ------------------------------------------------------------------------


def ratio_pool(
    own: Grouped, true: Grouped, *, of: str = "ratio of means", percent: bool = False
) -> Pool:
    """Of :func:`ratio`: two means a prompt."""
    tops, bottoms, n = _shared(own, true)
    return Pool(
        {p: np.array([tops[p].mean(), bottoms[p].mean()]) for p in tops},
        lambda means: _log(means[0]) - _log(means[1]),
        n,
        of,
        "%" if percent else "times",
        "lower",
        _per_cent if percent else math.exp,
        _no_ratio(bottoms, of),
    )


def area_pool(own: Grouped, true: Grouped) -> Pool:
    """Of :func:`ratio_area`: both rows of a prompt."""
    return _log_ratios(own, true, "mean over chunks of the log ratio of means", "log", np.mean)


def growth_pool(own: Grouped, true: Grouped, x: Sequence[float]) -> Pool:
    """Of :func:`ratio_growth`: both rows of a prompt."""
    of, unit, place = (
        "slope of the log ratio of means",
        "log per horizon",
        np.asarray(x) - np.mean(x),
    )
    if len(x) < 2:
        return Pool(
            {}, lambda means: math.nan, 0, of, unit, "lower", reason=f"{of}: one chunk only"
        )
    return _log_ratios(own, true, of, unit, lambda logs: logs @ place / (place @ place))


# --- helpers --------------------------------------------------------------------------------------


def _log_ratios(
    own: Grouped, true: Grouped, of: str, unit: str, of_logs: Callable[[Floats], float]
) -> Pool:
    """A linear function of the log ratios ``[chunks]``."""
    tops, bottoms, n = _shared(own, true)

    def statistic(means: Floats) -> float:
        top, bottom = np.split(np.array([_log(v) for v in means]), 2)
        return float(of_logs(top - bottom))

    rows = {p: np.concatenate([tops[p], bottoms[p]]) for p in tops}
    return Pool(rows, statistic, n, of, unit, "lower", reason=_no_ratio(bottoms, of))


def _shared(own: Grouped, true: Grouped) -> tuple[dict[str, Floats], dict[str, Floats], int]:
    """Mean rows of the prompts that both have, and the values behind them."""
    common = sorted(own.keys() & true.keys())
    tops = {p: np.mean(np.asarray(own[p], np.float64), axis=0) for p in common}
    bottoms = {p: np.mean(np.asarray(true[p], np.float64), axis=0) for p in common}
    return tops, bottoms, sum(len(own[p]) for p in common)


def _no_ratio(bottoms: Mapping[str, Floats], of: str) -> str:
    """Why there is nothing to divide by; else empty."""
    found = stats.mean({p: float(row.mean()) for p, row in bottoms.items()})
    if found.value is None:
        return f"{of}: nothing was measured"
    if found.low is None:
        return f"{of}: needs two prompts"
    if found.low <= 0:
        return f"{of}: what it is divided by is not shown to be above 0"
    return ""


def _chunks(rows: Grouped, part: slice) -> dict[str, list[list[float]]]:
    return {prompt: [list(row[part]) for row in seeds] for prompt, seeds in rows.items()}


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


def _per_cent(log: float) -> float:
    return 100 * math.expm1(log)
