"""A Wan network that was trained here, as ``wan:`` finds it: a file of tensors beside its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .config import MethodConfig, Preset
from .recipes import from_dict


def trained_here(path: Path) -> tuple[Preset, MethodConfig] | None:
    """The preset and the recipe of a file's network, by the card beside it, if it has one."""
    card = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not card.is_file():
        return None
    try:
        found = json.loads(card.read_text())
    except (OSError, ValueError):
        return None  # whoever needs the file says so
    if not isinstance(found, dict) or not {"name", "preset", "recipe"} <= found.keys():
        return None
    preset = from_dict(found["preset"])
    return preset.of(found["name"]), preset.method(found["name"])


def options_of(path: Path) -> dict[str, Any]:
    """How it was trained to be run, as options of ``wan:``; nothing of other files."""
    found = trained_here(path)
    if found is None:
        return {}
    (preset, config), model = found, found[0].model
    sampler = config.sampler
    few = {"few": sampler.few, "steps": len(sampler.few)}
    return {
        "steps": sampler.steps,
        "shift": sampler.shift,
        "guidance": sampler.guidance,
        "sampler": sampler.kind,
        "chunk": model.frames_per_chunk,
        "window": model.window or preset.data.frames,
        "sink": model.sink,
        "positions": model.positions,
        **(few if sampler.kind == "renoise" else {}),
    }
