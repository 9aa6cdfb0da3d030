"""A small run that the tests of shards split: by itself, in a part, or in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sfbench.models import resolve
from sfbench.runner import Missing, run, run_shard
from sfbench.schema import Result
from sfbench.shards import Shard

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
