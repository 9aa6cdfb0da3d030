"""Real kills: a run that was stopped anywhere ends as if it had not been stopped."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sfbench.models import resolve
from sfbench.runner import run
from sfbench.schema import Record, Result
from sfbench.store import read_records
from sfbench.video import pixel_hash, read_clip

import fakes

CHILD = """
import sys
from pathlib import Path
import fakes
from sfbench.models import resolve
from sfbench.runner import run
run(fakes.FakeTask(arms=("own",)), resolve(sys.argv[1]), Path(sys.argv[2]), batch=4, clips="all")
"""
REQUESTS = 12


def finish(name: str, out: Path) -> Result:
    return run(fakes.FakeTask(arms=("own",)), resolve(name), out, batch=4, clips="all")


@pytest.mark.parametrize("name", ["fakes:Slow", "fakes:Batched"])
def test_a_run_killed_five_times(name: str, tmp_path: Path, environment: dict[str, str]) -> None:
    whole = finish(name, tmp_path / "whole")
    out = tmp_path / "killed"
    rng = random.Random(name)
    struck = 0
    for lines in (0, 1, 4, 6, 9):
        seen, code = kill_after(lines, name, out, rng.uniform(0, 0.1), environment)
        struck += code == -signal.SIGKILL
        survived = read_records(out)
        assert len(survived) >= seen  # what was on disk before the kill is there after it
        for record in survived:
            check_clip(record, out)
    assert struck >= 3  # the last kills may come when all is done

    again = finish(name, out)
    assert comparable(again) == comparable(whole)
    assert untimed(out) == untimed(tmp_path / "whole")
    assert len((out / "records.jsonl").read_bytes().splitlines()) == REQUESTS
    assert len(list((out / "clips").iterdir())) == REQUESTS
    assert not list(out.rglob("*.tmp"))


def kill_after(
    lines: int, name: str, out: Path, delay: float, environment: dict[str, str]
) -> tuple[int, int]:
    """SIGKILL a child once so many records are on disk; how many there were, and its exit code."""
    records = out / "records.jsonl"
    with subprocess.Popen([sys.executable, "-c", CHILD, name, str(out)], env=environment) as child:
        deadline = time.monotonic() + 60
        while count(records) < lines or not records.exists():
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(delay)
        seen = count(records)
        child.send_signal(signal.SIGKILL)
    return seen, child.returncode


def count(records: Path) -> int:
    return records.read_bytes().count(b"\n") if records.exists() else 0


def check_clip(record: Record, out: Path) -> None:
    assert record.clip is not None
    assert pixel_hash(read_clip(out / record.clip.path)[0]) == record.clip.sha256


def comparable(result: Result) -> dict[str, object]:
    return result.model_dump(exclude={"provenance", "records_sha256", "sha256"})


def untimed(out: Path) -> list[dict[str, object]]:
    records = sorted(read_records(out), key=lambda record: record.key)
    return [record.model_dump(exclude={"timing"}) for record in records]


def _listen_to_ctrl_c() -> None:
    """A background job ignores SIGINT and its children inherit that; a terminal's do not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_one_sentence_and_the_same_command_goes_on(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ["run", "--task", "fake", "--model", "fakes:Slow", "--out", "out"]
    command = [sys.executable, "-m", "sfbench", *arguments]
    records = tmp_path / "out" / "static" / "records.jsonl"
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment | {"SLOW": "0.1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_listen_to_ctrl_c,
    ) as child:
        while count(records) < 2:
            assert child.poll() is None
            time.sleep(0.005)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 3, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("sfbench: interrupted; finished requests are saved")
    assert "Traceback" not in said
    assert 2 <= count(records) < 6

    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert count(records) == 6


def test_a_second_process_on_one_run_exits_with_2_and_names_the_first(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    command = [sys.executable, "-m", "sfbench", "run", "--task", "fake", "--out", "out"]
    command += ["--model", "fakes:Slow"]
    records = tmp_path / "out" / "static" / "records.jsonl"
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as first:
        while count(records) < 1:
            assert first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)
        try:
            second = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
        finally:
            first.send_signal(signal.SIGCONT)
            first.kill()
    assert second.returncode == 2
    assert f"is being written by process {first.pid} on " in second.stderr
