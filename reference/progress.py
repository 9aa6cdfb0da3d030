"""What a training run shows while it runs: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .objectives import Metrics


@dataclass
class Show:
    """A progress bar on a terminal, plain lines elsewhere."""

    console: Console
    method: str
    total: int
    bar: Progress | None
    task: Any = None

    def begin(self, step: int) -> None:
        """Show the bar, at a step."""
        if self.bar:
            self.task = self.bar.add_task(self.method, total=self.total, completed=step, note="")

    def note(self, text: str) -> None:
        """Print a line."""
        say(self.console, f"{self.method}: {text}")

    def step(self, step: int, figures: Metrics, pace: float) -> None:
        """A step is done; ``pace``: seconds a step."""
        losses = "  ".join(
            f"{k} {v:.4f}"
            for k, v in figures.items()
            if isinstance(v, float) and k.endswith("loss")
        )
        if self.bar:
            self.bar.update(self.task, completed=step, note=f"{losses}  {pace * 1000:.0f} ms/step")
        elif step % max(self.total // 10, 1) == 0:
            left = pace * (self.total - step)
            self.note(
                f"step {step}/{self.total}  {losses}  {pace * 1000:.0f} ms/step  {left:.0f} s left"
            )


def say(console: Console, text: str) -> None:
    """Print a line as it is: a path in a log is not broken, nor taken for markup."""
    console.print(text, soft_wrap=True, markup=False)


@contextmanager
def progress(console: Console, method: str, total: int) -> Iterator[Show]:
    """What shows a method's steps, for as long as they are taken."""
    if not console.is_terminal:
        yield Show(console, method, total, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Show(console, method, total, bar)
