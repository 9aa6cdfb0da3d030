"""The long-horizon task: drift of free clips (part A) and exposure bias (part B), DESIGN.md 6.

Part A asks for 96 frames from a prompt, eight native horizons of 12 (:mod:`.drift`). Part B gives
six true frames and asks for the next 24 under seven arms that differ in whose frames the context
holds, and for 12 after longer true prefixes (:mod:`.continuations`, :mod:`sfbench.exposure`). Both
judge pixels by the world's oracle (:mod:`.judge`).

====== ======= ==== ===== ===== ========== ======== ======== ======
tier   prompts free seeds whole diagnostic prefixes requests frames
====== ======= ==== ===== ===== ========== ======== ======== ======
full        32   32     4 3x128       4x64     2x64      800  19968
lite        16   16     4  3x64       4x32     2x32      400   9984
smoke        8    8     2  3x16        4x8      2x8      104   2880
====== ======= ==== ===== ===== ========== ======== ======== ======
Whole: true, own, streamed. Diagnostic, with half the seeds: swapped, corrupted, noised, twin. The
smoke tier shows that everything works; with eight prompts and two seeds its intervals are wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sfbench import metrics, stats
from sfbench.interfaces import Frames
from sfbench.schema import (
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

from . import continuations, drift
from .conclusion import Conclusion
from .continuations import Plan, chunk_of, plans, role
from .judge import NATIVE, free_scores
from .oracle import VIOLATIONS
from .shapes import Shapes

TIERS = {"smoke": (8, (0, 1)), "lite": (16, (0, 1, 2, 3)), "full": (32, (0, 1, 2, 3))}


class LongHorizon:
    """Implements :class:`sfbench.interfaces.Task`."""

    TIERS = tuple(TIERS)
    VERSION = 2
    reference_rows = ("oracle:truth", "oracle:observer", "truth:codec")

    def __init__(
        self,
        dataset: str = "shapes-1",
        tier: str = "full",
        size: int = 32,
        seeds: Sequence[int] | None = None,
        split: str = "test",
    ) -> None:
        """``seeds`` replaces the tier's; ``size`` is pixels a side; ``split``: whose scenes."""
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        self.world, self.split = Shapes(dataset, size), split
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
        if not (model.causal and model.accepts_context):
            return asked
        chunk = chunk_of(model)
        for plan in plans(chunk):
            seeds = self.seeds if plan.whole else self.seeds[: -(-len(self.seeds) // 2)]
            asked += [
                self._continuation(plan, i, seed, chunk)
                for i in range(self.count)
                for seed in seeds
            ]
        return asked

    def _continuation(self, plan: Plan, index: int, seed: int, chunk: int) -> Request:
        other = (index + self.count // 2) % self.count
        donor = self._ref(other) if plan.arm == "swapped" else None
        return Request(
            prompt=self._prompt(index),
            geometry=self._geometry(plan.frames),
            seed=seed,
            context=Context(arm=plan.arm, prefix=plan.prefix, chunk=chunk, donor=donor),
        )

    def _prompt(self, index: int) -> Prompt:
        ref = self._ref(index)
        return Prompt(id=f"{ref.split}-{index}", text=self.world.prompt(ref), scene=ref)

    def _ref(self, index: int) -> SceneRef:
        return SceneRef(dataset=self.world.level, split=self.split, index=index)

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
        if request.context is None:
            return free_scores(frames, request.prompt.text)
        return continuations.scores_of(self.world, request, frames)

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
        biased = continuations.measure(model, scored)
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


def _own_motion(scored: Sequence[tuple[Request, Scores]]) -> Estimate:
    """Persistence of motion in the continuations under own context."""
    moved: dict[str, list[float]] = {}
    for request, scores in scored:
        value = scores.values.get("motion")
        if role(request) == "own" and value is not None:
            moved.setdefault(request.prompt.id, []).append(value)
    return stats.mean(moved, unit="lawful speed squared")


def _by_arm(scored: Sequence[tuple[Request, Scores]]) -> dict[str, list[Scores]]:
    """Scores of the clips that are held to be played and not repeated."""
    return {arm: [s for r, s in scored if role(r) == arm] for arm in ("free", "own")}


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
