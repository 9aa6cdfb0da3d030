"""What one process of a distributed test does; `test_distributed.py` starts them as torchrun would.

``python distributed_program.py JOB FOLDER ...``: each job is a function below. The networks are as
small as they can be while every method has more than one chunk, block, head and micro-batch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from sfbench.reference.config import (
    CodecConfig,
    DataConfig,
    EngineConfig,
    GanConfig,
    MethodConfig,
    ModelConfig,
    Preset,
    SamplerConfig,
    TextConfig,
)
from sfbench.reference.data import LatentPool, Pool
from sfbench.reference.distributed import World, whole
from sfbench.reference.methods import METHODS, CodecTraining
from sfbench.reference.model import DiT
from sfbench.reference.objectives import Draw
from sfbench.reference.run import NonFinite, Run
from sfbench.reference.trainer import ready, train

STEPS = 20
BATCH = 4
RECIPES: dict[str, dict[str, Any]] = {
    "codec": {},
    "diffusion-forcing": {"clean_chunks": 0.4},
    "teacher": {"mixed_noise": 0.5},
    "self-forcing-dmd": {"share_rollout": True, "anchor": 0.1},
    "ode": {"pairs": 64},
    "causal-ode": {"pairs": 64},
}
"""What a method is tested with besides the common recipe."""


def preset(**engine: Any) -> Preset:
    """Two chunks of two frames of 2x2 patches."""
    return Preset(
        name="test",
        data=DataConfig(frames=4, size=32, clips=8, clip_frames=8),
        codec=CodecConfig(channels=3, width=2),
        text=TextConfig(length=3, dim=8),
        model=ModelConfig(dim=24, ffn_dim=32, layers=2, heads=2, patch=2, freq_dim=16, window=4),
        engine=EngineConfig(**engine),
    )


def recipe(method: str) -> MethodConfig:
    """Few levels, and turns that both players have often."""
    # Wider differences than a real recipe's: these divide rounding errors too.
    gan = GanConfig(sigma=0.5, r1=1.0, r2=0.0)
    student = SamplerConfig(kind="renoise", shift=5.0, few=(1000.0, 500.0))
    common: dict[str, Any] = dict(
        steps=STEPS, batch=BATCH, lr=1e-3, warmup=1, decay="constant", critic_lr=1e-3,
        critic_warmup=1, critic_ratio=9, sampler=student, teacher_steps=4, pairs=32,
    )  # fmt: skip
    return MethodConfig(**(common | RECIPES.get(method, {})), gan=gan)


class Words:
    """A text encoder: any prompt, by its length. Rows differ, so that attention to them does."""

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        drawn = [torch.Generator().manual_seed(len(p)) for p in prompts]
        return torch.stack([torch.randn(3, 8, generator=g) for g in drawn])


def network(seed: int) -> DiT:
    """A DiT whose every parameter matters."""
    torch.manual_seed(seed)
    net = DiT(preset())
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return net


def objective(method: str, folder: Path, engine: dict[str, Any], **changes: Any) -> Any:
    """As ``methods.build``, from random networks."""
    p, config = preset(**engine), recipe(method)
    config = dataclasses.replace(config, **changes)
    pool = Pool(p.data)
    torch.manual_seed(0)
    if method == "codec":
        return CodecTraining(p, config, pool)
    shape = (p.data.clips, p.data.clip_frames, *p.latent_shape)
    latents = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
    draw = Draw(p, config, LatentPool(pool, latents), Words(), folder / "cache")
    found = METHODS[method]
    uses = getattr(found.objective, "uses", ())
    networks: dict[str, Any] = {role: network(i) for i, role in enumerate(uses, 1)}
    if found.fakes:
        networks["fakes"] = found.fakes
    return found.objective(draw, network(0), **networks)


def begin(
    method: str,
    folder: Path,
    changes: dict[str, Any] | None = None,
    resume: bool = False,
    **engine: Any,
) -> tuple[Any, MethodConfig, Run]:
    """An objective, its recipe (nothing is clipped) and its run, in this process's world."""
    world = World.join(preset(**engine).engine)
    made = objective(method, folder, engine, **({"clip": 1e9} | (changes or {})))
    config = made.config
    ready(made, config, world)
    run = Run.start(made, config, "r", folder / method, resume, lambda text: None, world)
    return made, config, run


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Is filled with each player's whole gradients as its optimiser first sees them."""
    seen: dict[str, torch.Tensor] = {}

    def recording(name: str, step: Callable[[], Any]) -> Callable[[], Any]:
        def recorded() -> Any:
            for key, parameter in run.players[name].named_parameters():
                if parameter.grad is not None and run.updates[name] == 0:
                    seen[f"{name}.{key}"] = whole(parameter.grad).clone()
            return step()

        return recorded

    for name, optimiser in run.optimisers.items():
        optimiser.step = recording(name, optimiser.step)
    return seen


def steps(folder: Path, layouts: str) -> None:
    """Every method under every layout: its first gradients, and its figures step by step."""
    for layout, (count, engine) in json.loads(layouts).items():
        for method in ("codec", *METHODS):
            made, config, run = begin(method, folder / layout, **engine)
            seen, curve = gradients(run), []
            for _ in range(count):
                run.advance(made, config)
                run._agree()
                curve.append(dict(run.figures))
            if run.world.first:
                save_file(seen, folder / f"{layout}-{method}.safetensors")
                (folder / f"{layout}-{method}.json").write_text(json.dumps(curve))


def resume(folder: Path, engine: str, method: str, die: str) -> None:
    """Train, saving every five steps; the last process is killed before step ``die``."""
    made, config, run = begin(method, folder, resume=True, **json.loads(engine))
    while run.step < STEPS:
        if run.step == int(die) and run.world.rank == run.world.ranks - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        run.advance(made, config)
        run.log(folder / method)
        if run.step % 5 == 0:
            run.save(folder / method)


def poison(folder: Path, engines: str) -> None:
    """The last process's loss, or its gradient alone, is not finite at step 2."""
    said = []
    for engine in json.loads(engines):
        for what in ("loss", "gradient"):
            made, config, run = begin("teacher", folder / "none", **engine)
            loss = made.loss

            def bad(player: str, step: int, loss: Any = loss, what: str = what, run: Run = run):
                value, figures = loss(player, step)
                if step == 2 and run.world.rank == run.world.ranks - 1:
                    nothing = value - value.detach()
                    value = value * float("nan") if what == "loss" else value + nothing.abs().sqrt()
                return value, figures

            made.loss = bad
            run.advance(made, config)
            run.advance(made, config)
            before = [p.detach().clone() for p in run.players["generator"].parameters()]
            try:
                run.advance(made, config)
                said.append("went on")
            except NonFinite as error:
                after = run.players["generator"].parameters()
                same = all(bool((whole(a == b)).all()) for a, b in zip(before, after, strict=True))
                said.append(f"{error} untouched {same}")
    (folder / f"said-{run.world.rank}.json").write_text(json.dumps(said))


def collectives(folder: Path) -> None:
    """How often gradients are exchanged in a turn, whole and in micro-batches."""
    found: dict[str, int] = {}
    for name in ("reduce_scatter_single", "reduce_scatter_tensor"):  # newer and older torch
        if real := getattr(torch.distributed, name, None):

            def counted(*given: Any, real: Any = real, **named: Any) -> Any:
                found[key] = found.get(key, 0) + 1
                return real(*given, **named)

            setattr(torch.distributed, name, counted)
    for micro in (0, 1):
        key = f"shard {micro}"
        made, config, run = begin("teacher", folder, sharding="shard", micro_batch=micro)
        run.advance(made, config)
        key = f"replicate {micro}"
        made, config, run = begin("teacher", folder, micro_batch=micro)
        taker = run.takers["generator"].turn
        assert isinstance(taker, DistributedDataParallel)

        def hook(state, bucket, key=key):
            found[key] = found.get(key, 0) + 1
            return allreduce_hook(torch.distributed.group.WORLD, bucket)

        taker.register_comm_hook(None, hook)
        run.advance(made, config)
    (folder / f"collectives-{run.world.rank}.json").write_text(json.dumps(found))


def checks(folder: Path, engines: str) -> None:
    """Both: to start a process takes longer than either."""
    poison(folder, engines)
    collectives(folder)


def main(job: str, folder: str, *arguments: str) -> None:
    """Run a job by name."""
    torch.set_num_threads(1)
    JOBS[job](Path(folder), *arguments)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def wan(folder: Path, home: str, engine: str) -> None:
    """The last row of `test_wan_training.py`, whose folders are in ``home``."""
    layout = [f"engine.{key}={value}" for key, value in json.loads(engine).items()]
    train(
        *(f"{home}/tiny.yaml", "self-forcing-dmd"),
        *([f"data.dataset=prompts:{home}/prompts.txt", *layout], folder),
        given=[f"base={home}/base", f"teacher={home}/larger"],
    )


JOBS = {"steps": steps, "resume": resume, "checks": checks, "wan": wan}

if __name__ == "__main__":
    main(*sys.argv[1:])
