"""How rows and numbers look on the page, everywhere the same.

A row has one colour that the colour-blind can tell (after Okabe and Ito), one dash and one shape in
all charts; reference rows are grey, cheats dashed and hidden until they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .boards import Column
from .leaderboard import Group, Row
from .page_svg import OUTLINES, Look
from .schema import Estimate, Result

COLOURS = 8  # --k0 .. --k7 of the style sheet
DASHES: tuple[tuple[int, ...], ...] = ((), (7, 3), (2, 3), (9, 3, 2, 3))
SHAPES = tuple(OUTLINES)
LONGEST = 22  # characters of a name in a picture

Key = tuple[str, str]
Looks = dict[Key, Look]
Sources = Sequence[tuple[Path, Result]]
"""Finished results and the folders they lie in."""


def key_of(row: Row) -> Key:
    """What a row is known by on every board."""
    return row.result.model.name, row.result.model.revision


def looks(groups: Sequence[Group]) -> Looks:
    """Of every row: equal models look alike on all boards, those of the first are told best."""
    found: Looks = {}
    used = greys = 0
    rows = [row for group in groups for row in group.rows]
    for row in sorted(rows, key=lambda row: row.result.model.kind != "model"):
        if key_of(row) in found:
            continue
        kind, series = row.result.model.kind, f"s{len(found)}"
        if kind == "reference-row":
            dash = DASHES[(greys + 2) % len(DASHES)]
            look = Look(short(row.label), series, "var(--ref)", dash, "circle", kind)
            greys += 1
        else:
            dash = DASHES[(used + used // COLOURS) % len(DASHES)]
            shape = SHAPES[(used + used // COLOURS) % len(SHAPES)]
            look = Look(short(row.label), series, f"var(--k{used % COLOURS})", dash, shape, kind)
            used += 1
        found[key_of(row)] = look
    return found


def folder_of(row: Row, sources: Sources) -> Path | None:
    """The run directory, or other folder, that a row's result lies in."""
    return next((root for root, result in sources if result == row.result), None)


def short(name: str) -> str:
    """A name that fits into a picture."""
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"


def board_id(group: Group) -> str:
    """A name for a board within the page."""
    return f"{group.task.name}-{group.rows[0].result.comparison_key[:6]}"


def native_frames(group: Group) -> int | None:
    """Native horizon of a board's ranked models; ``None`` where they differ or none says."""
    said = {row.result.model.native_frames for row in group.ranked or group.rows}
    return said.pop() if len(said) == 1 else None


# --- numbers --------------------------------------------------------------------------------------


def told(estimate: Estimate | None, column: Column | None = None) -> str:
    """``value [low, high]``."""
    if estimate is None or estimate.value is None:
        return "n/a"
    text = figure if column is None else column.text
    value = text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{text(estimate.low)}, {text(estimate.high)}]"


def figure(value: float) -> str:
    """A number in about three digits."""
    size = abs(value)
    text = f"{value:.3f}" if size < 10 else f"{value:.1f}" if size < 1000 else f"{value:.0f}"
    return text.removeprefix("-") if float(text) == 0 else text


def ticks_of(low: float, high: float, about: int = 5) -> tuple[float, ...]:
    """Round numbers from ``low`` to ``high``."""
    step = _step(low, high, about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(n * step, 10) for n in range(first, last + 1))


def rounded_out(low: float, high: float, about: int = 5) -> tuple[float, float]:
    """The range of round numbers around two values."""
    if high - low < 1e-9:
        high = low + (abs(low) or 1.0) * 0.1
    step = _step(low, high, about)
    bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return round(bottom * step, 10), round(top * step, 10)


# --- helpers --------------------------------------------------------------------------------------


def _step(low: float, high: float, about: int) -> float:
    raw = (high - low) / about or 1.0
    power = float(10 ** math.floor(math.log10(raw)))
    return next(power * m for m in (1, 2, 5, 10) if raw <= power * m * 1.0001)
