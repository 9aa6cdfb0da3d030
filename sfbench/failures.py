"""Failures of known size put into true videos, and changes that are none.

What long videos are known to do wrong, each as a function of clip and dose. All but ``frozen``
leave the clip's first quarter alone; what grows does so from there to the end. Doses stand in
``doses.yaml``; a world that can do better than pixels (move one object and not the view) has its
own version of ``swap``, ``teleport`` and ``slowdown``.

``T`` frames; clips are ``uint8 [T, H, W, 3]``.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .interfaces import Frames
from .schema import Base, canonical_json
from .video import REC709, read_clip, write_clip

Floats = NDArray[np.float64]
Failure = Callable[[Frames, float, Frames], Frames]
"""Of the clip, the dose, and another true clip of the same size."""

PARTS = 8
"""A clip is cut into this many chunks where a failure strikes chunk by chunk."""


class Doses(Base):
    """One failure's line of ``doses.yaml``."""

    unit: str
    world: tuple[float, ...]
    videos: tuple[float, ...]


@cache
def doses() -> Mapping[str, Doses]:
    """Failure -> its doses, smallest first."""
    import yaml

    text = files(__package__).joinpath("doses.yaml").read_text(encoding="utf-8")
    return {name: Doses.model_validate(line) for name, line in yaml.safe_load(text).items()}


def doses_sha256() -> str:
    """Of all doses and units, whatever else stands in the file: what a certification records."""
    content = {name: line.model_dump(mode="json") for name, line in doses().items()}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def inject(failure: str, clip: Frames, dose: float, other: Frames) -> Frames:
    """``clip`` with a failure of that dose."""
    return FAILURES[failure](clip, dose, other)


# --- looks ----------------------------------------------------------------------------------------


def exposure(clip: Frames, dose: float, _: Frames) -> Frames:
    """Brightens: gain ``1 + dose`` at the end."""
    return levels(clip * (1 + dose * ramp(clip)))


def saturation(clip: Frames, dose: float, _: Frames) -> Frames:
    """Colours fade (dose < 0) or glow: distance from grey times ``1 + dose`` at the end."""
    grey = (clip @ REC709)[..., None]
    return levels(grey + (clip - grey) * (1 + dose * ramp(clip)))


def blur(clip: Frames, dose: float, _: Frames) -> Frames:
    """Gaussian blur whose sigma is ``dose`` short sides at the end."""
    import cv2

    side = min(clip.shape[1:3])
    widths = dose * side * ramp(clip).ravel()
    return np.stack(
        [
            cv2.GaussianBlur(f, (0, 0), s) if s > 0.05 else f
            for f, s in zip(clip, widths, strict=True)
        ]
    ).astype(np.uint8)


def noise(clip: Frames, dose: float, _: Frames) -> Frames:
    """Fresh Gaussian noise in every frame, ``dose`` levels at the end."""
    drawn = np.random.default_rng(_seed(clip)).normal(0, dose, clip.shape)
    return levels(clip + drawn * ramp(clip))


def colour(clip: Frames, dose: float, _: Frames) -> Frames:
    """All hues turn, by ``dose`` degrees at the end, at equal luma."""
    turn = np.deg2rad(dose) * ramp(clip).ravel()
    grey = (clip @ REC709)[..., None]
    return levels(grey + np.einsum("thwc,tdc->thwd", clip - grey, _about_grey(turn)))


def jump(clip: Frames, dose: float, _: Frames) -> Frames:
    """Every chunk after the first is brighter or darker by ``dose`` levels, in turn."""
    chunk = np.arange(len(clip)) * PARTS // len(clip)
    sign = np.where(chunk == 0, 0, np.where(chunk % 2, 1, -1))
    return levels(clip + dose * sign[:, None, None, None])


def collapse(clip: Frames, dose: float, _: Frames) -> Frames:
    """The middle quarter loses ``dose`` of its contrast, and recovers."""
    place = np.arange(len(clip)) / len(clip)
    lost = dose * ((place >= 3 / 8) & (place < 5 / 8))[:, None, None, None]
    middle = clip.mean(axis=(1, 2, 3), keepdims=True)
    return levels(clip + (middle - clip) * lost)


def swap(clip: Frames, dose: float, other: Frames) -> Frames:
    """From the middle on, an area of ``dose`` frames around the centre shows another video."""
    height, width = (round(side * np.sqrt(dose)) for side in clip.shape[1:3])
    top, left = (clip.shape[1] - height) // 2, (clip.shape[2] - width) // 2
    place = np.s_[len(clip) // 2 :, top : top + height, left : left + width]
    out = clip.copy()
    out[place] = other[place]
    return out


# --- time -----------------------------------------------------------------------------------------


def freeze(clip: Frames, dose: float, _: Frames) -> Frames:
    """The last ``dose`` of the clip is one frame."""
    last = round(len(clip) * (1 - dose))
    return clip[np.minimum(np.arange(len(clip)), last)]


def frozen(clip: Frames, dose: float, _: Frames) -> Frames:
    """The first ``dose`` of the clip is its first frame; then it sets out."""
    return clip[np.maximum(np.arange(len(clip)) - round(len(clip) * dose), 0)]


def loop(clip: Frames, dose: float, _: Frames) -> Frames:
    """The last ``dose`` of the clip plays the quarter before it backwards and forwards, no jump."""
    start, period = round(len(clip) * (1 - dose)), len(clip) // 4
    frame = np.arange(len(clip))
    back = np.abs((frame - start + 1) % (2 * period - 2) - (period - 1))
    return clip[np.where(frame < start, frame, start - period + back)]


def teleport(clip: Frames, dose: float, _: Frames) -> Frames:
    """In the middle the view jumps sideways by ``dose`` frames; what leaves comes in again."""
    out, half = clip.copy(), len(clip) // 2
    out[half:] = np.roll(clip[half:], round(dose * clip.shape[2]), axis=2)
    return out


def slowdown(clip: Frames, dose: float, _: Frames) -> Frames:
    """After the first quarter time runs at ``1 - dose``; frames between frames are blended."""
    time = slowed(len(clip), dose)
    before = np.floor(time).astype(int)
    after = np.minimum(before + 1, len(clip) - 1)
    part = (time - before)[:, None, None, None]
    return levels(clip[before] * (1 - part) + clip[after] * part)


def regression(clip: Frames, dose: float, _: Frames) -> Frames:
    """At the start of each chunk after the second, ``dose`` of it shows the clip's first frames."""
    length = len(clip) // PARTS
    place, chunk = np.arange(len(clip)) % length, np.arange(len(clip)) // length
    back = (chunk > 1) & (place < round(dose * length))
    return clip[np.where(back, place, np.arange(len(clip)))]


# --- what is no failure ---------------------------------------------------------------------------


def reencoded(clip: Frames, fps: float) -> Frames:
    """Through H.264 in RGB at crf 12."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, clip, fps, crf=12)
        return read_clip(path, len(clip), clip.shape[1] * clip.shape[2])[0]


def one_level(clip: Frames, fps: float) -> Frames:
    """Each frame a level brighter, darker, or neither."""
    step = np.random.default_rng(_seed(clip)).integers(-1, 2, len(clip))
    return levels(clip.astype(np.float64) + step[:, None, None, None])


FAILURES: Mapping[str, Failure] = {
    made.__name__: made
    for made in (
        exposure,
        saturation,
        blur,
        noise,
        colour,
        freeze,
        frozen,
        loop,
        jump,
        collapse,
        swap,
        teleport,
        slowdown,
        regression,
    )
}
NUISANCES: Mapping[str, Callable[[Frames, float], Frames]] = {
    "re-encoded": reencoded,
    "one level": one_level,
}


# --- helpers --------------------------------------------------------------------------------------


def ramp(clip: Frames) -> Floats:
    """0 over the first quarter, then up to 1 at the last frame: ``[T, 1, 1, 1]``."""
    start, last = len(clip) // 4, len(clip) - 1
    rising: Floats = np.clip((np.arange(len(clip)) - start) / (last - start), 0, 1)
    return rising[:, None, None, None]


def slowed(frames: int, dose: float) -> Floats:
    """Time ``[T]`` that runs at ``1 - dose`` after the first quarter."""
    time = np.arange(frames, dtype=np.float64)
    start = frames // 4
    return np.where(time <= start, time, start + (time - start) * (1 - dose))


def levels(clip: Floats) -> Frames:
    """Rounded to whole levels within 0..255."""
    return np.clip(np.round(clip), 0, 255).astype(np.uint8)


def _about_grey(turn: Floats) -> Floats:
    """Rotations ``[T, 3, 3]`` of RGB about the grey axis, by angles ``[T]`` (Rodrigues)."""
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    sine, cosine = np.sin(turn)[:, None, None], np.cos(turn)[:, None, None]
    turned: Floats = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    return turned


def _seed(clip: Frames) -> int:
    """The same clip always gets the same noise."""
    return int(clip[0].sum()) + len(clip)
