"""One run split over processes and machines that share a folder.

Every shard writes what is its own, so that no two processes append to one file:

records-2of4.jsonl   the records of shard 2/4
lock-2of4            held while a process is that shard
clips/               one file a request, as in any run
shards.json          how the run is split, and on what machines it ran
lock-merge           held for the moment in which a shard starts or ends; all others wait

``lock`` itself is held by all running shards together, so a run without shards is kept out. Shards
that run at one time split alike; a request belongs to one of them. Whatever else is found is taken
as done: other splits' records, those of a killed shard, those of a run without shards. The shard
that finds all of it done writes ``records.jsonl`` anew, in the order in which one process would
have, and removes what shards have left (:func:`merge`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .schema import Base, Provenance, Record
from .store import (
    LOCK,
    RECORDS,
    Store,
    StoreError,
    acquire,
    adopt,
    ensure_run_directory,
    read_records,
    sweep,
    write_atomic,
)

ENTRANCE, SPLIT = f"{LOCK}-merge", "shards.json"
NAMED = re.compile(r"(?:records|lock)-(?P<index>\d+)of(?P<count>\d+)(?:\.jsonl)?")
WRITTEN = re.compile(r"(?P<index>\d+)/(?P<count>\d+)")


class ShardError(ValueError):
    """A split that cannot be; the text is one sentence."""


@dataclass(frozen=True, order=True)
class Shard:
    """The ``index``-th of ``count`` parts of a run; counted from 1."""

    count: int
    index: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise ShardError(f"There is no shard {self}; write i/n with i from 1 to n.")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """As a part of a file's name."""
        return f"{self.index}of{self.count}"

    def of(self, units: Sequence[Any]) -> list[Any]:
        """What of a run's units is this shard's: dealt in turn."""
        return list(units[self.index - 1 :: self.count])


class Split(Base):
    """How a run is dealt. Shards that run at one time must agree on it."""

    count: int
    batch: int
    limit: int | None
    clips: str


class Kept(Base):
    """Content of ``shards.json``."""

    split: Split
    ran: dict[str, tuple[str, str]]
    """Shard -> machine and device."""


# --- which shard ----------------------------------------------------------------------------------


def chosen(text: str | None, env: Mapping[str, str]) -> tuple[Shard | None, str]:
    """The shard that this process is, and what says so; ``None``: the run is not split.

    ``text`` is that of ``--shard``. Without it: ``RANK`` of ``WORLD_SIZE``, which torchrun sets, or
    ``SLURM_ARRAY_TASK_ID`` of ``SLURM_ARRAY_TASK_COUNT``, where there is more than one.
    """
    if text is not None:
        written = WRITTEN.fullmatch(text.strip())
        if not written:
            raise ShardError(f"'{text}' is no shard; write i/n, for example 2/4.")
        return Shard(int(written["count"]), int(written["index"])), "--shard"
    found = [said for said in (_ranked(env), _arrayed(env)) if said is not None]
    if len(found) > 1:
        names = " and ".join(source for _, source in found)
        raise ShardError(f"{names} both say what is to be run here; give --shard i/n.")
    return found[0] if found else (None, "")


def _ranked(env: Mapping[str, str]) -> tuple[Shard, str] | None:
    world = _number(env, "WORLD_SIZE", 1)
    if world < 2 or "RANK" not in env:
        return None
    rank = _number(env, "RANK", 0)
    return Shard(world, rank + 1), f"RANK {rank} of WORLD_SIZE {world}"


def _arrayed(env: Mapping[str, str]) -> tuple[Shard, str] | None:
    """An array may start anywhere and take steps; one with gaps cannot be counted."""
    count = _number(env, "SLURM_ARRAY_TASK_COUNT", 1)
    if count < 2 or "SLURM_ARRAY_TASK_ID" not in env:
        return None
    number = _number(env, "SLURM_ARRAY_TASK_ID", 0)
    first = _number(env, "SLURM_ARRAY_TASK_MIN", 0)
    index, rest = divmod(number - first, max(1, _number(env, "SLURM_ARRAY_TASK_STEP", 1)))
    if rest or not 0 <= index < count:
        raise ShardError(
            f"SLURM_ARRAY_TASK_ID {number} of {count} tasks from {first} on cannot be counted; "
            "give --shard i/n."
        )
    return Shard(count, index + 1), f"SLURM_ARRAY_TASK_ID {number} of {count} from {first} on"


def _number(env: Mapping[str, str], name: str, otherwise: int) -> int:
    text = env.get(name, "")
    if not text:
        return otherwise
    if not re.fullmatch(r"-?\d+", text):
        raise ShardError(f"{name} is '{text}', which is no number; unset it or give --shard i/n.")
    return int(text)


# --- a run directory with shards ------------------------------------------------------------------


class PartStore(Store):
    """A run directory, open for writing as one shard of it."""

    def __init__(self, root: Path, lock: int, together: int) -> None:
        super().__init__(root, lock)
        self._together = together

    def close(self) -> None:
        """Release the shard, and the share in the directory."""
        super().close()
        with suppress(OSError):
            os.close(self._together)


def open_part(root: Path, manifest: Mapping[str, Any], shard: Shard, split: Split) -> PartStore:
    """Open a run directory as ``shard``; its store knows all records that are there.

    Refused: while the same shard runs, while a run without shards does, while shards run that split
    otherwise, and if the directory belongs to another configuration.
    """
    ensure_run_directory(root)
    with entrance(root):
        together = acquire(root / LOCK, shared=True)
        try:
            lock = acquire(root / _lock(shard))
        except BaseException:
            os.close(together)
            raise
        store = PartStore(root, lock, together)
        try:
            adopt(root, manifest)
            _agree(root, shard, split)
            store.load(_records(shard))
            store.know(everything(root).values())
        except BaseException:
            store.close()
            raise
    return store


def open_whole(root: Path, manifest: Mapping[str, Any]) -> Store:
    """Open a run directory for one process alone; its store knows what shards have left."""
    try:
        store = Store.open(root, manifest)
    except StoreError as error:
        owners = running(root)
        if not owners:
            raise
        raise StoreError(
            f"{root} is being run in shards by {'; '.join(owners)}: wait for them, or take part "
            "with --shard."
        ) from error
    store.know(everything(root).values())
    return store


@contextmanager
def entrance(root: Path) -> Iterator[None]:
    """Only one shard at a time starts or ends; the others wait here for their turn."""
    descriptor = os.open(root / ENTRANCE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _agree(root: Path, shard: Shard, split: Split) -> None:
    """Keep how the run is split, unless shards are running that split it otherwise."""
    there = kept(root)
    if there is not None and there.split == split:
        return
    others = _running(root, shard)
    if there is not None and others:
        old, new = there.split.model_dump(), split.model_dump()
        differing = "; ".join(
            f"{name} {old[name]} there, {new[name]} now" for name in old if old[name] != new[name]
        )
        raise StoreError(
            f"{root} is being run in shards that split it otherwise ({differing}), by "
            f"{'; '.join(others)}: wait for them, or split alike."
        )
    _keep(root, Kept(split=split, ran={} if there is None else there.ran))


# --- what shards have written ---------------------------------------------------------------------


def kept(root: Path) -> Kept | None:
    """What ``shards.json`` says, if it is there."""
    path = root / SPLIT
    try:
        return Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise StoreError(f"{path} cannot be read; remove it.") from None


def has_left(root: Path) -> bool:
    """Whether there are records of shards that are not merged."""
    return any((root / _records(shard)).exists() for shard in _shards(root))


def everything(root: Path) -> dict[str, Record]:
    """The record of each request, whichever file holds it; a failure never hides a success."""
    found: dict[str, Record] = {}
    for name in (RECORDS, *(_records(shard) for shard in _shards(root))):
        for record in read_records(root, name):
            known = found.get(record.key)
            if known is None or (known.failure and not record.failure):
                found[record.key] = record
    return found


def running(root: Path) -> list[str]:
    """Who runs a shard of this directory, in words."""
    if not _shards(root):
        return []
    with entrance(root):
        return _running(root)


def note(root: Path, shard: Shard, provenance: Provenance) -> None:
    """Keep on what machine a shard ran; within the :func:`entrance`."""
    there = kept(root)
    if there is not None:
        ran = there.ran | {shard.name: (provenance.machine, provenance.device)}
        _keep(root, there.model_copy(update={"ran": ran}))


def merge(
    root: Path, order: Sequence[str], provenance: Provenance, own: Shard | None = None
) -> Provenance:
    """Write ``records.jsonl`` anew from all records, and remove what ended shards have left.

    ``order``: the keys as one process would play them; records of other keys follow. To be called
    with the directory to oneself or, as the shard ``own``, within the :func:`entrance`. A kill at
    any point loses nothing: files of shards go only once the new file is on disk. Returns the
    provenance of all: no one process knows how long a run of several took.
    """
    there, found = kept(root), everything(root)
    keys = dict.fromkeys((*(key for key in order if key in found), *found))
    text = "".join(found[key].model_dump_json() + "\n" for key in keys)
    write_atomic(root / RECORDS, text.encode())
    alive = False
    for shard in _shards(root):
        if shard != own and _is_held(root / _lock(shard)):
            alive = True
            continue
        (root / _records(shard)).unlink(missing_ok=True)
        (root / _lock(shard)).unlink(missing_ok=True)
    if not alive:
        (root / SPLIT).unlink(missing_ok=True)
        sweep(root)
    ran = {(provenance.machine, provenance.device), *(there.ran.values() if there else ())}
    machines, devices = (sorted(set(said)) for said in zip(*ran, strict=True))
    words = {"machine": "; ".join(machines), "device": "; ".join(devices), "wall_s": None}
    return provenance.model_copy(update=words)


# --- helpers --------------------------------------------------------------------------------------


def _records(shard: Shard) -> str:
    return f"records-{shard.name}.jsonl"


def _lock(shard: Shard) -> str:
    return f"{LOCK}-{shard.name}"


def _shards(root: Path) -> list[Shard]:
    """All that have left a file, of whatever split."""
    names = os.listdir(root) if root.is_dir() else []
    found = (NAMED.fullmatch(name) for name in names)
    numbers = {(int(m["count"]), int(m["index"])) for m in found if m}
    return [Shard(count, index) for count, index in sorted(numbers) if 1 <= index <= count]


def _running(root: Path, besides: Shard | None = None) -> list[str]:
    """Owners of the shards that run now; within the :func:`entrance`."""
    owners = []
    for shard in _shards(root):
        path = root / _lock(shard)
        if shard != besides and _is_held(path):
            owners.append(f"{path.read_text().strip()} (shard {shard})")
    return owners


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _keep(root: Path, content: Kept) -> None:
    text = json.dumps(content.model_dump(mode="json"), indent=1, sort_keys=True)
    write_atomic(root / SPLIT, (text + "\n").encode())
