"""What `sfbench compare` is given by a task to pair two runs that have no values by prompt.

Some estimates are no means over prompts: a kernel distance is one over pairs of prompts, a
half-life is read off a mean curve. Their difference is made of the records of both runs, by a
function that the task names in the registry (kind ``statistics``): estimate -> :data:`Statistic`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .schema import Estimate, Record, Result

TIMES = "log of the first over the second"
"""Unit of a difference of logarithms, which is shown as a ratio: ``x0.910``."""


@dataclass(frozen=True, eq=False)
class Run:
    """A result and the records it was concluded from."""

    result: Result
    records: Sequence[Record]


Statistic = Callable[[Any, Run, Run, float], Estimate]
"""``(task, first, second, confidence)`` -> the statistic of the first run less that of the second.

Prompts are drawn for both together. The task is that of both runs, set up anew. An end of the
interval that is ``None`` is open; an estimate over no cluster says in its method, after ``n/a: ``,
why there is none.
"""
