"""A generator, a codec and a text encoder as one model of the harness: chunk by chunk, in batches.

B batch, T pixel frames, H W pixels; F latent frames, C h w of a latent.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from sfbench.clock import span
from sfbench.interfaces import Frames
from sfbench.schema import Geometry, ModelCard, Prompt, Request

from .codec import Codec, frames_of, latents_of, to_video
from .data import noise_for, sent
from .delivery import Delivery
from .engine import Engine, Switches
from .model import DiT
from .rollout import Instead, Noise, rollout
from .schedule import Schedule
from .text import TextEncoder

BLANK = Prompt(id="blank", text="")


class StreamModel(ABC):
    """Causal (chunk by chunk, of any length) or bidirectional (all at once), as its card says."""

    def __init__(
        self,
        card: ModelCard,
        network: DiT,
        codec: Codec,
        text: TextEncoder,
        schedule: Schedule,
        recache: bool = False,
        switches: Switches | None = None,
        overlap: bool = False,
        alone: bool = False,
    ) -> None:
        """``recache``: a change of prompt caches the past again under the new one; ``switches``: of
        the engine; ``overlap``: decode a chunk while the next is made (``delivery.py``); ``alone``:
        the network is nobody else's."""
        self.card, self.causal = card, card.causal
        self.network, self.codec, self.text = network, codec, text
        self.device = next(network.parameters()).device
        self.engine = Engine(network, switches, alone=alone)
        self.schedule, self.recache, self.overlap = schedule, recache, overlap
        self._prepared: dict[str, Tensor] = {}

    @abstractmethod
    def fit(self, geometry: Geometry) -> None:
        """Prepare for clips of this shape, or raise ``ValueError``."""

    def generate(
        self, request: Request, context: Frames | None = None
    ) -> Generator[Frames, Prompt | None, None]:
        """Yield chunks ``uint8 [t, H, W, 3]`` as they are decoded; ``send`` another prompt."""
        chunks, prompt = self.generate_batch([request], [context]), None
        while True:
            try:
                chunk = chunks.send(None if prompt is None else [prompt])
            except StopIteration:
                return
            prompt = yield chunk[0]

    @torch.inference_mode()
    def generate_batch(
        self, requests: Sequence[Request], contexts: Sequence[Frames | None]
    ) -> Generator[list[Frames], Sequence[Prompt] | None, None]:
        """Yield one list of chunks, one a request, at a time; ``send`` a prompt for each."""
        scope, shape = requests[0].scope, requests[0].geometry
        self.fit(shape)
        past, time = self._encode(contexts), self.codec.temporal
        before = 0 if contexts[0] is None else latents_of(len(contexts[0]), time)
        held = 0 if past is None else past.shape[1]
        wanted = latents_of(frames_of(held, time) + shape.frames, time) - held
        model = self.network.config
        chunk = model.frames_per_chunk if self.causal else wanted
        alone = int(self.causal and model.first_alone and not before)
        latents = rollout(
            self.engine,
            self._embed([r.prompt for r in requests], scope),
            self._noise(requests),
            self.schedule,
            frames=alone + -(-(wanted - alone) // chunk) * chunk,
            chunk=chunk,
            start=before,
            context=past,
            blank=self._embed([BLANK], scope),
            recache=self.recache,
            span=span,
        )
        decode = self.codec.stream(past) if scope != "dit" else None
        delivery = Delivery(self.device)
        ahead = self.overlap and not any(r.split for r in requests)  # parts are timed one by one
        made, left = next(latents), shape.frames
        while True:
            count = frames_of(held + made.shape[1], time) - frames_of(held, time)
            held, count = held + made.shape[1], min(count, left)
            left -= count
            with span("decode") if decode else nullcontext():
                ready = delivery.begin(made, decode, (shape.height, shape.width), count)
            if left and ahead:
                made = next(latents)
            prompts = yield list(ready())
            if not left:
                return
            text = None if prompts is None else self._embed(prompts, scope)
            if not ahead:
                made = latents.send(text)
            elif text is not None:
                made = latents.send(Instead(text))

    def prepare(self, request: Request) -> None:
        """Embed the prompts of a request whose scope is without the text."""
        switched = [request.switch.prompt] if request.switch else []
        texts = {p.text for p in (request.prompt, *switched, BLANK)}
        self._prepared = {text: self.text([text]).to(self.device) for text in texts}

    def _embed(self, prompts: Sequence[Prompt], scope: str) -> Tensor:
        """``[B, L, D]``: now, or as prepared where the scope is without the text."""
        if scope != "e2e":
            return torch.cat([self._prepared[prompt.text] for prompt in prompts])
        with span("text"):
            return self.text([prompt.text for prompt in prompts]).to(self.device)

    def _encode(self, contexts: Sequence[Frames | None]) -> Tensor | None:
        """Latents ``[B, F, C, h, w]``: the longest end of the context that is whole chunks."""
        if contexts[0] is None:
            return None
        if not self.causal:
            raise ValueError(f"'{self.card.name}' is bidirectional and cannot continue a context")
        video = to_video(np.stack([c for c in contexts if c is not None]))
        model, time = self.network.config, self.codec.temporal
        whole, chunk = (video.shape[1] - 1) // time + 1, model.frames_per_chunk
        usable = (whole - model.first_alone) // chunk * chunk + model.first_alone
        if not usable:
            return None
        end = video[:, video.shape[1] - frames_of(usable, time) :]
        return self.codec.encode(end).to(self.device)

    def _noise(self, requests: Sequence[Request]) -> Noise:
        """Keyed by (seed, prompt, absolute frame, denoising step): never by batch or by history."""
        keys = [(r.seed, zlib.crc32(r.prompt.text.encode())) for r in requests]
        shape = self.network.latent_shape

        def noise(frames: Sequence[int], step: int) -> Tensor:
            parts = [noise_for([(*key, f, step) for key in keys], shape) for f in frames]
            return sent(torch.stack(parts, dim=1), self.device)

        return noise
