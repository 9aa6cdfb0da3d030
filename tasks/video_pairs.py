"""Two models of the video-exposure task, paired in the measures that have no values by prompt."""

from __future__ import annotations

from functools import lru_cache

from sfbench import kernel
from sfbench.exposure import Episodes
from sfbench.exposure_pairs import PAIRS, Pair
from sfbench.paired import Run, Statistic
from sfbench.schema import Estimate

from .video_exposure import VideoExposure
from .video_judge import QUARTERS
from .video_measures import NEEDS_FLOOR, episodes, vectors


@lru_cache(maxsize=2)
def _episodes(task: VideoExposure, run: Run) -> Episodes:
    """Remembered, for every measure and every level asks."""
    of = task.continued(run.result.model, run.records)
    return episodes(of, of.all_grades())


def _statistic(pair: Pair) -> Statistic:
    def made(task: VideoExposure, first: Run, second: Run, confidence: float) -> Estimate:
        return pair(_episodes(task, first), _episodes(task, second), confidence)

    return made


def _kernel(arm: str) -> Statistic:
    """Distance from the true chunks in the last quarter, under one kind of context."""

    def made(task: VideoExposure, first: Run, second: Run, confidence: float) -> Estimate:
        sides = [task.continued(run.result.model, run.records) for run in (first, second)]
        one, other = (
            {p: rows[:, QUARTERS - 1] for p, rows in vectors(side, arm).items()} for side in sides
        )
        film = task.judge.film_quarters(sides[0].frames, sides[0].chunk)
        real = {name: rows[None, QUARTERS - 1] for name, rows in film.items()}
        of = f"KID on 64 projections of {task.features}"
        return kernel.difference(one, other, real, of=of, confidence=confidence)

    return made


STATISTICS = {name: _statistic(pair) for name, pair in PAIRS.items() if name not in NEEDS_FLOOR} | {
    f"kernel_{arm}": _kernel(arm) for arm in ("own", "true")
}
