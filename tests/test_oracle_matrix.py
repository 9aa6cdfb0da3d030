"""What the oracle sees of which fault, and what it is blind to: one test a cell of :data:`MATRIX`.

A cell holds one report of the oracle (a column) against true clips with one fault of a stated dose
(a row). Each is a mean over clips of both levels, and is read as a loss: 0 on truth, higher is
worse. So a fault raises what it must, and nothing that it does not touch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from sfbench.interfaces import Frames
from sfbench.tasks import oracle, shapes
from sfbench.tasks.shapes import Body, Scene

CLIPS, FRAMES, SIZE = 16, 48, 32

# +  must rise: the loss is at least MUST
# .  must not:  the loss is at most MUST_NOT, as on truth
# ~  may:       the fault touches it in some scenes (the test holds it in its range)
#
# Columns: the seven violations; prompt adherence (a share lost); the two measures of motion.
MATRIX = """
                 existence shape colour size backgr. render motion | a.count a.shape a.colour a.backgr. a.speed a.motion | persistence jitter
truth            .         .     .      .    .       .      .      | .       .       .        .         .       .        | .           .
recolour         .         .     +      .    .       .      .      | .       .       +        .         .       .        | .           .
fade             .         .     +      .    .       .      .      | .       .       ~        .         .       .        | .           .
blur             .         ~     ~      .    .       +      .      | .       ~       ~        .         .       .        | .           .
noise            .         .     .      .    .       +      .      | .       ~       .        .         ~       ~        | .           ~
freeze           .         .     .      .    .       .      +      | .       .       .        .         +       +        | +           .
slow_down        .         .     .      .    .       .      +      | .       .       .        .         ~       ~        | +           ~
jitter           .         .     .      .    .       .      +      | .       .       .        .         ~       ~        | .           +
pacing           .         .     .      .    .       .      +      | .       .       .        .         ~       ~        | +           +
teleport         .         .     .      .    .       .      +      | .       .       .        .         ~       ~        | +           +
shape_swap       .         +     .      .    .       .      ~      | .       +       .        .         ~       ~        | ~           ~
grow             .         .     .      +    .       .      ~      | .       .       .        .         ~       ~        | ~           ~
tint             .         .     .      .    +       .      .      | .       .       .        +         .       .        | .           .
object_removed   +         +     +      +    .       +      +      | +       +       +        .         ~       ~        | .           .
second_object    +         ~     ~      ~    .       ~      ~      | +       ~       ~        .         ~       ~        | ~           ~
"""  # noqa: E501
MUST, MUST_NOT = 0.15, 0.03
# Under white noise of position persistence is 1 on average only; jitter is in steps, and the error
# of a centroid is in pixels, so a slow body shows a little.
MUST_NOT_BE = {"persistence": 0.12, "jitter": 0.12}

Fault = Callable[[Frames, Scene], Frames]
Floats = NDArray[np.float64]


# --- the faults: true frames and their scene to damaged frames ------------------------------------


def truth(frames: Frames, scene: Scene) -> Frames:
    """No fault."""
    return frames


def recolour(frames: Frames, scene: Scene) -> Frames:
    """The first body takes the hue farthest from every body's."""
    taken = np.array([b.hue for b in scene.bodies])
    wheel = np.arange(72) / 72
    distance = np.abs((wheel[:, None] - taken + 0.5) % 1 - 0.5).min(axis=1)
    return redrawn(scene, replace(scene.bodies[0], hue=float(wheel[distance.argmax()])))


def fade(frames: Frames, scene: Scene) -> Frames:
    """The first body loses half of its saturation."""
    first = scene.bodies[0]
    return redrawn(scene, replace(first, saturation=first.saturation / 2))


def blur(frames: Frames, scene: Scene) -> Frames:
    """A Gaussian of 1.5 pixels, a quarter of a body's radius."""
    return as_frames(ndimage.gaussian_filter(frames.astype(float), (0, 1.5, 1.5, 0)))


def noise(frames: Frames, scene: Scene) -> Frames:
    """White noise of a tenth of the range: 20 dB."""
    return as_frames(frames + np.random.default_rng(0).normal(scale=25.5, size=frames.shape))


def freeze(frames: Frames, scene: Scene) -> Frames:
    """The first frame, for ever."""
    return np.repeat(frames[:1], len(frames), axis=0)


def slow_down(frames: Frames, scene: Scene) -> Frames:
    """Half the speed."""
    halved = [replace(b, vx=b.vx / 2, vy=b.vy / 2) for b in scene.bodies]
    return redrawn(scene, *halved)


def jitter(frames: Frames, scene: Scene) -> Frames:
    """White noise of position: half a step along each axis."""
    path = shapes.positions(scene, FRAMES)
    step = np.array([np.hypot(b.vx, b.vy) for b in scene.bodies])[:, None]
    return at(scene, path + np.random.default_rng(0).normal(size=path.shape) * step / 2)


def pacing(frames: Frames, scene: Scene) -> Frames:
    """Four steps forth, four steps back: true speed, nothing kept."""
    time = np.arange(FRAMES) % 8
    return at(scene, shapes.positions(scene, 5)[np.minimum(time, 8 - time)])


def teleport(frames: Frames, scene: Scene) -> Frames:
    """Every six frames the body continues from another lawful place."""
    pieces = [shapes.positions(scene, 6, start=997 * k) for k in range(FRAMES // 6)]
    return at(scene, np.concatenate(pieces))


def shape_swap(frames: Frames, scene: Scene) -> Frames:
    """Every body takes the next shape."""
    following = dict(zip(shapes.SHAPES, shapes.SHAPES[1:] + shapes.SHAPES[:1], strict=True))
    return redrawn(scene, *[replace(b, shape=following[b.shape]) for b in scene.bodies])


def grow(frames: Frames, scene: Scene) -> Frames:
    """Every body is 1.4 times as large: twice the area."""
    return redrawn(scene, *[replace(b, radius=1.4 * b.radius) for b in scene.bodies])


def tint(frames: Frames, scene: Scene) -> Frames:
    """The background goes three tenths of the way to green."""
    green = 0.7 * np.array(scene.background_rgb) + 0.3 * np.array([0.0, 1.0, 0.0])
    return shapes.render(replace(scene, background_rgb=tuple(green)), FRAMES, SIZE)


def object_removed(frames: Frames, scene: Scene) -> Frames:
    """No body in the second half."""
    empty = np.round(np.array(scene.background_rgb) * 255).astype(np.uint8)
    return np.where(np.arange(FRAMES)[:, None, None, None] < FRAMES // 2, frames, empty)


def second_object(frames: Frames, scene: Scene) -> Frames:
    """A small disc of another colour stands in a corner."""
    disc = replace(scene.bodies[0], shape="disc", radius=0.11, hue=scene.bodies[0].hue + 0.5)
    corner = np.tile([0.12, 0.12], (FRAMES, 1, 1))
    path = np.concatenate([corner, shapes.positions(scene, FRAMES)], axis=1)
    return shapes.draw(replace(scene, bodies=(disc, *scene.bodies)), path, SIZE)


def redrawn(scene: Scene, *bodies: Body) -> Frames:
    """The scene with its first bodies replaced."""
    changed = replace(scene, bodies=(*bodies, *scene.bodies[len(bodies) :]))
    return shapes.render(changed, FRAMES, SIZE)


def at(scene: Scene, path: Floats) -> Frames:
    """The scene with its bodies at given places, kept inside the frame."""
    limits = [shapes.walls(b.shape, b.radius) for b in scene.bodies]
    low, high = np.array(limits).swapaxes(0, 1)
    return shapes.draw(scene, path.clip(low, high), SIZE)


def as_frames(pixels: Floats) -> Frames:
    """Rounded and clipped to ``uint8``."""
    return np.round(pixels.clip(0, 255)).astype(np.uint8)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        truth, recolour, fade, blur, noise, freeze, slow_down, jitter, pacing, teleport,
        shape_swap, grow, tint, object_removed, second_object,
    )
}  # fmt: skip


# --- the matrix -----------------------------------------------------------------------------------


def table() -> dict[str, dict[str, str]]:
    """Fault to column to mark."""
    header, *rows = [line.replace("|", " ").split() for line in MATRIX.strip().splitlines()]
    return {name: dict(zip(header, marks, strict=True)) for name, *marks in rows}


CELLS = table()


@lru_cache
def losses(fault: str, level: str) -> dict[str, float]:
    """Mean loss of every column over the clips of a level."""
    clips = [
        losses_of_clip(FAULTS[fault], shapes.sample_scene(level, "test", i), level)
        for i in range(CLIPS)
    ]
    seen = {
        column: [clip[column] for clip in clips if clip[column] is not None] for column in clips[0]
    }
    mean = {column: float(np.mean(values)) for column, values in seen.items()}
    return mean | {"persistence": abs(1 - mean["persistence"])}


def losses_of_clip(fault: Fault, scene: Scene, level: str) -> dict[str, float | None]:
    """Loss of every column on one clip; persistence as it is, averaged before it is judged."""
    frames = fault(shapes.render(scene, FRAMES, SIZE), scene)
    state = oracle.decode(frames, shapes.LEVELS[level][0])
    graded = {k: float(v.mean()) for k, v in oracle.violations(state, scene).items()}
    heard = {f"a.{k}": 1 - v for k, v in oracle.adherence(state, shapes.prompt(scene)).items()}
    moved = oracle.motion(state, scene)
    short = {k.replace("background", "backgr."): v for k, v in (graded | heard).items()}
    return {**short, "persistence": moved.persistence, "jitter": moved.jitter}


@pytest.mark.parametrize("level", shapes.LEVELS)
@pytest.mark.parametrize(
    ("fault", "column", "mark"),
    [
        pytest.param(fault, column, mark, id=f"{fault}-{name}-{column}")
        for fault, row in CELLS.items()
        for column, mark in row.items()
        for name in [{"+": "must-raise", ".": "must-not-raise", "~": "may-raise"}[mark]]
    ],
)
def test_cell(fault: str, column: str, mark: str, level: str) -> None:
    loss = losses(fault, level)[column]
    if mark == "+":
        assert loss >= MUST
    elif mark == ".":
        assert loss <= MUST_NOT_BE.get(column, MUST_NOT)
    else:
        assert loss >= 0 and np.isfinite(loss)


def test_the_matrix_is_whole() -> None:
    """Every fault has a row, every report a column, and every report sees some fault."""
    assert set(CELLS) == set(FAULTS)
    for row in CELLS.values():
        assert set(row) == set(losses("truth", "shapes-1"))
    for column in CELLS["truth"]:
        assert any(row[column] == "+" for row in CELLS.values()), column
    assert all("+" in row.values() for name, row in CELLS.items() if name != "truth")
