"""Distribution matching distillation (DMD; Yin et al., 2024) of few-step generators, and what its
relatives SiD and GAN share with it: critic and generator take turns over the student's own clips.

DMD moves a clip along the difference of the fake and the real score. How the clip comes about is
``objective_fakes.py``: self forcing, teacher forcing, diffusion forcing, or the whole at once.
B batch, F frames, C H W of a latent frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .model import DiT
from .objective_critic import Critic, discriminator_loss, generator_loss
from .objective_fakes import Fakes, Student
from .objectives import Batch, Draw, Metrics, by_chunk, flow_loss, frozen
from .schedule import Schedule, add_noise, warp


def dmd_gradient(
    x: Tensor,
    real: nn.Module,
    fake: nn.Module,
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
        f_fake, f_real = fake(x_t, sigma, text), guided(real, x_t, sigma, text, blank, guidance)
        scale = (x.detach() - f_real).abs().mean(dim=(1, 2, 3, 4), keepdim=True)
        gradient: Tensor = (f_fake - f_real) / scale.clamp(min=1e-6)
        return gradient


def dmd_loss(x: Tensor, gradient: Tensor) -> Tensor:
    """``1/2 mean (x - sg[x - g])^2``: its gradient in ``x`` is ``g`` over the number of values."""
    return 0.5 * nnf.mse_loss(x, (x - gradient).detach())


def guided(
    real: nn.Module, x_t: Tensor, sigma: Tensor, text: Tensor, blank: Tensor, guidance: float
) -> Tensor:
    """The real score's x0 under ordinary guidance: 1 is none."""
    out: Tensor = real(x_t, sigma, text)
    if guidance == 1:
        return out
    empty: Tensor = real(x_t, sigma, blank.expand_as(text))
    return empty + guidance * (out - empty)


class Distillation(ABC):
    """The shared algorithm: critic updates, every ``critic_ratio`` of them a generator update."""

    uses: ClassVar[tuple[str, ...]] = ("critic", "teacher")

    def __init__(
        self, draw: Draw, generator: DiT, critic: DiT, fakes: Fakes, teacher: DiT | None = None
    ) -> None:
        self.draw, self.config = draw, draw.method
        self.student = Student(draw, generator, Schedule.of(draw.method.sampler))
        self.fakes, self.frames = fakes, draw.preset.data.frames
        self.generator = generator
        self.teacher = teacher.requires_grad_(False) if teacher else None
        self.critic: Any = Critic(critic, self.config.gan) if self.gan_weight else critic
        self.players: dict[str, nn.Module] = {"generator": generator, "critic": self.critic}
        self._shared: dict[tuple[int, range], tuple[Batch, Tensor]] = {}

    @property
    def gan_weight(self) -> float:
        """Of the adversarial terms in both players' losses."""
        return self.config.gan.weight

    def turns(self, step: int) -> Sequence[str]:
        """The critic always; the generator first when its turn has come."""
        past = step - self.config.critic_warmup
        return (
            ("generator", "critic")
            if past >= 0 and past % self.config.critic_ratio == 0
            else ("critic",)
        )

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """The generator's loss on its clips; the critic's on clips of its own, or on the same."""
        purpose = 20 if player == "generator" else 40  # each turn has clips and noise of its own
        if player == "generator":
            batch = self.draw.batch(step, purpose)
            x = self.fakes(self.student, batch, step, purpose + 3)
            if self.config.share_rollout:
                self._shared = {k: v for k, v in self._shared.items() if k[0] == step}
                self._shared[step, self.draw.samples] = batch, x.detach()
            loss, figures = self.match(x, batch, step, purpose)
            return self._with_extras(loss, figures, x, batch, step, purpose)
        shared = self._shared.pop((step, self.draw.samples), None)
        batch = shared[0] if shared else self.draw.batch(step, purpose)
        with torch.no_grad():
            x = shared[1] if shared else self.fakes(self.student, batch, step, purpose + 3)
        return self.criticise(x, batch, step, purpose)

    @abstractmethod
    def match(self, x: Tensor, batch: Batch, step: int, purpose: int) -> tuple[Tensor, Metrics]:
        """The generator's loss on its clip ``x`` ``[B, F, C, H, W]``."""

    def criticise(self, x: Tensor, batch: Batch, step: int, purpose: int) -> tuple[Tensor, Metrics]:
        """The fake score's flow matching on the generator's clip, and, if asked for, to tell it
        from true ones."""
        sigma, noise = self.score_levels(step, purpose + 1), self.score_noise(step, purpose + 2)
        x_t = add_noise(x, noise, sigma)
        if self.gan_weight:
            prediction, verdict = self.critic(x_t, sigma, batch.text, judge=True)
        else:
            prediction = self.critic(x_t, sigma, batch.text)
        losses = flow_loss(prediction, x, sigma, self.config.weight_floor)
        figures: Metrics = {"chunk_loss": by_chunk(losses, self.student.chunks.all)}
        if not self.gan_weight:
            return losses.mean(), figures
        true_t = add_noise(batch.latents, noise, sigma)
        nudge = self.draw.noise(step, purpose + 6, self.frames)
        told, more = discriminator_loss(
            self.critic, true_t, x_t, verdict, sigma, batch.text, nudge, self.config.gan
        )
        return self.flow_weight * losses.mean() + self.gan_weight * told, {**figures, **more}

    flow_weight = 1.0
    """Of the fake score's flow matching; a GAN has no fake score."""

    def adversarial(
        self, x: Tensor, batch: Batch, step: int, purpose: int
    ) -> tuple[Tensor, Metrics]:
        """The generator's side of the GAN, on clips noised to the scores' levels."""
        sigma, noise = self.score_levels(step, purpose + 1), self.score_noise(step, purpose + 2)
        with frozen(self.critic):
            return generator_loss(
                self.critic,
                add_noise(batch.latents, noise, sigma),
                add_noise(x, noise, sigma),
                sigma,
                batch.text,
                self.config.gan,
            )

    def _with_extras(
        self, loss: Tensor, figures: Metrics, x: Tensor, batch: Batch, step: int, purpose: int
    ) -> tuple[Tensor, Metrics]:
        """Beside the method's own loss: a GAN term, and flow matching on true clips."""
        if self.gan_weight and self.flow_weight:
            told, more = self.adversarial(x, batch, step, purpose)
            loss, figures = loss + self.gan_weight * told, {**figures, **more}
        if self.config.anchor:
            sigma = self.student.levels(step, purpose + 8)
            noise = self.draw.noise(step, purpose + 9, self.frames)
            x_t = add_noise(batch.latents, noise, sigma)
            out = self.student.chunks.after_noisy(self.generator, x_t, sigma, batch.text)
            anchor = flow_loss(out, batch.latents, sigma, self.config.weight_floor).mean()
            loss = loss + self.config.anchor * anchor
            figures = {**figures, "anchor_loss": float(anchor.detach())}
        return loss, figures

    def score_levels(self, step: int, purpose: int) -> Tensor:
        """One level a clip, ``[B, 1]``: shifted, then clamped."""
        u = self.draw.uniform(step, purpose, 1)
        return warp(u, self.config.score_shift).clamp(*self.config.score_range)

    def score_noise(self, step: int, purpose: int) -> Tensor:
        """The noise at which scores are compared, ``[B, F, C, H, W]``."""
        return self.draw.noise(step, purpose, self.frames)


class DMD(Distillation):
    """Self Forcing's first objective, and that of CausVid and TF+DMD."""

    def match(self, x: Tensor, batch: Batch, step: int, purpose: int) -> tuple[Tensor, Metrics]:
        """Move ``x`` from where the fake score lies to where the real one does."""
        assert self.teacher is not None
        gradient = dmd_gradient(
            x,
            self.teacher,
            self.critic,
            batch.text,
            self.draw.blank(),
            self.score_levels(step, purpose + 1),
            self.score_noise(step, purpose + 2),
            self.config.real_guidance,
        )
        by_frame = gradient.abs().mean(dim=(2, 3, 4))
        return dmd_loss(x, gradient), {
            "dmd_gradient": float(by_frame.mean()),
            "chunk_gradient": by_chunk(by_frame, self.student.chunks.all),
        }
