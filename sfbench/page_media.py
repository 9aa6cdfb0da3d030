"""A clip as it goes into the page, and back out of it.

Small clips become one picture that holds all frames, without loss (WebP), and can be taken apart
into the very pixels again (:func:`unsheet`). Larger ones become H.264, scaled down.
Beside either stands a strip: a few frames for print and for a page without a script.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .interfaces import Frames
from .video import VideoError, read_clip, stream

SMALL = 64  # pixels a side up to which a clip is kept without loss
SMALL_FRAMES = 400
LARGEST = 320  # pixels of the longer side of a larger clip
LONGEST = 480  # frames kept of a larger clip: every n-th
QUALITIES = (26, 34, 40)  # H.264's crf; the first whose file fits its share is taken
STRIP_SIDE = 96  # pixels of a frame of a larger clip's strip
GUTTER = 2
LOSSLESS, LOSSY = 101, 70  # OpenCV's quality of WebP
WEBP = "data:image/webp;base64,"


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
    record: str = ""
    """Key of the record that names it."""
    sha256: str = ""
    """Of the clip's pixels, as its record holds it."""

    @property
    def size(self) -> int:
        """Characters within the page."""
        return len(self.source) + len(self.strip)


def load(path: Path, at: Sequence[int], share: int) -> Shown | None:
    """A clip as it goes into the page, in about ``share`` characters; ``None`` if unreadable."""
    try:
        with stream(path) as reader:
            small = max(reader.height, reader.width) <= SMALL
            declared = reader.declared_frames or SMALL_FRAMES + 1
        if small and declared <= SMALL_FRAMES:
            return sheet(read_clip(path, SMALL_FRAMES)[0], at)
        return _video(path, at, declared, share)
    except VideoError:
        return None  # a clip that was moved or damaged is not shown; `sfbench verify` names it


def sheet(frames: Frames, at: Sequence[int]) -> Shown:
    """All frames of a small clip in one picture, without loss."""
    count, height, width = frames.shape[:3]
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    whole = np.zeros((across * down, height, width, 3), np.uint8)
    whole[:count] = frames
    rows = whole.reshape(down, across, height, width, 3).swapaxes(1, 2)
    picture = _webp(rows.reshape(down * height, across * width, 3), LOSSLESS)
    strip = _strip({t: frames[t] for t in at if t < count}, at, LOSSLESS)
    return Shown("sheet", picture, count, 1, width, height, across, *strip)


def unsheet(source: str, frames: int, across: int, width: int, height: int) -> Frames | None:
    """The frames of a :func:`sheet`; ``None`` where ``source`` is no such picture."""
    import cv2

    try:
        coded = base64.b64decode(source.removeprefix(WEBP), validate=True)
    except binascii.Error:
        return None
    down = math.ceil(frames / across)
    if _webp_size(coded) != (across * width, down * height):
        return None
    picture = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (down * height, across * width, 3):
        return None
    pixels = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    rows = pixels.reshape(down, height, across, width, 3).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(-1, height, width, 3)[:frames])


def _webp_size(coded: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP without loss declares: known before anything is decoded."""
    if len(coded) < 25 or coded[:4] + coded[8:16] + coded[20:21] != b"RIFFWEBPVP8L/":
        return None
    bits = int.from_bytes(coded[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


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
        film = base64.b64encode(_h264(kept, fps / every, crf)).decode()
        source = f"data:video/mp4;base64,{film}"
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
    return WEBP + base64.b64encode(coded.tobytes()).decode()
