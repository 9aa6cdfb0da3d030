"""Reference rows: what perfect knowledge scores, so that a model's figures can be read.

``oracle:truth`` is the world itself: it renders the prompt's scene at the frames asked for and does
not look at its context. ``oracle:observer`` knows the world's law but not the scene: it reads the
context's pixels through the oracle and nothing else, as an ideal model would, and continues. Its
error against the exact continuation is the floor below which no model can be expected to go.
"""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sfbench.interfaces import Frames, VideoModel
from sfbench.schema import ModelCard, Request, digest

from .oracle import State, decode
from .shapes import (
    LEVELS,
    SHAPES,
    SPEEDS,
    Body,
    Scene,
    fold,
    parse,
    render,
    sample_scene,
    scene_from_rng,
)
from .shapes import walls as centre_range

Floats = NDArray[np.float64]

MEMORY = 12  # frames of context the observer reads: more would not sharpen its velocity by much
FASTEST = SPEEDS["quickly"][1]


def oracle_row(rest: str) -> VideoModel:
    """The row behind ``oracle:truth`` or ``oracle:observer``."""
    rows: dict[str, type[Truth] | type[Observer]] = {"truth": Truth, "observer": Observer}
    if rest not in rows:
        raise ValueError(
            f"unknown reference row 'oracle:{rest}'; there are "
            + " and ".join(f"oracle:{name}" for name in rows)
        )
    return rows[rest]()


class Truth:
    """The true simulator of the scene that the prompt names."""

    card = ModelCard(
        name="oracle:truth",
        kind="reference-row",
        revision="1",
        chunk=2,
        native_frames=12,
        accepts_context=True,
        notes="the world itself",
    )

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """The true frames from ``len(context)`` on, in one piece."""
        ref = request.prompt.scene
        if ref is None:
            raise ValueError(f"prompt '{request.prompt.id}' names no scene; oracle:truth needs one")
        scene = sample_scene(ref.dataset, ref.split, ref.index)
        start = 0 if context is None else len(context)
        yield render(scene, request.geometry.frames, request.geometry.height, start)


class Observer:
    """Continues what it can read from the context's last :data:`MEMORY` frames, by the law."""

    card = ModelCard(
        name="oracle:observer",
        kind="reference-row",
        revision="1",
        chunk=2,
        native_frames=12,
        accepts_context=True,
        notes="reads position, velocity and appearance from the context's pixels",
    )

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """The expected continuation, in one piece; without context, a scene that fits the text."""
        text, geometry = request.prompt.text, request.geometry
        scene = None if context is None else perceive(context[-MEMORY:], len(parse(text)[0]))
        if scene is None:
            rng = np.random.default_rng([request.seed, int(digest(request.prompt), 16)])
            scene = draw_consistent(text, rng)
        yield render(scene, geometry.frames, geometry.height)


def perceive(context: Frames, bodies: int) -> Scene | None:
    """The scene seen in the context, its frame 0 being the frame after the context.

    ``None`` where a body shows in fewer than two frames, so that it has no velocity.
    """
    state = decode(context, bodies)
    if (state.found.sum(axis=0) < 2).any():
        return None
    red, green, blue = map(float, np.median(state.background_rgb, axis=0))
    seen = tuple(_read_body(state, n) for n in range(bodies))
    return Scene(seen, "", (red, green, blue))


def _read_body(state: State, n: int) -> Body:
    """A body as it was seen; what needs no word for the render has none."""
    clear = np.flatnonzero(state.found[:, n] & ~state.occluded[:, n])
    seen = clear if len(clear) > 1 else np.flatnonzero(state.found[:, n])
    index, _ = Counter(state.shape[seen, n].tolist()).most_common(1)[0]
    shape = SHAPES[index] if index >= 0 else "disc"
    radius = float(np.median(state.radius[seen, n]))
    hue, saturation, value = colorsys.rgb_to_hsv(*np.median(state.rgb[seen, n], axis=0))
    low, high = centre_range(shape, radius)
    time = seen - len(state.found)  # the first new frame is time 0
    x, vx = fit_axis(time, state.centre[seen, n, 0], low[0], high[0])
    y, vy = fit_axis(time, state.centre[seen, n, 1], low[1], high[1])
    return Body(
        shape=shape,
        colour="",
        hue=hue,
        saturation=saturation,
        value=value,
        radius=radius,
        x=x,
        y=y,
        vx=vx,
        vy=vy,
        speed="",
        motion="",
    )


def fit_axis(time: NDArray[np.int_], seen: Floats, low: float, high: float) -> tuple[float, float]:
    """Straight path ``p + v * time`` whose reflection into ``[low, high]`` is nearest to ``seen``.

    A grid finds the bounces; between fixed bounces the problem is linear and solved exactly.
    ``p`` may lie outside the walls: it is where the unreflected path is at time 0.
    """
    speeds, phases = np.linspace(0, FASTEST, 33), np.linspace(0, 2 * (high - low), 65)[:-1] + low
    p, v = (grid.ravel() for grid in np.meshgrid(phases, speeds))
    paths = fold(p[:, None] + v[:, None] * time, np.array(low), np.array(high))
    best = int(np.argmin(((paths - seen) ** 2).sum(axis=1)))
    fitted = np.array([p[best], v[best]])
    design = np.stack([np.ones(len(time)), time], axis=1)
    for _ in range(4):
        bounce = np.floor((design @ fitted - low) / (high - low))
        odd = np.mod(bounce, 2) == 1
        unfolded = np.where(odd, high + low - seen, seen) + bounce * (high - low)
        fitted = np.linalg.lstsq(design, unfolded, rcond=None)[0]
    return float(fitted[0]), float(fitted[1])


def draw_consistent(text: str, rng: np.random.Generator) -> Scene:
    """A random scene that the text describes truly."""
    wanted, background = parse(text)
    level = next(name for name, (count, _) in LEVELS.items() if count == len(wanted))
    bodies: list[Body | None] = [None] * len(wanted)
    while True:
        scene = scene_from_rng(level, rng)
        for n, words in enumerate(wanted):
            bodies[n] = bodies[n] or next((b for b in scene.bodies if _fits(b, words)), None)
        found = tuple(body for body in bodies if body is not None)
        if scene.background == background and len(found) == len(wanted):
            return replace(scene, bodies=found)


def _fits(body: Body, words: dict[str, str]) -> bool:
    return all(getattr(body, name) == word for name, word in words.items())
