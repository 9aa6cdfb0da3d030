"""Which shard a process is to run, as an option or a launcher says, and whom it keeps out."""

from __future__ import annotations

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
from sfbench.runner import Missing, run_shard
from sfbench.schema import Result
from sfbench.shards import Shard, ShardError, chosen
from sfbench.store import StoreError

import fakes
from shards_fixtures import NAME, Environment, child, part, whole

Child = Callable[..., "subprocess.CompletedProcess[str]"]


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


@pytest.mark.parametrize("moment", ["iterdir", "mkdir"])
def test_another_shard_may_begin_while_this_one_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """All shards of a new run start at once: one of them makes the directory a run's."""
    out, looks = tmp_path / "out", getattr(Path, moment)

    def overtaken(path: Path, *args: object, **kwargs: object) -> object:
        monkeypatch.undo()
        part(out, 1, 2)
        return looks(path, *args, **kwargs)

    monkeypatch.setattr(Path, moment, overtaken)
    assert isinstance(part(out, 2, 2), Result)


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
