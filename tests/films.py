"""Films of the embedded world: true, and the ways in which a video cheats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sfbench.interfaces import Frames
from sfbench.models import pendulum
from sfbench.tasks import shapes

Film = Callable[[shapes.Scene, int, np.random.Generator], Frames]


def truth(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    return shapes.render(scene, frames, 32)


def played(order: Callable[[int, np.random.Generator], np.ndarray]) -> Film:
    """True frames in another order."""

    def film(scene: shapes.Scene, frames: int, rng: np.random.Generator) -> Frames:
        return truth(scene, frames, rng)[order(frames, rng)]

    return film


def noise(scene: shapes.Scene, frames: int, rng: np.random.Generator) -> Frames:
    return rng.integers(0, 256, (frames, 32, 32, 3), np.uint8)


def half_speed(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    slow = [replace(b, vx=b.vx / 2, vy=b.vy / 2) for b in scene.bodies]
    return shapes.render(replace(scene, bodies=tuple(slow)), frames, 32)


def calmed(scene: shapes.Scene) -> shapes.Scene:
    """Each body at the least speed that its word allows."""
    calm = []
    for body in scene.bodies:
        share = shapes.SPEEDS[body.speed][0] / np.hypot(body.vx, body.vy)
        calm.append(replace(body, vx=body.vx * share, vy=body.vy * share))
    return replace(scene, bodies=tuple(calm))


def slowest(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    return shapes.render(calmed(scene), frames, 32)


CHEATS: dict[str, Film] = {
    "frozen": played(lambda n, rng: np.zeros(n, int)),
    "frozen midway": played(lambda n, rng: np.minimum(np.arange(n), n // 2)),
    "truth, then frozen": played(lambda n, rng: np.minimum(np.arange(n), n * 5 // 8)),
    "loop": played(lambda n, rng: np.array(pendulum(min(12, n // 2), 0, n))),
    "first frame again and again": played(lambda n, rng: np.arange(n) % min(6, n // 3)),
    "shuffled": played(lambda n, rng: rng.permutation(n)),
    "noise": noise,
    "half speed": half_speed,
}
TRUE: dict[str, Film] = {"truth": truth, "slowest": slowest}
