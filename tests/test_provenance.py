"""Provenance is of this very code, says whether it is dirty, and names no folder of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfbench import provenance
from sfbench.provenance import collect, command_line, revision


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git checkout that holds a package."""
    package = tmp_path / "checkout" / "sfbench"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    commit(package.parent)
    return package


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def commit(folder: Path) -> str:
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all", "--no-verify")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_of_the_code_and_not_of_the_current_folder(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").touch()
    other = commit(elsewhere)
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("GIT_DIR", str(elsewhere / ".git"))  # as inside a git hook
    ours = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=checkout,
        env={k: v for k, v in os.environ.items() if k != "GIT_DIR"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert revision(checkout) == (ours, False)
    assert ours != other


@pytest.mark.parametrize("how", ["changed", "new"])
def test_code_that_differs_is_dirty(checkout: Path, how: str) -> None:
    (checkout / ("__init__.py" if how == "changed" else "extra.py")).write_text("x = 1\n")
    assert revision(checkout)[1] is True


def test_what_is_not_code_makes_nothing_dirty(checkout: Path) -> None:
    (checkout.parent / "runs").mkdir()
    (checkout.parent / "runs" / "result.json").touch()
    assert revision(checkout)[1] is False


def test_a_wheel_inside_someone_elses_checkout_has_no_commit(checkout: Path) -> None:
    (checkout.parent / ".gitignore").write_text("venv\n")
    installed = checkout.parent / "venv" / "site-packages" / "sfbench"
    installed.mkdir(parents=True)
    (installed / "__init__.py").touch()
    assert revision(installed) == (None, None)


def test_without_git_there_is_still_a_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    found = collect(["sfbench", "run"])
    assert (found.commit, found.dirty) == (None, None)
    assert found.packages["numpy"]
    assert found.command == "sfbench run"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["/home/me/bin/sfbench", "list"], "sfbench list"),
        (["/a/site-packages/sfbench/__main__.py", "run"], "sfbench run"),
        (["sfbench", "run", "--out", "/home/me/my runs/x"], "sfbench run --out x"),
        (["sfbench", "run", "--out=/home/me/x"], "sfbench run --out=x"),
        (
            ["sfbench", "run", "--model", "videos:/data/me/clips"],
            "sfbench run --model videos:clips",
        ),
        (["sfbench", "run", "--model", "videos:~/clips"], "sfbench run --model videos:clips"),
        (["sfbench", "run", "--out", "../me/x"], "sfbench run --out x"),
        (["sfbench", "run", "--out", "runs/x"], "sfbench run --out runs/x"),
        (["sfbench", "run", "--set", "model.dim=12"], "sfbench run --set model.dim=12"),
    ],
)
def test_a_command_without_the_machines_folders(arguments: list[str], text: str) -> None:
    assert command_line(arguments) == text


def test_nothing_published_names_the_machine() -> None:
    found = collect(["sfbench", "run", "--out", str(Path.home() / "x")])
    text = found.model_dump_json()
    for secret in (str(Path.home()), str(Path.cwd()), str(provenance.PACKAGE), os.uname().nodename):
        assert secret == "/" or secret not in text


def test_the_device_is_read_without_importing_torch() -> None:
    code = "import sys; from sfbench.provenance import collect; collect(['x']); print(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'numpy'" not in done.stdout or "'torch'" not in done.stdout
    assert "'torch'" not in done.stdout
