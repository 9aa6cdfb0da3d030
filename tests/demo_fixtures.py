"""A demo served in this process on a free port, a model that does as it is told, and a client."""

from __future__ import annotations

import http.client
import json
import struct
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from websockets.sync.client import ClientConnection, connect

from sfbench.demo_server import listening, server
from sfbench.demo_stage import Demo, Stage
from sfbench.interfaces import Frames, VideoModel
from sfbench.schema import Geometry, ModelCard, Prompt, Request

HEIGHT, WIDTH, FPS = 24, 32, 16.0
CHUNK = 2
WAIT = 20.0  # seconds until a test that hangs fails
FIRST, SECOND = "a first prompt", "a second prompt"


class Film:
    """Frames that tell their number and their prompt; a prompt with a cat is refused.

    With ``gated`` each chunk waits until the test lets it pass.
    """

    card = ModelCard(name="film", chunk=CHUNK, switches_prompt=True, native_frames=4)

    def __init__(self, *, gated: bool = False) -> None:
        self.prompts: list[str] = []  # of each chunk that was begun
        self.begun = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self.gate = threading.Semaphore(0) if gated else None

    def prepare(self, request: Request) -> None:
        if "cat" in request.prompt.text:
            raise ValueError("the word 'cat' is not in this model's vocabulary")

    def generate(
        self, request: Request, context: Frames | None = None
    ) -> Generator[Frames, Prompt | None, None]:
        prompt = request.prompt
        try:
            self.prepare(request)
            for first in range(0, request.geometry.frames, CHUNK):
                self.prompts.append(prompt.text)
                self.begun.release()
                if self.gate:
                    assert self.gate.acquire(timeout=3 * WAIT)  # a test gives up before
                count = min(CHUNK, request.geometry.frames - first)
                prompt = (yield frames(prompt.text, first, count)) or prompt
        finally:
            self.closed.release()


class Still(Film):
    """One that cannot switch."""

    card = ModelCard(name="still", chunk=CHUNK)


def frames(text: str, first: int, count: int = 1) -> Frames:
    """Frame ``n`` under a prompt: a ramp from level ``n``, tinted by the prompt's length."""
    ramp = (
        np.arange(WIDTH)[None, None, :, None] + np.arange(first, first + count)[:, None, None, None]
    )
    tint = np.array([0, len(text), 2 * len(text)])
    level = np.broadcast_to(3 * ramp + tint, (count, HEIGHT, WIDTH, 3))
    return (level % 256).astype(np.uint8)


class Served:
    """A demo that is being served."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage, self.port = stage, port
        self.address = f"http://127.0.0.1:{port}"

    def client(self, origin: str | None = None) -> Client:
        """An open page of its own."""
        return Client(self.port, origin or self.address)


@contextmanager
def served(
    model: VideoModel, out: Path, seconds: float = 60, side: tuple[int, int] = (HEIGHT, WIDTH)
) -> Iterator[Served]:
    """A demo in a thread of this process."""
    height, width = side
    geometry = Geometry(frames=round(FPS * seconds), height=height, width=width, fps=FPS)
    stage = Stage(Demo(model, geometry, (FIRST, SECOND), out))
    own = listening(0)
    running = server(stage)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [own]})
    port = own.getsockname()[1]
    thread.start()
    try:
        yield Served(stage, port)
    finally:
        running.should_exit = True
        thread.join(WAIT)
        stage.worker.shutdown()
        own.close()
        assert not thread.is_alive()


class Client:
    """A page without a browser. It draws every frame at once, unless told otherwise."""

    def __init__(self, port: int, origin: str | None) -> None:
        self.draws = True
        self.images: dict[int, Frames] = {}
        self.heard: list[dict[str, Any]] = []
        self._open = ExitStack()
        self.socket: ClientConnection = self._open.enter_context(
            connect(
                f"ws://127.0.0.1:{port}/stream",
                origin=origin,
                open_timeout=WAIT,
                ping_interval=None,
            )
        )

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def say(self, kind: str, **more: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **more}))

    def start(self, prompt: str = FIRST, seconds: float = 10, **more: Any) -> None:
        self.say("start", prompt=prompt, seconds=seconds, **more)

    def hear(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message of a kind, with these fields; what comes before it is only noted."""
        while True:
            message = self.socket.recv(timeout=WAIT)
            if isinstance(message, bytes):
                (number,) = struct.unpack(">I", message[:4])
                image = cv2.imdecode(np.frombuffer(message[4:], np.uint8), cv2.IMREAD_COLOR)
                assert image is not None
                self.images[number] = np.asarray(image[..., ::-1], np.uint8)
                if self.draws:
                    self.say("drawn", frames=number + 1)
                continue
            told: dict[str, Any] = json.loads(message)
            self.heard.append(told)
            if told["type"] == kind and fields.items() <= told.items():
                return told


def get(
    live: Served, path: str, host: str | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=WAIT)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{live.port}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def played(recorded: Frames, made: Frames) -> bool:
    """Whether a recording shows these frames: enlarged by a whole factor, nearly without loss."""
    factor = recorded.shape[1] // made.shape[1]
    small = recorded[:, factor // 2 :: factor, factor // 2 :: factor]
    return small.shape == made.shape and bool(np.abs(small.astype(int) - made).mean() < 4)
