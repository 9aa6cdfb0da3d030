"""Motion between two small grey frames: optical flow, warping, and whether a shot was cut.

Plain functions of arrays; :mod:`sfbench.metrics_video` decides which frames meet. Flow is OpenCV's
DIS (Kroeger et al. 2016), which needs no weights. Frames are brought to one small size first, so
that a motion has the same length, counted in frames, whatever the resolution.

Legend: h, w the small size; a flow ``float32 [h, w, 2]`` holds ``(dx, dy)`` in small pixels.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Flow = NDArray[np.float32]
Mask = NDArray[np.bool_]

LONG_SIDE = 256
SHORT_SIDE = 64
"""The least side of a small frame: DIS needs this much for its pyramid."""
STILL = 0.05
"""Small pixels; a mean motion below this is the noise of the flow itself."""
LEAST_VISIBLE = 0.1
"""Share of the frame that must be visible in both frames for a comparison."""

CUT_LIKENESS = 0.5
CUT_HISTOGRAM = 0.2
CUT_BINS = 32


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which flow is computed.

    The longer side becomes 256; the shorter follows, but is at least 64, so very long frames are
    stretched. Smaller frames are enlarged: DIS finds nothing below about 32 pixels.
    """
    scale = LONG_SIDE / max(height, width)
    return max(round(height * scale), SHORT_SIDE), max(round(width * scale), SHORT_SIDE)


def shrink(grey: Grey, size: tuple[int, int]) -> Grey:
    """``grey`` at ``size`` (height, width): mean over areas where it shrinks, else bilinear."""
    import cv2

    height, width = size
    smaller = height <= grey.shape[0] and width <= grey.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return _uint8(cv2.resize(grey, (width, height), interpolation=how))


def flow(start: Grey, end: Grey) -> Flow:
    """Where each pixel of ``start`` is found in ``end``: ``start(x)`` looks like ``end(x + f)``."""
    import cv2

    # One instance a call: it costs nothing, and an instance must not serve two threads.
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return np.asarray(dis.calc(start, end, cast(Any, None)), np.float32)


def lengths(motion: Flow, scale: tuple[float, float] = (1.0, 1.0)) -> NDArray[np.float32]:
    """Length of each vector of ``[h, w, 2]``, x and y multiplied by ``scale`` first."""
    import cv2

    x, y = cv2.split(motion)
    return np.asarray(cv2.magnitude(x * np.float32(scale[0]), y * np.float32(scale[1])), np.float32)


def smoothness(now: Flow, before: Flow) -> float | None:
    """How little the motion of the same points changes from one pair of frames to the next.

    ``now`` leads from frame t back to t-1 and ``before`` from t-1 back to t-2. A point x of frame t
    was at ``x + now(x)``, so with ``was(x) = before(x + now(x))``

        smoothness = 1 - mean |now - was| / (mean |now| + mean |was|)

    1 is motion without acceleration; 0 is reversal, or stopping and starting. ``None`` where next
    to nothing moves: standing still is not smooth motion.
    """
    was = follow(before, now)
    size = float(lengths(now).mean()) + float(lengths(was).mean())
    if size < 2 * STILL:
        return None
    return max(0.0, 1 - float(lengths(now - was).mean()) / size)


def warping_error(now: Grey, before: Grey, back: Flow, forth: Flow) -> float | None:
    """Mean difference of ``now`` and ``before`` moved onto it, where both show the point; 0..1.

    After Lai et al. 2018, with the visibility test of :func:`visible`. ``None`` where less than a
    tenth of the frame is visible in both.
    """
    seen = visible(back, forth)
    if seen.mean() < LEAST_VISIBLE:
        return None
    moved = follow(before.astype(np.float32), back)
    return float(np.abs(now - moved)[seen].mean()) / 255


def visible(back: Flow, forth: Flow) -> Mask:
    """Points of the later frame that the earlier frame shows too.

    Forward-backward consistency of Sundaram et al. 2010: going back and forth again must end near
    the start, ``|b + f|^2 < 0.01 (|b|^2 + |f|^2) + 0.5``, and the way must stay inside the frame.
    """
    returned = follow(forth, back)
    square = _square(back) + _square(returned)
    consistent = _square(back + returned) < 0.01 * square + 0.5
    height, width = back.shape[:2]
    x, y = _positions(height, width)
    at_x, at_y = x + back[..., 0], y + back[..., 1]
    inside = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    seen: Mask = consistent & inside
    return seen


def follow(image: NDArray[np.float32], motion: Flow) -> NDArray[np.float32]:
    """``image(x + motion(x))``, bilinear; the border repeats."""
    import cv2

    height, width = motion.shape[:2]
    x, y = _positions(height, width)
    moved = cv2.remap(
        image,
        x + motion[..., 0],
        y + motion[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(moved, np.float32)


def is_cut(now: Grey, before: Grey) -> bool:
    """Whether another shot begins at ``now``: neither the layout nor the brightnesses agree.

    Layout: correlation of the two small frames below 0.5. Brightnesses: histograms (32 bins)
    that share less than 80 %. Motion keeps the second, a flash or a fade the first, and noise the
    second; so none of them is a cut. Cuts between like shots are missed.
    """
    import cv2

    apart = np.abs(_histogram(now) - _histogram(before)).sum() / 2
    if apart <= CUT_HISTOGRAM:
        return False
    a, b = (cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA) for grey in (now, before))
    return _correlation(a.astype(np.float64), b.astype(np.float64)) < CUT_LIKENESS


# --- helpers --------------------------------------------------------------------------------------


@cache
def _positions(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def _square(motion: Flow) -> NDArray[np.float32]:
    import cv2

    x, y = cv2.split(motion)
    return np.asarray(x * x + y * y, np.float32)


def _histogram(grey: Grey) -> NDArray[np.float64]:
    import cv2

    counts = cv2.calcHist([grey], [0], None, [CUT_BINS], [0, 256]).ravel()
    shares: NDArray[np.float64] = counts.astype(np.float64) / grey.size
    return shares


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; two flat frames agree, a flat and a structured one do not."""
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    if size < 1e-9:
        return float(not a.any() and not b.any())
    return float((a * b).sum()) / size


def _uint8(image: Any) -> Grey:
    return np.asarray(image, np.uint8)
