"""The DiT as it serves a stream: the same values, with all that does not change computed once.

Keys are roped once, at their absolute frame, and keys and values lie in slots of a fixed buffer, in
which a chunk's own are written over at each step: nothing is concatenated, and nothing is moved but
when frames are evicted. The modulation of a noise level is made once, as are text's keys and
values. No gradient and no sharing of tokens: what carries one, or is shared, runs the DiT itself.

B batch, F frames, S tokens a frame, T = F S tokens, N heads, D width of a head, d model width.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from shutil import which
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .attention import Rope, Seen, attend_by_head, rotate, rotate_parts
from .blocks import EPS, Block, rms
from .model import DiT, Text, exact
from .products import Linear, cast_layer, cast_to, eight_bit, joined, of, product
from .recorded import Heard, Play, Recorded, cuda_graph
from .schedule import x0_from_v
from .slots import Buffers, Slots

Piece = TypeVar("Piece", bound=Callable[..., Any])
KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""Attention's kernels by name; each falls back to those after it where it does not apply."""


@dataclass(frozen=True)
class Switches:
    """What an engine does to be fast. Each has a test that it changes nothing, but the last, which
    rounds; ``gpu_wan.py`` and ``make bench`` measure what each brings."""

    levels: bool = True
    """Keep the modulation of each noise level."""
    fused: bool = True
    """Queries, keys and values by one product, of a copy of their weights."""
    graphs: bool = False
    """Play a recording of the call (CUDA)."""
    compiled: bool = False
    """Norms, modulations and rotations as kernels of a compiler's making, at the first call."""
    attention: str = ""
    """The kernel to try first, of :data:`KERNELS`; by default torch chooses."""
    eight_bit: bool = False
    """Products in 8 bits (``products.py``), with an error of a few percent each."""

    @staticmethod
    def of(device: torch.device | str) -> Switches:
        """All that is exact and made for a device."""
        if torch.device(device).type != "cuda":
            return Switches()
        hopper = torch.cuda.get_device_capability(device)[0] >= 9
        compiler = find_spec("triton") and any(map(which, ("cc", "gcc", "clang")))
        attention = "cudnn" if hopper else "flash"
        return Switches(graphs=True, compiled=bool(compiler), attention=attention)


class Engine:
    """Takes a DiT's place in a rollout without gradient; its weights must not change meanwhile."""

    @torch.no_grad()
    def __init__(
        self,
        net: DiT,
        switches: Switches | None = None,
        record: Callable[[Play], Play] = cuda_graph,
        alone: bool = False,
        dtype: torch.dtype | None = None,
    ) -> None:
        """``record``: how calls are recorded, where they are; ``alone``: nobody saves or trains the
        network, so its parameters may become views of what the engine has made of them; ``dtype``:
        of matrix products, if not that of their weights (under autocast)."""
        self.net, self.config, self.switches = net, net.config, switches or Switches()
        self._record = record
        blocks = [block for block in net.blocks if isinstance(block, Block)]
        self._halved = dtype is not None
        dtype = dtype or blocks[0].self_attn.o.weight.dtype
        self._layers = [_weights(block, self.switches, alone, dtype) for block in blocks]
        self._hear = [partial(_heard, block, dtype) for block in blocks]
        patch = net.patch_embedding
        assert patch.bias is not None
        self._patch = cast_layer(Linear(patch.weight.flatten(1), patch.bias), dtype)
        self._modulation = torch.cat([block.modulation for block in blocks])  # [layers, 6, d]
        self._head = of(net.head.head)
        self._project = self._made(project)
        self._ask = self._made(ask)
        self._finish = self._made(finish)
        self._levels: dict[float, tuple[Tensor, tuple[Tensor, ...]]] = {}
        self._turned: tuple[Sequence[int], Rope, Tensor] | None = None
        self._spare: list[Buffers] = []  # of the stream that ended last

    def new_cache(self, capacity: int = 0, graded: bool = False) -> Slots:
        """An empty cache under the model's policy."""
        assert not graded, "an engine keeps no graph"
        if not self.switches.graphs:
            return Slots(self.net.new_cache(capacity), self.net.rope, Buffers())
        # Recordings are of the memory they were made with, so a stream takes over the last one's.
        buffers = self._spare.pop() if self._spare else Buffers()
        slots = Slots(self.net.new_cache(capacity), self.net.rope, buffers)
        weakref.finalize(slots, self._take_back, buffers)
        return slots

    def _take_back(self, buffers: Buffers) -> None:
        self._spare = [buffers]  # the last alone: they are large

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
        with exact(x) if self._halved else nullcontext():  # autocast would halve what is exact too
            out = self._call(x, sigma, text, positions, cache, mask)
        if cache and write:
            cache.keep(positions)
        return out if self.config.prediction == "x0" else x0_from_v(x, out, sigma)

    def _call(
        self,
        x: Tensor,
        sigma: float,
        text: Text,
        positions: Sequence[int],
        cache: Slots | None,
        mask: Tensor | None,
    ) -> Tensor:
        net = self.net
        (levels, rows), turns = self._at(sigma, x), self._turns(positions, x)
        words = text.once(-1, lambda: (net.embed(text.rows),))[0]
        heard = [text.once(n, partial(hear, words)) for n, hear in enumerate(self._hear)]
        if cache:
            cache.open(positions, len(x))
        if cache and mask is None and self.switches.graphs:
            return self._recorded(cache, x)(x, turns, levels, heard, cache, text)
        seen = None if mask is None else Seen(mask, net.tokens, net.attention)
        return self.run(x, turns, rows, heard, cache, seen)

    def run(
        self,
        x: Tensor,
        turns: Tensor,
        levels: Tensor | Sequence[Tensor],
        heard: Heard,
        cache: Slots | None,
        seen: Seen | None = None,
    ) -> Tensor:
        """What the network predicts, ``[B, F, C, H, W]``.

        ``turns``: complex ``[T, D / 2]``, to a compiler real; ``levels``: :meth:`_at`; ``heard``:
        keys and values of text.
        """
        net, heads, (batch, frames) = self.net, self.config.heads, x.shape[:2]
        tokens = cast_to(x.dtype, product(net.cells(x), self._patch)).flatten(0, 2)
        with self._kernels():
            for index, weights in enumerate(self._layers):
                shift, scale, gate, shift2, scale2, gate2 = levels[6 * index : 6 * index + 6]
                q, k, v = self._project(tokens, shift, scale, turns, weights, heads, batch)
                k, v = cache.own(index, k, v) if cache else (k.transpose(1, 2), v.transpose(1, 2))
                tokens, q = self._ask(tokens, attend_by_head(q, k, v, seen), gate, weights)
                keys, values = heard[index]
                told = attend_by_head(q, keys, values)
                tokens = self._finish(tokens, told, shift2, scale2, gate2, weights)
        shift, scale = levels[-2:]
        cells = product(_norm(tokens, scale, shift), self._head)
        return net.unpatchify(cells, batch, frames)

    def _made(self, piece: Piece) -> Piece:
        return cast(Piece, _compiled(piece)) if self.switches.compiled else piece

    def _recorded(self, cache: Slots, x: Tensor) -> Recorded:
        known, shape = cache.buffers.recorded, tuple(x.shape)
        if shape not in known:
            known[shape] = Recorded(self.run, self._record)
        return known[shape]

    def _turns(self, positions: Sequence[int], x: Tensor) -> Tensor:
        """Of these frames; the same for all steps of a chunk."""
        if (
            self._turned is None
            or self._turned[0] != positions
            or self._turned[1] is not self.net.rope
        ):
            turns = self.net.rope.turns(positions, x)
            turns = torch.view_as_real(turns) if self.switches.compiled else turns
            self._turned = positions, self.net.rope, turns
        return self._turned[2]

    def _at(self, sigma: float, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Each layer's shift, one plus scale and gate, twice, and the head's shift and one plus
        scale: ``[6 layers + 2, d]``, and its rows."""
        if sigma in self._levels:
            return self._levels[sigma]
        time, modulation = self.net.modulation(x.new_full((1, 1), sigma))
        parts = (self._modulation + modulation[0]).view(len(self._layers), 2, 3, -1)
        parts[:, :, 1] += 1
        head = (self.net.head.modulation + time)[0]
        found = torch.cat((parts.flatten(0, 2), head[:1], head[1:] + 1))
        kept = found, found.unbind()
        if self.switches.levels:
            self._levels[sigma] = kept
        return kept

    def _kernels(self) -> AbstractContextManager[Any]:
        """The attention kernels to try, the one asked for first."""
        if not self.switches.attention:
            return nullcontext()
        first = list(KERNELS).index(self.switches.attention)
        return sdpa_kernel([*KERNELS.values()][first:], set_priority=True)


def quick(net: DiT) -> DiT | Engine:
    """What makes training's rollouts without gradient: an engine, or the network where none can.

    That is where parameters are not at hand (sharded) or not a layer's own (adapters), and where
    tokens are shared. What is made of weights is kept, so these must stay until the rollout ends.
    Under autocast they are halved once, not at each call.
    """
    if not net.whole or net.sharing or any(hasattr(m, "base_layer") for m in net.blocks.modules()):
        return net
    kind = next(net.parameters()).device.type
    if torch.is_autocast_enabled(kind):
        return Engine(net, dtype=torch.get_autocast_dtype(kind))
    return Engine(net, Switches(fused=False))  # which would be a copy


# --- a layer, as functions of its weights: compiled once for all layers ---------------------------


class Weights(NamedTuple):
    """A block's, by use: at a few tokens, modules cost as much as their products."""

    qkv: tuple[Linear, ...]  # three, or one for all
    scales: Tensor  # of queries' and keys' norms, [2, d]
    o: Linear
    norm: tuple[Tensor, Tensor]  # before text: weight, bias
    asks: Linear
    told: Linear
    widen: Linear
    narrow: Linear


def _weights(block: Block, switches: Switches, alone: bool, dtype: torch.dtype) -> Weights:
    own, over = block.self_attn, block.cross_attn
    parts = [own.q, own.k, own.v]
    qkv = [of(part) for part in parts]
    if switches.fused:
        qkv = [joined(qkv)]
        if alone:  # or a large network would have a seventh of its weights twice
            for part, weight, bias in zip(parts, *(t.chunk(3) for t in qkv[0][:2]), strict=True):
                part.weight.data, part.bias.data = weight, bias
    made = eight_bit if switches.eight_bit else partial(cast_layer, dtype=dtype)
    return Weights(
        qkv=tuple(map(made, qkv)),
        scales=torch.stack([own.norm_q.weight, own.norm_k.weight]),
        o=made(of(own.o)),
        norm=(block.norm3.weight, block.norm3.bias),
        asks=made(of(over.q)),
        told=made(of(over.o)),
        widen=made(of(block.ffn[0])),
        narrow=made(of(block.ffn[2])),
    )


def _heard(block: Block, dtype: torch.dtype, words: Tensor) -> tuple[Tensor, ...]:
    """Keys and values of text, ``[B, N, L, D]``, its keys scaled as its queries should be."""
    keys, values = (cast_to(dtype, made) for made in block.hear(words))
    scale = block.cross_attn.norm_q.weight.view(keys.shape[2:])
    return (keys * scale.to(dtype)).transpose(1, 2), values.transpose(1, 2)


def project(
    tokens: Tensor,
    shift: Tensor,
    scale: Tensor,
    turns: Tensor,
    weights: Weights,
    heads: int,
    batch: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Roped queries and keys, and values, ``[B, T, N, D]`` each, of ``[B T, d]``."""
    x = _norm(tokens, scale, shift)
    made = [product(x, part) for part in weights.qkv]
    three = (torch.cat(made, -1) if made[1:] else made[0]).view(x.shape[0], 3, -1)
    pair, values = three.split_with_sizes((2, 1), 1)
    both = rms(cast_to(weights.scales.dtype, pair), weights.scales)
    both = both.view(batch, -1, 2 * heads, x.shape[1] // heads)
    turned = rotate(both, turns) if turns.is_complex() else rotate_parts(both, turns)
    q, k = cast_to(three.dtype, turned).split_with_sizes((heads, heads), 2)
    return q, k, values.view(q.shape)


def ask(tokens: Tensor, attended: Tensor, gate: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    """Tokens with what was attended to, and their queries to text ``[B, T, N, D]``."""
    tokens = torch.addcmul(tokens, product(attended.reshape(tokens.shape), weights.o), gate)
    asked = product(_norm(tokens, *weights.norm), weights.asks)
    q = cast_to(asked.dtype, rms(cast_to(weights.scales.dtype, asked)))
    return tokens, q.view(attended.shape)


def finish(
    tokens: Tensor, told: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, weights: Weights
) -> Tensor:
    """Tokens with what text told them, and the feed-forward."""
    tokens = tokens + product(told.reshape(tokens.shape), weights.told)
    x = _norm(tokens, scale, shift)
    wide = nnf.gelu(product(x, weights.widen), approximate="tanh")
    return torch.addcmul(tokens, product(wide, weights.narrow), gate)


@lru_cache
def _compiled(piece: Callable[..., Any]) -> Callable[..., Any]:
    """Once for all engines; shapes beyond those that a compiler keeps are computed as they are."""
    return torch.compile(piece, dynamic=False)


def _norm(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """All of a call is at one level, so its modulation is as a norm's own weights: ``[d]``."""
    return torch.layer_norm(tokens, scale.shape, scale, shift, EPS)
