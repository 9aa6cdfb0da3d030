"""What the open pages of a demo share: the model's one worker, the queue for it, the recordings."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .demo_drift import described
from .demo_stream import Stream
from .interfaces import VideoModel
from .schema import Geometry
from .video import write_playable

PAGES = 8
"""Open at once; each may hold the frames of its last stream."""
WAITING = 4
"""Streams that may wait for the one that runs."""
RECORDINGS = 100


class Refused(Exception):
    """What a page asked for cannot be had; the text is one sentence."""


@dataclass(frozen=True)
class Demo:
    """What is shown."""

    model: VideoModel
    geometry: Geometry
    """``frames``: the longest stream."""
    examples: tuple[str, ...]
    """Prompts that the model can read."""
    out: Path
    """Folder of the recordings; it is there."""


class Stage:
    """The model's one worker, the queue for it, and the recordings."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="demo")
        self.pages = 0
        self.recordings: set[str] = set()
        self._line: list[asyncio.Event] = []
        self._writing = threading.Lock()

    def hello(self) -> dict[str, Any]:
        """All that a page must know of the model."""
        card, geometry = self.demo.model.card, self.demo.geometry
        return {
            "type": "hello",
            "version": __version__,
            "model": card.name,
            "notes": card.notes,
            "native": card.native_frames,
            "switches": card.switches_prompt,
            "width": geometry.width,
            "height": geometry.height,
            "fps": geometry.fps,
            "seconds": geometry.frames / geometry.fps,
            "examples": self.demo.examples,
            "drift": described(),
        }

    @property
    def full(self) -> bool:
        """Whether nobody else may wait."""
        return len(self._line) > WAITING

    @asynccontextmanager
    async def turn(self, told: Callable[[int], Awaitable[None]]) -> AsyncIterator[None]:
        """Wait for the worker; ``told`` of every change of the number that are before one."""
        moved = asyncio.Event()
        self._line.append(moved)
        try:
            while True:
                moved.clear()
                if not (before := self._line.index(moved)):
                    break
                await told(before)
                await moved.wait()
            yield
        finally:
            self._line.remove(moved)
            for other in self._line:
                other.set()

    def record(self, stream: Stream) -> tuple[str, int]:
        """Write the frames so far as an mp4 for any player; the file's name and its frames."""
        with self._writing:
            if len(self.recordings) >= RECORDINGS:
                raise Refused(f"{RECORDINGS} recordings are written; start the demo again.")
            frames = np.concatenate(tuple(stream.kept))
            words = re.sub(r"[^a-z0-9]+", "-", stream.request.prompt.text.lower())[:60].strip("-")
            number = 1
            while (self.demo.out / (name := f"{number:03d}-{words or 'stream'}.mp4")).exists():
                number += 1
            write_playable(self.demo.out / name, frames, self.demo.geometry.fps)
            self.recordings.add(name)
            return name, len(frames)
