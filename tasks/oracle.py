"""The oracle: what the seen state is worth against a prompt, a scene's constants, and the law.

:func:`decode` reads the state of the world from pixels alone (:mod:`.vision`).
:func:`adherence` holds it against the prompt's words. :func:`violations` and :func:`motion` hold it
against the constants of a scene and the law of motion (:mod:`.physics`), never against the true
position: a perfect model that continues a clip in another lawful way violates nothing.

While two bodies touch, the one behind (``occluded``) is not judged for shape, size and position;
where it vanishes behind the other and returns soon, it is not missing. A body that is lost in any
other way scores the worst value in every component except the background.

``T`` frames, ``N`` bodies. Lengths are fractions of the side, colours 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from . import physics
from .shapes import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, SPEEDS, Scene, parse
from .vision import State, decode, hsv, hue_distance

__all__ = [
    "VIOLATIONS",
    "Motion",
    "State",
    "adherence",
    "decode",
    "matched",
    "motion",
    "violations",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

VIOLATIONS = ("existence", "shape", "colour", "size", "background", "render", "motion")

# Bands of tolerance: (faultless up to, worst from). Each starts at what a small learned codec of
# 33 dB does to one true frame in a hundred or fewer, and ends where the thing has become another.
COLOUR_BAND = (0.08, 0.50)  # RGB distance; the width of a hue's family is .3, red to yellow .7
SIZE_BAND = (0.06, float(np.log(2)))  # log ratio of radii; half or double the size is the worst
BACKGROUND_BAND = (0.04, 0.35)  # RGB distance; dark to grey is .35 or more
MISFIT_BAND = (0.15, 0.50)  # 1 - soft IoU; a disc and a triangle have .3
NOISE_BAND = (0.04, 0.20)  # RMS; 28 dB, 14 dB

# A body that vanishes behind another comes back within this many frames (99.5 % of truth).
HIDDEN_FRAMES = 8
# Below half the slowest speed of the world a clip does not move.
STILL = min(low for low, _ in SPEEDS.values()) / 2


# --- against a scene ------------------------------------------------------------------------------


def violations(state: State, scene: Scene) -> dict[str, Floats]:
    """Grade each frame ``[T]`` by component, 0 (lawful) to 1 (worst); the mean over judged bodies.

    ``existence``: the number of objects is not the scene's (0 or 1). ``shape``: another shape, or
    none (0 or 1). ``colour``, ``background``: RGB distance. ``size``: log ratio of radii.
    ``render``: misfit with the best fitting render of any shape, or noise: blur, speckle, mush.
    ``motion``: departure of the step that led to the frame from the law; the first frame has no
    step and repeats the second's value (0 if there is only one).

    A body that is lost scores 1 in all of them but the background, and in ``motion`` once more when
    it returns. Of an occluded body only existence and colour are judged; where no body is judged,
    the component is 0.
    """
    state = matched(state, scene)
    hidden = _hidden(state)
    lost = ~state.found & ~hidden
    clear = state.found & ~state.occluded
    shape = np.array([SHAPES.index(body.shape) for body in scene.bodies])
    radius = np.array([body.radius for body in scene.bodies])
    rgb = np.array([body.rgb for body in scene.bodies])
    tint = np.linalg.norm(state.background_rgb - scene.background_rgb, axis=1)

    miscounted = state.count + hidden.sum(axis=1) != len(scene.bodies)
    off_colour = _grade(np.linalg.norm(state.rgb - rgb, axis=2), COLOUR_BAND)
    off_size = _grade(np.abs(np.log(state.radius / radius)), SIZE_BAND)
    misfit = _over_bodies(_grade(1 - state.fit, MISFIT_BAND), clear, lost)
    graded = {
        "existence": (miscounted | lost.any(axis=1)).astype(np.float64),
        "shape": _over_bodies((state.shape != shape).astype(np.float64), clear, lost),
        "colour": _over_bodies(off_colour, state.found, lost),
        "size": _over_bodies(off_size, clear, lost),
        "background": _grade(tint, BACKGROUND_BAND),
        "render": np.maximum(misfit, _grade(state.noise, NOISE_BAND)),
        "motion": _over_bodies(*_motion_violations(state, scene, clear, lost), lost),
    }
    return {name: graded[name] for name in VIOLATIONS}


def _motion_violations(
    state: State, scene: Scene, clear: Bools, lost: Bools
) -> tuple[Floats, Bools]:
    """Violation of the step into each frame ``[T, N]``, and where there is one to judge."""
    value, judged = np.zeros(clear.shape), clear.copy()
    if len(clear) == 1:
        return value, judged
    for n in range(len(scene.bodies)):
        track = _track(state, scene, n)
        value[1:, n] = physics.step_violations(track)
        judged[1:, n] = track.seen
    returned = lost[:-1] & clear[1:]
    value[1:][returned | lost[1:]] = 1.0
    judged[1:] |= returned | lost[1:]
    value[0], judged[0] = value[1], judged[1]
    return value, judged


def _over_bodies(value: Floats, judged: Bools, lost: Bools) -> Floats:
    """Mean ``[T]`` of ``value [T, N]`` over judged bodies, a lost one counting as 1; 0 if none."""
    total = np.where(lost, 1.0, np.where(judged, value, 0.0)).sum(axis=1)
    floats: Floats = total / np.maximum((judged | lost).sum(axis=1), 1)
    return floats


def _grade(distance: Floats, band: tuple[float, float]) -> Floats:
    """0 up to the band's tolerance, 1 from its worst on, linear between."""
    tolerance, worst = band
    return np.clip((distance - tolerance) / (worst - tolerance), 0.0, 1.0)


@dataclass(frozen=True)
class Motion:
    """How a clip moves, a mean over bodies; ``None`` where no step could be judged."""

    speed: float | None
    """Persistent speed, fraction of the side a frame."""
    persistence: float | None
    """Mean of ``step(t) * step(t + 2)`` over the scene's squared speed, away from walls: 1 for
    truth, 0 for a frozen clip, and unmoved by white noise of position."""
    jitter: float | None
    """RMS second difference of position over the scene's speed, away from walls; 0 for truth."""
    displacement: float | None
    """Mean length of a step over the scene's speed; inflated by jitter, so never to stand alone."""
    frames: int
    """Steps that entered."""


def motion(state: State, scene: Scene) -> Motion:
    """Measure how a clip moves, in units of the scene's speed."""
    state = matched(state, scene)
    tracks = [_track(state, scene, n) for n in range(len(scene.bodies))]
    squares = [(physics.persistent_square(track), track.speed) for track in tracks]
    changes = [(physics.second_difference(track), track.speed) for track in tracks]
    lengths = [(physics.displacement(track), track.speed) for track in tracks]
    return Motion(
        speed=_mean([np.sqrt(max(s.sum(), 0.0)) for s, _ in squares if s is not None]),
        persistence=_mean([s.sum() / speed**2 for s, speed in squares if s is not None]),
        jitter=_mean([c / speed for c, speed in changes if c is not None]),
        displacement=_mean([d / speed for d, speed in lengths if d is not None]),
        frames=sum(int(track.free.sum()) for track in tracks),
    )


def _track(state: State, scene: Scene, n: int) -> physics.Steps:
    """Steps of body ``n`` where it stands clear, against the scene's velocity and walls."""
    body = scene.bodies[n]
    clear = state.found[:, n] & ~state.occluded[:, n]
    lawful = np.abs([body.vx, body.vy])
    return physics.steps(state.centre[:, n], clear, body.shape, body.radius, lawful)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


# --- against a prompt -----------------------------------------------------------------------------


def adherence(state: State, text: str) -> dict[str, float]:
    """How far a clip shows what the prompt says, each 0..1, a mean over the prompt's bodies.

    ``count``, ``shape``, ``colour``, ``background``: share of frames that show it (a frame that has
    lost the body does not). ``speed``, ``motion``: 1 if the word whose range is nearest to the
    persistent velocity (speeds in ratio, directions in angle) is the prompt's. A clip that stands
    still, or whose body is not seen long enough to tell, has neither. A body that is covered in
    most frames says nothing of its shape, speed and motion where these cannot be seen.
    """
    wanted, background = parse(text)
    hue = hsv(_typical_rgb(state))[0]
    state = _reordered(state, np.stack([hue_distance(hue, COLOURS[w["colour"]]) for w in wanted]))
    hidden = _hidden(state)
    covered = state.occluded | hidden
    shape = [SHAPES.index(w["shape"]) for w in wanted]
    colour = [list(COLOURS).index(w["colour"]) for w in wanted]
    velocities = [_velocity(state, w["shape"], n) for n, w in enumerate(wanted)]
    speed = [_speed_word(v) == w["speed"] for v, w in zip(velocities, wanted, strict=True)]
    direction = [_motion_word(v) == w["motion"] for v, w in zip(velocities, wanted, strict=True)]
    told = np.array([v is not None for v in velocities]) | (covered.mean(axis=0) < 0.5)
    return {
        "count": float(np.mean(state.count + hidden.sum(axis=1) == len(wanted))),
        "shape": _share(state.shape == shape, ~covered),
        "colour": _share(state.colour == colour, ~hidden),
        "background": float(np.mean(state.background == list(BACKGROUNDS).index(background))),
        "speed": _share(np.array([speed]), told[None]),
        "motion": _share(np.array([direction]), told[None]),
    }


def _share(right: Bools, judged: Bools) -> float:
    """Share of judged frames ``[T, N]`` that are right, a mean over bodies; 0 if none is judged."""
    bodies = judged.any(axis=0)
    shares = (right & judged).sum(axis=0)[bodies] / judged.sum(axis=0)[bodies]
    return float(shares.mean()) if bodies.any() else 0.0


def _velocity(state: State, shape: str, n: int) -> Floats | None:
    """Persistent speed ``[2]`` along each axis of a body whose size only the pixels know."""
    clear = state.found[:, n] & ~state.occluded[:, n]
    radius = float(np.median(state.radius[clear, n])) if clear.any() else 0.0
    square = physics.persistent_square(physics.steps(state.centre[:, n], clear, shape, radius))
    return None if square is None else np.sqrt(np.maximum(square, 0.0))


def _speed_word(velocity: Floats | None) -> str | None:
    """The word whose range of speeds is nearest in ratio; none for a body that stands still."""
    if velocity is None or np.hypot(*velocity) < STILL:
        return None
    speed = np.log(np.hypot(*velocity))
    return min(SPEEDS, key=lambda word: _outside(speed, *np.log(SPEEDS[word])))


def _motion_word(velocity: Floats | None) -> str | None:
    """The word whose range of directions is nearest; none for a body that stands still."""
    if velocity is None or np.hypot(*velocity) < STILL:
        return None
    angle = np.degrees(np.arctan2(velocity[1], velocity[0]))
    return min(MOTIONS, key=lambda word: _outside(angle, *MOTIONS[word]))


def _outside(value: float, low: float, high: float) -> float:
    """Distance from a value to an interval."""
    return max(low - value, value - high, 0.0)


# --- which body is which --------------------------------------------------------------------------


def matched(state: State, scene: Scene) -> State:
    """The state with its bodies in the scene's order, matched by their colour over the clip."""
    rgb = _typical_rgb(state)
    distance = [np.linalg.norm(rgb - body.rgb, axis=1) for body in scene.bodies]
    return _reordered(state, np.stack(distance))


def _typical_rgb(state: State) -> Floats:
    """Median colour ``[N, 3]`` of each body over the clip; grey for one that is never found."""
    return np.stack(
        [
            np.median(rgb[found], axis=0) if found.any() else np.full(3, 0.5)
            for rgb, found in zip(state.rgb.swapaxes(0, 1), state.found.T, strict=True)
        ]
    )


def _reordered(state: State, distance: Floats) -> State:
    """Give each expected body (row) the seen body (column) that makes the least total distance."""
    expected, bodies = distance.shape
    if expected != bodies:
        raise ValueError(f"{bodies} bodies were decoded where {expected} are expected")
    _, order = optimize.linear_sum_assignment(distance)
    per_body = ("found", "occluded", "shape", "fit", "colour", "rgb", "radius", "centre")
    return replace(state, **{name: getattr(state, name)[:, order] for name in per_body})


def _hidden(state: State) -> Bools:
    """``[T, N]`` not found, but only because another body is in front.

    A gap in the sight of a body is lawful if the body was touching another when last seen and is so
    again when next seen (an end of the clip counts as such), and if the gap is short.
    """
    hidden = np.zeros_like(state.found)
    for n, (found, occluded) in enumerate(zip(state.found.T, state.occluded.T, strict=True)):
        gaps, number = ndimage.label(~found)
        for (gap,) in ndimage.find_objects(gaps, number):
            edges = [t for t in (gap.start - 1, gap.stop) if 0 <= t < len(found)]
            lawful = bool(edges) and all(occluded[edges])
            hidden[gap, n] = lawful and gap.stop - gap.start <= HIDDEN_FRAMES
    return hidden
