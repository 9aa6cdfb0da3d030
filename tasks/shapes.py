"""The embedded world: coloured shapes that move and bounce, rendered exactly at any size and time.

A scene is a pure function of (level, split, index); a frame is a pure function of (scene, time), so
the true continuation of any prefix is known. The prompt names only part of the scene. Exact hue,
size, background, velocity, its sign and the position are carried by the video alone: a prompt that
named them would re-anchor every chunk and hide exposure bias.

Lengths are fractions of the frame's side, velocities fractions a frame; (0, 0) is the top left.
``T`` frames, ``N`` bodies, ``H`` = ``W`` = size.
"""

from __future__ import annotations

import colorsys
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sfbench.interfaces import Frames
from sfbench.schema import SceneRef

Floats = NDArray[np.float64]

SHAPES = ("disc", "square", "triangle")
COLOURS = {"red": 0.0, "yellow": 50 / 360, "green": 130 / 360, "blue": 220 / 360}  # central hue
HUE_SPREAD = 12 / 360  # a scene's hue lies within this of its colour's centre
SATURATION = (0.78, 0.95)
VALUE = (0.75, 0.95)
BACKGROUNDS = {"dark": (0.06, 0.20), "grey": (0.40, 0.52), "light": (0.76, 0.92)}  # HSV value
TINT = 0.10  # largest saturation of a background: an object is always the more saturated
SPEEDS = {"slowly": (0.028, 0.040), "quickly": (0.060, 0.080)}
MOTIONS = {"horizontally": (0.0, 0.0), "vertically": (90.0, 90.0), "diagonally": (30.0, 60.0)}
LEVELS = {"shapes-1": (1, (0.16, 0.22)), "shapes-2": (2, (0.16, 0.20))}  # bodies, radius
SPLITS = {"train": 0, "selection": 1, "test": 2}

# A body's radius is that of the disc of equal area, so that size means the same for every shape.
HALF_SIDE = np.sqrt(np.pi) / 2  # of the square, in radii
CIRCUMRADIUS = np.sqrt(4 * np.pi / (3 * np.sqrt(3)))  # of the triangle, in radii


@dataclass(frozen=True)
class Body:
    """One object; ``x, y`` is the centroid at frame 0."""

    shape: str
    colour: str
    hue: float
    saturation: float
    value: float
    radius: float
    x: float
    y: float
    vx: float
    vy: float
    speed: str
    motion: str

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Colour in 0..1."""
        return colorsys.hsv_to_rgb(self.hue % 1.0, self.saturation, self.value)


@dataclass(frozen=True)
class Scene:
    """Everything that determines a video; later bodies are in front of earlier ones."""

    bodies: tuple[Body, ...]
    background: str
    background_rgb: tuple[float, float, float]


# --- scenes ---------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 16)
def sample_scene(level: str, split: str, index: int) -> Scene:
    """The scene of that name; the law is stationary (uniform position, any sign of velocity)."""
    key = [list(LEVELS).index(level), SPLITS[split], index]
    return scene_from_rng(level, np.random.default_rng(key))


def scene_from_rng(level: str, rng: np.random.Generator) -> Scene:
    """Draw a scene of a level; bodies of one scene have different colours."""
    count, _ = LEVELS[level]
    colours = rng.choice(len(COLOURS), size=count, replace=False)
    bodies = tuple(_sample_body(level, list(COLOURS)[colour], rng) for colour in colours)
    background = _one_of(BACKGROUNDS, rng)
    tint = (rng.random(), rng.uniform(0.0, TINT), rng.uniform(*BACKGROUNDS[background]))
    return Scene(bodies, background, colorsys.hsv_to_rgb(*tint))


def _sample_body(level: str, colour: str, rng: np.random.Generator) -> Body:
    shape = _one_of(SHAPES, rng)
    speed, motion = _one_of(SPEEDS, rng), _one_of(MOTIONS, rng)
    angle = np.deg2rad(rng.uniform(*MOTIONS[motion]))
    length = rng.uniform(*SPEEDS[speed])
    signs = 2.0 * rng.integers(2, size=2) - 1
    radius = rng.uniform(*LEVELS[level][1])
    low, high = walls(shape, radius)
    x, y = rng.uniform(low, high)
    return Body(
        shape=shape,
        colour=colour,
        hue=COLOURS[colour] + rng.uniform(-HUE_SPREAD, HUE_SPREAD),
        saturation=rng.uniform(*SATURATION),
        value=rng.uniform(*VALUE),
        radius=float(radius),
        x=float(x),
        y=float(y),
        vx=float(np.round(np.cos(angle), 12) * length * signs[0]),
        vy=float(np.round(np.sin(angle), 12) * length * signs[1]),
        speed=speed,
        motion=motion,
    )


def _one_of(names: Collection[str], rng: np.random.Generator) -> str:
    """What ``rng.choice`` would draw, without the array of words that it makes each time."""
    return list(names)[int(rng.integers(len(names)))]


def prompt(scene: Scene) -> str:
    """The English description: true at every time, silent on what only the video knows."""
    bodies = " and ".join(
        f"a {b.colour} {b.shape} moving {b.speed} and {b.motion}" for b in scene.bodies
    )
    return f"{bodies} over a {scene.background} background"


def parse(text: str) -> tuple[tuple[dict[str, str], ...], str]:
    """Invert :func:`prompt`: the attributes of each body, and the background's name.

    Raises ``ValueError`` when the text is not a description of this world.
    """
    words = text.lower().replace(",", " ").split()
    names: list[tuple[str, set[str]]] = [
        ("colour", set(COLOURS)),
        ("shape", set(SHAPES)),
        ("speed", set(SPEEDS)),
        ("motion", set(MOTIONS)),
    ]
    found = {name: [w for w in words if w in known] for name, known in names}
    background = [w for w in words if w in BACKGROUNDS]
    count = len(found["colour"])
    if not count or any(len(v) != count for v in found.values()) or len(background) != 1:
        raise ValueError(f"not a description of the shapes world: '{text}'")
    bodies = tuple({name: found[name][i] for name, _ in names} for i in range(count))
    return bodies, background[0]


# --- motion: exact at any time --------------------------------------------------------------------


def extents(shape: str, radius: float) -> tuple[float, float, float, float]:
    """How far a shape reaches from its centroid: left, top, right, bottom."""
    if shape == "disc":
        return radius, radius, radius, radius
    if shape == "square":
        half = HALF_SIDE * radius
        return half, half, half, half
    circum = CIRCUMRADIUS * radius
    side = circum * np.sqrt(3) / 2
    return side, circum, side, circum / 2


def walls(shape: str, radius: float) -> tuple[Floats, Floats]:
    """Lowest and highest centroid ``(x, y)`` at which the shape is inside the frame."""
    left, top, right, bottom = extents(shape, radius)
    return np.array([left, top]), np.array([1 - right, 1 - bottom])


def fold(position: Floats, low: Floats, high: Floats) -> Floats:
    """Reflect an unbounded straight path into ``[low, high]``: elastic bounces, in closed form."""
    span = high - low
    phase = np.mod(position - low, 2 * span)
    return low + span - np.abs(phase - span)


def positions(scene: Scene, frames: int, start: int = 0) -> Floats:
    """True centroids ``[T, N, 2]`` at frames ``start .. start + frames``."""
    time = np.arange(start, start + frames, dtype=np.float64)[:, None]
    paths = []
    for body in scene.bodies:
        low, high = walls(body.shape, body.radius)
        straight = np.array([body.x, body.y]) + time * np.array([body.vx, body.vy])
        paths.append(fold(straight, low, high))
    return np.stack(paths, axis=1)


# --- pixels ---------------------------------------------------------------------------------------


def render(scene: Scene, frames: int, size: int, start: int = 0) -> Frames:
    """Draw a scene: ``uint8 [T, size, size, 3]``, anti-aliased by coverage."""
    return draw(scene, positions(scene, frames, start), size)


def draw(scene: Scene, centres: Floats, size: int) -> Frames:
    """Draw a scene's bodies at given centroids ``[T, N, 2]``."""
    image = np.empty((len(centres), size, size, 3), np.float32)
    image[:] = np.asarray(scene.background_rgb, np.float32)
    for n, body in enumerate(scene.bodies):
        alpha = coverage(body.shape, body.radius, centres[:, n], size)[..., None]
        image += alpha * (np.asarray(body.rgb, np.float32) - image)
    return np.round(image * 255).astype(np.uint8)


def coverage(shape: str, radius: float, centres: Floats, size: int) -> NDArray[np.float32]:
    """Share of each pixel that a shape covers, ``[T, size, size]``, for centroids ``[T, 2]``.

    Linear in the distance to the edge, over one pixel.
    """
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    dx = grid[None, None, :] - centres[:, 0, None, None].astype(np.float32)
    dy = grid[None, :, None] - centres[:, 1, None, None].astype(np.float32)
    if shape == "disc":
        distance = np.hypot(dx, dy) - np.float32(radius)
    elif shape == "square":
        distance = np.maximum(np.abs(dx), np.abs(dy)) - np.float32(HALF_SIDE * radius)
    else:
        inner = np.float32(CIRCUMRADIUS * radius / 2)  # radius of the inscribed circle
        slanted = np.abs(dx) * np.float32(np.sqrt(3) / 2) - dy / 2
        distance = np.maximum(dy, slanted) - inner
    covered: NDArray[np.float32] = np.clip(0.5 - distance * size, 0.0, 1.0).astype(np.float32)
    return covered


class Shapes:
    """The world as a :class:`~sfbench.interfaces.Dataset` of true videos."""

    def __init__(self, level: str = "shapes-1", size: int = 32, fps: float = 16.0) -> None:
        """``level``: ``shapes-1`` or ``shapes-2``; ``size``: pixels a side."""
        if level not in LEVELS:
            raise ValueError(f"unknown level '{level}'; the levels are {', '.join(LEVELS)}")
        if not isinstance(size, int):
            raise ValueError("this world is square; its size is one number")
        if size < 16:
            raise ValueError(f"size {size} is too small to tell the shapes apart; use 16 or more")
        self.level, self.size, self.fps = level, size, fps
        self.shape = (size, size)

    def scene(self, ref: SceneRef) -> Scene:
        """The scene behind a name."""
        if ref.dataset != self.level:
            raise ValueError(f"scene of '{ref.dataset}' asked of '{self.level}'")
        return sample_scene(self.level, ref.split, ref.index)

    def clip(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames ``[frames, size, size, 3]`` from frame ``start`` on."""
        return render(self.scene(ref), frames, self.size, start)

    def prompt(self, ref: SceneRef) -> str:
        """The scene's text."""
        return prompt(self.scene(ref))
