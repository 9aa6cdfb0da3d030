"""What other papers' drift formulas (:mod:`sfbench.compat`) give on our proxies of a video.

A record keeps what the formulas take, the means over parts of each video; so a row can be made
again from its records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sfbench import compat, stats
from sfbench.compat import CompatError
from sfbench.metrics_view import Series, Watched
from sfbench.schema import Better, Estimate, Scores

from .conclusion import Conclusion

SCALES = {"sharpness": 1.0, "exposure": 1.0, "saturation": 1.0, "motion_magnitude": 0.1}
"""The proxies, and the scale of the corrected VDE: a tenfold variance, the full range twice, a
tenth of the diagonal a second."""
ENDS, SECONDS, CHUNKS = "ends", "end_seconds", "tenths"
"""Series ``<proxy>_<part>`` of a record; empty where a video is too short to be cut so."""
TOO_SHORT = "n/a: no video is long enough to be cut so"

Clips = Sequence[tuple[str, Scores]]


def measure(watched: Watched) -> dict[str, tuple[float | None, ...]]:
    """Means of each proxy over the parts of one video."""
    frames, fps = watched.frames, watched.fps
    found = {}
    for name in SCALES:
        series = watched.series[name]
        for part, cut in (
            (ENDS, lambda: compat.ends(frames)),
            (SECONDS, lambda: compat.end_seconds(frames, fps)),
            (CHUNKS, lambda: compat.chunks(frames)),
        ):
            try:
                parts: Sequence[slice] = cut()
            except CompatError:
                parts = ()
            found[f"{name}_{part}"] = tuple(_mean(series, part) for part in parts)
    return found


def conclude(found: Conclusion, clips: Clips) -> None:
    """The papers' scores of a model, over the videos that are long enough for each."""
    for name in SCALES:
        _contrast(found, name, _pairs(clips, f"{name}_{ENDS}"))
        _delta_drift(found, name, _pairs(clips, f"{name}_{SECONDS}"))
        _vde(found, name, _pairs(clips, f"{name}_{CHUNKS}"))


# --- the formulas ---------------------------------------------------------------------------------

Pairs = list[tuple[str, tuple[float, ...]]]
"""Prompt, and the means over the parts of one of its videos."""


def _contrast(found: Conclusion, name: str, ends: Pairs) -> None:
    _add(found, f"{name}_contrast", [(p, abs(b - a)) for p, (a, b) in ends], "lower")
    _add(found, f"{name}_contrast_signed", [(p, b - a) for p, (a, b) in ends], None)


def _delta_drift(found: Conclusion, name: str, ends: Pairs) -> None:
    """Both readings: the mean of absolute changes, and the absolute change of the means."""
    _add(found, f"{name}_delta_drift", [(p, abs(b - a)) for p, (a, b) in ends], "lower")
    change = stats.mean(_sample((p, b - a) for p, (a, b) in ends), of="change of means")
    found.estimates[f"{name}_delta_drift_means"] = (
        _absolute(change) if ends else stats.missing(TOO_SHORT, better="lower")
    )


def _vde(found: Conclusion, name: str, tenths: Pairs) -> None:
    published = [(p, compat.vde(means)) for p, means in tenths]
    corrected = [(p, compat.vde_corrected(means, SCALES[name])) for p, means in tenths]
    infinite = sum(value == float("inf") for _, value in published)
    if infinite:
        reason = f"n/a: infinite, for the first chunk of {infinite} of {len(tenths)} videos is 0"
        found.estimates[f"{name}_vde"] = stats.missing(reason, better="lower")
    else:
        _add(found, f"{name}_vde", published, "lower")
    _add(found, f"{name}_vde_corrected", corrected, "lower")


def _absolute(change: Estimate) -> Estimate:
    """``|change|`` and what it is over the interval of the change."""
    value, low, high = change.value, change.low, change.high
    if low is not None and high is not None:
        sides = sorted((abs(low), abs(high)))
        low, high = (0.0 if low <= 0 <= high else sides[0]), sides[1]
    update: dict[str, object] = {"low": low, "high": high, "better": "lower"}
    update["value"] = None if value is None else abs(value)
    return change.model_copy(update=update | {"method": f"absolute {change.method}"})


# --- helpers --------------------------------------------------------------------------------------


def _add(
    found: Conclusion, name: str, pairs: Iterable[tuple[str, float]], better: Better | None
) -> None:
    """Publish a mean over prompts; of no video it says why."""
    sample = _sample(pairs)
    if sample:
        found.add(name, sample, better=better)
    else:
        found.estimates[name] = stats.missing(TOO_SHORT, better=better)


def _sample(pairs: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    sample: dict[str, list[float]] = {}
    for prompt, value in pairs:
        sample.setdefault(prompt, []).append(value)
    return sample


def _mean(series: Series, part: slice) -> float | None:
    """Over the frames of a part that have a value."""
    values = series.values[part][series.known[part]]
    return round(float(values.mean(dtype="float64")), stats.DIGITS) + 0.0 if len(values) else None


def _pairs(clips: Clips, name: str) -> Pairs:
    """The videos that have a mean in every part."""
    found = []
    for prompt, scores in clips:
        means = scores.series.get(name, ())
        known = tuple(mean for mean in means if mean is not None)
        if known and len(known) == len(means):
            found.append((prompt, known))
    return found
