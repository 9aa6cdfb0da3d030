"""Intervals of what is no mean over prompts but a function of all of them: by the jackknife.

How far each prompt moves the whole is its jackknife value (Tukey 1958). The mean of these has the
interval that any paired mean has, :func:`sfbench.stats.difference`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import stats

Floats = NDArray[np.float64]


def reach(
    value: float, rest: Floats, confidence: float = stats.CONFIDENCE
) -> tuple[float | None, str]:
    """How far the interval reaches on either side of ``value``, and what it is.

    ``rest``: the value without each prompt. ``None``: there is one prompt only. 0: all move the
    whole alike, and then :data:`sfbench.stats.UNTOLD` stands in the text.
    """
    count = len(rest)
    moved = (count - 1) * (value - rest)  # about the value, so that rounding takes nothing
    size = float(np.abs(moved).max()) if count else 0.0
    if count < 2:
        return None, "one prompt"
    if size <= 1e-9 * abs(value):
        return 0.0, f"all prompts equal: {stats.UNTOLD}"
    names = [f"{p:06}" for p in range(count)]  # in order
    found = stats.difference(
        {name: float(v) / size for name, v in zip(names, moved, strict=True)},
        dict.fromkeys(names, 0.0),
        confidence=confidence,
    )
    text = found.method.partition("; ")[2]
    if found.low is None or found.high is None:
        return None, text
    return size * (found.high - found.low) / 2, f"{text}, of jackknife values"
