"""One DiT: Wan2.1's architecture at any size, causal or bidirectional by what is passed to it.

Called on a whole clip without a mask it is bidirectional; with a block-causal mask it is diffusion
or teacher forcing; with a :class:`~.attention.KVCache` it is the streaming generator. Parameters
have the names of the official Wan2.1 checkpoints.

B batch, F frames, C H W latent channels and size, S tokens a frame, L text rows, d model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import KVCache, Rope, Seen
from .blocks import Block, Head
from .config import Preset
from .schedule import x0_from_v

if TYPE_CHECKING:
    from .sequence import Sharing


@dataclass
class Text:
    """Text rows ``[B, L, text_dim]``, and what one network made of them.

    Passed in place of plain rows to many calls, the rows are embedded, and each block's keys and
    values of them computed, once: apart with and without gradient, and with gradient only while
    one backward pass is to come.
    """

    rows: Tensor
    _made: dict[tuple[bool, int], tuple[Tensor, ...]] = field(default_factory=dict)

    def once(self, layer: int, make: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """What ``make`` returns, made once a layer (-1: the embedding)."""
        key = (torch.is_grad_enabled(), layer)
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


class DiT(nn.Module):
    """Predicts the clean clip from a noisy one, each frame at a noise level of its own."""

    recompute = False
    """Whether a backward pass computes each block again instead of keeping its activations."""
    whole = True
    """Whether all parameters are at hand between calls (not so when they are sharded)."""
    sharing: Sharing | None = None
    """The processes with which the tokens of each sample are shared."""
    attention = "auto"
    """How a mask is computed: see :class:`.attention.Seen`."""

    def __init__(self, preset: Preset) -> None:
        super().__init__()
        config = self.config = preset.model
        self.resize(preset.latent_shape)
        channels, d, p = self.latent_shape[0], config.dim, config.patch
        self.patch_embedding = nn.Conv3d(channels, d, (1, p, p), (1, p, p))
        self.text_embedding = nn.Sequential(
            nn.Linear(preset.text.dim, d), nn.GELU(approximate="tanh"), nn.Linear(d, d)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, d), nn.SiLU(), nn.Linear(d, d)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(d, 6 * d))
        self.blocks = nn.ModuleList(
            Block(d, config.ffn_dim, config.heads) for _ in range(config.layers)
        )
        self.head = Head(d, channels * p * p)
        self._initialise()

    def resize(self, latent_shape: tuple[int, int, int]) -> None:
        """Take frames of another ``(C, h, w)`` from now on; no weight depends on h and w."""
        config = self.config
        self.latent_shape = latent_shape
        self.grid = (latent_shape[1] // config.patch, latent_shape[2] // config.patch)
        self.tokens = self.grid[0] * self.grid[1]
        self.rope = Rope(config.dim // config.heads, self.grid, config.rope_theta)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | float,
        text: Tensor | Text,
        *,
        positions: Sequence[int] | None = None,
        mask: Tensor | None = None,
        cache: KVCache | None = None,
        write: bool = False,
        ahead: int = 0,
        features: list[Tensor] | None = None,
    ) -> Tensor:
        """Predict ``x0`` ``[B, F, C, H, W]``.

        ``x``: noisy latents ``[B, F, C, H, W]``; ``sigma``: levels ``[B, F]``, with 1 in place of
        B or F where they are common, or one number, and then embedded once; ``text``:
        ``[B, L, text_dim]``; ``positions``: absolute frame indices (default 0..F-1); ``cache``: P
        past frames that the frames of ``x`` also see; ``mask``: which frame sees which, bool
        ``[F, P + F]``; ``write``: append these frames to the cache, but for the last ``ahead`` of
        them; ``features``: is filled with each block's tokens ``[B, F, S, d]``.
        """
        batch, frames = x.shape[:2]
        positions = list(range(frames)) if positions is None else list(positions)
        if not isinstance(sigma, Tensor):
            sigma = x.new_full((1, 1), sigma)
        tokens = self.patchify(x).to(x.dtype)
        if self.sharing:
            tokens = self.sharing.part(tokens)
        with exact(x):
            time, modulation = self.modulation(sigma)
        known = self._known(text)
        words = known.once(-1, lambda: (self.embed(known.rows),))[0]
        turns = self.rope.turns(positions, x)
        turn = cache.turn(positions, self.rope, x) if cache else None
        seen = None if mask is None else Seen(mask, self.tokens, self.attention)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            past = cache.read(layer, turn) if cache else None
            early = self.whole and not self._recomputes  # else in the block, where its weights are
            heard = known.once(layer, partial(block.hear, words)) if early else None
            given = (tokens, modulation, words, heard, turns, seen, past)
            if self._recomputes:
                tokens, k, v = checkpoint(block, *given, use_reentrant=False)
            else:
                tokens, k, v = block(*given)
            if cache and (write or cache.graded):
                keys.append(k)
                values.append(v)
            if features is not None:
                features.append(self.sharing.whole(tokens) if self.sharing else tokens)
        if cache and cache.graded:
            cache.newest = keys, values
        if cache and write:
            done = frames - ahead
            if ahead:
                keys, values = ([x[:, : done * self.tokens] for x in kv] for kv in (keys, values))
            cache.write(positions[:done], keys, values)
        with exact(x):
            out = self.head(tokens.to(x.dtype), time)
            if self.sharing:
                out = self.sharing.whole(out)
            out = self.unpatchify(out, batch, frames)
        return out if self.config.prediction == "x0" else x0_from_v(x, out, sigma)

    @property
    def dtype(self) -> torch.dtype:
        """Of what is exact: times, norms, the output."""
        return self.head.head.weight.dtype

    def modulation(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Levels ``[B, F]`` embedded: ``[B, F, d]``, and ``[B, F, 6, d]`` for all blocks."""
        time = self.time_embedding(sinusoid(1000 * sigma, self.config.freq_dim).to(self.dtype))
        return time, self.time_projection(time).unflatten(-1, (6, -1))

    def embed(self, rows: Tensor) -> Tensor:
        """Text ``[B, L, text_dim]`` as the blocks hear it, ``[B, L, d]``."""
        words: Tensor = self.text_embedding(rows.to(self.patch_embedding.weight.dtype))
        return words

    def share(self, sharing: Sharing) -> None:
        """Share the tokens of each sample with other processes."""
        self.sharing = sharing
        for block in self.blocks:
            assert isinstance(block, Block)
            block.self_attn.sharing = sharing

    def halve(self, dtype: torch.dtype) -> None:
        """Make matrix products in another precision; norms, times and the output stay as they are.

        For inference: the residual stream, too, stays in the precision of what is denoised.
        """
        for block in self.blocks:
            assert isinstance(block, Block)
            for part in (block.self_attn, block.cross_attn, block.ffn):
                for layer in part.modules():
                    if isinstance(layer, nn.Linear):
                        layer.to(dtype)
        self.text_embedding.to(dtype)
        self.patch_embedding.to(dtype)

    @property
    def _recomputes(self) -> bool:
        return self.recompute and torch.is_grad_enabled()

    def _known(self, text: Tensor | Text) -> Text:
        """Text whose projections may be kept from call to call, or will be made anew."""
        if isinstance(text, Tensor):
            return Text(text)
        return text if self.whole or not torch.is_grad_enabled() else Text(text.rows)

    def new_cache(
        self, capacity: int = 0, window: int | None = None, graded: bool = False
    ) -> KVCache:
        """An empty cache under the model's policy; ``capacity`` frames where nothing is evicted."""
        config = self.config
        return KVCache(
            layers=config.layers,
            tokens=self.tokens,
            chunk=config.frames_per_chunk,
            window=config.window if window is None else window,
            sink=config.sink,
            capacity=capacity,
            absolute=config.positions == "absolute",
            graded=graded,
        )

    def patchify(self, x: Tensor) -> Tensor:
        """``[B, F, C, H, W]`` to tokens ``[B, F, S, d]``: the convolution as one matmul."""
        weight = self.patch_embedding.weight.flatten(1)
        return nnf.linear(self.cells(x).to(weight.dtype), weight, self.patch_embedding.bias)

    def cells(self, x: Tensor) -> Tensor:
        """What each token is made of, ``[B, F, S, C p p]``."""
        p, (rows, columns) = self.config.patch, self.grid
        batch, frames, channels = x.shape[:3]
        cells = x.reshape(batch, frames, channels, rows, p, columns, p)
        return cells.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, frames, rows * columns, -1)

    def unpatchify(self, out: Tensor, batch: int, frames: int) -> Tensor:
        """Head output, channel order (row, column, channel) as in Wan, to ``[B, F, C, H, W]``."""
        p, (rows, columns) = self.config.patch, self.grid
        cells = out.reshape(batch, frames, rows, columns, p, p, -1)
        return cells.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, frames, *self.latent_shape)

    def _initialise(self) -> None:
        """Xavier weights; zero gates by a zero output layer, so that training starts calm."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        for layer in (*self.text_embedding, *self.time_embedding):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)


def exact(x: Tensor) -> AbstractContextManager[Any]:
    """In ``x``'s own precision, as Wan computes time and output, whatever products are made in."""
    mixed = torch.is_autocast_enabled(x.device.type)
    return torch.autocast(x.device.type, enabled=False) if mixed else nullcontext()


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Embed times ``[...]`` (0..1000) as ``[..., width]``: cosines, then sines."""
    half = torch.arange(width // 2, dtype=torch.float64, device=t.device)
    angles = t.double()[..., None] * 10000 ** (-half / (width // 2))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)
