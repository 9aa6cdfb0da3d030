"""Where few-step students may start from: a teacher's ODE, an autoregressive one's, or consistency.

- *ODE regression* (CausVid, Self Forcing): the causal student maps states of a bidirectional
  teacher's trajectory to where it ends. What a chunk's noise becomes then depends on chunks that
  the student cannot see.
- *Causal ODE* (Causal Forcing, 2026): trajectories of an autoregressive teacher, each chunk given
  its clean true past, so that the map is one that the student can learn.
- *Consistency*: no trajectories; two neighbouring points of the teacher's ODE have one end.

The student's few levels must be among the levels of the teacher's ODE: both are warped by the same
shift, so a grid of a multiple of the student's steps has them exactly.
B batch, F frames, C H W of a latent frame, K levels of the student.
"""

from __future__ import annotations

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import ConfigError
from .data import keyed, noise_for
from .model import DiT
from .objective_dmd import guided
from .objectives import Batch, Chunks, Draw, Metrics, by_chunk
from .schedule import Schedule, add_noise

PART = 32  # trajectories a file


class Initialisation(ABC):
    """What the three share: one player, the teacher, and the teacher's ODE."""

    uses: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(self, draw: Draw, generator: DiT, teacher: DiT) -> None:
        self.draw, self.config, self.generator = draw, draw.method, generator
        self.teacher = teacher.requires_grad_(False)
        self.players: dict[str, nn.Module] = {"generator": generator}
        self.chunks, self.frames = Chunks(draw, generator), draw.preset.data.frames
        self.student = Schedule.of(self.config.sampler)
        self.ode = teacher_ode(draw)
        self.at = [_place(level, self.ode) for level in self.student.sigmas]

    def turns(self, step: int) -> Sequence[str]:
        """The generator, always."""
        return ("generator",)

    @abstractmethod
    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Regression to where the teacher's ODE ends."""

    def drift(self, x: Tensor, batch: Batch, sigma: Tensor, causal: bool) -> Tensor:
        """The teacher's x0 at levels ``[B, F]``: of all frames together, or of each chunk given the
        true ones before it."""
        if causal:
            return self.chunks.after_clean(self.teacher, batch, x, sigma)
        blank = self.draw.blank()
        return guided(self.teacher, x, sigma, batch.text, blank, self.config.real_guidance)

    def error(self, out: Tensor, target: Tensor) -> tuple[Tensor, Metrics]:
        """Mean squared error, and the same a chunk."""
        by_frame = (out - target).square().mean(dim=(2, 3, 4))
        return by_frame.mean(), {"chunk_loss": by_chunk(by_frame, self.chunks.all)}


class OdeRegression(Initialisation):
    """Each chunk at a state of its own of the trajectory, under the diffusion-forcing mask."""

    causal: ClassVar[bool] = False

    def __init__(self, draw: Draw, generator: DiT, teacher: DiT) -> None:
        super().__init__(draw, generator, teacher)
        self._stored: Trajectories | None = None  # made at the first step that needs it

    def prepare(self) -> None:
        """Make the trajectories; while each process has the whole teacher, it makes some alone."""
        self._trajectories()

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """From a state to the end, chunk by chunk independently."""
        numbers = [
            int(keyed(self.draw.preset.seed, step, i, 62).integers(self.config.pairs))
            for i in self.draw.samples
        ]
        states, batch = self._trajectories().of(numbers)
        index = (self.draw.uniform(step, 61, len(self.chunks.all)) * len(self.student)).long()
        sigma = self.chunks.a_frame(torch.tensor(self.student.sigmas)[index])
        picked = self.chunks.a_frame(index)[:, None, :, None, None, None]
        x_t = states.gather(1, picked.expand(-1, 1, -1, *states.shape[3:]))[:, 0]
        if self.causal:
            out = self.chunks.after_clean(self.generator, batch, x_t, sigma)
        else:
            out = self.chunks.after_noisy(self.generator, x_t, sigma, batch.text)
        return self.error(out, states[:, -1])

    def _trajectories(self) -> Trajectories:
        if self._stored is None:
            self._stored = Trajectories(self)
            self._stored.make_all()
        return self._stored


class CausalOde(OdeRegression):
    """The same from an autoregressive teacher, teacher and student given the clean true past."""

    causal = True


class Consistency(Initialisation):
    """Causal consistency distillation: the student's x0 at one level of the teacher's ODE is its
    own x0, held fixed, one step of the ODE further on."""

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Each chunk at a level of its own, given the clean true past."""
        batch = self.draw.batch(step)
        index = (self.draw.uniform(step, 61, len(self.chunks.all)) * len(self.ode)).long()
        levels = torch.tensor([*self.ode.sigmas, 0.0])
        here, there = (self.chunks.a_frame(levels[i]) for i in (index, index + 1))
        x_t = add_noise(batch.latents, self.draw.noise(step, 2, self.frames), here)
        with torch.no_grad():
            x0 = self.drift(x_t, batch, here, causal=True)
            slope = (there - here) / here
            x_s = x_t + slope[..., None, None, None] * (x_t - x0)
            target = self.chunks.after_clean(self.generator, batch, x_s, there)
            ended = (there == 0)[..., None, None, None]
            target = torch.where(ended, x_s, target)  # at level 0 nothing is left to predict
        return self.error(self.chunks.after_clean(self.generator, batch, x_t, here), target)


def teacher_ode(draw: Draw) -> Schedule:
    """The teacher's Euler steps, under the student's shift."""
    method = draw.method
    euler = replace(
        method.sampler, kind="euler", steps=method.teacher_steps, guidance=method.real_guidance
    )
    return Schedule.of(euler)


def _place(level: float, ode: Schedule) -> int:
    """Where a level of the student's stands in the teacher's grid."""
    near = min(range(len(ode)), key=lambda i: abs(ode.sigmas[i] - level))
    if abs(ode.sigmas[near] - level) > 1e-9:
        raise ConfigError(
            f"The student's noise level t = {1000 * level:.1f} is not on the grid of the teacher's "
            f"{len(ode)} steps; choose teacher_steps so that the student's steps divide it."
        )
    return near


class Trajectories:
    """States of the teacher's ODE at the student's levels, and its end; kept in files of a part.

    A file appears whole or not at all, so a killed run goes on where it was, and processes share
    the work without talking: each makes its parts and waits for those of the others.
    """

    def __init__(self, owner: Initialisation) -> None:
        self.owner, draw = owner, owner.draw
        method, causal = draw.method, isinstance(owner, CausalOde)
        name = (
            f"trajectories-{draw.ancestors.get('teacher', '')[:12]}-{owner.frames}f"
            f"-{len(owner.ode)}x{method.sampler.shift:g}-cfg{method.real_guidance:g}"
            f"-{'-'.join(map(str, owner.at))}-{'causal' if causal else 'whole'}"
            f"-chunks{'-'.join(str(int(part)) for part in owner.generator.config.context)}"
            f"-seed{draw.preset.seed}"
        )
        if text := draw.preset.contents.get("text"):  # an encoder, and prompts, that are given
            told = f"{draw.pool.pool.name} {text}"
            name += f"-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
        self.folder, self.causal = draw.folder / name, causal
        self.parts = -(-method.pairs // PART)

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"{part:05d}.npy"

    def make_all(self) -> None:
        """Make what is missing; of several processes each its share."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rank, ranks = self.owner.draw.place
        for part in range(rank, self.parts, ranks):
            if not self.path(part).exists():
                self._make(part)
        while not all(self.path(part).exists() for part in range(self.parts)):
            time.sleep(0.2)  # others are at theirs

    def of(self, numbers: Sequence[int]) -> tuple[Tensor, Batch]:
        """States ``[B, K + 1, F, C, H, W]`` of these trajectories, and their clips and prompts."""
        files = {n // PART: np.load(self.path(n // PART), mmap_mode="r") for n in numbers}
        states = np.stack([files[n // PART][n % PART] for n in numbers])
        kept = torch.from_numpy(states).float().to(self.owner.draw.device)
        return kept, self._batch(numbers)

    def _batch(self, numbers: Sequence[int]) -> Batch:
        draw = self.owner.draw
        pool = draw.pool.pool
        windows = [pool.windows(draw.preset.seed + 60, n // PART, [n % PART])[0] for n in numbers]
        return draw.batch_of(windows, pool.prompts(windows))

    def _make(self, part: int) -> None:
        numbers = range(part * PART, (part + 1) * PART)
        at_once = self.owner.draw.preset.engine.micro_batch or PART
        starts = range(numbers.start, numbers.stop, at_once)
        made = [self._states(numbers[n - numbers.start :][:at_once]) for n in starts]
        unfinished = self.folder / f".{part:05d}.{os.getpid()}.part"
        with unfinished.open("wb") as file:
            np.save(file, np.concatenate(made))
        unfinished.rename(self.path(part))

    @torch.no_grad()
    def _states(self, numbers: Sequence[int]) -> NDArray[np.float16]:
        """``[B, K + 1, F, C, H, W]`` of these trajectories."""
        owner, draw = self.owner, self.owner.draw
        batch = self._batch(numbers)
        keys = [(draw.preset.seed, n, 63) for n in numbers]
        x = noise_for(keys, (owner.frames, *draw.preset.latent_shape)).to(draw.device)
        kept = []
        for step, level in enumerate(owner.ode.sigmas):
            if step in owner.at:
                kept.append(x)
            x0 = owner.drift(x, batch, x.new_full(x.shape[:2], level), self.causal)
            x = owner.ode.advance(x, x0, step, x) if step + 1 < len(owner.ode) else x0
        states: NDArray[np.float16] = torch.stack([*kept, x], dim=1).half().cpu().numpy()
        return states
