"""Are the tables beside rows those that ``sfbench report`` makes of them?

They are made again and held against what lies there, byte by byte; and whatever they are made from
must lie in a row, where it can be checked (:mod:`.verify_rows`). The page and the pictures are
not: those are held against the rows by their pixels (``tests/test_committed_page.py``).
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from .leaderboard import BOARDS, Unreadable, collected, joined, load
from .plain_files import FileError, read_plain, shown
from .schema import Result
from .tables import write_csv, write_markdown

MAKERS = {"leaderboard.csv": write_csv, "LEADERBOARD.md": write_markdown}
MOST_BYTES = 2**24


def check_tables(folder: Path) -> list[str]:
    """What is wrong with the tables of a folder of results, and of the boards within it; one that
    is not there is not missed."""
    findings = [
        f"{shown(file)} is a result without its records, so nothing shows that it follows from any"
        for file in collected(folder)
    ]
    for board in (folder, *sorted((folder / BOARDS).glob("*/"))):
        findings += _made_again(board)
    return findings


def _rows(folder: Path) -> list[Result]:
    """What its tables are made of: of a board within others, also rows that those have."""
    own, above = load([folder]), folder.absolute().parent
    return joined(own, load([above.parent])) if above.name == BOARDS else own


def _made_again(folder: Path) -> list[str]:
    findings, there = [], {}
    for name in MAKERS:
        if (folder / name).exists() or (folder / name).is_symlink():
            try:
                there[name] = read_plain(folder / name, MOST_BYTES)
            except FileError as error:
                findings.append(str(error).removesuffix("."))
    if not there:
        return findings
    try:
        results = _rows(folder)
    except Unreadable as error:
        return [*findings, f"{shown(folder)}: no table can be made again ({error})"]
    with TemporaryDirectory() as scratch:
        if (published := folder / "published").is_dir():
            (Path(scratch) / "published").symlink_to(published.resolve())
        for name, data in there.items():
            if MAKERS[name](results, Path(scratch) / name).read_bytes() != data:
                findings.append(f"{shown(folder / name)} is not what `sfbench report` makes")
    return findings
