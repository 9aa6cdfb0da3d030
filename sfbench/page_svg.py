"""What the page's charts are made of: sizes, looks, axes, parts in Vega-Lite, and the SVG.

Charts are drawn to SVG when the page is made (vl-convert, which carries Vega with it), not in the
browser. The page then shows them without JavaScript, prints them, and is a megabyte smaller; its
own script adds the readout under the pointer and the legend. Every chart that stands alone is drawn
twice, for a desk and for a phone, so that its text is never scaled down. Colours are CSS variables,
which the theme sets; the ground of a chart is that of the page. Layout is fixed by :class:`Size`
and not by the width of text, so that equal results give equal bytes on any machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
Layer = dict[str, Any]

VERSION = "6.1"  # of Vega-Lite
SCHEMA = f"https://vega.github.io/schema/vega-lite/v{VERSION}.json"
INK, MUTED, GRID = "var(--ink)", "var(--muted)", "var(--grid)"
TEXT = 12  # pixels
BAND = 0.1  # opacity of an interval
OUTLINES = {
    "circle": "M-5 0A5 5 0 1 1 5 0A5 5 0 1 1 -5 0Z",
    "square": "M-5 -5H5V5H-5Z",
    "triangle-up": "M0 -6L6 5H-6Z",
    "diamond": "M0 -6L6 0L0 6L-6 0Z",
    "cross": "M-2 -6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "triangle-down": "M0 6L-6 -5H6Z",
}
"""Vega's shapes that rows are given."""


@dataclass(frozen=True)
class Size:
    """The plot, and the room around it, in pixels."""

    width: int
    height: int
    left: int = 50
    right: int = 14
    top: int = 12
    bottom: int = 44
    labels: bool = False
    """Whether names stand at the right ends of lines and beside points."""

    @property
    def box(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.left + self.width + self.right, self.top + self.height + self.bottom


WIDE = Size(600, 300, left=60, right=164, labels=True)
NARROW = Size(274, 220, left=54)
PANEL = Size(212, 150, left=52)


@dataclass(frozen=True)
class Look:
    """How a row is drawn, everywhere on the page."""

    label: str
    series: str
    """Class of its marks, e.g. ``s3``; the legend shows and hides it by this."""
    colour: str
    dash: tuple[int, ...] = ()
    shape: str = "circle"
    kind: str = "model"

    @property
    def outline(self) -> str:
        """Its shape as a path around 0, for the legend."""
        return OUTLINES[self.shape]


@dataclass(frozen=True)
class Point:
    """One estimate along a line: place, value, interval."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """One row's curve."""

    look: Look
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Axis:
    """What an axis shows."""

    title: str
    domain: tuple[float, float]
    ticks: tuple[float, ...] = ()
    log: bool = False
    hidden: bool = False


def svg(spec: Spec) -> str:
    """The picture, without what a browser does not need."""
    import vl_convert

    text = str(vl_convert.vegalite_to_svg(spec, vl_version=VERSION))
    text = _own_names(text)
    text = re.sub(r'<path class="(?:back|fore)ground"[^>]*/>', "", text)
    text = re.sub(r' class="[^"]*\b(s\d+|arm[a-z]+)_\w*"', r' data-series="\1"', text)
    text = re.sub(r' class="mark-[^"]*"', "", text)
    noise = "font-family|role|aria-[a-z]+|pointer-events|xmlns:xlink|version|stroke-miterlimit"
    text = re.sub(rf' (?:{noise})="[^"]*"| class="marks"| opacity="1"', "", text)
    while (shorter := re.sub(r"<g>(<[^/][^>]*/>)?</g>", r"\1", text)) != text:
        text = shorter
    return re.sub(r"<[^>]+>", _rounded, text)


# --- parts of a chart ----------------------------------------------------------------------------


def chart(layers: Sequence[Layer], size: Size) -> Spec:
    """A whole specification, of layers from below to above."""
    axis = {
        "labelColor": MUTED,
        "labelFontSize": TEXT,
        "titleColor": MUTED,
        "titleFontSize": TEXT,
        "titleFontWeight": "normal",
        "domain": False,
        "ticks": False,
        "grid": True,
        "gridColor": GRID,
        "labelPadding": 7,
        "labelBound": False,
        "labelFlush": False,
        "labelOverlap": False,
    }
    return {
        "$schema": SCHEMA,
        "width": size.width,
        "height": size.height,
        "padding": {
            "left": size.left,
            "right": size.right,
            "top": size.top,
            "bottom": size.bottom,
        },
        "autosize": {"type": "none"},
        "background": "transparent",
        "config": {"view": {"stroke": None}, "axis": axis, "font": "sans-serif"},
        "layer": list(layers),
    }


def named(
    look: Look, values: Sequence[dict[str, Any]], marks: Sequence[Layer], part: str = "mark"
) -> Layer:
    """The marks of one row, under its name; a chart has each name once."""
    name = f"{look.series}_{part}"
    return {"name": name, "data": {"values": list(values)}, "layer": list(marks)}


def quantity(field: str, axis: Axis) -> dict[str, Any]:
    """A field on an axis whose range is given."""
    scale: dict[str, Any] = {"domain": list(axis.domain), "nice": False, "zero": False}
    if axis.log:
        scale["type"] = "log"
    shown: dict[str, Any] | None = {"title": axis.title or None, "format": ".6~r"}
    if axis.ticks and shown is not None:
        shown["values"] = list(axis.ticks)
    if field.startswith("y") and shown is not None:
        shown |= {"minExtent": 34, "maxExtent": 34}  # else the width of text decides
    if axis.hidden:
        shown = None
    return {"field": field, "type": "quantitative", "scale": scale, "axis": shown}


def rule(at: float, x: Axis) -> Layer:
    """A line across the plot at one x: the native horizon, or zero."""
    return {
        "data": {"values": [{"x": at}]},
        "mark": {"type": "rule", "color": MUTED, "strokeDash": [2, 3]},
        "encoding": {"x": quantity("x", x)},
    }


def label(text: str, x: float, y: float) -> Layer:
    """A name at a place in pixels."""
    return {
        "mark": {"type": "text", "align": "left", "color": INK, "fontSize": TEXT},
        "encoding": {"x": {"value": x}, "y": {"value": y}, "text": {"value": text}},
    }


def leader(look: Look, left: float, right: float, y: float) -> Layer:
    """A short piece of a row's line before its name."""
    mark: dict[str, Any] = {"type": "rule", "color": look.colour, "strokeWidth": 2}
    mark |= {"strokeDash": list(look.dash)} if look.dash else {}
    place = {"x": {"value": left}, "x2": {"value": right}, "y": {"value": y}}
    return {"mark": mark, "encoding": place}


def dot(look: Look, area: float, *, filled: bool = True) -> dict[str, Any]:
    """The mark of a row, in its own shape; ``area`` in square pixels."""
    ground = {"fill": look.colour if filled else "var(--ground)", "stroke": look.colour}
    mark = {"type": "point", "shape": look.shape, "size": area, "strokeWidth": 1.5, "opacity": 1}
    return mark | ground


def pixel(value: float, axis: Axis, size: Size) -> float:
    """Height of a value in the plot, from its top."""
    low, high = axis.domain
    share = (value - low) / (high - low)
    return size.height * (1 - min(max(share, 0), 1))


def apart(places: Sequence[tuple[float, int]], least: float, height: float) -> dict[int, float]:
    """Move heights apart until none is nearer than ``least`` to the next; by number."""
    ordered = sorted(places)
    moved: list[float] = []
    for place, _ in ordered:
        moved.append(max(place, moved[-1] + least) if moved else place)
    for back in range(len(moved)):  # up again from the lower edge
        floor = height - least * back
        moved[-1 - back] = min(moved[-1 - back], floor)
    return {n: round(place, 1) for place, (_, n) in zip(moved, ordered, strict=True)}


# --- helpers --------------------------------------------------------------------------------------


def _own_names(text: str) -> str:
    """Clip paths under names that no other picture of the page has.

    Vega counts them on from picture to picture, so they say nothing and differ from run to run.
    """
    found = list(dict.fromkeys(re.findall(r'id="(clip\d+)"', text)))
    pattern = r'(?P<at>id="|url\(#)(?P<name>clip\d+)'
    bare = re.sub(pattern, lambda m: f"{m['at']}clip{found.index(m['name'])}", text)
    own = hashlib.sha256(bare.encode()).hexdigest()[:8]
    return re.sub(pattern, rf"\g<at>{own}-\g<name>", bare)


def _rounded(tag: re.Match[str]) -> str:
    """A tag with its numbers to a hundredth of a pixel."""
    return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), tag[0])
