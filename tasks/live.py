"""The oracle on a video that is still being made: how far its newest frames violate the world.

As in :mod:`.judge`, a free clip is held against its prompt and what its own first native horizon
shows. So nothing is known before that horizon is whole; then it is judged at once, and from there
on each piece as it comes, with the few frames before it that make its first step visible.
"""

from __future__ import annotations

import numpy as np

from sfbench.interfaces import Frames

from .judge import LEAD, NATIVE, expected_scene, halves
from .oracle import decode, matched, violations
from .shapes import Scene, parse


class LiveViolation:
    """The violation, 0 (lawful) to 1 (worst), of each frame of a stream of one prompt."""

    def __init__(self, text: str, height: int, width: int) -> None:
        """Raises ``ValueError`` for a prompt or a shape that is not of the embedded world."""
        if height != width:
            raise ValueError(f"this world is square, not {width}x{height}")
        self._text, self._bodies = text, len(parse(text)[0])
        self._seen: Frames = np.empty((0, height, width, 3), np.uint8)
        self._scene: Scene | None = None

    def add(self, frames: Frames) -> list[float]:
        """Of the frames that could not be judged before; empty within the first horizon."""
        new = len(frames)
        self._seen = np.concatenate([self._seen, frames])
        if self._scene is None:
            if len(self._seen) < NATIVE:
                return []
            first = decode(self._seen[:NATIVE], self._bodies)
            self._scene, new = expected_scene(first, self._text), len(self._seen)
        state = matched(decode(self._seen, self._bodies), self._scene)
        looks, moves = halves(violations(state, self._scene))
        self._seen = self._seen[-LEAD:]
        return [float(value) for value in (looks[-new:] + moves[-new:]) / 2]
