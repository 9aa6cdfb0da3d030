"""The run directory: one owner, one configuration, and never half a file.

manifest.json    what this run is: task, model, requests; another configuration is refused
records.jsonl    one line a request, append-only; only the last line can be torn by a kill
clips/           one file a request, named by the request's key
result.json      the conclusion, written last
lock             held while a process writes here

A run that is split over processes keeps more beside these (:mod:`.shards`) until it is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import ValidationError

from .migrations import VersionError, migrate
from .plain_files import (
    LINE_BYTES,
    FileError,
    ensure_modest,
    parse_json,
    read_json,
    read_plain,
    shown,
)
from .schema import SCHEMA_VERSION, Record, Result

MANIFEST, RECORDS, RESULT, LOCK = "manifest.json", "records.jsonl", "result.json", "lock"
TEMPORARY = ".tmp"
RECORDS_BYTES = 2**30
"""Largest file of records that is read."""


class StoreError(Exception):
    """A run directory that cannot be used; the text is one sentence fit for a user."""


# --- the directory --------------------------------------------------------------------------------


class Store:
    """A run directory, open for writing by this process alone. Use as a context manager."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self._lock = lock
        self._records: int | None = None
        self._by_key: dict[str, Record] = {}

    @classmethod
    def open(cls, root: Path, manifest: Mapping[str, Any]) -> Store:
        """Lock the directory, check that it belongs to ``manifest``, and read its records."""
        ensure_run_directory(root)
        store = cls(root, acquire(root / LOCK))
        try:
            sweep(root)  # the lock is ours
            adopt(root, manifest)
            store.load()
        except BaseException:
            store.close()
            raise
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the directory."""
        for descriptor in (self._records, self._lock):
            if descriptor is not None:
                with suppress(OSError):
                    os.close(descriptor)
        self._records = None

    @property
    def records(self) -> dict[str, Record]:
        """The newest record of each request key."""
        return self._by_key

    def know(self, records: Iterable[Record]) -> None:
        """Take records into account that lie in another file; a failure never hides a success."""
        for record in records:
            known = self._by_key.get(record.key)
            if known is None or (known.failure and not record.failure):
                self._by_key[record.key] = record

    def append(self, record: Record) -> None:
        """Add one line and make it durable."""
        if self._records is None:
            raise StoreError(f"{self.root} is closed.")
        line = (record.model_dump_json() + "\n").encode()
        with _as_one_line(self._records):
            written = 0
            while written < len(line):
                written += os.write(self._records, line[written:])
        self._by_key[record.key] = record
        os.fsync(self._records)

    def path(self, relative: str) -> Path:
        """A path inside the run directory; see :func:`inside`."""
        return inside(self.root, relative)

    def records_sha256(self) -> str:
        """Hash of ``records.jsonl`` as it lies on disk."""
        return hashlib.sha256((self.root / RECORDS).read_bytes()).hexdigest()

    def finish(self, result: Result) -> Path:
        """Write ``result.json``."""
        path = self.root / RESULT
        write_atomic(path, as_bytes(result.model_dump(mode="json")))
        return path

    def load(self, name: str = RECORDS) -> None:
        """Read the records of a file, to which more will be appended."""
        path = self.root / name
        records, valid = _parse(path)
        self._by_key = {record.key: record for record in records}
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._records = os.open(path, flags, 0o644)
        os.ftruncate(self._records, valid)  # a torn last line is dropped, and its request redone


def read_records(root: Path, name: str = RECORDS) -> list[Record]:
    """The records of a run, the newest of each key, without locking it."""
    records, _ = _parse(root / name)
    return list({record.key: record for record in records}.values())


def adopt(root: Path, manifest: Mapping[str, Any]) -> None:
    """Make the directory that of ``manifest``; one of another configuration is refused."""
    path = root / MANIFEST
    if not path.exists():
        write_atomic(path, as_bytes(manifest))
        return
    differing = differences(_of_today(read_manifest(root)), json.loads(json.dumps(manifest)))
    if differing:
        shown = "; ".join(f"{name}: {there} there, {now} now" for name, there, now in differing)
        raise StoreError(
            f"{root} belongs to another configuration ({shown}); choose another --out or "
            "remove the directory."
        )


def as_bytes(content: Mapping[str, Any]) -> bytes:
    """How manifests and results are written: equal content, equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def sweep(root: Path) -> None:
    """Remove what killed processes left half written; nobody else may be writing."""
    for left_over in (*root.glob(f"*{TEMPORARY}"), *root.glob(f"*/*{TEMPORARY}")):
        left_over.unlink()


def read_manifest(root: Path) -> dict[str, Any]:
    """What a run directory says it is."""
    try:
        return read_json(root / MANIFEST)
    except FileError as error:
        raise StoreError(f"{root / MANIFEST} {error.reason}; restore or remove it.") from None


def _of_today(manifest: dict[str, Any]) -> dict[str, Any]:
    """A run that an older sfbench began goes on; a version nobody knows is a difference."""
    try:
        return migrate(manifest)
    except (VersionError, LookupError, TypeError):
        return manifest


def differences(old: Any, new: Any, name: str = "") -> list[tuple[str, str, str]]:
    """The fields in which two JSON values differ: ``(dotted name, old text, new text)``."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted(old.keys() | new.keys())
        pairs = ((f"{name}.{key}".lstrip("."), old.get(key), new.get(key)) for key in names)
        return [found for key, a, b in pairs for found in differences(a, b, key)]
    return [] if old == new else [(name, json.dumps(old), json.dumps(new))]


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, or a :class:`StoreError` if that is not truly inside ``root``.

    Absolute paths, ``..`` and links that lead out are refused.
    """
    escapes = "\0" in relative or not relative
    path = root / relative if not escapes else root
    if escapes or not path.resolve().is_relative_to(root.resolve()) or path.is_symlink():
        raise StoreError(f"The path {relative!r} leads out of {root}; it was not touched.")
    return path


def ensure_run_directory(root: Path) -> None:
    """Make it, unless something else is there."""
    if root.exists() and not root.is_dir():
        raise StoreError(f"{root} is a file; choose another --out.")
    root.mkdir(parents=True, exist_ok=True)
    names = [p.name for p in root.iterdir()]
    if (root / MANIFEST).exists():  # looked for last: others that start here write it first of all
        return
    strangers = [n for n in names if not n.startswith(LOCK) and not n.endswith(TEMPORARY)]
    if strangers:
        raise StoreError(
            f"{root} holds {sorted(strangers)[0]!r} but no {MANIFEST}, so it is not a run "
            "directory; choose another --out."
        )


# --- the lock -------------------------------------------------------------------------------------


def acquire(path: Path, *, shared: bool = False) -> int:
    """Hold a lock file; it is released by the kernel when this process ends, however it ends.

    ``shared``: together with others that say so.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 256).decode(errors="replace").strip() or "another process"
        os.close(descriptor)
        raise StoreError(
            f"{path.parent} is being written by {owner}; wait for it or choose another --out."
        ) from None
    if shared:
        return descriptor
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor


# --- the records ----------------------------------------------------------------------------------


def _parse(path: Path) -> tuple[list[Record], int]:
    """All records, and the length in bytes of the complete lines they came from."""
    if not path.exists():
        return [], 0
    try:
        data = read_plain(path, RECORDS_BYTES)
    except FileError as error:
        raise StoreError(str(error)) from None
    valid = data.rfind(b"\n") + 1  # whatever follows is a line torn by a kill
    lines = enumerate(data[:valid].splitlines(), start=1)
    return [parse_record(path, number, line) for number, line in lines], valid


def parse_record(path: Path, number: int, line: bytes) -> Record:
    """The record in a line of a file; what is none is a :class:`StoreError` that names both."""
    try:
        if len(line) > LINE_BYTES:
            raise ValueError(f"it has {len(line)} bytes, and at most {LINE_BYTES} are read")
        ensure_modest(line)
        record = Record.model_validate_json(line)
    except ValidationError as error:
        _ensure_known_version(path, number, line)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise _no_record(path, number, reason) from None
    except ValueError as error:
        raise _no_record(path, number, str(error)) from None
    if record.schema_version > SCHEMA_VERSION:
        raise _newer(path, number, record.schema_version)
    return record


def _ensure_known_version(path: Path, number: int, line: bytes) -> None:
    """A record of a newer sfbench may look like none: then its version is the reason."""
    try:
        version = parse_json(line)["schema_version"]
    except (ValueError, LookupError, TypeError):
        return
    if type(version) is int and version > SCHEMA_VERSION:
        raise _newer(path, number, version)


def _no_record(path: Path, number: int, reason: str) -> StoreError:
    return StoreError(
        f"{shown(path)} line {number} is not a record ({shown(reason)}); restore the file, or "
        "remove the line so that its request is run again."
    )


def _newer(path: Path, number: int, version: int) -> StoreError:
    return StoreError(
        f"{shown(path)} line {number} has schema version {version}, and this sfbench reads up to "
        f"{SCHEMA_VERSION}; install a newer sfbench."
    )


@contextmanager
def _as_one_line(descriptor: int) -> Iterator[None]:
    """Undo a partial append (a full disk, Ctrl-C), so that the next line starts on its own."""
    before = os.fstat(descriptor).st_size
    try:
        yield
    except BaseException:
        os.ftruncate(descriptor, before)
        raise


# --- atomic files ---------------------------------------------------------------------------------


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: readers see the old content or the new, never a part."""
    with replacing(path) as temporary, temporary.open("r+b") as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A fresh temporary file beside ``path`` that becomes ``path`` when the block succeeds.

    The file and then its directory are synced to disk. Whatever goes wrong, the old content stays
    and the temporary file does not.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    os.close(os.open(temporary, flags, 0o644))
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
