"""Rows of chunk values: by (prompt, seed) as they are measured, by prompt as they are averaged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from . import stats
from .schema import Better, Curve, Estimate

Cells = Mapping[tuple[str, int], Sequence[float]]
"""``(prompt id, seed)`` -> one value a chunk."""
Grouped = Mapping[str, Sequence[Sequence[float]]]
"""Prompt id -> one row of chunk values a seed."""


def group(cells: Cells) -> dict[str, list[list[float]]]:
    """Rows of each prompt."""
    rows = defaultdict(list)
    for (prompt, _), values in sorted(cells.items()):
        rows[prompt].append(list(values))
    return dict(rows)


def less(first: Cells, second: Cells) -> dict[tuple[str, int], list[float]]:
    """``first - second`` for each (prompt, seed) that both have."""
    return {
        cell: [a - b for a, b in zip(first[cell], second[cell], strict=True)]
        for cell in first.keys() & second.keys()
    }


def paired(first: Cells, second: Cells) -> dict[str, list[list[float]]]:
    """Rows of ``first - second``."""
    return group(less(first, second))


def both(first: Cells, second: Cells) -> tuple[Grouped, Grouped]:
    """Rows of the one and of the other for each (prompt, seed) that both have."""
    common = first.keys() & second.keys()
    one, other = (group({cell: cells[cell] for cell in common}) for cells in (first, second))
    return one, other


def level(rows: Grouped, *, unit: str = "", better: Better | None = "lower") -> Estimate:
    """Mean over chunks, seeds and prompts."""
    means = {prompt: [float(np.mean(row)) for row in seeds] for prompt, seeds in rows.items()}
    return stats.mean(means, unit=unit, better=better, of="mean over chunks and seeds, then")


def levels(rows: Grouped) -> dict[str, float]:
    """Prompt -> mean over its seeds and chunks."""
    return {prompt: round(float(np.mean(seeds)), stats.DIGITS) for prompt, seeds in rows.items()}


def curve(rows: Grouped, x: Sequence[float], *, unit: str = "", label: str = "frame") -> Curve:
    """Mean over seeds and prompts at each chunk, with its interval."""
    y = tuple(
        stats.mean(
            {p: [row[k] for row in seeds] for p, seeds in rows.items()}, unit=unit, better="lower"
        )
        for k in range(len(x))
    )
    return Curve(x=tuple(float(v) for v in x), x_label=label, y=y)
