"""The GAN objective, Self Forcing's third: no scores; a discriminator against true clips."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .objective_dmd import Distillation
from .objectives import Batch, Metrics


class GAN(Distillation):
    """The critic is the discriminator alone; no teacher is asked."""

    uses: ClassVar[tuple[str, ...]] = ("critic",)
    flow_weight = 0.0
    gan_weight = 1.0

    def __init__(self, *networks: Any, **named: Any) -> None:
        super().__init__(*networks, **named)
        score = self.critic.score
        last = max(block % len(score.blocks) for block in self.critic.blocks)
        for unused in (score.head, *score.blocks[last + 1 :]):  # nothing asks for its x0
            unused.requires_grad_(False)

    def match(self, x: Tensor, batch: Batch, step: int, purpose: int) -> tuple[Tensor, Metrics]:
        """To be taken for true."""
        return self.adversarial(x, batch, step, purpose)
