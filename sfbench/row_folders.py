"""Where rows lie, and what lies in them besides their three files.

A link under a folder of results leads a reader somewhere else than to what was looked at, so it is
never followed and never passed over: it is handed on as a row, which :mod:`.verify_rows` refuses by
name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .plain_files import shown
from .shards import ENTRANCE, NAMED, SPLIT
from .store import LOCK, MANIFEST, RECORDS, RESULT

FILES = (MANIFEST, RECORDS, RESULT)
"""What a row consists of."""
BESIDE = {LOCK, ENTRANCE, SPLIT}
"""What a run leaves beside them; so do the files of shards (:data:`.shards.NAMED`), and clips."""


class NoRows(ValueError):
    """Paths at which there is no row; the text is one sentence."""


def rows(paths: Sequence[Path]) -> list[Path]:
    """The run directories at and below the paths, and the links there; none is followed."""
    found: set[Path] = set()
    for path in paths:
        if path.name == RESULT and path.is_file():
            found.add(path.parent)
        elif path.is_dir():
            found |= _below(path)
        else:
            raise NoRows(f"There is no {shown(path)}; name a folder of results or a run directory.")
    if not found:
        raise NoRows(f"No finished run lies in {', '.join(map(shown, paths))}.")
    return sorted(found)


def links(folder: Path) -> list[str]:
    """The names of all links in a folder, relative to it."""
    paths = (path for found in _walk(folder) for path in _links(*found))
    return sorted(str(path.relative_to(folder)) for path in paths)


def strangers(row: Path, clips: Iterable[str]) -> list[str]:
    """What a row's folder holds that is neither the row's nor left by its run.

    ``clips``: the paths that its records name.
    """
    known = {*FILES, *clips}
    there = (Path(here, name).relative_to(row) for here, _, names in _walk(row) for name in names)
    return sorted(str(path) for path in there if str(path) not in known and not _is_left(path))


def _is_left(path: Path) -> bool:
    return path.parent == Path() and (path.name in BESIDE or bool(NAMED.fullmatch(path.name)))


def _below(folder: Path) -> set[Path]:
    """Rows, one within another too, and whatever link lies outside of them."""
    walked = list(_walk(folder))
    found = {Path(here) for here, _, files in walked if {RESULT, RECORDS} & set(files)}
    linked = (path for names in walked for path in _links(*names))
    return found | {path for path in linked if found.isdisjoint(path.parents)}


def _links(here: str, folders: list[str], files: list[str]) -> Iterator[Path]:
    return filter(Path.is_symlink, (Path(here, name) for name in (*folders, *files)))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    return os.walk(folder, followlinks=False)
