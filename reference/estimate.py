"""What training a row takes: parameters, memory of a GPU, and hours; no torch.

Every figure is an estimate. Compute time is FLOPs over an assumed share of the device's peak; the
host's is what it launches and draws, at the rates below.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import ceil

from . import arithmetic as cost
from .ancestry import KNOWN
from .arithmetic import FP32
from .config import MethodConfig, Preset
from .plan import DOUBLE, MASKED, Network, Part, Plan, Update, levels

SHARE = 0.35
"""Of the peak; the paper's own run (120 generator and 600 critic updates in "about 1.5 h" on 64
H100) comes to 0.32 of it under this count."""

# Of the host, in seconds; orders of magnitude, from one core of a server.
UPDATE = 4e-3  # clipping, optimiser, average, and the wait for the loss
LAUNCH = 0.5e-3  # a block pass: about 45 kernels of an engine's, 150 of training's in bf16
SAMPLE = 0.6e-3  # a sample of an update: its window, prompt and levels, each from a key of its own
DRAW = 50e-6  # a frame's noise at one denoising step
PIXEL = 0.25e-6  # rendered by the embedded world, a frame's share of its clip included


@dataclass(frozen=True)
class Machine:
    """What it is estimated for."""

    name: str
    gpus: int  # processes, on a CPU
    memory: float  # bytes, of each
    peak: float  # FLOPs a second, of each, at the preset's precision
    share: float = SHARE
    per_node: int = 8

    @property
    def cpu(self) -> bool:
        """Whether the host computes too, so that its own work is not hidden."""
        return self.name == "cpu"


@dataclass(frozen=True)
class Row:
    """The estimate of one row."""

    name: str
    method: str
    given: str = ""  # whose weights; such a row is not trained
    networks: tuple[Network, ...] = ()
    updates: tuple[Update, ...] = ()
    once: Part | None = None  # work before the first update, of all samples together
    memory: dict[str, float] = field(default_factory=dict)  # bytes a GPU, by what they are for
    otherwise: float = 0.0  # bytes of activations with the other setting of checkpoint_blocks
    host: float = 0.0  # bytes of a machine while its processes load networks, before GPUs have them
    seconds: float = 0.0
    before: float = 0.0  # of them before the first update, or after the last: the pool's latents
    bound: str = ""  # "compute" or "host"
    levels: tuple[float, ...] = ()  # sigma at each denoising step

    @property
    def gigabytes(self) -> float:
        """A GPU's, all together."""
        return sum(self.memory.values()) / 1e9


def estimate(preset: Preset, name: str, machine: Machine) -> Row:
    """All of one row."""
    config, kind = preset.method(name), preset.kind(name)
    if kind not in KNOWN:  # another package's: nothing is known of its passes
        return Row(name, kind)
    if config.given:
        count = cost.parameters(preset.of(name))
        return Row(name, kind, config.given, (Network("given", count, 0, ""),))
    plan = Plan(preset, name, machine.gpus)
    updates = tuple(plan.updates())
    row = Row(
        name,
        kind,
        networks=tuple(plan.networks()),
        updates=updates,
        once=plan.once(),
        levels=() if kind == "codec" else levels(config.sampler),
    )
    split, other = Split.of(preset, config, machine), _flipped(preset)
    flipped = tuple(Plan(other, name, machine.gpus).updates())
    seconds, bound = split.seconds(row, plan.codec)
    before = split.before(row, plan.codec)
    held = Split.of(other, config, machine).memory(replace(row, updates=flipped), plan)
    return replace(
        row,
        seconds=seconds + before,
        before=before,
        bound=bound,
        memory=split.memory(row, plan),
        otherwise=held["activations"],
        host=split.host(row),
    )


def _flipped(preset: Preset) -> Preset:
    again = not preset.engine.checkpoint_blocks
    return replace(preset, engine=replace(preset.engine, checkpoint_blocks=again))


@dataclass(frozen=True)
class Split:
    """How a row's batch and weights lie on the machine."""

    preset: Preset
    config: MethodConfig
    machine: Machine
    samples: int  # of a batch, at one process
    micro: int  # of them at once
    holders: int  # processes that share one copy of the weights

    @staticmethod
    def of(preset: Preset, config: MethodConfig, machine: Machine) -> Split:
        """As ``distributed.py`` lays it out."""
        engine, gpus = preset.engine, machine.gpus
        samples = engine.share(config.batch, gpus)
        near = min(machine.per_node, gpus)
        holders = {"replicate": 1, "shard": gpus, "hybrid": near}[engine.sharding]
        at_once = engine.at_once(config.batch, gpus)
        return Split(preset, config, machine, samples, at_once, holders)

    def seconds(self, row: Row, codec: bool) -> tuple[float, str]:
        """Of all updates; and what they mostly wait for."""
        rate = self.machine.peak * self.machine.share
        together = self.preset.engine.sequence_parallel
        pieces = ceil(self.samples / self.micro)
        compute = host = total = 0.0
        for update in row.updates:
            work = update.work
            own = update.count * work.flops * self.samples / together / rate
            launched = work.blocks * pieces * LAUNCH
            drawn = self.samples * (self._pixels(1) if codec else update.draws * DRAW)
            beside = update.count * (UPDATE + launched + drawn + self.samples * SAMPLE)
            compute, host = compute + own, host + beside
            total += own + beside if self.machine.cpu else max(own, beside)
        return total, "compute" if compute >= host else "host"

    def before(self, row: Row, codec: bool) -> float:
        """Seconds beside the updates: trajectories; of a codec, the pool's clips rendered."""
        rate = self.machine.peak * self.machine.share * self.machine.gpus
        pool = self.preset.data.clips * self._pixels(self.preset.data.clip_frames)
        return (row.once.work.flops / rate if row.once else 0.0) + (pool if codec else 0.0)

    def _pixels(self, frames: int) -> float:
        """Seconds to render so many frames."""
        height, width = self.preset.data.shape
        return frames * height * width * PIXEL if "shapes" in self.preset.data.dataset else 0.0

    def memory(self, row: Row, plan: Plan) -> dict[str, float]:
        """Bytes of one GPU at the worst moment, by what they are for."""
        engine, held = self.preset.engine, FP32 / self.holders
        players = [n for n in row.networks if n.trained]
        frozen = sum(n.parameters for n in row.networks if not n.trained)
        offloaded = engine.offload_teacher and self.holders > 1
        gathered = 0.0
        if self.holders > 1 and not plan.codec:  # a block and the next, of the largest network
            gathered = 2 * FP32 * max(cost.block_parameters(p) for p in plan.of.values())
        found = {
            "weights": held * sum(n.parameters for n in players) + gathered,
            "gradients": held * max(n.trained for n in players),  # of the player whose turn it is
            "optimiser": 2 * held * sum(n.trained for n in players),
            "EMA": held * players[0].parameters,
            "teacher": 0.0 if offloaded else held * frozen,
        }
        if not plan.codec:
            scale = self.micro / engine.sequence_parallel
            working = max(self._working(plan, network.name) for network in row.networks)
            found["KV cache"] = scale * _cached(plan)
            found["activations"] = scale * (max(u.kept for u in row.updates) + working)
            found["mask"] = _mask(plan)
        else:
            found["activations"] = self.micro * row.updates[0].kept
        return {name: size for name, size in found.items() if size}

    def host(self, row: Row) -> float:
        """Bytes of one machine's own memory.

        Each process has whole what it trains, and its average, until they are sharded. A given
        teacher stays mapped from its files, which all share; offloaded, it comes back as shards.
        """
        given = {name for name, method in self.preset.methods.items() if method.given}
        frozen = [n for n in row.networks if not n.trained]
        held = float(row.networks[0].parameters)
        held += sum(n.parameters for n in row.networks if n.trained)
        held += sum(n.parameters for n in frozen if n.start not in given)
        if self.preset.engine.offload_teacher:
            held += sum(n.parameters for n in frozen) / self.holders
        return min(self.machine.per_node, self.machine.gpus) * FP32 * held

    def _working(self, plan: Plan, name: str) -> float:
        """Bytes that one block of a network has at hand, beside what is kept."""
        size = cost.block_kept(plan.of[name], self.preset.data.frames)
        graded = name != "teacher" or plan.kind == "self-forcing-sid"
        return size if graded else 0.3 * size  # without gradient most of it is gone at once


def _cached(plan: Plan) -> float:
    """Of a training rollout: the cache, and a fresh one for every chunk that evicts frames; or,
    graded afterwards, the cache, and a copy of what its graded chunks saw."""
    if not plan.kind.startswith("self-forcing"):
        return 0.0
    own, seen = plan.of["generator"], plan.visible(plan.config.longest or plan.frames)
    model, total = plan.preset.model, sum(n for n, _ in seen)
    held = min(total, model.sink + model.window - model.frames_per_chunk if model.window else total)
    if plan.together:
        return cost.cache_bytes(own, 2 * held + model.frames_per_chunk + plan.graded)
    evictions = max(0, ceil((total - seen[-1][0] - held) / model.frames_per_chunk))
    return cost.cache_bytes(own, held) * (1 + evictions)


def _mask(plan: Plan) -> float:
    """Of masked attention: the token mask, and what the kernel makes of it."""
    if plan.kind not in MASKED:
        return 0.0
    tokens = plan.frames * (1 + (plan.kind in DOUBLE)) * cost.tokens_of(plan.preset)
    return float(tokens**2 * (1 + (2 if plan.preset.engine.precision == "bf16" else FP32)))
