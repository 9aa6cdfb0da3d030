"""The gradient of a self-rollout in one pass: Algorithm 1 where calls are small.

No gradient crosses chunks, so all that a chunk's graded evaluation takes from the others is what
the cache held. Hence a rollout may run without gradient throughout, as it does when it is served;
afterwards all exits are evaluated at once, each chunk seeing the past that it had. That is one
evaluation a chunk more, and one graded pass in place of one a chunk. B batch, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .attention import KVCache
from .model import DiT
from .slots import Slots


class Exit(NamedTuple):
    """A chunk's last evaluation."""

    frames: Sequence[int]
    x: Tensor  # noisy, [B, n, C, H, W]
    sigma: float
    seen: list[int]  # past frames


class Exits:
    """Watches a rollout: what each graded chunk's exit was given, and what it saw."""

    def __init__(self, net: DiT, start: int, frames: int) -> None:
        """Of the chunks that begin at frame ``start`` or later; they have ``frames`` at most."""
        self.net, self.start, self.frames = net, start, frames
        self._exits: list[Exit] = []
        self._past: KVCache | None = None  # all that any chunk saw

    def watch(
        self, frames: Sequence[int], x: Tensor, sigma: float, cache: KVCache | Slots | None
    ) -> None:
        """A chunk's last evaluation."""
        if frames[0] < self.start:
            return
        if cache:
            self._keep(cache)
        self._exits.append(Exit(frames, x, sigma, list(cache.frames) if cache else []))

    def _keep(self, cache: KVCache | Slots) -> None:
        """Copy what no chunk before has seen; it lies at the end."""
        if self._past is None:
            self._past = self.net.new_cache(capacity=len(cache.frames) + self.frames, window=0)
        new = [frame for frame in cache.frames if frame not in self._past.frames]
        layers = [cache.read(layer) for layer in range(len(self.net.blocks))]
        if new:
            tail = len(new) * self.net.tokens
            keys, values = zip(*(pair for pair in layers if pair), strict=True)
            self._past.write(new, *([x[:, -tail:] for x in kv] for kv in (keys, values)))

    def evaluate(self, text: Tensor) -> Tensor:
        """x0 of all exits ``[B, F, C, H, W]``; ``text``: ``[B, L, D]``."""
        past = self._past.frames if self._past else []
        x = torch.cat([one.x for one in self._exits], dim=1)
        frames = [frame for one in self._exits for frame in one.frames]
        each = [one for one in self._exits for _ in one.frames]
        sees = [[f in one.seen for f in past] + [f in one.frames for f in frames] for one in each]
        out: Tensor = self.net(
            x,
            x.new_tensor([[one.sigma for one in each]]),
            text,
            positions=frames,
            cache=self._past,
            mask=torch.tensor(sees, device="cpu"),
        )
        return out
