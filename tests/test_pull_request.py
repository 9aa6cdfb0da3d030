"""A pull request that touches results/ adds rows that hold, and nothing else; so says its job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sfbench import pull_request, runner
from sfbench.cli_common import INVALID, USAGE
from sfbench.report import write_report
from sfbench.schema import ModelCard, Result
from sfbench.store import as_bytes
from sfbench.tasks.long_horizon import LongHorizon

import fakes

ROOT = Path(__file__).parents[1]
TASK = "results/runs/long-horizon"
ROW = f"{TASK}/mine"
ONLY = "a pull request that touches results/ adds rows, and changes nothing else"


class Mine(fakes.Static):
    card = ModelCard(
        name="Mine", revision="1", causal=True, accepts_context=False, notes="no weights"
    )


class Cheat(Mine):
    card = Mine.card.model_copy(update={"name": "cheat", "kind": "cheat"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = tmp_path_factory.mktemp("runs")
    for name, model in (("mine", Mine()), ("cheat", Cheat())):
        runner.run(LongHorizon(tier="smoke"), model, shelf / name)
        shutil.rmtree(shelf / name / "clips")
        (shelf / name / "lock").unlink()
    return shelf


class Clone:
    """A repository of its own, with a base branch and one that is proposed."""

    def __init__(self, root: Path, finished: Path) -> None:
        self.root, self.finished = root, finished
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")
        self.write("README.md", "# A project\n")
        self.write("results/README.md", "# Results\n")
        self.commit("begin")
        self.begin = self.git("rev-parse", "HEAD")
        self.add("cheat", f"{TASK}/cheat")
        write_report([root / "results"], root / "results", ["csv", "md"])
        self.commit("a board")
        self.git("switch", "--quiet", "--create", "proposed")

    def git(self, *arguments: str) -> str:
        known = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        nobody = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
        done = subprocess.run(
            ["git", *nobody, "-C", str(self.root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=known | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
        )
        return done.stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def add(
        self, name: str, to: str, change: Callable[[Any], object] = lambda result: None
    ) -> None:
        """A row as `sfbench submit` would write it, but for what is changed."""
        shutil.copytree(self.finished / name, self.root / to, dirs_exist_ok=True)
        file = self.root / to / "result.json"
        content = json.loads(file.read_text())
        content["provenance"].update(commit=self.begin, dirty=False)
        change(content)
        sealed = Result.model_validate(content).sealed()
        file.write_bytes(as_bytes(sealed.model_dump(mode="json")))

    def examined(self) -> list[str]:
        self.commit("proposed")
        return pull_request.examine(self.root, "main", "proposed")


@pytest.fixture
def clone(tmp_path: Path, finished: Path) -> Clone:
    return Clone(tmp_path / "clone", finished)


def command(clone: Clone, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As the job runs it."""
    return subprocess.run(
        [sys.executable, "-m", "sfbench.pull_request", *arguments],
        cwd=clone.root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_row_is_taken_by_the_command(clone: Clone) -> None:
    clone.add("mine", ROW)
    clone.commit("proposed")
    found = command(clone, "main", "proposed")
    assert (found.returncode, found.stdout, found.stderr) == (
        0,
        "ok     every row of proposed that is not in main holds\n",
        "",
    )


def test_what_is_wrong_is_named_by_the_command(clone: Clone) -> None:
    clone.add("mine", ROW, lambda r: r["provenance"].update(commit=None, dirty=True))
    clone.commit("proposed")
    found = command(clone, "main", "proposed")
    assert found.returncode == INVALID and found.stdout.splitlines()[-1] == "refused"
    assert found.stdout.startswith(f"wrong  {ROW}: the row was run by code with changes of its own")
    found = command(clone, "main", "nowhere")
    assert found.returncode == USAGE and found.stderr.count("\n") == 1
    assert "git merge-base in . failed: " in found.stderr
    assert command(clone, "--output=x", "main").returncode == USAGE


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("results/README.md", "# Anything goes\n"),
        ("results/published/ours.csv", "we,are,best\n"),
        ("results/leaderboard.html", "<script>alert(1)</script>"),
        ("results/certification.json", "{}"),
        (f"{ROW}/extra.sh", "#!/bin/sh\n"),
        (f"{ROW}/clips/a.mp4", "x"),
        (f"{ROW}/inner/result.json", "{}"),
        (f"{TASK}/result.json", "{}"),
        ("results/runs/x@1/evil.json", "{}"),
        (f"{TASK}/.hidden/result.json", "{}"),
        (f"{TASK}/a\nb/result.json", "{}"),
        ("sfbench/verify_rows.py", "print('ok')\n"),
        (".github/workflows/results.yml", "on: push\n"),
        (".gitattributes", "* export-ignore\n"),
        ("Makefile", "check-results:\n"),
    ],
)
def test_nothing_else_is_changed(clone: Clone, path: str, text: str) -> None:
    clone.add("mine", ROW)
    clone.write(path, text)
    told = path.replace("\n", "\\n")
    assert clone.examined() == [f"{told} is changed; {ONLY}"]


def test_links_programs_and_removals_are_refused(clone: Clone) -> None:
    clone.add("mine", ROW)
    (clone.root / ROW / "manifest.json").unlink()
    (clone.root / ROW / "manifest.json").symlink_to("/etc/passwd")
    (clone.root / ROW / "records.jsonl").chmod(0o755)
    (clone.root / TASK / "linked").symlink_to("cheat")
    (clone.root / TASK / "cheat" / "result.json").unlink()
    assert clone.examined() == [
        f"{TASK}/cheat/result.json is removed; {ONLY}",
        f"{TASK}/linked is a link; {ONLY}",
        f"{ROW}/manifest.json is a link; {ONLY}",
        f"{ROW}/records.jsonl is a program; {ONLY}",
    ]


def test_another_repository_within_is_refused(clone: Clone) -> None:
    clone.git("update-index", "--add", "--cacheinfo", f"160000,{clone.begin},{ROW}")
    clone.git("commit", "--quiet", "--message", "proposed")
    assert pull_request.examine(clone.root, "main", "proposed") == [
        f"{ROW} is no plain file; {ONLY}"
    ]


def test_a_row_is_held_to_what_submit_asks_of_it(clone: Clone) -> None:
    clone.add("cheat", f"{TASK}/cheat2")
    clone.add("mine", f"{TASK}/elsewhere")
    clone.add("mine", ROW, lambda r: r["provenance"].update(commit="a" * 40))
    clone.add("mine", f"{TASK}/partial", lambda r: r["estimates"]["drift"].update(value=0.0))
    (clone.root / TASK / "part").mkdir()
    shutil.copyfile(clone.root / ROW / "result.json", clone.root / TASK / "part" / "result.json")
    wrong = clone.examined()
    for told in (
        f"{TASK}/cheat2 is a cheat; only models are submitted",
        f"{TASK}/elsewhere holds the row that belongs in {ROW}",
        f"{ROW} was run by the code of commit {'a' * 40}, which the base branch does not have",
        f"{TASK}/partial: result.json: estimates.drift.value is 0.0",
        f"{TASK}/part: manifest.json is missing",
    ):
        assert any(finding.startswith(told) for finding in wrong), (told, wrong)


def test_a_row_is_replaced_by_the_same_model_only(clone: Clone) -> None:
    clone.add("mine", ROW)
    clone.commit("a row")
    clone.git("switch", "--quiet", "--force-create", "main")
    clone.git("switch", "--quiet", "--force-create", "proposed")
    clone.add("mine", ROW, lambda r: r["provenance"].update(wall_s=1.0))
    assert clone.examined() == []
    other = {"revision": "2"}
    clone.add("mine", ROW, lambda r: r["model"].update(other))
    file = clone.root / ROW / "manifest.json"
    content = json.loads(file.read_text())
    content["model"].update(other)
    file.write_bytes(as_bytes(content))
    assert clone.examined() == [f"{ROW} is of another model called Mine; rename yours"]


def test_tables_are_made_again_where_they_are_changed(clone: Clone) -> None:
    clone.add("mine", ROW)
    write_report([clone.root / "results"], clone.root / "results", ["csv", "md"])
    assert clone.examined() == []
    page = clone.root / "results" / "LEADERBOARD.md"
    page.write_text(page.read_text().replace("Mine", "Best", 1))
    assert clone.examined() == ["results/LEADERBOARD.md is not what `sfbench report` makes"]


def test_what_the_base_branch_did_since_is_not_of_the_pull_request(clone: Clone) -> None:
    clone.add("mine", ROW)
    clone.commit("proposed")
    clone.git("switch", "--quiet", "main")
    clone.write("README.md", "# Another\n")
    clone.commit("meanwhile")
    assert pull_request.examine(clone.root, "main", "proposed") == []


def test_a_file_past_its_size_is_not_read_out(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.add("mine", ROW)
    monkeypatch.setattr(pull_request, "LINES_BYTES", 100)
    (wrong,) = clone.examined()
    assert wrong.startswith(f"{ROW}/records.jsonl has ") and wrong.endswith("at most 100 are read")


# --- the job --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/results.yml").read_text())
    return found


def test_the_job_may_only_read(workflow: dict[Any, Any]) -> None:
    assert workflow[True] == {"pull_request": {"paths": ["results/**"]}}, "YAML reads `on` as true"
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job and "secrets" not in json.dumps(job)


def test_the_job_runs_the_code_of_the_base_branch_alone(workflow: dict[Any, Any]) -> None:
    (job,) = workflow["jobs"].values()
    checkouts = [s for s in job["steps"] if s.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"] for step in checkouts] == [
        {
            "ref": "${{ github.event.pull_request.base.sha }}",
            "fetch-depth": 0,
            "persist-credentials": False,
        }
    ]
    assert job["steps"][0] == checkouts[0]
    runs = [step["run"] for step in job["steps"] if "run" in step]
    assert runs == [
        "make .venv/.installed",
        'git fetch --no-tags origin "+refs/pull/$NUMBER/head:refs/proposed"',
        ".venv/bin/python -m sfbench.pull_request HEAD refs/proposed",
    ], "nothing of the pull request is checked out"
    assert not any("${{" in run for run in runs), "what an event holds is no text of a command"


def test_the_job_can_run_what_it_names() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "--always-make", ".venv/.installed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "--editable" in said
    said = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "check-results"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.splitlines()[-1].endswith("sfbench verify --strict results")
