"""One stream of the live page: a model played chunk by chunk, timed, measured, encoded and kept.

One thread plays it (:meth:`Stream.play`). Another, the server's, may meanwhile change its prompt,
stop it, or say how many frames the page has drawn: a model is never further ahead of what is drawn
than it must be to keep up, so a page that is slow or hidden costs no memory and no work.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from threading import Condition
from typing import Any

from .arms import BadGeometry, ensure_chunk
from .clock import Timed
from .demo_drift import Drift
from .interfaces import Frames, Preparing, VideoModel
from .schema import Prompt, Request

AHEAD_SECONDS = 0.4
"""Of video that may wait to be drawn beyond what is drawn while the next chunk is made."""
IDLE_SECONDS = 60.0
"""How long a page may draw nothing before its stream is ended: others may be waiting."""
KEPT_BYTES = 2**29
"""Of a stream's frames that are kept for a recording."""
RECENT_CHUNKS = 16
"""Behind the pace that is shown."""
PNG_PIXELS = 256 * 256
"""Frames up to this size are sent without loss."""
JPEG_QUALITY = 90
SENTENCE_CHARACTERS = 500

Message = dict[str, Any] | bytes
"""An event as JSON, or a frame: its number (four bytes, the first one first) and its image file."""
Tell = Callable[[Message], None]
"""How a stream talks to its page; raises :class:`Gone` where that is closed."""


class Gone(Exception):
    """The page is closed."""


class Stream:
    """What one page asked for."""

    def __init__(self, model: VideoModel, request: Request, tell: Tell) -> None:
        self.model, self.request = model, request
        self.kept: list[Frames] = []
        """The chunks from the first on, up to :data:`KEPT_BYTES`."""
        self.made = self.kept_frames = 0
        self._tell, self._kept_bytes = tell, 0
        self._next: Prompt | None = None  # for the model, with its next chunk
        self._changed = Condition()  # of what the page asks for:
        self._wanted: Prompt | None = None
        self._drawn, self._stopped = 0, False

    # --- asked by the page ------------------------------------------------------------------------

    def switch(self, prompt: Prompt) -> None:
        """Another prompt, from the next chunk on."""
        with self._changed:
            self._wanted = prompt
            self._changed.notify()

    def drawn(self, frames: int) -> None:
        """So many frames are drawn, of those that were made."""
        with self._changed:
            self._drawn = max(self._drawn, min(frames, self.made))
            self._changed.notify()

    def stop(self) -> None:
        """End it at the next chunk."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    # --- played by the worker ---------------------------------------------------------------------

    def play(self) -> None:
        """Generate until the end, and say why it ended; the model's generator is always closed."""
        try:
            try:
                why, text = self._run()
            except Gone:
                return
            except BadGeometry as error:
                why, text = "failed", f"The model {error}."
            except ValueError as error:  # what models refuse a request with
                why, text = "failed", sentence(str(error))
            except (Exception, SystemExit) as error:
                why, text = (
                    "failed",
                    sentence(f"The model failed ({type(error).__name__}: {error})"),
                )
            self._tell({"type": "ended", "why": why, "text": text, "frames": self.made})
        except Gone:
            pass

    def _run(self) -> tuple[str, str]:
        geometry = self.request.geometry
        self._tell({"type": "started", **_shown(self.request.prompt), "frames": geometry.frames})
        drift = Drift(self.request.prompt.text, geometry)
        with closing(self._chunks()) as source:
            timed = Timed(lambda: source)
            lengths: list[int] = []
            while self.made < geometry.frames:
                if end := self._wait(timed.seconds):
                    return end
                if prompt := self._accepted():
                    self._next, drift = prompt, Drift(prompt.text, geometry)
                chunk = next(timed, None)
                if chunk is None:
                    raise BadGeometry(f"gave {self.made} of {geometry.frames} frames")
                ensure_chunk(chunk, geometry)
                chunk = chunk[: geometry.frames - self.made].copy()  # a model may reuse its buffer
                if prompt:
                    self._tell({"type": "switched", **_shown(prompt), "frame": self.made})
                lengths.append(len(chunk))
                self._send(chunk)
                self._tell({"type": "chunk", "made": self.made, "drift": drift.add(chunk)}
                           | pace(lengths, timed.seconds))  # fmt: skip
        return "done", f"All {self.made} frames are made."

    def _chunks(self) -> Generator[Frames, None, None]:
        """The model's chunks, each under the newest prompt."""
        chunks = iter(self.model.generate(self.request))
        try:
            while True:
                prompt, self._next = self._next, None
                try:
                    chunk = next(chunks) if prompt is None else _send_prompt(chunks, prompt)
                except StopIteration:
                    return
                yield chunk
        finally:
            if isinstance(chunks, Generator):
                chunks.close()

    def _wait(self, seconds: list[float]) -> tuple[str, str] | None:
        """Until the page needs another chunk; or why there will be none."""
        fps = self.request.geometry.fps
        ahead = max(1.0, fps * (AHEAD_SECONDS + (seconds[-1] if seconds else 0.0)))

        def needed() -> bool:
            return self._stopped or self.made - self._drawn < ahead

        with self._changed:
            if not self._changed.wait_for(needed, IDLE_SECONDS):
                return "idle", f"Ended, because for {IDLE_SECONDS:g} s no frame was watched."
            return ("stopped", f"Stopped after {self.made} frames.") if self._stopped else None

    def _accepted(self) -> Prompt | None:
        """The prompt to switch to; one that the model cannot read is refused, and nothing ends."""
        with self._changed:
            prompt, self._wanted = self._wanted, None
        if prompt is not None and isinstance(self.model, Preparing):
            scope = next((s for s in self.model.card.scopes if s != "e2e"), "e2e")
            update = {"prompt": prompt, "options": {"scope": scope}}
            try:
                self.model.prepare(self.request.model_copy(update=update))
            except ValueError as error:
                self._tell({"type": "refused", "text": sentence(str(error))})
                return None
        return prompt

    def _send(self, chunk: Frames) -> None:
        """Each frame of a chunk, as an image."""
        first, self._kept_bytes = self.made, self._kept_bytes + chunk.nbytes
        if self._kept_bytes <= KEPT_BYTES:
            self.kept.append(chunk)
            self.kept_frames += len(chunk)
        self.made += len(chunk)
        for number, frame in enumerate(chunk, first):
            self._tell(struct.pack(">I", number) + encoded(frame))


def pace(lengths: list[int], seconds: list[float]) -> dict[str, float | None]:
    """The wait for the first chunk, and frames a second since; both in the model alone."""
    frames, took = lengths[1:][-RECENT_CHUNKS:], seconds[1:][-RECENT_CHUNKS:]
    fps = sum(frames) / sum(took) if took and sum(took) else None
    return {"first_frame_s": seconds[0], "fps": fps}


def encoded(frame: Frames) -> bytes:
    """A frame ``uint8 [H, W, 3]`` as PNG, or as JPEG if it is large."""
    import cv2

    large = frame.shape[0] * frame.shape[1] > PNG_PIXELS
    suffix, how = (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) if large else (".png", [])
    _, data = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), how)
    return data.tobytes()


def sentence(text: str) -> str:
    """Whatever a model says, as one sentence."""
    text = " ".join(text.split())[:SENTENCE_CHARACTERS].rstrip(". ") or "The model failed"
    return f"{text[0].upper()}{text[1:]}."


def _send_prompt(chunks: Iterator[Frames], prompt: Prompt) -> Frames:
    if not isinstance(chunks, Generator):
        raise TypeError("the card says switches_prompt, but generate() is not a generator")
    chunk: Frames = chunks.send(prompt)
    return chunk


def _shown(prompt: Prompt) -> dict[str, str]:
    return {"prompt": prompt.text}
