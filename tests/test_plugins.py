"""A package of another adds a task, a metric, a model and a method, and edits nothing here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from sfbench.reference.recipes import PRESETS
from sfbench.video import write_clip

PLUGIN = """
from sfbench.boards import Board, Column
from sfbench.metrics_video import VideoMeasure
from sfbench.reference.methods import Method
from sfbench.reference.objective_flow import DiffusionForcing
from sfbench.tasks.quality import Quality
import numpy as np

def corner(view):
    return float(view.rgb[0, 0, 0]) / 255

CORNER = VideoMeasure(name="corner", better=None, unit="0..1", bounds=(0, 1), resolution=0.01,
    note="the corner; not the rest", per_frame=corner)

class Dimmed(Quality):
    def __init__(self, tier="smoke"):
        super().__init__(tier=tier)
        self.card = self.card.model_copy(update={"name": "dimmed"})

BOARD = Board("adherence", {"Part": (Column("adherence", "seen", "higher", "it.", brief=True),)})

class White:
    def __init__(self, rest):
        self.card = {"name": f"white-{rest}"}
        from sfbench.schema import ModelCard
        self.card = ModelCard(name=f"white-{rest}")
    def generate(self, request, context=None):
        g = request.geometry
        yield np.full((g.frames, g.height, g.width, 3), 255, np.uint8)

OURS = Method(DiffusionForcing, causal=True)
"""
POINTS = """
[sfbench.metrics]
corner = plug:CORNER
[sfbench.tasks]
dimmed = plug:Dimmed
[sfbench.boards]
dimmed = plug:BOARD
[sfbench.models]
white = plug:White
[sfbench.methods]
own-forcing = plug:OURS
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds an installed package."""
    root = tmp_path_factory.mktemp("site")
    (root / "plug.py").write_text(PLUGIN)
    info = root / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    return root


def sfbench(site: Path, cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sfbench", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_they_are_listed(site: Path, tmp_path: Path) -> None:
    listing = json.loads(sfbench(site, tmp_path, "list", "--json"))
    assert "dimmed" in listing["tasks"] and "white:..." in listing["models"]
    assert listing["metrics"]["corner"] == "plug:CORNER"


def test_the_metric_measures_a_folder_of_videos(site: Path, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    write_clip(tmp_path / "v" / "a-0.mp4", np.full((4, 32, 32, 3), 51, np.uint8), 8)
    sfbench(site, tmp_path, "score", "--videos", "v", "--out", "out")
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["estimates"]["corner"]["value"] == 0.2
    assert result["task"]["metrics"]["corner"] == 1


def test_the_task_and_the_model_run_and_have_a_table(site: Path, tmp_path: Path) -> None:
    given = ("--task", "dimmed", "--model", "white:x", "--out", "out")
    out = sfbench(site, tmp_path, "run", *given)
    assert "dimmed v1" in out and "white-x" in out and "seen" in out


def test_the_method_trains_from_a_preset_of_its_own(site: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load((PRESETS / "smoke.yaml").read_text())
    tree["methods"] = {
        "codec": tree["methods"]["codec"] | {"steps": 3},
        "own-forcing": tree["methods"]["diffusion-forcing"] | {"steps": 3},
    }
    tree["data"]["clips"] = 32
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(tree))
    sfbench(site, tmp_path, "train-reference", "--preset", "mine.yaml", "--out", "out")
    weights = tmp_path / "out/weights/mine-own-forcing.safetensors"
    assert weights.is_file()
    given = ("--task", "quality", "--tier", "smoke", "--size", "16", "--limit", "1")
    out = sfbench(site, tmp_path, "run", *given, "--model", f"reference:{weights}", "--out", "ran")
    assert "mine-own-forcing" in out
