"""A model in a process of its own: real processes, bounds that no slow machine can break."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfbench import runner, startup
from sfbench.models import resolve
from sfbench.schema import Failure, Geometry, Prompt, Request, Startup
from sfbench.tasks.latency import Latency

MODULE = """
import sys, time
import numpy as np

print("a model may print")
time.sleep(0.3)

class Model:
    card = {"name": "heavy", "chunk": 2, "native_frames": 12}

    def generate(self, request):
        assert "process" not in request.options
        print("x" * 200_000, file=sys.stderr)
        time.sleep(0.2)
        ballast = np.ones(300 * 2**20, np.uint8)
        ballast = None
        for _ in range(request.geometry.frames // 2):
            yield np.zeros((2, request.geometry.height, request.geometry.width, 3), np.uint8)

class Broken(Model):
    def generate(self, request):
        yield next(super().generate(request))
        raise RuntimeError("out of luck")
"""

REQUEST = Request(
    prompt=Prompt(id="p", text="a red disc"),
    geometry=Geometry(frames=4, height=32, width=32, fps=16),
    seed=0,
    options={"process": "fresh"},
)


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heavy_model.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)


def test_loading_and_the_first_frame_are_told_apart() -> None:
    found = startup.measure("heavy_model:Model", "shapes-1", REQUEST)
    assert isinstance(found, Startup), found
    assert found.ready_s > 0.3
    assert found.first_frame_s - found.ready_s > 0.2
    assert found.peak_bytes is not None and found.peak_bytes > 300 * 2**20
    if found.steady_bytes is not None:  # the ballast was given back
        assert 2**24 < found.steady_bytes < found.peak_bytes - 200 * 2**20


def test_a_cheat_gets_its_truth_in_the_other_process_too() -> None:
    (request, *_) = Latency(tier="smoke").requests(resolve("cheat:frozen").card)
    assert isinstance(startup.measure("cheat:frozen", "shapes-1", request), Startup)


def test_the_memory_is_its_own_and_not_its_parents() -> None:
    ballast = np.ones(600 * 2**20, np.uint8)
    found = startup.measure("cheat:noise", "shapes-1", REQUEST)
    assert isinstance(found, Startup) and found.peak_bytes is not None
    assert found.peak_bytes < len(ballast) // 2


def test_a_model_that_dies_there_is_a_failure_with_its_reason() -> None:
    found = startup.measure("heavy_model:Broken", "shapes-1", REQUEST)
    assert isinstance(found, Failure) and found.kind == "model"
    assert "RuntimeError: out of luck" in found.reason


def test_the_task_publishes_it_for_a_model_with_a_name(tmp_path: Path) -> None:
    model = resolve("heavy_model:Model")
    result = runner.run(Latency(tier="smoke"), model, tmp_path / "a", name="heavy_model:Model")
    ready, call = (result.estimates[name].value for name in ("cold_start", "first_call"))
    assert ready is not None and ready > 0.3 and call is not None and call > 0.2
    peak = result.estimates["memory_peak"].value
    assert peak is not None and peak > 300
    unnamed = runner.run(Latency(tier="smoke"), model, tmp_path / "b")
    assert unnamed.validity.ok and unnamed.estimates["cold_start"].value is None
