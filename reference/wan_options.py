"""What stands after the question mark of ``wan:``: options, their defaults and their checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sfbench.models import ModelError, options
from sfbench.registry import unknown

from .engine import KERNELS, Switches
from .recipes import load_preset
from .wan_trained import options_of

PUBLISHED = load_preset("wan-1.3b")
"""What was published: sizes, the native clip, the length of text."""
RANDOM = {"random-1.3b": "base", "random-14b": "teacher"}
"""Its rows whose networks are drawn."""
NATIVE = PUBLISHED.data.frames
OPTIONS: dict[str, Callable[[str], Any]] = {
    "steps": int,  # of the few-step list, even before the warp
    "shift": float,
    "guidance": float,
    "sampler": str,  # renoise (few-step students) or euler (weights that were not distilled)
    "chunk": int,  # latent frames made together; 1: frame by frame
    "window": int,  # latent frames seen, the chunk included
    "sink": int,  # first latent frames that are always seen
    "positions": str,  # relative to the window, or absolute (as the released weights were trained)
    "base": str,  # a Wan folder that has what PATH lacks
    "text": str,  # with random weights: words (rows by hash) or umt5 (random, at full size)
    "device": str,  # cpu or cuda; by default the GPU where there is one
    "dtype": str,  # of matrix products; by default bfloat16 on a GPU, else float32
    "vae": str,  # the VAE's dtype, where it should differ
    "compile": str,  # on or off: kernels of their own for norms and rotations, and for the VAE
    "graphs": str,  # on or off: each step as one CUDA graph
    "attention": str,  # the kernel to try first
    "overlap": str,  # on or off: decode a chunk while the next is made
    "decoder": str,  # wan (exact), small:FILE (TAEHV), or small (random, with random weights)
}
DEFAULTS: dict[str, Any] = {
    "steps": 4,
    "shift": 5.0,
    "guidance": 1.0,
    "sampler": "renoise",
    "chunk": 3,
    "window": NATIVE,
    "sink": 0,
    "positions": "relative",
    "base": "",
    "text": "words",
    "decoder": "wan",
}
SMALL = "small:"
"""What stands before the file of a small decoder."""
CHOICES = {
    "sampler": ("renoise", "euler"),
    "positions": ("relative", "absolute"),
    "text": ("words", "umt5"),
    "device": ("cpu", "cuda"),
    "dtype": ("float32", "bfloat16", "float8"),
    "compile": ("on", "off"),
    "graphs": ("on", "off"),
    "overlap": ("on", "off"),
    "attention": tuple(KERNELS),
    "vae": ("float32", "bfloat16", "float16"),
}


def asked_of(rest: str) -> tuple[Path, dict[str, Any]]:
    """The path, and all options with their defaults: of what was trained here, its recipe's."""
    name, _, query = rest.partition("?")
    path, given = Path(name).expanduser(), _checked(options(query, OPTIONS, "wan"))
    asked = _defaults(given) | options_of(path) | given
    if "steps" in given:
        asked.pop("few", None)  # an even list in place of the one that it was trained on
    if asked.get("graphs") == "on" and asked["device"] != "cuda":
        raise ModelError("wan: graphs=on records CUDA graphs, and this is to run on the CPU.")
    asked["vae"] = asked.get("vae", half(asked["dtype"]))
    if asked["decoder"] == "small" and path.name not in RANDOM:
        raise ModelError(
            "The option decoder=small of wan: draws random weights, which goes with "
            f"{' or '.join(RANDOM)} alone; name a file with decoder=small:FILE."
        )
    return path, asked


def half(dtype: str) -> str:
    """What is not made in 8 bits where products are."""
    return "bfloat16" if dtype == "float8" else dtype


def switches(asked: Mapping[str, Any]) -> Switches:
    """Those of the device, but where they are asked for."""
    found = Switches.of(asked["device"])
    return Switches(
        graphs=_on(asked, "graphs", found.graphs),
        compiled=_on(asked, "compile", found.compiled),
        attention=asked.get("attention", found.attention),
        eight_bit=asked["dtype"] == "float8",
    )


def overlaps(asked: Mapping[str, Any]) -> bool:
    """Whether a chunk is decoded while the next is made."""
    return _on(asked, "overlap", asked["device"] == "cuda")


def _on(asked: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    return asked[name] == "on" if name in asked else otherwise


def _defaults(asked: Mapping[str, Any]) -> dict[str, Any]:
    """On a GPU, where there is one, products are halved."""
    device = asked.get("device", "cuda" if torch.cuda.is_available() else "cpu")
    return DEFAULTS | {"device": device, "dtype": "bfloat16" if device == "cuda" else "float32"}


def _checked(asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("device") == "cuda" and not torch.cuda.is_available():
        raise ModelError("wan: device=cuda is asked for, and torch sees no GPU; `sfbench doctor`.")
    decoder = asked.get("decoder", "wan")
    named = decoder.startswith(SMALL) and decoder != SMALL
    if decoder not in ("wan", "small") and not named:
        raise ModelError(unknown("decoder", decoder, ("wan", "small", "small:FILE")))
    for key, value in asked.items():
        if key in CHOICES and value not in CHOICES[key]:
            raise ModelError(unknown(key, value, CHOICES[key]))
        if (key in ("steps", "chunk") and value < 1) or (key in ("window", "sink") and value < 0):
            raise ModelError(f"The option {key}={value} of wan: is too small.")
        if key in ("shift", "guidance") and not (math.isfinite(value) and value > 0):
            raise ModelError(f"The option {key}={value} of wan: must be a number above 0.")
    return asked
