"""The DiT as it serves a stream: the same values, with all that does not change computed once.

Keys are roped once, at their absolute frame, and keys and values lie in slots of a fixed buffer, in
which a chunk's own are written over at each step: nothing is concatenated, and nothing is moved but
when frames are evicted. The modulation of a noise level is made once, as are text's keys and
values. No gradient and no sharing of tokens: training runs the DiT itself.

B batch, F frames, S tokens a frame, T = F S tokens, N heads, D width of a head, d model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .attention import KVCache, Rope, Seen, attend, rotate
from .blocks import Block
from .model import DiT, Text
from .schedule import x0_from_v

EPS = 1e-6
"""Of all norms, as in Wan."""


class Engine:
    """Takes a DiT's place in a rollout without gradient; its weights must not change meanwhile."""

    @torch.no_grad()
    def __init__(self, net: DiT, *, levels: bool = True, fused: bool = True) -> None:
        """Each switch can be turned off, to measure what it brings.

        ``levels``: keep the modulation of each noise level; ``fused``: queries, keys and values by
        one product, of a copy of their weights.
        """
        self.net, self.config, self.levels = net, net.config, levels
        self._layers = [_Layer(block, fused) for block in net.blocks if isinstance(block, Block)]
        self._head = _of(net.head.head)
        self._modulations: dict[float, list[tuple[Tensor, ...]]] = {}

    def new_cache(self, capacity: int = 0, graded: bool = False) -> Slots:
        """An empty cache under the model's policy."""
        assert not graded, "an engine keeps no graph"
        return Slots(self.net.new_cache(capacity), self.net.rope)

    def __call__(
        self,
        x: Tensor,
        sigma: float,
        text: Text,
        *,
        positions: Sequence[int],
        cache: Slots | None = None,
        write: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """As :meth:`DiT.forward`, at one noise level; with a mask, the cache must be empty."""
        net, (batch, frames) = self.net, x.shape[:2]
        modulations = self._at(sigma, x)
        words = text.once(-1, lambda: (net.embed(text.rows),))[0]
        turns = net.rope.turns(positions, x)
        seen = None if mask is None else Seen(mask, net.tokens, net.attention)
        if cache:
            cache.open(positions)
        tokens = net.patchify(x).to(x.dtype).flatten(1, 2)
        for index, layer in enumerate(self._layers):
            shift, scale, gate, shift2, scale2, gate2 = modulations[index]
            q, k, v = layer.project(torch.addcmul(shift, _norm(tokens), scale), turns)
            if cache:
                k, v = cache.own(index, k, v)
            tokens = torch.addcmul(tokens, layer.out(attend(q, k, v, seen)), gate)
            heard = text.once(index, partial(layer.hear, words))
            tokens = tokens + layer.listen(tokens, *heard)
            fed = layer.feed(torch.addcmul(shift2, _norm(tokens), scale2))
            tokens = torch.addcmul(tokens, fed, gate2)
        if cache and write:
            cache.keep(positions)
        shift, scale = modulations[-1]
        cells = nnf.linear(torch.addcmul(shift, _norm(tokens), scale), *self._head)
        out = net.unpatchify(cells, batch, frames)
        return out if self.config.prediction == "x0" else x0_from_v(x, out, x.new_tensor(sigma))

    def _at(self, sigma: float, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Each layer's shift, one plus scale and gate, twice, and the head's, ``[1, 1, d]``."""
        if sigma in self._modulations:
            return self._modulations[sigma]
        time, modulation = self.net.modulation(x.new_full((1, 1), sigma))
        found = []
        for layer in self._layers:
            parts = list((layer.modulation + modulation).unbind(2))
            found.append(tuple(p + 1 if n in (1, 4) else p for n, p in enumerate(parts)))
        shift, scale = (self.net.head.modulation + time).unsqueeze(1).unbind(2)
        found.append((shift, scale + 1))
        if self.levels:
            self._modulations[sigma] = found
        return found


class _Layer:
    """A block by its parameters alone: at a few tokens, modules cost as much as their products."""

    def __init__(self, block: Block, fused: bool) -> None:
        own, over = block.self_attn, block.cross_attn
        self.modulation, self.hear = block.modulation, block.hear
        self.heads, self.dtype = own.heads, own.o.weight.dtype
        self.parts = [_of(part) for part in (own.q, own.k, own.v)]
        if fused:
            weights, biases = zip(*self.parts, strict=True)
            self.parts = [(torch.cat(weights), torch.cat(biases))]
        self.scales = torch.stack([own.norm_q.weight, own.norm_k.weight])  # [2, d]
        self.o, self.asks, self.told = (_of(part) for part in (own.o, over.q, over.o))
        self.scale, self.norm = over.norm_q.weight, (block.norm3.weight, block.norm3.bias)
        self.widen, self.narrow = _of(block.ffn[0]), _of(block.ffn[2])

    def project(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Roped queries and keys, and values, ``[B, T, N, D]`` each, of ``[B, T, d]``."""
        x = self._halved(x)
        made = [nnf.linear(x, *part) for part in self.parts]
        three = (torch.cat(made, -1) if made[1:] else made[0]).view(*x.shape[:2], 3, -1)
        both = _rms(three[:, :, :2], self.scales).view(*x.shape[:2], 2 * self.heads, -1)
        q, k = self._halved(rotate(both, turns)).chunk(2, dim=2)
        return q, k, three[:, :, 2].view(*x.shape[:2], self.heads, -1)

    def out(self, attended: Tensor) -> Tensor:
        """``[B, T, N, D]`` to ``[B, T, d]``."""
        return nnf.linear(attended.flatten(2), *self.o)

    def listen(self, tokens: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """What tokens ``[B, T, d]`` hear of text."""
        x = self._halved(nnf.layer_norm(tokens, tokens.shape[-1:], *self.norm, eps=EPS))
        q = self._halved(_rms(nnf.linear(x, *self.asks), self.scale))
        q = q.view(*x.shape[:2], self.heads, -1)
        return nnf.linear(attend(q, keys, values).flatten(2), *self.told)

    def feed(self, x: Tensor) -> Tensor:
        """The feed-forward, ``[B, T, d]``."""
        wide = nnf.gelu(nnf.linear(self._halved(x), *self.widen), approximate="tanh")
        return nnf.linear(wide, *self.narrow)

    def _halved(self, x: Tensor) -> Tensor:
        """For a matrix product."""
        return x if x.dtype == self.dtype else x.to(self.dtype)


class Slots:
    """A :class:`KVCache`'s policy on buffers that stay where they are, of keys that are roped.

    Rotation is relative: keys of absolute frames need no other until their distances are to change,
    as those of sinks do where positions are relative to the window. Sinks are kept un-roped too.
    """

    def __init__(self, policy: KVCache, rope: Rope) -> None:
        self.chunk, self.window, self.sink = policy.chunk, policy.window, policy.sink
        self.limit, self.tokens, self.rope = policy.limit, policy.tokens, rope
        self.frames: list[int] = []  # absolute indices of the frames held
        self._moves = bool(policy.sink) and not policy.absolute
        self._roped: list[int] = []  # where sinks are roped to, as frames
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._plain: list[Tensor] = []  # keys of sinks, un-roped, ``[B, T, N, D]`` a layer

    def open(self, positions: Sequence[int]) -> None:
        """Bring sinks to just before the first of the other frames that ``positions`` will see."""
        sinks = min(self.sink, len(self.frames))
        if not (self._moves and sinks):
            return
        first = [*self.frames[sinks:], *positions][0]
        wanted = list(range(first - sinks, first))
        if wanted == self._roped:
            return
        self._roped = wanted
        turns = self.rope.turns(wanted, _exact(self._plain[0]))
        for keys, plain in zip(self._keys, self._plain, strict=True):
            keys[:, : plain.shape[1]] = rotate(plain, turns)

    def own(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put frames' own ``[B, T, N, D]`` behind those held; returns all."""
        if layer == len(self._keys):
            frames = self.limit + max(self.chunk, keys.shape[1] // self.tokens)
            shape = (keys.shape[0], frames * self.tokens, *keys.shape[2:])
            self._keys.append(keys.new_empty(shape))
            self._values.append(values.new_empty(shape))
        start = len(self.frames) * self.tokens
        stop = start + keys.shape[1]
        all_keys, all_values = self._keys[layer], self._values[layer]
        all_keys[:, start:stop], all_values[:, start:stop] = keys, values
        return all_keys[:, :stop], all_values[:, :stop]

    def keep(self, positions: Sequence[int]) -> None:
        """Hold what was put last, and evict the oldest frames beyond the limit, sinks excepted."""
        self.frames += positions
        if self._moves and len(self._plain) < len(self._keys):
            self._keep_plain()
        over = len(self.frames) - self.limit
        if over <= 0:
            return
        start, stop = self.sink * self.tokens, len(self.frames) * self.tokens
        moved = over * self.tokens
        for store in (*self._keys, *self._values):
            store[:, start : stop - moved] = store[:, start + moved : stop].clone()
        del self.frames[self.sink : self.sink + over]

    def _keep_plain(self) -> None:
        """Un-rope the sinks, once they are all here; from then on they are roped from these."""
        if len(self.frames) < self.sink:
            return
        self._roped = self.frames[: self.sink]
        back = self.rope.turns(self._roped, _exact(self._keys[0])).conj()
        for keys in self._keys:
            self._plain.append(rotate(keys[:, : self.sink * self.tokens], back).to(keys.dtype))


def _exact(keys: Tensor) -> Tensor:
    """In what rotations are computed in."""
    return keys.float() if keys.dtype.itemsize < 4 else keys


def _norm(tokens: Tensor) -> Tensor:
    return nnf.layer_norm(tokens, tokens.shape[-1:], eps=EPS)


def _rms(x: Tensor, scale: Tensor) -> Tensor:
    """Over the last axis, in the precision of the scale, ``[d]`` or ``[2, d]``."""
    x = x if x.dtype == scale.dtype else x.to(scale.dtype)
    return nnf.rms_norm(x, x.shape[-1:], eps=EPS) * scale


def _of(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, nn.Linear)
    return layer.weight, layer.bias
