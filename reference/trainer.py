"""The one training loop: every method of the paper is an objective that takes turns in it.

The same call trains in one process and, under ``torchrun``, in many; of these the first prints,
logs and writes.
"""

from __future__ import annotations

import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from . import checkpoint as ckpt
from . import lora
from .adapters import in_training
from .config import ConfigError, MethodConfig, Preset
from .data import recognised
from .distributed import World, whole
from .elsewhere import built_on, takers
from .given import contents, ensure_fitting
from .methods import build, ensure_known, load_codec, methods_known, needs, order
from .model import DiT
from .objectives import Objective
from .progress import progress, say
from .recipes import load_preset, recipe_hash, to_dict
from .run import NonFinite, NotResumed, Run, ensure_ours, learning_rate
from .telemetry import Evaluate, Evaluator, Telemetry, report
from .trained import Library

__all__ = ["NonFinite", "NotResumed", "Run", "learning_rate", "train"]

CHECKPOINT_EVERY = 250  # steps
LOG_EVERY = 10


def train(
    preset: str,
    method: str,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
    evaluator: Evaluator | None = None,
    given: list[str] | None = None,
) -> list[Path]:
    """Train a method, or ``all`` that is missing in order; returns the weights files written.

    ``evaluator``: what a recipe with ``evaluate_every`` is watched and chosen by. ``given``:
    ``NAME=PATH``, where weights lie that were made elsewhere.
    """
    try:
        config = load_preset(preset, overrides, given)
        return _train(config, method, out, resume, console, evaluator)
    except (ConfigError, ckpt.CheckpointError, NonFinite, NotResumed):
        # All processes stop for the same reason.
        if World.announced_rank():
            raise SystemExit(2) from None
        raise


def _train(
    config: Preset,
    method: str,
    out: Path | None,
    resume: bool,
    console: Console | None,
    evaluator: Evaluator | None,
) -> list[Path]:
    ensure_known(config, method)
    rows = [n for n in order(config) if not config.method(n).given] if method == "all" else [method]
    config = replace(config, data=recognised(config.data))
    world = World.join(config.engine)
    console = (console or Console()) if world.first else Console(quiet=True)
    config = _with_given(config, rows, world, console)
    out = out or Path("runs") / "train" / config.name
    hashes = {n: config.contents.get(n, "") for n, row in config.methods.items() if row.given}
    library = Library(config.name, out / "weights", hashes)
    written = []
    for name in rows:
        if method == "all" and library.has_fresh(name, recipe_hash(config, name)):
            say(console, f"{name}: already trained ({library.path(name)})")
            continue
        for ancestor in needs(config, name):
            if ancestor not in library.given:
                library.require(ancestor, name)
        written.append(_train_one(config, name, out, library, resume, console, world, evaluator))
        world.wait()  # the next one may start from these weights
    world.leave()
    return written


def _with_given(config: Preset, rows: list[str], world: World, console: Console) -> Preset:
    """With the hashes of weights that were made elsewhere: the first process reads the files."""
    if not built_on(config, rows):
        return config
    ensure_fitting(config, rows)
    say(console, f"hashing what is given: {', '.join(built_on(config, rows))}")
    found = contents(config, rows) if world.first else None
    return replace(config, contents=world.told(found))


def _train_one(
    preset: Preset,
    method: str,
    out: Path,
    library: Library,
    resume: bool,
    console: Console,
    world: World,
    evaluator: Evaluator | None,
) -> Path:
    """The life of one network: build, resume, loop, ship."""
    config, recipe = preset.method(method), recipe_hash(preset, method)
    folder = out / method
    watch = _Watch(preset, method, library, world, evaluator)
    if begun := world.told(ckpt.told(folder) if world.first else None):
        ensure_ours(begun, folder, recipe, resume)  # before anything large is read or encoded
    with progress(console, method, config.steps) as show:
        with world.in_turn():  # what is kept on disk is made once
            objective = build(preset, method, library, out / "cache", show.note, world.device)
        ready(objective, config, world)
        run = Run.start(objective, config, recipe, folder, resume, show.note, world)
        watch.begin(folder, run.step)
        show.begin(run.step)
        while run.step < config.steps and not watch.stopped:
            started = time.perf_counter()
            run.advance(objective, config)
            run.seconds += time.perf_counter() - started
            show.step(run.step, run.figures, run.seconds / max(run.step, 1))
            watch.look(run)
            ends = run.step == config.steps or watch.stopped
            if run.step % LOG_EVERY == 0 or ends:
                run.log(folder)
            if run.step % CHECKPOINT_EVERY == 0 or ends:
                run.save(folder)
    path, tensors = library.path(method), _shippable(run, config)
    if world.first:
        card = _card(preset, method, run, library) | {"selection": watch.log.selection()}
        ckpt.save_weights(path, watch.chosen() or tensors, card)
        report(folder, f"{preset.name}, {method}")
    say(console, f"{method}: {run.step} steps in {run.seconds:.0f} s -> {path}")
    return path


def ready(objective: Objective, config: MethodConfig, world: World) -> None:
    """Tell an objective its place; it may make what it needs while its networks are whole."""
    if config.lora.rank:
        lora.inject(objective, config.lora)
    if objective.draw is not None:
        objective.draw.place = world.rank, world.ranks
        objective.draw.device = world.device
    teacher, prepare = (getattr(objective, name, None) for name in ("teacher", "prepare"))
    if prepare:
        if teacher is not None:
            teacher.to(world.device, torch.float32)  # it may be mapped from a file until here
        with world.numerics():
            prepare()
        world.wait()


class _Watch:
    """The evaluations of a run: the first process makes them, and all hear what follows."""

    def __init__(
        self, preset: Preset, row: str, library: Library, world: World, evaluator: Evaluator | None
    ) -> None:
        """What cannot be evaluated is refused here, before anything is made."""
        self.preset, self.row, self.weights, self.world = preset, row, library, world
        kind, self.every = preset.kind(row), 0
        self._evaluate: Evaluate | None = None
        if evaluator and kind != "codec" and (every := preset.method(row).evaluate_every):
            self._evaluate = evaluator(preset.data, methods_known()[kind].causal)
            self.every = every

    def begin(self, folder: Path, step: int) -> None:
        """Take up what was found out before this step."""
        patience = self.preset.method(self.row).patience
        self.log = Telemetry.resume(folder, self.every, patience, step, self.world.first)
        self.stopped: bool = self.world.told(self.log.exhausted)

    def look(self, run: Run) -> None:
        """Evaluate the averaged weights, if it is time."""
        config = self.preset.method(self.row)
        if not self.log.due(run.step, config.steps):
            return
        tensors = _shippable(run, config)
        if self.world.first:
            self.log.record(run.step, self._figures(tensors), tensors)
        self.stopped = self.world.told(self.log.exhausted)

    def chosen(self) -> dict[str, Tensor] | None:
        """The weights of the best evaluation, where one is to be chosen."""
        return self.log.best_weights() if self.log.patience and self.log.best else None

    def _figures(self, tensors: dict[str, Tensor]) -> dict[str, float]:
        assert self._evaluate is not None
        codec, _ = load_codec(self.preset, self.weights, self.row)
        network = DiT(self.preset.of(self.row)).eval().requires_grad_(False)
        network.load_state_dict(tensors)
        network.to(self.world.device)
        return self._evaluate(in_training(network, codec, self.preset, self.row))


def _shippable(run: Run, config: MethodConfig) -> dict[str, Tensor]:
    """The averaged weights of the lead player; all processes call this."""
    tensors = {name: whole(tensor).cpu() for name, tensor in run.ema.state_dict().items()}
    return lora.merged(tensors, config.lora) if config.lora.rank else tensors


def _card(preset: Preset, method: str, run: Run, library: Library) -> dict[str, Any]:
    """What a reader needs to trust or repeat these weights."""
    threads = torch.get_num_threads()
    hours = run.seconds * threads * run.world.ranks / 3600
    ancestors = needs(preset, method)
    cards = {name: library.card(name) for name in library.lineage(ancestors)}
    taken = built_on(preset, [method])
    own = replace(preset.by_content(taken), methods={method: preset.method(method)})
    return {
        "name": method,
        "preset": to_dict(own),
        "recipe": recipe_hash(preset, method),
        "steps": run.step,
        "updates": run.updates,
        "seed": preset.seed,
        "selection": "the last step's averaged (EMA) weights; nothing was selected",
        "expect": preset.method(method).expect,
        "wall_s": round(run.seconds, 1),
        "threads": threads,
        "processes": run.world.ranks,
        "core_hours": round(hours, 3),
        "core_hours_with_ancestors": round(hours + sum(c["core_hours"] for c in cards.values()), 3),
        "ancestors": {name: card["sha256"] for name, card in cards.items() if card["sha256"]},
        **_of_wan(preset, taken, library.path(method)),
        "needs": ancestors,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }


def _of_wan(preset: Preset, taken: list[str], path: Path) -> dict[str, Any]:
    """What a card says besides of others' weights: which, and how a model on Wan's VAE is run."""
    if not taken:
        return {}
    whose = takers(preset)
    made = {name: {"whose": whose[name], "sha256": preset.contents[name]} for name in taken}
    run_as = {"run_as": f"wan:{path.name}?base=FOLDER"} if preset.codec.kind == "wan" else {}
    return {"made_elsewhere": made, **run_as}
