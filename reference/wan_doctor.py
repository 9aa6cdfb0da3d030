"""What ``sfbench doctor --model wan:PATH`` looks at: the parts of a Wan folder, and what they take.

No tensor is read: shapes stand in the headers of safetensors files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sfbench.doctor_machine import GB, Finding, free_memory, quoted

from . import wan, wan_options, wan_small
from .checkpoint import CheckpointError
from .model import DiT
from .wan_convert import TEXT, TOKENIZER, VAE
from .wan_parts import inside
from .wan_weights import Sizes, Stored, check, sizes, transformer_at

PARTS = {"vae": VAE, "text_encoder": TEXT, "tokenizer": TOKENIZER}
"""A part, and what holds it in an official folder."""
COMFORTABLE = 0.7
"""The share of the memory beyond which it is said that little is left for the rest."""


def checks(rest: str) -> dict[str, Callable[[], Finding]]:
    """Row -> check, of what stands after ``wan:``."""
    path, asked = wan_options.asked_of(rest)
    if path.name in wan_options.RANDOM:
        published = wan.published(path.name)
        return {
            "wan decoder": lambda: decoder(asked["decoder"], published.channels),
            "wan memory": lambda: memory(published, asked),
        }
    try:
        stored, config = transformer_at(path)
        found = sizes(stored.shapes(), config, path.name)
    except CheckpointError as error:
        said = str(error)
        return {"wan transformer": lambda: ("fail", said, "")}
    folders = [folder for folder in (path, Path(asked["base"] or path)) if folder.is_dir()]
    return {
        "wan transformer": lambda: transformer(stored, found, asked, path.name),
        **{f"wan {name}": partial(part, name, folders, path) for name in PARTS},
        "wan decoder": lambda: decoder(asked["decoder"], found.channels),
        "wan memory": lambda: memory(found, asked, _bytes("text_encoder", folders)),
    }


def transformer(stored: Stored, found: Sizes, asked: Mapping[str, Any], name: str) -> Finding:
    """Whether all its tensors are there, in their shapes."""
    network = _empty(found, asked)
    try:
        check(network, stored.shapes(), name)
    except CheckpointError as error:
        return "fail", str(error), ""
    count = sum(p.numel() for p in network.parameters())
    files = f"{len(stored.files)} file{'s' * (len(stored.files) > 1)}"
    text = f"{count:,} parameters, {found.layers} layers {found.dim} wide, in {files}"
    return "ok", text, ""


def part(name: str, folders: list[Path], path: Path) -> Finding:
    """Whether a folder has it in a form that is read."""
    if home := inside(folders, name):
        return "ok", f"in {home}", ""
    for folder in folders:
        if (folder / PARTS[name]).exists():
            mend = (
                f"sfbench convert-wan {quoted(folder)} --out {quoted(f'{folder.name}-diffusers')}"
            )
            return "fail", f"{folder} has it in the official form, which is not read.", mend
    where = " or ".join(map(str, folders)) or str(path.parent)
    mend = f"sfbench doctor --model {quoted(f'wan:{path}?base=FOLDER')}"
    return "fail", f"It is not in {where}; a folder that has it can be named as base.", mend


def decoder(asked: str, channels: int) -> Finding:
    """What turns latents into pixels, and whether its tensors fit."""
    if asked == "wan":
        return "ok", "Wan's own, exact", ""
    apart = "its rows are ranked apart from those of Wan's own"
    if asked == "small":
        return "ok", f"small, of random weights; {apart}", ""
    path = Path(asked.removeprefix(wan_options.SMALL)).expanduser()
    try:
        network, _ = wan_small.found(path, channels)
    except CheckpointError as error:
        return "fail", str(error), ""
    count = sum(p.numel() for p in network.parameters())
    return "ok", f"small, {count:,} parameters, in {path}; {apart}", ""


def memory(found: Sizes, asked: Mapping[str, Any], encoder: float = 0.0) -> Finding:
    """What weights and the cache of keys and values take, against what is free.

    ``encoder``: bytes of the text encoder, which is on a GPU while it encodes a prompt.
    """
    published = wan_options.PUBLISHED.data.shape
    tokens = published[0] * published[1] // (wan.PIXELS * found.patch) ** 2
    each = getattr(torch, wan_options.half(asked["dtype"])).itemsize
    weights = each * sum(p.numel() for p in _empty(found, asked).parameters())
    if asked["dtype"] == "float8":
        weights *= 1.5  # those in 8 bits are made of the others, which stay
    frames = (asked["window"] or wan_options.NATIVE) + asked["sink"]
    cache = 2 * each * found.layers * found.dim * tokens * frames
    text = (
        f"weights {weights / GB:.2g} GB and {frames} frames of {published[1]}x{published[0]} in "
        f"the cache {cache / GB:.2g} GB as {asked['dtype']}"
    )
    cuda = asked["device"] == "cuda"
    if cuda and encoder:
        text += f", and while a prompt is encoded UMT5 {encoder / GB:.2g} GB"
    needed = weights + cache + (encoder if cuda else 0)
    free = torch.cuda.mem_get_info()[0] if cuda else free_memory()
    if free is None:
        return "ok", f"{text}; this system does not say how much is free.", ""
    text += f"; {free / GB:.0f} GB are free on the {asked['device']}"
    if needed > free:
        return "fail", f"{text}.", "sfbench doctor --model 'wan:PATH?dtype=bfloat16&window=9'"
    tight = needed > COMFORTABLE * free
    return "warn" if tight else "ok", f"{text}, which the VAE needs too.", ""


def _bytes(name: str, folders: list[Path]) -> float:
    """Of the files of a part."""
    home = inside(folders, name)
    return sum(path.stat().st_size for path in home.glob("*.safetensors")) if home else 0.0


def _empty(found: Sizes, asked: Mapping[str, Any]) -> DiT:
    """The network, without memory for its weights."""
    with torch.device("meta"):
        return DiT(wan.preset_of(found, asked))
