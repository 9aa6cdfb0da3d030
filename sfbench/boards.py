"""What the table of a task shows: its primary estimate, its columns, and their meaning in words.

A task's board is named in the registry; without one it gets :data:`GENERIC`, whose rows are listed
with no rank. An estimate that a run holds but no column names is in ``leaderboard.csv`` all the
same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .registry import load, providers
from .schema import Better


@dataclass(frozen=True)
class Column:
    """One estimate as it is shown."""

    key: str
    """Name of the estimate."""
    title: str
    better: Better | None
    meaning: str
    style: str = "{:.3f}"
    brief: bool = False
    """Also in the narrow table of the terminal: 80 characters have room for six."""

    def text(self, value: float | None) -> str:
        """A number as text; ``n/a`` where there is none. Never ``-0.000``."""
        if value is None:
            return "n/a"
        text = self.style.format(value)
        return text.removeprefix("-") if text.strip("-0.% ") == "" else text


@dataclass(frozen=True)
class Board:
    """The table of one task."""

    primary: str | None
    """The estimate that ranks; ``None``: rows are not ranked."""
    parts: dict[str, tuple[Column, ...]] = field(default_factory=dict)
    """Heading -> columns; each part is a table of its own."""
    verdicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Estimate -> what the better side has, and the quantity's name; see :meth:`words`."""
    horizon: bool = False
    """Whether a model that makes the whole clip at once stands apart."""
    over: str = "prompt"
    """The word for a cluster, which intervals are over."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of all parts."""
        return tuple(column for part in self.parts.values() for column in part)

    def words(self, column: Column) -> tuple[str, str]:
        """For sentences: what the better side has (less of), and what the quantity is called."""
        ahead = "lower" if column.better == "lower" else "higher"
        name = f"'{column.title}'"
        return self.verdicts.get(column.key, (f"a {ahead} {name}", name))


GENERIC = Board(primary=None)


def board_of(task: str) -> Board:
    """The board of a task, by the task's name."""
    if task not in providers("boards"):
        return GENERIC
    board: Board = load("boards", task)
    return board
