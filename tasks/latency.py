"""The latency task: how fast a model streams, as its user feels it (DESIGN.md 6).

Streams of 96 frames, eight native horizons, are asked for one by one from different prompts (a
bidirectional model: clips of its own length). The first two warm the model up and count for
nothing. A few more are played in fresh processes, for what starting costs and holds. The scope is
``e2e``: from the prompt as text to frames on the CPU. Machine, device, threads and software are
part of the comparison key: other conditions, another table.

====== ======= ========= =============================================
tier   streams processes percentiles it can state, at 47 gaps a stream
====== ======= ========= =============================================
full        16         5 p50, p95, p99
lite         6         3 p50, p95
smoke        2         1 p50
====== ======= ========= =============================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sfbench import stats
from sfbench.interfaces import Frames
from sfbench.latency import STEADY, Stream, noise, warm_from
from sfbench.provenance import conditions
from sfbench.schema import (
    Curve,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    SceneRef,
    Scores,
    Startup,
    TaskCard,
    Validity,
    digest,
)

from .conclusion import Conclusion
from .shapes import Shapes

TIERS = {"smoke": 2, "lite": 6, "full": 16}  # streams
PROCESSES = {"smoke": 1, "lite": 3, "full": 5}
FRAMES = 96
NATIVE = 12  # where a model does not say
PERCENTILES = (0.5, 0.95, 0.99)
RATES = (16, 24)  # frames a second that a viewer may want
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

    def __init__(self, dataset: str = "shapes-1", tier: str = "full", size: int = 32) -> None:
        """``size``: pixels a side."""
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        self.world, self.tier = Shapes(dataset, size), tier

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
            conditions={"scope": "e2e", "batch": "1", **conditions()},
        )

    def requests(self, model: ModelCard) -> list[Request]:
        """Warm-up first, then the streams, then those in fresh processes."""
        frames = FRAMES if model.causal else model.native_frames or NATIVE
        here = [Request(prompt=p, geometry=self._geometry(frames), seed=0) for p in self._prompts()]
        alone = here[0].model_copy(update={"options": {"process": "fresh"}})
        fresh = [alone.model_copy(update={"seed": n}) for n in range(PROCESSES[self.tier])]
        return [*here, *fresh]

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a scene, for models made of them."""
        return self.world.clip(ref, frames, start)

    def score(self, request: Request, frames: Frames) -> Scores:
        """Nothing: pixels are judged by the other tasks."""
        return Scores()

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates over the streams after the warm-up."""
        played = {r.request.prompt.id: Stream.of(r.timing) for r in records if r.timing}
        streams = {p: s for p, s in played.items() if not p.startswith("warm-up")}
        found = Conclusion()
        _starts(found, [r.startup for r in records if r.startup])
        _first_frames(found, streams)
        speeds = {r.request.prompt.id: r.timing.machine_s for r in records if r.timing}
        machine = {p: 1000 * s for p, s in speeds.items() if p in streams and s is not None}
        found.add("machine", machine, unit="ms")
        if model.causal:
            _gaps(found, streams, model.native_frames or NATIVE)
        else:
            _in_one_piece(found)
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


def _gaps(found: Conclusion, streams: Mapping[str, Stream], native: int) -> None:
    """Everything that needs more than one chunk."""
    gaps = [1000 * gap for stream in streams.values() for gap in stream.gaps]
    for q in PERCENTILES:
        found.estimates[f"gap_p{100 * q:.0f}"] = stats.percentile(
            gaps, q, clusters=len(streams), unit="ms", better="lower"
        )
    jitter = {p: 1000 * s.jitter for p, s in streams.items() if s.jitter is not None}
    found.add("jitter", jitter, unit="ms", better="lower")
    for rate in RATES:
        late = {p: s.misses(rate) for p, s in streams.items() if s.gaps}
        found.estimates[f"late_{rate}"] = stats.share(late, unit="share", better="lower")
    full = {p: pace for p, s in streams.items() if (pace := s.pace(after=native)) is not None}
    found.add("fps_full", full, unit="frames a second", better="higher")
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
    for name in (*names, "jitter", "fps_full", "fps_slope"):
        found.estimates[name] = stats.missing("n/a: makes the whole clip at once")
