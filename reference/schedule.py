"""The flow's noise levels and the exact conversions between x0, v and noise.

``x_t = (1 - sigma) x0 + sigma noise``, ``v = noise - x0`` and ``sigma = t / 1000`` everywhere: no
table, so generator, real score and fake score can never disagree about a level.

Shapes: ``x`` is ``[B, F, C, H, W]``; ``sigma`` is ``[B, F]`` in 0..1, one level a frame
(with 1 in place of B or F where levels are common).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SamplerConfig


def warp(u: Tensor, shift: float) -> Tensor:
    """Shift levels ``u`` in 0..1 towards noise: ``s u / (1 + (s - 1) u)``."""
    return shift * u / (1 + (shift - 1) * u)


def evenly(steps: int) -> tuple[float, ...]:
    """A few-step list, 0..1000 and before the warp, of so many even steps."""
    return tuple(1000 * (1 - i / steps) for i in range(steps))


@dataclass(frozen=True)
class Schedule:
    """The noise levels a sampler visits, first to last, and how it moves between them."""

    sigmas: tuple[float, ...]  # those at which the network is evaluated, decreasing
    renoise: bool  # True: x0 then fresh noise (consistency sampler). False: Euler on the ODE
    guidance: float = 1.0
    context_noise: float = 0.0  # level at which a finished chunk becomes context

    def __len__(self) -> int:
        return len(self.sigmas)

    @staticmethod
    def of(config: SamplerConfig) -> Schedule:
        """Resolve a configuration; four steps at shift 5 give t = 1000, 937.5, 833.3, 625."""
        if config.kind == "renoise":
            u = torch.tensor(config.few, dtype=torch.float64) / 1000
        else:
            u = torch.linspace(1, 0, config.steps + 1, dtype=torch.float64)[:-1]
        sigmas = warp(u, config.shift)
        renoise = config.kind == "renoise"
        return Schedule(tuple(sigmas.tolist()), renoise, config.guidance, config.context_noise)

    def advance(self, x: Tensor, x0: Tensor, step: int, noise: Tensor) -> Tensor:
        """From level ``step`` to level ``step + 1``; ``noise`` is used by renoising only."""
        here, there = self.sigmas[step], self.sigmas[step + 1]
        if self.renoise:
            return (1 - there) * x0 + there * noise
        return x + (there - here) * (x - x0) / here


def add_noise(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """``x_t`` at levels ``sigma``."""
    s = _per_frame(sigma)
    return (1 - s) * x0 + s * noise


def velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """``v = noise - x0``, what the flow's network predicts."""
    return noise - x0


def x0_from_v(x_t: Tensor, v: Tensor, sigma: Tensor | float) -> Tensor:
    """``x0 = x_t - sigma v``."""
    return x_t - _per_frame(sigma) * v


def v_from_x0(x_t: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """``v = (x_t - x0) / sigma``; the level must be positive."""
    return (x_t - x0) / _per_frame(sigma)


def noise_from_v(x_t: Tensor, v: Tensor, sigma: Tensor) -> Tensor:
    """``noise = x_t + (1 - sigma) v``."""
    return x_t + (1 - _per_frame(sigma)) * v


def _per_frame(sigma: Tensor | float) -> Tensor | float:
    return sigma[..., None, None, None] if isinstance(sigma, Tensor) else sigma
