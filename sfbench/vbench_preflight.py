"""What stands against a VBench run, told before it starts: weights, packages, videos.

Left to itself the package skips a video that it cannot read, scores a single frame as NaN, and
finds a missing weight file after minutes; so all of this is looked at first, without importing it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from .schema import Base
from .vbench import DIMENSIONS, InputError, SetupError, known, some
from .vbench_files import INSTALLED_AS, packages, probe, weight_faults
from .video import VideoError, stream

Mode = Literal["custom_input", "vbench_standard"]

SAMPLES = 5
"""Videos of each prompt in ``vbench_standard``, named ``{prompt}-{0..4}.mp4``."""
FULL_INFO = "VBench_full_info.json"
VIDEO_LIKE = {".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif", ".jpg", ".png"}


class Readiness(Base):
    """Whether one dimension can run, and if not, everything that stands against it."""

    dimension: str
    faults: tuple[str, ...]
    videos: int
    """Videos it would score."""
    prompts: int | None = None
    """Prompts of the dimension in ``vbench_standard``."""
    complete: int | None = None
    """How many of them have all their videos."""

    @property
    def ready(self) -> bool:
        """Nothing stands against it."""
        return not self.faults


class Preflight(Base):
    """What :func:`preflight` found."""

    python: str
    mode: Mode
    videos: int
    faults: tuple[str, ...]
    """Videos that no dimension can score, one sentence each."""
    dimensions: tuple[Readiness, ...]

    @property
    def ready(self) -> tuple[str, ...]:
        """The dimensions that can run."""
        return tuple(d.dimension for d in self.dimensions if d.ready and not self.faults)

    def lines(self) -> list[str]:
        """The findings for a user, one line each."""
        first = f"VBench with {self.python}, {self.mode}: {self.videos} videos"
        lines = [first, *(f"  {fault}" for fault in self.faults)]
        for d in self.dimensions:
            word = "ready" if d.dimension in self.ready else "cannot run"
            here = "" if d.prompts is None else _presence(d)
            lines += [f"{d.dimension}: {word}{here}", *(f"  {fault}" for fault in d.faults)]
        return lines


def _presence(d: Readiness) -> str:
    return f"; {d.complete} of {d.prompts} prompts x {SAMPLES} present"


def preflight(
    python: str | Path,
    dimensions: Sequence[str],
    videos: Path,
    mode: Mode = "custom_input",
    env: Mapping[str, str] | None = None,
    *,
    decode: bool = True,
) -> Preflight:
    """What is missing before ``dimensions`` can score the folder ``videos``; loads no network.

    ``env`` decides where weights lie (default: this process's environment). ``decode=False`` opens
    each video without counting its frames. Raises :class:`SetupError` if ``python`` cannot be run.
    """
    env = os.environ if env is None else env
    names = sorted({package for name in dimensions for package in packages(name)})
    origins = probe(python, names, env)
    found, strangers = find_videos(videos)
    frames, broken = _frames(found, decode)
    prompts = {}
    if mode == "vbench_standard":
        prompts = standard_prompts(origins)
        strangers += _unnamed(found, {p for each in prompts.values() for p in each})
    return Preflight(
        python=str(python),
        mode=mode,
        videos=len(found),
        faults=tuple(strangers + broken),
        dimensions=tuple(_readiness(d, mode, frames, origins, prompts, env) for d in dimensions),
    )


def _readiness(
    dimension: str,
    mode: Mode,
    frames: Mapping[str, int | None],
    origins: Mapping[str, str | None],
    prompts: Mapping[str, Sequence[str]],
    env: Mapping[str, str],
) -> Readiness:
    missing = [name for name in packages(dimension) if not origins[name]]
    faults = [
        f"package {name} is not installed there ({INSTALLED_AS.get(name, name)})."
        for name in missing
    ]
    shipped = {name for name, origin in origins.items() if origin}
    faults += weight_faults(dimension, env, shipped)
    if mode == "custom_input" and not known(dimension).custom:
        faults.append("it needs vbench_standard: its questions belong to VBench's own prompts.")
    scored, whole = list(frames), None
    if mode == "vbench_standard":
        wanted = {prompt: standard_names(prompt) for prompt in prompts[dimension]}
        scored = [name for names in wanted.values() for name in names if name in frames]
        whole = sum(all(name in frames for name in names) for names in wanted.values())
    least = least_frames(dimension)
    for name in scored:
        count = frames[name]
        if count is not None and count < least:
            faults.append(f"{name} has {count} of the {least} frames that it needs.")
    if not scored:
        faults.append("there is no video for it.")
    return Readiness(
        dimension=dimension,
        faults=tuple(faults),
        videos=len(scored),
        prompts=len(prompts[dimension]) if prompts else None,
        complete=whole,
    )


# --- videos ---------------------------------------------------------------------------------------


def find_videos(folder: Path) -> tuple[list[Path], list[str]]:
    """The ``.mp4`` files of a folder by name, and a sentence on each that VBench would not read.

    It ignores other containers without a word, takes a picture for a video of one frame, and fails
    on ``.MP4``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds the .mp4 files.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_LIKE)
    others = [path.name for path in files if path.suffix != ".mp4"]
    faults = [
        f"{name} is not a .mp4 file, so it would not be scored; convert it." for name in others
    ]
    return [path for path in files if path.suffix == ".mp4"], faults


def least_frames(dimension: str) -> int:
    """Fewest frames that have a score; motion is judged by leaving every second one out."""
    return 2 if dimension == "temporal_flickering" else 3


def standard_names(prompt: str) -> list[str]:
    """File names of a prompt's samples."""
    return [f"{prompt}-{index}.mp4" for index in range(SAMPLES)]


def standard_prompts(origins: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """VBench's own prompts of each dimension, from the package that :func:`probe` found."""
    origin = origins.get("vbench")
    path = Path(origin or "vbench").parent / FULL_INFO
    if not origin or not path.is_file():
        raise SetupError(f"VBench's prompt list {path} is missing; install vbench==0.1.5 there.")
    entries = json.loads(path.read_bytes())
    return {
        name: tuple(e["prompt_en"] for e in entries if name in e["dimension"])
        for name in DIMENSIONS
    }


def _unnamed(found: Sequence[Path], prompts: set[str]) -> list[str]:
    wanted = {name for prompt in prompts for name in standard_names(prompt)}
    others = [path.name for path in found if path.name not in wanted]
    if not others:
        return []
    return [f"Named after no prompt ({{prompt}}-0.mp4 to -{SAMPLES - 1}.mp4): {some(others)}."]


def _frames(found: Sequence[Path], decode: bool) -> tuple[dict[str, int | None], list[str]]:
    """Frames of each video that opens (``None``: not counted), and what is wrong with others."""
    counts: dict[str, int | None] = {}
    faults = []
    for path in found:
        try:
            with stream(path) as reader:
                counts[path.name] = sum(1 for _ in reader) if decode else None
        except VideoError as error:
            faults.append(str(error))
    return counts, faults
