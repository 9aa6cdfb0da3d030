"""The page's chart of waits between chunks: how they are spread.

They are read from the records beside a result where they are the waits that its estimates count;
else only the quantiles that the result states are drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .latency import Stream
from .leaderboard import Group, Row
from .page_charts import Cell, Chart, Picture, Plot
from .page_looks import Looks, Sources, board_id, figure, folder_of, key_of, told
from .page_specs import Ridge, ridges
from .page_svg import Axis, Size, svg
from .schema import Estimate
from .store import StoreError, read_records

BINS = 56  # of the spread of waits
HEIGHT = 52  # pixels of one row of it
QUANTILES = {"gap_p50": 0.5, "gap_p95": 0.95, "gap_p99": 0.99}
MS = 1000.0


def waits(group: Group, known: Looks, sources: Sources) -> Chart | None:
    """How long a viewer waits between two chunks, one row a model."""
    rows = [
        row
        for row in group.rows
        if row.result.model.kind == "model"
        and any(_value(row.result.estimates.get(name)) is not None for name in QUANTILES)
    ]
    if not rows:
        return None
    found = {key_of(row): gaps(row, sources) for row in rows}
    stated = {key_of(row): _quantiles(row) for row in rows}
    every = [ms for some in (*found.values(), *stated.values()) for ms in some]
    low, high = min(every) * 0.92, max(every) * 1.08
    edges = np.geomspace(low, high, BINS + 1)
    drawn = [
        Ridge(
            known[key_of(row)],
            tuple(edges.round(4).tolist()) if found[key_of(row)] else (),
            _shares(found[key_of(row)], edges),
            stated[key_of(row)],
            _due(row),
        )
        for row in rows
    ]
    steps = [m * 10.0**p for p in range(-3, 7) for m in (1, 2, 5)]
    x = Axis(
        "milliseconds between two chunks, logarithmic",
        (low, high),
        tuple(t for t in steps if low <= t <= high),
        log=True,
    )
    tall = HEIGHT * len(drawn)
    sizes = Size(640, tall, left=16, right=16), Size(310, tall, left=10, right=12)
    pictures = tuple(Picture(svg(ridges(drawn, x, size)), size) for size in sizes)
    spots = tuple(
        (
            float(np.log(q / low) / np.log(high / low)),
            (n + 0.8) / len(drawn),
            f"{row.label}: {name.removeprefix('gap_')} {told(row.result.estimates[name])} ms",
        )
        for n, row in enumerate(rows)
        for name, q in zip(_known_quantiles(row), stated[key_of(row)], strict=True)
    )
    lost = [row.label for row in rows if not found[key_of(row)]]
    notes = [f"Only the quantiles are known of {', '.join(lost)}."] if lost else []
    fps = group.task.geometry.fps
    return Chart(
        f"{board_id(group)}.waits",
        "Waits between chunks",
        "How often a viewer waits how long. Ticks: p50, p95, p99. Dashed: when the chunk is due "
        f"at {fps:g} frames a second.",
        (Plot(pictures, x=(low, high), spots=spots),),
        (),
        ("model", *(f"{name.removeprefix('gap_')}, ms" for name in QUANTILES), "due, ms"),
        (),
        tuple(
            (
                Cell(row.label),
                *(Cell(told(row.result.estimates.get(name))) for name in QUANTILES),
                Cell("n/a" if (due := _due(row)) is None else figure(due)),
            )
            for row in rows
        ),
        tuple(notes),
    )


def gaps(row: Row, sources: Sources) -> list[float]:
    """Milliseconds between the chunks of the streams that a row's estimates count.

    Empty where the records are not there, or do not hold as many waits as the estimate says.
    """
    root = folder_of(row, sources)
    stated = row.result.estimates.get("gap_p50")
    if root is None or stated is None:
        return []
    try:
        records = read_records(root)
    except StoreError:
        return []
    plain = [
        Stream.of(record.timing)
        for record in records
        if record.timing is not None
        and record.timing.batch == 1
        and not record.request.switch
        and not record.request.split
        and not record.request.prompt.id.startswith("warm-up")
    ]
    found = [MS * gap for stream in plain for gap in stream.gaps]
    return found if len(found) == stated.n else []


def _quantiles(row: Row) -> tuple[float, ...]:
    values = (_value(row.result.estimates.get(name)) for name in QUANTILES)
    return tuple(value for value in values if value is not None)


def _known_quantiles(row: Row) -> list[str]:
    estimates = row.result.estimates
    return [name for name in QUANTILES if _value(estimates.get(name)) is not None]


def _shares(
    values: Sequence[float], edges: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> tuple[float, ...]:
    if not values:
        return ()
    counts, _ = np.histogram(values, edges)
    return tuple((counts / len(values)).round(5).tolist())


def _due(row: Row) -> float | None:
    """Milliseconds that a chunk lasts on the screen."""
    chunk = row.result.model.chunk
    return None if not chunk else MS * chunk / row.result.task.geometry.fps


def _value(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value
