"""What the objectives share: the batch they draw, the flow-matching loss, and their protocol.

Formulas are those of Self Forcing (Huang et al., 2025) and its ancestors; each file
``objective_*.py`` holds one family. B batch, F frames, C H W of a latent frame, L text rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .config import MethodConfig, Preset
from .data import LatentPool, keyed, noise_for
from .model import DiT
from .schedule import add_noise
from .text import TextEncoder

Metrics = dict[str, float]


class Objective(Protocol):
    """A training method: which networks take turns, and the loss of each turn."""

    players: dict[str, nn.Module]
    """The networks that are trained, by name; the first is the one that is shipped."""

    def turns(self, step: int) -> Sequence[str]:
        """Who is updated at this step, in order."""
        ...

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """The scalar a player descends, and figures for the log; a pure function of ``step``."""
        ...


@dataclass(frozen=True)
class Batch:
    """One step's samples."""

    latents: Tensor  # [B, F, C, H, W], clean and true
    text: Tensor  # [B, L, D]; some prompts are dropped


@dataclass
class Draw:
    """All randomness of training: a function of (seed, step, sample, purpose)."""

    preset: Preset
    method: MethodConfig
    pool: LatentPool
    text: TextEncoder

    def batch(self, step: int, purpose: int = 0) -> Batch:
        """The true clips and prompts of a step."""
        windows = self.pool.pool.windows(self._seed(purpose), step, self.method.batch)
        prompts = self.pool.pool.prompts(windows)
        dropped = self.uniform(step, 7 + purpose, 1)[:, 0] < self.method.drop_text
        prompts = ["" if drop else p for drop, p in zip(dropped, prompts, strict=True)]
        return Batch(self.pool.clips(windows), self.text(prompts))

    def uniform(self, step: int, purpose: int, count: int) -> Tensor:
        """Numbers in 0..1, ``[B, count]``."""
        seed = self.preset.seed
        rows = [keyed(seed, step, i, purpose).random(count) for i in range(self.method.batch)]
        return torch.from_numpy(np.stack(rows)).float()

    def noise(self, step: int, purpose: int, frames: int) -> Tensor:
        """Standard normal ``[B, frames, C, H, W]``."""
        return noise_for(self._keys(step, purpose), (frames, *self.preset.latent_shape))

    def rollout_noise(self, step: int, purpose: int) -> Callable[[Sequence[int], int], Tensor]:
        """Noise for a rollout, keyed by frame and denoising step too."""
        keys = self._keys(step, purpose)

        def noise(frames: Sequence[int], denoising: int) -> Tensor:
            shape = self.preset.latent_shape
            parts = [noise_for([(*k, f, denoising) for k in keys], shape) for f in frames]
            return torch.stack(parts, dim=1)

        return noise

    def _keys(self, step: int, purpose: int) -> list[tuple[int, ...]]:
        return [(self.preset.seed, step, i, purpose) for i in range(self.method.batch)]

    def _seed(self, purpose: int) -> int:
        return self.preset.seed * 1000 + purpose


def flow_loss(prediction: Tensor, x0: Tensor, sigma: Tensor, floor: float) -> Tensor:
    """Flow-matching loss a frame, ``[B, F]``: ``|v_hat - v|^2 (sigma / max(sigma, floor))^2``.

    As ``v_hat - v = (x0 - x0_hat) / sigma``, this is ``|x0_hat - x0|^2 / max(sigma, floor)^2``:
    finite at level 0. With ``floor`` 0 it is the plain velocity loss.
    """
    error = (prediction - x0).square().mean(dim=(2, 3, 4))
    return error / sigma.clamp(min=max(floor, 1e-3)).square()


def critic_loss(
    fake: DiT, x0: Tensor, text: Tensor, sigma: Tensor, noise: Tensor, floor: float
) -> Tensor:
    """The fake score's flow matching on the generator's own clips; ``sigma``: ``[B, F]``."""
    prediction = fake(add_noise(x0, noise, sigma), sigma, text)
    return flow_loss(prediction, x0, sigma, floor).mean()
