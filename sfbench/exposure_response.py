"""Response: how a generator's next frames answer to a change of its context, in no one's eyes.

- context-swap sensitivity: the true context is exchanged for the model's own, or white noise of
  known size is added to it; chunk and noise seed stay. The gain is how far the chunk moves for each
  unit that the context was moved; the estimate is the gain for own errors over the gain for noise.
  Above 1 it is their direction that moves the model, not their size. Both gains are root mean
  squares over prompts, seeds and chunks, so that what does not move counts as that.
- divergence of twins: the same rollout twice, the second from a prefix changed by next to nothing.
  The slope of the logarithm of their distance is a finite-time Lyapunov exponent: below 0 the
  generator forgets a disturbance, above 0 it enlarges it.

Neither has a better direction: an ideal observer follows its own context too, and a slightly wrong
speed adds up for it as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import stats
from .exposure_pool import Pool
from .exposure_rows import Grouped
from .schema import Curve, Estimate

Floats = NDArray[np.float64]


def sensitivity(
    own: Grouped, own_change: Grouped, noised: Grouped, noised_change: Grouped
) -> Estimate:
    """Gain for own errors over gain for noise.

    ``own``, ``noised``: squared distance of each chunk from the one under true context.
    ``..._change``: squared change of the context just before it, i.e. of its last chunk; what is
    older moves a model less, and counting it would make noise, which is everywhere, look weaker.
    """
    pool = sensitivity_pool(own, own_change, noised, noised_change)
    found = pool.estimate
    if found.value is None:
        return found
    scale = np.sqrt(np.mean(list(pool.rows.values()), axis=0))
    gains = (
        f"{scale[0] / scale[1]:.2f} for own errors of {scale[1]:.1f} levels, "
        f"{scale[2] / scale[3]:.2f} for noise of {scale[3]:.1f}"
    )
    return found.model_copy(update={"method": f"{found.method} ({gains})"})


def sensitivity_pool(
    own: Grouped, own_change: Grouped, noised: Grouped, noised_change: Grouped
) -> Pool:
    """What that is made of: four means a prompt."""
    groups = (own, own_change, noised, noised_change)
    prompts = sorted(set.intersection(*(set(g) for g in groups)))
    rows = {p: np.array([_mean(g[p]) for g in groups]) for p in prompts}
    moved, cause, moved_by_noise, noise = np.sum([*rows.values(), np.zeros(4)], axis=0)
    reasons = {
        "nothing was measured": not rows,
        "its own context is the true one": cause == 0,
        "its own context moves nothing": moved == 0,
        "noise in the context moves nothing": moved_by_noise == 0 or noise == 0,
    }

    def log_gains(means: Floats) -> float:
        logs = np.log(means) / 2  # of squares
        return float(logs[0] - logs[1] - logs[2] + logs[3])

    return Pool(
        rows,
        log_gains,
        sum(len(own[p]) for p in prompts),
        "ratio of gains",
        "times",
        shown=math.exp,
        reason=next((reason for reason, holds in reasons.items() if holds), ""),
    )


def divergence(twins: Grouped, x: Sequence[float], least: float) -> Estimate:
    """Slope of the log distance of twins over ``x``, the chunks' ends in native horizons.

    ``twins``: squared distance of each chunk from its twin's. ``least``: the smallest distance that
    can be seen, which stands for a chunk where the twins are equal. The slope is each prompt's own,
    or the one that diverged most would speak for all; a prompt whose twins never differ has none.
    """
    of, unit = "slope of the log distance of twins", "per horizon"
    if not twins:
        return stats.missing(f"n/a: {of}: nothing was measured", unit=unit)
    if len(x) < 2:
        return stats.missing(f"n/a: {of}: one chunk only", unit=unit)
    logs, equal = _logs(twins, least)
    if not logs:
        return stats.missing("n/a: the twins stay equal", unit=unit)
    found = stats.slope({p: [row.tolist()] for p, row in logs.items()}, x, unit=unit)
    notes = [found.method.replace("least-squares slope", of)]
    if len(logs) < len(twins):
        notes.append(f"without {len(twins) - len(logs)} prompts whose twins stay equal")
    if equal:
        notes.append(f"{equal} equal chunks stand at the least visible distance")
    return found.model_copy(
        update={"method": "; ".join(notes), "n": sum(len(twins[p]) for p in logs)}
    )


def rates(twins: Grouped, x: Sequence[float], least: float) -> dict[str, float]:
    """The slope of each prompt whose twins ever differ."""
    logs, _ = _logs(twins, least)
    return stats.slopes({p: [row.tolist()] for p, row in logs.items()}, x)


def distance_curve(twins: Grouped, x: Sequence[float], least: float) -> Curve:
    """Distance of twins at each chunk, in levels: the geometric mean of those that ever differ."""
    logs, _ = _logs(twins, least)
    y = []
    for k in range(len(x)):
        mean = stats.mean({p: float(row[k]) for p, row in logs.items()}, of="geometric mean")
        ends = {name: getattr(mean, name) for name in ("value", "low", "high")}
        shown = {
            name: None if end is None else round(math.exp(end), stats.DIGITS)
            for name, end in ends.items()
        }
        y.append(mean.model_copy(update={**shown, "unit": "levels"}))
    return Curve(x=tuple(x), x_label="frame", y=tuple(y))


def _logs(twins: Grouped, least: float) -> tuple[dict[str, Floats], int]:
    """Log distance ``[chunks]`` of prompts whose twins ever differ; how many chunks do not."""
    squares = {p: np.mean(np.asarray(rows, np.float64), axis=0) for p, rows in twins.items()}
    apart = {p: row for p, row in sorted(squares.items()) if row.any()}
    equal = sum(int((row == 0).sum()) for row in apart.values())
    return {p: np.log(np.maximum(row, least**2)) / 2 for p, row in apart.items()}, equal


def _mean(rows: Sequence[Sequence[float]]) -> float:
    return float(np.mean(np.asarray(rows, np.float64)))
