"""One open page of a demo: what it may say, checked, and what is done about it.

All it says is a message of :data:`ASKED`; what is wrong with one is answered in one sentence, and
nothing else happens.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from .demo_stage import WAITING, Refused, Stage
from .demo_stream import Gone, Message, Stream, sentence
from .schema import Base, Prompt, Request

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

PROMPT_CHARACTERS = 2000
SEND_SECONDS = 30.0
"""How long a page may take to read one message."""


# --- what a page may say --------------------------------------------------------------------------


class Start(Base):
    """Generate from a prompt."""

    type: Literal["start"]
    prompt: str = Field(max_length=PROMPT_CHARACTERS)
    seed: int = Field(default=0, ge=0, lt=2**31)
    seconds: float = Field(gt=0)


class Switch(Base):
    """Another prompt, from the next chunk on."""

    type: Literal["switch"]
    prompt: str = Field(max_length=PROMPT_CHARACTERS)


class Drawn(Base):
    """How many frames of the stream the page has drawn."""

    type: Literal["drawn"]
    frames: int = Field(ge=0)


class Plain(Base):
    """End the stream, or write what there is of it to a file."""

    type: Literal["stop", "record"]


ASKED: TypeAdapter[Start | Switch | Drawn | Plain] = TypeAdapter(
    Annotated[Start | Switch | Drawn | Plain, Field(discriminator="type")]
)


def asked(text: str | None) -> Start | Switch | Drawn | Plain:
    """A message, or :class:`Refused`."""
    try:
        return ASKED.validate_json(text or "")
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = " ".join(str(part) for part in first["loc"]) or "message"
        text = f"What the page sent cannot be used ({where}: {first['msg']})"
        raise Refused(sentence(text)) from None


def prompt_of(text: str, number: int) -> Prompt:
    """A prompt as the models take it."""
    words = " ".join(text.split())
    if not words:
        raise Refused("The prompt is empty; write what the video should show.")
    return Prompt(id=f"demo-{number}", text=words)


# --- one page -------------------------------------------------------------------------------------


class Page:
    """One open page."""

    def __init__(self, socket: WebSocket, stage: Stage) -> None:
        self._socket, self._stage = socket, stage
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._stream: Stream | None = None
        self._playing: asyncio.Task[None] | None = None
        self._recording: asyncio.Task[None] | None = None
        self._queued = False
        self._prompts = 0

    async def serve(self) -> None:
        """Answer until the page is closed; then its stream ends at its next chunk."""
        try:
            await self._send(self._stage.hello())
            while (message := await self._socket.receive())["type"] == "websocket.receive":
                try:
                    await self._answer(asked(message.get("text")))
                except Refused as refusal:
                    await self._send({"type": "refused", "text": str(refusal)})
        except Gone:
            pass
        finally:
            self._stop()
            tasks = [task for task in (self._playing, self._recording) if task]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, wish: Start | Switch | Drawn | Plain) -> None:
        stream = self._stream if self._playing and not self._playing.done() else None
        if isinstance(wish, Start):
            self._start(wish, stream)
        elif isinstance(wish, Switch):
            if not self._stage.demo.model.card.switches_prompt:
                raise Refused("This model cannot change its prompt while it streams.")
            if stream is None or self._queued:
                raise Refused("No stream is running; start one.")
            stream.switch(self._prompt(wish.prompt))
        elif isinstance(wish, Drawn):
            if stream:
                stream.drawn(wish.frames)
        elif wish.type == "stop":
            if self._stop():
                text = "Stopped, before its turn had come."
                await self._send({"type": "ended", "why": "stopped", "text": text, "frames": 0})
        else:
            self._record()

    def _start(self, wish: Start, running: Stream | None) -> None:
        geometry, stage = self._stage.demo.geometry, self._stage
        if running:
            raise Refused("A stream of this page is running; stop it first.")
        if wish.seconds * geometry.fps > geometry.frames + 0.5:
            raise Refused(f"A stream has {geometry.frames / geometry.fps:g} s at the most.")
        if stage.full:
            raise Refused(f"{WAITING} others are waiting already; try again later.")
        frames = max(1, round(wish.seconds * geometry.fps))
        request = Request(
            prompt=self._prompt(wish.prompt),
            geometry=geometry.model_copy(update={"frames": frames}),
            seed=wish.seed,
        )
        self._stream, self._queued = Stream(stage.demo.model, request, self._tell), True
        self._playing = asyncio.create_task(self._play(self._stream))

    async def _play(self, stream: Stream) -> None:
        try:
            async with self._stage.turn(self._place):
                self._queued = False
                await self._loop.run_in_executor(self._stage.worker, stream.play)
        except Gone:
            pass
        finally:
            stream.stop()

    async def _place(self, before: int) -> None:
        await self._send({"type": "queued", "before": before})

    def _stop(self) -> bool:
        """End the stream at its next chunk, or leave the queue: then true."""
        if self._stream:
            self._stream.stop()
        waiting = self._queued and self._playing is not None and not self._playing.done()
        return waiting and self._playing is not None and self._playing.cancel()

    def _record(self) -> None:
        if self._recording and not self._recording.done():
            raise Refused("A recording is being written; wait for it.")
        if not self._stream or not self._stream.kept:
            raise Refused("There is nothing to record yet.")
        self._recording = asyncio.create_task(self._write(self._stream))

    async def _write(self, stream: Stream) -> None:
        try:
            name, frames = await asyncio.to_thread(self._stage.record, stream)
            told = {"name": name, "frames": frames, "missing": stream.made - frames}
            await self._send({"type": "recording", **told})
        except (Refused, OSError, ValueError) as error:
            await self._send({"type": "refused", "text": f"No recording was written: {error}"})

    def _prompt(self, text: str) -> Prompt:
        self._prompts += 1
        return prompt_of(text, self._prompts)

    def _tell(self, message: Message) -> None:
        """Send from the worker's thread: it goes on when the message is on its way."""
        try:
            sent = asyncio.run_coroutine_threadsafe(self._send(message), self._loop)
            sent.result(SEND_SECONDS)
        except Exception as error:  # a closed socket, a closed loop, a page that does not read
            raise Gone from error

    async def _send(self, message: Message) -> None:
        try:
            async with self._sending:
                if isinstance(message, bytes):
                    await self._socket.send_bytes(message)
                else:
                    await self._socket.send_text(json.dumps(message, allow_nan=False))
        except Exception as error:  # each server has its own for a socket that is closed
            raise Gone from error
