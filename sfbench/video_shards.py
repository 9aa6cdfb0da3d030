"""True videos of one's own in shards: ``shards:PATTERN``, through the package ``datasets``.

PATTERN names files, as ``shards:data/train-*.tar``. A ``.tar`` is in the WebDataset format: the
members of a video share a name, ``KEY.mp4`` beside ``KEY.txt`` or ``KEY.json`` with its caption. A
``.parquet`` has a column of videos (bytes, or paths counted from the folder of the shards) and one
of captions.

The package copies what it reads into its own cache once (``HF_DATASETS_CACHE``), mapped into
memory, and there any row can be had at once, which a tar does not allow. It is not asked to decode:
that is PyAV's work here, as for any other video. Splits, shapes and rates are those of a folder.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from .video import SUFFIXES, Held, Source
from .video_folder import (
    FILE_COLUMNS,
    SHARDS,
    TEXT_COLUMNS,
    Filmed,
    FolderError,
    OwnVideos,
    filmed,
)

MEMBERS = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
VIDEO_COLUMNS = (*MEMBERS, "bytes", "video_bytes", *FILE_COLUMNS)
FORMATS = {".tar": "webdataset", ".parquet": "parquet"}


class VideoShards(OwnVideos):
    """The videos of some shards."""

    def __init__(
        self, name: str, size: int | tuple[int, int] | None = None, fps: float | None = None
    ) -> None:
        """``name``: ``shards:PATTERN``; ``size``: pixels a side, or height and width."""
        pattern = name.removeprefix(f"{SHARDS}:")
        files = _matching(pattern)
        self.root = files[0].parent
        self._rows = _table(files)
        super().__init__(SHARDS, [*self._films()], size, fps)

    def _films(self) -> Iterator[Filmed]:
        if not len(self._rows):
            raise FolderError(f"The shards in '{self.root}' hold no video.")
        for number in range(len(self._rows)):
            row = self._row(number)
            source, text = self._video_of(row, number), _text(row)
            if text is None:
                raise FolderError(
                    f"{source.name} of the shards in '{self.root}' has no caption: a .txt or a "
                    f".json member, or a column called {' or '.join(TEXT_COLUMNS)}."
                )
            yield filmed(source, Path(source.name), text, _sha256(source), number)

    def _source(self, video: Filmed) -> Source:
        return self._video_of(self._row(video.row), video.row)

    def _row(self, number: int) -> dict[str, Any]:
        """As Arrow has it: a column that is declared as video is not decoded."""
        row: dict[str, Any] = self._rows[number].to_pylist()[0]
        return row

    def _video_of(self, row: dict[str, Any], number: int) -> Source:
        for column in VIDEO_COLUMNS:
            value, path = row.get(column), None
            if isinstance(value, dict):  # as `datasets.Video` stores one
                path = value.get("path")
                value = value.get("bytes") or path
            if isinstance(value, bytes):
                suffix = column if column in MEMBERS else MEMBERS[0]
                return Held(_name(row, path) or f"row-{number}.{suffix}", value)
            if isinstance(value, str):
                return self.root / value
        raise FolderError(
            f"Row {number} of the shards in '{self.root}' holds no video: a member "
            f"{', '.join(SUFFIXES)}, or a column called {', '.join(VIDEO_COLUMNS)}."
        )


# --- what the shards hold -------------------------------------------------------------------------


def _matching(pattern: str) -> list[Path]:
    files = [Path(f) for f in sorted(glob.glob(os.path.expanduser(pattern), recursive=True))]
    if not files:
        raise FolderError(
            f"No file matches '{pattern}'; shards are named shards:PATTERN, for example "
            "shards:data/train-*.tar."
        )
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) > 1 or not kinds <= FORMATS.keys():
        raise FolderError(
            f"'{pattern}' matches files ending in {', '.join(sorted(kinds))}; shards are all "
            f"{' or all '.join(FORMATS)}."
        )
    return files


def _table(files: Sequence[Path]) -> Any:
    """A ``datasets.Dataset`` whose rows come as Arrow tables."""
    package, kind = _package(), FORMATS[files[0].suffix.lower()]
    options: dict[str, Any] = {}
    if kind == "webdataset":
        options["features"] = _members(package)
    else:
        options["columns"] = _columns(files[0])
    names = [str(path.resolve()) for path in files]
    try:
        data = package.load_dataset(kind, data_files={"train": names}, split="train", **options)
    except OSError:
        raise
    except Exception as error:  # of many kinds, by what is wrong in which library
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise FolderError(
            f"The shards in '{files[0].parent}' cannot be read ({reason.removesuffix('.')}); mend "
            "them, or take them away."
        ) from None
    return data.with_format("arrow")


def _package() -> ModuleType:
    try:
        import datasets
    except ImportError:
        raise FolderError(
            "Shards are read by the package datasets, which is not installed; run "
            "pip install 'sfbench[shards]'."
        ) from None
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    # Else each load is counted by a request to a server.
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    module: ModuleType = datasets
    return module


def _members(package: ModuleType) -> Any:
    """The members of a video that are read. Said beforehand, because guessed from the first five
    videos they would be wrong where a later one has other fields."""
    text = package.Value("string")
    columns = {"__key__": text, "txt": text, "json": dict.fromkeys(TEXT_COLUMNS, text)}
    # Large: a batch of videos may have more bytes than 32 bits can count.
    return package.Features(columns | dict.fromkeys(MEMBERS, package.Value("large_binary")))


def _columns(file: Path) -> list[str]:
    """Those of a Parquet file that are read; it may have many others."""
    from pyarrow import ArrowException, parquet

    try:
        there = parquet.read_schema(file).names
    except ArrowException as error:
        raise FolderError(
            f"{file.name} cannot be read as Parquet ({str(error).splitlines()[0]}); mend it, or "
            "take it away."
        ) from None
    if not set(there) & set(VIDEO_COLUMNS):
        raise FolderError(
            f"{file.name} holds no video; its columns are {', '.join(there)}, and a video is in "
            f"one called {', '.join(VIDEO_COLUMNS)}."
        )
    known = ("__key__", "key", *VIDEO_COLUMNS, *TEXT_COLUMNS)
    return [name for name in there if name in known]


def _name(row: dict[str, Any], path: str | None) -> str:
    """What a video is called in messages and in order; no path, wherever it comes from."""
    key = row.get("__key__") or row.get("key")
    if key is not None:
        kind = next((member for member in MEMBERS if row.get(member)), "mp4")
        return f"{Path(str(key)).name}.{kind}"
    return Path(path).name if path else ""


def _text(row: dict[str, Any]) -> str | None:
    inside = row.get("json") or {}
    found = [row.get("txt"), *(holder.get(c) for holder in (row, inside) for c in TEXT_COLUMNS)]
    return next((text for text in found if isinstance(text, str)), None)


def _sha256(source: Source) -> str:
    if isinstance(source, Held):
        return hashlib.sha256(source.data).hexdigest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FolderError(f"{source.name} cannot be read ({error.strerror}).") from None
