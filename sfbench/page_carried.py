"""Clips out of the page that was made before, for run directories that hold them no more.

A repository keeps records and the page, but not the clips, which are large. So that the page can be
made again from what is there, the clips in it are decoded and known by the SHA-256 of their pixels.
A record names its clip by the same hash: what agrees is the recorded clip, to the last pixel, and
what somebody changed agrees with no record and is not taken. Only clips that the page holds without
loss can be told so (:func:`.page_media.unsheet`); a film is compressed, and never taken over.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from .interfaces import Frames
from .page_media import SMALL, SMALL_FRAMES, unsheet
from .plain_files import JSON_BYTES, FileError, read_plain
from .video import pixel_hash

BLOCK = re.compile(r'<script type="application/json" id="clips">(.*?)</script>', re.DOTALL)
Side = Annotated[int, Field(ge=1, le=SMALL)]
Count = Annotated[int, Field(ge=1, le=SMALL_FRAMES)]


class _Sheet(BaseModel):
    """What the page's script is told of a clip, as far as it is needed here."""

    source: str
    frames: Count
    across: Count
    width: Side
    height: Side


class _Other(BaseModel):
    """A film, or whatever else a page of another version holds: nothing that can be checked."""


class _Played(BaseModel):
    scenes: list[list[Annotated[_Sheet | _Other | None, Field(union_mode="left_to_right")]]]


def clips_of(page: Path) -> dict[str, Frames]:
    """The clips without loss that a page holds, by the SHA-256 of their pixels.

    Empty where there is no page, or one that is not read: a link, too large, none of ours.
    """
    try:
        held = BLOCK.search(read_plain(page, JSON_BYTES).decode())
        played = _Played.model_validate_json(held[1] if held else '{"scenes": []}')
    except (FileError, UnicodeDecodeError, ValidationError):
        return {}
    found = {}
    for clip in (clip for scene in played.scenes for clip in scene if isinstance(clip, _Sheet)):
        frames = unsheet(clip.source, clip.frames, clip.across, clip.width, clip.height)
        if frames is not None:
            found[pixel_hash(frames)] = frames
    return found
