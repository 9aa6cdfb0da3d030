"""Exposure bias: how much worse a generator gets when it continues its own frames.

The same model makes the same chunks under contexts that differ only in whose frames they hold (the
arms of :class:`~sfbench.schema.Context`); a task judges each chunk. Here those judgements become
measures. With ``v_a(k)`` the violation of chunk ``k`` under arm ``a``:

- gap ``EBG(k) = v_own(k) - v_true(k)``: zero for a perfect sampler, whatever the future holds;
  its mean over ``k`` (the area over the length) and its slope (errors that feed on themselves);
- round trip ``v_streamed - v_own``: what decoding and re-encoding changes, kept apart from the gap;
- context help ``e_swapped - e_true`` in error against the exact continuation: a model that gains
  nothing from the true past ignores it, and so shows no bias either;
- recovery: excess ``v_corrupted - v_own`` after damage to the context, and the time to halve it.

After He et al. (EMNLP 2021, 1905.10617) and Arora et al. (2022, 2204.01171), moved to video.
Differences pair equal (prompt, seed); intervals are over prompts (:mod:`sfbench.stats`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import stats
from .schema import Better, Curve, Estimate

Floats = NDArray[np.float64]
Cells = Mapping[tuple[str, int], Sequence[float]]
"""``(prompt id, seed)`` -> one value a chunk."""
Grouped = Mapping[str, Sequence[Sequence[float]]]
"""Prompt id -> one row of chunk values a seed."""

IGNORES_CONTEXT = "IGNORES CONTEXT"


@dataclass(frozen=True)
class Episodes:
    """What a task measured in the continuations of one model, by arm."""

    violation: Mapping[str, Cells]
    """Arm -> violation of the world's law and of the scene's appearance, 0..1."""
    error: Mapping[str, Cells]
    """Arm -> distance from the exact continuation."""
    floor: Cells
    """The same distance for an ideal observer of the same true prefix."""
    ends: tuple[float, ...]
    """Frames after the prefix at which each chunk ends."""
    horizon: float
    """Frames in one unit of growth: the native horizon."""
    error_unit: str


@dataclass
class Exposure:
    """The measures of one model."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    per_prompt: dict[str, dict[str, float]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def measure(episodes: Episodes) -> Exposure:
    """All exposure measures; one whose arm is absent says so in its estimate."""
    v, e = episodes.violation, episodes.error
    own, gap = group(v.get("own", {})), paired(v.get("own", {}), v.get("true", {}))
    trip = paired(v.get("streamed", {}), v.get("own", {}))
    excess = paired(v.get("corrupted", {}), v.get("own", {}))
    helped = paired(e.get("swapped", {}), e.get("true", {}))
    regret = paired(e.get("own", {}), episodes.floor)

    found = Exposure()
    measures: tuple[tuple[str, Grouped, Better, str], ...] = (
        ("violation_own", own, "lower", "0..1"),
        ("exposure_gap", gap, "lower", "0..1"),
        ("round_trip", trip, "lower", "0..1"),
        ("context_help", helped, "higher", episodes.error_unit),
        ("excess_error", regret, "lower", episodes.error_unit),
    )
    for name, rows, better, unit in measures:
        found.estimates[name] = level(rows, unit=unit, better=better)
        found.per_prompt[name] = levels(rows)
    found.estimates["exposure_gap_growth"] = growth(gap, episodes)
    found.estimates["recovery_half_life"] = half_life(excess, episodes.ends)
    for arm in ("true", "own", "streamed", "swapped", "corrupted"):
        if rows := group(v.get(arm, {})):
            found.curves[f"exposure_{arm}"] = curve(rows, episodes.ends, unit="0..1")
    if gap:
        found.curves["gap"] = curve(gap, episodes.ends, unit="0..1")
    if ignores_context(found.estimates["context_help"]):
        found.flags = (IGNORES_CONTEXT,)
    return found


def ignores_context(context_help: Estimate) -> bool:
    """True where the true past is not shown to help more than another clip's past."""
    return context_help.low is not None and context_help.low <= 0


# --- one measure each -----------------------------------------------------------------------------


def level(rows: Grouped, *, unit: str = "", better: Better = "lower") -> Estimate:
    """Mean over chunks, seeds and prompts."""
    means = {prompt: [float(np.mean(row)) for row in seeds] for prompt, seeds in rows.items()}
    return stats.mean(means, unit=unit, better=better, of="mean over chunks and seeds, then")


def growth(gap: Grouped, episodes: Episodes) -> Estimate:
    """Slope of the gap; positive: errors feed on themselves. Needs two chunks."""
    unit = "per horizon"
    if len(episodes.ends) < 2:
        return stats.missing("slope: one chunk only", unit=unit, better="lower")
    x = [end / episodes.horizon for end in episodes.ends]
    return stats.slope(gap, x, unit=unit, better="lower")


def half_life(excess: Grouped, ends: Sequence[float]) -> Estimate:
    """Frames until the excess violation has fallen, for good, to half of its first value.

    ``value`` is ``None`` where that does not happen within the clip, ``high`` where it does not in
    2.5 % of the resampled prompt sets; ``low`` is at the most the clip's end. 0 where the damage
    had no effect to recover from (the interval of the first chunk's excess includes 0).
    """
    unit, name = "frames", "half-life of the excess violation"
    prompts = np.array([np.mean(seeds, axis=0) for seeds in excess.values()])
    n = sum(len(seeds) for seeds in excess.values())
    if len(prompts) < 2:
        return stats.missing(f"{name}: needs two prompts", unit=unit, better="lower")
    first = stats.mean({p: [row[0] for row in seeds] for p, seeds in excess.items()})
    if first.low is not None and first.low <= 0:
        return Estimate(
            value=0,
            low=None,
            high=None,
            n=n,
            clusters=len(prompts),
            unit=unit,
            better="lower",
            method=f"{name}: no excess in the first chunk",
        )
    value = _half(prompts.mean(axis=0), ends)
    rng = np.random.default_rng(stats.RNG_SEED)
    picks = rng.integers(len(prompts), size=(stats.RESAMPLES, len(prompts)))
    drawn = np.sort([_half(curve, ends) for curve in prompts[picks].mean(axis=1)])
    tail = (1 - stats.CONFIDENCE) / 2
    low, high = (drawn[math.floor(q * (len(drawn) - 1))] for q in (tail, 1 - tail))
    never = "" if math.isfinite(value) else ", never reached"
    return Estimate(
        value=_finite(value),
        low=min(low, float(ends[-1])),
        high=_finite(high),
        n=n,
        clusters=len(prompts),
        unit=unit,
        better="lower",
        method=f"{name}{never}; percentile bootstrap clustered by prompt",
    )


def curve(rows: Grouped, x: Sequence[float], *, unit: str = "", label: str = "frame") -> Curve:
    """Mean over seeds and prompts at each chunk, with its interval."""
    y = tuple(
        stats.mean(
            {p: [row[k] for row in seeds] for p, seeds in rows.items()}, unit=unit, better="lower"
        )
        for k in range(len(x))
    )
    return Curve(x=tuple(float(v) for v in x), x_label=label, y=y)


# --- pairing --------------------------------------------------------------------------------------


def group(cells: Cells) -> dict[str, list[list[float]]]:
    """Rows of each prompt."""
    rows = defaultdict(list)
    for (prompt, _), values in sorted(cells.items()):
        rows[prompt].append(list(values))
    return dict(rows)


def paired(first: Cells, second: Cells) -> dict[str, list[list[float]]]:
    """Rows of ``first - second`` for each (prompt, seed) that both have."""
    common = first.keys() & second.keys()
    return group(
        {cell: [a - b for a, b in zip(first[cell], second[cell], strict=True)] for cell in common}
    )


def levels(rows: Grouped) -> dict[str, float]:
    """Prompt -> mean over its seeds and chunks."""
    return {prompt: round(float(np.mean(seeds)), stats.DIGITS) for prompt, seeds in rows.items()}


def _half(excess: Floats, ends: Sequence[float]) -> float:
    """End of the last chunk above half the first value; infinite if that is the last of all."""
    above = np.flatnonzero(excess > excess[0] / 2)
    if excess[0] <= 0 or not len(above):
        return 0.0
    return float(ends[above[-1]]) if above[-1] + 1 < len(ends) else math.inf


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
