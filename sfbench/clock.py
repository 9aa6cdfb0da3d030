"""The only place that reads a clock. A model never reports its own time (DESIGN.md 1)."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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

    def __init__(self, start: Callable[[], Iterable[Chunk]], *, split: bool = False) -> None:
        """``split``: note the :func:`span` times of each chunk too."""
        self.seconds: list[float] = []
        """Of each chunk so far, since the one before was asked for."""
        self.spans: list[dict[str, float]] = []
        """Of each chunk so far, seconds by name; empty unless ``split``."""
        self._start, self._split = start, split
        self._source: Iterator[Chunk] | None = None

    def __next__(self) -> Chunk:
        if not self._split:
            return self._timed()
        with _recording() as spans:
            chunk = self._timed()
        self.spans.append(spans)
        return chunk

    def _timed(self) -> Chunk:
        began = perf_counter()
        if self._source is None:
            self._source = iter(self._start())
        chunk = next(self._source)
        self.seconds.append(perf_counter() - began)
        return chunk


# --- spans ----------------------------------------------------------------------------------------

_spans: dict[str, float] | None = None  # of the chunk being waited for, where they are wanted
_begun: dict[str, float] = {}


@contextmanager
def span(name: str) -> Iterator[None]:
    """Around a part of a model's work (``text``, ``denoise``, ``cache``, ``decode``).

    It does nothing unless the harness asked for the parts of this chunk. Then it waits for the GPU
    on both sides, so chunks that are split are not those whose times are published.
    """
    mark_span(name, "begin")
    try:
        yield
    finally:
        mark_span(name, "end")


def mark_span(name: str, at: str) -> None:
    """One side of a :func:`span`, ``begin`` or ``end``, where a ``with`` does not fit."""
    if _spans is None:
        return
    _wait_for_gpu()
    if at == "begin":
        _begun[name] = perf_counter()
    elif name in _begun:
        _spans[name] = _spans.get(name, 0.0) + perf_counter() - _begun.pop(name)


@contextmanager
def _recording() -> Iterator[dict[str, float]]:
    global _spans
    found: dict[str, float] = {}
    _spans = found
    _begun.clear()
    try:
        yield found
    finally:
        _spans = None


def _wait_for_gpu() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


# --- other clocks ---------------------------------------------------------------------------------


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
