"""Two models of the long-horizon task, paired in the measures that have no values by prompt.

These are made of the records of both (:mod:`sfbench.exposure_pairs`).
"""

from __future__ import annotations

from functools import lru_cache

from sfbench.exposure import Episodes
from sfbench.exposure_pairs import PAIRS, Pair
from sfbench.paired import Run, Statistic
from sfbench.schema import Estimate

from . import continuations
from .long_horizon import LongHorizon


@lru_cache(maxsize=2)
def episodes(run: Run) -> Episodes:
    """The continuations of a run; remembered, for every measure and every level asks."""
    scored = [(r.request, r.scores) for r in run.records if r.scores is not None]
    return continuations.episodes(run.result.model, scored)


def _statistic(pair: Pair) -> Statistic:
    def made(task: LongHorizon, first: Run, second: Run, confidence: float) -> Estimate:
        return pair(episodes(first), episodes(second), confidence)

    return made


STATISTICS = {name: _statistic(pair) for name, pair in PAIRS.items()}
