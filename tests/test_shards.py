"""A run split over real processes ends as one process would have ended it."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from sfbench import shards
from sfbench.models import resolve
from sfbench.runner import Missing, run, run_shard
from sfbench.schema import Result
from sfbench.shards import Shard
from sfbench.store import RECORDS, read_records
from sfbench.video import pixel_hash, read_clip

import fakes
from shards_fixtures import NAME, REQUESTS, Environment, child, part, whole


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("whole")
    whole(out)
    return out


def lines(out: Path) -> list[str]:
    """``records.jsonl``, line by line, without the times."""
    found = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    return [json.dumps(record | {"timing": None}) for record in found]


def concluded(out: Path) -> dict[str, object]:
    result = Result.model_validate_json((out / "result.json").read_bytes())
    return result.model_dump(exclude={"provenance", "records_sha256", "sha256"})


def ensure_equal(out: Path, expected: Path) -> None:
    """All that a reader sees is what one process would have written."""
    assert lines(out) == lines(expected)
    assert concluded(out) == concluded(expected)
    clips = {path.name: path.read_bytes() for path in (expected / "clips").iterdir()}
    assert {path.name: path.read_bytes() for path in (out / "clips").iterdir()} == clips
    left = {path.name for path in out.iterdir() if not path.name.startswith("lock")}
    assert left == {"manifest.json", "records.jsonl", "result.json", "clips"}
    assert not list(out.glob("lock-*of*"))


# --- the whole of it ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 4])
def test_shards_at_one_time_make_the_run_of_one_process(
    tmp_path: Path, environment: Environment, expected: Path, count: int
) -> None:
    out = tmp_path / "out"
    children = [child(out, index, count, environment) for index in range(1, count + 1)]
    said = [process.communicate(timeout=60) for process in children]
    assert [process.returncode for process in children] == [0] * count, said
    assert any("estimates" in out for out, _ in said), "one of them concluded"
    ensure_equal(out, expected)
    result = Result.model_validate_json((out / "result.json").read_bytes())
    assert result.provenance.wall_s is None, "nobody knows how long all took"


def test_one_after_the_other_say_what_is_missing(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    first = part(out, 1, 3)
    assert isinstance(first, Missing)
    assert (first.done, first.total) == (6, REQUESTS)  # batches 1 and 4: 4 + 2
    assert str(first) == "6 of 12 requests are done; left to shards 2/3 (2), 3/3 (4)"
    assert not (out / "result.json").exists() and not (out / "records.jsonl").exists()
    assert isinstance(part(out, 3, 3), Missing)
    assert isinstance(part(out, 2, 3), Result)
    ensure_equal(out, expected)
    before = (out / "records.jsonl").read_bytes()
    assert isinstance(part(out, 2, 3), Result), "again: nothing is left to do"
    assert (out / "records.jsonl").read_bytes() == before
    ensure_equal(out, expected)


def test_more_shards_than_batches(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    found = [part(out, index, 9) for index in range(9, 0, -1)]
    assert [isinstance(result, Result) for result in found] == [False] * 8 + [True]
    ensure_equal(out, expected)


def test_a_run_without_shards_takes_over_what_they_left(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    part(out, 2, 2)
    played: list[tuple[int, int]] = []
    task = fakes.FakeTask(arms=("own",))
    run(task, resolve(NAME), out, batch=4, clips="all", progress=lambda *n: played.append(n))
    assert played[0] == (4, REQUESTS) and len(played) == 1 + 8
    ensure_equal(out, expected)


def test_shards_take_over_what_a_run_without_them_left(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    task = fakes.FakeTask(arms=("own",))
    run(task, resolve(NAME), out, batch=4, clips="all", limit=5)
    part(out, 2, 2)
    assert isinstance(part(out, 1, 2), Result)
    ensure_equal(out, expected)


def test_another_split_takes_over_what_the_first_left(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    part(out, 2, 4)
    part(out, 1, 2)
    assert isinstance(part(out, 2, 2), Result)
    ensure_equal(out, expected)


def test_failures_are_merged_and_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, task = tmp_path / "out", fakes.FakeTask()
    stubborn = resolve("fakes:Stubborn")
    monkeypatch.setenv("STUBBORN", "1")
    run_shard(task, stubborn, out, Shard(2, 1))
    failed = run_shard(task, stubborn, out, Shard(2, 2))
    assert isinstance(failed, Result) and failed.failures == {"model": 2}
    monkeypatch.delenv("STUBBORN")
    half = run_shard(task, stubborn, out, Shard(2, 1), retry_errors=True)
    assert isinstance(half, Result) and half.failures == {"model": 1}
    good = run_shard(task, stubborn, out, Shard(2, 2), retry_errors=True)
    assert isinstance(good, Result) and not good.failures
    assert len(read_records(out)) == 6


# --- kills ----------------------------------------------------------------------------------------


def test_a_shard_killed_anywhere_goes_on(
    tmp_path: Path, environment: Environment, expected: Path
) -> None:
    out = tmp_path / "out"
    rng = random.Random(1)
    struck = 0
    for lines_before in (0, 1, 5):
        slow = environment | {"PAUSE": "0.2"}  # a record: so that the kill comes before the end
        struck += killed_after(lines_before, out, 1, rng.uniform(0, 0.1), slow)
        assert isinstance(part(out, 2, 2), Missing), "the other one is not held up"
    assert struck == 3
    assert isinstance(part(out, 1, 2), Result)
    ensure_equal(out, expected)


def killed_after(count: int, out: Path, index: int, delay: float, env: Environment) -> bool:
    """SIGKILL shard ``index``/2 once it has so many records; whether it was still running."""
    records = out / f"records-{index}of2.jsonl"
    with child(out, index, 2, env) as process:
        deadline = time.monotonic() + 60
        while not records.exists() or records.read_bytes().count(b"\n") < count:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("step", ["records", "removal", "result"])
def test_a_merge_that_is_cut_short_is_done_again(
    tmp_path: Path, expected: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = tmp_path / "out"
    part(out, 1, 2)
    place, name = {
        "records": (shards, "write_atomic"),
        "removal": (Path, "unlink"),
        "result": (shards.Store, "finish"),
    }[step]
    real = getattr(place, name)

    def cut(first: object, *rest: object, **named: object) -> object:
        file = Path(str(first)).name
        if step == "result" or file.startswith({"records": RECORDS, "removal": "records-"}[step]):
            raise KeyboardInterrupt
        return real(first, *rest, **named)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(place, name, cut)
        part(out, 2, 2)
    assert isinstance(part(out, 2, 2), Result)
    ensure_equal(out, expected)


def test_what_a_kill_leaves_half_written_is_redone(tmp_path: Path, expected: Path) -> None:
    out = tmp_path / "out"
    part(out, 1, 2)
    ours = out / "records-1of2.jsonl"
    whole_lines = ours.read_bytes().splitlines(keepends=True)
    ours.write_bytes(b"".join(whole_lines[:-1]) + whole_lines[-1][:50])
    key = json.loads(whole_lines[-1])["key"]
    (out / "clips" / f"{key}.mp4").write_bytes(b"an older clip of the same request")
    (out / "clips" / ".x.mp4.0123.tmp").write_bytes(b"half")
    missing = part(out, 2, 2)
    assert isinstance(missing, Missing) and missing.left == {Shard(2, 1): 1}
    assert isinstance(part(out, 1, 2), Result)
    ensure_equal(out, expected)
    for record in read_records(out):
        assert record.clip is not None
        assert pixel_hash(read_clip(out / record.clip.path)[0]) == record.clip.sha256
