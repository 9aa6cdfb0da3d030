"""Score identity distillation (SiD; Zhou et al., 2024), Self Forcing's second objective.

B batch, F frames, C H W of a latent frame.
"""

from __future__ import annotations

from torch import Tensor

from .objective_dmd import Distillation, guided
from .objectives import Batch, Metrics, by_chunk, frozen
from .schedule import add_noise


def sid_loss(x: Tensor, f_real: Tensor, f_fake: Tensor, alpha: float) -> Tensor:
    """``(f_real - f_fake) [(f_real - x) - alpha (f_real - f_fake)] / sg(mean|x - f_real|)``.

    A value for each entry of ``[B, F, C, H, W]``; the mean is over each sample's own. ``f`` are x0
    predictions at a noised ``x``, and carry gradient to it.
    """
    apart = f_real - f_fake
    scale = (x - f_real).detach().abs().mean(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-6)
    return apart * ((f_real - x) - alpha * apart) / scale


class SiD(Distillation):
    """Unlike DMD, the gradient passes through both scores to the clip they are given."""

    def match(self, x: Tensor, batch: Batch, step: int, purpose: int) -> tuple[Tensor, Metrics]:
        """The identity's estimate of the Fisher divergence at ``x_t``."""
        assert self.teacher is not None
        sigma, noise = self.score_levels(step, purpose + 1), self.score_noise(step, purpose + 2)
        x_t, blank = add_noise(x, noise, sigma), self.draw.blank()
        with frozen(self.critic):
            f_fake = self.critic(x_t, sigma, batch.text)
        f_real = guided(self.teacher, x_t, sigma, batch.text, blank, self.config.real_guidance)
        losses = sid_loss(x, f_real, f_fake, self.config.sid_alpha)
        by_frame = losses.detach().mean(dim=(2, 3, 4))
        return losses.mean(), {"chunk_loss": by_chunk(by_frame, self.student.chunks.all)}
