"""Attention over video tokens: under a mask, 3-D RoPE, and the KV cache.

B batch, F frames, S tokens a frame, T = F S tokens, N heads, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as nnf
from torch import Tensor

from .products import cast_to

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(eq=False)
class Seen:
    """Which frame sees which, bool ``[Fq, Fk]``, for frames of ``tokens`` tokens each.

    The table is the host's, which reads it to cut the calls: on a GPU it would wait for it. What
    is made of it is made once, for all the layers of a pass.
    """

    frames: Tensor
    tokens: int
    how: str = "auto"
    """``dense``: one call under a token mask; ``blocks``: a call a group of frames that see the
    same, on just what they see; ``flex``: one kernel that skips empty blocks (CUDA, compiled);
    ``auto``: blocks where they are large enough to pay."""
    _mask: Tensor | None = field(default=None, init=False)
    _blocks: BlockMask | None = field(default=None, init=False)

    BLOCK = 128
    """Query tokens a group from which calls on blocks are faster than one under a mask: on a CPU
    32 are even, 128 are 1.3 (diffusion forcing) and 2.9 times as fast (teacher forcing)."""

    @cached_property
    def groups(self) -> list[tuple[slice, list[slice]]]:
        """Query frames that see the same, and the runs of frames that they see."""
        rows = self.frames.tolist()
        found: list[tuple[slice, list[slice]]] = []
        start = 0
        for stop in range(1, len(rows) + 1):
            if stop == len(rows) or rows[stop] != rows[start]:
                found.append((slice(start, stop), _runs(rows[start])))
                start = stop
        return found

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention under this mask; all are ``[B, N, T, D]``."""
        if self.how == "flex":
            return self._flex(q, k, v)
        largest = max(asks.stop - asks.start for asks, _ in self.groups) * self.tokens
        if self.how == "blocks" or (self.how == "auto" and largest >= self.BLOCK):
            return torch.cat([self._block(q, k, v, *group) for group in self.groups], dim=2)
        return nnf.scaled_dot_product_attention(q, k, v, attn_mask=self._dense(q.device))

    def _block(self, q: Tensor, k: Tensor, v: Tensor, asks: slice, sees: list[slice]) -> Tensor:
        keys, values = (
            torch.cat([x[:, :, self._of(run)] for run in sees], dim=2)
            if len(sees) > 1
            else x[:, :, self._of(sees[0])]
            for x in (k, v)
        )
        return nnf.scaled_dot_product_attention(q[:, :, self._of(asks)], keys, values)

    def _of(self, frames: slice) -> slice:
        return slice(frames.start * self.tokens, frames.stop * self.tokens)

    def _dense(self, device: torch.device) -> Tensor:
        """The mask of tokens, ``[Fq S, Fk S]``."""
        if self._mask is None:
            each = self.frames.repeat_interleave(self.tokens, 0)
            self._mask = each.repeat_interleave(self.tokens, 1).to(device)
        return self._mask

    def _flex(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        from torch.nn.attention.flex_attention import create_block_mask

        if self._blocks is None:
            table, tokens = self.frames.to(q.device), self.tokens

            def sees(b: Tensor, h: Tensor, asks: Tensor, seen: Tensor) -> Tensor:
                return table[asks // tokens, seen // tokens]

            asks, seen = q.shape[2], k.shape[2]
            self._blocks = create_block_mask(sees, None, None, asks, seen, device=q.device)
        out: Tensor = _flex_attention(q.is_cuda)(q, k, v, block_mask=self._blocks)
        return out


@cache
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention


def _runs(seen: Sequence[bool]) -> list[slice]:
    """Places that are true, as runs."""
    framed = [False, *seen, False]
    edges = [i for i in range(len(seen) + 1) if framed[i] != framed[i + 1]]
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Seen | None = None) -> Tensor:
    """Scaled dot-product attention; all are ``[B, T, N, D]``."""
    return attend_by_head(q, k.transpose(1, 2), v.transpose(1, 2), seen)


def attend_by_head(q: Tensor, k: Tensor, v: Tensor, seen: Seen | None = None) -> Tensor:
    """The same of ``k`` and ``v`` as ``[B, N, T, D]``."""
    q = q.transpose(1, 2)
    out = nnf.scaled_dot_product_attention(q, k, v) if seen is None else seen.attend(q, k, v)
    return out.transpose(1, 2)


# --- rotary positions -----------------------------------------------------------------------------


class Rope:
    """3-D rotary embedding: a head's pairs are shared out over time, height and width as in Wan.

    Tables lie where they are used, so that a stream on a GPU neither waits for the host nor copies
    from it, but when it outgrows the times that were foreseen.
    """

    FORESEEN = 1024  # frames

    def __init__(self, head_dim: int, grid: tuple[int, int], theta: float) -> None:
        """``grid``: tokens of a frame, (rows, columns)."""
        space = 2 * (head_dim // 6)
        self.axes = (head_dim - 2 * space, space, space)
        self.grid, self.theta = grid, theta
        self._tables: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}

    def turns(self, frames: Sequence[int], like: Tensor) -> Tensor:
        """``exp(i angle)``, complex ``[F S, D / 2]``, for tokens of the frames at these places."""
        times, places = self._known(max(frames), like)
        first, last = frames[0], frames[-1]
        run = last - first == len(frames) - 1  # a slice needs no indices on the device
        rows = times[first : last + 1] if run else times[list(frames)]
        tokens, count = len(places), len(frames)
        both = (rows[:, None].expand(-1, tokens, -1), places.expand(count, -1, -1))
        return torch.cat(both, dim=-1).flatten(0, 1)

    def _known(self, latest: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Turns of times, ``[frames, D_t / 2]``, and of a frame's places, ``[S, rest]``."""
        key = (like.device, like.dtype)
        if key not in self._tables or latest >= len(self._tables[key][0]):
            foreseen = max(self.FORESEEN, 2 * latest)
            (rows, columns), (time, height, width) = self.grid, self.axes
            with torch.inference_mode(False):  # tables made while serving may be used in training
                down = self._turns(rows, height)[:, None].expand(-1, columns, -1)
                across = self._turns(columns, width).expand(rows, -1, -1)
                places = torch.cat((down, across), dim=-1).flatten(0, 1)
                tables = (self._turns(foreseen, time), places)
                there, dtype = like.device, like.dtype.to_complex()
                self._tables[key] = tables[0].to(there, dtype), tables[1].to(there, dtype)
        return self._tables[key]

    def _turns(self, places: int, width: int) -> Tensor:
        """Of one axis, complex128 ``[places, width / 2]``."""
        rates = self.theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / max(width, 1))
        angles = torch.arange(places, dtype=torch.float64)[:, None] * rates
        return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotate the interleaved pairs of ``[B, T, N, D]`` by their tokens' ``turns``."""
    x = cast_to(turns.dtype.to_real(), x)  # under mixed precision x is in half
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns.unsqueeze(1)).flatten(-2)


def rotate_parts(x: Tensor, parts: Tensor) -> Tensor:
    """The same by cosines and sines ``[T, D / 2, 2]``: compilers fuse no complex products."""
    x = x.to(parts.dtype)
    a, b = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
    cos, sin = parts[None, :, None].unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


# --- the cache ------------------------------------------------------------------------------------


@dataclass
class KVCache:
    """Keys and values of past frames, detached, in buffers of a fixed size.

    Keys are roped at their absolute frame, once: rotation is relative, so the window may move on
    for ever. Only sinks must be turned further, for they follow the window, unless positions are
    ``absolute``: then they stay where they were.

    ``window`` counts the frames a chunk sees with itself included, hence ``window - chunk`` past
    frames are kept; 0 keeps all (``capacity`` frames at most). The first ``sink`` frames are kept
    besides, for ever.

    What was read stays as it was: a write goes to places that no reader has seen, and frames are
    evicted into a fresh buffer. So a backward pass may compute from it again.
    """

    layers: int
    tokens: int  # a frame
    chunk: int
    window: int = 0
    sink: int = 0
    capacity: int = 0  # frames, for window 0
    absolute: bool = False
    graded: bool = False  # an ablation: what is written keeps its graph
    frames: list[int] = field(default_factory=list)  # absolute indices of the frames held
    newest: tuple[list[Tensor], list[Tensor]] | None = None
    """If graded: keys and values of the newest pass over a chunk, written or not."""
    _keys: list[Tensor] = field(default_factory=list)
    _values: list[Tensor] = field(default_factory=list)

    @property
    def limit(self) -> int:
        """Most frames held."""
        return self.sink + self.window - self.chunk if self.window else self.capacity

    def turn(self, new: Sequence[int], rope: Rope, like: Tensor) -> Tensor | None:
        """What held sinks are to be turned by for the frames ``new`` to see them just before the
        others, complex ``[T, D / 2]``; ``None`` where they are there already."""
        sinks = self.frames[: self.sink]
        first = [*self.frames[len(sinks) :], *new][0]
        where = [*range(first - len(sinks), first)]
        if self.absolute or where == sinks:
            return None
        return rope.turns(where, like) * rope.turns(sinks, like).conj()

    def read(self, layer: int, turn: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """Held keys and values ``[B, T, N, D]`` of a layer, sinks turned."""
        if not self.frames or not self._keys:
            return None
        held = len(self.frames) * self.tokens
        keys, values = self._keys[layer][:, :held], self._values[layer][:, :held]
        if turn is not None:
            turned = rotate(keys[:, : len(turn)], turn).to(keys.dtype)
            keys = torch.cat((turned, keys[:, len(turn) :]), dim=1)
        return keys, values

    def write(self, new: Sequence[int], keys: list[Tensor], values: list[Tensor]) -> None:
        """Append frames (absolute indices ``new``), evicting the oldest beyond the limit.

        ``keys``, ``values``: one ``[B, len(new) S, N, D]`` a layer.
        """
        if not self.limit:
            return
        if not self._keys:
            self._keys = [self._buffer(item) for item in keys]
            self._values = [self._buffer(item) for item in values]
        over = max(0, len(self.frames) + len(new) - self.limit)
        if over and not self.window:
            raise ValueError(f"the full cache holds {self.capacity} frames and is full")
        if evicted := min(over, max(0, len(self.frames) - self.sink)):
            self._evict(evicted)
        if over > evicted:  # a long context in one pass, or no room but the sinks'
            sinks = max(0, self.sink - len(self.frames))  # of the new frames
            start = sinks + over - evicted
            new = [*new[:sinks], *new[start:]]
            a, b = sinks * self.tokens, start * self.tokens
            keys, values = (
                [torch.cat((x[:, :a], x[:, b:]), dim=1) for x in kv] for kv in (keys, values)
            )
        self._keys = [self._appended(b, x) for b, x in zip(self._keys, keys, strict=True)]
        self._values = [self._appended(b, x) for b, x in zip(self._values, values, strict=True)]
        self.frames.extend(new)

    def _buffer(self, like: Tensor) -> Tensor:
        batch, _, heads, width = like.shape
        return like.new_zeros(batch, self.limit * self.tokens, heads, width)

    def _appended(self, buffer: Tensor, item: Tensor) -> Tensor:
        start = len(self.frames) * self.tokens
        if self.graded:
            return torch.cat((buffer[:, :start], item), dim=1)
        buffer[:, start : start + item.shape[1]] = item.detach()
        return buffer

    def _evict(self, count: int) -> None:
        first, last = self.sink * self.tokens, len(self.frames) * self.tokens
        cut = (self.sink + count) * self.tokens
        for store in (self._keys, self._values):
            for layer, old in enumerate(store):
                fresh = torch.empty_like(old)
                fresh[:, :first] = old[:, :first]
                fresh[:, first : first + last - cut] = old[:, cut:last]
                store[layer] = fresh
        del self.frames[self.sink : self.sink + count]
