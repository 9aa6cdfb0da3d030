"""The discriminator of Self Forcing's GAN: heads on the fake score's backbone, and both losses.

A learned register looks at all video tokens after some of the backbone's blocks; what the registers
saw gives one logit a clip (Huang et al., 2025, appendix). Clips are noised before they are judged.
B batch, F frames, S tokens a frame, d model width, K blocks that are judged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .blocks import Attention
from .config import GanConfig
from .model import DiT
from .objectives import Metrics


class Critic(nn.Module):
    """A fake score that can also judge; its heads are trained with it."""

    def __init__(self, score: DiT, config: GanConfig) -> None:
        super().__init__()
        self.score, d = score, score.config.dim
        layers = score.config.layers
        half = [*range(layers)][-max(1, layers // 2) :]
        self.blocks = config.blocks or tuple(half[-3:])
        self.registers = nn.Parameter(0.02 * torch.randn(len(self.blocks), 1, 1, d))
        self.looks = nn.ModuleList(Look(d, score.config.heads) for _ in self.blocks)
        self.verdict = nn.Sequential(
            nn.LayerNorm(len(self.blocks) * d),
            nn.Linear(len(self.blocks) * d, d),
            nn.SiLU(),
            nn.Linear(d, 1),
        )

    def forward(
        self, x_t: Tensor, sigma: Tensor, text: Tensor, judge: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The fake score's ``x0``; with ``judge`` also logits ``[B]``, high where true."""
        if not judge:
            out: Tensor = self.score(x_t, sigma, text)
            return out
        features: list[Tensor] = []
        x0 = self.score(x_t, sigma, text, features=features)
        seen = [
            look(register.expand(x_t.shape[0], -1, -1), features[block].flatten(1, 2))
            for register, look, block in zip(self.registers, self.looks, self.blocks, strict=True)
        ]
        return x0, self.verdict(torch.cat(seen, dim=-1))[:, 0, 0]


class Look(nn.Module):
    """One query that attends to all tokens, then a feed-forward; both beside the identity."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norm_tokens, self.norm = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = Attention(d, heads)
        self.ffn = nn.Sequential(
            nn.Linear(d, 4 * d), nn.GELU(approximate="tanh"), nn.Linear(4 * d, d)
        )

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """``query``: ``[B, 1, d]``; ``tokens``: ``[B, F S, d]``."""
        heard = self.attention.of_text(self.norm_tokens(tokens))
        query = query + self.attention.over_text(query, *heard)
        out: Tensor = query + self.ffn(self.norm(query))
        return out


def discriminator_loss(
    critic: Critic,
    true_t: Tensor,
    fake_t: Tensor,
    fake: Tensor,
    sigma: Tensor,
    text: Tensor,
    nudge: Tensor,
    config: GanConfig,
) -> tuple[Tensor, Metrics]:
    """Tell noised true clips from noised generated ones, ``[B, F, C, H, W]``.

    ``softplus(-(r - f))``, or ``softplus(-r) + softplus(f)`` if not relativistic, and
    ``(R1 + R2) / 2`` by finite differences: ``lambda mean(((D(x + s n) - D(x)) / s)^2)``.
    ``fake``: the generated clips' logits ``[B]``, which the caller has already.
    """
    real = critic(true_t, sigma, text, judge=True)[1]
    loss = (
        nnf.softplus(fake - real).mean()
        if config.relativistic
        else (nnf.softplus(-real) + nnf.softplus(fake)).mean()
    )
    figures: Metrics = {
        "told_apart": float((real > fake).float().mean()),
        "logit_gap": float((real - fake).detach().mean()),
    }
    for weight, clip, logits in ((config.r1, true_t, real), (config.r2, fake_t, fake)):
        if weight:
            moved = critic(clip + config.sigma * nudge, sigma, text, judge=True)[1]
            slope = (moved - logits) / config.sigma
            loss = loss + 0.5 * weight * slope.square().mean()
    return loss, figures


def generator_loss(
    critic: Critic, true_t: Tensor, fake_t: Tensor, sigma: Tensor, text: Tensor, config: GanConfig
) -> tuple[Tensor, Metrics]:
    """The generator's side: ``softplus(-(f - r))``, or ``softplus(-f)`` if not relativistic."""
    fake = critic(fake_t, sigma, text, judge=True)[1]
    if not config.relativistic:
        return nnf.softplus(-fake).mean(), {}
    with torch.no_grad():
        real = critic(true_t, sigma, text, judge=True)[1]
    return nnf.softplus(real - fake).mean(), {}
