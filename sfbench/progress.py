"""How far a run is: a bar on a terminal, a line now and then anywhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .clock import Stopwatch

Report = Callable[[int, int], None]
"""Told ``(done, total)``."""

LINE_SECONDS = 30.0
"""Between two lines where there is no terminal."""


@contextmanager
def shown(console: Console, title: str) -> Iterator[Report]:
    """A report that shows itself on ``console``."""
    if not console.is_terminal:
        yield _lines(console, title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def _lines(console: Console, title: str) -> Report:
    watch, first, spoken = Stopwatch(), -1, 0.0

    def report(done: int, total: int) -> None:
        nonlocal first, spoken
        first = done if first < 0 else first
        passed = watch.seconds
        if done not in (first, total) and passed - spoken < LINE_SECONDS:
            return
        spoken = passed
        left = passed / (done - first) * (total - done) if done > first else None
        rest = f", about {left:.0f} s left" if left else ""
        console.print(f"{title}: {done}/{total}{rest}")

    return report
