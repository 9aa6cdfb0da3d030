"""A player's turn: the loss of its micro-batches, and gradients of the whole batch.

Alone, replicated by DDP or sharded by FSDP2; gradients are summed over micro-batches first, and
exchanged with other processes once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .distributed import World
from .objectives import Draw, Metrics


class Turn(nn.Module):
    """A player's loss as one forward pass.

    An objective calls its networks many times, with and without gradient, and asks them for more
    than ``forward``. DDP wants one forward pass for a backward pass; so it wraps this.
    """

    def __init__(self, net: nn.Module, loss: Callable[[int], tuple[Tensor, Metrics]]) -> None:
        super().__init__()
        self.net, self._loss = net, loss

    def forward(self, step: int) -> tuple[Tensor, Metrics]:
        """The loss at a step, and figures for the log."""
        return self._loss(step)


class Taker:
    """Takes a player's turns: alone, replicated, or sharded; one micro-batch after another."""

    def __init__(self, world: World, turn: Turn, draw: Draw | None, batch: int) -> None:
        """``draw``: whose samples are divided. Without it each process computes the whole batch,
        and so no gradient is shared."""
        self.world, self.draw, self.batch = world, draw, batch
        self.parts = world.parts(batch) if draw else [range(batch)]
        self.turn: nn.Module = turn
        if draw and world.ranks > 1 and world.mesh is None:
            self.turn = DistributedDataParallel(turn, gradient_as_bucket_view=True)

    def weight(self, samples: int) -> float:
        """Of so many samples in the whole batch; over all processes these sum to 1.

        Processes that share a sample's tokens all have its loss, and each counts its part of it.
        """
        if self.draw is None:
            return 1 / self.world.ranks
        return samples / self.batch / self.world.engine.sequence_parallel

    @property
    def share(self) -> float:
        """The weight of all that this process computes."""
        return self.weight(sum(map(len, self.parts)))

    def take(self, step: int) -> tuple[Tensor, Metrics]:
        """Leave the whole batch's gradients; return this process's part of the loss, and figures.

        What is shared is the mean of all processes' gradients, so a loss is scaled to undo that.
        """
        losses, figures = [], []
        for part in self.parts:
            weight = self.weight(len(part))
            if self.draw:
                self.draw.samples = part
            with self._sharing(last=part is self.parts[-1]):
                with self.world.numerics():
                    loss, found = self.turn(step)
                scale = weight * self.world.ranks
                torch.autograd.backward(loss if scale == 1 else loss * scale)
            losses.append(loss.detach() * weight)
            figures.append((weight / self.share, found))
        return torch.stack(losses).sum(), _weighted(figures)

    def _sharing(self, last: bool) -> AbstractContextManager[None]:
        """Gradients of all micro-batches are summed here, and shared with others once."""
        if isinstance(self.turn, DistributedDataParallel):
            return nullcontext() if last else self.turn.no_sync()
        if self.draw and self.world.mesh is not None:
            net: Any = self.turn.net
            net.set_requires_gradient_sync(last)
        return nullcontext()


def _weighted(figures: Sequence[tuple[float, Metrics]]) -> Metrics:
    """The weighted sum of each figure; the weights sum to 1."""
    if len(figures) == 1:
        return figures[0][1]
    out: Metrics = {}
    for name, value in figures[0][1].items():
        found = [(weight, one[name]) for weight, one in figures]
        if isinstance(value, list):
            rows = [[weight * x for x in row] for weight, row in found if isinstance(row, list)]
            out[name] = [sum(column) for column in zip(*rows, strict=True)]
        else:
            out[name] = sum(weight * x for weight, x in found if not isinstance(x, list))
    return out
