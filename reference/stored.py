"""What is computed once and kept: one memory-mapped file that appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import ConfigError

Progress = Callable[[int, int], None]
Part = tuple[slice, NDArray[Any]]
"""Rows of the file, and where they stand in it."""


def stored(
    path: Path,
    parts: Iterable[Part],
    count: int,
    progress: Progress = lambda done, total: None,
    mend: str = "set data.clips to less",
) -> NDArray[Any]:
    """Map a file of ``count`` rows, made of its parts unless it is there already.

    ``mend``: what takes less room, for the sentence of a :class:`ConfigError` on a full disk.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two runs may make it at once: each writes a file of its own, and the renames agree.
        own = path.with_suffix(f".{np.random.SeedSequence().entropy}.part")
        try:
            _write(own, parts, count, progress, mend)
            own.rename(path)
        finally:
            own.unlink(missing_ok=True)
    mapped: NDArray[Any] = np.load(path, mmap_mode="r")
    return mapped


def _write(path: Path, parts: Iterable[Part], count: int, progress: Progress, mend: str) -> None:
    store: np.memmap[Any, Any] | None = None
    done = 0
    for where, values in parts:
        if store is None:
            _ensure_room(path.parent, values.nbytes // len(values) * count, mend)
            shape = (count, *values.shape[1:])
            store = np.lib.format.open_memmap(path, "w+", values.dtype, shape)
        store[where] = values
        done += len(values)
        progress(done, count)
    assert store is not None
    store.flush()


def _ensure_room(folder: Path, needed: int, mend: str) -> None:
    """A full disk ends a process that writes to mapped memory, without a word."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"The training pool takes {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB "
            f"free; {mend}, or choose another --out."
        )
