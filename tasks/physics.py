"""The law of the world applied to an observed track: steps, bounces, constancy of velocity.

Between walls a body repeats its step exactly; at a wall one component of the step changes sign.
Nothing here looks at pixels or at the true position: only observed centroids (``[T, 2]``, fractions
of the side), the walls, and how far the body should go in a frame. ``S = T - 1`` steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .shapes import walls

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# How exactly a centroid is known near a wall. A third of a pixel at 32 pixels: the error left by a
# codec; wider would let a body rest near a wall unpunished.
WALL_SLACK = 0.01
# What is measured keeps this much further away, in lawful steps: noise of position would else carry
# bounces out of the reach of the wall, and they would count as reversals.
WALL_MARGIN = 0.5
# A step shorter than this share of the lawful one is "short": lawful only inside a bounce.
SHORT = 0.75
# Error of a step, in lawful steps. A codec that displaces a slow body by a tenth of a pixel at 32
# pixels makes .15 of it; a body that stands still or runs at twice the speed makes 1.
STEP_TOLERANCE, STEP_WORST = 0.25, 1.0


@dataclass(frozen=True)
class Steps:
    """The steps of one body.

    A body that does not move along an axis never meets that axis's walls, so a vertical mover that
    slides along the left wall is judged like any other.
    """

    step: Floats
    """``[S, 2]`` signed displacement; 0 where not seen."""
    seen: Bools
    """``[S]`` both ends were observed."""
    bounce: Bools
    """``[S, 2]`` the step may hold a bounce along that axis."""
    free: Bools
    """``[S]`` seen, and clear of every wall by a margin: what measurements are made of."""
    lawful: Floats
    """``[2]`` how far along each axis a step should go."""

    @property
    def speed(self) -> float:
        """Length of the lawful step."""
        return float(np.hypot(*self.lawful))


def steps(
    centre: Floats, seen: Bools, shape: str, radius: float, lawful: Floats | None = None
) -> Steps:
    """Steps of a track ``[T, 2]``, observed where ``seen [T]``, of a body of that shape and size.

    A bounce makes the distances to the wall before and after it add up to the lawful step, so a
    step may hold a bounce only if they add up to no more. ``lawful`` of ``None``: unknown, and
    taken from the track itself (the median step along each axis).
    """
    both = seen[1:] & seen[:-1]
    step = np.where(both[:, None], np.diff(np.where(seen[:, None], centre, 0.0), axis=0), 0.0)
    length = np.abs(step)
    if lawful is None:
        lawful = np.median(length[both], axis=0) if both.any() else np.zeros(2)
    low, high = walls(shape, radius)
    to_low = centre[1:] + centre[:-1] - 2 * low
    to_high = 2 * high - centre[1:] - centre[:-1]
    reach = np.where(both[:, None], np.minimum(to_low, to_high), np.inf)
    bounce = _may_bounce(length, reach, lawful, margin=0.0)
    free = both & ~_may_bounce(length, reach, lawful, WALL_MARGIN).any(axis=1)
    return Steps(step, both, bounce, free, np.asarray(lawful, np.float64))


def _may_bounce(length: Floats, reach: Floats, lawful: Floats, margin: float) -> Bools:
    """Where a step ``[S, 2]`` may hold a bounce, the wall moved inwards by ``margin`` steps.

    After a bounce a body leaves: of two short steps in a row at a wall the second is no bounce, or
    a body could lie at the wall for ever.
    """
    near = (reach <= (1 + margin) * lawful + 2 * WALL_SLACK) & (lawful > WALL_SLACK / 2)
    short = near & (length < SHORT * lawful)
    bounce: Bools = near.copy()
    bounce[1:] &= ~(short[1:] & short[:-1])
    return bounce


def step_violations(track: Steps) -> Floats:
    """How far each step ``[S]`` departs from the law, 0..1.

    The worse of two: its extent along each axis against the lawful one (frozen, too slow, too fast,
    thrown), and its change from the step before (reversed, jittering; half, because a reversal
    doubles the step). Where an axis may hold a bounce, only too long a step counts along it.
    """
    excess = np.abs(track.step) - track.lawful
    extent = np.where(track.bounce, np.maximum(excess, 0.0), np.abs(excess))
    turn = np.zeros_like(track.step)
    steady = (track.seen[1:] & track.seen[:-1])[:, None] & ~track.bounce[1:] & ~track.bounce[:-1]
    turn[1:] = np.where(steady, np.abs(np.diff(track.step, axis=0)) / 2, 0.0)
    error: Floats = np.maximum(np.hypot(*extent.T), np.hypot(*turn.T)) / track.speed
    return np.clip((error - STEP_TOLERANCE) / (STEP_WORST - STEP_TOLERANCE), 0.0, 1.0)


def persistent_square(track: Steps) -> Floats | None:
    """Mean of ``step(t) * step(t + 2)`` along each axis ``[2]``: the square of the velocity.

    Steps two apart share no position, so white noise of position cancels. ``None`` if no three
    steps in a row are free.
    """
    free = track.free
    triple = free[:-2] & free[1:-1] & free[2:]
    if not triple.any():
        return None
    square: Floats = (track.step[:-2] * track.step[2:])[triple].mean(axis=0)
    return square


def second_difference(track: Steps) -> float | None:
    """RMS change from a free step to the next, fraction of the side; ``None`` without any."""
    pair = track.free[1:] & track.free[:-1]
    if not pair.any():
        return None
    change = np.diff(track.step, axis=0)[pair]
    return float(np.sqrt((change**2).sum(axis=1).mean()))


def displacement(track: Steps) -> float | None:
    """Mean length of the free steps, fraction of the side; ``None`` if there are none."""
    if not track.free.any():
        return None
    return float(np.hypot(*track.step[track.free].T).mean())
