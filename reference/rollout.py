"""The self-rollout (Self Forcing, Algorithm 1): a model generates chunk by chunk on its own past.

Training and inference call this one function. Inference runs every denoising step without gradient;
training stops at a random exit step, whose evaluation alone carries gradient (there, or once more
after the rollout: ``objective_exits.py``). Context reaches a chunk through the cache only, and the
cache is detached, so no gradient crosses chunks (``kv_grad`` is an ablation of that).

B batch, F frames, n frames a chunk, C H W of a latent frame, L text rows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .attention import KVCache
from .masks import block_causal, chunks_of, one_ahead
from .model import DiT, Text
from .schedule import Schedule, add_noise

if TYPE_CHECKING:
    from .engine import Engine
    from .slots import Slots


@dataclass(frozen=True)
class Instead:
    """Sent to a rollout: the chunk that it just gave is to be made again, under this text."""

    text: Tensor  # [B, L, D]


Noise = Callable[[Sequence[int], int], Tensor]
"""``noise(absolute frames, denoising step) -> [B, len(frames), C, H, W]``, a pure function."""
Watch = Callable[[Sequence[int], Tensor, float, "KVCache | Slots | None"], None]
"""``watch(frames, x, sigma, cache)``: what a chunk's last evaluation was of, and what it saw."""
Span = Callable[[str], AbstractContextManager[None]]
"""Around a named part of the work, for whoever times it."""


def rollout(
    model: DiT | Engine,
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
    kv_grad: str = "none",
    recache: bool = False,
    watch: Watch | None = None,
    span: Span = lambda name: nullcontext(),
) -> Generator[Tensor, Tensor | Instead | None, None]:
    """Yield the latents ``[B, n, C, H, W]`` of each chunk as soon as they are clean.

    ``send(text)`` changes the prompt from the next chunk on; the past that it sees stays as it was
    made, or is cached again under the new prompt (``recache``). ``send(Instead(text))`` changes it
    one chunk sooner, for whoever had asked for the next chunk already.

    ``text``: ``[B, L, D]``; ``frames``: how many to make, from absolute frame ``start`` on;
    ``chunk``: n (default the model's; ``frames`` makes the whole clip at once, bidirectionally);
    ``context``: clean latents ``[B, P, C, H, W]`` of the frames just before ``start``;
    ``blank``: the empty prompt ``[1, L, D]``, needed when the schedule is guided;
    ``exits``: training only, the step at which each chunk stops; its evaluation carries gradient
    from frame ``grad_from`` on; ``kv_grad``: through cached keys and values, ``none``, ``true``, or
    ``stale``, the Jacobian of the exit's pass (as a cache written in place has it); ``watch``: told
    of each chunk's last evaluation; ``span``: told of the parts ``denoise`` and ``cache``.
    """
    n = chunk or model.config.frames_per_chunk
    alone = model.config.first_alone and n < frames
    denoise = _guided(model, text, blank, schedule.guidance)
    end = start + frames
    training = exits is not None
    past = Past(model, noise, schedule, kv_grad if training else "none", recache, training)

    def denoised(index: range, last: int, graded: bool) -> Tensor:
        """A chunk from noise to x0, by steps 0 to ``last``; gradient at most of the last one."""
        with span("denoise"):
            x = noise(index, 0)
            for step in range(last + 1):
                with torch.set_grad_enabled(graded and step == last):
                    x0 = past.evaluate(denoise, x, schedule.sigmas[step], index)
                if step < last:
                    x = schedule.advance(x, x0, step, noise(index, step + 1))
        if watch:
            watch(index, x, schedule.sigmas[last], past.cache)
        return x0

    if context is not None:
        with span("cache"):
            past.start(denoise, context, start, end)
    for number, index in enumerate(chunks_of(frames, n, alone, start)):
        if past.cache is None and index.stop < end:
            past.open(end)
        last = len(schedule) - 1 if exits is None else exits[number]
        graded = training and index.start >= grad_from
        told = yield (x0 := denoised(index, last, graded))
        while isinstance(told, Instead):
            denoise = _guided(model, told.text, blank, schedule.guidance)
            if recache and past.cache is not None:
                with span("cache"):
                    past.again(denoise, end)
            told = yield (x0 := denoised(index, last, graded))
        if index.stop < end:  # nothing follows the last chunk, so it is never cached
            with span("cache"):
                past.add(denoise, x0, index, graded)
        if told is not None:
            past.settle(denoise)  # what is made under a prompt is cached under it
            denoise = _guided(model, told, blank, schedule.guidance)
            if recache and index.stop < end:
                with span("cache"):
                    past.again(denoise, end)


Denoise = Callable[..., Tensor]


def _guided(model: DiT | Engine, text: Tensor, blank: Tensor | None, guidance: float) -> Denoise:
    """The model as ``denoise(x, sigma, ...)``, its text bound; with guidance, two rows a sample.

    ``x0 = blank + guidance (text - blank)``, so 1 is no guidance at all.
    """
    if guidance == 1:
        known = Text(text)
        return lambda x, sigma, **how: model(x, sigma, known, **how)
    if blank is None:
        raise ValueError("a guided schedule needs the empty prompt")
    both = Text(torch.cat((text, blank.expand_as(text))))

    def denoise(x: Tensor, sigma: Any, **how: Any) -> Tensor:
        out: Tensor = model(torch.cat((x, x)), sigma, both, **how)
        conditional, unconditional = out.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return denoise


class Past:
    """What a rollout remembers: the cache, and the frames it was made of, to make it again.

    With ``joint`` a finished chunk waits, to be cached by the call that first evaluates the next
    one. That saves a call a chunk, each of which reads all weights (gathers them, if sharded).
    """

    def __init__(
        self,
        model: DiT | Engine,
        noise: Noise,
        schedule: Schedule,
        kv_grad: str,
        recache: bool,
        joint: bool,
    ) -> None:
        self.model, self.noise = model, noise
        self.kv_grad, self.recache = kv_grad, recache
        self.level, self.steps = schedule.context_noise, len(schedule)
        # Sinks move towards the chunk as frames are evicted, so one call has no place for them. An
        # engine's call is at one level.
        one_call = kv_grad == "none" and not model.config.sink and isinstance(model, DiT)
        self.joint = joint and one_call
        self.cache: KVCache | Slots | None = None
        self._waiting: tuple[Tensor, Sequence[int]] | None = None
        self._seen: Tensor | None = None  # the clean frames that are held, [B, P, C, H, W]

    def open(self, capacity: int) -> KVCache | Slots:
        """An empty cache."""
        self.cache = self.model.new_cache(capacity=capacity, graded=self.kv_grad != "none")
        return self.cache

    def start(self, denoise: Denoise, context: Tensor, start: int, capacity: int) -> None:
        """Write given frames as if they had been generated chunk by chunk.

        One masked pass gives the same keys and values, except with sinks, whose relative positions
        change as frames are evicted; then the chunks go one by one.
        """
        length, cache = context.shape[1], self.open(capacity)
        index = range(start - length, start)
        alone = self.model.config.first_alone
        chunks = chunks_of(length, cache.chunk, alone)
        if len(chunks[-1]) != cache.chunk and len(chunks) > alone:
            raise ValueError(
                f"a context of {length} frames is not a multiple of the chunk ({cache.chunk})"
            )
        if cache.sink:
            for chunk in chunks:
                part = slice(chunk.start, chunk.stop)
                self._write(denoise, context[:, part], index[part])
        else:
            # The cache is empty, so the frames see one another through the mask alone.
            mask = block_causal(length, cache.chunk, cache.window, alone=alone)
            self._write(denoise, context, index, mask=mask)

    def evaluate(self, denoise: Denoise, x: Tensor, sigma: float, index: Sequence[int]) -> Tensor:
        """x0 of a noisy chunk ``[B, n, C, H, W]`` that sees this past."""
        if torch.is_grad_enabled():  # no graph through what is cached
            self.settle(denoise)
        if self._waiting is None:
            return denoise(x, sigma, positions=index, cache=self.cache)
        (x0, before), self._waiting = self._waiting, None
        cache, n = self.cache, len(before)
        assert cache is not None
        out = denoise(
            torch.cat((self._at_level(x0, before), x), dim=1),
            x.new_tensor([[self.level] * n + [sigma] * len(index)]),
            positions=[*before, *index],
            cache=cache,
            write=True,
            ahead=len(index),
            mask=one_ahead(len(cache.frames), n, len(index), cache.limit),
        )
        self._keep(x0)
        return out[:, n:]

    def settle(self, denoise: Denoise) -> None:
        """Cache the chunk that waits, if one does."""
        if self._waiting:
            (x0, index), self._waiting = self._waiting, None
            self._write(denoise, x0, index)

    def add(self, denoise: Denoise, x0: Tensor, index: Sequence[int], graded: bool) -> None:
        """Write a clean chunk, computed at the level of context."""
        cache = self.cache
        assert cache is not None
        if self.joint:
            self._waiting = x0.detach(), index
        elif self.kv_grad == "none" or not graded:
            self._write(denoise, x0.detach(), index)
        elif self.kv_grad == "true":
            with torch.enable_grad():
                self._pass(denoise, x0, index, write=True)
            self._keep(x0.detach())
        else:
            assert isinstance(cache, KVCache) and cache.newest is not None
            exits = cache.newest
            with torch.no_grad():
                self._pass(denoise, x0.detach(), index, write=False)
            self._keep(x0.detach())
            keys, values = (
                [old + (new - old).detach() for old, new in zip(*pair, strict=True)]
                for pair in zip(exits, cache.newest, strict=True)
            )
            cache.write(index, keys, values)

    def again(self, denoise: Denoise, capacity: int) -> None:
        """Make the cache anew from the frames it holds (after a change of prompt)."""
        old, seen = self.cache, self._seen
        assert old is not None
        cache = self.open(capacity)
        if seen is None:
            return
        held, done = old.frames, 0
        self._seen = None
        while done < len(held):  # chunk by chunk: what is held may have gaps after the sinks
            size = 1 if self.model.config.first_alone and held[done] == 0 else cache.chunk
            part = slice(done, done + size)
            self._write(denoise, seen[:, part], held[part])
            done += size

    @torch.no_grad()
    def _write(
        self, denoise: Denoise, x0: Tensor, index: Sequence[int], mask: Tensor | None = None
    ) -> None:
        self._pass(denoise, x0, index, write=True, mask=mask)
        self._keep(x0)

    def _pass(
        self,
        denoise: Denoise,
        x0: Tensor,
        index: Sequence[int],
        write: bool,
        mask: Tensor | None = None,
    ) -> None:
        x0 = self._at_level(x0, index)
        denoise(x0, self.level, positions=index, cache=self.cache, write=write, mask=mask)

    def _at_level(self, x0: Tensor, index: Sequence[int]) -> Tensor:
        if not self.level:
            return x0
        # The noise is numbered as the step after the last would be.
        return add_noise(x0, self.noise(index, self.steps), x0.new_full((1, 1), self.level))

    def _keep(self, x0: Tensor) -> None:
        """Remember the frames that the cache now holds, if they may have to be cached again."""
        if not self.recache:
            return
        assert self.cache is not None
        seen = x0 if self._seen is None else torch.cat((self._seen, x0), dim=1)
        over = max(0, seen.shape[1] - self.cache.limit)
        sink = min(self.cache.sink, seen.shape[1])
        self._seen = torch.cat((seen[:, :sink], seen[:, sink + over :]), dim=1)
