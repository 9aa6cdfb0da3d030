"""Figures that others published: shown in a section of their own, never ranked with what was run.

A file is a CSV with the columns ``system`` and ``source``; all others are shown as they stand. An
empty cell was not published.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

REQUIRED = ("system", "source")
TITLES = {
    "params": "parameters",
    "fps": "fps",
    "latency_s": "latency, s",
    "vbench_total": "VBench total",
    "vbench_quality": "VBench quality",
    "vbench_semantic": "VBench semantic",
}


class UnusablePublished(ValueError):
    """A file of published figures that cannot be shown; the text is one sentence."""


def section(folder: Path) -> list[str]:
    """Markdown lines: one table a file of the folder, each figure with its source."""
    files = sorted(folder.glob("*.csv")) if folder.is_dir() else []
    if not files:
        return []
    lines = [
        "## Published figures, not measured here",
        "",
        "Copied from their sources: other machines, other settings, no intervals. They are never "
        "ranked with the rows above.",
        "",
    ]
    for path in files:
        lines += _table(path)
    return lines


def _table(path: Path) -> list[str]:
    rows = read(path)
    columns = [name for name in rows[0] if name != "source"]
    sources = list(dict.fromkeys(row["source"] for row in rows))
    head = [TITLES.get(name, name.replace("_", " ")) for name in columns]
    lines = [line([*head, "source"]), line(["---"] * (len(head) + 1))]
    for row in rows:
        number = f"[{sources.index(row['source']) + 1}]"
        lines.append(line([*(row[name] or "-" for name in columns), number]))
    notes = [f"[{number}] {source}" for number, source in enumerate(sources, start=1)]
    return [*lines, "", *notes, ""]


def read(path: Path) -> list[dict[str, str]]:
    """The rows of one file, checked; every row has a system and a source."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
    if missing or not rows:
        what = f"has no column '{missing[0]}'" if missing else "holds no row"
        raise UnusablePublished(f"{path} {what}; published figures need a system and a source.")
    for number, row in enumerate(rows, start=2):
        if None in row or any(value is None for value in row.values()):
            raise UnusablePublished(f"{path}, line {number} has not as many cells as the header.")
        if not all(row[name].strip() for name in REQUIRED):
            raise UnusablePublished(f"{path}, line {number} names no system or no source.")
    return rows


def line(texts: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(t.replace("|", "\\|").replace("\n", " ") for t in texts) + " |"
