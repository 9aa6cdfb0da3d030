"""The embedded world as a source of true clips to damage, and the oracle's metrics of a clip.

A true clip of the world can be damaged better than pixels allow: one object becomes another, jumps,
or slows down while all else goes on. Everything else is done to pixels (:mod:`sfbench.failures`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from sfbench import failures
from sfbench.certification import Film
from sfbench.interfaces import Frames
from sfbench.panel import Clip, ClipMetric
from sfbench.schema import SceneRef, Scores

from . import drift, judge
from .oracle import VIOLATIONS
from .rows import draw_consistent
from .shapes import SHAPES, Body, Scene, Shapes, draw, fold, positions, render, walls

Floats = NDArray[np.float64]

LENGTH = 48  # frames: four native horizons
HUE_TURN = 1 / 3  # of the circle: from one named colour into another
SHRUNK = 0.6
FIRST = {"selection": 0, "test": 500}
"""The scenes of each split from which takes are made: those of the boards are not among them."""


@dataclass(frozen=True)
class Take:
    """A true clip of one prompt that can be damaged, and another true clip of the same prompt."""

    scene: Scene
    text: str
    size: int
    fps: float
    frames: Frames
    other: Frames

    def damaged(self, failure: str, dose: float) -> Frames:
        """The clip with a failure of that dose."""
        if failure in OF_SCENE:
            return OF_SCENE[failure](self.scene, dose, self.size)
        return failures.inject(failure, self.frames, dose, self.other)


class World:
    """True clips of the embedded world, by number."""

    name = "world"

    def __init__(self, level: str = "shapes-1", size: int = 32) -> None:
        self.world = Shapes(level, size)
        self.words = f"{level}, {size}x{size}, {LENGTH} frames"
        self.films: tuple[Film, ...] = ()
        self.unjudged = ""

    def takes(self, split: str) -> int:
        """As many as one likes, each of another scene."""
        return 1 << 16

    def take(self, split: str, index: int) -> Take:
        """The ``index``-th scene of a split, and another scene that its prompt fits."""
        ref = SceneRef(dataset=self.world.level, split=split, index=FIRST[split] + index)
        scene, text, size = self.world.scene(ref), self.world.prompt(ref), self.world.size
        rng = np.random.default_rng([index, len(split)])
        other = render(draw_consistent(text, rng), LENGTH, size)
        return Take(scene, text, size, self.world.fps, render(scene, LENGTH, size), other)


# --- failures of one object -----------------------------------------------------------------------


def swapped(scene: Scene, dose: float, size: int) -> Frames:
    """From the middle on another object: of another shape at every dose, and ``dose`` thirds of
    the way to another named colour and to a size of :data:`SHRUNK`."""
    body, half, part = scene.bodies[0], LENGTH // 2, dose / 3
    other = replace(
        body,
        shape=SHAPES[(SHAPES.index(body.shape) + 1) % len(SHAPES)],
        hue=(body.hue + HUE_TURN * part) % 1,
        radius=body.radius * (1 - (1 - SHRUNK) * part),
    )
    where = positions(scene, LENGTH)
    after = replace(scene, bodies=(other, *scene.bodies[1:]))
    return np.concatenate([draw(scene, where[:half], size), draw(after, where[half:], size)])


def teleported(scene: Scene, dose: float, size: int) -> Frames:
    """In the middle the object is ``dose`` sides away from where it should be, and goes on."""
    body = scene.bodies[0]
    jump = np.where(np.arange(LENGTH) >= LENGTH // 2, dose, 0.0)[:, None]
    low, high = walls(body.shape, body.radius)
    away = np.array([1.0, 0.0]) if high[0] - low[0] > dose else np.array([0.0, 1.0])
    # Along an axis on which it does not move, so that the path stays straight.
    away = away[::-1] if abs(body.vx) > abs(body.vy) else away
    where = _path(scene, np.arange(LENGTH, dtype=np.float64))
    where[:, 0] = np.where(
        where[:, 0] + jump * away > high, where[:, 0] - jump * away, where[:, 0] + jump * away
    )
    return draw(scene, where, size)


def slowed(scene: Scene, dose: float, size: int) -> Frames:
    """After the first quarter time runs at ``1 - dose``."""
    return draw(scene, _path(scene, failures.slowed(LENGTH, dose)), size)


OF_SCENE: dict[str, Callable[[Scene, float, int], Frames]] = {
    "swap": swapped,
    "teleport": teleported,
    "slowdown": slowed,
}


def _path(scene: Scene, time: Floats) -> Floats:
    """True centroids ``[T, N, 2]`` at times that need not be whole."""
    return np.stack([_place(body, time) for body in scene.bodies], axis=1)


def _place(body: Body, time: Floats) -> Floats:
    low, high = walls(body.shape, body.radius)
    straight = np.array([body.x, body.y]) + time[:, None] * np.array([body.vx, body.vy])
    return fold(straight, low, high)


# --- the oracle's metrics -------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _scores(clip: Clip) -> Scores | None:
    return judge.free_scores(clip.frames, clip.text) if clip.frames is not None else None


def _worst(name: str, clip: Clip) -> float | None:
    scores = _scores(clip)
    return None if scores is None else max(v for v in scores.series[f"v_{name}"] if v is not None)


def _drift(clip: Clip) -> float | None:
    scores = _scores(clip)
    return None if scores is None else float(drift.lost_windows(scores).mean())


SEES: dict[str, tuple[str, ...]] = {
    "existence": (),
    "shape": ("swap",),
    "colour": ("exposure", "saturation", "colour", "jump", "collapse", "swap"),
    "size": ("swap",),
    "background": ("exposure", "jump"),
    "render": ("blur",),
    "motion": ("freeze", "frozen", "loop", "teleport", "slowdown", "regression"),
}
PARTLY: dict[str, tuple[str, ...]] = {
    "existence": ("collapse",),
    "shape": ("blur", "collapse"),
    "colour": ("blur",),
    "size": ("blur", "collapse", "teleport"),
    "background": ("collapse",),
    "render": ("noise", "collapse", "teleport"),
    "motion": ("collapse",),
}
NOTES = {
    "existence": "objects that vanish or multiply: of the list only a full collapse does that",
    "shape": "an object that becomes another shape",
    "colour": "the object's colour against what the clip first showed",
    "size": "growing and shrinking",
    "background": "the background's colour",
    "render": "blur, speckle, mush: misfit with any clean rendering; noise from a middle dose on",
    "motion": "every step against the world's law: one unlawful step is a sixth of a window",
}
WORLD_METRICS = (
    *(
        ClipMetric(
            name=f"v_{name}",
            better="lower",
            unit="0..1, worst window",
            bounds=(0, 1),
            resolution=0.02,
            sees=SEES[name],
            partly=PARTLY[name],
            note=NOTES[name],
            of=partial(_worst, name),
        )
        for name in VIOLATIONS
    ),
    ClipMetric(
        name="drift",
        better="lower",
        unit="share lost",
        bounds=(0, 1),
        resolution=0.015,
        sees=(
            "exposure",
            "saturation",
            "colour",
            "freeze",
            "frozen",
            "loop",
            "jump",
            "collapse",
            "swap",
            "slowdown",
            "regression",
        ),
        partly=("blur", "noise", "teleport"),
        note="the headline of long-horizon: the worst of the seven violations of each window",
        of=_drift,
    ),
)
