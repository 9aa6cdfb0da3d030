"""One stream of the demo: prompts, back-pressure, endings, measures, what is kept."""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from sfbench import clock, demo_stream, metrics_video
from sfbench.demo_drift import CHANGES, Drift, described
from sfbench.demo_stream import Gone, Message, Stream, encoded, pace
from sfbench.interfaces import Frames
from sfbench.metrics_view import View
from sfbench.registry import load
from sfbench.schema import Geometry, ModelCard, Prompt, Request, SceneRef
from sfbench.tasks import judge
from sfbench.tasks.live import LiveViolation

from demo_fixtures import CHUNK, FIRST, FPS, HEIGHT, SECOND, WIDTH, Film, frames

WORLD = load("datasets", "shapes-1")("shapes-1", 32, FPS)
SCENE = SceneRef(dataset="shapes-1", split="test", index=3)


class Log:
    """A page that draws all it is sent, or does as it is told."""

    def __init__(self, on: Callable[[dict[str, Any]], None] = lambda told: None) -> None:
        self.events: list[dict[str, Any]] = []
        self.numbers: list[int] = []
        self.stream: Stream | None = None
        self.on = on

    def __call__(self, message: Message) -> None:
        assert self.stream
        if isinstance(message, bytes):
            self.numbers += struct.unpack(">I", message[:4])
            return self.stream.drawn(self.numbers[-1] + 1)
        self.events.append(message)
        self.on(message)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]


def played(model: Any, count: int = 12, log: Log | None = None) -> tuple[Stream, Log]:
    """A stream that was played to its end."""
    log = log or Log()
    geometry = Geometry(frames=count, height=HEIGHT, width=WIDTH, fps=FPS)
    request = Request(prompt=Prompt(id="p", text=FIRST), geometry=geometry, seed=0)
    log.stream = Stream(model, request, log)
    log.stream.play()
    return log.stream, log


def asking(when: int, ask: Callable[[Stream], None]) -> Log:
    """A page that asks for something after so many frames."""

    def on(told: dict[str, Any]) -> None:
        if told["type"] == "chunk" and told["made"] == when:
            assert log.stream
            ask(log.stream)

    log = Log(on)
    return log


# --- prompts --------------------------------------------------------------------------------------


def test_all_frames_come_in_order_and_are_kept() -> None:
    model = Film()
    stream, log = played(model, 7)
    assert log.numbers == list(range(7))
    assert log.of("ended")[0]["why"] == "done"
    assert [event["made"] for event in log.of("chunk")] == [2, 4, 6, 7]
    assert (np.concatenate(stream.kept) == frames(FIRST, 0, 7)).all()
    assert model.closed.acquire(blocking=False)


def test_a_new_prompt_reaches_the_model_with_the_next_chunk() -> None:
    model = Film()
    stream, log = played(
        model, 12, asking(4, lambda stream: stream.switch(Prompt(id="q", text=SECOND)))
    )
    assert model.prompts == [FIRST] * 2 + [SECOND] * 4
    assert log.of("switched") == [{"type": "switched", "prompt": SECOND, "frame": 4}]
    both = [frames(FIRST, 0, 4), frames(SECOND, 4, 8)]
    assert (np.concatenate(stream.kept) == np.concatenate(both)).all()


def test_a_prompt_that_the_model_cannot_read_is_refused_and_the_stream_goes_on() -> None:
    model = Film()
    _, log = played(model, 12, asking(4, lambda stream: stream.switch(Prompt(id="q", text="cat"))))
    assert [told["text"] for told in log.of("refused")] == [
        "The word 'cat' is not in this model's vocabulary."
    ]
    assert not log.of("switched") and model.prompts == [FIRST] * 6
    assert log.of("ended")[0]["why"] == "done"


# --- endings --------------------------------------------------------------------------------------


def test_a_page_that_draws_nothing_stops_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stream, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(Stream, "drawn", lambda self, frames: None)
    model = Film()
    stream, log = played(model, 1000)
    assert log.of("ended")[0]["why"] == "idle"
    assert "no frame was watched" in log.of("ended")[0]["text"]
    assert 6 < stream.made < 100 and len(log.numbers) == stream.made
    assert model.closed.acquire(blocking=False)


def test_more_than_was_sent_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stream, "IDLE_SECONDS", 0.05)
    log = Log(lambda told: log.stream.drawn(10**9) if told["type"] == "started" else None)
    real = Stream.drawn
    monkeypatch.setattr(Stream, "drawn", lambda s, n: real(s, n) if n > 1000 else None)
    stream, _ = played(Film(), 1000, log)
    assert stream.made < 100


def test_stopped_at_the_next_chunk() -> None:
    model = Film()
    stream, log = played(model, 1000, asking(6, Stream.stop))
    assert stream.made == 6 and len(model.prompts) == 3
    assert log.of("ended") == [
        {"type": "ended", "why": "stopped", "text": "Stopped after 6 frames.", "frames": 6}
    ]
    assert model.closed.acquire(blocking=False)


def test_a_page_that_is_gone_ends_it() -> None:
    def leave(stream: Stream) -> None:
        raise Gone

    model = Film()
    stream, log = played(model, 1000, asking(4, leave))
    assert stream.made == 4 and not log.of("ended")
    assert model.closed.acquire(blocking=False)


class Broken:
    """Fails in a way of one's choice after the first chunk."""

    card = ModelCard(name="broken", switches_prompt=True)

    def __init__(self, then: Any) -> None:
        self.then = then

    def generate(self, request: Request) -> Iterator[Frames]:
        yield frames(FIRST, 0, CHUNK)
        if isinstance(self.then, BaseException):
            raise self.then
        if self.then is not None:
            yield self.then


@pytest.mark.parametrize(
    ("then", "text"),
    [
        (RuntimeError("out of\nmemory"), "The model failed (RuntimeError: out of memory)."),
        (SystemExit(3), "The model failed (SystemExit: 3)."),
        (ValueError("it makes 32x32 pixels"), "It makes 32x32 pixels."),
        (None, "The model gave 2 of 12 frames."),
        (np.zeros((2, 3, 3, 3), np.uint8), "The model gave uint8 [2, 3, 3, 3]; a chunk is uint8"),
        ("no array", "The model gave a str; a chunk is a numpy array"),
    ],
)
def test_a_model_that_fails_is_told_of_in_one_sentence(then: Any, text: str) -> None:
    stream, log = played(Broken(then))
    (ended,) = log.of("ended")
    assert ended["why"] == "failed" and ended["text"].startswith(text)
    assert "\n" not in ended["text"]
    assert stream.kept_frames == CHUNK


def test_a_model_that_reuses_its_buffer_is_copied() -> None:
    class Reusing(Broken):
        def generate(self, request: Request) -> Iterator[Frames]:
            buffer = np.zeros((CHUNK, HEIGHT, WIDTH, 3), np.uint8)
            for n in range(6):
                buffer[:] = n
                yield buffer

    stream, _ = played(Reusing(None))
    assert [int(chunk[0, 0, 0, 0]) for chunk in stream.kept] == list(range(6))


def test_a_card_that_promises_too_much() -> None:
    class Liar(Broken):
        def generate(self, request: Request) -> Iterator[Frames]:
            return iter([frames(FIRST, n, CHUNK) for n in range(0, 12, CHUNK)])

    switch = asking(4, lambda stream: stream.switch(Prompt(id="q", text=SECOND)))
    _, log = played(Liar(None), 12, switch)
    assert "generate() is not a generator" in log.of("ended")[0]["text"]


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stream, "KEPT_BYTES", 5 * HEIGHT * WIDTH * 3)
    stream, _ = played(Film(), 13)  # the last chunk is short, and must not be kept after a gap
    assert stream.made == 13 and stream.kept_frames == 4
    assert (np.concatenate(stream.kept) == frames(FIRST, 0, 4)).all()


# --- figures --------------------------------------------------------------------------------------


def test_pace_is_of_the_chunks_after_the_first() -> None:
    assert pace([2], [0.5]) == {"first_frame_s": 0.5, "fps": None}
    assert pace([2, 2, 4], [0.5, 0.1, 0.2]) == {"first_frame_s": 0.5, "fps": pytest.approx(20)}
    many = [1.0, *[9.0] * 5, *[0.25] * demo_stream.RECENT_CHUNKS]
    assert pace([2] * len(many), many)["fps"] == pytest.approx(8)


def test_only_the_wait_for_the_model_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still but while the model works, and while its page is told."""
    now = [0.0]
    monkeypatch.setattr(clock, "perf_counter", lambda: now[0])

    class Working(Film):
        def prepare(self, request: Request) -> None:
            now[0] += 0.5

        def generate(
            self, request: Request, context: Frames | None = None
        ) -> Generator[Frames, Prompt | None, None]:
            now[0] += 1.0
            for n in range(0, 12, CHUNK):
                now[0] += 0.1
                yield frames(FIRST, n, CHUNK)

    def on(told: dict[str, Any]) -> None:
        now[0] += 7.0
        if told["type"] == "chunk" and log.stream:
            log.stream.switch(Prompt(id="q", text=SECOND))

    log = Log(on)
    played(Working(), 12, log)
    last = log.of("chunk")[-1]
    assert last["first_frame_s"] == pytest.approx(1.1)
    assert last["fps"] == pytest.approx(20)


def test_change_is_the_last_second_minus_the_first() -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (40, HEIGHT, WIDTH, 3), dtype=np.uint8)
    video[24:] //= 2
    drift = Drift("no prompt of the world", Geometry(frames=40, height=HEIGHT, width=WIDTH, fps=8))
    found = [drift.add(video[n : n + 4]) for n in range(0, 40, 4)]
    assert all(found[0][name] is None for name in CHANGES)
    for measure in metrics_video.MEASURES:
        if measure.name in CHANGES:
            values = [measure.per_frame(View(frame, 0, 8, None)) for frame in video]
            change = np.mean(values[-8:]) - np.mean(values[:8])
            assert found[-1][measure.name] == pytest.approx(change)
    assert found[1] == {**dict.fromkeys(CHANGES, 0), "violation": None}
    assert found[-1]["exposure"] < -0.2


def test_the_oracle_sees_live_what_the_board_sees_afterwards() -> None:
    text = WORLD.prompt(SCENE)
    uneven = [int(0.7 * n) + (n % 5 == 0) for n in range(48)]  # steps that break the law of motion
    video = WORLD.clip(SCENE, 48)[uneven].copy()
    video[30:] = 255 - video[30:]
    afterwards = judge.free_scores(video, text).series["violation"]
    live = LiveViolation(text, 32, 32)
    found = [live.add(video[n : n + 2]) for n in range(0, 48, 2)]
    assert all(not values for values in found[:5])
    flat = np.concatenate([np.array(values) for values in found])
    assert flat.shape == (48,)
    assert flat.reshape(8, 6).mean(axis=1) == pytest.approx(np.array(afterwards), abs=1e-4)
    assert flat[:24].min() == 0 and flat[:24].max() == 0.5


def test_drift_of_the_embedded_world_has_its_violation() -> None:
    text, geometry = WORLD.prompt(SCENE), Geometry(frames=32, height=32, width=32, fps=FPS)
    drift, video = Drift(text, geometry), WORLD.clip(SCENE, 32)
    found = [drift.add(video[n : n + 2]) for n in range(0, 32, 2)]
    assert found[0]["violation"] is None
    assert found[-1]["violation"] == pytest.approx(0, abs=0.01)
    wide = geometry.model_copy(update={"width": 48})
    assert Drift(text, wide).add(np.zeros((2, 32, 48, 3), np.uint8))["violation"] is None


def test_a_new_prompt_starts_the_measures_anew() -> None:
    _, log = played(
        Film(), 64, asking(32, lambda stream: stream.switch(Prompt(id="q", text=SECOND)))
    )
    values = [event["drift"]["exposure"] for event in log.of("chunk")]
    assert values[15] is not None and values[16] is None and values[24] is not None


def test_what_is_shown_has_units() -> None:
    assert [shown["name"] for shown in described()] == [*CHANGES, "violation"]
    assert all(shown["unit"] for shown in described())


def test_small_frames_are_sent_without_loss_and_large_ones_small() -> None:
    small = np.random.default_rng(0).integers(0, 256, (33, 17, 3), dtype=np.uint8)
    data = encoded(small)
    assert data.startswith(b"\x89PNG")
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back is not None and (back[..., ::-1] == small).all()
    large = np.zeros((480, 640, 3), np.uint8)
    large[..., 0] = 200
    data = encoded(large)
    assert data.startswith(b"\xff\xd8")
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert back is not None and abs(int(back[9, 9, 2]) - 200) < 5 and back[9, 9, 0] < 5


def test_a_generator_is_asked_for_no_more_than_it_must_give() -> None:
    """The work after the last frame is not waited for."""
    asked: list[int] = []

    class Counting(Film):
        def generate(
            self, request: Request, context: Frames | None = None
        ) -> Generator[Frames, Prompt | None, None]:
            for n in range(0, 12, CHUNK):
                asked.append(n)
                yield frames(FIRST, n, CHUNK)
            asked.append(-1)

    played(Counting())
    assert asked == list(range(0, 12, CHUNK))
