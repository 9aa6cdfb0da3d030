"""How far a stream has come from its own first second, measured while it is made.

Three measures of any video (:mod:`.metrics_video`), each as its mean over the last second minus
that over the first; and where the prompt describes a world that has an oracle (``live`` in the
registry), the mean violation of the last second. A new prompt asks for another picture, so all of
them start anew with it.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean
from typing import Any

from .interfaces import Frames
from .metrics_video import measures_known
from .metrics_view import View
from .registry import load, providers
from .schema import Geometry

CHANGES = ("sharpness", "exposure", "saturation")
"""Measures that look at one frame alone."""
VIOLATION = "violation"


class Drift:
    """What is shown live under one prompt; ``None`` is what is not, or not yet, measured."""

    def __init__(self, text: str, geometry: Geometry) -> None:
        self._fps, self._second = geometry.fps, max(1, round(geometry.fps))
        self._measures = [measure for measure in measures_known() if measure.name in CHANGES]
        self._oracle = _oracle(text, geometry)
        self._first: dict[str, list[float]] = {name: [] for name in CHANGES}
        self._last: dict[str, deque[float]] = {
            name: deque(maxlen=self._second) for name in (*CHANGES, VIOLATION)
        }

    def add(self, frames: Frames) -> dict[str, float | None]:
        """The values after these frames ``[t, H, W, 3]``."""
        for frame in frames:
            view = View(frame, 0, self._fps, None)
            for measure in self._measures:
                self._note(measure.name, measure.per_frame(view))
        if self._oracle:
            self._last[VIOLATION].extend(self._oracle.add(frames))
        violations = self._last[VIOLATION]
        found = {name: self._change(name) for name in CHANGES}
        return found | {VIOLATION: fmean(violations) if violations else None}

    def _note(self, name: str, value: float | None) -> None:
        if value is None:
            return
        if len(self._first[name]) < self._second:
            self._first[name].append(value)
        self._last[name].append(value)

    def _change(self, name: str) -> float | None:
        """Until the first second is over there is nothing to hold against it."""
        first = self._first[name]
        return fmean(self._last[name]) - fmean(first) if len(first) == self._second else None


def described() -> list[dict[str, str]]:
    """The names and units of all values, in the order in which they are shown."""
    units = {measure.name: measure.unit for measure in measures_known()} | {VIOLATION: "0..1"}
    return [{"name": name, "unit": units[name]} for name in (*CHANGES, VIOLATION)]


def _oracle(text: str, geometry: Geometry) -> Any:
    """Whichever knows the world of this prompt; ``None`` where none does."""
    for name in providers("live"):
        try:
            return load("live", name)(text, geometry.height, geometry.width)
        except ValueError:
            continue
    return None
