"""A task and models small enough to run a hundred times in a test; also used by child processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sfbench.interfaces import Frames
from sfbench.schema import (
    Arm,
    Context,
    Curve,
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    SceneRef,
    Scores,
    TaskCard,
    Validity,
)

HEIGHT, WIDTH = 33, 17  # odd on purpose


@dataclass
class Concluded:
    estimates: dict[str, Estimate]
    curves: dict[str, Curve]
    per_prompt: dict[str, dict[str, float]]
    validity: Validity


class FakeTask:
    """Free generation, and the arms asked for, on scenes of moving stripes."""

    TIERS = ("smoke", "lite")
    reference_rows: tuple[str, ...] = ("cheat:noise",)

    def __init__(
        self,
        dataset: str = "stripes",
        tier: str = "smoke",
        size: int = HEIGHT,
        seeds: Sequence[int] = (0, 1),
        prompts: int = 3,
        frames: int = 8,
        arms: Sequence[Arm] = (),
    ) -> None:
        geometry = Geometry(frames=frames, height=size, width=WIDTH, fps=16)
        self.card = TaskCard(
            name="fake",
            version=1,
            tier=tier,
            dataset=dataset,
            prompts_sha256="0" * 64,
            geometry=geometry,
            seeds=tuple(seeds),
            metrics={"level": 1},
        )
        self.prompts = [
            Prompt(id=f"p{n}", text=f"stripes number {n}", scene=scene(n)) for n in range(prompts)
        ]
        self.arms = tuple(arms)

    def requests(self, model: ModelCard) -> list[Request]:
        found = []
        for arm in ("free", *self.arms):
            for prompt in self.prompts:
                for seed in self.card.seeds:
                    context = (
                        None
                        if arm == "free"
                        else Context(
                            arm=arm,
                            prefix=4,
                            chunk=3,
                            donor=scene(99) if arm == "swapped" else None,
                        )
                    )
                    found.append(
                        Request(
                            prompt=prompt, geometry=self.card.geometry, seed=seed, context=context
                        )
                    )
        return found

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        return stripes(ref.index, range(start, start + frames), self.card.geometry)

    def score(self, request: Request, frames: Frames) -> Scores:
        return Scores(values={"level": float(frames.mean())}, series={"level": (1.0, None)})

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Concluded:
        levels: dict[str, list[float]] = {}
        for record in records:
            if record.scores and record.scores.values["level"] is not None:
                levels.setdefault(record.request.prompt.id, []).append(
                    record.scores.values["level"]
                )
        means = {prompt: float(np.mean(values)) for prompt, values in levels.items()}
        value = float(np.mean(list(means.values()))) if means else None
        estimate = Estimate(
            value=value, low=None, high=None, n=len(records), clusters=len(means), method="mean"
        )
        return Concluded({"level": estimate}, {}, {"level": means}, Validity(ok=True))


def scene(index: int) -> SceneRef:
    return SceneRef(dataset="stripes", split="test", index=index)


def stripes(index: int, frames: Sequence[int], geometry: Geometry) -> Frames:
    """Frame ``t`` of scene ``index``: the value ``(index * 7 + t) % 256`` and a ramp."""
    ramp = np.arange(geometry.width, dtype=np.int64)[None, :, None]
    levels = [
        np.broadcast_to((index * 7 + t + ramp) % 256, (geometry.height, geometry.width, 3))
        for t in frames
    ]
    return np.stack(levels).astype(np.uint8)


class Static:
    """Noise keyed by (seed, absolute frame), two frames a chunk."""

    card = ModelCard(name="static", revision="1", accepts_context=True, chunk=2)
    chunk = 2

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        start = 0 if context is None else len(context)
        total = request.geometry.frames
        for done in range(0, total, self.chunk):
            count = min(self.chunk, total - done)
            yield noise(request, start + done, count)


class Slow(Static):
    """The same, 20 ms a chunk, or as many seconds as the variable SLOW says."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        for chunk in super().generate(request, context):
            time.sleep(float(os.environ.get("SLOW", "0.02")))
            yield chunk


class Batched(Static):
    """The same pixels, many requests at once."""

    def generate_batch(
        self, requests: Sequence[Request], contexts: Sequence[Frames | None]
    ) -> Iterator[list[Frames]]:
        streams = [self.generate(r, c) for r, c in zip(requests, contexts, strict=True)]
        for pieces in zip(*streams, strict=True):
            time.sleep(0.02)
            yield list(pieces)


class Stubborn(Static):
    """Fails on prompt ``p1`` while the variable STUBBORN is set."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        if request.prompt.id == "p1" and os.environ.get("STUBBORN"):
            raise RuntimeError("out of ideas")
        yield from super().generate(request, context)


class Plain:
    """No card, no context: the least that is a model."""

    def generate(self, request: Request) -> Iterator[Frames]:
        yield noise(request, 0, request.geometry.frames)


def make_static() -> Static:
    """A factory without arguments."""
    return Static()


def shipped() -> list[str]:
    """In place of the reference's models."""
    return ["fakes:Static"]


STATIC = Static()
NOT_A_MODEL = 3


def noise(request: Request, start: int, count: int) -> Frames:
    shape = (request.geometry.height, request.geometry.width, 3)
    frames = [
        np.random.default_rng([request.seed, start + n]).integers(0, 256, shape, dtype=np.uint8)
        for n in range(count)
    ]
    return np.stack(frames)
