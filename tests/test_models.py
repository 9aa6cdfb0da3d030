"""The harness's own models: names, Python objects, finished videos, and cheats."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from sfbench.arms import Played, play
from sfbench.interfaces import Frames, VideoModel
from sfbench.models import ModelError, VideosModel, bind, cheat, pendulum, resolve
from sfbench.registry import UnknownName
from sfbench.runner import run
from sfbench.schema import ModelCard, Request
from sfbench.store import read_records
from sfbench.video import write_clip

import fakes

TASK = fakes.FakeTask(prompts=2, seeds=(0, 1), arms=("own", "streamed"))
FREE, *_ = REQUESTS = TASK.requests(ModelCard(name="m"))
STREAMED = next(r for r in REQUESTS if r.arm == "streamed")


# --- names and Python objects ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["fakes:Static", "fakes:STATIC", "fakes:make_static", "fakes:Plain"]
)
def test_a_class_an_instance_and_a_factory(name: str) -> None:
    model = resolve(name)
    assert isinstance(model, VideoModel)
    assert model.card.name == ("fakes:Plain" if "Plain" in name else "static")
    (answer,) = play(model, [FREE], TASK.truth)
    assert isinstance(answer, Played)
    assert np.array_equal(answer.frames, fakes.noise(FREE, 0, 8))


def test_a_card_may_be_a_dict_and_batches_pass_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes.Batched, "card", {"revision": "7", "accepts_context": True})
    model = resolve("fakes:Batched")
    assert model.card == ModelCard(name="fakes:Batched", revision="7", accepts_context=True)
    answers = play(model, [r for r in REQUESTS if r.arm == "own"], TASK.truth)
    assert all(isinstance(a, Played) and a.timing.batch == 4 for a in answers)


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("cheats:frozen", ModelError, "did you mean cheat"),
        ("frozen", ModelError, "Write scheme:name"),
        ("", ModelError, "Write scheme:name"),
        ("../x:y", ModelError, "Unknown model scheme"),
        ("cheat:frozn", ModelError, "did you mean frozen"),
        ("fakes:Statik", ModelError, "did you mean Static"),
        ("fakes:NOT_A_MODEL", ModelError, "cannot be made without arguments"),
        ("fakes:FakeTask", ModelError, "no method generate"),
        ("no.such.module:x", ModelError, "There is no module 'no.such.module' here"),
        ("videos:nowhere", ModelError, "'nowhere' is not a folder"),
    ],
)
def test_a_name_that_is_no_model(name: str, error: type[Exception], reason: str) -> None:
    with pytest.raises((error, UnknownName), match=reason) as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_bad_card_and_a_module_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("raise RuntimeError('half done')\n")
    with pytest.raises(ModelError, match=r"fails on import \(RuntimeError: half done\)"):
        resolve("mine:Model")
    Path("needy.py").write_text("import a_package_nobody_has\n")
    with pytest.raises(ModelError, match="needs a package: No module named 'a_package_nobody_has'"):
        resolve("needy:Model")
    monkeypatch.setattr(fakes.Plain, "card", {"colour": "red"}, raising=False)
    with pytest.raises(ModelError, match="not a model card"):
        resolve("fakes:Plain")


def test_the_current_directory_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    monkeypatch.chdir(tmp_path)
    Path("found_here.py").write_text("from fakes import Static as Model\n")
    assert resolve("found_here:Model").card.name == "static"


# --- finished videos ------------------------------------------------------------------------------


def clip(request: Request) -> Frames:
    return fakes.noise(request, 0, 8)


@pytest.mark.parametrize("name", ["p0-0", "p0", "stripes number 0-0", "stripes number 0"])
def test_a_video_is_found_by_id_or_text(tmp_path: Path, name: str) -> None:
    write_clip(tmp_path / f"{name}.mp4", clip(FREE), 16)
    (frames,) = VideosModel(str(tmp_path)).generate(FREE)
    assert np.array_equal(frames, clip(FREE))


def test_the_most_exact_name_wins(tmp_path: Path) -> None:
    for name, scale in (("p0", 2), ("p0-0", 1)):
        write_clip(tmp_path / f"{name}.mp4", clip(FREE) // scale, 16)
    (frames,) = VideosModel(str(tmp_path)).generate(FREE)
    assert np.array_equal(frames, clip(FREE))


def test_bad_videos_fail_their_request_and_not_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "my videos"
    folder.mkdir()
    task = fakes.FakeTask(prompts=4)
    requests = task.requests(ModelCard(name="m"))
    write_clip(folder / "p0-0.mp4", clip(requests[0]), 16)
    (folder / "p0-1.mp4").write_bytes(b"not a video")
    write_clip(folder / "p1-0.mp4", clip(requests[2])[:7], 16)  # short
    write_clip(folder / "p1-1.mp4", np.concatenate([clip(requests[3])] * 2), 16)  # long
    write_clip(folder / "p2-0.mp4", clip(requests[4])[:, :32], 16)  # low
    write_clip(folder / "p2-1.mp4", np.repeat(clip(requests[5]), 2, axis=1), 16)  # high
    write_clip(folder / "p3-0.mp4", clip(requests[6]), 24)  # fast

    result = run(task, VideosModel(str(folder)), tmp_path / "run")
    assert result.model.name == "my videos"
    assert result.failures == {"video": 5, "geometry": 2}
    failures = [record.failure for record in read_records(tmp_path / "run")]
    reasons = [failure.reason if failure else "" for failure in failures]
    expected = [
        "",
        "cannot be read as video",
        "gave 7 of the 8",
        "more than the 8",
        r"gave uint8 [8, 32, 17, 3]",
        "frames of 17x66",
        "24 frames a second, not 16",
        "There is no video p3-1.mp4 in my videos",
    ]
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
        assert str(tmp_path) not in reason


def test_a_folder_without_videos(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(ModelError, match="holds no video"):
        VideosModel(str(tmp_path))


def test_a_prompt_names_no_path(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "secret.mp4", clip(FREE), 16)
    write_clip(tmp_path / "in" / "x.mp4", clip(FREE), 16)
    prompt = FREE.prompt.model_copy(update={"id": "../secret"})
    model = VideosModel(str(tmp_path / "in"))
    (answer,) = play(model, [FREE.model_copy(update={"prompt": prompt})], TASK.truth)
    assert not isinstance(answer, Played)


# --- cheats ---------------------------------------------------------------------------------------


def frames_of(name: str, request: Request) -> Frames:
    model = cheat(name)
    bind(model, TASK.truth)
    (answer,) = play(model, [request], TASK.truth)
    assert isinstance(answer, Played)
    assert model.card.kind == "cheat"
    return answer.frames


def test_frozen_repeats_the_first_true_frame_or_the_last_of_its_context() -> None:
    true = TASK.truth(fakes.scene(0), 12)
    assert np.array_equal(frames_of("frozen", FREE), np.repeat(true[:1], 8, axis=0))
    assert np.array_equal(frames_of("frozen", STREAMED), np.repeat(true[3:4], 8, axis=0))


def test_loop_goes_forwards_and_backwards() -> None:
    long = FREE.model_copy(update={"geometry": FREE.geometry.model_copy(update={"frames": 30})})
    true = TASK.truth(fakes.scene(0), 12)
    order = [*range(12), *range(10, -1, -1), *range(1, 8)]
    assert np.array_equal(frames_of("loop", long), true[order])
    assert np.array_equal(frames_of("loop", STREAMED), true[[2, 1, 0, 1, 2, 3, 2, 1]])


def test_noise_is_keyed_by_seed_and_absolute_frame() -> None:
    frames = frames_of("noise", FREE)
    assert np.array_equal(frames_of("noise", STREAMED)[:4], frames[4:])
    assert not np.array_equal(frames[0], frames[1])
    assert 120 < frames.mean() < 135


@pytest.mark.parametrize("name", ["frozen", "loop", "noise"])
def test_cheats_are_deterministic_and_need_no_scene(name: str) -> None:
    sceneless = FREE.model_copy(update={"prompt": FREE.prompt.model_copy(update={"scene": None})})
    assert np.array_equal(frames_of(name, sceneless), frames_of(name, sceneless))
    other = sceneless.model_copy(update={"seed": 5})
    assert not np.array_equal(frames_of(name, sceneless), frames_of(name, other))


def test_a_pendulum_of_one_frame_stands() -> None:
    assert pendulum(1, 1, 3) == [0, 0, 0]
    assert pendulum(2, 0, 4) == [0, 1, 0, 1]


def test_only_cheats_are_handed_the_truth() -> None:
    bind(resolve("fakes:Static"), TASK.truth)  # nothing to bind, nothing said
    assert not hasattr(resolve("fakes:Static"), "bind")
    assert os.environ.get("STUBBORN") is None
