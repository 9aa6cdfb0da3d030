"""The gradient of a self-rollout in one pass: Algorithm 1 where calls are small.

No gradient crosses chunks, so all that a chunk's graded evaluation takes from the others is what
the cache held. Hence a rollout may run without gradient throughout, as it does when it is served;
afterwards all exits are evaluated at once, each chunk seeing the past that it had. That is one
evaluation a chunk more, and one graded pass in place of one a chunk. B batch, F frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .attention import KVCache
from .model import DiT
from .slots import Slots


class Exits:
    """Watches a rollout: what each graded chunk's exit was given, and what it saw."""

    def __init__(self, net: DiT, start: int, frames: int) -> None:
        """Of the chunks that begin at frame ``start`` or later; they have ``frames`` at most."""
        self.net, self.start, self.frames = net, start, frames
        self._noisy: list[Tensor] = []
        self._levels: list[float] = []  # of each frame
        self._asks: list[int] = []  # frames that were evaluated,
        self._sees: list[list[int]] = []  # and which past ones each saw
        self._past: KVCache | None = None  # of all chunks

    def watch(
        self, index: Sequence[int], x: Tensor, sigma: float, cache: KVCache | Slots | None
    ) -> None:
        """A chunk's last evaluation."""
        if index[0] < self.start:
            return
        held = list(cache.frames) if cache else []
        if cache:
            self._keep(cache, held)
        self._noisy.append(x)
        self._levels += [sigma] * len(index)
        self._asks += index
        self._sees += [held] * len(index)

    def _keep(self, cache: KVCache | Slots, held: list[int]) -> None:
        """Copy what no chunk before has seen; it lies at the end."""
        if self._past is None:
            self._past = self.net.new_cache(capacity=len(held) + self.frames, window=0)
        new = [frame for frame in held if frame not in self._past.frames]
        if not new:
            return
        ends = len(new) * self.net.tokens
        layers = [cache.read(layer) for layer in range(len(self.net.blocks))]
        keys, values = zip(*(pair for pair in layers if pair), strict=True)
        self._past.write(new, *([x[:, -ends:] for x in kv] for kv in (keys, values)))

    def evaluate(self, text: Tensor) -> Tensor:
        """x0 of all exits ``[B, F, C, H, W]``; ``text``: ``[B, L, D]``."""
        seen = self._past.frames if self._past else []
        before = [[frame in sees for frame in seen] for sees in self._sees]
        x = torch.cat(self._noisy, dim=1)
        out: Tensor = self.net(
            x,
            x.new_tensor([self._levels]),
            text,
            positions=self._asks,
            cache=self._past,
            mask=torch.cat((torch.tensor(before, dtype=torch.bool), self._own()), dim=1),
        )
        return out

    def _own(self) -> Tensor:
        """Which frames are of one chunk, ``[F, F]``."""
        chunk = [n for n, x in enumerate(self._noisy) for _ in range(x.shape[1])]
        own = torch.tensor(chunk)
        return own[:, None] == own
