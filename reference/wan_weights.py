"""Wan2.1's weights in the forms they are handed around in, read as the DiT's own.

The DiT has the official names, so only diffusers' need a table. A folder of diffusers, an official
folder and a safetensors file are read where they lie; what is pickled (``.pt``, ``.pth``) only by
``wan_convert.py``. Sizes follow from the tensors: nothing is tied to one model or resolution.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .checkpoint import CheckpointError
from .config import ModelConfig
from .recipes import load_preset
from .wan_trained import trained_here

TOP = {
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.modulation": "scale_shift_table",
    "head.head": "proj_out",
}
IN_BLOCK = {
    "modulation": "scale_shift_table",
    "self_attn": "attn1",
    "cross_attn": "attn2",
    "norm3": "norm2",  # the only norm with weights; the two projects number them differently
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
IN_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
"""Parts of names that training's wrappers leave behind, anywhere in a name."""


def diffusers_name(name: str) -> str:
    """Diffusers' name of an official parameter."""
    if name.startswith("blocks."):
        _, number, rest = name.split(".", 2)
        part, _, tail = rest.partition(".")
        if part in ("self_attn", "cross_attn"):
            layer, _, leaf = tail.partition(".")
            return f"blocks.{number}.{IN_BLOCK[part]}.{IN_ATTENTION.get(layer, layer)}.{leaf}"
        return f"blocks.{number}.{_renamed(rest, IN_BLOCK)}"
    return _renamed(name, TOP)


def _renamed(name: str, table: Mapping[str, str]) -> str:
    for ours, theirs in table.items():
        if name == ours or name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    return name


def official(names: Iterator[str] | list[str]) -> dict[str, str]:
    """Official names of given ones, which may be diffusers' and may have been wrapped."""
    plain = {}
    for given in names:
        name = given
        for wrapper in WRAPPERS:
            name = name.replace(wrapper, "")
        plain[given] = name.removeprefix("model.")
    if not any(name.startswith("condition_embedder.") for name in plain.values()):
        return plain
    back = {theirs: ours for ours, theirs in TOP.items()}
    in_block = {theirs: ours for ours, theirs in IN_BLOCK.items()}
    layers = {theirs: ours for ours, theirs in IN_ATTENTION.items()}

    def undo(name: str) -> str:
        if not name.startswith("blocks."):
            return _renamed(name, back)
        _, number, rest = name.split(".", 2)
        part, _, tail = rest.partition(".")
        if part in ("attn1", "attn2"):
            return f"blocks.{number}.{in_block[part]}.{_renamed(tail, layers)}"
        return f"blocks.{number}.{_renamed(rest, in_block)}"

    return {given: undo(name) for given, name in plain.items()}


# --- files ----------------------------------------------------------------------------------------


class Stored(Mapping[str, Tensor]):
    """Tensors of safetensors files by official name, each read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self.files, self.folder = files, files[0].parent
        self._open: dict[str, Any] = {}  # the file that holds a stored name
        for path in files:
            try:
                file = safe_open(path, "pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{path.name} is not a safetensors file ({error}); what is pickled can run "
                    "code when it is loaded: convert it with `sfbench convert-wan`."
                ) from None
            names: list[str] = list(file.keys())  # type: ignore[no-untyped-call]  # no stubs
            self._open.update(dict.fromkeys(names, file))
        self._stored = {name: given for given, name in official(list(self._open)).items()}

    def __getitem__(self, name: str) -> Tensor:
        given = self._stored[name]
        tensor: Tensor = self._open[given].get_tensor(given)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, none of which is read."""
        slices = {name: self._open[g].get_slice(g) for name, g in self._stored.items()}
        return {name: tuple(part.get_shape()) for name, part in slices.items()}


def stored(folder: Path) -> Stored:
    """The tensors of a folder of safetensors, in one file or as its index says."""
    index = sorted(folder.glob("*.safetensors.index.json"))
    if index:
        try:
            named = set(json.loads(index[0].read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError):
            raise CheckpointError(f"{index[0]} is not an index of safetensors files.") from None
        files = [folder / Path(name).name for name in sorted(named)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of {len(files)} weights files: {missing[0]}"
                f"{' and more' if missing[1:] else ''}; fetch the folder again."
            )
        return Stored(files)
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise CheckpointError(
            f"{folder} has {len(files) or 'no'} safetensors files and no index; "
            "one file, or an index beside several, is expected."
        )
    return Stored(files)


def transformer_at(path: Path) -> tuple[Stored, dict[str, Any]]:
    """Tensors and configuration of the generator at a path: a folder, or a file of tensors."""
    if path.suffix in PICKLED:
        raise CheckpointError(
            f"'{path}' is pickled, which can run code when it is loaded: convert it with "
            f"`sfbench convert-wan {path} --out FOLDER` first."
        )
    if path.is_file():
        return Stored([path]), _beside(path)
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"'{path}' is no Wan folder: it has neither transformer/config.json (diffusers) nor "
            "config.json (official)."
        )
    return stored(folder), _json(folder / "config.json")


def _beside(path: Path) -> dict[str, Any]:
    """The configuration beside a file, which may be the card of a network that was trained here."""
    config = path.with_suffix(".json")
    found = _json(config) if config.exists() else {}
    if card := trained_here(path):
        return {"num_heads": card[0].model.heads}
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"'{path}' is not JSON ({error}).") from None
    return found if isinstance(found, dict) else {}


# --- sizes ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """What the tensors of a Wan transformer say of it."""

    dim: int
    ffn_dim: int
    layers: int
    heads: int
    patch: int
    freq_dim: int
    channels: int
    text_dim: int

    def model(self, **how: Any) -> ModelConfig:
        """The network; ``how``: chunk, window and the like, which no weights say."""
        return ModelConfig(
            dim=self.dim,
            ffn_dim=self.ffn_dim,
            layers=self.layers,
            heads=self.heads,
            patch=self.patch,
            freq_dim=self.freq_dim,
            rope_theta=10000.0,
            prediction="v",
            **how,
        )


def sizes(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any], what: str) -> Sizes:
    """Of a text-to-video Wan; ``config``: diffusers' or the official one, may be empty."""
    try:
        dim, channels, frames, patch, across = shapes["patch_embedding.weight"]
        ffn_dim, freq_dim = shapes["blocks.0.ffn.0.weight"][0], shapes["time_embedding.0.weight"][1]
        text_dim, out = shapes["text_embedding.0.weight"][1], shapes["head.head.weight"][0]
    except (KeyError, ValueError):
        raise CheckpointError(
            f"{what} does not hold a Wan transformer: it has none of its embeddings."
        ) from None
    if any("img" in name or "image" in name or "add_" in name for name in shapes):
        raise CheckpointError(
            f"{what} is an image-to-video Wan, which takes image features besides; text-to-video "
            "weights are expected."
        )
    if frames != 1 or patch != across or out != channels * patch * patch:
        raise CheckpointError(
            f"{what} takes {channels} channels in patches of {frames}x{patch}x{across} and gives "
            f"{out} values a patch; this is another architecture than Wan2.1's text-to-video."
        )
    # No tensor's shape says how many heads share the width; in all published ones they are as wide.
    published = load_preset("wan-1.3b").model
    known = config.get("num_attention_heads") or config.get("num_heads")
    heads = known or dim // (published.dim // published.heads)
    if not heads or dim % heads:
        raise CheckpointError(
            f"{what} is {dim} wide, which {heads} heads do not share; its config.json is expected "
            "beside it."
        )
    layers = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("blocks."))
    return Sizes(dim, ffn_dim, layers, int(heads), patch, freq_dim, channels, text_dim)


# --- into the network, and out of it --------------------------------------------------------------


def fill(net: nn.Module, tensors: Stored, what: str, dtype: torch.dtype | None) -> None:
    """Give a network, made on the device ``meta`` or elsewhere, all its weights.

    Weights that are in ``dtype`` already stay where they lie, mapped from the file, and take no
    memory of their own; with ``None`` all of them do.
    """
    check(net, tensors.shapes(), what)
    read = {name: tensors[name] for name in net.state_dict()}
    net.load_state_dict({n: t.to(dtype or t.dtype) for n, t in read.items()}, assign=True)


def check(net: nn.Module, shapes: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Raise a :class:`CheckpointError` that lists missing, unknown and mis-shaped tensors."""
    own = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    faults = {
        "missing": own.keys() - shapes.keys(),
        "unknown": shapes.keys() - own.keys(),
        "mis-shaped": {
            f"{name} ({_by(shapes[name])} where {_by(own[name])} is expected)"
            for name in own.keys() & shapes.keys()
            if shapes[name] != own[name]
        },
    }
    told = [
        f"{len(names)} {kind}: {', '.join(sorted(names)[:4])}{' and more' * (len(names) > 4)}"
        for kind, names in faults.items()
        if names
    ]
    if told:
        raise CheckpointError(f"The weights of {what} do not fit: {'; '.join(told)}.")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one number"
