"""The latency task: how fast a model streams, as its user feels it (DESIGN.md 6).

Streams of 96 frames, eight native horizons, are asked for one by one from different prompts (a
bidirectional model: clips of its own length). The first two warm the model up and count for
nothing. Apart from them come streams whose prompt is switched half-way, streams that are timed part
by part, and streams in fresh processes, for what starting costs and holds.

The scope says what of the work is timed: ``e2e`` from the prompt as text to frames on the CPU,
``dit+decode`` with the text embedded beforehand, ``dit`` also without decoding. Scope, machine,
device, threads, software, and the model's dtype and compilation are part of the comparison key:
other conditions, another table.

====== ======= ======== ===== ========= =============================================
tier   streams switched split processes percentiles it can state, at 47 gaps a stream
====== ======= ======== ===== ========= =============================================
full        16        8     4         5 p50, p95, p99
lite         6        3     2         3 p50, p95
smoke        2        1     1         1 p50
====== ======= ======== ===== ========= =============================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfbench import stats
from sfbench.interfaces import Frames
from sfbench.latency import STEADY, Stream, noise, warm_from
from sfbench.provenance import conditions
from sfbench.schema import (
    SCOPES,
    Curve,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    Scalar,
    SceneRef,
    Scores,
    Startup,
    Switch,
    TaskCard,
    Timing,
    Validity,
    digest,
)

from .conclusion import Conclusion
from .shapes import Shapes

TIERS = {"smoke": 2, "lite": 6, "full": 16}  # streams
SWITCHED = {"smoke": 1, "lite": 3, "full": 8}
SPLIT = {"smoke": 1, "lite": 2, "full": 4}
PROCESSES = {"smoke": 1, "lite": 3, "full": 5}
FRAMES, SWITCH_AT = 96, 48
NATIVE = 12  # where a model does not say
PERCENTILES = (0.5, 0.95, 0.99)
RATES = (16, 24)  # frames a second that a viewer may want
PARTS = ("text", "denoise", "cache", "decode")
EXPLAINED = 0.05  # the parts must add up to the whole within this
NOISY = "NOISY MACHINE"
CHEAT = "CHEAT: nothing is generated"


class Latency:
    """Implements :class:`sfbench.interfaces.Task`; its clips are timed, not judged."""

    TIERS = tuple(TIERS)
    VERSION = 1
    reference_rows: tuple[str, ...] = ()
    warm_up = 2
    """Requests that come first and are not measured. A task that says so is timed: requests are
    played one by one, and a resumed run warms up again."""
    rounds = 4

    def __init__(
        self, dataset: str = "shapes-1", tier: str = "full", size: int = 32, scope: str = "e2e"
    ) -> None:
        """``size``: pixels a side; ``scope``: of :data:`sfbench.schema.SCOPES`."""
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        if scope not in SCOPES:
            raise ValueError(f"unknown scope '{scope}'; the scopes are {', '.join(SCOPES)}")
        self.world, self.tier, self.scope = Shapes(dataset, size), tier, scope

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
            metrics={"latency": 1},
            conditions={"scope": self.scope, "batch": "1", **conditions()},
        )

    def requests(self, model: ModelCard) -> list[Request]:
        """Warm-up first; of the rest each part of the run holds its share of every kind."""
        geometry = self._geometry(FRAMES if model.causal else model.native_frames or NATIVE)
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
        return self.world.clip(ref, frames, start)

    def score(self, request: Request, frames: Frames) -> Scores:
        """Nothing: pixels are judged by the other tasks."""
        return Scores()

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates over the streams after the warm-up."""
        timings = [(r.request, r.timing) for r in records if r.timing]
        plain = {r.prompt.id: t for r, t in timings if not r.switch and not r.split}
        played = {prompt: Stream.of(timing) for prompt, timing in plain.items()}
        streams = {p: s for p, s in played.items() if not p.startswith("warm-up")}
        found = Conclusion()
        _starts(found, [r.startup for r in records if r.startup])
        _first_frames(found, streams)
        speeds = {p: plain[p].machine_s for p in streams}
        machine = {p: 1000 * speed for p, speed in speeds.items() if speed is not None}
        found.add("machine", machine, unit="ms")
        if model.causal:
            _gaps(found, streams, model)
        else:
            _in_one_piece(found)
        _switches(found, model, [(r, Stream.of(t)) for r, t in timings if r.switch])
        _parts(found, {r.prompt.id: t for r, t in timings if r.split})
        found.validity = self._validity(model, list(played.values()), list(streams.values()))
        return found

    def _validity(self, model: ModelCard, played: list[Stream], streams: list[Stream]) -> Validity:
        reasons = []
        if missing := TIERS[self.tier] - len(streams):
            reasons.append(f"{missing} of {TIERS[self.tier]} streams were not timed")
        warm, noisy = warm_from(played), noise(streams)
        if warm is not None and warm > self.warm_up:
            reasons.append(f"still warming up: steady from stream {warm} on, not {self.warm_up}")
        flags = [CHEAT] if model.kind == "cheat" else []
        if noisy is not None and noisy > STEADY:
            flags.append(f"{NOISY}: streams spread by {noisy:.0%}")
        return Validity(ok=not reasons, reasons=tuple(reasons), flags=tuple(flags))

    def _prompts(self) -> list[Prompt]:
        warm = [self._prompt("selection", i, f"warm-up-{i}") for i in range(self.warm_up)]
        return [*warm, *(self._prompt("test", i, f"test-{i}") for i in range(TIERS[self.tier]))]

    def _prompt(self, split: str, index: int, name: str) -> Prompt:
        ref = SceneRef(dataset=self.world.level, split=split, index=index)
        return Prompt(id=name, text=self.world.prompt(ref), scene=ref)

    def _geometry(self, frames: int) -> Geometry:
        return Geometry(
            frames=frames, height=self.world.size, width=self.world.size, fps=self.world.fps
        )


def _dealt(kinds: Sequence[Sequence[Request]]) -> list[Request]:
    """All requests, each kind spread evenly over the whole."""
    placed = [((n + 0.5) / len(kind), r) for kind in kinds for n, r in enumerate(kind)]
    return [request for _, request in sorted(placed, key=lambda pair: pair[0])]


# --- what is concluded ----------------------------------------------------------------------------


def _starts(found: Conclusion, starts: Sequence[Startup]) -> None:
    """What it takes to start; the sample is of processes."""
    seconds = {
        "cold_start": [s.ready_s for s in starts],
        "first_call": [s.first_frame_s - s.ready_s for s in starts],
    }
    for name, values in seconds.items():
        found.estimates[name] = _of_processes(values, "s")
    memory = {
        "memory_peak": [s.peak_bytes for s in starts],
        "memory_steady": [s.steady_bytes for s in starts],
        "cuda_peak": [s.cuda_peak_bytes for s in starts],
    }
    for name, sizes in memory.items():
        found.estimates[name] = _of_processes([b / 2**20 for b in sizes if b is not None], "MiB")


def _of_processes(values: Sequence[float], unit: str) -> Estimate:
    sample = {str(n): value for n, value in enumerate(values)}
    estimate = stats.mean(sample, unit=unit, better="lower")
    method = estimate.method.replace("prompt", "process")
    return estimate.model_copy(update={"method": method})


def _first_frames(found: Conclusion, streams: Mapping[str, Stream]) -> None:
    first = {p: 1000 * s.first_frame for p, s in streams.items()}
    found.add("first_frame", first, unit="ms", better="lower")
    throughput = {p: sum(s.frames) / sum(s.seconds) for p, s in streams.items()}
    found.add("throughput", throughput, unit="frames a second", better="higher")


def _gaps(found: Conclusion, streams: Mapping[str, Stream], model: ModelCard) -> None:
    """Everything that needs more than one chunk."""
    native = model.native_frames or NATIVE
    gaps = {p: [1000 * gap for gap in stream.gaps] for p, stream in streams.items()}
    for q in PERCENTILES:
        found.estimates[f"gap_p{100 * q:.0f}"] = stats.percentile(
            gaps, q, unit="ms", better="lower"
        )
    jitter = {p: 1000 * s.jitter for p, s in streams.items() if s.jitter is not None}
    found.add("jitter", jitter, unit="ms", better="lower")
    for rate in RATES:
        late = {p: s.misses(rate) for p, s in streams.items() if s.gaps}
        found.estimates[f"late_{rate}"] = stats.share(late, unit="share", better="lower")
    full = {p: pace for p, s in streams.items() if (pace := s.pace(after=native)) is not None}
    found.add("fps_full", full, unit="frames a second", better="higher")
    latents = {p: pace / model.frames_per_latent for p, pace in full.items()}
    found.add("latents_full", latents, unit="latent frames a second", better="higher")
    paces = {p: [s.paces] for p, s in streams.items() if len(s.gaps) > 1}
    if not paces or len({s.frames for s in streams.values()}) > 1:
        found.estimates["fps_slope"] = stats.missing("n/a: streams came in unequal chunks")
        return
    chunks = next(iter(streams.values())).frames
    ends = [float(sum(chunks[: k + 1])) for k in range(1, len(chunks))]
    found.estimates["fps_slope"] = stats.slope(
        paces, [end / native for end in ends], unit="frames a second per native horizon"
    )
    found.curves["pace"] = Curve(
        x=tuple(ends),
        x_label="frame",
        y=tuple(
            stats.mean({p: rows[0][k] for p, rows in paces.items()}, unit="frames a second")
            for k in range(len(ends))
        ),
    )


def _in_one_piece(found: Conclusion) -> None:
    names = [f"gap_p{100 * q:.0f}" for q in PERCENTILES] + [f"late_{rate}" for rate in RATES]
    for name in (*names, "jitter", "fps_full", "latents_full", "fps_slope"):
        found.estimates[name] = stats.missing("n/a: makes the whole clip at once")


def _switches(
    found: Conclusion, model: ModelCard, streams: Sequence[tuple[Request, Stream]]
) -> None:
    """From saying another prompt to the first frame under it."""
    if not model.switches_prompt:
        found.estimates["switch"] = stats.missing("n/a: cannot change its prompt while it streams")
        return
    waits = {r.prompt.id: 1000 * s.wait_at(r.switch.frame) for r, s in streams if r.switch}
    found.add("switch", waits, unit="ms", better="lower")


def _parts(found: Conclusion, timings: Mapping[str, Timing]) -> None:
    """Where a chunk's time goes, if the model says and its parts add up to the whole.

    The text is embedded once, in the first chunk; the other parts are those of a later chunk, or of
    the only one.
    """
    parts = {p: [{k: c.get(k, 0.0) for k in PARTS} for c in t.spans] for p, t in timings.items()}
    whole = {p: sum(seconds for _, seconds in t.chunks) for p, t in timings.items()}
    share = {p: sum(sum(c.values()) for c in chunks) / whole[p] for p, chunks in parts.items()}
    if not any(share.values()):
        for name in ("explained", *(f"part_{part}" for part in PARTS)):
            found.estimates[name] = stats.missing("n/a: names no part")
        return
    found.add("explained", share, unit="share")
    told = found.estimates["explained"].value
    if told is None or abs(told - 1) > EXPLAINED:
        reason = "n/a" if told is None else f"n/a: the parts it names are {told:.0%} of the time"
        for name in PARTS:
            found.estimates[f"part_{name}"] = stats.missing(reason)
        return
    for name in PARTS:
        times = {p: [1000 * c[name] for c in _told(name, chunks)] for p, chunks in parts.items()}
        found.add(f"part_{name}", times, unit="ms", better="lower")


def _told(part: str, chunks: list[dict[str, float]]) -> list[dict[str, float]]:
    """The chunks in which a part is as it always is."""
    return chunks[:1] if part == "text" else chunks[1:] or chunks
