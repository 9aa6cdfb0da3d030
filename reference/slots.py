"""A serving cache: a KV cache's policy on buffers that stay where they are.

N heads, D width of a head, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .attention import KVCache, Rope, rotate

if TYPE_CHECKING:
    from .recorded import Recorded


@dataclass
class Buffers:
    """Keys and values, ``[B, T, N, D]`` a layer, and the calls that were recorded upon them."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    recorded: dict[tuple[int, ...], Recorded] = field(default_factory=dict)

    def suit(self, batch: int, tokens: int) -> None:
        """Forget what is of another batch, or too short."""
        if self.keys and (self.keys[0].shape[0] != batch or self.keys[0].shape[1] < tokens):
            self.keys, self.values, self.recorded = [], [], {}


class Slots:
    """A :class:`KVCache`'s policy, a chunk's own keys and values behind those of the past.

    A sink's keys are turned in place as it follows the window, from a copy: many turns of what was
    turned would add up their errors.
    """

    def __init__(self, policy: KVCache, rope: Rope, buffers: Buffers) -> None:
        self.policy, self.rope, self.frames = policy, rope, policy.frames
        self.chunk, self.window, self.sink = policy.chunk, policy.window, policy.sink
        self.limit, self.tokens = policy.limit, policy.tokens
        self.buffers, self._length = buffers, 0  # tokens that a layer's buffer has room for
        self._first: list[Tensor] = []  # a layer: keys of sinks at their own frames
        self._views: dict[tuple[int, int, int], tuple[Tensor, Tensor, Tensor, Tensor]] = {}

    def open(self, positions: Sequence[int], batch: int) -> None:
        """Bring sinks to where ``positions`` will see them."""
        if not self.frames:
            self._length = (self.limit + max(self.chunk, len(positions))) * self.tokens
            self.buffers.suit(batch, self._length)
        if not self._first:
            return
        like = self._first[0]
        turn = self.policy.turn(positions, self.rope, like if like.itemsize > 2 else like.float())
        if turn is not None:
            for keys, first in zip(self.buffers.keys, self._first, strict=True):
                keys[:, : first.shape[1]] = rotate(first, turn)

    def read(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Held keys and values ``[B, T, N, D]`` of a layer, where they lie."""
        if not self.frames:
            return None
        held = len(self.frames) * self.tokens
        return self.buffers.keys[layer][:, :held], self.buffers.values[layer][:, :held]

    def own(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put frames' own ``[B, T, N, D]`` behind those held; returns all, ``[B, N, T, D]``."""
        if layer == len(self.buffers.keys):
            shape = (keys.shape[0], self._length, *keys.shape[2:])
            with torch.inference_mode(False):  # they outlive the mode that they are made in
                self.buffers.keys.append(torch.empty(shape, dtype=keys.dtype, device=keys.device))
                self.buffers.values.append(torch.empty_like(self.buffers.keys[-1]))
        place = (layer, len(self.frames), keys.shape[1])
        if place not in self._views:  # the same at each step, and always where frames are evicted
            start = len(self.frames) * self.tokens
            stop = start + keys.shape[1]
            both = [store[layer][:, :stop] for store in (self.buffers.keys, self.buffers.values)]
            k, v = both
            self._views[place] = k[:, start:], v[:, start:], k.transpose(1, 2), v.transpose(1, 2)
        own_keys, own_values, all_keys, all_values = self._views[place]
        own_keys.copy_(keys)
        own_values.copy_(values)
        return all_keys, all_values

    def keep(self, positions: Sequence[int]) -> None:
        """Hold what was put last, and evict the oldest frames beyond the limit, sinks excepted."""
        self.frames += positions
        sinks = self.sink * self.tokens
        if sinks and not self._first and len(self.frames) >= self.sink:
            self._first = [keys[:, :sinks].clone() for keys in self.buffers.keys]
        over = len(self.frames) - self.limit
        if over <= 0:
            return
        stop, moved = len(self.frames) * self.tokens, over * self.tokens
        for store in (*self.buffers.keys, *self.buffers.values):
            store[:, sinks : stop - moved] = store[:, sinks + moved : stop].clone()
        del self.frames[self.sink : self.sink + over]
