"""Fingerprints: how far clips of two records are apart, without their pixels.

A record keeps a few numbers of each chunk, so that distances between clips of one scene made under
different contexts can be found from records alone. The numbers are an orthonormal random
projection of the chunk's pixels (Johnson and Lindenstrauss 1984), of the cheapest kind (Charikar,
Chen and Farach-Colton 2002): every pixel value goes, with a random sign, into one of
:data:`SIZE` sums, each divided by the root of its count. Sums that share no pixel are orthogonal.

The squared distance of two fingerprints is on average the mean squared difference of the pixels; of
one pair it is off by a standard error of ``sqrt(2 / SIZE)``, 41 %, and the distance by 20 %. Each
chunk of each prompt has a projection of its own, so that averages over them are off by as much less
as there are more of them, even if all clips differ in the same way.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .exposure_rows import Cells
from .interfaces import Frames
from .stats import RNG_SEED

Floats = NDArray[np.float64]

SIZE = 12  # numbers a chunk: a record stays under twice what it is without them
DIGITS = 2  # of a number, in levels of 255
LEAST = 10**-DIGITS / SIZE**0.5
"""The smallest distance other than 0 that fingerprints can show, in levels."""


def fingerprint(frames: Frames, beside: Frames, chunk: int, name: str) -> tuple[float, ...]:
    """:data:`SIZE` numbers for each chunk of ``frames - beside``, ``uint8 [T, H, W, 3]``, in a row.

    ``name`` chooses the projections, e.g. the prompt's. It is the same for all clips that are to be
    compared, and so is ``beside``, e.g. the true frames: it leaves their distances as they are, and
    makes the numbers small.
    """
    change = frames.astype(np.float64) - beside
    pieces = [change[start : start + chunk].ravel() for start in range(0, len(change), chunk)]
    return tuple(
        round(float(value), DIGITS) + 0.0
        for k, piece in enumerate(pieces)
        for value in _projected(piece, name, k)
    )


def rms(frames: Frames, beside: Frames, chunk: int) -> tuple[float, ...]:
    """Root mean square difference of the pixels of each chunk, in levels."""
    square = (frames.astype(np.float64) - beside) ** 2
    return tuple(
        round(float(square[start : start + chunk].mean() ** 0.5), DIGITS)
        for start in range(0, len(square), chunk)
    )


def squares(first: Cells, second: Cells) -> dict[tuple[str, int], list[float]]:
    """Squared RMS distance a chunk of the fingerprints of each (prompt, seed) that both have."""
    return {
        cell: list(
            ((np.asarray(first[cell]) - np.asarray(second[cell])) ** 2)
            .reshape(-1, SIZE)
            .mean(axis=1)
        )
        for cell in sorted(first.keys() & second.keys())
    }


def _projected(values: Floats, name: str, k: int) -> Floats:
    place, sign = _projection(len(values), name, k)
    sums = np.bincount(place, weights=sign * values, minlength=SIZE)
    counts = np.bincount(place, minlength=SIZE)
    projected: Floats = sums / np.sqrt(np.maximum(counts, 1))
    return projected


@lru_cache(maxsize=512)
def _projection(length: int, name: str, k: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    """Sum and sign of each of ``length`` values of a chunk. Always the same."""
    rng = np.random.default_rng([RNG_SEED, length, k, zlib.crc32(name.encode())])
    place = (rng.permutation(length) % SIZE).astype(np.uint8)
    return place, rng.choice(np.array([-1, 1], np.int8), size=length)
