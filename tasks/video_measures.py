"""What the continuations of the video-exposure task add up to, for one model.

The violation and its relatives are those of :mod:`sfbench.exposure`. Kernel distances compare
samples: all videos' chunks of one quarter of the continuation against the true ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sfbench import exposure, kernel, stats
from sfbench.departure import NAMES
from sfbench.exposure import Episodes
from sfbench.schema import Curve, Estimate, Request, Scores

from .conclusion import Conclusion
from .continuations import ARMS, COMPARED, equal_distance, role
from .drift import MOST_REPEATED, REPEATS, STILL, most
from .video_judge import QUARTERS, Grades, VideoJudge, mean_by_prompt

Floats = NDArray[np.float64]
Rows = dict[tuple[str, int], list[float]]
"""``(prompt id, seed)`` -> numbers in a row."""

UNJUDGED = ("noised", "twin")  # arms of which only distances from other clips are told
KERNELS = ("kernel_own", "kernel_true", "kernel_gap", "kernel_floor")
NO_FLOOR = "n/a: nobody knows what else a filmed video could have gone on with"
NEEDS_FLOOR = ("exposure_ratio_error", "excess_accumulated_error", "excess_error")
STILL_SHARE = 0.5  # of a continuation, in a row


@dataclass(frozen=True)
class Continued:
    """The continuations of one model that were scored."""

    judge: VideoJudge
    features: str
    """Name of the image features."""
    frames: int
    """Of a continuation."""
    longer: tuple[int, ...]
    """Other true prefixes of the arm ``own``."""
    chunk: int
    horizon: float
    """Frames in one unit of growth."""
    scored: Sequence[tuple[Request, Scores]]

    def of(self, part: str) -> list[tuple[Request, Scores]]:
        """Those of one arm: ``own``, or ``own@12`` after a longer prefix."""
        return [(r, s) for r, s in self.scored if role(r, self.judge.prefix) == part]

    def rows(self, part: str, name: str) -> Rows:
        """One series of an arm."""
        return {
            (r.prompt.id, r.seed): [v for v in s.series[name] if v is not None]
            for r, s in self.of(part)
        }

    def grades(self, part: str) -> Grades:
        """Of each chunk and measure."""
        found = self.of(part)
        if not found or found[0][0].context is None:
            return {}
        context, frames = found[0][0].context, found[0][0].geometry.frames
        tables = (
            (r.prompt.id, r.seed, np.array([s.series[n] for n in NAMES], np.float64).T)
            for r, s in found
        )
        return self.judge.grades(tables, context.prefix, frames, context.chunk)

    def all_grades(self) -> dict[str, Grades]:
        """Of every arm that is judged."""
        arms = [arm for arm in ARMS if arm not in UNJUDGED]
        return {part: self.grades(part) for part in (*arms, *(f"own@{p}" for p in self.longer))}

    def floor(self) -> dict[str, Floats]:
        """Prompt id -> violation ``[K]`` of the continuation that was filmed."""
        graded = self.judge.floor(self.frames, self.chunk)
        return {prompt: table.mean(axis=1) for prompt, table in graded.items()}


def measured(of: Continued) -> tuple[Conclusion, tuple[str, ...]]:
    """All estimates and curves, and words for what should not be ranked."""
    grades = of.all_grades()
    bias = exposure.measure(episodes(of, grades))
    found = Conclusion(bias.estimates, bias.curves, bias.per_prompt)
    for name in NEEDS_FLOOR:
        found.estimates[name] = stats.missing(NO_FLOOR, better="lower")
    for m, name in enumerate(NAMES):
        rows = {cell: table[:, m].tolist() for cell, table in grades["own"].items()}
        found.add(f"own_{name}", mean_by_prompt(rows), unit="0..1", better="lower")
    floor = {prompt: float(row.mean()) for prompt, row in of.floor().items()}
    found.add("violation_floor", floor, unit="0..1", better="lower")
    _kernels(found, of)
    return found, (*bias.flags, *_flags(of))


def not_measured(reason: str) -> Conclusion:
    """Every measure with the reason why there is none."""
    names = (*(f"own_{name}" for name in NAMES), "violation_floor", *KERNELS)
    nothing = {name: stats.missing(reason) for name in names}
    return Conclusion(exposure.not_measured(reason).estimates | nothing)


def episodes(of: Continued, grades: dict[str, Grades]) -> Episodes:
    """What the exposure measures take; ``grades``: by arm."""
    violation = {
        part: {cell: table.mean(axis=1).tolist() for cell, table in cells.items()}
        for part, cells in grades.items()
    }
    floor = {prompt: row.tolist() for prompt, row in of.floor().items()}
    prefixes = {of.judge.prefix: violation["own"]}
    prefixes |= {frames: violation[f"own@{frames}"] for frames in of.longer}
    ends = range(of.chunk, of.frames + of.chunk, of.chunk)
    return Episodes(
        violation=violation,
        violation_floor={c: floor[c[0]] for c in {*violation["own"], *violation["true"]}},
        error={arm: of.rows(arm, "error") for arm in ("true", "swapped")},
        floor={},
        ends=tuple(float(min(end, of.frames)) for end in ends),
        horizon=of.horizon,
        error_unit="1 - cosine",
        prints={arm: of.rows(arm, "print") for arm in COMPARED},
        change={arm: of.rows(arm, "change") for arm in ("own", "noised")},
        prefixes=equal_distance(prefixes),
    )


def _kernels(found: Conclusion, of: Continued) -> None:
    """Distances from the true chunks: by quarter as curves, of the last one as estimates."""
    own, true = vectors(of, "own"), vectors(of, "true")
    if not (own and true):
        for name in KERNELS:
            found.estimates[name] = stats.missing("n/a: no clip", better="lower")
        return
    film = {n: row[None] for n, row in of.judge.film_quarters(of.frames, of.chunk).items()}
    curves: dict[str, list[Estimate]] = {name: [] for name in KERNELS}
    for q in range(QUARTERS):
        a, b, real = ({p: rows[:, q] for p, rows in side.items()} for side in (own, true, film))
        words = f"KID on 64 projections of {of.features}, quarter {q + 1}"
        curves["kernel_own"].append(kernel.distance(a, real, of=words))
        curves["kernel_true"].append(kernel.distance(b, real, of=words))
        curves["kernel_gap"].append(kernel.difference(a, b, real, of=words))
        curves["kernel_floor"].append(kernel.floor(real, of=words))
    ends = tuple(of.frames * (q + 1) / QUARTERS for q in range(QUARTERS))
    for name, y in curves.items():
        found.estimates[name] = y[-1]
        found.curves[name] = Curve(x=ends, x_label="frame", y=tuple(y))


def vectors(of: Continued, arm: str) -> dict[str, Floats]:
    """Prompt id -> features of an arm, ``[seeds, quarters, 64]``."""
    rows: dict[str, list[Floats]] = {}
    for (prompt, _), flat in sorted(of.rows(arm, "features").items()):
        rows.setdefault(prompt, []).append(np.array(flat).reshape(QUARTERS, -1))
    return {prompt: np.stack(clips) for prompt, clips in rows.items()}


def _flags(of: Continued) -> list[str]:
    """Words for continuations that are not played, where the true ones are."""
    own = [scores for _, scores in of.of("own")]
    limits = {"still_run": (STILL_SHARE, STILL), "repeated": (MOST_REPEATED, REPEATS)}
    for name, (limit, word) in limits.items():
        if most(own, name, limit) and not most(own, f"true_{name}", limit):
            return [word]
    return []
