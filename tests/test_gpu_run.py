"""`python -m sfbench.reference.gpu`, on the CPU: what it trains, and what it writes down."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from sfbench.reference import gpu
from sfbench.reference.config import Preset
from sfbench.reference.recipes import PRESETS

SMALLER = ("clips: 512", "clips: 32")


@pytest.mark.slow
def test_every_headline_row_is_trained_and_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (PRESETS / "smoke.yaml").read_text()
    assert SMALLER[0] in text
    Path("little.yaml").write_text(text.replace(*SMALLER))
    monkeypatch.setattr(gpu, "PACE_STEPS", 10 + 2)  # a line of the log at 10 and at the last
    arguments = ["--preset", "little.yaml", "--device", "cpu", "--minutes", "0.02"]
    assert gpu.main([*arguments, "--out", "out", "--work", "work"]) == 0
    (path,) = Path("out").iterdir()
    found = json.loads(path.read_text())
    assert path.name.startswith("little-cpu")
    assert found["provenance"]["torch"] == torch.__version__
    assert found["provenance"]["cuda"] is None
    assert [row["row"] for row in found["rows"]] == [*gpu.HEADLINE]
    for row in found["rows"]:
        assert row["cut_short"] and row["steps"] < row["recipe_steps"]
        assert row["seconds_per_step"] > 0 and row["estimated_seconds_per_step"] > 0
        assert Path("work/weights", f"little-{row['row']}.safetensors").is_file()
        assert row["losses"] and all(points for points in row["losses"].values())
    student = found["rows"][-1]["losses"]
    assert set(student) == {"generator_loss", "critic_loss"}
    streaming = found["streaming"]
    assert streaming["frames"] == 32 and streaming["frames_per_second"] > 0
    assert found["evaluation"] == {"skipped": "no time was left"}
    assert found["graded"] == {"skipped": "no time was left"}
    assert "ms a step" in capsys.readouterr().out


@pytest.mark.slow
def test_a_step_is_timed_with_a_graded_pass_a_chunk_and_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("little.yaml").write_text((PRESETS / "smoke.yaml").read_text().replace(*SMALLER))
    monkeypatch.setattr(gpu, "PACE_STEPS", 10 + 2)
    job = gpu.Job("little.yaml", "cpu", tmp_path / "work", time.monotonic() + 999)
    for row in job.rows:
        job.train(row, 2, 0, job.work)
    chosen = []
    sized = Preset.grades_together
    monkeypatch.setattr(
        Preset, "grades_together", lambda p, *a: chosen.append(p.engine.graded) or sized(p, *a)
    )
    found = job.graded("self-forcing-dmd")
    assert found["tokens_a_chunk"] == 8 * 2 * 4
    assert all(seconds > 1e-6 for seconds in found["seconds_per_step"].values())
    assert [*found["seconds_per_step"]] == ["apart", "together"]
    assert chosen == ["apart"] * 12 + ["together"] * 12  # each step has both players' turns


def test_what_an_image_lacks_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def bare(name: str, *more: Any) -> Any:
        return None if name == "pydantic" else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", bare)
    assert gpu.main(["--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "pydantic" in said and "pip download" in said and len(said.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_without_a_gpu_it_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cuda"]) == 2
    assert "--device cpu" in capsys.readouterr().err
    assert gpu.main(["--device", "cpu", "--preset", "bas"]) == 2
    assert "base" in capsys.readouterr().err


def test_training_needs_neither_av_nor_diffusers_nor_an_installation(tmp_path: Path) -> None:
    """As `make gpu` runs: from a folder of links, in an image without what is blocked here."""
    root = Path(gpu.__file__).resolve().parents[1]
    (tmp_path / "sfbench").mkdir()
    for source in (*(root / "sfbench").iterdir(), root / "reference", root / "tasks"):
        (tmp_path / "sfbench" / source.name).symlink_to(source)
    code = f"""
import sys
sys.path = [{str(tmp_path)!r}] + [p for p in sys.path if "__editable__" not in p]
sys.meta_path = [f for f in sys.meta_path if "ditable" not in repr(f)]
for name in ("av", "diffusers", "transformers", "datasets", "pyarrow", "cv2", "matplotlib"):
    sys.modules[name] = None
import sfbench.reference.gpu, sfbench.reference.trainer
from sfbench.reference.data import Pool
from sfbench.reference.recipes import load_preset
assert sfbench.reference.gpu.__file__.startswith({str(tmp_path)!r}), sfbench.reference.gpu.__file__
print(tuple(Pool(load_preset("base").data).pixels([(0, 0)], 2).shape))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 2, 3, 64, 64)"
