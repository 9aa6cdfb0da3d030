"""The page's clips: the same prompts and seeds of several rows side by side, inside the page.

Small clips become one picture that holds all frames, without loss (WebP). Larger ones become H.264,
scaled down. Below them stand strips: a few frames at the same times, for print and for a page
without a script. All of it is bounded by :data:`BUDGET`; what does not fit is left out, whole, and
the page says so. Truth comes first, then the ranked rows, then models of native length.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .interfaces import Frames
from .leaderboard import Group, Row
from .page_looks import Looks, Sources, folder_of, key_of, native_frames
from .schema import ClipRef
from .store import StoreError, inside, read_records
from .video import VideoError, read_clip, stream

Key = tuple[str, str, int]
"""Prompt id, text and seed."""

BUDGET = 2_800_000  # characters of all clips and strips of the page
PROMPTS = 3
SMALL = 64  # pixels a side up to which a clip is kept without loss
SMALL_FRAMES = 400
LARGEST = 320  # pixels of the longer side of a larger clip
LONGEST = 480  # frames kept of a larger clip: every n-th
QUALITIES = (26, 34, 40)  # H.264's crf; the first whose file fits its share is taken
LEAST_SHARE = 8  # into which the budget is divided at least
STRIP_FRAMES = 9
STRIP_SIDE = 96  # pixels of a frame of a larger clip's strip
GUTTER = 2
LOSSLESS, LOSSY = 101, 70  # OpenCV's quality of WebP


@dataclass(frozen=True)
class Shown:
    """One clip."""

    kind: str
    """``sheet``, a picture of all frames in rows; ``video``."""
    source: str
    """A ``data:`` address."""
    frames: int
    """Of the clip itself."""
    every: int
    """Frames of the clip that one kept frame stands for."""
    width: int
    height: int
    across: int
    """Frames in a row of the sheet."""
    strip: str
    """A ``data:`` address of a picture."""
    strip_size: tuple[int, int]
    """Its width and height."""

    @property
    def size(self) -> int:
        """Characters within the page."""
        return len(self.source) + len(self.strip)


@dataclass(frozen=True)
class Scene:
    """One prompt and seed, as each row shows it (``None``: it kept no such clip)."""

    id: str
    prompt: str
    seed: int
    clips: tuple[Shown | None, ...] = ()


@dataclass(frozen=True)
class Side:
    """One row's place in the display."""

    label: str
    series: str
    note: str


@dataclass(frozen=True)
class Watch:
    """All that is shown, and what is not."""

    group: Group
    sides: tuple[Side, ...]
    scenes: tuple[Scene, ...]
    frames: int
    fps: float
    native: int | None
    at: tuple[int, ...]
    """The frames of a strip."""
    left_out: tuple[str, ...]

    @property
    def large(self) -> bool:
        """Whether any clip has more pixels than a small tile shows."""
        return any(clip.kind == "video" for scene in self.scenes for clip in scene.clips if clip)


def watch(groups: Sequence[Group], known: Looks, sources: Sources) -> Watch | None:
    """The clips of the first board that has any; ``None`` where none was kept."""
    for group in groups:
        folders = _folders(group, sources)
        rows = [row for row in _order(group) if folders.get(row.label)]
        if rows:
            return _watch(group, rows, folders, known)
    return None


# --- which ----------------------------------------------------------------------------------------


def truth_row(group: Group) -> Row | None:
    """The reference row that is the true video itself, by name; else the first."""
    named = [row for row in group.reference if "truth" in row.result.model.name.split(":")[-1:]]
    return next(iter(named or group.reference), None)


def _order(group: Group) -> list[Row]:
    first = truth_row(group)
    others = [row for row in group.unranked if row.result.model.kind == "model"]
    return [*([first] if first else []), *group.ranked, *others, *group.native]


def _folders(group: Group, sources: Sources) -> dict[str, dict[Key, tuple[Path, ClipRef]]]:
    """The free clips of each row, by prompt and seed, in the order of its records."""
    found = {}
    for row in _order(group):
        root = folder_of(row, sources)
        if root is not None and (clips := _kept(root)):
            found[row.label] = clips
    return found


def _kept(root: Path) -> dict[Key, tuple[Path, ClipRef]]:
    """Of a run directory; a path that leads out of it is not followed."""
    found: dict[Key, tuple[Path, ClipRef]] = {}
    try:
        records = read_records(root)
    except StoreError:
        return {}
    for record in records:
        request, clip = record.request, record.clip
        if clip is None or request.arm != "free":
            continue
        try:
            path = inside(root, clip.path)
        except StoreError:
            continue
        if path.is_file():
            key = (request.prompt.id, request.prompt.text, request.seed)
            found.setdefault(key, (path, clip))
    return found


def _watch(
    group: Group,
    rows: Sequence[Row],
    folders: Mapping[str, Mapping[Key, tuple[Path, ClipRef]]],
    known: Looks,
) -> Watch | None:
    every = list(dict.fromkeys(key for row in rows for key in folders[row.label]))
    held = {key: sum(key in folders[row.label] for row in rows) for key in every}
    chosen = sorted(every, key=lambda key: -held[key])[:PROMPTS]  # stable: else as recorded
    clips = {key: [folders[row.label].get(key) for row in rows] for key in chosen}
    frames = max(clip.frames for row in clips.values() for _, clip in filter(None, row))
    fps = next(clip.fps for row in clips.values() for _, clip in filter(None, row))
    at = tuple(round(t) for t in np.linspace(0, frames - 1, min(STRIP_FRAMES, frames)))
    scenes: list[Scene] = []
    room, too_large = BUDGET, []
    for key in chosen:
        shown = [p and load(p[0], at, BUDGET // LEAST_SHARE) for p in clips[key]]
        if scenes and sum(clip.size for clip in shown if clip) > room:
            continue  # a further prompt is shown whole or not at all
        for n, clip in enumerate(shown):
            if clip and clip.size > room:
                too_large.append(rows[n].label)
                shown[n] = None
            elif clip:
                room -= clip.size
        if any(shown):
            scenes.append(Scene(*key, clips=tuple(shown)))
    if not scenes:
        return None
    kept = [n for n in range(len(rows)) if any(scene.clips[n] for scene in scenes)]
    return Watch(
        group,
        tuple(_side(rows[n], known) for n in kept),
        tuple(Scene(s.id, s.prompt, s.seed, tuple(s.clips[n] for n in kept)) for s in scenes),
        frames,
        fps,
        native_frames(group),
        at,
        _left_out(group, rows, every, scenes, too_large),
    )


def _side(row: Row, known: Looks) -> Side:
    note = f"rank {row.rank}" if row.rank != "-" else row.note
    if row.result.model.kind == "reference-row":
        note = "true video"
    elif not row.result.model.causal:
        note = "native length only"
    return Side(row.label, known[key_of(row)].series, note)


def _left_out(
    group: Group,
    rows: Sequence[Row],
    every: Sequence[Key],
    scenes: Sequence[Scene],
    too_large: Sequence[str],
) -> tuple[str, ...]:
    """What is not shown, a sentence each."""
    told = []
    if len(every) > len(scenes):
        told.append(f"Shown are {len(scenes)} of {len(every)} prompts and seeds that were kept.")
    shown = {row.label for row in rows}
    without = [r.label for r in group.ranked if r.label not in shown]
    if without:
        told.append(f"No clip was kept of {', '.join(without)}.")
    cheats = [r.label for r in group.rows if r.result.model.kind == "cheat" and r.rank == "-"]
    if cheats:
        told.append(f"Cheats are not shown: {', '.join(cheats)}.")
    if too_large:
        bound = f"{BUDGET / 1e6:.1f} MB"
        told.append(f"Left out, for clips may take {bound} of this page: {', '.join(too_large)}.")
    if any(c.kind == "video" for s in scenes for c in s.clips if c):
        told.append(f"Clips are scaled to at most {LARGEST} pixels and compressed with loss.")
    return tuple(told)


# --- how ------------------------------------------------------------------------------------------


def load(path: Path, at: Sequence[int], share: int) -> Shown | None:
    """A clip as it goes into the page, in about ``share`` characters; ``None`` if unreadable."""
    try:
        with stream(path) as reader:
            small = max(reader.height, reader.width) <= SMALL
            declared = reader.declared_frames or SMALL_FRAMES + 1
        if small and declared <= SMALL_FRAMES:
            return _sheet(read_clip(path, SMALL_FRAMES)[0], at)
        return _video(path, at, declared, share)
    except VideoError:
        return None  # a clip that was moved or damaged is not shown; `sfbench verify` names it


def _sheet(frames: Frames, at: Sequence[int]) -> Shown:
    count, height, width = frames.shape[:3]
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    whole = np.zeros((across * down, height, width, 3), np.uint8)
    whole[:count] = frames
    sheet = whole.reshape(down, across, height, width, 3).swapaxes(1, 2)
    picture = _webp(sheet.reshape(down * height, across * width, 3), LOSSLESS)
    strip = _strip({t: frames[t] for t in at if t < count}, at, LOSSLESS)
    return Shown("sheet", picture, count, 1, width, height, across, *strip)


def _video(path: Path, at: Sequence[int], declared: int, share: int) -> Shown | None:
    every = max(1, math.ceil(declared / LONGEST))
    kept: list[Frames] = []
    chosen: dict[int, Frames] = {}
    count, fps = 0, 0.0
    with stream(path) as reader:
        fps = reader.fps
        for count, frame in enumerate(reader, 1):
            if (count - 1) % every == 0 and len(kept) < LONGEST:
                kept.append(_fitted(frame, LARGEST, even=True))
            if count - 1 in at:
                chosen[count - 1] = _fitted(frame, STRIP_SIDE)
    height, width = kept[0].shape[:2]
    strip = _strip(chosen, at, LOSSY)
    for crf in QUALITIES:
        source = _data("video/mp4", _h264(kept, fps / every, crf))
        if len(source) <= share:
            return Shown("video", source, count, every, width, height, 1, *strip)
    return Shown("video", source, count, every, width, height, 1, *strip)


def _h264(frames: Sequence[Frames], fps: float, crf: int) -> bytes:
    """What every browser plays; a key frame each half second, so that it can be scrubbed."""
    import av

    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"crf": str(crf), "preset": "medium", "g": str(max(1, round(fps / 2)))}
        rate = Fraction(fps).limit_denominator(1001)
        encoder: Any = container.add_stream("libx264", rate=rate, options=options)
        encoder.height, encoder.width = frames[0].shape[:2]
        encoder.pix_fmt = "yuv420p"
        encoder.codec_context.thread_count = 1  # equal clips give equal bytes
        for frame in frames:
            container.mux(encoder.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(encoder.encode(None))
    return file.getvalue()


def _fitted(frame: Frames, longest: int, *, even: bool = False) -> Frames:
    """A frame no larger than ``longest`` a side; ``even``: as H.264 needs it."""
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, longest / max(height, width))
    sides = [max(2, round(side * scale)) for side in (height, width)]
    if even:
        sides = [side - side % 2 for side in sides]
    return np.asarray(cv2.resize(frame, (sides[1], sides[0]), interpolation=cv2.INTER_AREA))


def _strip(
    frames: Mapping[int, Frames], at: Sequence[int], quality: int
) -> tuple[str, tuple[int, int]]:
    """Frames beside each other, nothing where the clip has ended; and the picture's size."""
    height, width = next(iter(frames.values())).shape[:2]
    sheet = np.zeros((height, (width + GUTTER) * len(at) - GUTTER, 4), np.uint8)
    for n, frame in ((n, frames[t]) for n, t in enumerate(at) if t in frames):
        left = n * (width + GUTTER)
        sheet[:, left : left + width, :3] = frame
        sheet[:, left : left + width, 3] = 255
    return _webp(sheet, quality), (sheet.shape[1], sheet.shape[0])


def _webp(pixels: Frames, quality: int) -> str:
    """``[H, W, 3]`` or, with opacity, ``[H, W, 4]`` as a ``data:`` address."""
    import cv2

    order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    options = [cv2.IMWRITE_WEBP_QUALITY, quality]
    done, coded = cv2.imencode(".webp", cv2.cvtColor(pixels, order), options)
    assert done
    return _data("image/webp", coded.tobytes())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
