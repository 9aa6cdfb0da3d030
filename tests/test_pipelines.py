"""Diffusers pipelines: a real Wan pipeline with tiny random weights, made by the example."""

from __future__ import annotations

import json
import runpy
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfbench import pipelines, registry
from sfbench.arms import Played, play
from sfbench.models import ModelError, resolve
from sfbench.pipelines import PipelineError, PipelineModel, weights_hash
from sfbench.schema import Failure, Geometry, Prompt, Request

for package in pipelines.PACKAGES:
    pytest.importorskip(package)

EXAMPLE = Path(__file__).parents[1] / "examples/tiny_wan.py"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline as a user makes it."""
    path = tmp_path_factory.mktemp("pipelines") / "tiny-wan"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(EXAMPLE), str(path)])
        # As `python examples/tiny_wan.py`, but what it imports is imported once for all tests.
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    return path


@pytest.fixture(scope="session")
def model(folder: Path) -> PipelineModel:
    """Loaded without a network: any connection is an error."""

    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return PipelineModel(f"{folder}?steps=2&guidance=3&frames=9")


def request(
    frames: int = 9, height: int = 32, width: int = 48, seed: int = 0, text: str = "a red disc"
) -> Request:
    shape = Geometry(frames=frames, height=height, width=width, fps=8)
    return Request(prompt=Prompt(id="p", text=text), geometry=shape, seed=seed)


def no_truth(*_: Any) -> Any:
    raise AssertionError("a free request needs no truth")


def frames_of(model: PipelineModel, asked: Request) -> Any:
    (answer,) = play(model, [asked], no_truth)
    assert isinstance(answer, Played), answer
    assert len(answer.timing.chunks) == 1  # at once
    return answer.frames


def test_the_card_says_what_it_is(model: PipelineModel, folder: Path) -> None:
    card = model.card
    assert card.name == "tiny-wan?steps=2&guidance=3&frames=9"
    assert not card.causal and not card.accepts_context and card.chunk is None
    assert (card.native_frames, card.steps, card.dtype) == (9, 2, "float32")
    assert card.weights_sha256 == weights_hash(folder)
    assert card.frames_per_latent == 4
    assert "WanPipeline" in card.notes and "4k+1" in card.notes
    from safetensors import safe_open

    with safe_open(folder / "transformer/diffusion_pytorch_model.safetensors", "np") as file:
        sizes = [int(np.prod(file.get_slice(key).get_shape())) for key in file.keys()]  # noqa: SIM118
    assert card.parameters == sum(sizes)


def test_a_clip_depends_on_seed_and_prompt_and_on_nothing_else(model: PipelineModel) -> None:
    clip = frames_of(model, request())
    assert clip.shape == (9, 32, 48, 3) and clip.dtype == np.uint8 and clip.std() > 5
    other = frames_of(model, request(seed=1))
    text = frames_of(model, request(text="a blue square"))
    assert not np.array_equal(clip, other) and not np.array_equal(clip, text)
    assert np.array_equal(clip, frames_of(model, request()))


def test_a_length_the_codec_cannot_make_is_cut_from_a_longer_one(model: PipelineModel) -> None:
    longer = frames_of(model, request(frames=9))
    assert np.array_equal(frames_of(model, request(frames=6)), longer[:6])
    assert frames_of(model, request(frames=1)).shape[0] == 1


def test_a_size_the_codec_cannot_make_is_one_sentence(model: PipelineModel) -> None:
    (answer,) = play(model, [request(height=40)], no_truth)
    assert isinstance(answer, Failure) and "\n" not in answer.reason
    assert "makes heights that are multiples of 16 and widths that are multiples of 16" in (
        answer.reason
    )
    assert "not 40x48" in answer.reason


def test_options_reach_the_pipeline(model: PipelineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    video = np.full((1, 9, 32, 48, 3), 0.5)

    class Spy:
        def __call__(self, **given: Any) -> Any:
            seen.update(given)
            return type("Output", (), {"frames": video})

    monkeypatch.setattr(model, "_pipeline", Spy())
    (clip,) = model.generate(request(frames=8, seed=5))
    assert clip.shape[0] == 8 and (clip == 128).all()
    assert seen.pop("generator").initial_seed() == 5
    assert seen == {
        "prompt": "a red disc",
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "num_inference_steps": 2,
        "guidance_scale": 3.0,
        "output_type": "np",
    }
    video[0, 3, 0, 0, 0] = np.nan
    with pytest.raises(PipelineError, match="not finite in float32; try \\?dtype=float32"):
        list(model.generate(request()))
    video = np.zeros((1, 5, 32, 48, 3))
    with pytest.raises(PipelineError, match=r"made \[5, 32, 48, 3\] where \[9, 32, 48, 3\] was"):
        list(model.generate(request()))


def test_by_name_with_the_pipelines_own_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILTINS["models"], "diffusers", "sfbench.pipelines:PipelineModel")
    card = resolve(f"diffusers:{folder}?dtype=bfloat16&vae=float32").card
    assert (card.native_frames, card.steps, card.dtype) == (81, 50, "bfloat16")


def test_the_hash_is_of_names_and_contents_alone(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name"
    for path in sorted(folder.rglob("*.safetensors"), reverse=True):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    (copy / "notes.txt").write_text("not weights")
    assert weights_hash(copy) == weights_hash(folder)
    first, second, *_ = sorted(copy.rglob("*.safetensors"))
    first.write_bytes(second.read_bytes())
    assert weights_hash(copy) != weights_hash(folder)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("step=2", "Unknown pipeline option 'step'; did you mean steps"),
        ("steps=few", "steps='few' must be a number"),
        ("steps=0", "steps=0 must be 1 or more"),
        ("frames=-1", "frames=-1 must be 1 or more"),
        ("guidance=nan", "guidance=nan must be a finite number"),
        ("dtype=half", "Unknown dtype 'half'"),
    ],
)
def test_an_option_that_is_none(query: str, reason: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        PipelineModel(f"{folder}?{query}")


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (None, "is not a diffusers pipeline: it has no readable model_index.json"),
        ([], "no readable model_index.json"),
        ({"_class_name": "NoPipeline"}, "has no pipeline 'NoPipeline'"),
        ({"_class_name": "AutoencoderKLWan"}, "has no pipeline 'AutoencoderKLWan'"),
        ({"_class_name": ["mine", "MyPipeline"]}, "brings Python code of its own"),
        ({"_class_name": "FluxPipeline"}, "does not make video from text alone"),
        ({"_class_name": "WanImageToVideoPipeline"}, "does not make video from text alone"),
        ({"_class_name": "WanPipeline"}, "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_text_to_video_pipeline(
    index: object, reason: str, tmp_path: Path
) -> None:
    if index is not None:
        (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(PipelineError, match=reason) as caught:
        PipelineModel(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_code_beside_the_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "with-code"
    shutil.copytree(folder, copy)
    (copy / "transformer/model.py").write_text("raise SystemExit")
    with pytest.raises(PipelineError, match="brings Python code of its own, which is not run"):
        PipelineModel(str(copy))


def test_without_the_package_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'sfbench\[diffusers\]'"):
        PipelineModel("anywhere")
    with pytest.raises(PipelineError, match="'nowhere' is not a folder"):
        monkeypatch.undo()
        PipelineModel("nowhere?steps=2")
