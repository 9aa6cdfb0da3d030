"""Part A of the long-horizon task: what becomes of free clips over eight native horizons.

``violation_Nx`` is the mean violation in the N-th native horizon (frames ``12 N - 12 .. 12 N``);
``drift`` is ``violation_8x - violation_1x`` of the same clip, so a clip that is bad from the start
does not drift, and is seen in ``violation_1x``. A clip *fails* in the first window in which any of
the seven violations leaves :data:`BAND`; clips that never do are censored at the end.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from sfbench import metrics, stats
from sfbench.schema import Better, Curve, Estimate, Scores

from .conclusion import Conclusion
from .judge import ATTRIBUTES, NATIVE, WINDOW
from .oracle import VIOLATIONS

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
# Share of frames that copy an earlier frame; the world itself returns to a place in .12 of them.
MOST_REPEATED = 0.5
NO_MOTION = "DEGENERATE (no motion)"
REPEATS = "DEGENERATE (repeats its own frames)"


def measure(clips: Sequence[tuple[str, Scores]], native_only: bool) -> Conclusion:
    """Conclude from ``(prompt id, scores)`` of free clips; one entry a clip."""
    found = Conclusion()
    for times in HORIZONS:
        if native_only and times > 1:
            _native_only(found, times)
        else:
            _horizon(found, clips, times)
    if native_only:
        for name in ("drift", "drift_slope", "worst_window", "alive_8x", "time_to_failure"):
            found.estimates[name] = stats.missing("native length only")
        return found
    _change(found, clips)
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
        names += [f"{name}_{times}x" for name in ("motion", "jitter", "adherence")]
    for name in names:
        found.estimates[name] = stats.missing("native length only")


def _change(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    first, last = found.per_prompt["violation_1x"], found.per_prompt["violation_8x"]
    found.per_prompt["drift"] = {p: round(last[p] - first[p], stats.DIGITS) for p in last}
    found.estimates["drift"] = stats.difference(last, first, unit="0..1", better="lower")
    rows = [(p, _floats(s.series["violation"])) for p, s in clips]
    curves: dict[str, list[list[float]]] = defaultdict(list)
    for prompt, row in rows:
        curves[prompt].append(row)
    horizons = [end / NATIVE for end in _ends(clips)]
    found.estimates["drift_slope"] = stats.slope(
        curves, horizons, unit="per horizon", better="lower"
    )
    found.add(
        "worst_window", _grouped((p, max(row)) for p, row in rows), unit="0..1", better="lower"
    )


def _survival(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    times = [failure_time(scores) for _, scores in clips]
    failed = [time is not None for time in times]
    watched = [FRAMES if time is None else time for time in times]
    alive = _grouped((p, float(time is None)) for (p, _), time in zip(clips, times, strict=True))
    found.estimates["alive_8x"] = stats.share(alive, unit="share", better="higher")
    found.per_prompt["alive_8x"] = stats.by_prompt(alive)
    found.estimates["time_to_failure"] = stats.median_survival(watched, failed, unit="frames")
    at = (0.0, *_ends(clips))
    found.curves["alive"] = Curve(x=at, x_label="frame", y=stats.survival(watched, failed, at))


def failure_time(scores: Scores) -> float | None:
    """End, in frames, of the first window outside the band; ``None`` if there is none."""
    bad = [np.asarray(scores.series[f"v_{name}"], float) > limit for name, limit in BAND.items()]
    windows = np.flatnonzero(np.any(bad, axis=0))
    return float((windows[0] + 1) * WINDOW) if len(windows) else None


def _curves(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    names = {"violation": "drift", "looks": "looks", "moves": "moves"}
    names |= {m.name: m.name for m in metrics.MEASURES}
    ends = _ends(clips)
    neutral = {m.name for m in metrics.MEASURES if m.better is None}
    for series, name in names.items():
        better: Better | None = None if series in neutral else "lower"
        y = tuple(
            stats.mean(_grouped((p, s.series[series][w]) for p, s in clips), better=better)
            for w in range(len(ends))
        )
        found.curves[name] = Curve(x=ends, x_label="frame", y=y)


def flags(estimates: Mapping[str, Estimate], repeated: Mapping[str, float | None]) -> list[str]:
    """Words for clips that obey the law by not playing: no motion, or the same frames again.

    Both the free clips and the continuations under own context are held to it. Where the object is
    not to be seen either, a clip is bad rather than degenerate, and ranks as what it is.
    """
    for place in ("1x", "own"):
        looks_right = _below(estimates[f"violation_{place}"], LOST)
        if looks_right and _below(estimates[f"motion_{place}"], LEAST_MOTION):
            return [NO_MOTION]
    copied = any(share is not None and share > MOST_REPEATED for share in repeated.values())
    return [REPEATS] if copied else []


# --- helpers --------------------------------------------------------------------------------------


def _grouped(pairs: Iterable[tuple[str, float | None]]) -> dict[str, list[float]]:
    """Values by prompt; what was not measured is left out."""
    values: dict[str, list[float]] = defaultdict(list)
    for prompt, value in pairs:
        if value is not None:
            values[prompt].append(value)
    return values


def _below(estimate: Estimate, limit: float) -> bool:
    return estimate.value is not None and estimate.value < limit


def _floats(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float | None]) -> float | None:
    known = _floats(values)
    return float(np.mean(known)) if known else None


def _ends(clips: Sequence[tuple[str, Scores]]) -> tuple[float, ...]:
    """Frames at which the windows end."""
    count = len(clips[0][1].series["violation"]) if clips else 0
    return tuple(float((w + 1) * WINDOW) for w in range(count))
