"""Finished videos made elsewhere: which there are, of what prompt and seed, and what they hold.

A folder of files named ``{prompt}-{seed}.mp4`` (as VBench names them; without a number the seed is
0), or a manifest: one JSON object a line with ``path`` and, where the name does not say them,
``prompt`` and ``seed``; ``fps`` and ``sha256`` (of the file) are checked where they are given.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from pydantic import Field, ValidationError

from .schema import Base, Geometry, Prompt, Request, digest
from .video import SUFFIXES, VideoError, stream

NUMBERED = re.compile(r"(?P<prompt>.+)-(?P<seed>\d{1,9})")
FPS_OFF = 0.01  # share by which a file's rate may differ from the manifest's


class FootageError(ValueError):
    """Videos that cannot be scored; the text is one sentence."""


class Line(Base):
    """One line of a manifest."""

    path: str
    """Relative to the manifest's folder."""
    prompt: str | None = None
    seed: int | None = Field(default=None, ge=0)
    fps: float | None = Field(default=None, gt=0)
    sha256: str | None = None


class Video(Base):
    """One finished video, its header read."""

    path: Path
    prompt: str
    seed: int
    sha256: str
    """Of the file."""
    geometry: Geometry | None
    """As the header says; ``None`` where it cannot be read."""
    fault: str = ""
    """Why it cannot be scored."""

    def request(self, otherwise: Geometry) -> Request:
        """What would have asked for it; its key holds the file's hash."""
        prompt = Prompt(id=digest(self.prompt), text=self.prompt)
        return Request(
            prompt=prompt,
            geometry=self.geometry or otherwise,
            seed=self.seed,
            options={"file": self.sha256},
        )


def find(source: Path) -> list[Video]:
    """The videos of a folder or of a ``.jsonl`` manifest, by prompt and seed.

    A file that cannot be read is among them, with its fault; names that cannot be told apart, an
    empty folder or a bad manifest raise :class:`FootageError`.
    """
    if source.is_dir():
        lines = [Line(path=p.name) for p in sorted(source.iterdir()) if _is_video(p)]
        root = source
    elif source.suffix == ".jsonl" and source.is_file():
        lines, root = _manifest(source), source.parent
    else:
        raise FootageError(f"'{source}' is neither a folder of videos nor a manifest.jsonl.")
    if not lines:
        raise FootageError(f"'{source}' holds no video ({', '.join(SUFFIXES)}).")
    videos = sorted((_video(root, line) for line in lines), key=lambda v: (v.prompt, v.seed))
    for one, other in pairwise(videos):
        if (one.prompt, one.seed) == (other.prompt, other.seed):
            raise FootageError(
                f"{one.path.name} and {other.path.name} are both the video of '{one.prompt}', seed "
                f"{one.seed}; name them <prompt>-<seed>, or write a manifest.jsonl."
            )
    if all(video.geometry is None for video in videos):
        raise FootageError(f"No video of '{source}' can be read: {videos[0].fault}")
    return videos


def typical(videos: Sequence[Video]) -> Geometry:
    """The geometry that most of the videos have; of equally many the largest."""
    known = Counter(video.geometry for video in videos if video.geometry)
    return max(known, key=lambda g: (known[g], g.height * g.width, g.frames))


def sizes(videos: Sequence[Video]) -> str:
    """How many videos there are of each size and rate, where they are not all alike; else empty."""
    known = Counter(
        f"{v.geometry.width}x{v.geometry.height}@{v.geometry.fps:g}" for v in videos if v.geometry
    )
    return ", ".join(f"{name} ({known[name]})" for name in sorted(known)) if len(known) > 1 else ""


# --- helpers --------------------------------------------------------------------------------------


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _manifest(path: Path) -> list[Line]:
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            lines.append(Line.model_validate(json.loads(text)))
        except (ValidationError, ValueError) as error:
            reason = str(error).splitlines()
            raise FootageError(
                f"{path.name}, line {number} is not a video ({' '.join(reason[:3])}); it is a JSON "
                "object with path, prompt, seed, fps, sha256."
            ) from None
    return lines


def _video(root: Path, line: Line) -> Video:
    path = root / line.path
    if not path.is_file():
        raise FootageError(f"There is no file '{line.path}' in {root}.")
    named = NUMBERED.fullmatch(path.stem)
    prompt = line.prompt or (named["prompt"] if named else path.stem)
    seed = int(named["seed"]) if line.seed is None and named and not line.prompt else line.seed or 0
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if line.sha256 not in (None, sha256):
        raise FootageError(
            f"{path.name} is not the file that the manifest names: its SHA-256 is "
            f"{sha256[:12]}..., not {str(line.sha256)[:12]}...; fetch it again."
        )
    geometry, fault = _header(path)
    if geometry and line.fps is not None and abs(line.fps - geometry.fps) > FPS_OFF * line.fps:
        fault = f"{path.name} runs at {geometry.fps:g} frames a second, not at {line.fps:g}."
    return Video(path=path, prompt=prompt, seed=seed, sha256=sha256, geometry=geometry, fault=fault)


def _header(path: Path) -> tuple[Geometry | None, str]:
    """What a file says of itself, or why it cannot be read."""
    try:
        with stream(path) as reader:
            shape = {"height": reader.height, "width": reader.width}
            return Geometry(frames=reader.declared_frames or 1, fps=reader.fps, **shape), ""
    except VideoError as error:
        return None, str(error)
