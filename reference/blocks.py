"""What the DiT is made of: a block of Wan2.1, its attentions, and the head.

The residual stream, norms and modulation are exact; matrix products are made in the precision of
their weights, which may be halved. B batch, F frames, S tokens a frame, T = F S tokens, N heads, D
width of a head, L text rows, d model width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .attention import Seen, attend, rotate
from .products import cast_to

if TYPE_CHECKING:
    from .sequence import Sharing

EPS = 1e-6
"""Of all norms, as in Wan."""
EPSILON = {dtype: torch.tensor(EPS, dtype=dtype) for dtype in (torch.float32, torch.float64)}
"""As tensors: of a number one would be made at each call."""


class Block(nn.Module):
    """Self-attention, text cross-attention, feed-forward; modulated frame by frame."""

    def __init__(self, d: int, ffn: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(d, eps=EPS, elementwise_affine=False)
        self.self_attn = Attention(d, heads)
        self.norm3 = nn.LayerNorm(d, eps=EPS)  # Wan's name and order; the only affine norm
        self.cross_attn = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d, eps=EPS, elementwise_affine=False)
        self.ffn = nn.Sequential(nn.Linear(d, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, d))
        self.modulation = nn.Parameter(torch.randn(1, 6, d) / d**0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: Tensor,
        heard: tuple[Tensor, ...] | None,
        turns: Tensor,
        seen: Seen | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``x``: ``[B, F, S, d]``, ``modulation``: ``[B, F, 6, d]``. Also returns its k and v.

        ``heard``: what :meth:`hear` makes of ``text``, where it is made already.
        """
        shift, scale, gate, shift2, scale2, gate2 = (
            m.unsqueeze(2) for m in (self.modulation + modulation).unbind(2)
        )
        dtype = self.self_attn.o.weight.dtype  # of matrix products; x may be exact and they halved
        given = cast_to(dtype, torch.addcmul(shift, self.norm1(x), 1 + scale))
        attended, k, v = self.self_attn.over_video(given, turns, seen, past)
        x = torch.addcmul(x, attended.view_as(x), gate)
        heard = heard or self.hear(text)
        asks = cast_to(dtype, self.norm3(x)).flatten(1, 2)
        x = x + self.cross_attn.over_text(asks, *heard).view_as(x)
        fed = self.ffn(cast_to(dtype, torch.addcmul(shift2, self.norm2(x), 1 + scale2)))
        return torch.addcmul(x, fed, gate2), k, v

    def hear(self, text: Tensor) -> tuple[Tensor, ...]:
        """Keys and values of embedded text ``[B, L, d]``; the same at every call of a clip."""
        return self.cross_attn.of_text(text)


class Attention(nn.Module):
    """Projections with RMS-normalised queries and keys (over the full width, as in Wan)."""

    sharing: Sharing | None = None
    """If set, attention over video is that of some heads to all tokens."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(d, eps=EPS), nn.RMSNorm(d, eps=EPS)

    def over_video(
        self,
        x: Tensor,
        turns: Tensor,
        seen: Seen | None,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend from tokens ``[B, F, S, d]`` to past and own ones; returns the own, keys roped.

        What is attended comes back as ``[B, T, d]``.
        """
        frames, x = x.shape[1], x.flatten(1, 2)
        q, k = normed(self.norm_q, self.q(x)), normed(self.norm_k, self.k(x))
        q, k, v = self._heads(q, k, self.v(x))
        if self.sharing:
            q, k, v = (self.sharing.to_heads(t, frames) for t in (q, k, v))
        q, k = (cast_to(v.dtype, rotate(t, turns)) for t in (q, k))
        all_k, all_v = (torch.cat((past[0], k), 1), torch.cat((past[1], v), 1)) if past else (k, v)
        out = attend(q, all_k, all_v, seen)
        if self.sharing:
            out = self.sharing.to_tokens(out, frames)
        attended: Tensor = self.o(out.flatten(2))
        return attended, k, v

    def of_text(self, text: Tensor) -> tuple[Tensor, ...]:
        """Keys and values ``[B, L, N, D]`` of text rows ``[B, L, d]``."""
        return tuple(self._heads(normed(self.norm_k, self.k(text)), self.v(text)))

    def over_text(self, x: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from tokens ``[B, T, d]`` to all text rows, padding included."""
        (q,) = self._heads(normed(self.norm_q, self.q(x)))
        attended: Tensor = self.o(attend(q, k, v).flatten(2))
        return attended

    def _heads(self, *tensors: Tensor) -> list[Tensor]:
        return [t.view(*t.shape[:2], self.heads, -1) for t in tensors]


def normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """Computed in the precision of the norm's weights, which are never halved; in ``x``'s own."""
    exact = cast_to(norm.weight.dtype, x)
    out: Tensor = norm(exact) if torch.is_grad_enabled() else rms(exact, norm.weight)
    return cast_to(x.dtype, out)


def rms(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Root-mean-square norm over the last axis, without gradient; ``scale`` is ``[d]`` or more."""
    if not x.is_cpu or x.itemsize < 4:  # of halves torch's own sums in single precision
        if scale is None or scale.dim() == 1:
            return nnf.rms_norm(x, x.shape[-1:], scale, EPS)
        return nnf.rms_norm(x, x.shape[-1:], eps=EPS) * scale
    # On a CPU torch's own takes nine steps over all of x; this takes three.
    length = torch.linalg.vector_norm(x, 2, -1, True)
    mean = torch.addcmul(EPSILON[x.dtype], length, length, value=1 / x.shape[-1])
    x = x * mean.rsqrt_()
    return x if scale is None else x.mul_(scale)


class Head(nn.Module):
    """Modulated norm and the projection back to patches."""

    def __init__(self, d: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d, eps=EPS, elementwise_affine=False)
        self.head = nn.Linear(d, out)
        self.modulation = nn.Parameter(torch.randn(1, 2, d) / d**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """``x``: ``[B, F, S, d]``, ``time``: ``[B, F, d]``."""
        shift, scale = (self.modulation + time.unsqueeze(2)).unbind(2)
        out: Tensor = self.head(self.norm(x) * (1 + scale.unsqueeze(2)) + shift.unsqueeze(2))
        return out
