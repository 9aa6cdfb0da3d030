"""The one training loop: every method of the paper is an objective that takes turns in it.

Randomness is a function of (seed, step, sample), so there is no generator state to keep and a
resumed run is the same run. A non-finite loss or gradient stops it before it reaches the weights.
"""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from . import checkpoint as ckpt
from .config import MethodConfig, Preset
from .library import Library
from .methods import build, ensure_known, needs, order
from .objectives import Metrics, Objective
from .recipes import load_preset, recipe_hash, to_dict

CHECKPOINT_EVERY = 250  # steps
LOG_EVERY = 10


class NonFinite(ArithmeticError):
    """A loss or a gradient that is not finite; the weights were not touched."""


class NotResumed(ValueError):
    """A run that exists already, or belongs to another recipe; the text says what to do."""


def train(
    preset: str,
    method: str,
    overrides: list[str] | None = None,
    out: Path | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> list[Path]:
    """Train a method, or ``all`` that is missing in order; returns the weights files written."""
    console = console or Console()
    config = load_preset(preset, overrides)
    ensure_known(config, method)
    out = out or Path("runs") / "train" / config.name
    library = Library(config.name, out / "weights")
    written = []
    for name in order(config) if method == "all" else [method]:
        if method == "all" and library.has_fresh(name, recipe_hash(config, name)):
            console.print(f"{name}: already trained ({library.path(name)})")
            continue
        for ancestor in needs(config, name):
            library.require(ancestor, name)
        written.append(_train_one(config, name, out, library, resume, console))
    return written


def _train_one(
    preset: Preset, method: str, out: Path, library: Library, resume: bool, console: Console
) -> Path:
    """The life of one network: build, resume, loop, ship."""
    config = preset.method(method)
    folder = out / method
    with _progress(console, method, config.steps) as show:
        objective = build(preset, method, library, out / "cache", show.note)
        run = Run.start(objective, config, recipe_hash(preset, method), folder, resume, show.note)
        show.begin(run.step)
        while run.step < config.steps:
            started = time.perf_counter()
            run.advance(objective, config)
            run.seconds += time.perf_counter() - started
            show.step(run.step, run.figures, run.seconds / max(run.step, 1))
            if run.step % LOG_EVERY == 0 or run.step == config.steps:
                run.log(folder)
            if run.step % CHECKPOINT_EVERY == 0 or run.step == config.steps:
                run.save(folder)
    path = library.path(method)
    ckpt.save_weights(path, _shippable(run), _card(preset, method, run, library))
    console.print(f"{method}: {run.step} steps in {run.seconds:.0f} s -> {path}")
    return path


@dataclass
class Run:
    """The state of a training run: all that a checkpoint holds."""

    players: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    ema: nn.Module
    recipe: str
    step: int = 0
    updates: dict[str, int] = field(default_factory=dict)
    figures: Metrics = field(default_factory=dict)  # the newest of each player
    seconds: float = 0.0
    saved: str = "none"
    _parameters: dict[str, list[Tensor]] = field(init=False, repr=False)
    """Of each network. Listed once: to walk a small network costs as much as to update it."""

    def __post_init__(self) -> None:
        networks = {**self.players, "ema": self.ema}
        self._parameters = {name: [*net.parameters()] for name, net in networks.items()}

    @staticmethod
    def start(
        objective: Objective,
        config: MethodConfig,
        recipe: str,
        folder: Path,
        resume: bool,
        note: Callable[[str], None],
    ) -> Run:
        """A fresh run, or the newest complete checkpoint of this very recipe."""
        players = objective.players
        lead = next(iter(players))
        run = Run(
            players=players,
            optimisers={
                name: _optimiser(net, name == lead, config) for name, net in players.items()
            },
            ema=copy.deepcopy(players[lead]).requires_grad_(False),
            recipe=recipe,
            updates=dict.fromkeys(players, 0),
        )
        found = ckpt.load_newest(folder)
        if found is None:
            return run
        tensors, meta, skipped = found
        if not resume:
            raise NotResumed(
                f"{folder} holds a run at step {meta['step']}; pass --resume to continue it, or "
                "choose another --out."
            )
        if meta["recipe"] != recipe:
            raise NotResumed(
                f"{folder} was trained by another recipe ({meta['recipe']}, not {recipe}); repeat "
                "its --set values, or choose another --out."
            )
        for sentence in skipped:
            note(sentence)
        run._restore(tensors, meta)
        note(f"resumed at step {run.step}")
        return run

    def advance(self, objective: Objective, config: MethodConfig) -> None:
        """One step: each player whose turn it is descends its loss."""
        for player in objective.turns(self.step):
            loss, metrics = objective.loss(player, self.step)
            torch.autograd.backward(loss)
            norm = nn.utils.clip_grad_norm_(self._parameters[player], config.clip)
            self._ensure_finite(player, loss, norm)
            optimiser = self.optimisers[player]
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * learning_rate(self.step, config)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            self.updates[player] += 1
            if player == next(iter(self.players)):
                self._update_ema(config, self.updates[player])
            named = {"loss": float(loss.detach()), "grad_norm": float(norm), **metrics}
            self.figures |= {f"{player}_{name}": value for name, value in named.items()}
        self.step += 1

    def _ensure_finite(self, player: str, loss: Tensor, norm: Tensor) -> None:
        for what, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(float(value.detach())):
                raise NonFinite(
                    f"The {player}'s {what} is {float(value.detach())} at step {self.step}; the "
                    f"weights were not updated. Last good checkpoint: {self.saved}."
                )

    @torch.no_grad()
    def _update_ema(self, config: MethodConfig, updates: int) -> None:
        """The average follows faster while it is young, and copies until ``ema_start``."""
        decay = min(config.ema, (1 + updates) / (10 + updates))
        if updates <= config.ema_start:
            decay = 0.0
        name, lead = next(iter(self.players.items()))
        torch._foreach_lerp_(self._parameters["ema"], self._parameters[name], 1 - decay)
        for average, current in zip(self.ema.buffers(), lead.buffers(), strict=True):
            average.copy_(current)

    def log(self, folder: Path) -> None:
        """Append a line to ``train.jsonl``."""
        line = {"step": self.step, **self.figures, "seconds": round(self.seconds, 2)}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "train.jsonl").open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        tensors = ckpt.prefixed("ema", self.ema.state_dict().items())
        for name, net in self.players.items():
            tensors |= ckpt.prefixed(name, net.state_dict().items())
            states = ckpt.optimiser_tensors(self.optimisers[name])
            tensors |= ckpt.prefixed(f"optimiser-{name}", states.items())
        meta = {
            "recipe": self.recipe,
            "updates": self.updates,
            "figures": self.figures,
            "seconds": self.seconds,
        }
        self.saved = ckpt.save_state(folder, self.step, tensors, meta).name

    def _restore(self, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
        self.ema.load_state_dict(ckpt.unprefixed("ema", tensors))
        for name, net in self.players.items():
            net.load_state_dict(ckpt.unprefixed(name, tensors))
            ckpt.load_optimiser(
                self.optimisers[name], ckpt.unprefixed(f"optimiser-{name}", tensors)
            )
        self.step, self.updates = meta["step"], meta["updates"]
        self.figures, self.seconds = meta["figures"], meta["seconds"]
        self.saved = f"step-{self.step:08d}"


def learning_rate(step: int, config: MethodConfig) -> float:
    """Share of the peak rate: linear warm-up, then cosine to zero or constant."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    if config.decay == "constant":
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _optimiser(net: nn.Module, lead: bool, config: MethodConfig) -> torch.optim.Optimizer:
    rate = config.lr if lead else config.critic_lr
    optimiser = torch.optim.AdamW(
        net.parameters(),
        lr=rate,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,
    )
    for group in optimiser.param_groups:
        group["peak"] = rate
    return optimiser


def _shippable(run: Run) -> dict[str, Tensor]:
    """The averaged weights of the lead player."""
    return dict(run.ema.state_dict())


def _card(preset: Preset, method: str, run: Run, library: Library) -> dict[str, Any]:
    """What a reader needs to trust or repeat these weights."""
    threads = torch.get_num_threads()
    hours = run.seconds * threads / 3600
    ancestors = needs(preset, method)
    cards = {name: library.card(name) for name in library.lineage(ancestors)}
    own = replace(preset, methods={method: preset.method(method)})
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
        "core_hours": round(hours, 3),
        "core_hours_with_ancestors": round(hours + sum(c["core_hours"] for c in cards.values()), 3),
        "ancestors": {name: card["sha256"] for name, card in cards.items()},
        "needs": ancestors,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
    }


@dataclass
class _Show:
    """A progress bar on a terminal, plain lines elsewhere."""

    console: Console
    method: str
    total: int
    bar: Progress | None
    task: Any = None

    def begin(self, step: int) -> None:
        if self.bar:
            self.task = self.bar.add_task(self.method, total=self.total, completed=step, note="")

    def note(self, text: str) -> None:
        self.console.print(f"{self.method}: {text}")

    def step(self, step: int, figures: Metrics, pace: float) -> None:
        losses = "  ".join(
            f"{k} {v:.4f}"
            for k, v in figures.items()
            if isinstance(v, float) and k.endswith("loss")
        )
        if self.bar:
            self.bar.update(self.task, completed=step, note=f"{losses}  {pace * 1000:.0f} ms/step")
        elif step % max(self.total // 10, 1) == 0:
            left = pace * (self.total - step)
            self.note(
                f"step {step}/{self.total}  {losses}  {pace * 1000:.0f} ms/step  {left:.0f} s left"
            )


@contextmanager
def _progress(console: Console, method: str, total: int) -> Iterator[_Show]:
    if not console.is_terminal:
        yield _Show(console, method, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield _Show(console, method, total, bar)
