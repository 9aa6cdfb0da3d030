"""The page's chart of quality against speed, with the horizon as a third coordinate.

A row is on the front if no other ranked row is at least as good in all three and better in one
(Pareto's order).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .boards import Column
from .leaderboard import Group, Row
from .page_charts import Cell, Chart, Picture, Plot
from .page_looks import Key, Looks, key_of, rounded_out, ticks_of, told
from .page_specs import Spot, plane
from .page_svg import NARROW, WIDE, Axis, Point, svg
from .schema import Estimate

QUALITY, SPEED = ("quality", "adherence"), ("latency", "fps_full")
HORIZONS = ("time_to_failure", "alive_8x", "drift")
"""What says how far a model carries; the first in which models differ is shown."""


@dataclass(frozen=True)
class Placed:
    """A row with its three coordinates."""

    key: Key
    label: str
    speed: Estimate
    quality: Estimate
    horizon: Estimate
    fair: bool
    """Whether it is ranked on all the boards it is taken from."""


def pareto(groups: Sequence[Group], main: Group | None, known: Looks) -> Chart | None:
    """Quality against speed, with how far each model carries; ``None`` without all three."""
    speed = _find(groups, *SPEED)
    quality = _find(groups, *QUALITY) or _find(groups, *_primary(main))
    if speed is None or quality is None or main is None:
        return None
    horizon = next((found for name in HORIZONS if (found := _telling(main, name))), None)
    if horizon is None:
        return None
    placed = _placed(speed, quality, (main, horizon))
    if len(placed) < 2:
        return None
    goods = [_goods(p, quality[1], horizon) for p in placed]
    fair = [n for n, p in enumerate(placed) if p.fair]
    leading = dict(zip(fair, front([goods[n] for n in fair]), strict=True))
    areas = _spread([g[2] for g in goods])
    spots = [
        Spot(
            known[p.key],
            Point(_number(p.speed), 0, p.speed.low, p.speed.high),
            Point(0, _number(p.quality), p.quality.low, p.quality.high),
            areas[n],
            leading.get(n, False),
            known[p.key].label + ("" if p.fair else " †"),
        )
        for n, p in enumerate(placed)
    ]
    return _drawn(placed, spots, speed, quality, (main, horizon))


def front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other one dominates; of every coordinate more is better."""
    return [
        not any(
            all(o >= m for o, m in zip(other, mine, strict=True))
            and any(o > m for o, m in zip(other, mine, strict=True))
            for other in points
        )
        for mine in points
    ]


def _drawn(placed: Sequence[Placed], spots: Sequence[Spot], *taken: tuple[Group, Column]) -> Chart:
    """``taken``: the boards and columns of speed, quality and horizon."""
    speed, quality, horizon = (column for _, column in taken)
    names = [f"{group.task.name}: {column.title}" for group, column in taken]
    low = min(v for s in spots for v in (s.x.x, s.x.low) if v is not None)
    high = max(v for s in spots for v in (s.x.x, s.x.high) if v is not None)
    across = rounded_out(0.0 if low < 0.6 * high else low, high)
    ends = [v for s in spots for v in (s.y.y, s.y.low, s.y.high) if v is not None]
    up = rounded_out(min(ends), max(ends))
    x = Axis(f"{names[0]} →", across, ticks_of(*across))
    y = Axis(f"{names[1]} {'→' if quality.better != 'lower' else '←'}", up, ticks_of(*up))
    said = [
        f"{p.label}: {speed.title} {told(p.speed, speed)}; {quality.title} "
        f"{told(p.quality, quality)}; {horizon.title} {_reach(p.horizon, horizon)}"
        for p in placed
    ]
    places = tuple(
        (
            (s.x.x - across[0]) / (across[1] - across[0]),
            1 - (s.y.y - up[0]) / (up[1] - up[0]),
            text,
        )
        for s, text in zip(spots, said, strict=True)
    )
    pictures = tuple(Picture(svg(plane(spots, x, y, s)), s) for s in (WIDE, NARROW))
    apart = [p.label for p in placed if not p.fair]
    notes = [f"† not ranked on one of the boards: {', '.join(apart)}."] if apart else []
    notes += [f"{name}: {column.meaning}" for name, (_, column) in zip(names, taken, strict=True)]
    return Chart(
        "pareto",
        "Quality, speed and horizon",
        f"Up and to the right is better; a larger mark carries further ({horizon.title}). Full "
        "marks are on the front: no ranked model is better in everything. Hollow ones are beaten.",
        (Plot(pictures, x=across, y=up, spots=places),),
        tuple(s.look for s in spots),
        ("model", speed.title, quality.title, horizon.title, "on the front"),
        (),
        tuple(
            (
                Cell(p.label),
                Cell(told(p.speed, speed)),
                Cell(told(p.quality, quality)),
                Cell(_reach(p.horizon, horizon)),
                Cell("yes" if s.front else "no" if p.fair else "not ranked"),
            )
            for p, s in zip(placed, spots, strict=True)
        ),
        tuple(notes),
        shapes=True,
    )


def _placed(
    speed: tuple[Group, Column], quality: tuple[Group, Column], horizon: tuple[Group, Column]
) -> list[Placed]:
    """The models that all three boards have measured."""
    found = []
    for row in horizon[0].rows:
        others = [_same(group, row) for group, _ in (speed, quality)]
        if row.result.model.kind != "model" or None in others:
            continue
        rows = [o for o in others if o is not None] + [row]
        columns = (speed[1], quality[1], horizon[1])
        e = [r.result.estimates.get(c.key) for r, c in zip(rows, columns, strict=True)]
        if any(_reached(estimate) is None for estimate in e):
            continue
        a, b, c = (estimate for estimate in e if estimate is not None)
        if a.value is not None and b.value is not None:
            fair = all(r.rank != "-" for r in rows)
            found.append(Placed(key_of(row), row.label, a, b, c, fair))
    return found


def _goods(placed: Placed, quality: Column, horizon: Column) -> tuple[float, float, float]:
    """Speed, quality and horizon, each so that more is better."""
    reach = _reached(placed.horizon)
    assert reach is not None  # _placed keeps such rows out
    return (
        _number(placed.speed),
        _number(placed.quality) * (-1 if quality.better == "lower" else 1),
        reach * (-1 if horizon.better == "lower" else 1),
    )


def _telling(group: Group, name: str) -> Column | None:
    """The column of an estimate in which the board's models differ."""
    column = next((c for c in group.board.columns if c.key == name), None)
    models = [row for row in group.ranked if row.result.model.kind == "model"]
    values = {_reached(row.result.estimates.get(name)) for row in models} - {None}
    return column if len(values) > 1 else None


def _find(groups: Sequence[Group], task: str, estimate: str) -> tuple[Group, Column] | None:
    for group in groups:
        for column in group.board.columns:
            if (group.task.name, column.key) == (task, estimate):
                return group, column
    return None


def _primary(main: Group | None) -> tuple[str, str]:
    return ("", "") if main is None else (main.task.name, main.board.primary or "")


def _same(group: Group, row: Row) -> Row | None:
    return next((other for other in group.rows if key_of(other) == key_of(row)), None)


def _number(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def _reached(estimate: Estimate | None) -> float | None:
    """A value; of a median that was not reached, how long was watched."""
    if estimate is None:
        return None
    return estimate.low if estimate.value is None else estimate.value


def _reach(estimate: Estimate, column: Column) -> str:
    if estimate.value is None:
        return f"≥ {column.text(estimate.low)}"
    return told(estimate, column)


def _spread(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(v - low) / (high - low) if high > low else 0.5 for v in values]
