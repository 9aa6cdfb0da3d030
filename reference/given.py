"""Weights that were made elsewhere, as training takes them up: Wan2.1's, from where they lie.

``elsewhere.py`` says what a row takes and where it is. A network that is trained is copied into
memory; one that is only asked (a teacher) stays mapped from its files, in their own precision,
until it is brought to its device block by block.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import torch

from .checkpoint import CheckpointError, files_hash, sha256
from .config import ConfigError, Preset
from .elsewhere import PARTS, built_on, home
from .model import DiT
from .wan_parts import part
from .wan_text import UMT5
from .wan_vae import WanCodec
from .wan_weights import Sizes, Stored, fill, sizes, transformer_at


def contents(preset: Preset, rows: Iterable[str]) -> dict[str, str]:
    """The hashes of all that these rows are built on, which recipes name it by."""
    return {name: _content(preset, name) for name in built_on(preset, rows)}


def ensure_fitting(preset: Preset, rows: Iterable[str]) -> None:
    """Refuse weights of other sizes than the preset's, before anything is computed."""
    for name in built_on(preset, rows):
        place = _place(preset, name)
        if name in PARTS:
            _ensure_part(preset, name, place)
            continue
        tensors, config = transformer_at(place)
        own = preset.of(name)
        heads = {"num_heads": own.model.heads}  # where nothing beside a file says how many
        _ensure_sizes(own, name, sizes(tensors.shapes(), heads | config, place.name), place)


def network(preset: Preset, row: str, trained: bool) -> DiT:
    """The DiT of a row's weights, as ``preset`` has it.

    ``trained``: in memory, in single precision; else mapped, as the files have it.
    """
    place = _place(preset, row)
    tensors, _ = transformer_at(place)
    with torch.device("meta"):
        net = DiT(preset)
    fill(net, tensors, place.name, None)
    if trained:
        for parameter in net.parameters():
            parameter.data = parameter.data.to(torch.float32, copy=True)
    return net


def codec(preset: Preset, device: torch.device) -> WanCodec:
    """Wan's VAE, in single precision."""
    vae = part(_place(preset, "codec") / "vae")
    torch.nn.Module.to(vae, device, torch.float32)  # diffusers' own warns of parts of other models
    return WanCodec(vae)


def text(preset: Preset, device: torch.device) -> UMT5:
    """Wan's text encoder, on a device; on a GPU in bfloat16, as its official weights are."""
    place = _place(preset, "text")
    encoder, tokenizer = (part(place / name) for name in PARTS["text"])
    if device.type == "cuda":
        encoder = encoder.to(torch.bfloat16)
    return UMT5(encoder.to(device), tokenizer, preset.text.length, device)


# --- helpers --------------------------------------------------------------------------------------


def _place(preset: Preset, name: str) -> Path:
    place = home(preset, name)
    if place is None:
        raise ConfigError(f"Where '{name}' lies is not said: pass --given {name}=PATH.")
    return place


def _content(preset: Preset, name: str) -> str:
    """Of files by name and content: for a row, what ``wan:PATH`` names the same weights by."""
    place = _place(preset, name)
    if name in PARTS:
        found = (path for inside in PARTS[name] for path in (place / inside).rglob("*"))
        return files_hash([path for path in found if path.is_file()], place)
    if place.is_file():
        return sha256(place)
    tensors: Stored = transformer_at(place)[0]
    return files_hash(tensors.files, tensors.folder)


def _ensure_sizes(preset: Preset, row: str, found: Sizes, place: Path) -> None:
    model = preset.model
    wanted = Sizes(
        *(model.dim, model.ffn_dim, model.layers, model.heads, model.patch, model.freq_dim),
        *(preset.codec.channels, preset.text.dim),
    )
    names = [item.name for item in fields(Sizes)]
    pairs = [(name, getattr(found, name), getattr(wanted, name)) for name in names]
    other = [f"{name} {its}, not {ours}" for name, its, ours in pairs if its != ours]
    if other:
        raise CheckpointError(
            f"'{place}' does not fit row '{row}' of preset '{preset.name}': {', '.join(other)}; "
            f"give weights of that size with --given {row}=PATH."
        )
    if (model.rope_theta, model.prediction) != (10000, "v"):
        raise CheckpointError(
            f"Row '{row}' of preset '{preset.name}' has another architecture than Wan's weights: "
            "model.rope_theta must be 10000 and model.prediction v."
        )


def _ensure_part(preset: Preset, name: str, place: Path) -> None:
    """By the configuration beside its weights."""
    inside, key, wanted = {
        "codec": ("vae", "z_dim", preset.codec.channels),
        "text": ("text_encoder", "d_model", preset.text.dim),
    }[name]
    path = place / inside / "config.json"
    try:
        found = json.loads(path.read_text())[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' does not say its {key} ({type(error).__name__}); fetch the folder again."
        ) from None
    if found != wanted:
        raise CheckpointError(
            f"'{place / inside}' has {key} {found}, and preset '{preset.name}' takes {wanted}; "
            f"name another with --given {name}=FOLDER."
        )
