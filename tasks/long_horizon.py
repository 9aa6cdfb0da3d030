"""The long-horizon task: drift of free clips (part A) and exposure bias (part B), DESIGN.md 6.

Part A asks for 96 frames from a prompt, eight native horizons of 12 (:mod:`.drift`). Part B gives
six true frames and asks for the next 24 under five arms that differ in whose frames the context
holds (:mod:`sfbench.exposure`). Both judge pixels by the world's oracle (:mod:`.judge`).

====== ======= ==== ===== ======== =================== ======== ======
tier   prompts free seeds own/true swapped, corrupted  requests frames
====== ======= ==== ===== ======== =================== ======== ======
full        32   32     4 3 x 128             2 x 64        544  15360
lite        16   16     4 3 x 64              2 x 32        272   7680
smoke        8    8     2 3 x 16              2 x 8          72   2304
====== ======= ==== ===== ======== =================== ======== ======
(own/true: with streamed, three arms.) The smoke tier shows that everything works; with eight
prompts and two seeds its intervals are wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from sfbench import exposure, metrics, stats
from sfbench.interfaces import Frames
from sfbench.schema import (
    Arm,
    Context,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    SceneRef,
    Scores,
    TaskCard,
    Validity,
    digest,
)

from . import drift
from .conclusion import Conclusion
from .judge import NATIVE, continuation_scores, free_scores, place_error
from .oracle import VIOLATIONS, decode, matched
from .rows import perceive
from .shapes import Shapes, render

PREFIX = 6  # true frames before a continuation: three chunks of two, so velocity can be read
CONTINUATION = 24  # frames; divisible by chunks of 1, 2, 3, 4, 6, 8 and 12
CHUNK = 2  # where a model does not say
DIAGNOSTIC: tuple[Arm, ...] = ("swapped", "corrupted")  # arms with half the seeds
CONTEXT_ARMS: tuple[Arm, ...] = ("true", "own", "streamed", *DIAGNOSTIC)
TIERS = {"smoke": (8, (0, 1)), "lite": (16, (0, 1, 2, 3)), "full": (32, (0, 1, 2, 3))}

EXPOSURE = (
    "violation_own",
    "exposure_gap",
    "exposure_gap_growth",
    "round_trip",
    "context_help",
    "recovery_half_life",
    "excess_error",
)


class LongHorizon:
    """Implements :class:`sfbench.interfaces.Task`."""

    TIERS = tuple(TIERS)
    VERSION = 1
    reference_rows = ("oracle:truth", "oracle:observer", "truth:codec")

    def __init__(
        self,
        dataset: str = "shapes-1",
        tier: str = "full",
        size: int = 32,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """``seeds`` replaces the tier's; ``size`` is pixels a side."""
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        self.world = Shapes(dataset, size)
        self.count, default = TIERS[tier]
        self.seeds = tuple(default if seeds is None else seeds)
        if not self.seeds:
            raise ValueError("long-horizon needs at least one seed")
        self.card = TaskCard(
            name="long-horizon",
            version=self.VERSION,
            tier=tier,
            dataset=dataset,
            prompts_sha256=digest([p.model_dump() for p in map(self._prompt, range(self.count))]),
            geometry=self._geometry(drift.FRAMES),
            seeds=self.seeds,
            metrics={m.name: m.version for m in metrics.MEASURES}
            | {f"v_{name}": 1 for name in VIOLATIONS},
        )

    # --- what is asked ----------------------------------------------------------------------------

    def requests(self, model: ModelCard) -> list[Request]:
        """Free clips, then the continuations arm by arm, if the model takes context."""
        frames = drift.FRAMES if model.causal else model.native_frames or NATIVE
        asked = [
            Request(prompt=self._prompt(i), geometry=self._geometry(frames), seed=self.seeds[0])
            for i in range(self.count)
        ]
        if not _continues(model):
            return asked
        for arm in CONTEXT_ARMS:
            seeds = self.seeds[: -(-len(self.seeds) // 2)] if arm in DIAGNOSTIC else self.seeds
            asked += [
                self._continuation(arm, i, seed, _chunk(model))
                for i in range(self.count)
                for seed in seeds
            ]
        return asked

    def _continuation(self, arm: Arm, index: int, seed: int, chunk: int) -> Request:
        other = (index + self.count // 2) % self.count
        donor = self._ref(other) if arm == "swapped" else None
        return Request(
            prompt=self._prompt(index),
            geometry=self._geometry(CONTINUATION),
            seed=seed,
            context=Context(arm=arm, prefix=PREFIX, chunk=chunk, donor=donor),
        )

    def _prompt(self, index: int) -> Prompt:
        ref = self._ref(index)
        return Prompt(id=f"{ref.split}-{index}", text=self.world.prompt(ref), scene=ref)

    def _ref(self, index: int) -> SceneRef:
        return SceneRef(dataset=self.world.level, split="test", index=index)

    def _geometry(self, frames: int) -> Geometry:
        return Geometry(
            frames=frames, height=self.world.size, width=self.world.size, fps=self.world.fps
        )

    # --- how it is judged -------------------------------------------------------------------------

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a scene."""
        return self.world.clip(ref, frames, start)

    def score(self, request: Request, frames: Frames) -> Scores:
        """Measure one clip; the past that it continues is made again from the scene's name."""
        context, ref = request.context, request.prompt.scene
        if context is None:
            return free_scores(frames, request.prompt.text)
        if ref is None:
            raise ValueError(f"prompt '{request.prompt.id}' names no scene to continue")
        past = self.truth(ref, context.prefix + len(frames))
        scores = continuation_scores(frames, past, self.world.scene(ref), context)
        if context.arm == "own":
            floor = _floor(self.world, ref, context.prefix, len(frames), context.chunk)
            scores = scores.model_copy(update={"series": scores.series | {"floor": floor}})
        return scores

    # --- what it amounts to -----------------------------------------------------------------------

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates, curves and validity from whatever records there are."""
        by_key = {record.key: record for record in records}
        asked = self.requests(model)
        answered = [
            (request, by_key[request.key].scores) for request in asked if request.key in by_key
        ]
        scored = [(request, scores) for request, scores in answered if scores is not None]
        free = [(r.prompt.id, s) for r, s in scored if r.arm == "free"]
        found = drift.measure(free, native_only=not model.causal)
        biased = _exposure(model, scored)
        estimates = found.estimates | biased.estimates
        estimates["motion_own"] = _own_motion(scored)
        flags = (
            []
            if model.kind == "reference-row"
            else [*biased.flags, *drift.flags(estimates, _by_arm(scored))]
        )
        reasons = _shortfall(asked, by_key)
        return Conclusion(
            estimates=estimates,
            curves=found.curves | biased.curves,
            per_prompt=found.per_prompt | biased.per_prompt,
            validity=Validity(ok=not reasons, reasons=tuple(reasons), flags=tuple(flags)),
        )


# --- helpers --------------------------------------------------------------------------------------


def _continues(model: ModelCard) -> bool:
    return model.causal and model.accepts_context


def _chunk(model: ModelCard) -> int:
    return min(model.chunk or CHUNK, CONTINUATION)


@lru_cache(maxsize=4096)
def _floor(world: Shapes, ref: SceneRef, prefix: int, frames: int, chunk: int) -> tuple[float, ...]:
    """Place error a chunk of the ideal observer of the same true prefix."""
    scene = world.scene(ref)
    seen = perceive(world.clip(ref, prefix), len(scene.bodies)) or scene
    state = matched(decode(render(seen, frames, world.size), len(scene.bodies)), scene)
    errors = metrics.windows(place_error(state, scene, prefix), chunk)
    return tuple(round(float(e), stats.DIGITS) for e in errors)


def _exposure(model: ModelCard, scored: Sequence[tuple[Request, Scores]]) -> exposure.Exposure:
    """Part B, or why there is none."""
    if not _continues(model):
        reason = (
            "n/a: makes the whole clip at once"
            if not model.causal
            else "n/a: the model does not accept context"
        )
        return exposure.Exposure({name: stats.missing(reason) for name in EXPOSURE})
    chunk = _chunk(model)
    return exposure.measure(
        exposure.Episodes(
            violation={arm: _cells(scored, arm, "violation") for arm in CONTEXT_ARMS},
            error={arm: _cells(scored, arm, "error") for arm in CONTEXT_ARMS},
            floor=_cells(scored, "own", "floor"),
            ends=tuple(
                float(min(end, CONTINUATION)) for end in range(chunk, CONTINUATION + chunk, chunk)
            ),
            horizon=NATIVE,
            error_unit="sides of the frame",
        )
    )


def _cells(
    scored: Sequence[tuple[Request, Scores]], arm: Arm, series: str
) -> dict[tuple[str, int], list[float]]:
    return {
        (r.prompt.id, r.seed): [v for v in s.series[series] if v is not None]
        for r, s in scored
        if r.arm == arm
    }


def _own_motion(scored: Sequence[tuple[Request, Scores]]) -> Estimate:
    """Persistence of motion in the continuations under own context."""
    moved: dict[str, list[float]] = {}
    for request, scores in scored:
        value = scores.values.get("motion")
        if request.arm == "own" and value is not None:
            moved.setdefault(request.prompt.id, []).append(value)
    return stats.mean(moved, unit="lawful speed squared")


def _by_arm(scored: Sequence[tuple[Request, Scores]]) -> dict[str, list[Scores]]:
    """Scores of the clips that are held to be played and not repeated."""
    return {arm: [s for r, s in scored if r.arm == arm] for arm in ("free", "own")}


def _shortfall(asked: Sequence[Request], records: dict[str, Record]) -> list[str]:
    """Why a run is not whole: requests without a record, and failed ones by kind."""
    reasons = []
    missing = sum(request.key not in records for request in asked)
    if missing:
        reasons.append(f"{missing} of {len(asked)} requests were not run")
    failures = [records[r.key].failure for r in asked if r.key in records]
    kinds = Counter(failure.kind for failure in failures if failure is not None)
    if kinds:
        by_kind = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        reasons.append(f"{kinds.total()} of {len(asked)} requests failed ({by_kind})")
    return reasons
