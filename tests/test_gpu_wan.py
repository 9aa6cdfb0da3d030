"""`python -m sfbench.reference.gpu_wan`, on the CPU: what it times, and what it counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfbench.reference import gpu_wan
from sfbench.reference.config import SamplerConfig
from sfbench.reference.recipes import load_preset
from sfbench.reference.schedule import Schedule

SMALL = ["--preset", "smoke", "--network", "self-forcing-dmd", "--device", "cpu"]


def test_every_stream_is_timed_and_written_down(tmp_path: Path) -> None:
    assert gpu_wan.main([*SMALL, "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    assert path.name.startswith("smoke-stream-cpu") and found["provenance"]["cuda"] is None
    assert found["dtype"] == "float32" and found["ceiling_flops_per_second"] > 1e9
    assert found["vae_seconds_per_chunk"] is None  # the codec is not Wan's
    streams = found["streams"]
    assert [s["what"] for s in streams] == [*gpu_wan.ENGINES, "engine", "engine"]
    assert [(s["frames_per_chunk"], s["window"]) for s in streams[3:]] == [(2, 8), (1, 8), (2, 6)]
    for stream in streams:
        assert len(stream["seconds"]) == len(stream["flops"]) and min(stream["seconds"]) > 0
        assert 0 < stream["share_of_ceiling"] < 1
        assert stream["first_chunk_seconds"] == stream["seconds"][0]


def test_when_time_is_up_nothing_new_starts(tmp_path: Path) -> None:
    assert gpu_wan.main([*SMALL, "--minutes", "0", "--out", str(tmp_path)]) == 0
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["streams"] == []


def test_flops_of_the_published_model() -> None:
    """Those of five passes over each chunk are known; a chunk has four, and one for its past."""
    preset = load_preset("wan-1.3b").of("base")
    preset = replace(preset, model=replace(preset.model, window=preset.data.frames))
    few = Schedule.of(SamplerConfig(kind="renoise", shift=5.0))
    made = gpu_wan.Job(preset, few, "cpu", 0.0).flops(preset, preset.data.frames)
    known = [81.1, 101.2, 121.3, 141.5, 161.7, 181.9, 202.1]
    for got, five, before in zip(made, known, [0.0, *known], strict=False):
        assert got / 1e12 == pytest.approx((4 * five + before) / 5, rel=0.01)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_what_cannot_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_wan.main(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "sees no GPU" in capsys.readouterr().err and not [*tmp_path.iterdir()]
    assert gpu_wan.main(["--preset", "wan", "--device", "cpu"]) == 2
    assert "did you mean" in capsys.readouterr().err
