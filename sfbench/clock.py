"""The only place that reads a clock. A model never reports its own time (DESIGN.md 1)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

Chunk = TypeVar("Chunk")
WORK, WORK_ROUNDS = 256, 20  # side of the matrix, products


class Timed(Iterator[Chunk], Generic[Chunk]):
    """Passes on the chunks that ``start()`` makes and notes how long each was waited for.

    Only the waiting is counted: what the caller does between two chunks (copying, checking) is not.
    The call of ``start`` belongs to the first chunk.
    """

    def __init__(self, start: Callable[[], Iterable[Chunk]]) -> None:
        self.seconds: list[float] = []
        """Of each chunk so far, since the one before was asked for."""
        self._start = start
        self._source: Iterator[Chunk] | None = None

    def __next__(self) -> Chunk:
        began = perf_counter()
        if self._source is None:
            self._source = iter(self._start())
        chunk = next(self._source)
        self.seconds.append(perf_counter() - began)
        return chunk


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._began = perf_counter()

    @property
    def seconds(self) -> float:
        """Time passed so far."""
        return perf_counter() - self._began


def machine_seconds() -> float:
    """How long a fixed piece of arithmetic takes now (about 10 ms; the median of five tries).

    Timed beside a model it tells a slow model from a slow moment of the machine.
    """
    tries = []
    matrix = np.eye(WORK, dtype=np.float32)
    for _ in range(5):
        began = perf_counter()
        for _ in range(WORK_ROUNDS):
            matrix = matrix @ matrix
        tries.append(perf_counter() - began)
    return statistics.median(tries)


def utc_now() -> str:
    """The time of day, e.g. ``2025-06-01T12:00:00Z``."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
