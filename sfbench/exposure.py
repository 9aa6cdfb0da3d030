"""Exposure bias: how much worse a generator gets when it continues its own frames.

The same model makes the same chunks under contexts that differ only in whose frames they hold (the
arms of :class:`~sfbench.schema.Context`); a task judges each chunk. Here those judgements become
measures. With ``v_a(k)`` the violation of chunk ``k`` under arm ``a`` and ``e_a(k)`` its error:

- gap ``EBG(k) = v_own(k) - v_true(k)``: zero for a perfect sampler, whatever the future holds;
  its mean over ``k`` (the area over the length), its slope (errors that feed on themselves), and
  whether it grows faster than linearly (:mod:`.exposure_growth`);
- ratio ``EBR(k)``, its area and growth, and the excess accumulated error (:mod:`.exposure_ratio`);
- prefix effect: ``v_own`` at equal distance after true prefixes of several lengths;
- round trip ``v_streamed - v_own``: what decoding and re-encoding changes, kept apart from the gap;
- context help ``e_swapped - e_true`` in error against the exact continuation: a model that gains
  nothing from the true past ignores it, and so shows no bias either;
- recovery: excess ``v_corrupted - v_own`` after damage to the context, and the time to halve it;
- sensitivity to its own errors against noise, and the divergence of twins
  (:mod:`.exposure_response`).

After He et al. (EMNLP 2021, 1905.10617) and Arora et al. (2022, 2204.01171), moved to video.
Differences pair equal (prompt, seed); intervals are over prompts (:mod:`sfbench.stats`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import stats
from .exposure_growth import growth_class
from .exposure_prints import LEAST, squares
from .exposure_ratio import (
    ACCUMULATED,
    accumulated_curve,
    ratio,
    ratio_area,
    ratio_curve,
    ratio_growth,
)
from .exposure_recovery import half_life
from .exposure_response import distance_curve, divergence, sensitivity
from .exposure_rows import Cells, Grouped, both, curve, group, less, level, levels, paired
from .schema import Better, Curve, Estimate

IGNORES_CONTEXT = "IGNORES CONTEXT"
SHARE, DIFFERENCE = "0..1", "-1..1"  # of violations


@dataclass(frozen=True)
class Episodes:
    """What a task measured in the continuations of one model, by arm."""

    violation: Mapping[str, Cells]
    """Arm -> violation of the world's law and of the scene's appearance, 0..1."""
    error: Mapping[str, Cells]
    """Arm -> distance from the exact continuation."""
    floor: Mapping[str, Cells]
    """``own``, ``true`` -> the same distance for an ideal observer of the arm's true frames."""
    ends: tuple[float, ...]
    """Frames after the prefix at which each chunk ends."""
    horizon: float
    """Frames in one unit of growth: the native horizon."""
    error_unit: str
    prints: Mapping[str, Cells] = field(default_factory=dict)
    """Arm -> fingerprints of its chunks in a row (:mod:`.exposure_prints`)."""
    change: Mapping[str, Cells] = field(default_factory=dict)
    """``own``, ``noised`` -> RMS distance from the truth of each chunk as it stands in contexts."""
    prefixes: Mapping[int, Cells] = field(default_factory=dict)
    """Frames of true prefix -> violation under own context, chunks of equal distance in order."""
    violation_floor: Cells = field(default_factory=dict)
    """The violation of a perfect model in each of its clips, where that is not 0."""

    @property
    def gap(self) -> dict[str, list[list[float]]]:
        """``v_own - v_true``."""
        return paired(self.violation.get("own", {}), self.violation.get("true", {}))

    @property
    def violations(self) -> tuple[Grouped, Grouped]:
        """Under own and under true context, less what a perfect model has."""
        arms = (self.violation.get("own", {}), self.violation.get("true", {}))
        if self.violation_floor:
            arms = (less(arms[0], self.violation_floor), less(arms[1], self.violation_floor))
        return both(*arms)

    @property
    def errors(self) -> tuple[Grouped, Grouped]:
        """Under own and under true context, less their floors."""
        return both(self.excess("own"), self.excess("true"))

    @property
    def horizons(self) -> list[float]:
        """The same ends, in native horizons."""
        return [end / self.horizon for end in self.ends]

    def has(self, arm: str) -> bool:
        """Whether there are clips of an arm."""
        return any(cells.get(arm) for cells in (self.violation, self.error, self.prints))

    def excess(self, arm: str) -> Cells:
        """Error of an arm less its floor."""
        return less(self.error.get(arm, {}), self.floor.get(arm, {}))

    def moved(self, first: str, second: str) -> Cells:
        """Squared distance between the chunks of two arms."""
        return squares(self.prints.get(first, {}), self.prints.get(second, {}))


@dataclass
class Exposure:
    """The measures of one model."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    per_prompt: dict[str, dict[str, float]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Level:
    """A measure that is a mean over chunks, seeds and prompts."""

    needs: tuple[str, ...]
    """Arms."""
    rows: Callable[[Episodes], Grouped]
    better: Better | None = "lower"
    unit: str | None = DIFFERENCE
    """``None``: the unit of the error."""
    lacking: str = "no two clips to compare"
    """Why there may be no rows though there are clips."""


@dataclass(frozen=True)
class Other:
    """Any other measure."""

    needs: tuple[str, ...]
    of: Callable[[Episodes], Estimate]


def measure(episodes: Episodes) -> Exposure:
    """All exposure measures; one whose arm is absent says so in its estimate."""
    found = Exposure()
    for name, one in MEASURES.items():
        absent = [arm for arm in one.needs if not episodes.has(arm)]
        if absent:
            reason = f"n/a: no clip of the arm '{absent[0]}'"
            found.estimates[name] = stats.missing(reason)
        elif isinstance(one, Other):
            found.estimates[name] = one.of(episodes)
        elif rows := one.rows(episodes):
            unit = episodes.error_unit if one.unit is None else one.unit
            found.estimates[name] = level(rows, unit=unit, better=one.better)
            found.per_prompt[name] = levels(rows)
        else:
            found.estimates[name] = stats.missing(f"n/a: {one.lacking}", better=one.better)
    if found.estimates["exposure_gap_growth"].value is not None:
        found.per_prompt["exposure_gap_growth"] = _growths(episodes)
    found.curves = _curves(episodes)
    if ignores_context(found.estimates["context_help"]):
        found.flags = (IGNORES_CONTEXT,)
    return found


def not_measured(reason: str) -> Exposure:
    """Every measure with the reason why there is none."""
    return Exposure({name: stats.missing(reason) for name in MEASURES})


def ignores_context(context_help: Estimate) -> bool:
    """True where the true past is not shown to help more than another clip's past."""
    return context_help.low is not None and context_help.low <= 0


# --- one measure each -----------------------------------------------------------------------------


def growth(gap: Grouped, episodes: Episodes) -> Estimate:
    """Slope of the gap; positive: errors feed on themselves. Needs two chunks."""
    unit = "per horizon"
    if len(episodes.ends) < 2:
        return stats.missing("n/a: slope: one chunk only", unit=unit, better="lower")
    return stats.slope(gap, episodes.horizons, unit=unit, better="lower")


def _growths(episodes: Episodes) -> dict[str, float]:
    """The slope of each prompt's gap, so that models can be compared pair by pair."""
    own = stats.slopes(episodes.gap, episodes.horizons)
    return {p: round(v, stats.DIGITS) for p, v in own.items()}


def prefix_effect(prefixes: Mapping[int, Cells]) -> dict[str, list[list[float]]]:
    """Violation after the shortest true prefix less that after the longest, distance by distance.

    The prefix's part of the bias, apart from the horizon's: EB-M of He et al., as a difference.
    """
    if len(prefixes) < 2:
        return {}
    return paired(*(prefixes[frames] for frames in (min(prefixes), max(prefixes))))


def _sensitivity(episodes: Episodes) -> Estimate:
    if len(episodes.ends) < 2:
        return stats.missing("n/a: one chunk only", unit="times")
    return sensitivity(*responses(episodes))


def responses(episodes: Episodes) -> tuple[Grouped, Grouped, Grouped, Grouped]:
    """What own errors and noise move and are, from chunk 1 on: chunk 0 has one context."""
    parts: list[Grouped] = []
    for arm in ("own", "noised"):
        moved, change = episodes.moved(arm, "true"), episodes.change.get(arm, {})
        both = moved.keys() & change.keys()
        parts.append(group({cell: moved[cell][1:] for cell in both}))
        parts.append(group({cell: [v**2 for v in change[cell][:-1]] for cell in both}))
    return parts[0], parts[1], parts[2], parts[3]


def _twins(episodes: Episodes) -> Estimate:
    return divergence(group(episodes.moved("twin", "own")), episodes.horizons, LEAST)


def _curves(episodes: Episodes) -> dict[str, Curve]:
    """By chunk; only those that there are clips for."""
    violation, ends, found = episodes.violation, episodes.ends, {}
    for arm in ("true", "own", "streamed", "swapped", "corrupted"):
        if rows := group(violation.get(arm, {})):
            found[f"exposure_{arm}"] = curve(rows, ends, unit=SHARE)
    for frames, cells in episodes.prefixes.items():
        length = min(map(len, cells.values()), default=0)
        found[f"exposure_prefix_{frames}"] = curve(group(cells), ends[:length], unit=SHARE)
    if gap := episodes.gap:
        found["gap"] = curve(gap, ends, unit=DIFFERENCE)
        found["exposure_ratio"] = ratio_curve(*episodes.violations, ends)
    if all(episodes.errors):
        found["excess_accumulated_error"] = accumulated_curve(*episodes.errors, ends)
    twins = group(episodes.moved("twin", "own"))
    if any(any(row) for rows in twins.values() for row in rows):
        found["twin_distance"] = distance_curve(twins, ends, LEAST)
    return found


MEASURES: dict[str, Level | Other] = {
    "violation_own": Level(("own",), lambda e: group(e.violation["own"]), unit=SHARE),
    "exposure_gap": Level(("own", "true"), lambda e: e.gap),
    "exposure_gap_growth": Other(("own", "true"), lambda e: growth(e.gap, e)),
    "exposure_growth_class": Other(("own", "true"), lambda e: growth_class(e.gap, level(e.gap))),
    "exposure_ratio": Other(("own", "true"), lambda e: ratio(*e.violations)),
    "exposure_ratio_area": Other(("own", "true"), lambda e: ratio_area(*e.violations)),
    "exposure_ratio_growth": Other(
        ("own", "true"), lambda e: ratio_growth(*e.violations, e.horizons)
    ),
    "exposure_ratio_error": Other(("own", "true"), lambda e: ratio(*e.errors)),
    "excess_accumulated_error": Other(
        ("own", "true"), lambda e: ratio(*e.errors, of=ACCUMULATED, percent=True)
    ),
    "excess_error": Level(
        ("own",), lambda e: group(e.excess("own")), unit=None, lacking="no floor to compare with"
    ),
    "prefix_effect": Level(
        ("own",),
        lambda e: prefix_effect(e.prefixes),
        better=None,
        lacking="one length of true prefix only",
    ),
    "round_trip": Level(
        ("streamed", "own"), lambda e: paired(e.violation["streamed"], e.violation["own"])
    ),
    "context_help": Level(
        ("swapped", "true"),
        lambda e: paired(e.error["swapped"], e.error["true"]),
        better="higher",
        unit=None,
    ),
    "context_sensitivity": Other(("own", "true", "noised"), _sensitivity),
    "twin_divergence": Other(("twin", "own"), _twins),
    "recovery_half_life": Other(
        ("corrupted", "own"),
        lambda e: half_life(paired(e.violation["corrupted"], e.violation["own"]), e.ends),
    ),
}
