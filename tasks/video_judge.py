"""The judge of the video-exposure task: what other true videos show stands in for an oracle.

It looks at the last frame of each chunk with the image features, holds each chunk against the true
prefix (:mod:`sfbench.departure`), and grades that by the true continuations of the other videos.

K chunks, M measures, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sfbench import stats
from sfbench.departure import (
    LEAD,
    Embed,
    Portrait,
    departures,
    graded_by,
    look_of,
    portrait,
)
from sfbench.interfaces import Dataset, Frames
from sfbench.schema import SceneRef
from sfbench.video import VideoError

Floats = NDArray[np.float64]
Grades = dict[tuple[str, int], Floats]
"""``(prompt id, seed)`` -> grades ``[K, M]``, 0..1."""

QUARTERS = 4
DIRECTIONS = 64


class VideoJudge:
    """Judges continuations of some true videos; what it knows of these is found once."""

    def __init__(
        self, world: Dataset, scenes: Mapping[str, SceneRef], embed: Embed, prefix: int
    ) -> None:
        """``scenes``: by prompt id; ``prefix``: true frames that a continuation is held against."""
        self.world, self.scenes, self.embed, self.prefix = world, scenes, embed, prefix
        self._before: dict[tuple[SceneRef, int], Portrait] = {}
        self._films: dict[tuple[SceneRef, int, int, int], Floats] = {}
        self._truth: dict[tuple[int, int, int], dict[str, Floats]] = {}

    def looks(self, frames: Frames, chunk: int) -> Floats:
        """Features ``[K, D]`` of the last frame of each chunk."""
        ends = [min(start + chunk, len(frames)) - 1 for start in range(0, len(frames), chunk)]
        return np.asarray(self.embed(frames[ends]), np.float64)

    def film_looks(self, ref: SceneRef, prefix: int, frames: int, chunk: int) -> Floats:
        """The same of the continuation that was filmed."""
        key = (ref, prefix, frames, chunk)
        if key not in self._films:
            self._films[key] = self.looks(self.world.clip(ref, frames, prefix), chunk)
        return self._films[key]

    def departures(
        self,
        ref: SceneRef,
        prefix: Frames,
        frames: Frames,
        leads: Frames,
        looks: Floats,
        chunk: int,
    ) -> Floats:
        """``[K, M]``: of each chunk from the prefix.

        ``leads`` ``[T, H, W, 3]``: frames that stood in the context; a chunk is seen as it follows
        the last of them before it.
        """
        before = self._portrait_before(ref, prefix)
        past = np.concatenate([prefix[-LEAD:], leads])
        shift = len(past) - len(leads)
        rows = []
        for k, start in enumerate(range(0, len(frames), chunk)):
            piece = frames[start : start + chunk]
            lead = past[max(0, start + shift - LEAD) : start + shift]
            seen = portrait(piece, lead, self.world.fps, look_of(looks[k : k + 1]))
            rows.append(departures(before, seen))
        return np.stack(rows).round(stats.DIGITS)

    def grades(
        self, rows: Iterable[tuple[str, int, Floats]], prefix: int, frames: int, chunk: int
    ) -> Grades:
        """Of continuations ``(prompt id, seed, departures)``, by what others' true ones show."""
        rows = list(rows)
        if not rows:
            return {}
        truth = self.true_departures(prefix, frames, chunk)
        own: dict[str, list[Floats]] = {}
        for prompt, _, gone in rows:
            own.setdefault(prompt, []).append(gone)
        graded = {prompt: iter(found) for prompt, found in graded_by(truth, own).items()}
        return {(prompt, seed): next(graded[prompt]) for prompt, seed, _ in rows}

    def floor(self, frames: int, chunk: int) -> dict[str, Floats]:
        """Prompt id -> grades ``[K, M]`` of the continuation that was filmed."""
        truth = self.true_departures(self.prefix, frames, chunk)
        graded = graded_by(truth, {name: [gone] for name, gone in truth.items()})
        return {name: found[0] for name, found in graded.items()}

    def true_departures(self, prefix: int, frames: int, chunk: int) -> dict[str, Floats]:
        """Prompt id -> departures ``[K, M]`` of the continuation that was filmed.

        A film that cannot be read is left out; all that was asked of it has failed.
        """
        key = (prefix, frames, chunk)
        if key not in self._truth:
            self._truth[key] = {
                name: self._gone(ref, true, prefix, chunk)
                for name, ref in self.scenes.items()
                if (true := self._film(ref, prefix + frames)) is not None
            }
        return self._truth[key]

    def _gone(self, ref: SceneRef, true: Frames, prefix: int, chunk: int) -> Floats:
        film = true[prefix:]
        looks = self.film_looks(ref, prefix, len(film), chunk)
        return self.departures(ref, true[:prefix], film, film, looks, chunk)

    def film_quarters(self, frames: int, chunk: int) -> dict[str, Floats]:
        """Prompt id -> :func:`quarters` of the continuation that was filmed, ``[4, 64]``."""
        known = self.true_departures(self.prefix, frames, chunk)
        return {
            name: quarters(self.film_looks(self.scenes[name], self.prefix, frames, chunk))
            for name in known
        }

    def _film(self, ref: SceneRef, frames: int) -> Frames | None:
        try:
            return self.world.clip(ref, frames)
        except VideoError:
            return None

    def _portrait_before(self, ref: SceneRef, prefix: Frames) -> Portrait:
        """Of the last true frames: as many of a longer prefix as the usual one has."""
        key = (ref, len(prefix))
        if key not in self._before:
            last = prefix[-self.prefix :]
            look = look_of(np.asarray(self.embed(last[-1:]), np.float64))
            self._before[key] = portrait(last, None, self.world.fps, look)
        return self._before[key]


def directed(looks: Floats) -> Floats:
    """Features ``[K, D]``, each of length 1."""
    return np.stack([look_of(looks[k : k + 1]) for k in range(len(looks))])


def quarters(looks: Floats) -> Floats:
    """Features ``[K, D]`` as :data:`QUARTERS` vectors ``[4, 64]``: means, on fixed directions.

    Any fixed map makes a valid kernel distance, and a record stays small. Fewer chunks than
    quarters stand in several.
    """
    count = len(looks)
    bounds = [(q * count // QUARTERS, -(-(q + 1) * count // QUARTERS)) for q in range(QUARTERS)]
    means = np.stack([looks[first:stop].mean(axis=0) for first, stop in bounds])
    rng = np.random.default_rng(stats.RNG_SEED)
    directions = rng.normal(0, DIRECTIONS**-0.5, (looks.shape[1], DIRECTIONS))
    made: Floats = means @ directions
    return made


def mean_by_prompt(table: Mapping[tuple[str, int], Sequence[float]]) -> dict[str, list[float]]:
    """Prompt id -> the mean over chunks of each seed."""
    found: dict[str, list[float]] = {}
    for (prompt, _), row in sorted(table.items()):
        found.setdefault(prompt, []).append(float(np.mean(row)))
    return found
