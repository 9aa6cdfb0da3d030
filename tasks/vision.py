"""The oracle's eyes: the state of the world read from pixels alone, vectorised over frames.

It rests on two facts of the world. The background is one colour and covers most of the frame, so it
is the median. A pixel on the rim of a body is a blend of body and background, so the share of it
that the body covers is a linear unmixing. Position and size are moments of that share; the shape is
whichever render overlaps it best.

``T`` frames, ``N`` bodies, ``S`` pixels a side. Lengths are fractions of the side, colours 0..1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sfbench.interfaces import Frames

from .shapes import BACKGROUNDS, COLOURS, SHAPES, TINT, coverage

Floats = NDArray[np.float64]
Pixels = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# --- what counts as seen --------------------------------------------------------------------------
# RGB distance from the background at which a pixel is foreground. The faintest true body (blue on
# grey) stands out by .41, the ringing of a 35 dB codec by under .1.
CONTRAST = 0.25
# A piece smaller than a disc of this radius is debris, not an object: a third of the smallest body,
# 10 pixels at 32.
DEBRIS = 0.055
# Foreground beyond half the frame means that the median was not the background.
LARGEST = 0.5
# A body's colour is the mean over its whole pixels, and which pixels are whole is known from its
# colour; so often are the two found in turn. The mean over body and rim starts it a tenth off.
REFINEMENTS = 2
# Soft IoU under which no shape is recognised. A disc and a triangle of equal area share .7; a 33 dB
# codec leaves true bodies at .84 or more, but at .7 strong pixel noise would already hide shapes.
RECOGNISED = 0.6

# --- names of colours -----------------------------------------------------------------------------
# Half of the narrowest gap between families (red to yellow, 50 degrees): beyond it, no name.
HUE_REACH = 25 / 360
# True bodies have .78 and .75; a wash of colour is no longer "red".
LEAST_SATURATION, LEAST_VALUE = 0.4, 0.4
# How far outside its family's range a background's value may lie: nearly half of the smaller gap.
VALUE_REACH = 0.09
# Chroma beyond the tint allowed at that value; two levels of rounding and a codec make .03.
CHROMA_SLACK = 0.06

# --- telling bodies apart -------------------------------------------------------------------------
# Foreground with less chroma than this has no hue to tell bodies apart by.
GREY = 0.10
# A part of one body whose hue is this far from the body's own is another object that touches it.
# The rim of a body keeps its hue; a codec turns it by less than half of this.
FOREIGN_HUE = 40 / 360

CROSS: Ints = np.zeros((3, 3, 3), np.int64)  # neighbours within a frame, never across time
CROSS[1] = ndimage.generate_binary_structure(2, 1)
HUE_BINS = 72
HUE_GAP = 3  # bins; peaks nearer than this are one body (those of one scene are 26 degrees apart)
FAINTEST = 0.02  # of the strongest peak; a body seen in one frame of fifty


@dataclass(frozen=True)
class State:
    """What the pixels of ``T`` frames say about ``N`` bodies, in a constant order of bodies."""

    size: int
    """Pixels a side."""
    count: Ints
    """``[T]`` separate objects seen in the frame, any number."""
    found: Bools
    """``[T, N]`` a piece of foreground large enough to be an object."""
    occluded: Bools
    """``[T, N]`` another body is in front, or adjoins: shape, size, position not to be judged."""
    shape: Ints
    """``[T, N]`` index into ``SHAPES``; -1: not found, or no shape fits."""
    fit: Floats
    """``[T, N]`` soft IoU with the best fitting render of any shape; 0 where not found."""
    colour: Ints
    """``[T, N]`` index into ``COLOURS``; -1: no family."""
    rgb: Floats
    """``[T, N, 3]``; NaN where not found."""
    radius: Floats
    """``[T, N]`` of the disc of equal area; NaN where not found."""
    centre: Floats
    """``[T, N, 2]`` centroid ``x, y``; NaN where not found."""
    background: Ints
    """``[T]`` index into ``BACKGROUNDS``; -1: none, e.g. tinted too much."""
    background_rgb: Floats
    """``[T, 3]``"""
    noise: Floats
    """``[T]`` RMS of what the fitted render does not explain, 0..1."""


# --- from pixels to state -------------------------------------------------------------------------


def decode(frames: Frames, bodies: int = 1) -> State:
    """Read the state of ``bodies`` objects from ``uint8 [T, S, S, 3]``, S of 16 or more.

    With one body, the object is the largest piece of foreground. With more, pixels are first
    divided by hue (the most frequent hues of the clip), so bodies are told apart by colour alone
    and keep their identity when they cross; two bodies of one hue are one body. Of bodies that
    touch, the one in front is judged and the others are marked ``occluded``. Any video is accepted:
    where there is nothing to see, nothing is found.
    """
    size = frames.shape[1] if frames.ndim == 4 else 0
    if not frames.size or frames.shape[1:] != (size, size, 3):
        raise ValueError(f"the oracle reads square RGB frames [T, S, S, 3], not {frames.shape}")
    image = frames.astype(np.float32) / np.float32(255)
    background = np.median(image, axis=(1, 2)).astype(np.float32)
    delta: Pixels = image - background[:, None, None]

    segments = _segments(delta, bodies)
    pieces = [_pieces(segment) for segment in segments]
    main = np.stack([largest for largest, _ in pieces[:bodies]], axis=1)
    near = _surroundings(main)
    touching = _touching(main, near)
    touched = touching.sum(axis=2) > 0
    found = main.sum(axis=(2, 3)) >= np.pi * (DEBRIS * size) ** 2

    contrast = _mean_colour(delta, main.astype(np.float32))
    for _ in range(REFINEMENTS):
        contrast = _mean_colour(delta, _unmix(delta, contrast) ** 8 * main)
    if bodies == 1:
        count = _count_by_hue(delta, segments[0], contrast[:, 0])
    else:
        count = _count(np.stack([number for _, number in pieces], axis=1), touched)
    share = _unmix(delta, contrast) * near
    centre = _centroid(share)
    radius = np.sqrt(share.sum(axis=(2, 3), dtype=np.float64) / np.pi) / size
    shape, fit, drawn = _best_render(share, centre, radius)
    # Of bodies that touch, the one in front is whole, and so the one that fits its render best.
    occluded = (touching & (fit[:, None, :] > fit[:, :, None])).sum(axis=2) > 0

    unexplained = delta - np.einsum("tnij,tnc->tijc", drawn * found[..., None, None], contrast)
    unexplained[(near & touched[..., None, None]).any(axis=1)] = 0
    rgb = np.where(found[..., None], background[:, None] + contrast, np.nan).astype(np.float64)
    return State(
        size=size,
        count=count,
        found=found,
        occluded=occluded,
        shape=np.where(found & (fit >= RECOGNISED), shape, -1),
        fit=np.where(found, fit, 0.0),
        colour=_colour_family(rgb),
        rgb=rgb,
        radius=np.where(found, radius, np.nan),
        centre=np.where(found[..., None], centre, np.nan),
        background=_background_family(background.astype(np.float64)),
        background_rgb=background.astype(np.float64),
        noise=np.sqrt((unexplained**2).mean(axis=(1, 2, 3), dtype=np.float64)),
    )


def _segments(delta: Pixels, bodies: int) -> list[Bools]:
    """Foreground ``[T, S, S]`` of each body, and last the foreground that is no body's."""
    foreground = (delta**2).sum(axis=3) > CONTRAST**2
    if bodies == 1:
        return [foreground, np.zeros_like(foreground)]
    chroma, hue = _chroma_and_hue(delta)
    coloured = foreground & (chroma > GREY)
    nearest = _nearest_peak(hue, np.where(coloured, chroma, 0), bodies)
    segments = [coloured & (nearest == n) for n in range(bodies)]
    return [*segments, foreground & ~coloured]


def _chroma_and_hue(delta: Pixels) -> tuple[Pixels, Pixels]:
    """Length and angle (a turn is 1) of ``[..., 3]`` in the plane across the grey axis.

    Of differences from the background: a blend of body and background has the body's own angle.
    """
    red, green, blue = np.moveaxis(delta, -1, 0)
    across, along = red - (green + blue) / 2, (green - blue) * np.float32(np.sqrt(3) / 2)
    return np.hypot(across, along), np.arctan2(along, across) / (2 * np.pi) % 1.0


def _nearest_peak(hue: Pixels, weight: Pixels, bodies: int) -> Ints:
    """Which of the clip's ``bodies`` most frequent hues each pixel is nearest to, by rising hue.

    A peak must top its neighbourhood, or the flank of one broad peak would pass for a second body.
    """
    bins = (hue * HUE_BINS).astype(np.int64) % HUE_BINS
    mass = np.bincount(bins.ravel(), weight.ravel(), HUE_BINS)
    mass = ndimage.gaussian_filter1d(mass, 1.0, mode="wrap")
    tops = ndimage.maximum_filter1d(mass, 2 * HUE_GAP + 1, mode="wrap")
    peaks = np.flatnonzero((mass == tops) & (mass > mass.max() * FAINTEST))
    peaks = np.sort(peaks[np.argsort(-mass[peaks], kind="stable")[:bodies]])
    nearest_bin = np.full(HUE_BINS, -1)
    if len(peaks):
        away = np.abs(np.arange(HUE_BINS)[:, None] - peaks)
        nearest_bin = np.minimum(away, HUE_BINS - away).argmin(axis=1)
    nearest: Ints = nearest_bin[bins]
    return nearest


def _pieces(mask: Bools) -> tuple[Bools, Ints]:
    """The largest piece of each frame's mask ``[T, S, S]``, and how many pieces are objects.

    A mask that is mostly one piece has no object: what the median took for background was not.
    """
    frames, size, _ = mask.shape
    label, number = ndimage.label(mask, CROSS)
    inside = np.flatnonzero(label)
    piece = label.ravel()[inside]
    frame = np.zeros(number + 1, np.int64)
    frame[piece] = inside // size**2
    area = np.bincount(piece, minlength=number + 1) / size**2
    by_area = np.argsort(area[1:], kind="stable") + 1  # label 0 is what the mask leaves out
    largest = np.full(frames, -1)
    largest[frame[by_area]] = by_area  # of several pieces in a frame the last, largest one stays
    largest[area[largest] > LARGEST] = -1
    objects = np.flatnonzero((area >= np.pi * DEBRIS**2) & (area <= LARGEST))
    return label == largest[:, None, None], np.bincount(frame[objects], minlength=frames)


def _surroundings(main: Bools) -> Bools:
    """Masks ``[T, N, S, S]`` grown by two pixels: all of the rim, little of the ringing."""
    grown: Bools = ndimage.maximum_filter(main.view(np.uint8), (1, 1, 5, 5)).view(np.bool_)
    return grown


def _touching(main: Bools, near: Bools) -> Bools:
    """Whether body n comes within two pixels of body m, ``[T, N, N]``.

    Two, because where their rims meet the colours can mix to that of the background.
    """
    frames, bodies, *_ = main.shape
    touching = np.zeros((frames, bodies, bodies), np.bool_)
    for n, m in itertools.permutations(range(bodies), 2):
        touching[:, n, m] = (main[:, n] & near[:, m]).any(axis=(1, 2))
    return touching


def _count(pieces: Ints, touching: Bools) -> Ints:
    """Objects ``[T]`` from the pieces of each body, and of none, ``[T, N + 1]``.

    A body in front can cut the one behind in two, so the pieces of a touching body are one object.
    """
    own = np.where(touching, np.minimum(pieces[:, :-1], 1), pieces[:, :-1])
    total: Ints = own.sum(axis=1) + pieces[:, -1]
    return total


def _count_by_hue(delta: Pixels, foreground: Bools, contrast: Pixels) -> Ints:
    """Objects ``[T]`` where one body of colour ``contrast [T, 3]`` is expected.

    Pieces of foreground, where a part of another hue counts for itself even if it touches.
    """
    chroma, hue = _chroma_and_hue(delta)
    own = _chroma_and_hue(contrast)[1][:, None, None]
    turned = np.abs((hue - own + np.float32(0.5)) % 1.0 - np.float32(0.5)) > FOREIGN_HUE
    foreign = foreground & (chroma > GREY) & turned
    return _pieces(foreground & ~foreign)[1] + _pieces(foreign)[1]


def _mean_colour(delta: Pixels, weight: Pixels) -> Pixels:
    """Mean difference from the background ``[T, N, 3]``, weighted ``[T, N, S, S]``; 0 for none."""
    frames, bodies, size, _ = weight.shape
    weight = weight.reshape(frames, bodies, size**2)
    total = weight @ delta.reshape(frames, size**2, 3)
    mean: Pixels = total / np.maximum(weight.sum(axis=2, keepdims=True), np.float32(1e-6))
    return mean


def _unmix(delta: Pixels, contrast: Pixels) -> Pixels:
    """Share of each pixel that each body covers, ``[T, N, S, S]``, 0..1.

    Least squares of ``delta = sum(share * contrast)``; the small ridge lets a body be absent.
    """
    frames, bodies, _ = contrast.shape
    size = delta.shape[1]
    gram = contrast @ contrast.transpose(0, 2, 1) + np.float32(1e-4) * np.eye(bodies, dtype="f4")
    mixer = np.linalg.solve(gram, contrast)
    share = mixer @ delta.reshape(frames, size**2, 3).transpose(0, 2, 1)
    clipped: Pixels = share.clip(0, 1).reshape(frames, bodies, size, size)
    return clipped


def _centroid(share: Pixels) -> Floats:
    """Mean position ``[T, N, 2]`` of shares ``[T, N, S, S]``; the middle where there is none."""
    size = share.shape[3]
    grid = (np.arange(size) + 0.5) / size
    columns, rows = share.sum(axis=2, dtype=np.float64), share.sum(axis=3, dtype=np.float64)
    total = columns.sum(axis=2)
    moment = np.stack([columns @ grid, rows @ grid], axis=2)
    return np.where(total[..., None] > 0, moment / np.maximum(total, 1e-9)[..., None], 0.5)


def _best_render(share: Pixels, centre: Floats, radius: Floats) -> tuple[Ints, Floats, Pixels]:
    """Shape that overlaps each share best, its soft IoU, and its render ``[T, N, S, S]``."""
    frames, bodies, size, _ = share.shape
    flat = share.reshape(-1, size, size)
    scale: Any = radius.reshape(-1, 1, 1)  # coverage() broadcasts over one radius a frame
    renders = [coverage(name, scale, centre.reshape(-1, 2), size) for name in SHAPES]
    common = [np.minimum(flat, drawn).sum(axis=(1, 2)) for drawn in renders]
    either = [np.maximum(flat, drawn).sum(axis=(1, 2)) for drawn in renders]
    iou = np.stack(common) / np.maximum(np.stack(either), 1e-9)
    best = iou.argmax(axis=0)
    drawn = np.stack(renders)[best, np.arange(len(flat))] * (radius.reshape(-1, 1, 1) > 0)
    fit = iou.max(axis=0).astype(np.float64)
    return best.reshape(frames, bodies), fit.reshape(frames, bodies), drawn.reshape(share.shape)


def _colour_family(rgb: Floats) -> Ints:
    """Index into ``COLOURS`` of colours ``[..., 3]``; -1 where hue or saturation is no family's."""
    hue, saturation, value = hsv(np.nan_to_num(rgb))
    away = np.stack([hue_distance(hue, centre) for centre in COLOURS.values()])
    named = (away.min(axis=0) <= HUE_REACH) & (saturation >= LEAST_SATURATION)
    return np.where(named & (value >= LEAST_VALUE), away.argmin(axis=0), -1)


def _background_family(rgb: Floats) -> Ints:
    """Index into ``BACKGROUNDS`` of colours ``[T, 3]``; -1 if too tinted, or between families."""
    value, chroma = rgb.max(axis=1), np.ptp(rgb, axis=1)
    low, high = np.array(list(BACKGROUNDS.values())).T[..., None]
    away = np.maximum(np.maximum(low - value, value - high), 0)
    named = (away.min(axis=0) <= VALUE_REACH) & (chroma <= TINT * value + CHROMA_SLACK)
    return np.where(named, away.argmin(axis=0), -1)


def hsv(rgb: Floats) -> tuple[Floats, Floats, Floats]:
    """Hue (a turn is 1), saturation and value of colours ``[..., 3]``."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    value, chroma = rgb.max(axis=-1), np.ptp(rgb, axis=-1)
    spread = np.where(chroma > 0, chroma, 1.0)
    sixth = np.select(
        [value == red, value == green],
        [(green - blue) / spread % 6, (blue - red) / spread + 2],
        (red - green) / spread + 4,
    )
    return sixth / 6, chroma / np.where(value > 0, value, 1.0), value


def hue_distance(a: Floats, b: float | Floats) -> Floats:
    """Distance on the circle of hues, 0..1/2."""
    return np.abs((a - b + 0.5) % 1.0 - 0.5)
