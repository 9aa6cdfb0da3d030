"""Does a finished row say what its records say? Everything in it is computed again.

A row is a run directory: ``manifest.json``, ``records.jsonl``, ``result.json`` and, on the machine
that ran it, the clips. It is read without trust (:mod:`.plain_files`). What is checked:

files      plain, in the form they are written in, of a known version
requests   those that the task asks for, in the manifest and in the records
numbers    estimates, curves, per-prompt values, validity, division: from the records again
clips      those that are here: the pixels' hash; of a sample also the scores

What cannot be checked is whether the records tell of the model that is named: only a run of one's
own shows that. Times and provenance are as whoever ran it says; they cannot be changed afterwards
without a trace (:attr:`.schema.Result.sha256`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .interfaces import Task
from .plain_files import JSON_BYTES, LINES_BYTES, FileError, lines, read_json, read_plain, shown
from .rebuild import NotHere, footage_of, is_of_footage, task_of
from .row_files import Manifest, read_manifest, read_result
from .runner import concluded
from .schema import Record, Request, Result, Scores, digest
from .store import MANIFEST, RECORDS, RESULT, StoreError, as_bytes, inside, parse_record
from .video import VideoError, pixel_hash, read_clip

CLIPS_SCORED = 3
"""Clips of a row that are scored again, where they are here."""
CLOSE = 0.02
"""What another machine's arithmetic may do to a number that a network had a part in."""
MOST_SHOWN = 5
OURS = {MANIFEST, RECORDS, RESULT}


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
            return [*listed, *([f"wrong  {row}: and {more} more"] if more > 0 else [])]
        clips = f"{self.clips} clips, {self.scored} of them scored again" if self.clips else ""
        away = f"{self.absent} clips are not here" if self.absent else ""
        parts = [f"{self.records} records", f"{self.numbers} estimates", clips, away]
        return [f"ok     {row}: {', '.join(filter(None, parts))}"]


def rows(paths: Sequence[Path]) -> list[Path]:
    """The run directories at and below the paths; links are not followed."""
    found: set[Path] = set()
    for path in paths:
        if path.name == RESULT and path.is_file():
            found.add(path.parent)
        elif path.is_dir():
            found |= {file.parent for file in path.rglob(RESULT)}
            found |= {file.parent for file in path.rglob(RECORDS)}
        else:
            raise Wrong(f"There is no {shown(path)}; name a folder of results or a run directory.")
    if not found:
        raise Wrong(f"No finished run lies in {', '.join(map(shown, paths))}.")
    return sorted(found)


def check(row: Path, rescore: int = CLIPS_SCORED, dataset: str | None = None) -> Checked:
    """Verify one run directory; ``rescore`` of its clips are scored again.

    ``dataset``: the ``folder:PATH`` of the true videos, for rows that are not of a built-in world.
    """
    try:
        return _check(row, rescore, dataset)
    except (Wrong, FileError, StoreError, NotHere) as error:
        return Checked(row, (str(error).removesuffix("."),))


def _check(row: Path, rescore: int, dataset: str | None) -> Checked:
    _ensure_plain(row)
    manifest, result = read_manifest(row), read_result(row / RESULT)
    records = [parse_record(row / RECORDS, *line) for line in lines(row / RECORDS)]
    newest = list({record.key: record for record in records}.values())
    findings = [*_forms(row, result), *_identity(row, manifest, result)]
    try:
        task, asked, fields = _again(result, newest, dataset)
    except (Wrong, NotHere) as error:
        return Checked(row, (*findings, str(error).removesuffix(".")))
    except Exception as error:  # a stranger's records may hold anything that a record can
        reason = shown(f"{type(error).__name__}: {error}")
        return Checked(row, (*findings, f"nothing can be computed from {RECORDS} ({reason})"))
    findings += _requests(manifest, newest, asked)
    findings += _numbers(result, fields, getattr(task, "network", ()))
    clips = [record for record in newest if record.clip]
    findings += _paths(row, clips)
    here = [r for r in clips if r.clip and (row / r.clip.path).exists()]
    judge = None if is_of_footage(result.task) else task
    scored = _sample(here, rescore) if judge else []
    for record in here:
        findings += _clip(row, record, judge if record in scored else None)
    return Checked(
        row,
        tuple(findings),
        records=len(newest),
        numbers=len(result.estimates),
        clips=len(here),
        scored=len(scored),
        absent=len(clips) - len(here),
    )


# --- files ----------------------------------------------------------------------------------------


def _ensure_plain(row: Path) -> None:
    for path in (row, *(row / name for name in OURS)):
        if path.is_symlink():
            raise Wrong(f"{shown(path)} is a link, and rows are plain files")
    for name in sorted(OURS):
        if not (row / name).exists():
            raise Wrong(f"{name} is missing")


def _forms(row: Path, result: Result) -> Iterator[str]:
    """Each file in the form it is written in; the result and its records under their hashes."""
    for name in (MANIFEST, RESULT):
        if as_bytes(read_json(row / name)) != read_plain(row / name, JSON_BYTES):
            yield f"{name} is not in the form that sfbench writes; some byte of it was changed"
    data = read_plain(row / RECORDS, LINES_BYTES)
    if hashlib.sha256(data).hexdigest() != result.records_sha256:
        yield f"{RECORDS} has another hash than records_sha256 in {RESULT} says"
    unsealed = read_json(row / RESULT)["schema_version"] == 1  # version 1 had no such hash
    if not unsealed and result.sha256 != result.sealed().sha256:
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
    task = task_of(result.task, dataset)
    if (here := _unbound(task, result)) != result.task:
        pairs = {name: getattr(result.task, name) for name in type(here).model_fields}
        differing = [name for name, value in pairs.items() if getattr(here, name) != value]
        raise Wrong(f"the task here differs from the row's in {', '.join(differing)}")
    asked = task.requests(result.model)
    known = {record.key: record for record in records}
    ordered = [known[request.key] for request in asked if request.key in known]
    return task, asked, concluded(task, result.model, asked, ordered)


def _unbound(task: Task, result: Result) -> Any:
    """The task's card under the row's conditions: those of a timing are its machine's."""
    return task.card.model_copy(update={"conditions": result.task.conditions})


def _requests(
    manifest: Manifest, records: Sequence[Record], asked: Sequence[Request] | None
) -> Iterator[str]:
    for number, record in enumerate(records, start=1):
        if record.key != record.request.key:
            yield f"{RECORDS}: record {number} has the key of another request"
    if asked is None:
        return
    keys = [request.key for request in asked]
    wanted = (len(keys), digest(keys))
    if (manifest.requests.count, manifest.requests.sha256) != wanted:
        yield f"{MANIFEST}: requests are not those that the task asks for"
    if strangers := {record.key for record in records} - set(keys):
        yield f"{RECORDS}: {len(strangers)} records are of requests that the task does not ask for"


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
    elif old != new:
        yield name, old, new


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
            yield f"{RECORDS}: {shown(error)}"


def _clip(row: Path, record: Record, task: Task | None) -> Iterator[str]:
    """What is wrong with the clip of a record; with a task, also with its scores."""
    ref = record.clip
    assert ref is not None
    try:
        path = inside(row, ref.path)
        if not path.is_file() or path.is_symlink():
            raise VideoError("it is no plain file")
        frames, fps = read_clip(path, ref.frames, ref.height * ref.width)
    except StoreError:
        return  # told by _paths
    except (VideoError, OSError) as error:
        yield f"{shown(ref.path)} cannot be read: {shown(error)}"
        return
    if pixel_hash(frames) != ref.sha256 or not math.isclose(fps, ref.fps, rel_tol=0.01):
        yield f"{shown(ref.path)} holds other pixels than its record says"
    elif task and record.scores:
        try:
            here = task.score(record.request, frames)
        except Exception as error:  # as above
            yield f"{shown(ref.path)} cannot be scored ({shown(error)})"
        else:
            yield from _scores(ref.path, record.scores, here)


def _scores(name: str, there: Scores, here: Scores) -> Iterator[str]:
    old, new = there.model_dump(mode="json"), here.model_dump(mode="json")
    for field, first, second in _differences(old, new, "scores"):
        if not _close(first, second):
            yield f"{shown(name)}: {field} is {shown(first)}, and scored again {shown(second)}"


# --- tables ---------------------------------------------------------------------------------------


def check_tables(folder: Path) -> list[str]:
    """The tables beside rows that are not what ``sfbench report`` makes of them."""
    from tempfile import TemporaryDirectory

    from .leaderboard import load
    from .tables import write_csv, write_markdown

    makers = {"leaderboard.csv": write_csv, "LEADERBOARD.md": write_markdown}
    known = {name: make for name, make in makers.items() if (folder / name).is_file()}
    if not known:
        return []
    results, findings = load([folder]), []
    with TemporaryDirectory() as scratch:
        if (published := folder / "published").is_dir():
            (Path(scratch) / "published").symlink_to(published.resolve())
        for name, make in known.items():
            made = make(results, Path(scratch) / name).read_bytes()
            if made != (folder / name).read_bytes():
                findings.append(f"{shown(folder / name)} is not what `sfbench report` makes")
    return findings
