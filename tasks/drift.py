"""Part A of the long-horizon task: what becomes of free clips over eight native horizons.

The panel is the seven violations of the oracle, each with its band (:data:`BAND`). A window in
which all stay inside counts 0; else it counts what its *worst* violation counts, 0..1. ``drift`` is
the mean of that over all windows of a clip: the share of the video that is lost, whichever way it
is lost and whether it recovers. A clip *fails* in the first window that counts; clips that never do
are censored at the end. ``violation_Nx`` is the mean violation in the N-th native horizon (frames
``12 N - 12 .. 12 N``).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from sfbench import metrics, metrics_video, stats, survival
from sfbench.schema import Better, Curve, Estimate, Scores

from .conclusion import Conclusion
from .judge import ATTRIBUTES, NATIVE, PIXEL_CURVES, WINDOW
from .oracle import VIOLATIONS

Floats = NDArray[np.float64]

HORIZONS = (1, 2, 4, 8)
FRAMES = HORIZONS[-1] * NATIVE

# The failure band: highest window mean of each violation that still counts as alive. It is
# simultaneous: max(quantile of the highest window of a true clip, minimum effect), the quantile so
# high that 95 % of true clips stay inside all seven for 96 frames. Of 200 clips of the selection
# split that quantile is at most .02 for every violation, so the minimum effect decides: one frame
# of a window of six fully wrong (.17), which is what a teleport or a blink makes. A codec may flip
# the shape where shapes are alike, so there it is half of the window. Through the embedded codec
# (34 dB) 96 % of the same true clips stay inside.
BAND = {name: 0.15 for name in VIOLATIONS} | {"shape": 0.5}

# From this violation on a clip without motion has lost half of its looks as well.
LOST = 0.75
# Under this persistence (a persistent speed of a third of the lawful one) a model does not move.
LEAST_MOTION = 0.1
# Smooth motion (little jitter) at less than this share of the lawful speed is slow motion: half
# speed makes .59 of it (the slowest that the prompt allows counts as lawful) at a jitter of .04.
# A model that is slow because it stumbles has a jitter of .4 and more.
LEAST_PACE, LEAST_JITTER = 0.7, 0.25
# Copies of earlier frames without a break: a loop from the first half on is a run of four native
# horizons in every clip.
COPIED_RUN = 4 * NATIVE
# In a continuation of two native horizons: share of frames that copy an earlier one.
MOST_REPEATED = 0.5
# A body that turns back at every frame at the lawful speed has a jitter of 2 lawful steps, the most
# that steps of the lawful length can have. True clips have .05 at most, through a codec .22; true
# frames in random order about 6 in twelve frames and 13 in 96.
MOST_JITTER = 2.0
# The chance that a set of true clips is said to repeat itself (:func:`beyond_truth`).
ALARM = 1e-4

NOTHING = "DEGENERATE (nothing of the prompt is seen)"
NO_MOTION = "DEGENERATE (no motion)"
SLOW = "DEGENERATE (slow motion)"
STILL = "DEGENERATE (stands still)"
REPEATS = "DEGENERATE (repeats its own frames)"
SHUFFLED = "DEGENERATE (frames in no order)"


@dataclass(frozen=True)
class Reach:
    """A value of a clip that true clips reach too, and how often they do."""

    name: str
    limit: float
    share: float
    """Of true clips that move on a straight line, at most. A diagonal comes back to the same place
    in .1 % of clips, so that a straight line is the worst that a prompt can ask for. The upper
    limits at 99.9 % of 6000 scenes, at their own speed or at the least that the word allows,
    whichever is more; ``tests/test_false_alarms.py`` measures them again."""


RETURNS = Reach("copied_run", COPIED_RUN, 0.305)  # 27.8 %; at the least speed 28.5 %
OWN_RETURNS = Reach("repeated", MOST_REPEATED, 0.081)  # 7.0 %; at the least speed 4.6 %
LONG = ("drift", "drift_slope", "worst_window", "alive_8x", "time_to_failure")


def measure(clips: Sequence[tuple[str, Scores]], native_only: bool) -> Conclusion:
    """Conclude from ``(prompt id, scores)`` of free clips; one entry a clip."""
    found = Conclusion()
    for times in HORIZONS:
        if native_only and times > 1:
            _native_only(found, times)
        else:
            _horizon(found, clips, times)
    if native_only:
        for name in LONG:
            found.estimates[name] = stats.missing("native length only")
        return found
    _drift(found, clips)
    _survival(found, clips)
    if clips:
        _curves(found, clips)
    return found


def _horizon(found: Conclusion, clips: Sequence[tuple[str, Scores]], times: int) -> None:
    place = slice((times - 1) * NATIVE // WINDOW, times * NATIVE // WINDOW)
    found.add(
        f"violation_{times}x",
        _grouped((p, _mean(s.series["violation"][place])) for p, s in clips),
        unit="0..1",
        better="lower",
    )
    if times in (2, 4):
        return
    kinds: tuple[tuple[str, str, Better | None], ...] = (
        ("motion", "lawful speed squared", None),
        ("jitter", "lawful steps", "lower"),
        ("pace", "lawful speed", None),
    )
    for name, unit, better in kinds:
        key = f"{name}_{times}x"
        found.add(
            key,
            _grouped((p, s.values[key]) for p, s in clips),
            unit=unit,
            better=better,
        )
    for attribute in ATTRIBUTES:
        key = f"adherence_{attribute}_{times}x"
        found.add(
            key, _grouped((p, s.values[key]) for p, s in clips), unit="share", better="higher"
        )
    found.add(
        f"adherence_{times}x",
        _grouped(
            (p, _mean([s.values[f"adherence_{a}_{times}x"] for a in ATTRIBUTES])) for p, s in clips
        ),
        unit="share",
        better="higher",
    )


def _native_only(found: Conclusion, times: int) -> None:
    names = [f"violation_{times}x"]
    if times == HORIZONS[-1]:
        names += [f"{name}_{times}x" for name in ("motion", "jitter", "pace", "adherence")]
    for name in names:
        found.estimates[name] = stats.missing("native length only")


def _drift(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    lost = [(prompt, lost_windows(scores)) for prompt, scores in clips]
    means = ((p, float(row.mean())) for p, row in lost)
    found.add("drift", _grouped(means), unit="share lost", better="lower")
    worst = ((p, float(row.max())) for p, row in lost)
    found.add("worst_window", _grouped(worst), unit="share lost", better="lower")
    curves: dict[str, list[list[float]]] = defaultdict(list)
    for prompt, row in lost:
        curves[prompt].append([float(value) for value in row])
    horizons = [end / NATIVE for end in _ends(clips)]
    found.add_slope("drift_slope", curves, horizons, unit="share lost per horizon", better="lower")


def lost_windows(scores: Scores) -> Floats:
    """What each window of a clip counts, ``[W]``: its worst violation if one leaves its band."""
    rows = np.array([scores.series[f"v_{name}"] for name in BAND], np.float64)
    limits = np.array(list(BAND.values()))[:, None]
    counted: Floats = np.where((rows > limits).any(axis=0), rows.max(axis=0), 0.0)
    return counted


def _survival(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    watched: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for prompt, scores in clips:
        time = failure_time(scores)
        watched[prompt].append((FRAMES if time is None else time, time is not None))
    alive = {p: [float(not failed) for _, failed in rows] for p, rows in watched.items()}
    found.estimates["alive_8x"] = stats.share(alive, unit="share", better="higher")
    found.per_prompt["alive_8x"] = stats.by_prompt(alive)
    found.estimates["time_to_failure"] = survival.median_survival(watched, unit="frames")
    at = (0.0, *_ends(clips))
    found.curves["alive"] = Curve(x=at, x_label="frame", y=survival.survival(watched, at))


def failure_time(scores: Scores) -> float | None:
    """End, in frames, of the first window outside the band; ``None`` if there is none."""
    windows = np.flatnonzero(lost_windows(scores))
    return float((windows[0] + 1) * WINDOW) if len(windows) else None


def _curves(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    """Means over prompts, a value a window; the unit bounds the intervals of what is a share."""
    known: dict[str, tuple[str, Better | None]] = dict.fromkeys(
        ("violation", "looks", "moves"), ("0..1", "lower")
    )
    known |= {m.name: (m.unit, m.better) for m in metrics.MEASURES}
    known |= {m.name: (m.unit, None) for m in metrics_video.MEASURES if m.name in PIXEL_CURVES}
    rows = {name: [(p, s.series[name]) for p, s in clips] for name in known}
    known["drift"] = "share lost", "lower"
    rows["drift"] = [(p, tuple(lost_windows(s).tolist())) for p, s in clips]
    ends = _ends(clips)
    for name, found_rows in rows.items():
        unit, better = known[name]
        y = tuple(
            stats.mean(_grouped((p, row[w]) for p, row in found_rows), unit=unit, better=better)
            for w in range(len(ends))
        )
        found.curves[name] = Curve(x=ends, x_label="frame", y=y)


def flags(estimates: Mapping[str, Estimate], clips: Mapping[str, Sequence[Scores]]) -> list[str]:
    """Words for rows that are not to be ranked because they do not play, or show nothing.

    ``clips``: scores by arm. The free clips and the continuations under own context are both held
    to it.
    """
    free, own = clips.get("free", ()), clips.get("own", ())
    repeats = beyond_truth(free, RETURNS, estimates["violation_1x"].clusters)
    found = not_played(estimates, free, NATIVE, repeats=repeats)
    if not found and most(own, "still_run", NATIVE):
        found.append(STILL)
    if not found and beyond_truth(own, OWN_RETURNS, estimates["violation_own"].clusters):
        found.append(REPEATS)
    looks_right = _below(estimates["violation_own"], LOST)
    if not found and looks_right and _below(estimates["motion_own"], LEAST_MOTION):
        found.append(NO_MOTION)
    return found


def not_played(
    estimates: Mapping[str, Estimate],
    clips: Sequence[Scores],
    still_run: int,
    *,
    repeats: bool = False,
    jitter: str = "jitter_1x",
) -> list[str]:
    """The word, if any, for clips of any length, by their first native horizon and stillest run.

    Where the object is not to be seen either, a clip is bad rather than degenerate, and ranks as
    what it is; a row that never shows it is not worth a rank. ``repeats``: whether the clips repeat
    themselves, which what stands still does too. Frames are in no order where the step changes by
    more than :data:`MOST_JITTER` lawful steps in more than half of the clips (``jitter`` names the
    value): no true clip does so, and no clip can, badly as it moves, whose steps are of the lawful
    length.
    """
    violation, motion = estimates["violation_1x"], estimates["motion_1x"]
    stands = most(clips, "still_run", still_run)
    if _above(violation, LOST):
        return [NOTHING]
    if repeats and not stands:
        return [REPEATS]
    if most(clips, jitter, MOST_JITTER):
        return [SHUFFLED]
    if _below(motion, LEAST_MOTION):
        return [NO_MOTION]
    if _below(estimates["jitter_1x"], LEAST_JITTER) and _below(estimates["pace_1x"], LEAST_PACE):
        return [SLOW]
    return [STILL] if stands else []


def most(clips: Sequence[Scores], name: str, limit: float) -> bool:
    """Whether a value reaches the limit in more than half of the clips."""
    reached = _reached(clips, name, limit)
    return bool(reached) and sum(reached) > len(reached) / 2


def beyond_truth(clips: Sequence[Scores], of: Reach, prompts: int) -> bool:
    """Whether a value is reached more often than true clips of as many prompts would reach it.

    One-sided binomial test: true if as many or more would reach it with a chance of :data:`ALARM`
    or less. The clips of one prompt count as one together (their share that reaches it), for they
    may all show one scene. The least number that is flagged, with :data:`RETURNS`: 8 of 8 prompts,
    13 of 16, 21 of 32; under eight prompts nothing is.

    What the bound does not hold for: sets of prompts in which more than :attr:`Reach.share` of the
    true clips reach it, all on straight lines and alike besides. A run of :data:`RETURNS` is held
    by 32 % of slow bodies on a straight line, and by 38 % of those on a straight line over grey,
    where contrast is least: eight prompts of nothing else are flagged with a chance of .0001 and
    .0004. :data:`OWN_RETURNS` is reached by 14 % of quick bodies on a horizontal.
    """
    reached = _reached(clips, of.name, of.limit)
    count = min(prompts, len(reached))
    if not count:
        return False
    met = math.floor(sum(reached) / len(reached) * count + 1e-9)
    return bool(binom.sf(met - 1, count, of.share) <= ALARM)


# --- helpers --------------------------------------------------------------------------------------


def _grouped(pairs: Iterable[tuple[str, float | None]]) -> dict[str, list[float]]:
    """Values by prompt; what was not measured is left out."""
    values: dict[str, list[float]] = defaultdict(list)
    for prompt, value in pairs:
        if value is not None:
            values[prompt].append(value)
    return values


def _reached(clips: Sequence[Scores], name: str, limit: float) -> list[bool]:
    """Of each clip that has the value, whether it reaches the limit."""
    return [value >= limit for s in clips if (value := s.values.get(name)) is not None]


def _below(estimate: Estimate, limit: float) -> bool:
    return estimate.value is not None and estimate.value < limit


def _above(estimate: Estimate, limit: float) -> bool:
    return estimate.value is not None and estimate.value >= limit


def _floats(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _floats(values)
    return float(np.mean(known)) if known else None


def _ends(clips: Sequence[tuple[str, Scores]]) -> tuple[float, ...]:
    """Frames at which the windows end."""
    count = len(clips[0][1].series["violation"]) if clips else 0
    return tuple(float((w + 1) * WINDOW) for w in range(count))
