"""The self-rollout (Self Forcing, Algorithm 1): a model generates chunk by chunk on its own past.

Training and inference call this one function. Inference runs every denoising step without gradient;
training stops at a random exit step, whose evaluation alone carries gradient. Context reaches a
chunk through the cache only, and the cache is detached, so no gradient crosses chunks.

B batch, F frames, n frames a chunk, C H W of a latent frame, L text rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .attention import KVCache, block_causal
from .model import DiT
from .schedule import Schedule

Noise = Callable[[Sequence[int], int], Tensor]
"""``noise(absolute frames, denoising step) -> [B, len(frames), C, H, W]``, a pure function."""
Span = Callable[[str], AbstractContextManager[None]]
"""Around a named part of the work, for whoever times it."""


def rollout(
    model: DiT,
    text: Tensor,
    noise: Noise,
    schedule: Schedule,
    *,
    frames: int,
    chunk: int | None = None,
    start: int = 0,
    context: Tensor | None = None,
    blank: Tensor | None = None,
    exits: Sequence[int] | None = None,
    grad_from: int = 0,
    span: Span = lambda name: nullcontext(),
) -> Generator[Tensor, Tensor | None, None]:
    """Yield the latents ``[B, n, C, H, W]`` of each chunk as soon as they are clean.

    ``send(text)`` changes the prompt from the next chunk on; what is cached stays as it was made.

    ``text``: ``[B, L, D]``; ``frames``: how many to make, from absolute frame ``start`` on;
    ``chunk``: n (default the model's; ``frames`` makes the whole clip at once, bidirectionally);
    ``context``: clean latents ``[B, P, C, H, W]`` of the frames just before ``start``;
    ``blank``: the empty prompt ``[1, L, D]``, needed when the schedule is guided;
    ``exits``: training only, the step at which each chunk stops; its evaluation carries gradient
    from frame ``grad_from`` on; ``span``: told of the parts ``denoise`` and ``cache``.
    """
    n = chunk or model.config.frames_per_chunk
    denoise = _guided(model, text, blank, schedule.guidance)
    end = start + frames
    cache = None if frames <= n and context is None else model.new_cache(capacity=end)
    if context is not None and cache is not None:
        with span("cache"):
            _prefill(denoise, cache, context, start)
    for number, first in enumerate(range(start, end, n)):
        index = range(first, min(first + n, end))
        last = len(schedule) - 1 if exits is None else exits[number]
        with span("denoise"):
            x = noise(index, 0)
            for step in range(last + 1):
                sigma = x.new_full(x.shape[:2], schedule.sigmas[step])
                graded = exits is not None and step == last and first >= grad_from
                with torch.set_grad_enabled(graded):
                    x0 = denoise(x, sigma, positions=index, cache=cache)
                if step < last:
                    x = schedule.advance(x, x0, step, noise(index, step + 1))
        told = yield x0
        if index.stop < end:  # nothing follows the last chunk, so it is never cached
            assert cache is not None
            with span("cache"):
                _remember(denoise, cache, x0.detach(), index)
        if told is not None:
            denoise = _guided(model, told, blank, schedule.guidance)


Denoise = Callable[..., Tensor]


def _guided(model: DiT, text: Tensor, blank: Tensor | None, guidance: float) -> Denoise:
    """The model as ``denoise(x, sigma, ...)``, its text bound; with guidance, two rows a sample.

    ``x0 = blank + guidance (text - blank)``, so 1 is no guidance at all.
    """
    if guidance == 1:
        return lambda x, sigma, **how: model(x, sigma, text, **how)
    if blank is None:
        raise ValueError("a guided schedule needs the empty prompt")
    both = torch.cat((text, blank.expand_as(text)))

    def denoise(x: Tensor, sigma: Tensor, **how: object) -> Tensor:
        out: Tensor = model(torch.cat((x, x)), torch.cat((sigma, sigma)), both, **how)
        conditional, unconditional = out.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return denoise


@torch.no_grad()
def _remember(denoise: Denoise, cache: KVCache, x0: Tensor, index: Sequence[int]) -> None:
    """Write a clean chunk's keys and values, computed at noise level 0."""
    denoise(x0, x0.new_zeros(x0.shape[:2]), positions=index, cache=cache, write=True)


@torch.no_grad()
def _prefill(denoise: Denoise, cache: KVCache, context: Tensor, start: int) -> None:
    """Write given frames as if they had been generated chunk by chunk.

    One masked pass gives the same keys and values, except with sinks, whose relative positions
    change as frames are evicted; then the chunks go one by one.
    """
    length, n = context.shape[1], cache.chunk
    if length % n:
        raise ValueError(f"a context of {length} frames is not a multiple of the chunk ({n})")
    index = range(start - length, start)
    if cache.sink:
        for i in range(0, length, n):
            _remember(denoise, cache, context[:, i : i + n], index[i : i + n])
        return
    mask = block_causal(length, n, cache.window)
    sigma = context.new_zeros(context.shape[:2])
    # The cache is empty, so the frames see one another through the mask alone.
    denoise(context, sigma, positions=index, mask=mask, cache=cache, write=True)
