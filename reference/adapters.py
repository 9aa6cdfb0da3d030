"""The models that were trained here, by name, as the harness sees them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sfbench.interfaces import Frames
from sfbench.registry import load as load_name
from sfbench.registry import unknown
from sfbench.schema import SCOPES, Geometry, ModelCard, Request

from .catalogue import DEFAULT_PRESET, SHIPPED
from .checkpoint import CheckpointError, load_into, load_weights
from .codec import AutoEncoder, to_frames, to_video
from .config import Preset, SamplerConfig
from .methods import load_codec, methods_known
from .model import DiT
from .recipes import from_dict
from .schedule import Schedule, evenly
from .streaming import StreamModel
from .text import text_encoder
from .trained import Library


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
    if "run_as" in card:
        raise CheckpointError(
            f"{path.name} makes latents of Wan's VAE, which is not beside it: run it as "
            f"wan:{path}?base=FOLDER, FOLDER being the Wan folder that has the VAE and the text "
            "encoder."
        )
    network = DiT(preset.of(row))
    load_into(network, tensors, path.name)
    network.eval().requires_grad_(False).to("cuda" if torch.cuda.is_available() else "cpu")
    return ReferenceModel(network, _codec_beside(path, preset, card), preset, row, card, steps)


def in_training(network: DiT, codec: AutoEncoder, preset: Preset, row: str) -> ReferenceModel:
    """A model as it is at this moment of its training."""
    return ReferenceModel(network, codec, preset, row, {"notes": "in training"})


class ReferenceModel(StreamModel):
    """A generator that was trained here, and its codec, where the network is."""

    def __init__(
        self,
        network: DiT,
        codec: AutoEncoder,
        preset: Preset,
        row: str,
        card: dict[str, Any],
        steps: int | None = None,
    ) -> None:
        self.preset, self.method = preset.of(row), row
        method = self.preset.method(row)
        schedule = _schedule(method.sampler, steps)
        causal = methods_known()[preset.kind(row)].causal
        super().__init__(
            self._card(network, causal, len(schedule), steps, card),
            network,
            codec.to(next(network.parameters()).device),
            text_encoder(self.preset.text),
            schedule,
            method.sampler.recache,
        )

    def fit(self, geometry: Geometry) -> None:
        """Refuse a geometry the weights are not for."""
        height, width = self.preset.data.shape
        if (geometry.height, geometry.width) != (height, width):
            raise ValueError(
                f"'{self.card.name}' makes {height}x{width} pixels, "
                f"not {geometry.height}x{geometry.width}"
            )
        if not self.causal and geometry.frames != self.preset.data.frames:
            raise ValueError(
                f"'{self.card.name}' is bidirectional and makes {self.preset.data.frames} frames, "
                f"not {geometry.frames}"
            )

    def _card(
        self, network: DiT, causal: bool, length: int, steps: int | None, card: dict[str, Any]
    ) -> ModelCard:
        name = f"{self.method}@{steps}" if steps else self.method
        if self.preset.name != DEFAULT_PRESET:
            name = f"{self.preset.name}-{name}"
        return ModelCard(
            name=name,
            revision=card.get("sha256", "unknown")[:12],
            weights_sha256=card.get("sha256"),
            causal=causal,
            chunk=network.config.frames_per_chunk if causal else self.preset.data.frames,
            native_frames=self.preset.data.frames,
            accepts_context=causal,
            switches_prompt=causal,
            scopes=SCOPES,
            steps=length,
            parameters=sum(p.numel() for p in network.parameters()),
            train_core_hours=card.get("core_hours_with_ancestors"),
            notes=card.get("notes") or f"{card['steps']} training steps, seed {card['seed']}",
        )


def _schedule(config: SamplerConfig, steps: int | None) -> Schedule:
    if steps:
        config = dataclasses.replace(config, steps=steps, few=evenly(steps))
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
