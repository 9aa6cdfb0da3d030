"""Reading files that strangers may have made: plain files of a bounded size, JSON that cannot hurt.

A submitted row is data that anybody can write. A link, a pipe or a folder in the place of a file is
refused, so that nothing is read outside the row; so is what is larger than its limit, nested deeper
than JSON of ours ever is, or not finite.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

JSON_BYTES, LINE_BYTES, LINES_BYTES = 2**24, 2**22, 2**28
"""Largest JSON file, longest line of a file of lines, and largest file of lines, in bytes."""
LARGE_NUMBER = re.compile(rb"[\[:,]\s*-?\d{20,}")
"""A whole number past 64 bits, where JSON has a number."""
SHOWN = 60


class FileError(ValueError):
    """A file that is not read; the text is one sentence, :attr:`reason` its second half."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{shown(path)} {reason}.")
        self.reason = reason


def read_plain(path: Path, limit: int) -> bytes:
    """The content of a plain file of at most ``limit`` bytes; never through a link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise FileError(path, _why(error)) from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise FileError(path, "is not a plain file")
        if found.st_size > limit:
            raise FileError(path, f"has {found.st_size} bytes, and at most {limit} are read")
        return file.read(limit)


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """The JSON object in a file."""
    data = read_plain(path, limit)
    try:
        content = parse_json(data)
    except ValueError as error:
        raise FileError(path, f"is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise FileError(path, "holds no JSON object")
    return content


def parse_json(data: bytes) -> Any:
    """JSON of bounded depth, each key once, without NaN, infinity or whole numbers past 64 bits."""
    ensure_modest(data)
    try:
        return json.loads(data, object_pairs_hook=_once, parse_constant=_not_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def ensure_modest(data: bytes) -> None:
    """Refuse whole numbers past 64 bits: arithmetic with them fails, or takes for ever."""
    if LARGE_NUMBER.search(data):
        raise ValueError("it holds a number of 20 digits or more")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless a key comes twice: readers differ in which one they take."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key comes twice")
    return found


def _not_finite(name: str) -> Any:
    raise ValueError(f"it holds {name}")


def lines(path: Path, limit: int = LINES_BYTES) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line, from 1; a last one without line feed is not whole."""
    data = read_plain(path, limit)
    whole = data.rfind(b"\n") + 1
    yield from enumerate(data[:whole].splitlines(), start=1)
    if data[whole:]:
        raise FileError(path, "ends within a line")


def shown(text: object) -> str:
    """A name or value of a stranger's on one line of a terminal, without control characters."""
    whole = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return whole if len(whole) <= SHOWN * 4 else f"{whole[:SHOWN]}...{whole[-SHOWN:]}"


def _why(error: OSError | ValueError) -> str:
    """In words, why a file could not be opened."""
    if getattr(error, "errno", None) == errno.ELOOP:
        return "is a link, and rows are plain files"
    if isinstance(error, FileNotFoundError):
        return "is missing"
    reason = getattr(error, "strerror", None) or error
    return f"cannot be opened ({reason})"
