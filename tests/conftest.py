"""What all tests share: child processes that can import the test's own modules."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS))  # for `import fakes`, here and in children

LONGEST = (
    "distributed",
    "simulated_gpu",
    "wan",
    "wan_training",
    "wan_given",
    "video_exposure",
    "trainer",
    "own_videos",
    "rollout_options",
    "telemetry",
    "gpu_run",
    "page_browser",
    "demo_browser",
    "demo_refusals",
    "quality",
    "plugins",
    "footage_cheats",
    "exposure_validation",
    "certify",
    "cheats",
    "coverage",
    "long_horizon",
    "page",
    "page_charts",
    "pipelines",
    "footage",
    "verify_rows",
    "real_video",
    "results",
    "shards",
    "demo",
    "demo_command",
    "latency_trust",
    "shards_claims",
)
"""Files that take longest, the longest first: they train, or drive whole commands. A file is run by
one process, so one that comes last leaves the other core with nothing to do (the Makefile gives
``--no-loadscope-reorder``). ``make unit`` leaves them out."""

Child = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, and mark these as slow."""
    place = {f"test_{name}.py": n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))
    for item in items:
        if item.path.name in place:
            item.add_marker("slow")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of a GPU run where there is one."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A child's environment: the fakes are importable, and the task ``fake`` is an entry point."""
    plugins = tmp_path_factory.mktemp("plugins")
    info = plugins / "fakes-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakes\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[sfbench.tasks]\nfake = fakes:FakeTask\n")
    path = os.pathsep.join([str(TESTS), str(plugins)])
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


@pytest.fixture
def sfbench(environment: dict[str, str], tmp_path: Path) -> Child:
    """Run the command line in a child, in an empty folder."""

    def call(*arguments: str, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sfbench", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment,
            timeout=120,
            check=False,
        )

    return call


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `sfbench compare` in a folder of its own; exit code, stdout and stderr."""
    from sfbench import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            cli.main(["compare", *arguments])
        out, err = capsys.readouterr()
        return int(stop.value.code or 0), out, err

    return call


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of the module's own."""
    from page_fixtures import chromium

    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of some made-up rows."""
    from page_fixtures import written

    return written(tmp_path_factory.mktemp("page"), tmp_path_factory.mktemp("runs"))
