"""Many-step methods trained on true clips by flow matching: teacher, teacher and diffusion forcing.

The three differ in who sees what at which noise level, and in nothing else. B batch, F frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .model import DiT
from .objectives import Chunks, Draw, Metrics, by_chunk, flow_loss
from .schedule import add_noise, warp


class Flow(ABC):
    """What the three share: one player, and noise levels a chunk or a clip."""

    def __init__(self, draw: Draw, generator: DiT) -> None:
        self.draw, self.config, self.generator = draw, draw.method, generator
        self.players: dict[str, nn.Module] = {"generator": generator}
        self.chunks, self.frames = Chunks(draw, generator), draw.preset.data.frames

    def turns(self, step: int) -> Sequence[str]:
        """The generator, always."""
        return ("generator",)

    @abstractmethod
    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Flow matching; who sees what is the subclass's."""

    def levels(self, step: int) -> Tensor:
        """One level a chunk, ``[B, F]``, shifted towards noise."""
        u = self.draw.uniform(step, 1, len(self.chunks.all))
        return self.chunks.a_frame(warp(u, self.config.shift))


class Teacher(Flow):
    """The bidirectional base: every frame sees every frame, one noise level a clip.

    ``mixed_noise``: this share of the clips has a level a chunk, which keeps what a start from
    diffusion forcing has learned and teaches motion sooner.
    """

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Flow matching over the whole clip."""
        batch = self.draw.batch(step)
        per_chunk = self.levels(step)
        mixed = self.draw.uniform(step, 3, 1) < self.config.mixed_noise
        sigma = torch.where(mixed, per_chunk, per_chunk[:, :1])
        noise = self.draw.noise(step, 2, self.frames)
        x_t = add_noise(batch.latents, noise, sigma)
        loss = flow_loss(
            self.generator(x_t, sigma, batch.text), batch.latents, sigma, self.config.weight_floor
        )
        return loss.mean(), {}


class DiffusionForcing(Flow):
    """Block-causal; each chunk at a level of its own, so the past is seen at every noise level.

    ``clean_chunks``: this share of the chunks is clean and carries no loss, because at inference
    the past always is, which independent levels almost never draw.
    """

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Flow matching on the noisy chunks."""
        batch = self.draw.batch(step)
        clean = self._clean(step, self.draw.samples)
        sigma = self.levels(step).masked_fill(clean, 0.0)
        x_t = add_noise(batch.latents, self.draw.noise(step, 2, self.frames), sigma)
        prediction = self.chunks.after_noisy(self.generator, x_t, sigma, batch.text)
        loss = flow_loss(prediction, batch.latents, sigma, self.config.weight_floor)
        # Over the noisy frames of the whole batch, however many of them are in this part of it.
        noisy = (~self._clean(step, range(self.config.batch))).sum().clamp(min=1)
        mean = loss.masked_fill(clean, 0.0).sum() / (noisy * self.draw.share)
        return mean, {"chunk_loss": by_chunk(loss, self.chunks.all)}

    def _clean(self, step: int, samples: Sequence[int]) -> Tensor:
        """Which frames of which samples are shown clean, bool ``[B, F]``."""
        u = self.draw.uniform(step, 3, len(self.chunks.all), samples)
        return self.chunks.a_frame(u < self.config.clean_chunks)


class TeacherForcing(Flow):
    """Each noisy chunk sees the true, clean chunks before it: the sequence is (clean, noisy)."""

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Flow matching on the noisy half."""
        batch, sigma = self.draw.batch(step), self.levels(step)
        x_t = add_noise(batch.latents, self.draw.noise(step, 2, self.frames), sigma)
        noisy = self.chunks.after_clean(self.generator, batch, x_t, sigma)
        loss = flow_loss(noisy, batch.latents, sigma, self.config.weight_floor)
        return loss.mean(), {"chunk_loss": by_chunk(loss, self.chunks.all)}
