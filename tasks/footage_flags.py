"""Whether finished videos play at all, held against true videos: words for those that do not.

``lost`` asks whether a video leaves what true videos show. What repeats itself, moves in slow
motion or shows frames in any order need not leave it, for some true video comes back or hardly
moves too; a *set* of videos that do so tells. The two rank-sum tests compare prompts, at
:data:`ALARM` each: of two sets of true videos drawn alike, at most one pair in a thousand differs
so much, and the words ask for a large effect beside it. Six prompts against seven are the fewest
that can differ so much. Where speeds vary much it takes more: half speed in the embedded world is
found in .97 of sets of 24 videos against 24 true ones, in .42 of 12 against 16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, norm

from sfbench import stats
from sfbench.schema import Estimate, Scores

from .drift import LEAST_PACE, MOST_REPEATED, REPEATS, SHUFFLED, SLOW, STILL, most

Floats = NDArray[np.float64]
Clips = Sequence[tuple[str, Scores]]
"""``(prompt, scores)``, one a video."""

NO_TRUTH = (
    "n/a: without true videos nothing tells a loop, slow motion or shuffled frames from a video "
    "that plays; give them with --against"
)

STILL_SHARE = 0.9  # share of frames that repeat the one before
ALARM = 0.001  # of a rank-sum test between two sets of true videos
ORDERS = 99  # random ones
DISORDER = "disorder"
# A video whose frames have an order is below every random one (0). In no order, it may be anywhere
# from 0 to 1, and is beyond this 19 times of 20.
IN_ORDER = 0.05
LEAST_MOTION = 1e-6  # diagonals a second: keeps a ratio finite


def disorder(thumbs: NDArray[np.float32]) -> float | None:
    """Share of random orders of the frames whose neighbours differ no more than in the video's.

    The p-value of a permutation test, less the ``1 / (N + 1)`` that keeps it from 0. A video in any
    smooth order has 0, however badly what it shows moves; frames in no order, as noise or a
    shuffled video has them, make it uniform in 0..1. ``None``: all frames are the same.
    """
    frames = len(thumbs)
    own = _change(thumbs, np.arange(frames))
    if frames < 3 or own == 0:
        return None
    rng = np.random.default_rng(stats.RNG_SEED)
    orders = [_change(thumbs, rng.permutation(frames)) for _ in range(ORDERS)]
    return float(np.mean([change <= own for change in orders]))


def motion_ratio(videos: Clips, truth: Clips) -> Estimate:
    """How fast videos move, in units of true ones: the ratio of two prompts, one of each.

    Hodges and Lehmann's estimate with the interval that belongs to the rank-sum test, both of the
    logarithm. Frames that repeat the one before are left out: what stands still is not slow.
    """
    ours, theirs = _speeds(videos), _speeds(truth)
    if not len(ours) or not len(theirs):
        return stats.missing("n/a: no motion on one side", unit="of the true videos'")
    gaps = np.sort(np.subtract.outer(ours, theirs).ravel())
    n, m = len(ours), len(theirs)
    reach = float(norm.ppf(0.5 + stats.CONFIDENCE / 2)) * math.sqrt(n * m * (n + m + 1) / 12)
    end = math.floor(n * m / 2 - reach)  # gaps below the interval
    low, high = (gaps[end - 1], gaps[-end]) if end > 0 else (None, None)
    chance = _chance(ours, theirs, "less")
    return Estimate(
        value=_ratio(float(np.median(gaps))),
        low=None if low is None else _ratio(float(low)),
        high=None if high is None else _ratio(float(high)),
        n=len(videos),
        clusters=n,
        method=f"Hodges-Lehmann, {n} prompts to {m} of true videos; rank-sum test: slower with "
        f"p = {chance:.2g}",
        unit="of the true videos'",
    )


def stands_still(videos: Clips) -> bool:
    """Whether more than half of the videos show one frame again and again; needs no truth."""
    still = [(s.values["still_share"] or 0) > STILL_SHARE for _, s in videos]
    return sum(still) > len(still) / 2


def flags(videos: Clips, truth: Clips) -> tuple[str, ...]:
    """The word, if any, for videos that do not play where the true ones do.

    *Repeats*: in more than half of the videos half of the frames and more have been seen before,
    and prompts return more than the true ones (rank-sum test). *No order*: of more than half the
    :func:`disorder` is that of frames in no order, and of the true ones' half at most. *Slow*: the
    :func:`motion_ratio` is under :data:`.drift.LEAST_PACE`, and slower by the rank-sum test.
    """
    if stands_still(videos):
        return (STILL,)
    ours, true = [s for _, s in videos], [s for _, s in truth]
    returns, lawful = _by_prompt(videos, "return_share"), _by_prompt(truth, "return_share")
    if most(ours, "return_share", MOST_REPEATED) and _chance(returns, lawful, "greater") <= ALARM:
        return (REPEATS,)
    if most(ours, DISORDER, IN_ORDER) and not most(true, DISORDER, IN_ORDER):
        return (SHUFFLED,)
    ratio, slower = (
        motion_ratio(videos, truth).value,
        _chance(_speeds(videos), _speeds(truth), "less"),
    )
    if ratio is not None and ratio < LEAST_PACE and slower <= ALARM:
        return (SLOW,)
    return ()


# --- helpers --------------------------------------------------------------------------------------


def _change(thumbs: NDArray[np.float32], order: NDArray[np.int_]) -> float:
    """Mean RMS change between neighbours in an order."""
    steps = np.diff(thumbs[order], axis=0)
    return float(np.sqrt((steps**2).mean(axis=1)).mean()) if len(steps) else 0.0


def _speeds(clips: Clips) -> Floats:
    """Log of the motion of the frames that move, one value a prompt."""
    moving: dict[str, list[float]] = {}
    for prompt, scores in clips:
        motion, still = scores.values.get("motion_magnitude"), scores.values.get("still_share")
        if motion is not None and (still or 0) < 1:
            moving.setdefault(prompt, []).append(motion / (1 - (still or 0)))
    speeds = list(stats.by_prompt(moving).values())
    logs: Floats = np.log(np.maximum(speeds, LEAST_MOTION))
    return logs


def _by_prompt(clips: Clips, name: str) -> Floats:
    values: dict[str, list[float]] = {}
    for prompt, scores in clips:
        if (value := scores.values.get(name)) is not None:
            values.setdefault(prompt, []).append(value)
    return np.array(list(stats.by_prompt(values).values()))


def _chance(ours: Floats, theirs: Floats, side: Literal["less", "greater"]) -> float:
    """P-value of the rank-sum test that ours are no less, or no greater."""
    if not len(ours) or not len(theirs):
        return 1.0
    return float(mannwhitneyu(ours, theirs, alternative=side).pvalue)


def _ratio(logarithm: float) -> float:
    return round(math.exp(logarithm), stats.DIGITS)
