"""The loop: exact resume after a real kill, no update from a non-finite step, the whole path."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sfbench.reference import trainer
from sfbench.reference.catalogue import presets
from sfbench.reference.checkpoint import CheckpointError, load_tensors, load_weights, newest
from sfbench.reference.config import MethodConfig
from sfbench.reference.methods import METHODS, needs, order
from sfbench.reference.progress import progress
from sfbench.reference.recipes import load_preset

SMOKE = load_preset("smoke")
STUDENTS = [
    row for row in SMOKE.methods if row != "codec" and METHODS[SMOKE.kind(row)].fakes is not None
]
STUDENT_STEPS = 14  # ten critic updates come before the first generator update
SHORT = [
    *(f"methods.{name}.steps=10" for name in SMOKE.methods if name not in STUDENTS),
    *(f"methods.{name}.steps={STUDENT_STEPS}" for name in STUDENTS),
    "methods.ode.pairs=32",
    "methods.causal-ode.pairs=32",
    "data.clips=32",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All methods of `smoke`, ten steps each."""
    out = tmp_path_factory.mktemp("trained")
    trainer.train("smoke", "all", SHORT, out)
    return out


def test_all_methods_train_in_order_and_ship(trained: Path) -> None:
    names = order(load_preset("smoke"))
    assert names[0] == "codec" and {SMOKE.kind(name) for name in names} == {"codec", *METHODS}
    place = {name: number for number, name in enumerate(names)}
    assert all(place[a] < place[n] for n in names for a in needs(load_preset("smoke"), n))
    for name in names:
        tensors, card = load_weights(trained / "weights" / f"smoke-{name}.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values())
        assert card["steps"] == load_preset("smoke", SHORT).method(name).steps
        assert card["core_hours_with_ancestors"] >= card["core_hours"]
        lines = (trained / name / "train.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["step"] == card["steps"]
    _, student = load_weights(trained / "weights" / "smoke-self-forcing-dmd.safetensors")
    assert set(student["ancestors"]) == {"codec", "teacher", "diffusion-forcing"}
    assert student["updates"] == {"generator": 1, "critic": STUDENT_STEPS}
    lines = (trained / "self-forcing-dmd" / "train.jsonl").read_text().splitlines()
    # The generator's turn was not the last step, and its figures are logged all the same.
    assert {"generator_loss", "generator_dmd_gradient", "critic_loss"} <= json.loads(
        lines[-1]
    ).keys()


def test_all_skips_what_is_trained(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trainer.train("smoke", "all", SHORT, trained) == []


def test_an_ancestor_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'teacher' starts from 'codec'.*--method codec"):
        trainer.train("smoke", "teacher", SHORT, tmp_path)


CHILD = """
import sys, time
from pathlib import Path
from sfbench.reference import trainer
trainer.CHECKPOINT_EVERY = trainer.LOG_EVERY = 1
kill_after, method, out = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
advance = trainer.Run.advance
def slow(run, *a):
    if run.step == kill_after:
        print("at", run.step, flush=True)
        time.sleep(60)
    return advance(run, *a)
trainer.Run.advance = slow
trainer.train("smoke", method, sys.argv[4:], out, resume=True)
"""


def child(kill_after: int, method: str, out: Path) -> None:
    """Train in a child process and SIGKILL it before step ``kill_after``."""
    command = [sys.executable, "-c", CHILD, str(kill_after), method, str(out), *SHORT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("at "):
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL


def last_line(folder: Path) -> dict[str, float]:
    """The last figures of a log, time apart."""
    line = json.loads((folder / "train.jsonl").read_text().splitlines()[-1])
    return {name: value for name, value in line.items() if name != "seconds"}


def share_ancestors(trained: Path, out: Path) -> None:
    """Give a new run the weights of the trained one."""
    (out / "weights").mkdir(parents=True)
    for path in (trained / "weights").iterdir():
        os.link(path, out / "weights" / path.name)


@pytest.mark.parametrize("method", ["diffusion-forcing", "self-forcing-dmd"])
def test_killed_and_resumed_equals_uninterrupted(
    trained: Path, tmp_path: Path, method: str
) -> None:
    share_ancestors(trained, tmp_path)
    child(5, method, tmp_path)
    state = newest(tmp_path / method)
    assert state is not None and state[1]["step"] == 5
    (tmp_path / "weights" / f"smoke-{method}.safetensors").unlink()
    trainer.train("smoke", method, SHORT, tmp_path, resume=True)
    found = [newest(folder / method) for folder in (trained, tmp_path)]
    whole, parts = (load_tensors(state[0]) for state in found if state)
    assert whole.keys() == parts.keys() and len(whole) > 50
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    assert last_line(trained / method) == last_line(tmp_path / method)


def test_an_unfinished_run_is_not_overwritten(trained: Path) -> None:
    with pytest.raises(trainer.NotResumed, match=r"--resume"):
        trainer.train("smoke", "teacher", SHORT, trained)


def test_another_recipe_is_refused(trained: Path) -> None:
    with pytest.raises(trainer.NotResumed, match="another recipe"):
        trainer.train("smoke", "teacher", [*SHORT, "seed=1"], trained, resume=True)


@pytest.mark.parametrize("poison", ["loss", "gradient"])
def test_a_non_finite_step_never_reaches_the_weights(poison: str, tmp_path: Path) -> None:
    class Poisoned:
        def __init__(self) -> None:
            self.players, self.draw = {"generator": torch.nn.Linear(2, 1)}, None

        def turns(self, step: int) -> tuple[str]:
            return ("generator",)

        def loss(self, player: str, step: int):  # type: ignore[no-untyped-def]
            out = self.players["generator"](torch.ones(1, 2)).sum()
            if step < 2:
                return out.square(), {}
            bad = out * float("nan") if poison == "loss" else (out - out.detach()).abs().sqrt()
            return bad, {}

    objective, config = Poisoned(), MethodConfig(steps=9)
    run = trainer.Run.start(objective, config, "r", tmp_path, False, print)
    run.advance(objective, config)
    run.save(tmp_path)
    run.advance(objective, config)
    before = [p.clone() for p in objective.players["generator"].parameters()]
    with pytest.raises(
        trainer.NonFinite, match=r"at step 2; .*Last good checkpoint: step-00000001"
    ):
        run.advance(objective, config)
    after = list(objective.players["generator"].parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_learning_rate_warms_up_and_decays() -> None:
    config = MethodConfig(steps=100, warmup=10)
    rates = [trainer.learning_rate(s, config) for s in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(rates[9], abs=0.02)
    assert rates[-1] < 0.001 and all(a > b for a, b in pairwise(rates[10:]))
    constant = MethodConfig(steps=100, warmup=1, decay="constant")
    assert {trainer.learning_rate(s, constant) for s in range(100)} == {1.0}


def test_the_smoke_preset_trains_every_method_and_learns(tmp_path: Path) -> None:
    """The real smoke recipes, whole; what they are expected to reach stands in the preset."""
    trainer.train("smoke", "all", None, tmp_path)
    for method, figure, share in (
        ("codec", "codec_loss", 0.75),
        ("diffusion-forcing", "generator_loss", 0.45),
        ("teacher-forcing", "generator_loss", 0.45),
        ("teacher", "generator_loss", 1.0),  # starts from diffusion forcing
        ("ode", "generator_loss", 1.0),
        ("causal-ode", "generator_loss", 1.0),
        ("consistency", "generator_loss", 1.0),
    ):
        lines = (tmp_path / method / "train.jsonl").read_text().splitlines()
        losses = [json.loads(line)[figure] for line in lines]
        assert sum(losses[-5:]) / 5 < share * losses[0], (method, losses)
    for method in STUDENTS:
        start = load_preset("smoke").method(method).init
        before, _ = load_weights(tmp_path / "weights" / f"smoke-{start}.safetensors")
        after, card = load_weights(tmp_path / "weights" / f"smoke-{method}.safetensors")
        assert card["updates"] == {"generator": 3, "critic": 25}
        assert any(not torch.equal(before[name], after[name]) for name in before)


def test_every_preset_knows_every_method() -> None:
    for name, rows in presets().items():
        preset = load_preset(name)
        assert {preset.kind(row) for row in rows} <= {"codec", *METHODS}, name


def test_a_line_of_a_log_is_not_broken_nor_taken_for_markup() -> None:
    told = io.StringIO()
    with progress(Console(file=told, width=40), "teacher", 100) as show:
        show.note("clips of folder:videos/[red]/a long way down from here")
        show.step(10, {"generator_loss": 0.25, "critic_loss": 0.5}, 0.125)
    first, second = told.getvalue().splitlines()
    assert first == "teacher: clips of folder:videos/[red]/a long way down from here"
    assert second.endswith("125 ms/step  11 s left")
