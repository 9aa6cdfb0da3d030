"""Wan2.1 as a causal few-step stream: ``wan:PATH?key=value&...``, or ``wan:random-1.3b``.

PATH is a folder of diffusers or an official one, or a safetensors file. What it lacks (the VAE, the
text encoder) is looked for in ``base``. Random weights are for timing: they do all the work and
show noise. Nothing is downloaded, and nothing pickled is read (``sfbench convert-wan`` does that).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfbench.models import ModelError
from sfbench.schema import SCOPES, Geometry, ModelCard

from . import wan_small
from .checkpoint import files_hash, sha256
from .codec import frames_of
from .config import CodecConfig, DataConfig, ModelConfig, Preset, SamplerConfig, TextConfig
from .model import DiT
from .schedule import Schedule, evenly
from .streaming import StreamModel
from .text import TextEncoder, WordEncoder
from .wan_options import NATIVE, PUBLISHED, RANDOM, SMALL, asked_of, half, overlaps, switches
from .wan_parts import inside, part
from .wan_small import SmallCodec
from .wan_text import UMT5, random_umt5
from .wan_vae import TEMPORAL, WanCodec
from .wan_weights import Sizes, fill, sizes, transformer_at

LENGTH = PUBLISHED.text.length
PIXELS = PUBLISHED.codec.stride


def load(rest: str) -> WanModel:
    """A stream of the weights at a path, or of random ones."""
    for package in ("diffusers", "transformers", "ftfy"):
        if find_spec(package) is None:
            raise ModelError(
                f"The model 'wan:{rest}' needs the package {package}: "
                "pip install 'sfbench[diffusers]'."
            )
    path, asked = asked_of(rest)
    query = rest.partition("?")[2]
    return random(path.name, query, asked) if path.name in RANDOM else read(path, query, asked)


def read(path: Path, query: str, asked: Mapping[str, Any]) -> WanModel:
    """The weights at a path, with the VAE and the text encoder beside them or in ``base``."""
    found, config = transformer_at(path)
    digest = files_hash(found.files, found.folder) if path.is_dir() else sha256(path)
    read_sizes = sizes(found.shapes(), config, path.name)
    folders = [folder for folder in (path, Path(asked["base"] or path)) if folder.is_dir()]
    with torch.device("meta"):
        network = DiT(preset_of(read_sizes, asked))
    fill(network, found, path.name, torch.float32)
    codec = codec_of(_part(folders, "vae", path), asked)
    encoder, tokenizer = (_part(folders, name, path) for name in ("text_encoder", "tokenizer"))
    text = UMT5(encoder, tokenizer, LENGTH)
    width = text.encoder.config.d_model
    if (codec.channels, width) != (read_sizes.channels, read_sizes.text_dim):
        raise ModelError(
            f"'{path}' takes {read_sizes.channels} latent channels and text {read_sizes.text_dim} "
            f"wide; its VAE makes {codec.channels} and its text encoder {width}."
        )
    return WanModel(path.resolve().name, query, asked, network, codec, text, digest)


def random(name: str, query: str, asked: Mapping[str, Any]) -> WanModel:
    """A model of a published size whose weights are drawn, always the same."""
    from diffusers import AutoencoderKLWan

    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        found = published(name)
        network = DiT(preset_of(found, asked))
        nn.init.xavier_uniform_(network.head.head.weight)  # zero would make its input no matter
        vae: Any = AutoencoderKLWan  # whose constructor has no annotations
        own = vae().eval().requires_grad_(False)
        config = TextConfig(kind="words", length=LENGTH, dim=found.text_dim)
        text = random_umt5(LENGTH) if asked["text"] == "umt5" else WordEncoder(config)
        codec = codec_of(own, asked)  # last, so that the rest is the same under any decoder
    return WanModel(name, query, asked, network, codec, text, None)


class WanModel(StreamModel):
    """A causal Wan of any size, at any resolution that its patches fill."""

    def __init__(
        self,
        name: str,
        query: str,
        asked: Mapping[str, Any],
        network: DiT,
        codec: WanCodec,
        text: TextEncoder,
        digest: str | None,
    ) -> None:
        fast = switches(asked)
        network.eval().requires_grad_(False).to(asked["device"])
        if asked["dtype"] != "float32":
            network.halve(getattr(torch, half(asked["dtype"])))
        # Diffusers' own `to` warns of parts that some of its models have.
        nn.Module.to(codec.vae, asked["device"], getattr(torch, asked["vae"]))
        if isinstance(text, UMT5):
            text.device = torch.device(asked["device"])
            if asked["device"] == "cuda":
                text.encoder.to(torch.bfloat16)  # as its official weights are
        sampler = SamplerConfig(
            kind=asked["sampler"],
            steps=asked["steps"],
            shift=asked["shift"],
            guidance=asked["guidance"],
            few=asked.get("few", evenly(asked["steps"])),
        )
        notes = f"chunks of {asked['chunk']} latent frames, window {asked['window']}"
        if isinstance(codec, SmallCodec):
            notes += f", shown by {codec.origin}"
        card = ModelCard(
            name=name + (f"?{query}" if query else ""),
            revision=digest[:12] if digest else "random",
            weights_sha256=digest,
            causal=True,
            chunk=TEMPORAL * asked["chunk"],
            native_frames=frames_of(NATIVE, TEMPORAL),
            accepts_context=True,
            switches_prompt=True,
            scopes=SCOPES,
            frames_per_latent=TEMPORAL,
            dtype=asked["dtype"],
            compiled=fast.compiled,
            decoder="small" if isinstance(codec, SmallCodec) else None,
            steps=asked["steps"],
            parameters=sum(p.numel() for p in network.parameters()),
            notes=notes if digest else f"random weights: for timing alone; {notes}",
        )
        small = isinstance(codec, SmallCodec)  # whose layers are few: nothing to compile
        codec.prepare(
            channels_last=asked["device"] == "cuda",
            compiled=fast.compiled and not small,
        )
        super().__init__(
            card,
            network,
            codec,
            text,
            Schedule.of(sampler),
            switches=fast,
            overlap=overlaps(asked),
            alone=True,
        )

    def fit(self, geometry: Geometry) -> None:
        """Take another resolution, if patches fill it."""
        step = PIXELS * self.network.config.patch
        if geometry.height % step or geometry.width % step:
            raise ValueError(
                f"'{self.card.name}' makes heights and widths that are multiples of {step}, not "
                f"{geometry.height}x{geometry.width}"
            )
        channels = self.network.latent_shape[0]
        shape = (channels, geometry.height // PIXELS, geometry.width // PIXELS)
        if shape != self.network.latent_shape:
            self.network.resize(shape)


# --- parts ----------------------------------------------------------------------------------------


def published(name: str) -> Sizes:
    """Of a network of the published preset."""
    preset = PUBLISHED.of(RANDOM[name])
    m, text, channels = preset.model, preset.text.dim, preset.codec.channels
    return Sizes(m.dim, m.ffn_dim, m.layers, m.heads, m.patch, m.freq_dim, channels, text)


def codec_of(vae: Any, asked: Mapping[str, Any]) -> WanCodec:
    """Wan's VAE, with the decoder that is asked for."""
    decoder, channels = asked["decoder"], int(vae.config.z_dim)
    if decoder == "wan":
        return WanCodec(vae)
    if decoder == "small":
        return SmallCodec(vae, wan_small.drawn(channels), "a small decoder of random weights")
    path = Path(decoder.removeprefix(SMALL)).expanduser()
    return SmallCodec(vae, wan_small.read(path, channels), wan_small.origin(path))


def preset_of(found: Sizes, asked: Mapping[str, Any]) -> Preset:
    """Of any resolution: :meth:`WanModel.fit` sets it."""
    how = {key: asked[key] for key in ("window", "sink", "positions")}
    model: ModelConfig = found.model(frames_per_chunk=asked["chunk"], **how)
    return Preset(
        name="wan",
        data=DataConfig(size=PIXELS * found.patch, frames=NATIVE),
        codec=CodecConfig(kind="wan", channels=found.channels),
        text=TextConfig(kind="umt5", length=LENGTH, dim=found.text_dim),
        model=model,
    )


def _part(folders: list[Path], name: str, path: Path) -> Any:
    """The VAE, text encoder or tokenizer of the first folder that has it."""
    home = inside(folders, name)
    if home is None:
        raise ModelError(
            f"'{path}' has no {name}; name a Wan folder in diffusers' format that has one with "
            "?base=FOLDER (`sfbench convert-wan` makes one of an official folder)."
        )
    return part(home)
