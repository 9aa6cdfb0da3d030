"""Does a finished row say what its records say? Everything in it is computed again.

A row is a run directory: ``manifest.json``, ``records.jsonl``, ``result.json`` and, on the machine
that ran it, the clips. It is read without trust (:mod:`.plain_files`). What is checked:

files      plain, no link among them, in the form they are written in, of a known version
requests   those that the task asks for, in the manifest and in the records
numbers    estimates, curves, per-prompt values, validity, division: from the records again
clips      those that are here: the pixels' hash; of a sample also the scores

What else keeps a row off the board (:mod:`.board_rules`, and files not the row's own) is noted, and
where ``strict`` it is wrong: a run of one's own may be made by code with changes, or in part, and
still say what its records say.

What cannot be checked is whether the records tell of the model that is named: only a run of one's
own shows that. Times and provenance are as whoever ran it says; they cannot be changed afterwards
without a trace (:attr:`.schema.Result.sha256`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from . import board_rules, stats
from .interfaces import Task
from .plain_files import JSON_BYTES, LINES_BYTES, FileError, lines, read_json, read_plain, shown
from .rebuild import NotHere, footage_of, is_of_footage, task_of
from .row_files import Manifest, is_untouched, read_manifest, read_result
from .row_folders import FILES, links, strangers
from .runner import concluded
from .schema import Record, Request, Result, Scores, TaskCard, digest
from .store import MANIFEST, RECORDS, RESULT, StoreError, as_bytes, inside, parse_record
from .video import VideoError, pixel_hash, read_clip

CLIPS_SCORED = 3
"""Clips of a row that are scored again, where they are here."""
CLOSE = 0.02
"""What another machine's arithmetic may do to a number that a network had a part in."""
MOST_SHOWN = 5


class Wrong(ValueError):
    """A row that does not hold; the text is one sentence that names file and field."""


@dataclass(frozen=True)
class Checked:
    """One row, and what is wrong with it."""

    row: Path
    findings: tuple[str, ...]
    records: int = 0
    numbers: int = 0
    clips: int = 0
    scored: int = 0
    absent: int = 0
    """Clips that are recorded and not here."""
    notes: tuple[str, ...] = ()
    """Why it is no row for the board, though nothing in it is wrong."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def lines(self) -> list[str]:
        """For a terminal."""
        row = shown(self.row)
        if self.findings:
            more = len(self.findings) - MOST_SHOWN
            listed = [f"wrong  {row}: {finding}" for finding in self.findings[:MOST_SHOWN]]
            listed += [f"wrong  {row}: and {more} more"] if more > 0 else []
            return [*listed, *self._noted()]
        clips = f"{self.clips} clips, {self.scored} of them scored again" if self.clips else ""
        away = f"{self.absent} clips are not here" if self.absent else ""
        parts = [f"{self.records} records", f"{self.numbers} estimates", clips, away]
        return [f"ok     {row}: {', '.join(filter(None, parts))}", *self._noted()]

    def _noted(self) -> list[str]:
        return [f"note   {shown(self.row)}: not for the board, it {note}" for note in self.notes]


def check(
    row: Path, rescore: int = CLIPS_SCORED, dataset: str | None = None, *, strict: bool = False
) -> Checked:
    """Verify one run directory; ``rescore`` of its clips are scored again.

    ``dataset``: the ``folder:PATH`` of the true videos, for rows that are not of a built-in world;
    ``strict``: what keeps a row off the board is wrong.
    """
    try:
        found = _check(row, rescore, dataset)
    except (Wrong, FileError, StoreError, NotHere) as error:
        return Checked(row, (_clause(error),))
    if not strict:
        return found
    rules = tuple(f"the row {note}" for note in found.notes)
    return replace(found, findings=found.findings + rules, notes=())


def _check(row: Path, rescore: int, dataset: str | None) -> Checked:
    _ensure_plain(row)
    manifest, result = read_manifest(row), read_result(row / RESULT)
    numbered = [(n, parse_record(row / RECORDS, n, line)) for n, line in lines(row / RECORDS)]
    records = [record for _, record in numbered]
    newest = list({record.key: record for record in records}.values())
    found = Checked(row, (), records=len(newest), notes=tuple(_notes(row, result, records)))
    findings = [*_forms(row, result), *_identity(row, manifest, result), *_keys(numbered)]
    try:
        task, asked, fields = _again(result, newest, dataset)
    except (Wrong, NotHere) as error:
        return replace(found, findings=(*findings, _clause(error)))
    except Exception as error:  # a stranger's records may hold anything that a record can
        reason = shown(f"{type(error).__name__}: {error}")
        return replace(
            found, findings=(*findings, f"nothing can be computed from {RECORDS} ({reason})")
        )
    findings += _requests(manifest, numbered, asked)
    findings += _numbers(result, fields, getattr(task, "network", ()))
    clips = [record for record in newest if record.clip]
    findings += _paths(row, clips)
    here = [r for r in clips if r.clip and (row / r.clip.path).exists()]
    judge = None if is_of_footage(result.task) else task
    scored = _sample(here, rescore) if judge else []
    for record in here:
        findings += _clip(row, record, judge if record in scored else None)
    return replace(
        found,
        findings=tuple(findings),
        numbers=len(result.estimates),
        clips=len(here),
        scored=len(scored),
        absent=len(clips) - len(here),
    )


def _clause(error: Exception) -> str:
    return str(error).removesuffix(".")


# --- files ----------------------------------------------------------------------------------------


def _ensure_plain(row: Path) -> None:
    if row.is_symlink():
        raise Wrong(f"{shown(row)} is a link, and rows are plain files")
    if linked := links(row):
        more = f" (and {len(linked) - 1} more)" if len(linked) > 1 else ""
        raise Wrong(f"{shown(linked[0])} is a link, and rows are plain files{more}")
    for name in FILES:
        if not (row / name).exists():
            raise Wrong(f"{name} is missing")


def _notes(row: Path, result: Result, records: Sequence[Record]) -> Iterator[str]:
    """What keeps a row off the board."""
    yield from map(shown, board_rules.broken(result))
    if found := strangers(row, (record.clip.path for record in records if record.clip)):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield f"holds {shown(found[0])}{more}, which no run of sfbench writes; remove it"


def _forms(row: Path, result: Result) -> Iterator[str]:
    """Each file in the form it is written in; the result and its records under their hashes."""
    for name in (MANIFEST, RESULT):
        if as_bytes(read_json(row / name)) != read_plain(row / name, JSON_BYTES):
            yield f"{name} is not in the form that sfbench writes; some byte of it was changed"
    data = read_plain(row / RECORDS, LINES_BYTES)
    if hashlib.sha256(data).hexdigest() != result.records_sha256:
        yield f"{RECORDS} has another hash than records_sha256 in {RESULT} says"
    unsealed = read_json(row / RESULT)["schema_version"] == 1  # version 1 had no such hash
    if not unsealed and not is_untouched(row / RESULT):
        yield f"{RESULT} has another hash than its own sha256 says"


def _identity(row: Path, manifest: Manifest, result: Result) -> Iterator[str]:
    pairs = {
        "task": (manifest.task, result.task),
        "model": (manifest.model, result.model),
        "sfbench": (manifest.sfbench, result.provenance.sfbench),
    }
    if is_of_footage(result.task):
        del pairs["task"]  # what VBench adds to the card is known at the end
    for name, (first, second) in pairs.items():
        if first != second:
            yield f"{MANIFEST} and {RESULT} differ in {name}"


# --- numbers --------------------------------------------------------------------------------------


def _again(
    result: Result, records: Sequence[Record], dataset: str | None
) -> tuple[Any, list[Request] | None, dict[str, Any]]:
    """The task, what it asks (``None``: whatever there is), and what follows from the records."""
    if is_of_footage(result.task):
        footage = footage_of(result.task, records)
        conclusion = footage.conclude(records)
        found = {"estimates": conclusion.estimates, "curves": conclusion.curves}
        return footage, None, {**found, "per_prompt": conclusion.per_prompt, "division": "open"}
    task = _task(result.task, dataset)
    if (here := _unbound(task, result)) != result.task:
        pairs = {name: getattr(result.task, name) for name in type(here).model_fields}
        differing = [name for name, value in pairs.items() if getattr(here, name) != value]
        raise Wrong(f"the task here differs from the row's in {', '.join(differing)}")
    asked = task.requests(result.model)
    known = {record.key: record for record in records}
    ordered = [known[request.key] for request in asked if request.key in known]
    return task, asked, concluded(task, result.model, asked, ordered)


def _task(card: TaskCard, dataset: str | None) -> Task:
    """One task for all rows of the embedded world that share it: what it knows of true videos is
    slow to find, and the same. A folder may have changed in between."""
    return _embedded(card.model_dump_json()) if dataset is None else task_of(card, dataset)


@lru_cache(maxsize=2)
def _embedded(card: str) -> Task:
    return task_of(TaskCard.model_validate_json(card))


def _unbound(task: Task, result: Result) -> Any:
    """The task's card under the row's conditions: those of a timing are its machine's."""
    return task.card.model_copy(update={"conditions": result.task.conditions})


def _keys(numbered: Sequence[tuple[int, Record]]) -> Iterator[str]:
    for number, record in numbered:
        if record.key != record.request.key:
            key, its = shown(record.key), record.request.key
            yield f"{RECORDS} line {number}: key is {key}, and its request makes it {its}"


def _requests(
    manifest: Manifest,
    numbered: Sequence[tuple[int, Record]],
    asked: Sequence[Request] | None,
) -> Iterator[str]:
    if asked is None:
        return
    keys = [request.key for request in asked]
    wanted = (len(keys), digest(keys))
    if (manifest.requests.count, manifest.requests.sha256) != wanted:
        yield f"{MANIFEST}: requests are not those that the task asks for"
    known = set(keys)
    for number, record in numbered:
        if record.key not in known:
            key = shown(record.key)
            yield f"{RECORDS} line {number}: the task does not ask for its request (record {key})"


def _numbers(
    result: Result, fields: Mapping[str, Any], network: Sequence[str] = ()
) -> Iterator[str]:
    """Whatever the row says otherwise than its records."""
    written = result.model_dump(mode="json")
    again = result.model_copy(update=dict(fields)).model_dump(mode="json")
    for field in fields:
        for name, there, here in _differences(written[field], again[field], field):
            parts = name.split(".")
            if len(parts) > 1 and parts[1].startswith("vbench_") and here is None:
                continue  # of a network that is not asked again
            if len(parts) > 1 and parts[1] in network and _close(there, here):
                continue
            yield f"{RESULT}: {name} is {shown(there)}, and its records make it {shown(here)}"


def _differences(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for n, (first, second) in enumerate(zip(old, new, strict=True)):
            yield from _differences(first, second, f"{name}.{n}")
    elif old != new and not _rounded_apart(old, new):
        yield name, old, new


def _rounded_apart(first: Any, second: Any) -> bool:
    """One unit in the last place that is written: machines add up in orders of their own."""
    if not (isinstance(first, float) and isinstance(second, float)):
        return False
    places = [len(f"{v:.12f}".rstrip("0").partition(".")[2]) for v in (first, second)]
    return abs(first - second) < 1.5 * 10.0 ** -max(*places, stats.DIGITS)


def _close(first: Any, second: Any) -> bool:
    numbers = all(isinstance(v, int | float) for v in (first, second))
    return numbers and math.isclose(first, second, rel_tol=CLOSE, abs_tol=CLOSE)


# --- clips ----------------------------------------------------------------------------------------


def _sample(records: Sequence[Record], count: int) -> list[Record]:
    """So many, spread evenly."""
    count = min(count, len(records))
    return [records[(2 * n + 1) * len(records) // (2 * count)] for n in range(count)]


def _paths(row: Path, records: Sequence[Record]) -> Iterator[str]:
    """Clips that are said to lie outside the row, whether or not there is something."""
    for record in records:
        try:
            inside(row, record.clip.path if record.clip else "")
        except StoreError as error:
            yield f"{RECORDS}: {shown(_clause(error))} (record {shown(record.key)})"


def _clip(row: Path, record: Record, task: Task | None) -> Iterator[str]:
    """What is wrong with the clip of a record; with a task, also with its scores."""
    ref = record.clip
    assert ref is not None
    clip = f"{shown(ref.path)} (record {shown(record.key)})"
    try:
        path = inside(row, ref.path)
        if not path.is_file() or path.is_symlink():
            raise VideoError("it is no plain file")
        frames, fps = read_clip(path, ref.frames, ref.height * ref.width)
    except StoreError:
        return  # told by _paths
    except (VideoError, OSError) as error:
        yield f"{clip} cannot be read: {shown(error)}"
        return
    if pixel_hash(frames) != ref.sha256 or not math.isclose(fps, ref.fps, rel_tol=0.01):
        yield f"{clip} holds other pixels than its record says"
    elif task and record.scores:
        try:
            here = task.score(record.request, frames)
        except Exception as error:  # as above
            yield f"{clip} cannot be scored ({shown(error)})"
        else:
            yield from _scores(clip, record.scores, here)


def _scores(clip: str, there: Scores, here: Scores) -> Iterator[str]:
    old, new = there.model_dump(mode="json"), here.model_dump(mode="json")
    for field, first, second in _differences(old, new, "scores"):
        if not _close(first, second):
            yield f"{clip}: {field} is {shown(first)}, and scored again {shown(second)}"
