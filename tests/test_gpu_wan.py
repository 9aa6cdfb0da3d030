"""`python -m sfbench.reference.gpu_wan`, on the CPU: what it times, and what it counts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sfbench.reference import engine, gpu_wan
from sfbench.reference.config import SamplerConfig
from sfbench.reference.engine import Switches
from sfbench.reference.recipes import load_preset
from sfbench.reference.schedule import Schedule

SMALL = ["--preset", "smoke", "--network", "self-forcing-dmd", "--device", "cpu"]


def read(folder: Path) -> dict[str, Any]:
    (path,) = folder.iterdir()
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_stream_is_timed_and_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_wan.main([*SMALL, "--out", str(tmp_path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    found = read(tmp_path)
    assert found["provenance"]["cuda"] is None and found["dtype"] == "float32"
    assert found["ceiling_flops_per_second"] > 1e9 and found["decoders"] == []  # not Wan's codec
    streams = found["streams"]
    assert f"ceiling of products here: {found['ceiling_flops_per_second'] / 1e12:.3g} TFLOP" in said
    assert all(f"{sum(s['flops']) / 1e12:.3g} TFLOP, " in said for s in streams)
    assert [s["what"] for s in streams] == [*gpu_wan.variants("cpu"), "engine", "engine"]
    shapes = [(s["frames_per_chunk"], s["window"]) for s in streams]
    assert shapes == [(2, 8)] * (len(streams) - 2) + [(1, 8), (2, 6)]
    for stream in streams:
        assert len(stream["seconds"]) == len(stream["flops"]) and min(stream["seconds"]) > 0
        assert 0 < stream["share_of_ceiling"] < 1 and stream["scope"] == "dit"
        assert stream["first_chunk_seconds"] == stream["seconds"][0]


def test_on_a_gpu_each_switch_is_turned_off_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(engine, "find_spec", lambda name: name)
    monkeypatch.setattr(engine, "which", lambda name: name)
    made = gpu_wan.variants("cuda")
    best = made["engine"]
    assert best == Switches(graphs=True, compiled=True, attention="cudnn")
    for name in ("levels", "fused", "graphs", "compiled", "attention"):
        changed = {f for f, v in asdict(best).items() if asdict(made[f"without {name}"])[f] != v}
        assert changed == {name}
    assert made["in 8 bits"] == replace(best, eight_bit=True) and made["the DiT itself"] is None


def test_with_decoders_a_chunk_ends_with_its_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny VAE in place of the published one."""
    calls: list[str] = []

    def decoders(job: gpu_wan.Job) -> dict[str, gpu_wan.Stream]:
        channels = job.preset.codec.channels
        small = torch.nn.Conv2d(channels, 3, 1)

        def stream(name: str) -> gpu_wan.Decode:
            calls.append(name)
            return lambda x: small(x.flatten(0, 1)).unflatten(0, x.shape[:2])

        return {name: partial(stream, name) for name in ("channels last", "small", "compiled")}

    monkeypatch.setattr(gpu_wan.Job, "decoders", decoders)
    monkeypatch.setattr(gpu_wan, "variants", lambda device: {"engine": Switches()})
    assert gpu_wan.main([*SMALL, "--out", str(tmp_path)]) == 0
    found = read(tmp_path)
    assert [d["what"] for d in found["decoders"]] == ["channels last", "small", "compiled"]
    told = [(s["what"], s["overlapped"], s["scope"]) for s in found["streams"]]
    wans, small = "engine, channels last decoder", "engine, small decoder"
    assert told == [
        *((name, way, "dit+decode") for name in (wans, small) for way in (True, False)),
        ("engine", False, "dit"),
        *[("engine", True, "dit+decode")] * 2,
    ]
    lengths = {len(s["seconds"]) for s in found["streams"][:5]}
    assert lengths == {8 // 2 + gpu_wan.STEADY}
    assert calls[-1] == "compiled"  # what may take longest comes last


def test_a_run_that_is_cut_short_leaves_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = gpu_wan.Job.stream

    def broken(job: gpu_wan.Job, *args: Any, **how: Any) -> dict[str, Any]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return real(job, *args, **how)

    done: list[int] = []
    monkeypatch.setattr(gpu_wan.Job, "stream", broken)
    with pytest.raises(KeyboardInterrupt):
        gpu_wan.main([*SMALL, "--out", str(tmp_path)])
    assert len(read(tmp_path)["streams"]) == 2


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
