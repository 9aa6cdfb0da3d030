"""Two models in the exposure measures that have no values by prompt: paired differences.

Ratios, areas and gains are functions of means over prompts: their logarithms differ by what the
jackknife over the prompts of both has an interval for (:mod:`.exposure_pool`). Twins have a slope a
prompt, and a half-life is read off resamples (:mod:`.exposure_recovery`).
"""

from __future__ import annotations

from collections.abc import Callable

from . import exposure_pool, exposure_recovery, stats
from .exposure import Episodes, responses
from .exposure_pool import Pool
from .exposure_prints import LEAST
from .exposure_ratio import ACCUMULATED, area_pool, growth_pool, ratio_pool
from .exposure_response import rates, sensitivity_pool
from .exposure_rows import group, paired
from .schema import Estimate

Pair = Callable[[Episodes, Episodes, float], Estimate]
"""``(first, second, confidence)`` -> the first's less the second's."""

NO_QUANTITY = (
    "n/a: a class, not a quantity: how much evidence there is depends on the number of prompts, "
    "and where growth is linear or slower it stands at one value for all models"
)


def _pooled(pool: Callable[[Episodes], Pool]) -> Pair:
    return lambda one, other, confidence: exposure_pool.difference(
        pool(one), pool(other), confidence
    )


def _twins(first: Episodes, second: Episodes, confidence: float) -> Estimate:
    slopes = [
        rates(group(side.moved("twin", "own")), side.horizons, LEAST) for side in (first, second)
    ]
    return stats.difference(*slopes, unit="per horizon", confidence=confidence)


def _recovery(first: Episodes, second: Episodes, confidence: float) -> Estimate:
    one, other = (paired(s.violation["corrupted"], s.violation["own"]) for s in (first, second))
    ends = (first.ends, second.ends)
    return exposure_recovery.difference(one, other, ends, confidence=confidence)


def _class(first: Episodes, second: Episodes, confidence: float) -> Estimate:
    return stats.missing(NO_QUANTITY, better="lower")


PAIRS: dict[str, Pair] = {
    "exposure_growth_class": _class,
    "exposure_ratio": _pooled(lambda e: ratio_pool(*e.violations)),
    "exposure_ratio_area": _pooled(lambda e: area_pool(*e.violations)),
    "exposure_ratio_growth": _pooled(lambda e: growth_pool(*e.violations, e.horizons)),
    "exposure_ratio_error": _pooled(lambda e: ratio_pool(*e.errors)),
    "excess_accumulated_error": _pooled(
        lambda e: ratio_pool(*e.errors, of=ACCUMULATED, percent=True)
    ),
    "context_sensitivity": _pooled(lambda e: sensitivity_pool(*responses(e))),
    "twin_divergence": _twins,
    "recovery_half_life": _recovery,
}
