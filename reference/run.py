"""A training run: its state, one step of it, and how it is saved and taken up again.

Randomness is a function of (seed, step, sample), so there is no generator state to keep and a
resumed run is the same run, also among another number of processes. A non-finite loss or gradient
stops it on all of them before it reaches the weights.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import checkpoint as ckpt
from .config import MethodConfig
from .distributed import Visitor, World, local, sharded, whole
from .objectives import Metrics, Objective
from .turns import Taker, Turn


class NonFinite(ArithmeticError):
    """A loss or a gradient that is not finite; the weights were not touched."""


class NotResumed(ValueError):
    """A run that exists already, or belongs to another recipe; the text says what to do."""


@dataclass
class Run:
    """The state of a training run: all that a checkpoint holds, and who computes it."""

    players: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    ema: nn.Module
    recipe: str
    world: World
    takers: dict[str, Taker]
    visitors: list[Visitor] = field(default_factory=list)
    step: int = 0
    updates: dict[str, int] = field(default_factory=dict)
    figures: Metrics = field(default_factory=dict)  # the newest of each player
    seconds: float = 0.0
    saved: str = "none"
    _parameters: dict[str, list[nn.Parameter]] = field(init=False, repr=False)
    """Of each network. Listed once: to walk a small network costs as much as to update it."""

    def __post_init__(self) -> None:
        networks = {**self.players, "ema": self.ema}
        self._parameters = {name: [*net.parameters()] for name, net in networks.items()}
        self._trained = {
            name: [p for p in self._parameters[name] if p.requires_grad] for name in self.players
        }

    @staticmethod
    def start(
        objective: Objective,
        config: MethodConfig,
        recipe: str,
        folder: Path,
        resume: bool,
        note: Callable[[str], None],
        world: World | None = None,
    ) -> Run:
        """A fresh run, or the newest complete checkpoint of this very recipe."""
        world, players = world or World(), objective.players
        lead = next(iter(players))
        ema = copy.deepcopy(players[lead]).requires_grad_(False)
        visitors = _settle(objective, ema, world)
        run = Run(
            players=players,
            optimisers={
                name: _optimiser(net, name == lead, config) for name, net in players.items()
            },
            ema=ema,
            recipe=recipe,
            world=world,
            takers={name: _taker(objective, name, config, world) for name in players},
            visitors=visitors,
            updates=dict.fromkeys(players, 0),
        )
        found = world.told(ckpt.newest(folder) if world.first else None)
        if found is None:
            return run
        path, meta, skipped = found
        ensure_ours(meta, folder, recipe, resume)
        for sentence in skipped:
            note(sentence)
        run._restore(path, meta)
        note(f"resumed at step {run.step}")
        return run

    def advance(self, objective: Objective, config: MethodConfig) -> None:
        """One step: each player whose turn it is descends its loss."""
        for player in objective.turns(self.step):
            others = [p for name, ps in self._trained.items() if name != player for p in ps]
            # Until the backward pass is over: it may compute their activations again.
            _train_these(others, False)
            part, metrics = self.takers[player].take(self.step)
            _train_these(others, True)
            for visitor in self.visitors:
                visitor.go()
            own = whole(nn.utils.clip_grad_norm_(self._parameters[player], config.clip))
            loss, norm = self.world.total(part, own / self.world.ranks)
            self._ensure_finite(player, loss, norm)
            optimiser = self.optimisers[player]
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * learning_rate(self.step, config)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            self.updates[player] += 1
            if player == next(iter(self.players)):
                self._update_ema(config, self.updates[player])
            named = {"loss": loss, "grad_norm": norm, **metrics}
            self.figures |= {f"{player}_{name}": value for name, value in named.items()}
        self.step += 1

    def _ensure_finite(self, player: str, loss: float, norm: float) -> None:
        """Both are sums over all processes: what one of them finds stops all."""
        for what, value in (("loss", loss), ("gradient norm", norm)):
            if not math.isfinite(value):
                raise NonFinite(
                    f"The {player}'s {what} is {value} at step {self.step}; the "
                    f"weights were not updated. Last good checkpoint: {self.saved}."
                )

    @torch.no_grad()
    def _update_ema(self, config: MethodConfig, updates: int) -> None:
        """The average follows faster while it is young, and copies until ``ema_start``."""
        decay = min(config.ema, (1 + updates) / (10 + updates))
        if updates <= config.ema_start:
            decay = 0.0
        name, lead = next(iter(self.players.items()))
        torch._foreach_lerp_(
            local(self._parameters["ema"]), local(self._parameters[name]), 1 - decay
        )
        for average, current in zip(self.ema.buffers(), lead.buffers(), strict=True):
            average.copy_(current)

    def log(self, folder: Path) -> None:
        """Append a line to ``train.jsonl``."""
        self._agree()
        if not self.world.first:
            return
        line = {"step": self.step, **self.figures, "seconds": round(self.seconds, 2)}
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "train.jsonl").open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def save(self, folder: Path) -> None:
        """Write a checkpoint."""
        self._agree()
        meta = {
            "recipe": self.recipe,
            "updates": self.updates,
            "figures": self.figures,
            "seconds": self.seconds,
        }
        tensors = self._networks()
        for name, optimiser in self.optimisers.items():
            states = ckpt.optimiser_tensors(optimiser)
            tensors |= ckpt.prefixed(f"optimiser-{name}", states.items())
        if any(map(sharded, tensors.values())):
            from . import checkpoint_shards as shards

            shards.save_state(folder, self.step, tensors, meta, self.world)
        elif self.world.first:
            ckpt.save_state(folder, self.step, tensors, meta)
        self.world.wait()
        self.saved = f"step-{self.step:08d}"

    def _agree(self) -> None:
        """Figures become those of the whole batch."""
        share = next(iter(self.takers.values())).share
        self.figures = self.world.mean(self.figures, share)

    def _networks(self) -> dict[str, Tensor]:
        tensors = ckpt.prefixed("ema", self.ema.state_dict().items())
        for name, net in self.players.items():
            tensors |= ckpt.prefixed(name, net.state_dict().items())
        return tensors

    def _restore(self, path: Path, meta: dict[str, Any]) -> None:
        tensors = self._networks()
        if any(map(sharded, tensors.values())):
            from . import checkpoint_shards as shards

            parameters = {f"optimiser-{name}": self._parameters[name] for name in self.players}
            tensors = shards.load_state(path, tensors, parameters)
        else:
            tensors = ckpt.load_tensors(path)
            self.ema.load_state_dict(ckpt.unprefixed("ema", tensors))
            for name, net in self.players.items():
                net.load_state_dict(ckpt.unprefixed(name, tensors))
        for name, optimiser in self.optimisers.items():
            ckpt.load_optimiser(optimiser, ckpt.unprefixed(f"optimiser-{name}", tensors))
        self.step, self.updates = meta["step"], meta["updates"]
        self.figures, self.seconds = meta["figures"], meta["seconds"]
        self.saved = f"step-{self.step:08d}"


def ensure_ours(meta: dict[str, Any], folder: Path, recipe: str, resume: bool) -> None:
    """Refuse a run that is not to be continued, or that another recipe began."""
    if not resume:
        raise NotResumed(
            f"{folder} holds a run at step {meta['step']}; pass --resume to continue it, or "
            "choose another --out."
        )
    if meta["recipe"] != recipe:
        raise NotResumed(
            f"{folder} was trained by another recipe ({meta['recipe']}, not {recipe}); repeat "
            "its --set values on the same data and the same weights, or choose another --out."
        )


def learning_rate(step: int, config: MethodConfig) -> float:
    """Share of the peak rate: linear warm-up, then cosine to zero or constant."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    if config.decay == "constant":
        return warm
    return warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def _settle(objective: Objective, ema: nn.Module, world: World) -> list[Visitor]:
    """All networks to their device, sharded if asked for; returned: those that come and go."""
    networks = [*objective.players.values(), ema]
    if objective.draw is None:  # each process has the whole of it
        for net in networks:
            net.to(world.device)
        return []
    for net in networks:
        world.settle(net)
    teacher = getattr(objective, "teacher", None)
    visitor = world.settle(teacher, world.engine.offload_teacher) if teacher else None
    return [visitor] if visitor else []


def _taker(objective: Objective, player: str, config: MethodConfig, world: World) -> Taker:
    turn = Turn(objective.players[player], lambda step: objective.loss(player, step))
    return Taker(world, turn, objective.draw, config.batch)


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


def _train_these(parameters: Sequence[nn.Parameter], whether: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(whether)
