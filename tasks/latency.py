"""The latency task: how fast a model streams, as its user feels it (DESIGN.md 6).

Streams of 96 frames, eight native horizons, are asked for one by one from different prompts (of a
model whose horizon is longer than half of that, 96 frames beyond it; of a bidirectional model,
clips of its own length). The first two warm the model up and count for
nothing. Apart from them come streams whose prompt is switched half-way, streams that are timed part
by part, and streams in fresh processes, for what starting costs and holds.

Several models take turns, each a part of its requests (:mod:`sfbench.session`), because the speed
of a machine wanders. All that is played in one turn of a model shares a moment of the machine, so
the turn, not the prompt, is what intervals and paired differences are over.

The scope says what of the work is timed: ``e2e`` from the prompt as text to frames on the CPU,
``dit+decode`` with the text embedded beforehand, ``dit`` also without decoding. Scope, machine,
device, threads, software, and the model's dtype, compilation and, where it is not its own, decoder
are part of the comparison key: other conditions, another table.

====== ===== ======= ======== ===== ========= =============================================
tier   turns streams switched split processes percentiles it can state, at 47 gaps a stream
====== ===== ======= ======== ===== ========= =============================================
full       8      16        8     8         8 p50, p95, p99
lite       4       6        3     2         3 p50, p95
smoke      4       2        1     1         1 p50
====== ===== ======= ======== ===== ========= =============================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sfbench.interfaces import Frames
from sfbench.latency import STEADY, Stream, noise, warm_from
from sfbench.paired import Run, Statistic
from sfbench.provenance import conditions
from sfbench.schema import (
    SCOPES,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    Scalar,
    SceneRef,
    Scores,
    Switch,
    TaskCard,
    Timing,
    Validity,
    digest,
)

from . import played, timings
from .conclusion import Conclusion
from .shapes import Shapes
from .timings import NATIVE

TIERS = {"smoke": 2, "lite": 6, "full": 16}  # streams
SWITCHED = {"smoke": 1, "lite": 3, "full": 8}
SPLIT = {"smoke": 1, "lite": 2, "full": 8}
PROCESSES = {"smoke": 1, "lite": 3, "full": 8}
# With as many streams in all, eight turns make intervals a third narrower than four.
TURNS = {"smoke": 4, "lite": 4, "full": 8}
FRAMES, SWITCH_AT = 96, 48
NOISY = "NOISY MACHINE"
CHEAT = "CHEAT: nothing is generated"


class Latency:
    """Implements :class:`sfbench.interfaces.Task`; of its clips only the times rank."""

    TIERS = tuple(TIERS)
    VERSION = 2
    reference_rows: tuple[str, ...] = ()
    warm_up = 2
    """Requests that come first and are not measured. A task that says so is timed: requests are
    played one by one, and a resumed run warms up again."""

    def __init__(
        self,
        dataset: str = "shapes-1",
        tier: str = "full",
        size: int | tuple[int, int] = 32,
        scope: str = "e2e",
    ) -> None:
        """``size``: pixels a side, or height and width; ``scope``: of :data:`SCOPES`.

        Frames that are not square are no frames of this world: its prompts are asked for, and of
        what is played only that it moves is looked at.
        """
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        if scope not in SCOPES:
            raise ValueError(f"unknown scope '{scope}'; the scopes are {', '.join(SCOPES)}")
        self.square = isinstance(size, int) or size[0] == size[1]
        side = min(size) if isinstance(size, tuple) else size
        self.shape = size if isinstance(size, tuple) else (size, size)
        self.world, self.tier, self.scope = Shapes(dataset, side), tier, scope
        self.rounds = TURNS[tier]

    @property
    def card(self) -> TaskCard:
        """Identity of the task; asked for when the model is loaded, so that its device is known."""
        return TaskCard(
            name="latency",
            version=self.VERSION,
            tier=self.tier,
            dataset=self.world.level,
            prompts_sha256=digest([p.model_dump() for p in self._prompts()]),
            geometry=self._geometry(FRAMES),
            seeds=(0,),
            metrics={"latency": 1} | ({"oracle": 2} if self.square else {}),
            conditions={"scope": self.scope, "batch": "1", **conditions()},
        )

    def requests(self, model: ModelCard) -> list[Request]:
        """Warm-up first; of the rest each part of the run holds its share of every kind."""
        geometry = self._geometry(_frames(model))
        scope: dict[str, Scalar] = {} if self.scope == "e2e" else {"scope": self.scope}
        plain = [
            Request(prompt=p, geometry=geometry, seed=0, options=scope) for p in self._prompts()
        ]
        warmed, tier = plain[self.warm_up :], self.tier
        split = [
            request.model_copy(update={"options": {**scope, "spans": True}})
            for request in warmed[: SPLIT[tier]]
        ]
        switched = [
            request.model_copy(update={"switch": Switch(frame=SWITCH_AT, prompt=other.prompt)})
            for request, other in zip(warmed, reversed(plain), strict=False)
        ]
        alone = Request(
            prompt=plain[0].prompt, geometry=geometry, seed=0, options={"process": "fresh"}
        )
        fresh = [alone.model_copy(update={"seed": n}) for n in range(PROCESSES[tier])]
        kinds = [warmed, switched[: SWITCHED[tier]] if model.switches_prompt else [], split, fresh]
        return [*plain[: self.warm_up], *_dealt(kinds)]

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a scene, for models made of them."""
        if not self.square:
            raise ValueError("the true videos of this world are square; give --size one number")
        return self.world.clip(ref, frames, start)

    def score(self, request: Request, frames: Frames) -> Scores:
        """Of a plain stream that is decoded, what tells whether a video is played at all."""
        if request.switch or request.split or request.scope == "dit":
            return Scores()
        return played.scores(frames, request.prompt.text) if self.square else played.film(frames)

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates over the turns, from the streams after the warm-up (:mod:`.timings`)."""
        turns = self._turns(model)
        timed = [(turns[r.key], r.request, r.timing) for r in records if r.timing]
        plain = [(turn, r, t) for turn, r, t in timed if not r.switch and not r.split]
        counted = _counted(plain)
        found = timings.measure(model, counted)
        timings.starts(found, [(turns[r.key], r.startup) for r in records if r.startup])
        timings.switches(
            found, model, [(turn, r.switch.frame, t) for turn, r, t in timed if r.switch]
        )
        timings.parts(found, [(turn, t) for turn, r, t in timed if r.split])
        shown = [(r.request.prompt.id, r.scores) for r in records if r.scores and r.scores.values]
        words = played.measure(found, shown, _frames(model))
        flags = [CHEAT] if model.kind == "cheat" else words
        streams = [Stream.of(t) for _, _, t in plain]
        by_turn = timings.by_turn((turn, Stream.of(t)) for turn, t in counted)
        found.validity = self._validity(streams, list(by_turn.values()), flags)
        return found

    def gaps(self, run: Run) -> dict[str, list[float]]:
        """Milliseconds between the chunks of the streams that count, by turn."""
        turns = self._turns(run.result.model)
        timed = [(turns[r.key], r.request, r.timing) for r in run.records if r.timing]
        plain = [(turn, r, t) for turn, r, t in timed if not r.switch and not r.split]
        return timings.gaps([(turn, Stream.of(t)) for turn, t in _counted(plain)])

    def _turns(self, model: ModelCard) -> dict[str, str]:
        """Request key -> the turn in which it is played: where the harness cuts the requests."""
        keys = [request.key for request in self.requests(model)]
        ends = [math.ceil(n / self.rounds * len(keys)) for n in range(1, self.rounds + 1)]
        return {
            key: f"turn-{next(n for n, end in enumerate(ends, 1) if place < end)}"
            for place, key in enumerate(keys)
        }

    def _validity(
        self, streams: list[Stream], turns: list[list[Stream]], flags: list[str]
    ) -> Validity:
        reasons = []
        if missing := TIERS[self.tier] - sum(map(len, turns)):
            reasons.append(f"{missing} of {TIERS[self.tier]} streams were not timed")
        warm, noisy = warm_from(streams), noise(turns)
        if warm is not None and warm > self.warm_up:
            reasons.append(f"still warming up: steady from stream {warm} on, not {self.warm_up}")
        if noisy is not None and noisy > STEADY:
            flags = [*flags, f"{NOISY}: streams of one turn spread by {noisy:.0%}"]
        return Validity(ok=not reasons, reasons=tuple(reasons), flags=tuple(flags))

    def _prompts(self) -> list[Prompt]:
        warm = [self._prompt("selection", i, f"warm-up-{i}") for i in range(self.warm_up)]
        return [*warm, *(self._prompt("test", i, f"test-{i}") for i in range(TIERS[self.tier]))]

    def _prompt(self, split: str, index: int, name: str) -> Prompt:
        ref = SceneRef(dataset=self.world.level, split=split, index=index)
        return Prompt(id=name, text=self.world.prompt(ref), scene=ref)

    def _geometry(self, frames: int) -> Geometry:
        height, width = self.shape
        return Geometry(frames=frames, height=height, width=width, fps=self.world.fps)


def _frames(model: ModelCard) -> int:
    """Of a stream: well beyond where the context is full."""
    native = model.native_frames or NATIVE
    if not model.causal:
        return native
    return FRAMES if native <= FRAMES // 2 else native + FRAMES


def _counted(plain: Sequence[tuple[str, Request, Timing]]) -> list[tuple[str, Timing]]:
    """The streams after the warm-up."""
    return [(turn, t) for turn, r, t in plain if not r.prompt.id.startswith("warm-up")]


def _percentile(q: float) -> Statistic:
    def made(task: Latency, first: Run, second: Run, confidence: float) -> Estimate:
        return timings.percentile_difference(task.gaps(first), task.gaps(second), q, confidence)

    return made


STATISTICS = {f"gap_p{100 * q:.0f}": _percentile(q) for q in timings.PERCENTILES}
"""How two runs are paired in percentiles; those that every turn has enough gaps for are by turn."""


def _dealt(kinds: Sequence[Sequence[Request]]) -> list[Request]:
    """All requests, each kind spread evenly over the whole."""
    placed = [((n + 0.5) / len(kind), r) for kind in kinds for n, r in enumerate(kind)]
    return [request for _, request in sorted(placed, key=lambda pair: pair[0])]
