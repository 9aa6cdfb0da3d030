"""What the files of the command line share: exit codes, threads, and how Ctrl-C is answered."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

FAILURES, USAGE, INTERRUPTED, INCOMPARABLE, INVALID = 1, 2, 3, 4, 5
DEVICES = ("cpu", "cuda")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Unusable(ValueError):
    """What this machine cannot do; the text is for the user."""


class Interrupted(Exception):
    """Ctrl-C; the text says how to go on."""

    exit_code = INTERRUPTED


def use_threads(count: int | None) -> None:
    """Before the libraries that read it are imported."""
    if count:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))


def use_device(name: str | None) -> None:
    """``cpu``: no GPU is seen, here or in processes started here; ``cuda``: there must be one."""
    if name is None:
        return
    if name not in DEVICES:
        raise Unusable(f"--device is '{name}'; it is {' or '.join(DEVICES)}.")
    if name == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        return
    import torch

    if not torch.cuda.is_available():
        raise Unusable("--device cuda is asked for, and torch sees no GPU; `sfbench doctor`.")


@contextmanager
def interruptible(advice: str) -> Iterator[None]:
    """Answer Ctrl-C with how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {advice}.") from None
