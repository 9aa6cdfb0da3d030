"""Training is watched on held-out scenes, and stops on what it sees; and it is drawn."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from sfbench.reference import trainer
from sfbench.reference.checkpoint import load_weights, sha256
from sfbench.reference.config import DataConfig
from sfbench.reference.data import recognised
from sfbench.reference.telemetry import Telemetry, report
from sfbench.schema import SceneRef
from sfbench.tasks.rows import oracle_row
from sfbench.tasks.shapes import Shapes
from sfbench.tasks.telemetry import NotEvaluated, Selection, drift
from sfbench.video import write_clip
from sfbench.video_folder import filmed

from simulators import Brightening

SHORT = [
    "data.clips=32",
    "methods.codec.steps=2",
    "methods.diffusion-forcing.steps=9",
    "methods.diffusion-forcing.evaluate_every=2",
    "methods.diffusion-forcing.patience=2",
]
SCORES = [0.9, 0.5, 0.7, 0.6, 0.1]


class Judge:
    """An evaluator that says what it is told to, and remembers whom it saw."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.seen = scores, []

    def __call__(self, data: DataConfig, causal: bool) -> Any:
        assert (data.dataset, data.shape, causal) == ("shapes-1", (16, 16), True)
        return self.evaluate

    def evaluate(self, model: Any) -> dict[str, float]:
        assert model.card.name == "smoke-diffusion-forcing" and model.card.weights_sha256 is None
        self.seen.append({k: v.clone() for k, v in model.network.state_dict().items()})
        score = self.scores[len(self.seen) - 1]
        return {"drift": score, "drift_low": score - 0.1, "drift_high": score + 0.1, "score": score}


def run(out: Path, judge: Judge, *more: str, resume: bool = False) -> None:
    trainer.train("smoke", "diffusion-forcing", [*SHORT, *more], out, resume, evaluator=judge)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    trainer.train("smoke", "codec", SHORT, tmp_path)
    return tmp_path


def weights(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    return load_weights(out / "weights" / "smoke-diffusion-forcing.safetensors")


def test_a_run_stops_when_it_gets_no_better_and_ships_its_best(out: Path) -> None:
    judge = Judge(SCORES)
    run(out, judge)
    tensors, card = weights(out)
    assert card["steps"] == 8 and len(judge.seen) == 4  # the best at 4, two worse at 6 and 8
    for name, tensor in tensors.items():
        assert torch.equal(tensor, judge.seen[1][name].half().float()), name
    assert card["selection"].startswith(
        "the averaged (EMA) weights of step 4, best of 4 evaluations"
    )
    lines = (out / "diffusion-forcing" / "telemetry.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8]
    assert (out / "diffusion-forcing" / "report.png").stat().st_size > 10_000


def test_without_patience_the_last_weights_ship(out: Path) -> None:
    judge = Judge(SCORES)
    run(out, judge, "methods.diffusion-forcing.patience=0")
    tensors, card = weights(out)
    assert card["steps"] == 9 and len(judge.seen) == 5  # at 2, 4, 6, 8 and at the end
    assert all(torch.equal(t, judge.seen[-1][n].half().float()) for n, t in tensors.items())
    assert card["selection"].endswith("nothing was selected")


def test_a_resumed_run_is_evaluated_as_if_it_had_not_stopped(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between a checkpoint at step 3 and the evaluation at 6, which then comes again."""
    monkeypatch.setattr(trainer, "CHECKPOINT_EVERY", 3)

    class Killed(Judge):
        def evaluate(self, model: Any) -> dict[str, float]:
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().evaluate(model)

    with pytest.raises(KeyboardInterrupt):
        run(out, Killed(SCORES))
    again = Judge(SCORES[1:])  # step 2 stands, step 4 is past the checkpoint
    run(out, again, resume=True)
    lines = (out / "diffusion-forcing" / "telemetry.jsonl").read_text().splitlines()
    assert [(json.loads(x)["step"], json.loads(x)["score"]) for x in lines] == [
        (2, 0.9),
        (4, 0.5),
        (6, 0.7),
        (8, 0.6),
    ]
    assert weights(out)[1]["selection"].startswith("the averaged (EMA) weights of step 4")


def test_an_evaluation_needs_a_score(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must have a finite 'score'; got nan"):
        Telemetry(tmp_path, 1, 1).record(1, {"score": float("nan")}, {})


def test_the_report_draws_each_panel_over_its_own_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    plain = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: drawn.append(self) or plain(self, *a, **k)
    )
    lines = [
        {"step": n, "critic_loss": 1 / n, "critic_chunk_loss": [0.1 * n, 0.2 * n]}
        for n in (1, 2, 2)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"torn')
    watched = {"step": 2, "drift": 0.5, "drift_low": 0.4, "drift_high": 0.6, "score": 0.5}
    (tmp_path / "telemetry.jsonl").write_text(json.dumps(watched) + "\n")
    assert report(tmp_path, "title") == tmp_path / "report.png"
    loss, chunk, held_out = drawn[0].axes
    assert [axes.get_xlabel() for axes in drawn[0].axes] == ["step", "chunk", "step"]
    assert loss.lines[0].get_xydata().tolist() == [[1, 1], [2, 0.5]]  # a step logged twice is one
    assert chunk.lines[0].get_xydata().tolist() == [[1, 0.2], [2, 0.4]]
    assert held_out.lines[0].get_xydata().tolist() == [[2, 0.5]] and held_out.collections


def test_a_run_without_a_log_has_no_report(tmp_path: Path) -> None:
    assert report(tmp_path, "nothing") is None


# --- what is asked of the model -------------------------------------------------------------------


WORLD = DataConfig(dataset="shapes-1", size=32)


def test_held_out_scenes_are_not_those_of_the_boards() -> None:
    asked = Selection(WORLD, causal=True).task
    assert all(
        r.prompt.scene.split == "selection" for r in asked.requests(oracle_row("truth").card)
    )


def test_the_observer_has_no_bias_and_no_drift() -> None:
    figures = Selection(WORLD, causal=True)(oracle_row("observer"))
    assert figures["exposure_gap"] == figures["violation_own"] == figures["score"] == 0
    assert {"exposure_gap_low", "drift_high"} <= figures.keys()


# --- videos of one's own --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Files with scenes of the embedded world, six of them in the split ``selection``."""
    folder, chosen, world = tmp_path_factory.mktemp("films"), 0, Shapes("shapes-1", 32, 16)
    for n in count():
        path = folder / f"{n:03}.mp4"
        write_clip(path, world.clip(SceneRef(dataset="shapes-1", split="test", index=n), 16), 8)
        chosen += filmed(path, path, "", sha256(path)).split == "selection"
        if chosen == 6:
            break
    data = DataConfig(dataset=f"folder:{folder}", size=32, fps=8, frames=8, clip_frames=16)
    return recognised(data)


def test_own_videos_are_continued_from_half_a_native_length(films: DataConfig) -> None:
    task = Selection(films, causal=True).task
    asked = task.requests(oracle_row("truth").card)
    assert {r.prompt.scene.split for r in asked} == {"selection"}
    assert len({r.prompt.id for r in asked}) == 6
    usual = [r for r in asked if r.context.prefix == 4]
    assert usual and {r.geometry.frames for r in usual} == {12}


def test_the_true_continuation_of_own_videos_has_no_bias_and_no_drift(films: DataConfig) -> None:
    select = Selection(films, causal=True)
    figures = select(Brightening(select.task.truth, 0))
    assert figures["exposure_gap"] == 0
    assert abs(figures["drift"]) < 0.1 and figures["violation_own"] < 0.2
    worse = select(Brightening(select.task.truth, 30, 30))
    assert worse["exposure_gap_low"] > 0 and worse["drift"] > figures["drift"] + 0.1
    assert worse["score"] == pytest.approx((worse["violation_own"] + worse["drift"]) / 2)
    assert worse["score"] > figures["score"]


def test_drift_is_the_last_third_less_the_first() -> None:
    grades = {
        ("a", 0): np.array([[0.0, 0.2], [0.9, 0.9], [0.4, 0.6]]),  # .5 less .1
        ("a", 1): np.array([[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]]),
        ("b", 0): np.array([[0.0, 0.0], [0.0, 0.0], [0.6, 0.6]]),
    }
    assert drift(grades).value == pytest.approx((0.2 + 0.6) / 2)
    assert drift({("a", 0): np.ones((1, 2))}).value == 0


def test_a_run_on_own_videos_is_watched_from_the_command_line(
    films: DataConfig, tmp_path: Path
) -> None:
    """The real evaluator, in a process of its own; the card names the videos by what they are."""
    where = tmp_path / "moved"
    where.symlink_to(films.dataset.removeprefix("folder:"))
    network = ["model.dim=16", "model.ffn_dim=16", "model.layers=1", "model.patch=1"]
    steps = [f"methods.{row}.steps=2" for row in ("codec", "diffusion-forcing")]
    steps.append("methods.diffusion-forcing.sampler.steps=2")
    sets = [
        *("data.dataset=folder:moved", "data.size=32", "data.fps=8", "data.frames=8"),
        *("data.clip_frames=16", "data.workers=0", "codec.channels=4", "codec.width=8"),
        *("text.kind=words", "model.heads=2", *network, *steps),
        *("methods.diffusion-forcing.evaluate_every=2", "methods.diffusion-forcing.patience=5"),
    ]
    given = [word for setting in sets for word in ("--set", setting)]
    for row in ("codec", "diffusion-forcing"):
        command = ["train-reference", "--preset", "own-videos", "--method", row, "--out", "out"]
        done = subprocess.run(
            [sys.executable, "-m", "sfbench", *command, *given],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out/diffusion-forcing/telemetry.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2]
    assert {"exposure_gap", "violation_own", "drift", "drift_low"} <= json.loads(lines[0]).keys()
    card = load_weights(tmp_path / "out/weights/own-videos-diffusion-forcing.safetensors")[1]
    assert "best of 1 evaluations" in card["selection"]
    assert card["preset"]["data"]["dataset"] == films.content and "moved" not in json.dumps(card)


@pytest.mark.parametrize(
    ("changes", "causal", "said"),
    [
        ({}, False, "continues no video, .* leave its evaluate_every at 0"),
        (
            {"dataset": "my-world"},
            True,
            "on 'my-world' cannot be evaluated .* at 0",
        ),
        ({"clip_frames": 17}, True, "fewer than 4 of these have 17 frames at 8 a second; add"),
    ],
)
def test_what_cannot_be_watched_is_said_before_it_trains(
    films: DataConfig, changes: dict[str, int], causal: bool, said: str
) -> None:
    with pytest.raises(NotEvaluated, match=said):
        Selection(replace(films, **changes), causal)


def test_nothing_is_made_where_an_evaluation_is_refused(out: Path) -> None:
    def refuses(data: DataConfig, causal: bool) -> Any:
        raise NotEvaluated("no.")

    before = sorted(out.rglob("*"))
    with pytest.raises(NotEvaluated):
        trainer.train("smoke", "diffusion-forcing", SHORT, out, evaluator=refuses)
    assert sorted(out.rglob("*")) == before
