"""A Markdown page of one's own, e.g. a README, with marked blocks that are made from results.

===================================== ===========================================================
mark, up to ``<!-- /board -->``       what comes to stand there
===================================== ===========================================================
``<!-- board -->``                    the brief boards of every task
``<!-- board TASK -->``               those of one task
``<!-- board NAME/TASK -->``          of the board ``NAME`` within the results, among the main rows
``<!-- board TASK: ROW, ROW -->``     with these rows alone
===================================== ===========================================================

``<!-- beside NAME -->`` or ``<!-- beside BOARD/NAME -->``, up to ``<!-- /beside -->``, has the
published figures ``NAME.csv`` beside the rows that were run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from . import beside
from .leaderboard import BOARDS, groups, joined, load
from .schema import Result
from .tables import brief

WITHIN = r"(?:(?P<within>[\w-]+)/)?"
BESIDE = re.compile(
    rf"(?P<start><!-- beside {WITHIN}(?P<name>[\w-]+) -->)\n.*?(?P<end><!-- /beside -->)", re.DOTALL
)
BLOCK = re.compile(
    rf"(?P<start><!-- board(?: {WITHIN}(?P<task>[\w-]+)(?:: (?P<rows>[^\n]+?))?)? -->)\n.*?"
    r"(?P<end><!-- /board -->)",
    re.DOTALL,
)


class Unmarked(ValueError):
    """A page without marks, or with one that cannot be made; the text is one sentence."""


def embed(results: Iterable[Result], page: Path, folder: Path) -> Path:
    """Put what the marks of a page ask for between them.

    ``folder``: of the results, with ``published/`` and ``boards/`` in it where there are any.
    """
    results = list(results)

    def within(found: re.Match[str]) -> tuple[Path, list[Result]]:
        if not found["within"]:
            return folder, results
        board = folder / BOARDS / found["within"]
        return board, joined(load([board]), results)

    def body(found: re.Match[str]) -> str:
        rows = _chosen(within(found)[1], found["rows"])
        wanted = [g for g in groups(rows) if found["task"] in (None, g.task.name)]
        lines = [line for group in wanted for line in brief(group)]
        return "\n".join([found["start"], *lines, found["end"]])

    def compared(found: re.Match[str]) -> str:
        where, rows = within(found)
        path = where / "published" / f"{found['name']}.csv"
        if not path.is_file():
            raise Unmarked(f"A mark of {page} needs {path}, which is not there.")
        return "\n".join([found["start"], *beside.table(path, rows), found["end"]])

    text, count = BLOCK.subn(body, page.read_text(encoding="utf-8"))
    text, tables = BESIDE.subn(compared, text)
    if not count + tables:
        raise Unmarked(
            f"{page} has no place for the board; add the lines '<!-- board -->' and "
            "'<!-- /board -->'."
        )
    page.write_text(text, encoding="utf-8")
    return page


def _chosen(results: Sequence[Result], rows: str | None) -> list[Result]:
    """Those of the rows that a mark names, or all."""
    if rows is None:
        return [*results]
    names = [name.strip() for name in rows.split(",")]
    if absent := set(names) - {result.model.name for result in results}:
        raise Unmarked(f"The mark for '{rows}' names '{min(absent)}', which was not run.")
    return [result for result in results if result.model.name in names]
