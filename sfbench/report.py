"""What a reader sees of finished runs: the leaderboard's files, its table in the terminal, figures.

Files: ``leaderboard.csv``, ``LEADERBOARD.md``, and ``leaderboard.html`` (:mod:`.page`).

Figures: ``drift.png`` (share lost over the horizon), ``exposure.png`` (true and own context, a
panel a model), ``survival.png`` (clips alive), ``pace.png`` (frames a second), ``strips.png``
(frames over the horizon, where clips are kept), and ``headline.png`` (frames and drift of the rows
that the caller names). Where several boards of one task are reported together each name carries the
board's tier and key; ``strips`` the task, where there are several, and any other figure that a
second task has too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import __version__, figures, leaderboard, marked_page, tables
from .boards import Column
from .leaderboard import Group, Row
from .page import write as write_html
from .registry import unknown
from .schema import Result

FORMATS = ("csv", "md", "png", "html")
NARROW = 110  # characters of a terminal under which columns are squeezed
FIGURES: dict[str, Callable[[Group, Path], Path | None]] = {
    "drift": figures.drift,
    "exposure": figures.exposure,
    "survival": figures.survival,
    "pace": figures.pace,
}


class UnknownRow(ValueError):
    """A row that no board has; the text names the nearest."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    formats: Sequence[str],
    page: Path | None = None,
    headline: Sequence[str] = (),
    among: Sequence[Path] = (),
) -> list[Path]:
    """Write what is asked for into ``out``; returns the files written.

    ``runs``: result files, run directories, or trees of them; ``page``: a Markdown page whose
    marked block becomes the brief board; ``headline``: the rows of ``headline.png``; ``among``:
    where the rows lie that these are ranked among.
    """
    if unknown := sorted(set(formats) - set(FORMATS)):
        raise ValueError(f"unknown format {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    results = leaderboard.joined(leaderboard.load(runs), leaderboard.load(among))
    if not results:
        raise FileNotFoundError(
            f"no finished run in {', '.join(map(str, runs))}; a finished run holds a result.json"
        )
    out.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    if "csv" in formats:
        written.append(tables.write_csv(results, out / "leaderboard.csv"))
    if "md" in formats:
        written.append(tables.write_markdown(results, out / "LEADERBOARD.md"))
    if page is not None:
        written.append(marked_page.embed(results, page, out))
    read = [*runs, *among]
    if "png" in formats:
        written += _write_figures(results, read, out, headline)
    if "html" in formats:
        written.append(write_html(leaderboard.groups(results), leaderboard.sources(read), out))
    return written


def _write_figures(
    results: Sequence[Result], runs: Sequence[Path], out: Path, headline: Sequence[str]
) -> list[Path]:
    groups = leaderboard.groups(results)
    _ensure_rows(groups, headline)
    sources = leaderboard.sources(runs)
    written: list[Path | None] = []
    tasks = Counter(group.task.name for group in groups)
    for group in groups:
        task, key = group.task, group.rows[0].result.comparison_key[:6]
        suffix = "" if tasks[task.name] == 1 else f"-{task.tier}-{key}"
        for name, draw in FIGURES.items():
            path = out / f"{name}{suffix}.png"
            if path in written:
                path = out / f"{name}-{task.name}{suffix}.png"
            written.append(draw(group, path))
        whose = "" if len(tasks) == 1 else f"-{task.name}"  # any task may have kept clips
        written.append(figures.strips(group, sources, out / f"strips{whose}{suffix}.png"))
        if headline:
            path = out / f"headline{suffix}.png"
            written.append(figures.headline(group, headline, sources, path))
    return [path for path in written if path is not None]


def _ensure_rows(groups: Sequence[Group], names: Sequence[str]) -> None:
    known = {row.label for group in groups for row in group.rows}
    for name in names:
        if name not in known:
            raise UnknownRow(unknown("row", name, sorted(known)))


# --- the terminal ---------------------------------------------------------------------------------


def print_board(results: Sequence[Result], console: Console) -> None:
    """Print one table a comparable group, with the leader's verdicts in words."""
    for group in leaderboard.groups(results):
        console.print(Text(f"sfbench {__version__} · {tables.title(group)}", "bold"))
        console.print(_table(group, narrow=console.width < NARROW))
        for line in _below(group):
            console.print(Text(line), soft_wrap=True)


def _table(group: Group, *, narrow: bool) -> Table:
    columns = [c for part in group.parts.values() for c in part if c.brief]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("steps", justify="right")
    for column in columns:
        arrow = tables.ARROWS[column.better]
        title = f"{column.title} {arrow}".strip().replace(", ", " ")
        narrowest = max(7, *map(len, title.split()))  # a heading breaks between words only
        table.add_column(title, justify="right", width=narrowest if narrow else None)
    for row in group.rows:
        steps = "-" if row.result.model.steps is None else str(row.result.model.steps)
        texts = [row.rank, row.label, steps, *(_cell(row, column) for column in columns)]
        style = "dim" if row.rank == "-" else None
        table.add_row(*map(Text, texts), style=style)  # Text: a name is not markup, nor an emoji
    return table


def _cell(row: Row, column: Column) -> str:
    """The value in two digits, and its interval on the next line: narrow enough for a terminal."""
    column = replace(column, style=column.style.replace(".3f", ".2f"))
    text = tables.format_estimate(row.result.estimates.get(column.key), column)
    return text.replace(" [", "\n[")


def _below(group: Group) -> list[str]:
    lines = [f"{row.label}: {row.note}" for row in group.rows if row.note]
    lines += leaderboard.verdicts(group, leader_only=True)
    lines += filter(None, [tables.caution(group.task)])
    return [
        *lines,
        f"Value, and below it its 95 % interval over {group.board.over}s; v lower is better, "
        "^ higher.",
    ]
