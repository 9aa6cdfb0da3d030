"""What ships, by name; imports nothing heavy, so that listing is fast."""

from __future__ import annotations

from pathlib import Path

from .config import load_preset, preset_names

SHIPPED = Path(__file__).parent / "weights"
DEFAULT_PRESET = "tiny"
FEW_STEP_BASELINES = ("diffusion-forcing", "teacher-forcing")  # also shown undistilled, in 4 steps


def shipped() -> list[str]:
    """Model names for ``--model``: every shipped generator, and the undistilled few-step rows."""
    head = f"{DEFAULT_PRESET}-"
    found = {path.stem.removeprefix(head) for path in SHIPPED.glob(f"{head}*.safetensors")}
    ordered = [name for name in presets()[DEFAULT_PRESET] if name in found and name != "codec"]
    few = [f"{name}@4" for name in FEW_STEP_BASELINES if name in found]
    return [f"reference:{name}" for name in (*ordered, *few)]


def presets() -> dict[str, list[str]]:
    """Each preset's methods, in the order of its file."""
    return {name: list(load_preset(name).methods) for name in preset_names()}
