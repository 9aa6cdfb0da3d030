"""What `sfbench compare` prints: a table of two rows and the verdicts in words; or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .boards import Column
from .compare import Line, Pairing, note
from .compare_records import Entry
from .paired import TIMES
from .schema import Estimate
from .tables import ARROWS, format_estimate
from .verdicts import difference_text

NARROW = 120  # characters of a terminal under which intervals stand below their values
OPEN = "n/a at an end of an interval: how far it goes on is not known (never within the clip)."
RATIO = "x: A over B, the ratio of their ratios, not a difference; x1.000 is none."
WINS = Column("wins", "wins", None, "", style="{:.0%}")
SIZE = Column("d_z", "d_z", None, "", style="{:+.2f}")


def print_pairs(pairs: Sequence[Pairing], console: Console) -> None:
    """Print every pair, then what so many comparisons amount to."""
    for pair in pairs:
        _print(pair, console)
    made = [line.comparison for pair in pairs for line in pair.lines if line.comparison.made]
    closing = [
        "A - B: paired difference [95 % interval]; d_z: in standard deviations; wins: share on "
        "which A is better, a tie is half; v lower is better, ^ higher.",
        RATIO if any(one.gap.unit == TIMES for one in made) else "",
        OPEN if any(None in (one.gap.low, one.gap.high) for one in made) else "",
        note(pairs),
    ]
    for line in filter(None, closing):
        console.print(Text(line), soft_wrap=True)


def _print(pair: Pairing, console: Console) -> None:
    task = pair.first.result.task
    head = f"{task.name} v{task.version} · {task.tier} · {task.dataset}"
    console.print(Text(f"{head} · A = {pair.first.label}, B = {pair.second.label}", "bold"))
    for caution in pair.cautions:
        console.print(Text(f"{caution}.", "yellow"), soft_wrap=True)
    console.print(_table(pair, narrow=console.width < NARROW))
    for line in pair.lines:
        console.print(Text(line.sentence), soft_wrap=True)
    console.print()


def _table(pair: Pairing, *, narrow: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("estimate")
    for title in ("A", "B", "A - B", "d_z", "wins"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in pair.lines:
        texts = _texts(line, pair.first, pair.second)
        if narrow:
            texts[-2:] = [text.partition(" [")[0] for text in texts[-2:]]
            texts = [text.replace(" [", "\n[") for text in texts]
        table.add_row(*map(Text, texts))
    return table


def _texts(line: Line, first: Entry, second: Entry) -> list[str]:
    column = line.comparison.column
    return [
        f"{column.title} {ARROWS[column.better]}".strip(),
        *(format_estimate(e.result.estimates.get(column.key), column) for e in (first, second)),
        _gap(line.comparison.gap, column),
        format_estimate(line.effect.standardised, SIZE),
        format_estimate(line.effect.wins, WINS),
    ]


def _gap(gap: Estimate, column: Column) -> str:
    """A difference that only an end of its interval is known of is shown by that end."""
    if gap.value is None and gap.low is None and gap.high is None:
        return "n/a"
    value, low, high = (
        "n/a" if v is None else _unsigned_zero(difference_text(v, gap, column))
        for v in (gap.value, gap.low, gap.high)
    )
    return f"{value} [n/a]" if low == high == "n/a" else f"{value} [{low}, {high}]"


def _unsigned_zero(text: str) -> str:
    return text.removeprefix("-") if not text.strip("-0.% ") else text


# --- as JSON --------------------------------------------------------------------------------------


def as_json(pairs: Sequence[Pairing]) -> dict[str, Any]:
    """All of it, for a program."""
    return {"pairs": [_pair_json(pair) for pair in pairs], "note": note(pairs)}


def _pair_json(pair: Pairing) -> dict[str, Any]:
    return {
        "task": pair.first.result.task.name,
        "first": _entry_json(pair.first),
        "second": _entry_json(pair.second),
        "mismatch": {name: list(values) for name, values in pair.mismatch.items()},
        "cautions": pair.cautions,
        "estimates": {line.comparison.column.key: _line_json(line) for line in pair.lines},
    }


def _entry_json(entry: Entry) -> dict[str, Any]:
    result = entry.result
    return {
        "label": entry.label,
        "model": result.model.name,
        "revision": result.model.revision,
        "tier": result.task.tier,
        "folder": str(entry.folder),
        "validity": result.validity.model_dump(mode="json"),
    }


def _line_json(line: Line) -> dict[str, Any]:
    one = line.comparison
    return {
        "first": _estimate_json(one.first.result.estimates.get(one.column.key)),
        "second": _estimate_json(one.second.result.estimates.get(one.column.key)),
        "difference": _estimate_json(one.gap),
        "wins": _estimate_json(line.effect.wins),
        "standardised": _estimate_json(line.effect.standardised),
        "log_rank_p": line.test.p if line.test else None,
        "shown": line.shown,
        "together": line.together,
        "verdict": line.sentence,
    }


def _estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    return estimate.model_dump(mode="json") if estimate else None
