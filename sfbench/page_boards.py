"""The page's words and tables as plain data: verdict, boards, certification, published figures.

Nothing here is markup: the template writes it, and escapes it. Numbers come with the value that the
page's script sorts by.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import leaderboard, published, tables
from .boards import Column
from .certification import Certification, Response
from .leaderboard import Group, Row
from .page_charts import Looks, Plot, board_id, forest_chart, told
from .page_clips import truth_row
from .schema import Estimate

CAVEAT = (
    "These weights, not these methods: one training seed each. Intervals are 95 % each, over "
    "prompts, and are not adjusted for the number of comparisons."
)
ARROWS = {"higher": "↑", "lower": "↓", None: ""}
STEPS = ((12.0, "strong"), (6.0, "clear"), (0.0, "seen"))  # least z, and how a cell is shaded


# --- the verdict ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What one estimate says of the ranked models."""

    what: str
    meaning: str
    best: str
    value: str
    sentence: str
    shown: bool
    """Whether the best is told apart from every other."""
    plot: Plot | None


def main_board(groups: Sequence[Group]) -> Group | None:
    """The board that the verdict is taken from: its ranking estimate has a sentence of its own."""
    with_words = [g for g in groups if g.ranked and g.board.primary in g.board.verdicts]
    return next(iter(with_words or [g for g in groups if g.ranked]), None)


def verdicts(group: Group, known: Looks) -> list[Verdict]:
    """One for each estimate that the board has words for, the ranking one first."""
    words = group.board.verdicts
    names = sorted(words, key=lambda name: name != group.board.primary)
    found = (_verdict(group, known, name, *words[name]) for name in names)
    return [verdict for verdict in found if verdict is not None]


def leaders(groups: Sequence[Group]) -> list[str]:
    """Of each board that ranks, a sentence on who leads it."""
    told_of = []
    for group in groups:
        column = next((c for c in group.board.columns if c.key == group.board.primary), None)
        first = [row for row in group.ranked if row.rank.rstrip("=") == "1"]
        if column is None or not first:
            continue
        names = _listed([row.label for row in first])
        verb = "leads" if len(first) == 1 else "share the lead"
        value = told(first[0].result.estimates.get(column.key), column)
        told_of.append(f"{group.task.name}: {names} {verb} ({column.title}: {value}).")
    return told_of


def cheats(group: Group) -> str:
    """Whether the board's cheats were caught."""
    rows = [row for row in group.rows if row.result.model.kind == "cheat"]
    if not rows:
        return ""
    loose = [row.label for row in rows if row.rank != "-"]
    if loose:
        return f"A cheat that no flag caught is ranked: {_listed(loose)}."
    return f"Cheats run beside the models, all flagged: {_listed([row.label for row in rows])}."


def _verdict(group: Group, known: Looks, name: str, less: str, what: str) -> Verdict | None:
    column = next((c for c in group.board.columns if c.key == name), None)
    column = column or Column(name, what, "lower", what)
    rows = [(e.value, row) for row, e in _measured(group.ranked, name) if e.value is not None]
    if not rows:
        return None
    rows.sort(key=lambda pair: pair[0])
    best, others = rows[0][1], [row for _, row in rows[1:]]
    gaps = [leaderboard.paired(best.result, other.result, name) for other in others]
    even = [o for o, gap in zip(others, gaps, strict=True) if gap.high is None or gap.high >= 0]
    sentence = _sentence(best, others, gaps, even, less, what, column)
    truth = truth_row(group)
    beside = [truth] if truth is not None else []
    return Verdict(
        what[0].upper() + what[1:],
        column.meaning,
        best.label,
        told(best.result.estimates[name], column),
        sentence,
        bool(others) and not even,
        forest_chart(group, known, column, [row for _, row in rows] + beside),
    )


def _sentence(
    best: Row,
    others: Sequence[Row],
    gaps: Sequence[Estimate],
    even: Sequence[Row],
    less: str,
    what: str,
    column: Column,
) -> str:
    if not others:
        return f"{best.label} is the only ranked model; there is none to hold its {what} against."
    near, gap = others[0], gaps[0]
    if gap.value is None or gap.low is None or gap.high is None:
        return f"{best.label} has the lowest {what}; too few prompts are common for an interval."
    sure = (
        f"95 % interval {column.text(-gap.high)} to {column.text(-gap.low)}, "
        f"{gap.clusters} paired prompts"
    )
    by = column.text(-gap.value)
    if not even:
        field = "the other ranked model" if len(others) == 1 else "every other ranked model"
        nearest = "" if len(others) == 1 else f" than {near.label}, the next"
        return f"{best.label} has {less} than {field}: {by} less{nearest} ({sure})."
    names = _listed([row.label for row in even])
    return (
        f"{best.label} has the lowest {what}, but is not told apart from {names}: {by} less than "
        f"{near.label} ({sure})."
    )


def _measured(rows: Iterable[Row], name: str) -> list[tuple[Row, Estimate]]:
    found = ((row, row.result.estimates.get(name)) for row in rows)
    return [(row, e) for row, e in found if e is not None]


# --- boards ---------------------------------------------------------------------------------------


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
        tables.provenance_line(group),
        group.rows[0].result.comparison_key,
        tuple(sorted(group.rows[0].result.comparison.items())),
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
    if facts:
        headings += [Heading(f"{ident}-{n}", n, "", meaning, False) for n, meaning in FACTS]
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
            (name, tuple(_entry(row, columns, facts) for row in rows))
            for name, rows in sections
            if rows
        ),
    )


def _entry(row: Row, columns: Sequence[Column], facts: bool) -> Entry:
    model = row.result.model
    values = [value_of(row.result.estimates.get(c.key), c) for c in columns]
    if facts:
        values += [
            _fact(model.steps, "{:.0f}"),
            _fact(model.parameters, "{:.3g}"),
            _fact(model.train_core_hours, "{:.2f}"),
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
        return Value("–")
    for size, unit in ((1e9, " B"), (1e6, " M")):
        if value >= size:
            return Value(f"{value / size:.2f}{unit}", sort=value)
    return Value(style.format(value), sort=value)


def _kind(row: Row) -> str:
    """As the filter names it."""
    kinds = {"cheat": "cheat", "reference-row": "reference"}
    kind = kinds.get(row.result.model.kind, "model")
    return "native length" if kind == "model" and row.note == "" and row.rank == "-" else kind


# --- certification and published figures ----------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """A metric's answer to one failure."""

    state: str
    """``strong``, ``clear`` or ``seen``, by z; ``blind``; ``broken`` where it is not as declared."""
    z: str
    rho: str
    said: str


def matrix(
    certification: Certification,
) -> tuple[tuple[str, ...], list[tuple[str, list[Seen | None]]]]:
    """Failures, and for each metric its answer to every one of them."""
    failures = tuple(dict.fromkeys(r.failure for r in certification.responses))
    metrics = dict.fromkeys(r.metric for r in certification.responses)
    by = {(r.metric, r.failure): r for r in certification.responses}
    rows = [
        (metric, [_seen(r) if (r := by.get((metric, f))) else None for f in failures])
        for metric in metrics
    ]
    return failures, rows


def alarms(
    certification: Certification,
) -> tuple[tuple[str, ...], list[tuple[str, list[tuple[str, bool]]]]]:
    """Nuisances, and for each metric the share of clips in which it raises an alarm, and if it may.

    A pair a nuisance: text, whether it holds.
    """
    nuisances = tuple(dict.fromkeys(q.nuisance for q in certification.quiet))
    metrics = dict.fromkeys(q.metric for q in certification.quiet)
    by = {(q.metric, q.nuisance): q for q in certification.quiet}
    rows = []
    for metric in metrics:
        cells = [by.get((metric, nuisance)) for nuisance in nuisances]
        rows.append(
            (metric, [("", True) if q is None else (f"{q.alarms:.0%}", q.holds) for q in cells])
        )
    return nuisances, rows


def _seen(response: Response) -> Seen:
    z = abs(response.doses[0].z)
    rho = "n/a" if response.rho is None else f"{response.rho:.2f}"
    doses = "; ".join(f"z {d.z:.1f}, {d.alarms:.0%} alarms at {d.dose:g}" for d in response.doses)
    said = f"{response.failure}, {response.unit}: {doses}; rho {rho}"
    if not response.holds:
        return Seen(
            "broken", f"{z:.0f}", rho, f"declared {response.declared}, does not hold. {said}"
        )
    if response.declared == "blind_to":
        return Seen("blind", "", "", said)
    state = next(name for least, name in STEPS if z >= least)
    return Seen(state, f"{z:.0f}", rho, said)


@dataclass(frozen=True)
class Published:
    """One file of published figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]


def published_in(folder: Path) -> list[Published]:
    """The tables of a folder; figures are shown as they stand, each with the number of its source."""
    found = []
    for path in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
        rows = published.rows(path)
        columns = [name for name in rows[0] if name != "source"]
        sources = list(dict.fromkeys(row["source"] for row in rows))
        found.append(
            Published(
                tuple(published.TITLES.get(name, name.replace("_", " ")) for name in columns),
                tuple(
                    (*(row[name] or "–" for name in columns), str(sources.index(row["source"]) + 1))
                    for row in rows
                ),
                tuple(sources),
            )
        )
    return found


# --- helpers --------------------------------------------------------------------------------------


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _address(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
