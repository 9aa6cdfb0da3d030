"""The boards as plain data: tables in parts, sections and cells, and where their rows come from.

Nothing here is markup: the template writes it, and escapes it. Numbers come with the value that the
page's script sorts by.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import leaderboard, tables
from .boards import Column
from .effects import Effect
from .leaderboard import Group, Row
from .page_looks import board_id
from .schema import Estimate

ARROWS = {"higher": "↑", "lower": "↓", None: ""}


@dataclass(frozen=True)
class Value:
    """A cell: text, the interval below it, why there is none, and what it is sorted by."""

    text: str
    interval: str = ""
    reason: str = ""
    sort: float | None = None


@dataclass(frozen=True)
class Entry:
    """A row of a table."""

    label: str
    kind: str
    rank: str
    ranks: str
    """Interval of the rank."""
    notes: tuple[str, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Heading:
    """A column's head."""

    id: str
    title: str
    arrow: str
    meaning: str
    descending: bool
    """Whether the best come first when the largest do."""


@dataclass(frozen=True)
class Part:
    """One table of a board: its rows stand in sections, which are sorted each by itself."""

    title: str
    headings: tuple[Heading, ...]
    sections: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def reasons(self) -> dict[str, list[str]]:
        """Why there is no value, or only a bound, and of which rows; a title has no keyboard."""
        found: dict[str, list[str]] = {}
        for entry in (entry for _, rows in self.sections for entry in rows):
            for reason in dict.fromkeys(v.reason.removeprefix("n/a: ") for v in entry.values):
                found.setdefault(reason, []).append(entry.label)
        found.pop("", None)
        return found


@dataclass(frozen=True)
class BoardPage:
    """One board."""

    id: str
    name: str
    title: str
    caution: str
    kinds: tuple[str, ...]
    parts: tuple[Part, ...]
    sentences: tuple[str, ...]
    csv: str
    rows: int
    ranked: tuple[str, ...]
    provenance: str
    key: str
    conditions: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    weights: tuple[tuple[str, str, str, str], ...]


FACTS = (
    ("steps", "denoising steps a chunk."),
    ("parameters", "of the model."),
    ("core-hours", "compute spent on these weights and all their ancestors, in hours of one core."),
)


def board(group: Group) -> BoardPage:
    """A board's tables, sentences and provenance."""
    ident, parts = board_id(group), group.parts or {"Rows": ()}
    table = tables.frame(row.result for row in group.rows)
    sources = [row.result.provenance for row in group.rows]
    models = [row.result.model for row in group.rows]
    conditions = group.rows[0].result.comparison
    return BoardPage(
        ident,
        group.task.name,
        tables.title(group),
        tables.caution(group.task),
        tuple(dict.fromkeys(_kind(row) for row in group.rows)),
        tuple(
            _part(group, f"{ident}-{n}", title, columns, facts=n == 0)
            for n, (title, columns) in enumerate(parts.items())
        ),
        tuple(leaderboard.verdicts(group)),
        _address("text/csv", table.to_csv(index=False, lineterminator="\n")),
        len(group.rows),
        tuple(row.label for row in group.ranked),
        tables.provenance_line(group),
        group.rows[0].result.comparison_key,
        tuple((name, _plain(value)) for name, value in sorted(conditions.items())),
        tuple(sorted({source.command for source in sources})),
        tuple(
            (row.label, m.revision, m.weights_sha256 or "", m.notes)
            for row, m in zip(group.rows, models, strict=True)
        ),
    )


def _part(group: Group, ident: str, title: str, columns: Sequence[Column], *, facts: bool) -> Part:
    headings = [
        Heading(f"{ident}-{c.key}", c.title, ARROWS[c.better], c.meaning, c.better == "higher")
        for c in columns
    ]
    sizes = tables.effects(group) if facts else {}
    if facts:
        beside = [*FACTS, *(tables.effect_meanings(group).items() if sizes else ())]
        headings += [
            Heading(f"{ident}-{n.replace(' ', '-')}", n, "", meaning, False)
            for n, meaning in beside
        ]
    sections = (
        ("Ranked", group.ranked),
        ("Not ranked", group.unranked),
        ("Reference rows", group.reference),
        ("Native length only", group.native),
    )
    return Part(
        title,
        tuple(headings),
        tuple(
            (name, tuple(_entry(row, columns, facts, sizes) for row in rows))
            for name, rows in sections
            if rows
        ),
    )


def _entry(row: Row, columns: Sequence[Column], facts: bool, sizes: Mapping[str, Effect]) -> Entry:
    model = row.result.model
    values = [value_of(row.result.estimates.get(c.key), c) for c in columns]
    if facts:
        values += [
            _fact(model.steps, "{:.0f}"),
            _fact(model.parameters, "{:.0f}"),
            _fact(model.train_core_hours, "{:.2f}"),
        ]
    if sizes:
        one = sizes.get(row.label)
        values += [
            value_of(one.standardised, tables.SIZE) if one else Value("-"),
            value_of(one.wins, tables.WINS) if one else Value("-"),
        ]
    ranks = "" if row.rank_low is None else f"{row.rank_low} to {row.rank_high}"
    notes = [note for note in row.note.split("; ") if note]
    return Entry(row.label, _kind(row), row.rank, ranks, tuple(notes), tuple(values))


def value_of(estimate: Estimate | None, column: Column) -> Value:
    """A cell; a median that was not reached is shown, and sorted, as at least its lower end."""
    if estimate is None:
        return Value("n/a", reason="not measured")
    if estimate.value is None:
        if estimate.low is None:
            return Value("n/a", reason=estimate.method)
        return Value(f"≥ {column.text(estimate.low)}", "", estimate.method, estimate.low)
    if estimate.low is None and estimate.high is None:
        interval = "no interval"
    else:
        interval = f"{column.text(estimate.low)} to {column.text(estimate.high)}"
    return Value(column.text(estimate.value), interval, "", estimate.value)


def _fact(value: float | None, style: str) -> Value:
    if value is None:
        return Value("-")
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return Value(f"{value / size:.3g}{unit}", sort=value)
    return Value(style.format(value), sort=value)


def _kind(row: Row) -> str:
    """As the filter names it."""
    kinds = {"cheat": "cheat", "reference-row": "reference"}
    kind = kinds.get(row.result.model.kind, "model")
    return "native length" if kind == "model" and row.note == "" and row.rank == "-" else kind


# --- helpers --------------------------------------------------------------------------------------


def _plain(value: str) -> str:
    """A condition that is a table, as a list of its entries."""
    if not value.startswith("{"):
        return value
    entries: dict[str, object] = json.loads(value)
    return ", ".join(f"{name} {entry}" for name, entry in entries.items())


def _address(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
