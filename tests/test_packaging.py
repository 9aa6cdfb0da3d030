"""The wheel holds exactly the code of the tree, under the names it is imported by."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"sfbench": "sfbench", "reference": "sfbench/reference", "tasks": "sfbench/tasks"}
DATA = {".py", ".typed", ".yaml", ".safetensors", ".json", ".txt", ".j2", ".html", ".css", ".js"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that no build folder of the checkout gets in."""
    source = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source)
        else:
            (source / name).touch()
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--disable-pip-version-check"]
    if find_spec("setuptools"):
        command += ["--no-build-isolation", "--no-index"]  # then nothing is downloaded
    command += ["-w", str(out), str(source)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    (path,) = out.glob("sfbench-*-py3-none-any.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_is_the_tree(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tree = {
        f"{target}/{path.relative_to(ROOT / folder)}"
        for folder, target in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in DATA and "__pycache__" not in path.parts
    }
    assert inside == tree


def test_the_only_name_it_installs_is_sfbench(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sfbench"}


def test_the_wheel_runs_on_its_own(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """From a folder without the checkout: `list`, and a folder of someone else's named tasks."""
    wheel.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "tasks.py").write_text("raise RuntimeError('not ours')\n")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sfbench\n"
        "assert sfbench.__file__.startswith(sys.argv[1])\n"
        "import sfbench.tasks.shapes; from sfbench.cli import main; main(['list'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site")],
        cwd=tmp_path / "work",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "long-horizon" in done.stdout


@pytest.mark.parametrize("folder", ["reference", "tasks"])
def test_a_folder_of_the_checkout_is_no_package_of_its_own(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"import this package as `sfbench.{folder}`" in done.stderr


def test_the_version_is_written_once_in_meaning() -> None:
    import sfbench

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == sfbench.__version__


def test_every_import_is_declared() -> None:
    """Top-level third-party imports of the shipped code against the declared dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^a-z]", name.lower())[0] for name in project["dependencies"]}
    declared |= {"yaml"} if "pyyaml" in declared else set()
    pattern = re.compile(r"^(?:from|import) ([a-z0-9_]+)", re.MULTILINE)
    used = {
        name
        for folder in FOLDERS
        for path in (ROOT / folder).glob("*.py")
        for name in pattern.findall(path.read_text())
    }
    assert used - set(sys.stdlib_module_names) - {"sfbench"} <= declared
