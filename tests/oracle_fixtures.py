"""Scenes for the oracle's tests: those held out, and bodies put where a test wants them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from sfbench.tasks import shapes
from sfbench.tasks.oracle import State
from sfbench.tasks.shapes import Body, Scene


def held_out(level: str, count: int) -> list[Scene]:
    return [shapes.sample_scene(level, "test", i) for i in range(count)]


def body(**changes: object) -> Body:
    """A small red disc in the middle that goes right slowly, but for the changes."""
    plain = Body("disc", "red", 0.0, 0.9, 0.85, 0.17, 0.5, 0.5, 0.03, 0.0, "slowly", "horizontally")
    return replace(plain, **changes)


def dark(*bodies: Body) -> Scene:
    return Scene(bodies, "dark", (0.14, 0.14, 0.14))


def rounded(rgb: tuple[float, float, float]) -> NDArray[np.int64]:
    return np.round(np.array(rgb) * 255).astype(int)


def state_at(state: State, times: NDArray[np.int64]) -> State:
    """The state at chosen frames."""
    series = [f.name for f in fields(State) if f.name != "size"]
    return replace(state, **{name: getattr(state, name)[times] for name in series})
