"""Masks: which frame sees which, bool, in the memory of the host, which reads them.

F frames, q that ask and k that are seen.
"""

from __future__ import annotations

import torch
from torch import Tensor


def chunks_of(frames: int, n: int, alone: bool = False, start: int = 0) -> list[range]:
    """Frames ``start .. start + frames`` in chunks of ``n``; frame 0 is one by itself if ``alone``.

    The last chunk is short where frames do not fill it.
    """
    stop = start + frames
    first = [range(0, 1)] if alone and start == 0 and frames else []
    rest = range(start + len(first), stop, n)
    return [*first, *(range(i, min(i + n, stop)) for i in rest)]


def block_causal(
    frames: int, chunk: int, window: int = 0, sink: int = 0, alone: bool = False
) -> Tensor:
    """Frame mask ``[F, F]`` of diffusion forcing: all of the own chunk and the chunks before it.

    ``window``: frames seen, own chunk included (0: all); ``sink``: first frames always seen;
    ``alone``: the first frame is a chunk of its own.
    """
    index = torch.arange(frames, device="cpu")
    stops = [c.stop for c in chunks_of(frames, chunk, alone) for _ in c]
    end = torch.tensor(stops, device="cpu")
    seen = index[None, :] < end[:, None]
    if window:
        recent = index[None, :] >= end[:, None] - window
        seen &= recent | (index[None, :] < sink)
    return seen


def clean_and_noisy(
    frames: int, chunk: int, window: int = 0, sink: int = 0, alone: bool = False
) -> Tensor:
    """Frame mask ``[2F, 2F]`` of teacher forcing, for the sequence (clean, noisy).

    Clean frames see clean frames block-causally; a noisy chunk sees itself and the clean chunks
    before it, never the clean version of itself.
    """
    causal = block_causal(frames, chunk, window, sink, alone)
    chunks = chunks_of(frames, chunk, alone)
    own = torch.tensor([i for i, c in enumerate(chunks) for _ in c], device="cpu")
    same = own[:, None] == own[None, :]
    top = torch.cat((causal, torch.zeros_like(causal)), dim=1)
    bottom = torch.cat((causal & ~same, same), dim=1)
    return torch.cat((top, bottom))


def one_ahead(held: int, clean: int, noisy: int, limit: int) -> Tensor:
    """Frame mask ``[clean + noisy, held + clean + noisy]`` of a clean chunk and the noisy next one.

    The noisy chunk sees what a cache of ``limit`` frames will hold once the clean one is in it.
    """
    seen = torch.ones(clean + noisy, held + clean + noisy, dtype=torch.bool, device="cpu")
    seen[:clean, held + clean :] = False
    seen[clean:, : max(0, held + clean - limit)] = False
    return seen
