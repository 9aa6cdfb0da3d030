"""The reference models as the harness sees them; with ``data.py`` the only file that knows it.

T pixel frames, H W pixels; F latent frames (one a pixel frame here), C h w of a latent.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfbench.clock import span
from sfbench.interfaces import Frames
from sfbench.registry import load as load_name
from sfbench.registry import unknown
from sfbench.schema import SCOPES, ModelCard, Prompt, Request

from .catalogue import DEFAULT_PRESET, SHIPPED
from .checkpoint import CheckpointError, load_into, load_weights
from .codec import AutoEncoder, to_frames, to_video
from .config import Preset
from .data import noise_for
from .methods import load_codec, methods_known
from .model import DiT
from .recipes import from_dict
from .rollout import Noise, rollout
from .schedule import Schedule
from .text import text_encoder
from .trained import Library

BLANK = Prompt(id="blank", text="")


def load(rest: str) -> ReferenceModel:
    """``NAME``, ``PATH.safetensors``, either followed by ``@STEPS`` for another step count."""
    name, _, steps = rest.partition("@")
    path = (
        Path(name)
        if name.endswith(".safetensors")
        else SHIPPED / f"{DEFAULT_PRESET}-{name}.safetensors"
    )
    if not path.exists():
        known = [p.stem.removeprefix(f"{DEFAULT_PRESET}-") for p in SHIPPED.glob("*.safetensors")]
        known = [k for k in known if k != "codec"]
        if name.endswith(".safetensors") or not known:
            raise CheckpointError(f"There is no weights file {path.name}.")
        raise CheckpointError(unknown("reference model", name, known))
    if steps and not (steps.isdecimal() and int(steps)):
        raise CheckpointError(
            f"'{rest}': after @ stands a number of denoising steps, not '{steps}'."
        )
    return read(path, int(steps) if steps else None)


def read(path: Path, steps: int | None = None) -> ReferenceModel:
    """A finished model; ``steps``: denoising steps, where its own are not wanted."""
    tensors, card = load_weights(path)
    row = str(card["name"])
    preset = from_dict(card["preset"])
    if preset.kind(row) not in methods_known():
        raise CheckpointError(f"{path.name} holds '{row}', which is not a generator.")
    network = DiT(preset.of(row))
    load_into(network, tensors, path.name)
    network.eval().requires_grad_(False)
    return ReferenceModel(network, _codec_beside(path, preset, card), preset, row, card, steps)


def in_training(network: DiT, codec: AutoEncoder, preset: Preset, row: str) -> ReferenceModel:
    """A model as it is at this moment of its training."""
    return ReferenceModel(network, codec, preset, row, {"notes": "in training"})


class ReferenceModel:
    """A trained generator and its codec; causal (chunk by chunk) or bidirectional (all at once)."""

    def __init__(
        self,
        network: DiT,
        codec: AutoEncoder,
        preset: Preset,
        row: str,
        card: dict[str, Any],
        steps: int | None = None,
    ) -> None:
        self.network, self.codec = network, codec
        self.preset, self.method = preset.of(row), row
        self.causal = methods_known()[preset.kind(row)].causal
        self.schedule = _schedule(self.preset, row, steps)
        self.text = text_encoder(self.preset.text)
        self._prepared: dict[str, Tensor] = {}
        self.card = self._card(row, steps, card)

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
        scope, left = requests[0].scope, self._check(requests[0])
        start = 0 if contexts[0] is None else len(contexts[0])
        model = self.network.config
        chunk = model.frames_per_chunk if self.causal else left
        alone = int(self.causal and model.first_alone and not start)
        latents = rollout(
            self.network,
            self._embed([r.prompt for r in requests], scope),
            self._noise(requests),
            self.schedule,
            frames=alone + -(-(left - alone) // chunk) * chunk,
            chunk=chunk,
            start=start,
            context=self._encode(contexts, chunk),
            blank=self._embed([BLANK], scope),
            recache=self.preset.method(self.method).sampler.recache,
            span=span,
        )
        text = None
        while left:
            made = latents.send(text)[:, :left]
            left -= made.shape[1]
            prompts = yield self._undecoded(made) if scope == "dit" else self._decode(made)
            text = None if prompts is None else self._embed(prompts, scope)

    def prepare(self, request: Request) -> None:
        """Embed the prompts of a request whose scope is without the text."""
        switched = [request.switch.prompt] if request.switch else []
        texts = {p.text for p in (request.prompt, *switched, BLANK)}
        self._prepared = {text: self.text([text]) for text in texts}

    def _embed(self, prompts: Sequence[Prompt], scope: str) -> Tensor:
        """``[B, L, D]``: now, or as prepared where the scope is without the text."""
        if scope != "e2e":
            return torch.cat([self._prepared[prompt.text] for prompt in prompts])
        with span("text"):
            return self.text([prompt.text for prompt in prompts])

    def _decode(self, latents: Tensor) -> list[Frames]:
        with span("decode"):
            return list(to_frames(self.codec.decode(latents)))

    def _undecoded(self, latents: Tensor) -> list[Frames]:
        """Black frames in place of what was made: nothing is spent on them."""
        return list(np.zeros((*latents.shape[:2], *self.preset.data.shape, 3), np.uint8))

    def _encode(self, contexts: Sequence[Frames | None], chunk: int) -> Tensor | None:
        """Latents ``[B, F, C, h, w]``: the longest end of the context that is whole chunks."""
        if contexts[0] is None:
            return None
        if not self.causal:
            raise ValueError(f"'{self.card.name}' is bidirectional and cannot continue a context")
        video = to_video(np.stack([c for c in contexts if c is not None]))
        alone = int(self.network.config.first_alone)
        usable = (video.shape[1] - alone) // chunk * chunk + alone
        return self.codec.encode(video[:, video.shape[1] - usable :]) if usable else None

    def _noise(self, requests: Sequence[Request]) -> Noise:
        """Keyed by (seed, prompt, absolute frame, denoising step): never by batch or by history."""
        keys = [(r.seed, zlib.crc32(r.prompt.text.encode())) for r in requests]
        shape = self.preset.latent_shape

        def noise(frames: Sequence[int], step: int) -> Tensor:
            parts = [noise_for([(*key, f, step) for key in keys], shape) for f in frames]
            return torch.stack(parts, dim=1)

        return noise

    def _check(self, request: Request) -> int:
        """Frames to make; refuses a geometry the weights are not for."""
        (height, width), got = self.preset.data.shape, request.geometry
        if (got.height, got.width) != (height, width):
            raise ValueError(
                f"'{self.card.name}' makes {height}x{width} pixels, not {got.height}x{got.width}"
            )
        if not self.causal and got.frames != self.preset.data.frames:
            raise ValueError(
                f"'{self.card.name}' is bidirectional and makes {self.preset.data.frames} frames, "
                f"not {got.frames}"
            )
        return got.frames

    def _card(self, method: str, steps: int | None, card: dict[str, Any]) -> ModelCard:
        name = f"{method}@{steps}" if steps else method
        if self.preset.name != DEFAULT_PRESET:
            name = f"{self.preset.name}-{name}"
        return ModelCard(
            name=name,
            revision=card.get("sha256", "unknown")[:12],
            weights_sha256=card.get("sha256"),
            causal=self.causal,
            chunk=self.network.config.frames_per_chunk if self.causal else self.preset.data.frames,
            native_frames=self.preset.data.frames,
            accepts_context=self.causal,
            switches_prompt=self.causal,
            scopes=SCOPES,
            steps=len(self.schedule),
            parameters=sum(p.numel() for p in self.network.parameters()),
            train_core_hours=card.get("core_hours_with_ancestors"),
            notes=card.get("notes") or f"{card['steps']} training steps, seed {card['seed']}",
        )


def _schedule(preset: Preset, method: str, steps: int | None) -> Schedule:
    config = preset.method(method).sampler
    if steps:
        even = tuple(1000 * (1 - i / steps) for i in range(steps))
        config = dataclasses.replace(config, steps=steps, few=even)
    return Schedule.of(config)


def _codec_beside(path: Path, preset: Preset, card: dict[str, Any]) -> AutoEncoder:
    """The codec these weights were trained on, checked by hash."""
    codec, found = load_codec(preset, Library(preset.name, path.parent), card["name"])
    if found != card["ancestors"]["codec"]:
        raise CheckpointError(
            f"{path.name} was trained on another codec ({card['ancestors']['codec'][:12]}, "
            f"found {found[:12]}); fetch both from one release."
        )
    return codec


def truth_row(rest: str) -> CodecRow:
    """``truth:codec``."""
    if rest != "codec":
        raise CheckpointError(unknown("truth row", rest, ["codec"]))
    return CodecRow()


class CodecRow:
    """True video through the codec: what a perfect generator of latents would score."""

    def __init__(self) -> None:
        path = SHIPPED / f"{DEFAULT_PRESET}-codec.safetensors"
        _, card = load_weights(path)
        self.preset = from_dict(card["preset"])
        self.codec, _ = load_codec(self.preset, Library(DEFAULT_PRESET, SHIPPED), "truth:codec")
        self.card = ModelCard(
            name="truth:codec",
            kind="reference-row",
            revision=card["sha256"][:12],
            weights_sha256=card["sha256"],
            chunk=self.preset.model.frames_per_chunk,
            native_frames=self.preset.data.frames,
            accepts_context=True,
            parameters=sum(p.numel() for p in self.codec.parameters()),
            train_core_hours=card["core_hours_with_ancestors"],
            notes="true video, encoded and decoded",
        )

    @torch.inference_mode()
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Yield the true continuation of the scene, a chunk at a time."""
        scene, size = request.prompt.scene, request.geometry
        if scene is None or (size.height, size.width) != self.preset.data.shape:
            raise ValueError("truth:codec needs a known scene of the codec's own size")
        dataset = load_name("datasets", scene.dataset)(scene.dataset, size.height, size.fps)
        start = 0 if context is None else len(context)
        video = to_video(dataset.clip(scene, size.frames, start)[None])
        frames = to_frames(self.codec.decode(self.codec.encode(video)))[0]
        chunk = self.preset.model.frames_per_chunk
        for first in range(0, size.frames, chunk):
            yield frames[first : first + chunk]
