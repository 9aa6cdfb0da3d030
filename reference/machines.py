"""The machines a run is estimated for, and what of a run is missing on this one; no torch."""

from __future__ import annotations

import glob
import importlib.util
import os
from pathlib import Path

from sfbench.registry import providers

from . import elsewhere
from .ancestry import needs, needs_clips
from .catalogue import SHIPPED
from .config import ConfigError, Preset, unknown
from .estimate import SHARE, Machine, Row

GPUS = {  # memory in GB, and peak TFLOP/s of dense products in bf16 and in fp32, by their vendor
    "h100": (80, 989, 67),
    "h200": (141, 989, 67),
    "a100": (80, 312, 19.5),
    "rtx4090": (24, 165, 82.6),
}
CORE = 0.1  # TFLOP/s of a server's core; the shipped weights took 0.03 of them, as their cards say
CORE_BF16 = 0.02  # of one that has no instructions for it


def machine(
    preset: Preset,
    gpu: str | None = None,
    gpus: int = 1,
    memory_gb: float | None = None,
    tflops: float | None = None,
    share: float | None = None,
) -> Machine:
    """By name, with figures of one's own where given; a preset in fp32 is for the CPU."""
    bf16 = preset.engine.precision == "bf16"
    name = (gpu or ("h100" if bf16 else "cpu")).lower()
    if name not in (*GPUS, "cpu"):
        raise ConfigError(
            f"{unknown('GPU', name, (*GPUS, 'cpu'))} Any other: --memory-gb and --tflops, "
            "beside the nearest of these."
        )
    memory, fast, slow = GPUS.get(name, (host_memory() / 1e9, CORE_BF16 * cores(), CORE * cores()))
    return Machine(
        name,
        gpus,
        1e9 * (memory_gb or memory),
        1e12 * (tflops or (fast if bf16 else slow)),
        share or SHARE,
    )


def missing(preset: Preset, rows: list[Row], here: Machine, out: Path) -> list[str]:
    """What this machine and this run's folder lack, a sentence each."""
    names = [row.name for row in rows]
    return [
        *_devices(here),
        *_memory(rows, here),
        *_packages(preset, names),
        *_weights(preset, names, out / "weights"),
        *_videos(preset, names),
    ]


def _devices(wanted: Machine) -> list[str]:
    if wanted.cpu:
        return []
    found = len(glob.glob("/dev/nvidia[0-9]*"))
    if found >= wanted.gpus:
        return []
    return [f"GPUs: {wanted.gpus} wanted, {found or 'none'} here"]


def _memory(rows: list[Row], wanted: Machine) -> list[str]:
    room = wanted.memory / 1e9
    over = {row.name: row.gigabytes for row in rows if row.gigabytes > room}
    if not over:
        return []
    worst = max(over, key=lambda name: over[name])
    others = f", and so do {len(over) - 1} other rows" if len(over) > 1 else ""
    return [
        f"memory: '{worst}' takes about {over[worst]:.0f} GB of {room:.0f} GB a GPU{others}; more "
        "GPUs with engine.sharding=hybrid, a smaller engine.micro_batch, or "
        "engine.checkpoint_blocks=true take less"
    ]


def _packages(preset: Preset, rows: list[str]) -> list[str]:
    """Each with what needs it, and what to install."""
    own, extra = "sfbench", "'sfbench[{}]'".format
    wanted = {name: ("all training", own) for name in ("torch", "pydantic", "safetensors")}
    dataset = preset.data.dataset
    if preset.text.kind == "umt5":
        wanted |= dict.fromkeys(("transformers", "ftfy"), ("the text encoder", extra("diffusers")))
    if "codec" in elsewhere.built_on(preset, rows):
        wanted["diffusers"] = "the codec", extra("diffusers")
    if dataset.startswith(("folder:", "shards:")):
        wanted["av"] = "videos", own
    if dataset.startswith("shards:"):
        wanted["datasets"] = "shards of videos", extra("shards")
    if any(preset.method(row).lora.rank for row in rows):
        wanted["peft"] = "adapters", extra("lora")
    absent = {name: why for name, why in wanted.items() if importlib.util.find_spec(name) is None}
    return [
        f"package {name}, for {what}: pip install {how}" for name, (what, how) in absent.items()
    ]


def _weights(preset: Preset, rows: list[str], weights: Path) -> list[str]:
    """Others' that are not given, then our own that are not made yet."""
    found = elsewhere.missing(preset, rows)
    for row in rows:
        for ancestor in needs(preset, row):
            given = preset.method(ancestor).given if ancestor in preset.methods else ""
            if ancestor in rows or given or _at_hand(preset, ancestor, weights):
                continue
            line = f"weights of row '{ancestor}': --method {ancestor} makes them"
            found += [line] if line not in found else []
    return found


def _at_hand(preset: Preset, row: str, weights: Path) -> bool:
    """Whether a row's weights are in the run's folder of weights, or ship."""
    name = f"{preset.name}-{row}.safetensors"
    return any((folder / name).is_file() for folder in (weights, SHIPPED))


def _videos(preset: Preset, rows: list[str]) -> list[str]:
    dataset = preset.data.dataset
    kind, _, where = dataset.partition(":")
    known = providers("datasets")
    if kind not in known:
        return [f"videos: {unknown('dataset', kind, known)}"]
    clips = [row for row in rows if needs_clips(preset, row) and not preset.method(row).given]
    if kind == "prompts" and clips:
        return [f"videos: '{clips[0]}' learns from true clips, and {dataset} has prompts alone"]
    if kind not in ("folder", "shards", "prompts") or glob.glob(where):
        return []
    what = "prompts" if kind == "prompts" else "videos"
    enough = "" if clips or kind == "prompts" else "; prompts:FILE will do"
    return [f"{what}: nothing is at {where} (data.dataset){enough}"]


def host_memory() -> float:
    """Bytes of this machine."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def cores() -> int:
    """Of this machine that this process may use; OMP_NUM_THREADS, if set, is how many it will."""
    return int(os.environ.get("OMP_NUM_THREADS") or 0) or len(os.sched_getaffinity(0))
