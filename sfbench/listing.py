"""What there is by name, without importing any of it."""

from __future__ import annotations

import json

from .registry import UnknownName, load, providers, unknown

MODEL_FORMS = {
    "reference:NAME[@STEPS]": "a reference model or PATH.safetensors; STEPS replaces its own",
    "cheat:NAME": "frozen, loop or noise: looks good without generating anything",
    "oracle:NAME": "truth or observer: the world itself, or an ideal reader of the context",
    "truth:codec": "the truth through the reference's codec",
    "replay:truth": "the true continuation itself, of any dataset",
    "videos:FOLDER": "finished videos, named <prompt id>-<seed>.mp4",
    "cmd:PROGRAM": "a program that speaks the protocol of examples/README.md, in any language",
    "diffusers:FOLDER": "a text-to-video pipeline of diffusers: ?steps=4&dtype=bfloat16 and so on",
    "wan:PATH": "Wan2.1 weights, or random-1.3b, as a causal stream: ?steps=4&window=9 and so on",
    "MODULE:ATTRIBUTE": "your own object with generate(request, context=None)",
}

Listing = dict[str, dict[str, str]]
"""Section -> name -> a few words."""


def everything(what: str | None = None) -> Listing:
    """All sections, or the one asked for."""
    makers = {
        "tasks": lambda: providers("tasks"),
        "models": _models,
        "metrics": lambda: providers("metrics"),
        "datasets": lambda: providers("datasets"),
        "features": lambda: providers("features"),
        "methods": _methods,
        "presets": _presets,
    }
    if what is not None and what not in makers:
        raise UnknownName(unknown("listing", what, makers))
    return {name: make() for name, make in makers.items() if what in (None, name)}


def render(listing: Listing, as_json: bool) -> str:
    """As text for people, or as JSON."""
    if as_json:
        return json.dumps(listing, indent=1)
    blocks = []
    for section, names in listing.items():
        width = max(map(len, names), default=0)
        lines = [f"  {name:{width}}  {words}".rstrip() for name, words in names.items()]
        blocks.append("\n".join([section, *(lines or ["  (none)"])]))
    return "\n\n".join(blocks)


def _models() -> dict[str, str]:
    named = dict.fromkeys(load("listings", "models")(), "ships with sfbench")
    schemes = {form.partition(":")[0] for form in MODEL_FORMS}
    others = {
        f"{scheme}:...": target
        for scheme, target in providers("models").items()
        if scheme not in schemes
    }
    return named | MODEL_FORMS | others


def _methods() -> dict[str, str]:
    presets: dict[str, list[str]] = load("listings", "presets")()
    names = dict.fromkeys(method for methods in presets.values() for method in methods)
    return {
        name: "in " + ", ".join(preset for preset, methods in presets.items() if name in methods)
        for name in names
    }


def _presets() -> dict[str, str]:
    presets: dict[str, list[str]] = load("listings", "presets")()
    return {name: ", ".join(methods) for name, methods in presets.items()}
