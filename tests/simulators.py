"""Generators whose exposure bias is known, a player of the arms, and results made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from sfbench import stats
from sfbench.arms import Played, play
from sfbench.interfaces import Frames, VideoModel
from sfbench.schema import (
    Curve,
    Estimate,
    Geometry,
    ModelCard,
    Provenance,
    Record,
    Request,
    Result,
    TaskCard,
    Validity,
)
from sfbench.tasks import rows, shapes
from sfbench.tasks.conclusion import Conclusion
from sfbench.tasks.continuations import role
from sfbench.tasks.long_horizon import LongHorizon

GEOMETRY = Geometry(frames=96, height=32, width=32, fps=16)


def card(name: str, **fields: object) -> ModelCard:
    known: dict[str, object] = {"chunk": 2, "native_frames": 12, "accepts_context": True}
    return ModelCard(name=name, **(known | fields))


class Drifting:
    """Reads its context as the observer does, and errs by ``error`` in hue, size and speed.

    From true context every chunk errs once; from its own, the errors add up.
    """

    def __init__(self, error: float, memory: int = 4) -> None:
        self.error, self.memory = error, memory
        self.card = card(f"drifting-{error}", chunk=4)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        assert context is not None
        scene = rows.perceive(context[-self.memory :], 1)
        if scene is None:
            scene = rows.draw_consistent(request.prompt.text, np.random.default_rng(request.seed))
        body, e = scene.bodies[0], self.error
        wrong = replace(
            body,
            hue=body.hue + e / 10,
            radius=body.radius * (1 - e / 5),
            vx=body.vx * (1 - e),
            vy=body.vy * (1 - e),
        )
        yield shapes.render(
            replace(scene, bodies=(wrong,)), request.geometry.frames, request.geometry.height
        )


class Brightening:
    """The true continuation, brighter (where it is bright, darker) by so many levels for each chunk
    of four frames of its context that is not true."""

    def __init__(self, truth: Callable[..., Frames], levels: float, always: float = 0) -> None:
        self.truth, self.levels, self.always = truth, levels, always
        self.card = card(f"brightening-{levels}", chunk=4)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        ref = request.prompt.scene
        assert ref is not None and context is not None
        start, stop = len(context), len(context) + request.geometry.frames
        true = self.truth(ref, stop)
        own = (context != true[:start]).any(axis=(1, 2, 3))
        first = int(np.argmax(own)) if own.any() else start
        added = self.always + self.levels * (start - first) / 4
        if not own.any() and self.levels and start > 6:
            added = self.always  # true context
        inwards = 1 if true[:6].mean() < 140 else -1
        moved = true[start:].astype(np.int16) + inwards * round(added)
        yield np.clip(moved, 0, 255).astype(np.uint8)


class Ignoring:
    """Plays a lawful video that fits the text, whatever its context shows."""

    card = card("ignoring")

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        scene = imagined(request.prompt.text, request.seed)
        start = 0 if context is None else len(context)
        yield shapes.render(scene, request.geometry.frames, request.geometry.height, start)


@cache
def imagined(text: str, seed: int) -> shapes.Scene:
    return rows.draw_consistent(text, np.random.default_rng(seed))


class Slowed:
    """The true scene at a share of its speed."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.card = card(f"slowed-{share}", kind="cheat")

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        ref, frames = request.prompt.scene, request.geometry.frames
        assert ref is not None
        scene = shapes.sample_scene(ref.dataset, ref.split, ref.index)
        body, start = scene.bodies[0], 0 if context is None else len(context)
        at = shapes.positions(scene, 1, min(start, 6))[0, 0]
        time = np.arange(1, frames + 1) + max(0, start - 6)
        low, high = shapes.walls(body.shape, body.radius)
        path = at + self.share * time[:, None] * np.array([body.vx, body.vy])
        yield shapes.draw(scene, shapes.fold(path, low, high)[:, None], request.geometry.height)


class Looping:
    """Twelve true frames over and over."""

    card = card("looping", kind="cheat")

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        (clip,) = rows.Truth().generate(request, None) if context is None else (context,)
        loop = clip[:12]
        start = 0 if context is None else len(context)
        yield loop[np.arange(start, start + request.geometry.frames) % len(loop)]


def records(task: LongHorizon, model: VideoModel, arms: Sequence[str]) -> list[Record]:
    """Play and score the requests of some arms: ``own``, or ``own@12`` after a longer prefix."""
    asked = [r for r in task.requests(model.card) if role(r) in arms]
    answers = [play(model, [request], task.truth)[0] for request in asked]
    found = []
    for request, answer in zip(asked, answers, strict=True):
        assert isinstance(answer, Played), answer
        scores = task.score(request, answer.frames)
        found.append(Record(key=request.key, request=request, scores=scores))
    return found


def concluded(task: LongHorizon, model: VideoModel, arms: Sequence[str]) -> Conclusion:
    return task.conclude(model.card, records(task, model, arms))


def result(
    name: str,
    values: Mapping[str, float],
    *,
    gap: Mapping[str, float] | None = None,
    kind: str = "model",
    causal: bool = True,
    flags: Sequence[str] = (),
    ok: bool = True,
    task: Mapping[str, object] | None = None,
    started: str = "2026-01-01T00:00:00Z",
    **model: object,
) -> Result:
    """A long-horizon result with the given primary values (and gaps) by prompt."""
    per_prompt = {"violation_own": dict(values), "exposure_gap": dict(gap or values)}
    estimates = {n: stats.mean(v, better="lower") for n, v in per_prompt.items()}
    fields: dict[str, object] = {
        "name": "long-horizon",
        "version": 1,
        "tier": "full",
        "dataset": "shapes-1",
        "prompts_sha256": "ab",
        "geometry": GEOMETRY,
        "seeds": (0, 1),
        "metrics": {"luma": 1},
    }
    return Result(
        model=ModelCard(name=name, kind=kind, causal=causal, **model),
        task=TaskCard(**(fields | dict(task or {}))),
        provenance=Provenance(
            sfbench="0.1.0",
            commit="c" * 40,
            dirty=False,
            python="3.11",
            packages={},
            machine="a machine",
            device="cpu",
            command="run",
            started=started,
        ),
        validity=Validity(ok=ok, reasons=() if ok else ("cut short",), flags=tuple(flags)),
        division="closed",
        estimates=estimates,
        curves={
            name: curve(estimates["violation_own"])
            for name in ("drift", "alive", "exposure_true", "exposure_own")
        },
        per_prompt=per_prompt,
        records_sha256="0" * 64,
    )


def curve(estimate: Estimate) -> Curve:
    return Curve(x=(6, 12, 18), x_label="frame", y=(estimate,) * 3)


def spread(level: float, seed: int, noise: float = 0.02, prompts: int = 24) -> dict[str, float]:
    """A value a prompt around ``level``: a part shared by all models, and noise of its own."""
    shared = np.random.default_rng(7).normal(0, 0.1, prompts)
    own = np.random.default_rng(seed).normal(0, noise, prompts)
    return {f"test-{n}": float(level + shared[n] + own[n]) for n in range(prompts)}


def board_rows() -> list[Result]:
    """Three models, two of them alike, a cheat that is not caught, and rows that have no rank."""
    levels = {"best": 0.10, "near": 0.103, "far": 0.30}
    ranked = [
        result(name, spread(level, n), gap=spread(level - 0.05, n + 9))
        for n, (name, level) in enumerate(levels.items())
    ]
    return [
        *ranked,
        result("cheat:frozen", spread(0.01, 5), kind="cheat", flags=("DEGENERATE (no motion)",)),
        result("cheat:subtle", spread(0.20, 6), kind="cheat"),
        result("partial", spread(0.05, 7), ok=False),
        result("oracle:truth", spread(0.0, 8), kind="reference-row"),
        result("teacher", {}, causal=False),
    ]
