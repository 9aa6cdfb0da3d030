"""What latency is timed on: a clock that a test moves, and a model that takes what it is told."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sfbench import clock, runner
from sfbench.interfaces import Frames
from sfbench.models import Truth
from sfbench.schema import ModelCard, Prompt, Request, Result, Scores
from sfbench.tasks import played
from sfbench.tasks.latency import Latency

Seconds = Callable[[int, int], float]
"""Of (stream, chunk), both from 0; warm-up streams count."""


class FakeClock:
    """Time passes only when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@cache
def _seen(text: str, shape: tuple[int, ...], pixels: bytes) -> Scores:
    return SCORES(np.frombuffer(pixels, np.uint8).reshape(shape), text)


SCORES = played.scores
"""As it is; in these tests most streams show the same few clips, and each is scored once."""


def stop_clocks(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(clock, "perf_counter", fake)
    # Under a fake clock the fixed piece of arithmetic takes no time: it need not be done.
    monkeypatch.setattr(runner, "machine_seconds", lambda: 0.0)
    monkeypatch.setattr(
        played, "scores", lambda frames, text: _seen(text, frames.shape, frames.tobytes())
    )
    return fake


class Scripted:
    """Shows the truth, two frames a chunk, and takes as long for each as it is told."""

    needs_truth = True

    def __init__(self, time: FakeClock, seconds: Seconds, **card: object) -> None:
        known: dict[str, object] = {"name": "scripted", "chunk": 2, "native_frames": 12}
        self.card = ModelCard(**(known | card))
        self.time, self.seconds, self.streams = time, seconds, 0
        self.heard: list[tuple[int, str]] = []
        self.prepared: list[str] = []

    def bind(self, truth: Truth) -> None:
        self.truth = truth

    def clip(self, request: Request) -> Frames:
        assert request.prompt.scene is not None
        return self.truth(request.prompt.scene, request.geometry.frames)

    def prepare(self, request: Request) -> None:
        self.prepared.append(request.prompt.text)
        self.time.now += 5.0

    def generate(
        self, request: Request, context: Frames | None = None
    ) -> Generator[Frames, Prompt | None, None]:
        stream, self.streams = self.streams, self.streams + 1
        clip = self.clip(request)
        size = self.card.chunk if self.card.causal else request.geometry.frames
        assert size is not None
        for k in range(request.geometry.frames // size):
            self.time.now += self.seconds(stream, k)
            prompt = yield clip[size * k : size * (k + 1)]
            if prompt is not None:
                self.heard.append((size * (k + 1), prompt.text))
                self.time.now += 0.07  # it has to be embedded


class Slow(Latency):
    """Scoring costs ten seconds a clip, which no timing may hold."""

    time: FakeClock

    def score(self, request: Request, frames: Frames) -> Scores:
        self.time.now += 10.0
        return super().score(request, frames)


def measured(
    time: FakeClock, out: Path, seconds: Seconds, tier: str = "lite", **card: object
) -> Result:
    task = Slow(tier=tier)
    task.time = time
    return runner.run(task, Scripted(time, seconds, **card), out)


def steadily(out: Path) -> Result:
    """Of a stream whose every chunk takes 50 ms."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        time = stop_clocks(monkeypatch)
        return measured(time, out, lambda s, k: 0.05)


def value(result: Result, name: str) -> float:
    found = result.estimates[name].value
    assert found is not None, f"{name}: {result.estimates[name].method}"
    return found
