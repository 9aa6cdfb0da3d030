"""VBench's 16 dimensions as data, and its official totals (Huang et al., CVPR 2024).

Scores come from the real package (:mod:`sfbench.vbench_driver`) or from a published table. The
constants are those of VBench's ``cal_final_score.py``; they reproduce published rows within 0.02
point (``tests/test_vbench.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from .schema import Base

Group = Literal["quality", "semantic"]

QUALITY_SHARE, SEMANTIC_SHARE = 4.0, 1.0
"""Weights of the two groups in the total."""
NAMED = 3
"""How many offending names an error lists before it only counts."""
ROUNDING = 1e-4
"""By so much a mean of cosines in single precision may pass 1."""


class VBenchError(ValueError):
    """Something about a VBench score is wrong; the text is one sentence fit for a user."""


class SetupError(VBenchError):
    """Weights, packages or the interpreter are missing: nothing can be measured."""


class InputError(VBenchError):
    """The videos cannot be scored as they are."""


class WorkerError(VBenchError):
    """The package was run and failed."""


class ResultError(VBenchError):
    """The package finished, but what it wrote is not a score of these videos."""


class Dimension(Base):
    """One dimension: how its raw score (0..1) is normalised and weighed."""

    name: str
    group: Group
    low: float = 0.0
    high: float = 1.0
    weight: float = 1.0
    custom: bool = False
    """Whether the package scores it in ``custom_input`` mode."""
    cosine: bool = False
    """The raw score is a cosine, so it may be negative."""

    def normalise(self, score: float) -> float:
        """``(score - low) / (high - low)``, not clipped, as VBench does it."""
        return (score - self.low) / (self.high - self.low)


DIMENSIONS: dict[str, Dimension] = {
    d.name: d
    for d in (
        Dimension(name="subject_consistency", group="quality", low=0.1462, custom=True),
        Dimension(name="background_consistency", group="quality", low=0.2615, custom=True),
        Dimension(name="temporal_flickering", group="quality", low=0.6293, custom=True),
        Dimension(name="motion_smoothness", group="quality", low=0.706, high=0.9975, custom=True),
        Dimension(name="dynamic_degree", group="quality", weight=0.5, custom=True),
        Dimension(name="aesthetic_quality", group="quality", custom=True),
        Dimension(name="imaging_quality", group="quality", custom=True),
        Dimension(name="object_class", group="semantic"),
        Dimension(name="multiple_objects", group="semantic"),
        Dimension(name="human_action", group="semantic", custom=True),
        Dimension(name="color", group="semantic"),
        Dimension(name="spatial_relationship", group="semantic"),
        Dimension(name="scene", group="semantic", high=0.8222),
        Dimension(name="appearance_style", group="semantic", low=0.0009, high=0.2855, cosine=True),
        Dimension(name="temporal_style", group="semantic", high=0.364, custom=True, cosine=True),
        Dimension(
            name="overall_consistency", group="semantic", high=0.364, custom=True, cosine=True
        ),
    )
}


class Totals(Base):
    """VBench's three totals in per cent; ``None`` where a dimension of the group is missing."""

    quality: float | None
    semantic: float | None
    total: float | None
    present: int
    """Dimensions that were given."""
    text: str
    """``complete: 16 of 16`` or ``partial: 9 of 16``."""


def aggregate(scores: Mapping[str, float]) -> Totals:
    """Official totals of raw scores in 0..1 by dimension name.

    A partial submission gets no total: VBench's own script puts 0 for what is missing, *before* it
    normalises, and so prints nonsense. Raises :class:`VBenchError` for what is not a score.
    """
    normal = normalised(scores)
    quality, semantic = (_group(normal, group) for group in ("quality", "semantic"))
    total = None
    if quality is not None and semantic is not None:
        weighted = QUALITY_SHARE * quality + SEMANTIC_SHARE * semantic
        total = weighted / (QUALITY_SHARE + SEMANTIC_SHARE)
    word = "partial" if total is None else "complete"
    text = f"{word}: {len(normal)} of {len(DIMENSIONS)}"
    return Totals(quality=quality, semantic=semantic, total=total, present=len(normal), text=text)


def normalised(scores: Mapping[str, float]) -> dict[str, float]:
    """Each raw score (0..1) on VBench's scale, in the table's order; it may pass 1 or 0."""
    for name, score in scores.items():
        ensure_plausible(name, score)
    return {name: d.normalise(scores[name]) for name, d in DIMENSIONS.items() if name in scores}


def ensure_plausible(name: str, score: float) -> None:
    """Raise unless ``score`` can be a raw score of the dimension ``name``."""
    dimension = known(name)
    least = -1.0 if dimension.cosine else 0.0
    if not math.isfinite(score):
        raise ResultError(f"{name} is {score}, which is no score; leave the dimension out.")
    if not least - ROUNDING <= score <= 1.0 + ROUNDING:
        raise ResultError(
            f"{name} is {score:g}, but its raw scores lie in {least:g}..1 (not in per cent)."
        )


def known(name: str) -> Dimension:
    """The dimension of that name."""
    if name not in DIMENSIONS:
        raise VBenchError(
            f"{name!r} is not a VBench dimension; choose from {', '.join(DIMENSIONS)}."
        )
    return DIMENSIONS[name]


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _group(normal: Mapping[str, float], group: str) -> float | None:
    """Weighted mean of one group in per cent."""
    members = [d for d in DIMENSIONS.values() if d.group == group]
    if any(d.name not in normal for d in members):
        return None
    weighted = math.fsum(d.weight * normal[d.name] for d in members)
    return 100.0 * weighted / math.fsum(d.weight for d in members)
