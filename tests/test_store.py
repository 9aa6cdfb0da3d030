"""The run directory: one owner, one configuration, and never half a file."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfbench import store
from sfbench.schema import Failure, ModelCard, Record
from sfbench.store import Store, StoreError, inside, read_records, write_atomic

import fakes

MANIFEST = {"task": {"name": "fake", "seeds": [0]}, "requests": {"count": 2}}
REQUESTS = fakes.FakeTask().requests(ModelCard(name="m"))


def record(n: int, reason: str = "for a test") -> Record:
    failure = Failure(kind="model", reason=reason)
    return Record(key=REQUESTS[n].key, request=REQUESTS[n], failure=failure)


# --- whole files or none --------------------------------------------------------------------------


def test_write_atomic_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"old", b"a longer new one", b""):
        write_atomic(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(type(error)), store.replacing(path) as temporary:
        temporary.write_bytes(b"half of the ne")
        assert path.read_bytes() == b"old"
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_really_full_disk_is_an_error_too(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left"):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)


def test_an_append_that_fails_half_way_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "run", MANIFEST) as opened:
        opened.append(record(0))
        before = (tmp_path / "run" / "records.jsonl").read_bytes()
        write = os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) > 10:
                return write(descriptor, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", lambda d, data: half(d, data[:20]))
        with pytest.raises(OSError, match="No space left"):
            opened.append(record(1))
        monkeypatch.undo()
        assert (tmp_path / "run" / "records.jsonl").read_bytes() == before
        opened.append(record(1))
    assert read_records(tmp_path / "run") == [record(0), record(1)]


def test_a_whole_line_stays_when_only_its_sync_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    with Store.open(tmp_path, MANIFEST) as opened:
        monkeypatch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened.append(record(0))
        monkeypatch.undo()
    assert read_records(tmp_path) == [record(0)]


# --- the records ----------------------------------------------------------------------------------


def test_records_come_back_and_the_newest_of_a_key_counts(tmp_path: Path) -> None:
    with Store.open(tmp_path, MANIFEST) as opened:
        opened.append(record(0))
        opened.append(record(1))
        opened.append(record(0, "second try"))
    assert read_records(tmp_path) == [record(0, "second try"), record(1)]
    with Store.open(tmp_path, MANIFEST) as opened:
        assert opened.records[REQUESTS[0].key] == record(0, "second try")
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3


LINES = [(record(n).model_dump_json() + "\n").encode() for n in range(3)]


@settings(max_examples=60, deadline=None)
@given(kept=st.integers(0, len(LINES[2]) - 1))
def test_a_torn_last_line_is_redone_wherever_it_tore(kept: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with Store.open(root, MANIFEST):
            pass
        (root / "records.jsonl").write_bytes(LINES[0] + LINES[1] + LINES[2][:kept])
        assert read_records(root) == [record(0), record(1)]
        with Store.open(root, MANIFEST) as opened:
            assert set(opened.records) == {REQUESTS[0].key, REQUESTS[1].key}
            opened.append(record(2))
        assert (root / "records.jsonl").read_bytes() == b"".join(LINES)


@pytest.mark.parametrize("bad", [b"{\n", b"\n", b"null\n", b'{"key": 3}\n', b"\x00\xff\n"])
def test_a_bad_line_in_the_middle_stops(tmp_path: Path, bad: bytes) -> None:
    with Store.open(tmp_path, MANIFEST):
        pass
    (tmp_path / "records.jsonl").write_bytes(LINES[0] + bad + LINES[1])
    with pytest.raises(StoreError, match=r"records.jsonl line 2 is not a record .*; restore"):
        Store.open(tmp_path, MANIFEST)
    (tmp_path / "records.jsonl").write_bytes(LINES[0])
    Store.open(tmp_path, MANIFEST).close()  # the failed attempt has let go of the lock


def test_records_of_a_newer_sfbench_are_refused(tmp_path: Path) -> None:
    newer = record(0).model_copy(update={"schema_version": 999})
    (tmp_path / "records.jsonl").write_text(newer.model_dump_json() + "\n")
    with pytest.raises(StoreError, match="schema version 999"):
        read_records(tmp_path)


# --- one owner, one configuration -----------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from sfbench.store import Store
with Store.open(Path(sys.argv[1]), {"task": 1}):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_is_first(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match=rf"written by process {holder.pid} on \S+; wait"):
            Store.open(tmp_path, {"task": 1})
        holder.kill()
    Store.open(tmp_path, {"task": 1}).close()  # the kernel has released it


def test_another_configuration_is_refused_with_what_differs(tmp_path: Path) -> None:
    Store.open(tmp_path, MANIFEST).close()
    before = (tmp_path / "manifest.json").read_bytes()
    other = {"task": {"name": "fake", "seeds": [0, 1]}, "requests": {"count": 4}}
    with pytest.raises(StoreError) as caught:
        Store.open(tmp_path, other)
    assert "task.seeds: [0] there, [0, 1] now" in str(caught.value)
    assert "requests.count: 2 there, 4 now" in str(caught.value)
    assert "task.name" not in str(caught.value)
    assert (tmp_path / "manifest.json").read_bytes() == before
    Store.open(tmp_path, json.loads(json.dumps(MANIFEST))).close()


def test_a_folder_of_other_things_is_not_made_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"thesis.tex.*not a run directory"):
        Store.open(tmp_path, MANIFEST)
    with pytest.raises(StoreError, match="is a file"):
        Store.open(tmp_path / "thesis.tex", MANIFEST)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    Store.open(tmp_path, MANIFEST).close()
    (tmp_path / "clips").mkdir()
    for left in (tmp_path / ".result.json.1f.tmp", tmp_path / "clips" / ".a.mp4.2e.tmp"):
        left.touch()
    Store.open(tmp_path, MANIFEST).close()
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "clips/../../x", "a\0b", "", "out/x", "away"]
)
def test_no_path_leads_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "run"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    (root / "away").symlink_to("/etc/passwd")
    with pytest.raises(StoreError, match="leads out of"):
        inside(root, path)
    assert inside(root, "clips/a.mp4") == root / "clips" / "a.mp4"


def test_records_are_not_written_through_a_link(tmp_path: Path) -> None:
    Store.open(tmp_path / "run", MANIFEST).close()
    (tmp_path / "victim").write_text("precious\n")
    (tmp_path / "run" / "records.jsonl").unlink()
    (tmp_path / "run" / "records.jsonl").symlink_to(tmp_path / "victim")
    with pytest.raises((OSError, StoreError)):
        Store.open(tmp_path / "run", MANIFEST)
    assert (tmp_path / "victim").read_text() == "precious\n"
