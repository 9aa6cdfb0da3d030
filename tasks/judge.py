"""From pixels to the series that a record keeps: how well a clip obeys the world.

The oracle grades seven violations a frame. They are weighed in two halves: *looks* is the mean of
the six that concern what is seen (existence, shape, colour, size, background, render), *moves* is
the one that concerns the step into the frame; ``violation`` is the mean of the two. A frozen clip
that looks perfect thus scores .5, and a lost object scores 1 in both (but its background).

A continuation is held against the true scene. A free clip has only a prompt, which leaves much
open: it is held against what its own first native horizon shows, as far as the prompt's words and
the world allow that. So a wrong start and a later departure from the start are both violations.

``T`` frames, ``N`` bodies.
"""

from __future__ import annotations

import colorsys
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfbench import metrics, metrics_video
from sfbench.interfaces import Frames
from sfbench.metrics_view import View
from sfbench.schema import Context, Scores, Series

from . import physics
from .oracle import VIOLATIONS, State, adherence, decode, matched, motion, violations
from .shapes import (
    BACKGROUNDS,
    COLOURS,
    HUE_SPREAD,
    LEVELS,
    MOTIONS,
    SATURATION,
    SPEEDS,
    TINT,
    VALUE,
    Body,
    Scene,
    parse,
    positions,
)

Floats = NDArray[np.float64]

NATIVE = 12  # frames of the native horizon, "1x"
WINDOW = 6  # frames of a window of a free clip
LEAD = 3  # frames of context that make the first step of a chunk, and its change, visible
DIGITS = 5
PIXEL_CURVES = ("exposure", "saturation", "sharpness")
ATTRIBUTES = ("count", "shape", "colour", "background", "speed", "motion")


# --- a free clip ----------------------------------------------------------------------------------


def free_scores(frames: Frames, text: str) -> Scores:
    """Measure a free clip: violations and pixel measures a window, prompt and motion a horizon."""
    state = decode(frames, bodies=len(parse(text)[0]))
    scene = expected_scene(state, text)
    kinds = violations(matched(state, scene), scene)
    looks, moves = halves(kinds)
    per_frame = {"violation": (looks + moves) / 2, "looks": looks, "moves": moves}
    per_frame |= {f"v_{name}": kinds[name] for name in VIOLATIONS}
    per_frame |= {m.name: m.per_frame(frames) for m in metrics.MEASURES}
    per_frame |= _looks_of_pixels(frames)
    values: dict[str, float | None] = {
        "repeated": float(per_frame["repeated"][NATIVE:].mean()) if len(frames) > NATIVE else 0,
        "copied_run": metrics.longest_run(per_frame["repeated"]),
        "still_run": metrics.longest_run(metrics.still(frames)),
    }
    for times in (1, 8):
        stop = times * NATIVE
        if stop <= len(frames) or times == 1:
            values |= _horizon_values(part(state, max(0, stop - NATIVE), stop), scene, text, times)
    return Scores(
        values={name: _rounded(value) for name, value in values.items()},
        series={name: _series(metrics.windows(v, WINDOW)) for name, v in per_frame.items()},
    )


def _horizon_values(state: State, scene: Scene, text: str, times: int) -> dict[str, float | None]:
    """Prompt adherence and motion of one native horizon, named with its place."""
    shown = adherence(state, text)
    moved = motion(state, scene)
    values: dict[str, float | None] = {f"adherence_{a}_{times}x": shown[a] for a in ATTRIBUTES}
    values[f"motion_{times}x"] = persistence(state, moved.persistence)
    values[f"jitter_{times}x"] = moved.jitter
    values[f"pace_{times}x"] = moved.displacement
    return values


def _looks_of_pixels(frames: Frames) -> dict[str, Floats]:
    """Those measures of any video that describe one frame, for the curves of a free clip.

    Each frame is seen alone: a pass of :func:`sfbench.metrics_video.watch` would look for cuts too.
    """
    wanted = [m for m in metrics_video.MEASURES if m.name in PIXEL_CURVES]
    views = [View(frame, index, 1.0, None) for index, frame in enumerate(frames)]
    series = {m.name: np.array([m.per_frame(v) for v in views], np.float32) for m in wanted}
    return {name: values.astype(np.float64) for name, values in series.items()}


def persistence(state: State, measured: float | None) -> float | None:
    """Persistence; 0 where no step could be judged, unless bodies hid one another.

    A clip must not gain by losing its object or by resting at a wall.
    """
    if measured is None and state.occluded.mean() < 0.25:
        return 0.0
    return measured


def expected_scene(state: State, text: str) -> Scene:
    """What a free clip should keep: its first native horizon, drawn into what the text allows."""
    wanted, background = parse(text)
    typical = Scene(
        tuple(_typical(words, len(wanted)) for words in wanted),
        background,
        _background(np.full(3, np.mean(BACKGROUNDS[background])), background),
    )
    head = matched(part(state, 0, NATIVE), typical)
    bodies = tuple(_read(head, n, body, len(wanted)) for n, body in enumerate(typical.bodies))
    seen = np.median(head.background_rgb, axis=0)
    return replace(typical, bodies=bodies, background_rgb=_background(seen, background))


def _typical(words: dict[str, str], count: int) -> Body:
    """The middle of what the words of one body allow."""
    angle = np.deg2rad(np.mean(MOTIONS[words["motion"]]))
    speed = np.mean(SPEEDS[words["speed"]])
    return Body(
        shape=words["shape"],
        colour=words["colour"],
        hue=COLOURS[words["colour"]],
        saturation=float(np.mean(SATURATION)),
        value=float(np.mean(VALUE)),
        radius=float(np.mean(_radii(count))),
        x=0.5,
        y=0.5,
        vx=float(speed * np.cos(angle)),
        vy=float(speed * np.sin(angle)),
        speed=words["speed"],
        motion=words["motion"],
    )


def _read(head: State, n: int, typical: Body, count: int) -> Body:
    """A body as the clip's start shows it, clipped to what its words allow."""
    clear = head.found[:, n] & ~head.occluded[:, n]
    if clear.sum() < 2:
        return typical
    hue, saturation, value = colorsys.rgb_to_hsv(*np.median(head.rgb[clear, n], axis=0))
    turn = (hue - typical.hue + 0.5) % 1.0 - 0.5
    radius = float(np.clip(np.median(head.radius[clear, n]), *_radii(count)))
    track = physics.steps(head.centre[:, n], clear, typical.shape, radius)
    square = physics.persistent_square(track)
    vx, vy = track.lawful if square is None else np.sqrt(np.maximum(square, 0.0))
    speed = np.clip(np.hypot(vx, vy), *SPEEDS[typical.speed])
    angle = np.deg2rad(np.clip(np.rad2deg(np.arctan2(vy, vx)), *MOTIONS[typical.motion]))
    return replace(
        typical,
        hue=typical.hue + float(np.clip(turn, -HUE_SPREAD, HUE_SPREAD)),
        saturation=float(np.clip(saturation, *SATURATION)),
        value=float(np.clip(value, *VALUE)),
        radius=radius,
        vx=float(speed * np.cos(angle)),
        vy=float(speed * np.sin(angle)),
    )


def _background(rgb: Floats, name: str) -> tuple[float, float, float]:
    """A colour clipped to the backgrounds of that name."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    low, high = BACKGROUNDS[name]
    return colorsys.hsv_to_rgb(hue, min(saturation, TINT), float(np.clip(value, low, high)))


def _radii(count: int) -> tuple[float, float]:
    """Range of radii in the level with that many bodies."""
    return next(radii for number, radii in LEVELS.values() if number == count)


# --- a continuation -------------------------------------------------------------------------------


def continuation_scores(frames: Frames, past: Frames, scene: Scene, context: Context) -> Scores:
    """Measure a continuation chunk by chunk.

    ``past`` holds the true frames before the clip and, for the ``true`` arm, also those beside it
    (``[prefix + T, S, S, 3]``): there every chunk continues the truth, in all others the clip
    continues itself.
    """
    bodies = len(scene.bodies)
    clip = matched(decode(frames, bodies), scene)
    true = matched(decode(past, bodies), scene)
    if context.arm == "true":
        pieces = [
            _judged(
                part(true, 0, context.prefix + start),
                part(clip, start, start + context.chunk),
                scene,
            )
            for start in range(0, len(frames), context.chunk)
        ]
        kinds = {name: np.concatenate([p[name] for p in pieces]) for name in VIOLATIONS}
    else:
        kinds = _judged(part(true, 0, context.prefix), clip, scene)
    looks, moves = halves(kinds)
    per_frame = {
        "violation": (looks + moves) / 2,
        "moves": moves,
        "error": place_error(clip, scene, context.prefix),
    }
    values: dict[str, float | None] = {}
    if context.arm == "own":
        whole = join(part(true, max(0, context.prefix - LEAD), context.prefix), clip)
        values["motion"] = persistence(clip, motion(whole, scene).persistence)
        values["jitter"] = motion(whole, scene).jitter
        seen = np.concatenate([past[: context.prefix], frames])
        values["repeated"] = float(metrics.repeated(seen)[context.prefix :].mean())
        values["still_run"] = metrics.longest_run(metrics.still(seen)[context.prefix :])
    return Scores(
        values={name: _rounded(value) for name, value in values.items()},
        series={n: _series(metrics.windows(v, context.chunk)) for n, v in per_frame.items()},
    )


def _judged(before: State, piece: State, scene: Scene) -> dict[str, Floats]:
    """Violations of each frame of ``piece``, the step into it from ``before`` included."""
    lead = part(before, max(0, len(before.count) - LEAD), len(before.count))
    kinds = violations(join(lead, piece), scene)
    return {name: values[len(lead.count) :] for name, values in kinds.items()}


def place_error(state: State, scene: Scene, start: int) -> Floats:
    """Distance ``[T]`` of the bodies from their exact places, in sides; a lost one is 1 away."""
    true = positions(scene, len(state.count), start)
    away = np.linalg.norm(state.centre - true, axis=2)
    distance: Floats = np.where(state.found, np.minimum(away, 1.0), 1.0).mean(axis=1)
    return distance


# --- shared ---------------------------------------------------------------------------------------


def halves(kinds: dict[str, Floats]) -> tuple[Floats, Floats]:
    """*Looks* and *moves* ``[T]`` of the seven violations."""
    looks: Floats = np.mean([kinds[name] for name in VIOLATIONS if name != "motion"], axis=0)
    return looks, kinds["motion"]


def part(state: State, start: int, stop: int) -> State:
    """Frames ``start .. stop`` of a state."""
    whole: dict[str, Any] = {
        f.name: getattr(state, f.name) for f in fields(state) if f.name != "size"
    }
    return replace(state, **{name: values[start:stop] for name, values in whole.items()})


def join(first: State, second: State) -> State:
    """Two states one after the other; their bodies must be in the same order."""
    names = [f.name for f in fields(first) if f.name != "size"]
    joined: dict[str, Any] = {
        n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in names
    }
    return replace(first, **joined)


def _series(values: Floats) -> Series:
    return tuple(_rounded(float(v)) for v in values)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), DIGITS) + 0.0
