"""The job scripts of ``examples/slurm``: valid shell, commands that exist, and a way back."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from sfbench import cli
from sfbench.reference.recipes import load_preset

SLURM = Path(__file__).parents[1] / "examples" / "slurm"
SCRIPTS = sorted(path for path in SLURM.iterdir() if path.suffix in (".sh", ".sbatch"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_shell(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)


def commands() -> list[list[str]]:
    """Every `sfbench` command in the folder, as words; what `launch` is given is one."""
    found: list[list[str]] = []
    for path in [*SCRIPTS, SLURM / "README.md"]:
        text = path.read_text().replace("\\\n", " ")
        text = re.sub(r"\$\{?(PRESET)\}?", "wan-1.3b", text)
        text = re.sub(r"\$\{?(METHOD)\}?", "self-forcing-dmd", text)
        lines = re.findall(r"^(?:launch|sfbench) (.*)$", text, re.MULTILINE)
        found += [shlex.split(line) for line in lines]
    return found


def test_their_commands_can_be_typed_and_name_what_exists() -> None:
    group: Any = typer.main.get_command(cli.app)
    assert len(commands()) >= 4
    for name, *arguments in commands():
        context = group.commands[name].make_context(name, list(arguments))
        told = context.params
        preset = load_preset(told["preset"], told["overrides"] or [])
        preset.method(told["method"])
    for row in re.findall(r"METHOD=(\S+) sbatch", "".join(p.read_text() for p in SCRIPTS)):
        load_preset("wan-1.3b").method(row)


FAKE = {
    "scontrol": '#!/bin/bash\necho "scontrol $*" >> calls\n[ "$1" != show ] || echo node1\n',
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "torchrun": (
        '#!/bin/bash\necho "torchrun $*" >> calls\n'
        "trap 'echo ended >> calls; exit 143' TERM\n"
        'if [ -n "$QUICK" ]; then exit "$QUICK"; fi\n'
        'kill -USR1 "$SCRIPT_PID"\nfor i in $(seq 100); do sleep 0.1; done\n'
    ),
}


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run a script as Slurm would; its exit code, and what it called."""
    for name, text in FAKE.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def call(script: str, quick: str = "") -> tuple[int, str]:
        env = {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SFBENCH_ROOT": str(SLURM.parents[1]),
            "SLURM_JOB_NODELIST": "node[1-8]",
            "SLURM_JOB_NUM_NODES": "8",
            "SLURM_JOB_ID": "4711",
            "QUICK": quick,
        }
        line = f'export SCRIPT_PID=$$; exec bash "{SLURM / script}"'
        done = subprocess.run(["bash", "-c", line], env=env, cwd=tmp_path, timeout=30)
        return done.returncode, (tmp_path / "calls").read_text()

    return call


@pytest.mark.parametrize("script", ["train-64.sbatch", "train-8.sbatch"])
def test_a_job_that_is_asked_to_stop_goes_back_into_the_queue(
    job: Callable[..., tuple[int, str]], script: str
) -> None:
    code, calls = job(script)
    assert code == 0
    assert "--nnodes 8 --nproc-per-node 8 --rdzv-id 4711" in calls
    assert "--rdzv-endpoint node1:24711" in calls
    assert "--module sfbench train-reference --preset wan-1.3b --method self-forcing-dmd" in calls
    assert "--resume" in calls
    assert calls.index("ended") < calls.index("scontrol requeue 4711")


def test_a_job_that_ends_by_itself_is_not_queued_again(
    job: Callable[..., tuple[int, str]],
) -> None:
    assert job("train-64.sbatch", "0")[0] == 0
    code, calls = job("train-64.sbatch", "2")
    assert code == 2 and "requeue" not in calls
