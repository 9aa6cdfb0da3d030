"""Sequence parallelism (DeepSpeed-Ulysses): processes of a group share the tokens of each sample.

Each holds ``S / p`` tokens of every frame, and all heads of them, for everything but attention; for
attention an all-to-all gives it all tokens of ``N / p`` heads, which is also what its KV cache
holds. Every collective has its true derivative, so that the loss of a sample is the mean of what
the group's processes compute, and a parameter's gradient is the sum of theirs.
B batch, F frames, S tokens a frame, N heads, D width of a head, p processes of a group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Sharing:
    """A group of processes, and this one's place in it."""

    group: Any
    size: int
    place: int

    def part(self, tokens: Tensor) -> Tensor:
        """This process's tokens of each frame: ``[B, F, S, d]`` to ``[B, F, S / p, d]``."""
        return tokens.chunk(self.size, dim=2)[self.place]

    def whole(self, tokens: Tensor) -> Tensor:
        """All processes' tokens: ``[B, F, S / p, d]`` to ``[B, F, S, d]``."""
        return gathered(tokens, self).movedim(0, 2).flatten(2, 3)

    def to_heads(self, x: Tensor, frames: int) -> Tensor:
        """``[B, F S / p, N, D]`` to all tokens of some heads, ``[B, F S, N / p, D]``."""
        batch, _, heads, width = x.shape
        parts = x.reshape(batch, frames, -1, self.size, heads // self.size, width).movedim(3, 0)
        parts = exchanged(parts, self)  # [p, B, F, S / p, N / p, D]
        return parts.movedim(0, 2).flatten(1, 3)

    def to_tokens(self, x: Tensor, frames: int) -> Tensor:
        """The inverse: ``[B, F S, N / p, D]`` to ``[B, F S / p, N, D]``."""
        parts = x.reshape(x.shape[0], frames, self.size, -1, *x.shape[2:]).movedim(2, 0)
        parts = exchanged(parts, self)  # [p, B, F, S / p, N / p, D], by whose heads they are
        return parts.movedim(0, 3).flatten(3, 4).flatten(1, 2)


class _Exchange(torch.autograd.Function):
    """All-to-all; its derivative is itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sharing: Sharing) -> Tensor:
        ctx.sharing = sharing
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        dist.all_to_all_single(out, x.contiguous(), group=sharing.group)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return exchanged(gradients[0], ctx.sharing), None


class _Gather(torch.autograd.Function):
    """All-gather; a process's gradient is the sum of all processes' gradients of what it gave."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sharing: Sharing) -> Tensor:
        ctx.sharing = sharing
        parts = [x.new_empty(x.shape) for _ in range(sharing.size)]
        dist.all_gather(parts, x.contiguous(), group=sharing.group)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return exchanged(gradients[0], ctx.sharing).sum(0), None


def exchanged(x: Tensor, sharing: Sharing) -> Tensor:
    """All-to-all of ``[p, ...]``: the i-th row goes to process i."""
    # torch's `apply` has no annotations.
    out: Tensor = _Exchange.apply(x, sharing)  # type: ignore[no-untyped-call]
    return out


def gathered(x: Tensor, sharing: Sharing) -> Tensor:
    """All processes' ``x``, ``[p, ...]``."""
    # torch's `apply` has no annotations.
    out: Tensor = _Gather.apply(x, sharing)  # type: ignore[no-untyped-call]
    return out
