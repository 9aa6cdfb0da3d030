"""A run split over real processes ends as one process would have ended it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfbench import cli, shards
from sfbench.models import resolve
from sfbench.runner import Missing, run, run_shard
from sfbench.schema import Result
from sfbench.shards import Shard, ShardError, chosen
from sfbench.store import RECORDS, StoreError, read_records
from sfbench.video import pixel_hash, read_clip

import fakes

CHILD = """
import os, sys, time
from pathlib import Path
import fakes
from sfbench.models import resolve
from sfbench.runner import run_shard
from sfbench.shards import Shard
name, out, count, index = sys.argv[1:]
class Task(fakes.FakeTask):
    def score(self, request, frames):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        return super().score(request, frames)
task, shard = Task(arms=("own",)), Shard(int(count), int(index))
print(run_shard(task, resolve(name), Path(out), shard, batch=4, clips="all"))
"""
REQUESTS = 12  # in batches of 4, 2, 4, 2
NAME = "fakes:Batched"

Environment = dict[str, str]
Child = Callable[..., "subprocess.CompletedProcess[str]"]


def whole(out: Path, name: str = NAME) -> Result:
    return run(fakes.FakeTask(arms=("own",)), resolve(name), out, batch=4, clips="all")


def part(out: Path, index: int, count: int, name: str = NAME) -> Result | Missing:
    task = fakes.FakeTask(arms=("own",))
    return run_shard(task, resolve(name), out, Shard(count, index), batch=4, clips="all")


def child(
    out: Path, index: int, count: int, env: Environment, name: str = NAME
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, name, str(out), str(count), str(index)]
    return subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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


# --- who may write --------------------------------------------------------------------------------


@contextmanager
def stopped(out: Path, index: int, count: int, env: Environment) -> Iterator[int]:
    """A shard that stands still in the middle; gives its process id."""
    records = out / f"records-{index}of{count}.jsonl"
    with child(out, index, count, env | {"SLOW": "0.2"}, "fakes:Slow") as process:
        while not records.exists() or not records.read_bytes().count(b"\n"):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGSTOP)
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_shard_that_runs_keeps_out_whom_it_must(tmp_path: Path, environment: Environment) -> None:
    out = tmp_path / "out"
    with stopped(out, 1, 2, environment) as pid:
        owner = f"process {pid} on "
        with pytest.raises(StoreError, match=f"is being written by {owner}"):
            part(out, 1, 2, "fakes:Slow")
        with pytest.raises(StoreError, match=rf"\(count 2 there, 3 now\), by {owner}"):
            part(out, 1, 3, "fakes:Slow")
        with pytest.raises(StoreError, match=rf"run in shards by {owner}\S+ \(shard 1/2\): wait"):
            whole(out, "fakes:Slow")
        with pytest.raises(StoreError, match="batch 4 there, 2 now"):
            run_shard(
                fakes.FakeTask(arms=("own",)), resolve("fakes:Slow"), out, Shard(2, 2), batch=2
            )
        assert isinstance(part(out, 2, 2, "fakes:Slow"), Missing), "its sibling may work"
        assert (out / "records-1of2.jsonl").exists()
    assert isinstance(part(out, 1, 2, "fakes:Slow"), Result)


def test_a_run_without_shards_keeps_them_out(tmp_path: Path) -> None:
    out = tmp_path / "out"
    whole(out)
    card = resolve(NAME).card
    from sfbench.runner import manifest
    from sfbench.store import Store

    task = fakes.FakeTask(arms=("own",))
    with (
        Store.open(out, manifest(task.card, card, task.requests(card))),
        pytest.raises(StoreError, match="is being written by process"),
    ):
        part(out, 1, 2)


def test_another_configuration_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    part(out, 1, 2)
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(StoreError, match=r"task\.seeds: \[0, 1\] there, \[3\] now"):
        run_shard(fakes.FakeTask(seeds=(3,)), resolve(NAME), out, Shard(2, 2))
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert before == {name: data for name, data in after.items() if name in before}
    assert "records-2of2.jsonl" not in after


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("five years")
    with pytest.raises(StoreError, match="is not a run directory"):
        part(tmp_path, 1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_machines_are_all_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    part(out, 1, 2)
    kept = shards.kept(out)
    assert kept is not None and kept.ran.keys() == {"1of2"}
    (out / "shards.json").write_text(
        kept.model_copy(update={"ran": {"1of2": ("another machine", "H100")}}).model_dump_json()
    )
    result = part(out, 2, 2)
    assert isinstance(result, Result)
    own, other = sorted(result.provenance.machine.split("; "), key="another machine".__eq__)
    assert "cores" in own and other == "another machine"
    assert result.provenance.device == "H100; cpu"


# --- which shard ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "env", "shard", "source"),
    [
        (None, {}, None, ""),
        ("2/4", {}, Shard(4, 2), "--shard"),
        ("1/1", {"RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 1), "--shard"),
        (None, {"RANK": "0", "WORLD_SIZE": "1"}, None, ""),
        (None, {"RANK": "1"}, None, ""),
        (None, {"RANK": "1", "WORLD_SIZE": "4"}, Shard(4, 2), "RANK 1 of WORLD_SIZE 4"),
        (
            None,
            {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"},
            Shard(4, 4),
            "SLURM_ARRAY_TASK_ID 3 of 4 from 0 on",
        ),
        (
            None,
            {
                "SLURM_ARRAY_TASK_ID": "9",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "5",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            Shard(4, 3),
            "SLURM_ARRAY_TASK_ID 9 of 4 from 5 on",
        ),
        (None, {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "1"}, None, ""),
    ],
)
def test_who_says_which_shard(
    text: str | None, env: Environment, shard: Shard | None, source: str
) -> None:
    assert chosen(text, env) == (shard, source)


@pytest.mark.parametrize(
    ("text", "env", "says"),
    [
        ("2", {}, "'2' is no shard; write i/n"),
        ("0/4", {}, "There is no shard 0/4"),
        ("5/4", {}, "There is no shard 5/4"),
        ("0/0", {}, "There is no shard 0/0"),
        ("-1/4", {}, "'-1/4' is no shard"),
        (None, {"RANK": "4", "WORLD_SIZE": "4"}, "There is no shard 5/4"),
        (None, {"RANK": "one", "WORLD_SIZE": "4"}, "RANK is 'one', which is no number"),
        (
            None,
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "3"},
            "SLURM_ARRAY_TASK_ID 7 of 3 tasks from 0 on cannot be counted",
        ),
        (
            None,
            {
                "RANK": "0",
                "WORLD_SIZE": "2",
                "SLURM_ARRAY_TASK_ID": "0",
                "SLURM_ARRAY_TASK_COUNT": "2",
            },
            "both say what is to be run here",
        ),
    ],
)
def test_a_shard_that_cannot_be_is_one_sentence(
    text: str | None, env: Environment, says: str
) -> None:
    with pytest.raises(ShardError, match=says):
        chosen(text, env)


# --- the command ----------------------------------------------------------------------------------


def test_the_command(sfbench: Child, tmp_path: Path, environment: Environment) -> None:
    command = ["run", "--task", "fake", "--model", "fakes:Static", "--out", "out"]
    first = sfbench(*command, "--shard", "1/2")
    assert first.returncode == 0, first.stderr
    assert "out/static: 3 of 6 requests are done; left to shards 2/2 (3)" in first.stdout
    shown = sfbench(*command, "--dry-run").stdout.splitlines()[-1].split()
    assert shown[-2] == "3", "what shards have done is done"
    environment.update({"RANK": "1", "WORLD_SIZE": "2"})
    second = sfbench(*command)
    assert second.returncode == 0, second.stderr
    assert "sfbench: shard 2/2, because of RANK 1 of WORLD_SIZE 2" in second.stderr
    assert "result.json" in second.stdout
    assert (tmp_path / "out/static/result.json").is_file()


@pytest.mark.parametrize("how", ["option", "rank"])
def test_time_is_not_measured_in_shards(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "--task", "all", "--tier", "smoke", "--model", "cheat:noise"]
    if how == "option":
        command += ["--shard", "1/2"]
    else:
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as done:
        cli.main(command)
    said = capsys.readouterr().err
    assert done.value.code == 2
    assert "latency measures time" in said.splitlines()[-1]
    assert not (tmp_path / "runs").exists(), "no task was begun"


def test_the_same_shard_twice_is_refused_with_2(
    sfbench: Child, tmp_path: Path, environment: Environment
) -> None:
    command = ["run", "--task", "fake", "--model", "fakes:Slow", "--out", "out", "--shard", "1/2"]
    records = tmp_path / "out/static/records-1of2.jsonl"
    with subprocess.Popen(
        [sys.executable, "-m", "sfbench", *command],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.DEVNULL,
    ) as first:
        while not records.exists() or not records.read_bytes():
            assert first.poll() is None
            time.sleep(0.002)
        first.send_signal(signal.SIGSTOP)
        second = sfbench(*command)
        first.kill()
    assert second.returncode == 2
    assert f"is being written by process {first.pid} on " in second.stderr
