"""The page's charts as Vega-Lite: curves, intervals, distributions, points in a plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .page_svg import (
    BAND,
    GRID,
    INK,
    MUTED,
    TEXT,
    Axis,
    Layer,
    Line,
    Look,
    Point,
    Size,
    Spec,
    apart,
    chart,
    dot,
    label,
    leader,
    named,
    pixel,
    quantity,
    rule,
)


def lines(
    drawn: Sequence[Line], x: Axis, y: Axis, size: Size, *, step: bool = False, mark: float = 0
) -> Spec:
    """Means with their bands; ``step``: constant until the next point; ``mark``: a rule at x."""
    layers = [rule(mark, x)] if mark else []
    for line in drawn:
        layers += [*_band(line, x, y, step), _mean(line, x, y, step)]
    if size.labels:
        layers += _end_labels(drawn, y, size)
    return chart(layers, size)


def forest(rows: Sequence[Line], x: Axis, size: Size) -> Spec:
    """One estimate of each row as a point on its interval, the first row at the top."""
    y = Axis("", (len(rows) - 0.5, -0.5), hidden=True)
    layers: list[Layer] = [rule(0.0, x)] if x.domain[0] < 0 < x.domain[1] else []
    for n, row in enumerate(rows):
        (point,) = row.points
        place = [{"x": point.x, "y": n, "low": point.low, "high": point.high}]
        marks: list[Layer] = [
            {
                "mark": {"type": "text", "align": "right", "color": INK, "fontSize": TEXT},
                "encoding": {
                    "x": {"value": -10},
                    "y": quantity("y", y),
                    "text": {"value": row.look.label},
                },
            }
        ]
        if point.low is not None and point.high is not None:
            marks.append(
                {
                    "mark": {"type": "rule", "color": row.look.colour, "strokeWidth": 2},
                    "encoding": {
                        "x": quantity("low", x),
                        "x2": {"field": "high"},
                        "y": quantity("y", y),
                    },
                }
            )
        marks.append(
            {
                "mark": dot(row.look, 70),
                "encoding": {"x": quantity("x", x), "y": quantity("y", y)},
            }
        )
        layers.append(named(row.look, place, marks))
    return chart(layers, size)


@dataclass(frozen=True)
class Ridge:
    """A row's distribution: shares of equal steps along x, and marked quantiles."""

    look: Look
    edges: tuple[float, ...]
    shares: tuple[float, ...]
    """One fewer than edges; empty where only the quantiles are known."""
    quantiles: tuple[float, ...]
    due: float | None = None


def ridges(rows: Sequence[Ridge], x: Axis, size: Size) -> Spec:
    """Distributions below each other, each on a line of its own under its name."""
    y = Axis("", (len(rows), 0), hidden=True)
    layers: list[Layer] = []
    for n, row in enumerate(rows):
        base, peak = n + 0.94, 0.52 / max(row.shares, default=1)
        corners = [
            {"x": edge, "y": base - share * peak, "base": base}
            for share, *pair in zip(row.shares, row.edges[:-1], row.edges[1:], strict=True)
            for edge in pair
        ]
        name = [{"x": x.domain[0], "y": n + 0.22}]
        ends = [{"x": x.domain[0], "x2": x.domain[1], "y": base}]
        ticks = [{"x": q, "y": base - 0.16, "y2": base + 0.05} for q in row.quantiles]
        due = [] if row.due is None else [{"x": row.due, "y": n + 0.36, "y2": base}]
        place = {"x": quantity("x", x), "y": quantity("y", y)}
        marks: list[Layer] = [
            {
                "data": {"values": corners},
                "mark": {"type": "area", "color": row.look.colour, "opacity": 0.45},
                "encoding": {**place, "y2": {"field": "base"}},
            },
            {
                "data": {"values": ends},
                "mark": {"type": "rule", "color": GRID},
                "encoding": {**place, "x2": {"field": "x2"}},
            },
            {
                "data": {"values": ticks},
                "mark": {"type": "rule", "color": INK, "strokeWidth": 1.5},
                "encoding": {**place, "y2": {"field": "y2"}},
            },
            {
                "data": {"values": due},
                "mark": {"type": "rule", "color": MUTED, "strokeDash": [3, 3]},
                "encoding": {**place, "y2": {"field": "y2"}},
            },
            {
                "mark": {"type": "text", "align": "left", "color": INK, "fontSize": TEXT},
                "encoding": {**place, "text": {"value": row.look.label}},
            },
        ]
        layers.append(named(row.look, name, marks))
    return chart(layers, size)


@dataclass(frozen=True)
class Spot:
    """A row in the plane of two estimates, with a third as its area."""

    look: Look
    x: Point
    """Its ``y`` is not used; ``low`` and ``high`` are along x."""
    y: Point
    area: float
    """0 to 1."""
    front: bool
    """Whether no other row is better in everything."""
    label: str


def plane(spots: Sequence[Spot], x: Axis, y: Axis, size: Size) -> Spec:
    """Points with their intervals; those that another one dominates are hollow."""
    layers = []
    heights = apart([(pixel(s.y.y, y, size), n) for n, s in enumerate(spots)], 15, size.height)
    for n, spot in enumerate(spots):
        place = [
            {
                "x": spot.x.x,
                "y": spot.y.y,
                "x_low": spot.x.low,
                "x_high": spot.x.high,
                "y_low": spot.y.low,
                "y_high": spot.y.high,
            }
        ]
        thin = {"type": "rule", "color": spot.look.colour, "opacity": 0.5 if spot.front else 0.35}
        marks: list[Layer] = [
            {
                "mark": thin,
                "encoding": {
                    "x": quantity("x_low", x),
                    "x2": {"field": "x_high"},
                    "y": quantity("y", y),
                },
            },
            {
                "mark": thin,
                "encoding": {
                    "x": quantity("x", x),
                    "y": quantity("y_low", y),
                    "y2": {"field": "y_high"},
                },
            },
            {
                "mark": dot(spot.look, 60 + 340 * spot.area, filled=spot.front),
                "encoding": {"x": quantity("x", x), "y": quantity("y", y)},
            },
        ]
        if size.labels:
            marks.append(label(spot.label, size.width + 24, heights[n]))
            spare = {"x": {"value": size.width + 12}, "y": {"value": heights[n]}}
            marks.append({"mark": dot(spot.look, 50, filled=spot.front), "encoding": spare})
        layers.append(named(spot.look, place, marks))
    return chart(layers, size)


# --- helpers --------------------------------------------------------------------------------------


def _band(line: Line, x: Axis, y: Axis, step: bool) -> list[Layer]:
    known = [p for p in line.points if p.low is not None and p.high is not None]
    if not known or line.look.kind == "cheat":
        return []
    values = [{"x": p.x, "y_low": p.low, "y_high": p.high} for p in known]
    area: dict[str, Any] = {"type": "area", "color": line.look.colour, "opacity": BAND}
    area |= {"interpolate": "step-after"} if step else {}
    encoding = {"x": quantity("x", x), "y": quantity("y_low", y), "y2": {"field": "y_high"}}
    return [named(line.look, values, [{"mark": area, "encoding": encoding}], "band")]


def _mean(line: Line, x: Axis, y: Axis, step: bool) -> Layer:
    values = [{"x": p.x, "y": p.y} for p in line.points]
    mark: dict[str, Any] = {"type": "line", "color": line.look.colour, "strokeWidth": 2}
    mark |= {"strokeDash": list(line.look.dash)} if line.look.dash else {}
    mark |= {"interpolate": "step-after"} if step else {}
    mark |= {"clip": True} if line.look.kind == "cheat" else {}  # which may be far from all others
    encoding = {"x": quantity("x", x), "y": quantity("y", y)}
    return named(line.look, values, [{"mark": mark, "encoding": encoding}], "mean")


def _end_labels(drawn: Sequence[Line], y: Axis, size: Size) -> list[Layer]:
    """Names at the right ends of lines; a cheat's is in the legend alone."""
    told = [line for line in drawn if line.look.kind != "cheat"]
    ends = [(pixel(line.points[-1].y, y, size), n) for n, line in enumerate(told)]
    heights = apart(ends, 15, size.height)
    layers = []
    for n, line in enumerate(told):
        across = (size.width + 6, size.width + 24)
        marks = [leader(line.look, *across, heights[n])]
        marks.append(label(line.look.label, across[1] + 6, heights[n]))
        layers.append(named(line.look, [{}], marks, "name"))
    return layers
