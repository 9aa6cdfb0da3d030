"""Generators that know the true video and err, or answer to their context, exactly as told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sfbench.interfaces import Frames
from sfbench.schema import Request
from sfbench.tasks import shapes
from sfbench.tasks.continuations import PREFIX
from sfbench.tasks.oracle import BACKGROUND_BAND

from simulators import card

Floats = NDArray[np.float64]
KINDS = 6  # of what is judged in a frame's looks, which are half of the violation


@dataclass(frozen=True)
class Seen:
    """What such a generator makes of its context."""

    scene: shapes.Scene
    index: int
    """Of the scene."""
    start: int
    """First frame to make."""
    intact: bool
    """The first frames are the true ones."""
    true: int
    """Frames before the first that is not true."""
    own: int
    """Chunks, after the shortest prefix, that are not true."""


class Scripted:
    """Makes what ``play(seen, frames, size)`` says."""

    def __init__(self, name: str, play: Callable[[Seen, int, int], Frames], chunk: int = 4) -> None:
        self.play, self.chunk, self.card = play, chunk, card(name, chunk=chunk)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        ref, size = request.prompt.scene, request.geometry.height
        assert ref is not None and context is not None
        scene = shapes.sample_scene(ref.dataset, ref.split, ref.index)
        truth = shapes.render(scene, len(context), size)
        wrong = (context != truth).any(axis=(1, 2, 3))
        seen = Seen(
            scene,
            ref.index,
            len(context),
            intact=not wrong[:PREFIX].any(),
            true=int(np.argmax(wrong)) if wrong.any() else len(wrong),
            own=-(-int(wrong[PREFIX:].sum()) // self.chunk),
        )
        yield self.play(seen, request.geometry.frames, size)


def tinted(grade: Callable[[Seen], float], chunk: int = 4) -> Scripted:
    """A background that is off so far that the oracle grades it ``grade``, 0..1.

    The violation is then ``grade / 12``: one of six kinds of looks, which count half.
    """
    return Scripted("tinted", partial(_tinted, grade), chunk)


def violation(grade: float) -> float:
    """Of a frame whose background is graded so."""
    return grade / KINDS / 2


def _tinted(grade: Callable[[Seen], float], seen: Seen, frames: int, size: int) -> Frames:
    least, worst = BACKGROUND_BAND
    graded = grade(seen)
    away = least + graded * (worst - least) if graded else 0.0
    rgb = np.array(seen.scene.background_rgb)
    rgb = rgb + away / 3**0.5 * (1 if rgb.mean() < 0.6 else -1)
    scene = replace(seen.scene, background_rgb=(float(rgb[0]), float(rgb[1]), float(rgb[2])))
    return shapes.render(scene, frames, size, seen.start)


def displaced(error: Callable[[Seen], float], chunk: int = 4) -> Scripted:
    """The body stands ``error(seen)`` sides away from its exact place."""
    return Scripted("displaced", partial(_displaced, error), chunk)


def _displaced(error: Callable[[Seen], float], seen: Seen, frames: int, size: int) -> Frames:
    centres = shapes.positions(seen.scene, frames, seen.start)
    away = error(seen) * _way_with_room(seen.scene)
    return shapes.draw(seen.scene, centres + away, size)


def _way_with_room(scene: shapes.Scene) -> Floats:
    """The direction in which the body stays inside the frame when it is displaced."""
    body = scene.bodies[0]
    low, high = shapes.walls(body.shape, body.radius)
    path = shapes.positions(scene, 30, PREFIX)[:, 0]
    ways = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float64)
    room = [*(high - path.max(axis=0)), *(path.min(axis=0) - low)]
    return ways[[0, 2, 1, 3][int(np.argmax(room))]]


class Responding:
    """The true chunk, plus ``push`` times a way of its own, plus an answer to its context's error.

    ``answer(error, way)`` maps the error ``[chunk, S, S, 3]`` of the context's last chunk, in
    levels, to a change of the next chunk. ``way``: half of the values, one level away from the end
    of the range that the scene's background is near, and the other half left alone.
    """

    def __init__(
        self, answer: Callable[[Floats, Floats], Floats], push: float = 0.0, chunk: int = 4
    ) -> None:
        self.answer, self.push, self.chunk = answer, push, chunk
        self.card = card("responding", chunk=chunk)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        ref, size = request.prompt.scene, request.geometry.height
        assert ref is not None and context is not None
        scene, start = shapes.sample_scene(ref.dataset, ref.split, ref.index), len(context)
        stop = start + request.geometry.frames
        true = shapes.render(scene, stop, size).astype(np.float64)
        rng, inwards = np.random.default_rng(ref.index), np.mean(scene.background_rgb) < 0.6
        way = rng.integers(2, size=true[: self.chunk].shape) * (1.0 if inwards else -1.0)
        last = context[-self.chunk :]
        for now in range(start, stop, self.chunk):
            answer = self.answer(last - true[now - self.chunk : now], way)
            made = true[now : now + self.chunk] + self.push * way + answer
            last = np.clip(np.round(made), 0, 255).astype(np.uint8)
            yield last


def along(error: Floats, way: Floats) -> Floats:
    """The part of an error that has the direction of ``way``."""
    found: Floats = (error * way).sum() / (way**2).sum() * way
    return found
