"""Distribution matching distillation of few-step generators: Self Forcing and CausVid.

The two differ in how the clip that is scored comes about: from the generator's own past (Self
Forcing), or from noised true clips under the diffusion-forcing mask (CausVid). The loss is one:
it moves the clip along the difference of the fake and the real score (DMD; Yin et al., 2024).
B batch, F frames, C H W of a latent frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .attention import block_causal
from .data import keyed
from .model import DiT
from .objectives import Draw, Metrics, critic_loss
from .rollout import rollout
from .schedule import Schedule, add_noise, warp


def dmd_gradient(
    x: Tensor,
    real: DiT,
    fake: DiT,
    text: Tensor,
    blank: Tensor,
    sigma: Tensor,
    noise: Tensor,
    guidance: float,
) -> Tensor:
    """``(f_fake - f_real) / mean|x - f_real|`` at ``x_t``, ``[B, F, C, H, W]``; detached.

    ``f`` are x0 predictions; the real one is guided, ``blank + guidance (text - blank)``. The mean
    is over each sample's own values.
    """
    with torch.no_grad():
        x_t = add_noise(x.detach(), noise, sigma)
        f_fake, f_real = fake(x_t, sigma, text), real(x_t, sigma, text)
        if guidance != 1:
            empty = real(x_t, sigma, blank.expand_as(text))
            f_real = empty + guidance * (f_real - empty)
        scale = (x.detach() - f_real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
        gradient: Tensor = (f_fake - f_real) / scale.clamp(min=1e-6)
        return gradient


def dmd_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """``1/2 mean (x - sg[x - g])^2``: its gradient in ``x`` is ``g`` over the number of values."""
    return 0.5 * nnf.mse_loss(x, (x - gradient).detach())


class Distillation(ABC):
    """The shared algorithm: critic updates, every ``critic_ratio`` of them a generator update."""

    def __init__(self, draw: Draw, generator: DiT, critic: DiT, teacher: DiT) -> None:
        self.draw, self.config = draw, draw.method
        self.generator, self.critic = generator, critic
        self.teacher = teacher.requires_grad_(False)
        self.players: dict[str, nn.Module] = {"generator": generator, "critic": critic}
        self.schedule = Schedule.of(draw.method.sampler)
        self.frames = draw.preset.data.frames
        self.chunk = generator.config.frames_per_chunk

    def turns(self, step: int) -> Sequence[str]:
        """The critic always; the generator first when its turn has come."""
        past = step - self.config.critic_warmup
        return (
            ("generator", "critic")
            if past >= 0 and past % self.config.critic_ratio == 0
            else ("critic",)
        )

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """DMD for the generator; flow matching on its clips for the critic."""
        purpose = 20 if player == "generator" else 40  # each turn has clips and noise of its own
        batch = self.draw.batch(step, purpose)
        sigma = self._score_levels(step, purpose + 1)
        noise = self.draw.noise(step, purpose + 2, self.frames)
        if player == "critic":
            with torch.no_grad():
                x = self.fakes(batch.latents, batch.text, step, purpose + 3)
            loss = critic_loss(self.critic, x, batch.text, sigma, noise, self.config.weight_floor)
            return loss, {}
        x = self.fakes(batch.latents, batch.text, step, purpose + 3)
        gradient = dmd_gradient(
            x,
            self.teacher,
            self.critic,
            batch.text,
            self.draw.text([""]),
            sigma,
            noise,
            self.config.real_guidance,
        )
        return dmd_loss(x, gradient), {"dmd_gradient": float(gradient.abs().mean())}

    @abstractmethod
    def fakes(self, true: Tensor, text: Tensor, step: int, purpose: int) -> Tensor:
        """The generator's clip ``[B, F, C, H, W]``, with gradient where gradient is on."""

    def _score_levels(self, step: int, purpose: int) -> Tensor:
        """One level a clip, ``[B, F]``: shifted, then clamped."""
        u = self.draw.uniform(step, purpose, 1)
        sigma = warp(u, self.config.score_shift).clamp(*self.config.score_range)
        return sigma.expand(-1, self.frames)


class SelfForcing(Distillation):
    """The paper's method: the clip is the generator's own KV-cached rollout.

    A random exit step (one for the clip, or one a chunk), gradient there only, detached cache.
    """

    def fakes(self, true: Tensor, text: Tensor, step: int, purpose: int) -> Tensor:
        """Algorithm 1: roll out from noise alone; true clips are not used."""
        chunks = rollout(
            self.generator,
            text,
            self.draw.rollout_noise(step, purpose),
            self.schedule,
            frames=self.frames,
            exits=self._exits(step, purpose),
            grad_from=self._grad_from() if torch.is_grad_enabled() else self.frames,
        )
        return torch.cat(list(chunks), dim=1)

    def _exits(self, step: int, purpose: int) -> list[int]:
        random = keyed(self.draw.preset.seed, step, purpose)
        chunks = self.frames // self.chunk
        if self.config.same_exit:
            return [int(random.integers(len(self.schedule)))] * chunks
        return [int(e) for e in random.integers(len(self.schedule), size=chunks)]

    def _grad_from(self) -> int:
        return self.frames - self.config.grad_frames if self.config.grad_frames else 0


class CausVid(Distillation):
    """The baseline: true clips, each chunk noised to a level of the few-step list, denoised at once
    under the block-causal mask. The generator never sees its own past (Yin et al., 2025)."""

    def fakes(self, true: Tensor, text: Tensor, step: int, purpose: int) -> Tensor:
        """One masked pass over the noised true clip."""
        chunks = self.frames // self.chunk
        index = (self.draw.uniform(step, purpose, chunks) * len(self.schedule)).long()
        sigma = torch.tensor(self.schedule.sigmas)[index].repeat_interleave(self.chunk, dim=1)
        x_t = add_noise(true, self.draw.noise(step, purpose + 1, self.frames), sigma)
        config = self.generator.config
        mask = block_causal(self.frames, self.chunk, config.window, config.sink)
        out: Tensor = self.generator(x_t, sigma, text, mask=mask)
        return out
