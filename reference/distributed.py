"""Where a process stands among others under ``torchrun``, and what they do together.

A process that was started alone is a world of one: no process group is made, no network is wrapped,
and what it computes is what it always did. Processes share one disk: the run's folder.

Networks are replicated by DDP, or sharded by FSDP2. A batch is divided by sample numbers, and what
is drawn is a function of these, so that any number of processes takes the same steps.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .config import ConfigError, EngineConfig
from .model import DiT
from .objectives import CPU, Metrics
from .sequence import Sharing

if TYPE_CHECKING:  # sharded tensors bring symbolic mathematics: a second, for those who shard
    from torch.distributed.device_mesh import DeviceMesh

PATIENCE = timedelta(days=7)  # for waits on one process's work, such as encoding a pool of videos


@dataclass(frozen=True)
class World:
    """This process among all, and how the work is laid out on them."""

    engine: EngineConfig = field(default_factory=EngineConfig)
    rank: int = 0
    ranks: int = 1
    device: torch.device = CPU
    mesh: DeviceMesh | None = None
    """Over which parameters are sharded: (shard) or (replicate, shard)."""
    patient: Any = None
    """A group for waits that may take long; the default one gives up after minutes."""
    sharing: Sharing | None = None
    """The processes that share the tokens of each sample with this one."""

    @staticmethod
    def join(engine: EngineConfig) -> World:
        """The world that ``torchrun`` announces, or this process alone."""
        ranks, rank = _announced("WORLD_SIZE", 1), World.announced_rank()
        device = _device(engine.device, _announced("LOCAL_RANK", 0))
        if engine.attention == "flex" and device.type == "cpu":
            raise ConfigError("engine.attention flex has no gradient on a CPU; use auto.")
        if ranks == 1:
            if engine.sequence_parallel > 1:
                raise ConfigError(_indivisible(engine.sequence_parallel, 1))
            return World(engine, device=device)
        if ranks % engine.sequence_parallel:
            raise ConfigError(_indivisible(engine.sequence_parallel, ranks))
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        mesh = None
        if engine.sharding != "replicate":
            from torch.distributed.device_mesh import init_device_mesh

            near = _announced("LOCAL_WORLD_SIZE", 1)
            shape = (ranks,) if engine.sharding == "shard" else (ranks // near, near)
            names = ("replicate", "shard")[-len(shape) :]
            mesh = init_device_mesh(device.type, shape, mesh_dim_names=names)
        patient = dist.new_group(backend="gloo", timeout=PATIENCE)
        sharing, together = None, engine.sequence_parallel
        if together > 1:
            # torch's function has no annotations.
            group, _ = dist.new_subgroups(together)  # type: ignore[no-untyped-call]
            sharing = Sharing(group, together, rank % together)
        return World(engine, rank, ranks, device, mesh, patient, sharing)

    @staticmethod
    def announced_rank() -> int:
        """This process's number, known before it joins the others."""
        return _announced("RANK", 0)

    @property
    def first(self) -> bool:
        """Whether this is the process that prints, logs and writes."""
        return self.rank == 0

    # --- the batch --------------------------------------------------------------------------------

    def parts(self, batch: int) -> list[range]:
        """The micro-batches of this process, as sample numbers of the whole batch.

        All processes have equally many, because sharded networks are gathered by all at once.
        """
        together = self.engine.sequence_parallel
        groups, group = self.ranks // together, self.rank // together
        each = self.engine.pieces(batch, self.ranks)
        pieces = groups * each
        if pieces > batch:
            raise ConfigError(
                f"A batch of {batch} cannot be cut into {pieces} micro-batches ({groups} times "
                f"{each}); use fewer processes, or a larger engine.micro_batch or batch."
            )
        cut = [batch * i // pieces for i in range(pieces + 1)]
        return [range(cut[i], cut[i + 1]) for i in range(group * each, (group + 1) * each)]

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Around a forward pass: its precision, and where new tensors are made."""
        with torch.device(self.device) if self.device.type != "cpu" else nullcontext():
            if self.engine.precision == "fp32":
                yield
                return
            # Without its cache, which would hand casts made without gradient to passes with it.
            with torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
                yield

    # --- networks ---------------------------------------------------------------------------------

    def settle(self, net: nn.Module, offload: bool = False) -> Visitor | None:
        """Bring a network to its device, and shard it if that is asked for.

        A teacher's weights may be mapped from their files until then, in another precision: they
        become single precision block by block, so that no process has the whole of it in memory.
        ``offload``: keep its weights in the CPU's memory; whoever is returned must be told to go.
        """
        for part in net.modules():
            if isinstance(part, DiT):
                part.recompute = self.engine.checkpoint_blocks
                part.attention = self.engine.attention
                part.whole = self.mesh is None
                self._share(part)
        away = offload and self.device.type != "cpu"
        if self.mesh is None:
            if away:
                return Visitor(net.float(), self.device)
            net.to(self.device, torch.float32)
            return None
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        # It warns of results that are views. Nothing here changes a result in place.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
        how: dict[str, Any] = {
            "mesh": self.mesh,
            # Also the outermost: what stays whole would miss the next update of its shards.
            "reshard_after_forward": True,
            "offload_policy": CPUOffloadPolicy() if away else OffloadPolicy(),
        }
        for part in [*net.modules()]:
            if isinstance(part, DiT):
                for block in part.blocks:
                    fully_shard(block.float(), **how)
        fully_shard(net.float(), **how)
        return None

    def _share(self, net: DiT) -> None:
        if self.sharing is None:
            return
        heads, together = net.config.heads, self.sharing.size
        if heads % together or net.tokens % together:
            raise ConfigError(
                f"engine.sequence_parallel is {together}; it must divide a network's heads "
                f"({heads}) and a frame's tokens ({net.tokens})."
            )
        net.share(self.sharing)

    # --- figures ----------------------------------------------------------------------------------

    def total(self, *values: Tensor | float) -> list[float]:
        """The sum of each value over all processes."""
        stacked = torch.stack([torch.as_tensor(v, device=self.device).double() for v in values])
        if self.ranks > 1:
            dist.all_reduce(stacked)
        found: list[float] = stacked.tolist()
        return found

    def mean(self, figures: Metrics, share: float) -> Metrics:
        """The mean of each figure over all processes, weighted by their shares of the batch."""
        if self.ranks == 1:
            return figures
        names = sorted(figures)
        rows = [v if isinstance(v, list) else [v] for v in (figures[n] for n in names)]
        flat = torch.tensor([x * share for row in rows for x in row], dtype=torch.float64)
        dist.all_reduce(flat, group=self.patient)
        means = iter(flat.tolist())
        out: Metrics = {}
        for name, row in zip(names, rows, strict=True):
            mean = [next(means) for _ in row]
            out[name] = mean if isinstance(figures[name], list) else mean[0]
        return {name: out[name] for name in figures}

    # --- one after the other ----------------------------------------------------------------------

    def wait(self) -> None:
        """Until all processes are here."""
        if self.ranks > 1:
            dist.barrier(group=self.patient)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process does this alone; the others do it when it is done."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def told(self, value: Any) -> Any:
        """What the first process says, on all."""
        if self.ranks == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, 0, group=self.patient)
        return box[0]

    def leave(self) -> None:
        """Part from the others."""
        if self.ranks > 1:
            dist.destroy_process_group()


class Visitor:
    """A network whose weights are in the CPU's memory, and on a device from its first use in a turn
    until the turn ends: its activations must find them there in the backward pass."""

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self.parameters, self.away = [*net.parameters()], False
        self.home = [p.data.cpu().pin_memory() for p in self.parameters]
        self.device = device
        self.go()
        net.register_forward_pre_hook(lambda *called: self.come())

    def come(self) -> None:
        """To the device, if not there."""
        if not self.away:
            for parameter, kept in zip(self.parameters, self.home, strict=True):
                parameter.data = kept.to(self.device, non_blocking=True)
            self.away = True

    def go(self) -> None:
        """Back home; the weights are not trained, so nothing is copied."""
        for parameter, kept in zip(self.parameters, self.home, strict=True):
            parameter.data = kept
        self.away = False


def sharded(tensor: Tensor) -> bool:
    """Whether this process has only a part of it (a ``DTensor``)."""
    return hasattr(tensor, "full_tensor")


def local(tensors: Sequence[Any]) -> list[Tensor]:
    """What this process holds of each."""
    return [t.to_local() if sharded(t) else t for t in tensors]


def whole(tensor: Any) -> Tensor:
    """All of a tensor, gathered if it is sharded; all processes call this."""
    found: Tensor = tensor.full_tensor() if sharded(tensor) else tensor
    return found


def _announced(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


def _device(wanted: str, local_rank: int) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    near, there = _announced("LOCAL_WORLD_SIZE", 1), torch.cuda.device_count()
    if not there:
        raise ConfigError("This machine has no GPU that torch sees; pass --set engine.device=cpu.")
    if near > there:
        raise ConfigError(
            f"This machine has {there} GPUs for {near} processes; start {there}, or pass "
            "--set engine.device=cpu."
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _indivisible(together: int, ranks: int) -> str:
    return (
        f"engine.sequence_parallel is {together}, which does not divide the {ranks} "
        f"process{'es' if ranks > 1 else ''}; start the run with torchrun --nproc-per-node N, "
        "N a multiple of it."
    )
