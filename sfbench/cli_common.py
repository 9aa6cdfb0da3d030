"""What the files of the command line share: exit codes, threads, and how Ctrl-C is answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

FAILURES, USAGE, INTERRUPTED, INCOMPARABLE, INVALID = 1, 2, 3, 4, 5
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Interrupted(Exception):
    """Ctrl-C; the text says how to go on."""

    exit_code = INTERRUPTED


def use_threads(count: int | None) -> None:
    """Before the libraries that read it are imported."""
    if count:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Answer Ctrl-C with how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {advice}.") from None
