"""What ships, by name; imports nothing heavy, so that listing is fast."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from .recipes import load_preset, preset_names

SHIPPED = Path(__file__).parent / "weights"
DEFAULT_PRESET = "tiny"
HEADLINE = (
    "codec",
    "diffusion-forcing",
    "teacher-forcing",
    "teacher",
    "causvid",
    "self-forcing-dmd",
)
"""Rows whose weights ship; the default preset's others come back from their recipes."""
FEW_STEP_BASELINES = ("diffusion-forcing", "teacher-forcing")  # also shown undistilled, in 4 steps


def shipped() -> list[str]:
    """Model names for ``--model``: every shipped generator, and the undistilled few-step rows."""
    head = f"{DEFAULT_PRESET}-"
    found = {path.stem.removeprefix(head) for path in SHIPPED.glob(f"{head}*.safetensors")}
    ordered = [name for name in HEADLINE if name in found and name != "codec"]
    few = [f"{name}@4" for name in FEW_STEP_BASELINES if name in found]
    return [f"reference:{name}" for name in (*ordered, *few)]


def weights() -> dict[str, tuple[Path, str | None]]:
    """Each weights file that should be here, and the SHA-256 on its card (``None``: no card)."""
    files = [SHIPPED / f"{DEFAULT_PRESET}-{name}.safetensors" for name in HEADLINE]
    return {path.stem: (path, _hash_on_card(path.with_suffix(".json"))) for path in files}


@cache  # reading them all takes a while, and a listing asks twice
def presets() -> dict[str, list[str]]:
    """Each preset's methods, in the order of its file."""
    return {name: list(load_preset(name).methods) for name in preset_names()}


def _hash_on_card(card: Path) -> str | None:
    return str(json.loads(card.read_text())["sha256"]) if card.is_file() else None
