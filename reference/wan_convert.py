"""Any Wan2.1 weights as a folder of diffusers, safetensors throughout: ``sfbench convert-wan``.

This is the only place where pickled files are read, and as tensors alone (``weights_only``). What
is written, ``wan:FOLDER`` and every diffusers program read.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import wan_small
from .checkpoint import CheckpointError
from .wan_weights import PICKLED, Sizes, check, diffusers_name, official, sizes, transformer_at

GENERATORS = ("generator_ema", "generator")
"""Where a Self Forcing checkpoint has its generator: the average first, as its authors run it."""
VAE, TEXT, TOKENIZER = "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl"
"""Parts of an official folder."""
T5_TOP = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
T5_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def convert(source: Path, out: Path, which: str = "") -> list[str]:
    """Write ``out``, a folder of diffusers; returns the names of its parts.

    ``source``: a Self Forcing checkpoint, any other file or folder of a Wan transformer, or an
    official folder with its VAE and text encoder; ``which``: the checkpoint's network. A small
    decoder (TAEHV's ``taew2_1.pth``) becomes one file in ``out``, for ``wan:PATH?decoder=small:``.
    """
    if out.exists():
        raise CheckpointError(f"'{out}' is there already; name another folder with --out.")
    if not source.exists():
        raise CheckpointError(f"There is no file or folder '{source}'.")
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        parts = _write(source, part, which)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return parts


def _write(source: Path, out: Path, which: str) -> list[str]:
    tensors, config = _transformer(source, which)
    if wan_small.is_small(tensors):
        wan_small.write(tensors, out, source.name)
        return [wan_small.FILE]
    found = sizes({n: tuple(t.shape) for n, t in tensors.items()}, config, source.name)
    write_transformer(tensors, found, out / "transformer", source.name)
    parts = ["transformer"]
    if source.is_dir():
        for name, file, write in (("vae", VAE, _write_vae), ("text_encoder", TEXT, _write_text)):
            if (source / file).is_file():
                write(unpickled(source / file), out / name, file)
            elif (source / name).is_dir():
                shutil.copytree(source / name, out / name)
            else:
                continue
            parts.append(name)
        tokenizers = [source / name for name in (TOKENIZER, "tokenizer")]
        for tokenizer in [folder for folder in tokenizers if folder.is_dir()][:1]:
            shutil.copytree(tokenizer, out / "tokenizer")
            parts.append("tokenizer")
    if len(parts) == 4:
        _write_index(out)
    return parts


def unpickled(path: Path) -> dict[str, Any]:
    """What a file of ``torch.save`` holds: tensors in dictionaries, and no code is run."""
    if not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"'{path}' is no file that torch.save has written, or it was cut short; fetch it again."
        )
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > path.stat().st_size:  # torch stores as it is; what unfolds was not written by it
        raise CheckpointError(f"'{path}' would unfold to {size} bytes; torch.save does not pack.")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever a strange pickle makes of it
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(f"'{path}' holds more than tensors ({line}).") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"'{path}' holds a {type(found).__name__}, not weights by name.")
    return found


def _transformer(source: Path, which: str) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """A transformer's tensors by official name, and its configuration if there is one."""
    if source.suffix not in PICKLED:
        return transformer_at(source)
    found = unpickled(source)
    networks = [name for name, value in found.items() if isinstance(value, dict)]
    if networks:
        name = which or next((n for n in GENERATORS if n in networks), "")
        if name not in networks:
            raise CheckpointError(
                f"'{source.name}' has no network '{name or ' or '.join(GENERATORS)}', but "
                f"{', '.join(networks)}; name one with --network."
            )
        found = found[name]
    strange = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if strange:
        raise CheckpointError(f"'{source.name}' holds '{strange[0]}', which is not a tensor.")
    return {name: found[given] for given, name in official(list(found)).items()}, {}


def write_transformer(tensors: Mapping[str, Tensor], found: Sizes, out: Path, what: str) -> None:
    """A transformer's folder, as diffusers makes it, of tensors by official name."""
    from diffusers import WanTransformer3DModel

    kind: Any = WanTransformer3DModel  # whose constructor has no annotations
    with torch.device("meta"):
        network = kind(
            patch_size=(1, found.patch, found.patch),
            num_attention_heads=found.heads,
            attention_head_dim=found.dim // found.heads,
            in_channels=found.channels,
            out_channels=found.channels,
            text_dim=found.text_dim,
            freq_dim=found.freq_dim,
            ffn_dim=found.ffn_dim,
            num_layers=found.layers,
        )
    named = {diffusers_name(name): tensor for name, tensor in tensors.items()}
    _assigned(network, named, what).save_pretrained(out)


def _assigned(network: nn.Module, tensors: dict[str, Tensor], what: str) -> Any:
    """A network of the device ``meta`` with these weights, all of them."""
    check(network, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, what)
    network.load_state_dict(tensors, assign=True)
    return network


def _write_vae(tensors: dict[str, Tensor], out: Path, what: str) -> None:
    from diffusers import AutoencoderKLWan
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    named = convert_wan_vae_to_diffusers(tensors)  # type: ignore[no-untyped-call]  # not annotated
    kind: Any = AutoencoderKLWan
    channels = named["post_quant_conv.weight"].shape[0]
    # The statistics of latents stand in code, in both projects, not in the weights.
    statistics = (
        {}
        if channels == 16
        else {"latents_mean": [0.0] * channels, "latents_std": [1.0] * channels}
    )
    with torch.device("meta"):
        vae = kind(base_dim=named["encoder.conv_in.weight"].shape[0], z_dim=channels, **statistics)
    _assigned(vae, named, what).save_pretrained(out)


def _write_text(tensors: dict[str, Tensor], out: Path, what: str) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    named = {_t5_name(name): tensor for name, tensor in tensors.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    bias = shapes["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    inside = shapes["encoder.block.0.layer.0.SelfAttention.q.weight"][0]
    config = UMT5Config(
        vocab_size=shapes["shared.weight"][0],
        d_model=shapes["shared.weight"][1],
        d_ff=shapes["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"][0],
        d_kv=inside // bias[1],
        num_heads=bias[1],
        relative_attention_num_buckets=bias[0],
        num_layers=1 + max(int(n.split(".")[2]) for n in shapes if n.startswith("encoder.block.")),
    )
    with torch.device("meta"):
        network = UMT5EncoderModel(config)
    own = network.state_dict()
    tied = {name: named["shared.weight"] for name in own if name == "encoder.embed_tokens.weight"}
    _assigned(network, named | tied, what).save_pretrained(out)


def _t5_name(name: str) -> str:
    """Transformers' name of an official parameter of UMT5's encoder."""
    if name.startswith("blocks."):
        _, number, rest = name.split(".", 2)
        stem, _, leaf = rest.rpartition(".")
        return f"encoder.block.{number}.{T5_BLOCK.get(stem, stem)}.{leaf}"
    stem, _, leaf = name.rpartition(".")
    return f"{T5_TOP.get(stem, stem)}.{leaf}"


def _write_index(out: Path) -> None:
    """What makes a whole pipeline of the parts, so that ``diffusers:FOLDER`` runs it too."""
    from diffusers import FlowMatchEulerDiscreteScheduler, __version__
    from transformers import AutoTokenizer

    kind: Any = AutoTokenizer
    tokenizer = type(kind.from_pretrained(out / "tokenizer", local_files_only=True)).__name__
    kind = FlowMatchEulerDiscreteScheduler
    kind(shift=5.0).save_pretrained(out / "scheduler")
    index = {
        "_class_name": "WanPipeline",
        "_diffusers_version": __version__,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", tokenizer],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
