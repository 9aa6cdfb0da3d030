"""The page's charts: which there are, what they show, and the same numbers as a table.

A :class:`Chart` is one or more pictures (:mod:`.page_specs`) over one table of numbers. The table
is what a screen reader reads and what the page's script reads out under the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .boards import Column
from .leaderboard import Group, Row
from .page_looks import (
    Looks,
    board_id,
    figure,
    key_of,
    native_frames,
    rounded_out,
    short,
    ticks_of,
    told,
)
from .page_specs import forest, lines
from .page_svg import NARROW, PANEL, WIDE, Axis, Line, Look, Point, Size, svg
from .schema import Curve

ROW = 24  # pixels of a row of a forest
FEW = 4  # ticks, under which native horizons alone are too coarse an axis

ARMS = {
    "exposure_true": Look("true context", "armtrue", "var(--muted)", (2, 3)),
    "exposure_own": Look("own context", "armown", "var(--accent)"),
    "exposure_streamed": Look("own, streamed", "armstreamed", "var(--accent)", (7, 3)),
}
CURVES: dict[str, tuple[str, str, str]] = {
    "drift": (
        "Drift over the horizon",
        "Share of the video that is lost in free generation; lower is better.",
        "share lost",
    ),
    "alive": (
        "Survival",
        "Share of free clips that have not yet left what true video does (Kaplan-Meier); higher "
        "is better.",
        "clips alive",
    ),
    "gap": (
        "Exposure gap by chunk",
        "Violation under own context minus under true context, chunk by chunk; 0 is a perfect "
        "sampler.",
        "exposure gap",
    ),
    "pace": (
        "Pace",
        "Frames a second as the stream goes on; higher is better.",
        "frames a second",
    ),
}
"""Curves that are shown first: heading, what it says, title of the axis."""


@dataclass(frozen=True)
class Picture:
    """A drawing and its size."""

    svg: str
    size: Size


@dataclass(frozen=True)
class Plot:
    """What is drawn once for a desk and, where that is too wide for one, once for a phone."""

    pictures: tuple[Picture, ...]
    x: tuple[float, float] = (0.0, 1.0)
    y: tuple[float, float] = (0.0, 1.0)
    columns: tuple[int, ...] = ()
    """Of the chart's table, those that it draws over x."""
    spots: tuple[tuple[float, float, str], ...] = ()
    """Or, of a chart without such columns: places in shares of the plot, and what to read out."""
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Cell:
    """A number of a chart's table: as text, and for the readout."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Chart:
    """Pictures over one table."""

    id: str
    title: str
    says: str
    plots: tuple[Plot, ...]
    legend: tuple[Look, ...]
    head: tuple[str, ...]
    """First the table's first column, then one name a series."""
    series: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = field(default=())
    shapes: bool = False
    """Whether rows are told by their shapes, not by their lines."""

    @property
    def spoken(self) -> str:
        """What a screen reader says of the pictures."""
        return f"{self.title}. {self.says} The numbers are in the table that follows."


# --- curves ---------------------------------------------------------------------------------------


def shown_first(group: Group, known: Looks) -> list[Chart]:
    """The charts of a board's main curves, those of which it has any."""
    charts = [exposure(group)]
    charts += [
        curve_chart(group, known, name, *words, pair=(WIDE, NARROW))
        for name, words in CURVES.items()
    ]
    first = ("drift", "exposure", "gap", "alive")
    there = [chart for chart in charts if chart is not None]
    rank = {name: n for n, name in enumerate(first)}
    return sorted(there, key=lambda c: rank.get(c.id.rsplit(".", 1)[-1], len(rank)))


def the_rest(group: Group, known: Looks) -> list[Chart]:
    """A small chart of every other curve that a result holds."""
    held = {name for row in group.rows for name in row.result.curves}
    names = sorted(held - CURVES.keys() - ARMS.keys())
    return [
        chart
        for name in names
        if (chart := curve_chart(group, known, name, name.replace("_", " "), "", "", (PANEL,)))
    ]


def curve_chart(
    group: Group,
    known: Looks,
    name: str,
    title: str,
    says: str,
    unit: str,
    pair: tuple[Size, ...],
) -> Chart | None:
    """One curve of every row that has it; a pace only of models, for cheats are free."""
    rows = [row for row in group.rows if name in row.result.curves]
    rows = [row for row in rows if name != "pace" or row.result.model.kind == "model"]
    drawn = [
        line
        for row in rows
        if (line := _line(known[key_of(row)], row.result.curves[name])) is not None
    ]
    if not drawn:
        return None
    curve = rows[0].result.curves[name]
    estimate = next(e for e in curve.y)
    x, mark = _across(group, curve.x_label, drawn)
    y = Axis(unit or estimate.unit, _domain(drawn, whole=name == "alive"))
    y = Axis(y.title, y.domain, ticks_of(*y.domain))
    order = sorted(drawn, key=lambda line: line.look.kind == "model")  # models on top
    step = name == "alive"
    pictures = [
        Picture(_hide_cheats(svg(lines(order, x, y, size, step=step, mark=mark)), drawn), size)
        for size in pair
    ]
    plot = Plot(
        tuple(pictures),
        x=x.domain,
        y=y.domain,
        columns=tuple(range(1, len(drawn) + 1)),
    )
    return Chart(
        f"{board_id(group)}.{name}",
        title,
        says,
        (plot,),
        tuple(line.look for line in drawn),
        (curve.x_label, *(line.look.label for line in drawn)),
        tuple(line.look.series for line in drawn),
        _table(drawn),
        ("Dotted: the end of the first native horizon.",) if mark and says else (),
    )


def exposure(group: Group) -> Chart | None:
    """Violation by chunk under true and under own context: one panel a model."""
    rows = [r for r in group.rows if {"exposure_true", "exposure_own"} <= r.result.curves.keys()]
    rows = [r for r in rows if r.result.model.kind == "model"] or rows
    panels = [(row, _arms(row)) for row in rows]
    drawn = [line for _, arms in panels for line in arms]
    if not drawn:
        return None
    label = rows[0].result.curves["exposure_own"].x_label
    x, _ = _across(group, f"{label} after the true prefix", drawn)
    domain = _domain(drawn)
    y = Axis("violation", domain, ticks_of(*domain))
    plots, head, names = [], [label], []
    for row, arms in panels:
        columns = tuple(range(len(head), len(head) + len(arms)))
        head += [f"{short(row.label)}, {line.look.label}" for line in arms]
        names += [line.look.series for line in arms]
        picture = Picture(svg(lines(arms, x, y, PANEL)), PANEL)
        gap = row.result.estimates.get("exposure_gap")
        plots.append(
            Plot(
                (picture,),
                x=x.domain,
                y=domain,
                columns=columns,
                title=short(row.label),
                note=f"gap {told(gap)}" if gap and gap.value is not None else "",
            )
        )
    return Chart(
        f"{board_id(group)}.exposure",
        "Exposure bias by chunk, true against own context",
        "Violation while a model continues true frames, and while it continues its own. The "
        "distance between the lines is what feeding on its own frames costs.",
        tuple(plots),
        tuple(look for look in ARMS.values() if look.series in names),
        tuple(head),
        tuple(names),
        _table(drawn),
    )


def forest_chart(known: Looks, column: Column, rows: Sequence[Row]) -> Plot | None:
    """One estimate of some rows, each on its interval."""
    drawn, said = [], []
    for row in rows:
        estimate = row.result.estimates.get(column.key)
        if estimate is None or estimate.value is None:
            continue
        point = Point(estimate.value, 0, estimate.low, estimate.high)
        drawn.append(Line(known[key_of(row)], (point,)))
        said.append(f"{row.label}: {told(estimate, column)}")
    if not drawn:
        return None
    ends = [v for line in drawn for p in line.points for v in (p.x, p.low, p.high)]
    domain = rounded_out(min(0.0, *_known(ends)), max(0.0, *_known(ends)))
    size = Size(170, ROW * len(drawn), left=158, right=16, top=4, bottom=26)
    axis = Axis("", domain, ticks_of(*domain)[:: 1 if len(ticks_of(*domain)) < 5 else 2])
    spots = tuple(
        (
            (line.points[0].x - domain[0]) / (domain[1] - domain[0]),
            (n + 0.5) / len(drawn),
            text,
        )
        for n, (line, text) in enumerate(zip(drawn, said, strict=True))
    )
    return Plot((Picture(svg(forest(drawn, axis, size)), size),), spots=spots)


# --- helpers --------------------------------------------------------------------------------------


def _line(look: Look, curve: Curve) -> Line | None:
    points = tuple(
        Point(x, e.value, e.low, e.high)
        for x, e in zip(curve.x, curve.y, strict=True)
        if e.value is not None
    )
    return Line(look, points) if points else None


def _arms(row: Row) -> list[Line]:
    curves = row.result.curves
    found = [_line(look, curves[name]) for name, look in ARMS.items() if name in curves]
    return [line for line in found if line is not None]


def _across(group: Group, label: str, drawn: Sequence[Line]) -> tuple[Axis, float]:
    """The x axis, in native horizons where there are enough, and the end of the first one."""
    far = max(line.points[-1].x for line in drawn)
    near = min(0.0, *(line.points[0].x for line in drawn))
    native = native_frames(group) if label == "frame" else None
    if native and far / native >= FEW:
        every = native * math.ceil(far / native / 8)
        ticks = tuple(float(t) for t in range(0, int(far) + 1, every))
        return Axis(f"frame; native horizons of {native}", (near, far), ticks), float(native)
    return Axis(label, (near, far), ticks_of(near, far)), 0.0


def _domain(drawn: Sequence[Line], *, whole: bool = False) -> tuple[float, float]:
    """Range of y: of models and reference rows, for a cheat may be far from all others."""
    if whole:
        return 0.0, 1.0
    honest = [line for line in drawn if line.look.kind != "cheat"] or drawn
    ends = _known(v for line in honest for p in line.points for v in (p.y, p.low, p.high))
    low, high = min(ends), max(ends)
    return rounded_out(0.0 if 0 <= low < 0.5 * high else low, high)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _table(drawn: Sequence[Line]) -> tuple[tuple[Cell, ...], ...]:
    """One row an x that any line has, one column a line."""
    at = [{p.x: p for p in line.points} for line in drawn]
    rows = []
    for x in sorted({x for points in at for x in points}):
        found = [points.get(x) for points in at]
        rows.append((Cell(f"{x:g}", x), *(_cell(point) for point in found)))
    return tuple(rows)


def _cell(point: Point | None) -> Cell:
    if point is None:
        return Cell("")
    text = figure(point.y)
    if point.low is not None and point.high is not None:
        text += f" [{figure(point.low)}, {figure(point.high)}]"
    return Cell(text, point.y)


def _hide_cheats(picture: str, drawn: Iterable[Line]) -> str:
    """Mark the lines of cheats as switched off."""
    for line in drawn:
        if line.look.kind == "cheat":
            name = f'data-series="{line.look.series}"'
            picture = picture.replace(name, f'{name} class="off"')
    return picture
