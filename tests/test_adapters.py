"""The reference models as the harness sees them, on weights trained for a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfbench import clock
from sfbench.interfaces import BatchedModel, VideoModel
from sfbench.reference import adapters, trainer
from sfbench.reference.checkpoint import CheckpointError
from sfbench.schema import Geometry, Prompt, Request, SceneRef
from sfbench.tasks import shapes

WORLD = shapes.Shapes("shapes-1", 16)
SHORT = [f"methods.{m}.steps=6" for m in ("codec", "diffusion-forcing", "teacher")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapters")
    for method in ("codec", "diffusion-forcing", "teacher"):
        trainer.train("smoke", method, [*SHORT, "data.clips=32"], out)
    return out / "weights"


@pytest.fixture(scope="module")
def model(weights: Path) -> adapters.ReferenceModel:
    return adapters.load(str(weights / "smoke-diffusion-forcing.safetensors"))


def request(index: int = 0, frames: int = 8, seed: int = 0, size: int = 16) -> Request:
    ref = SceneRef(dataset="shapes-1", split="test", index=index)
    return Request(
        prompt=Prompt(id=str(index), text=WORLD.prompt(ref), scene=ref),
        geometry=Geometry(frames=frames, height=size, width=size, fps=16),
        seed=seed,
    )


def whole(model: adapters.ReferenceModel, *args: object) -> np.ndarray:
    return np.concatenate(list(model.generate(*args)))  # type: ignore[arg-type]


def test_the_protocols_hold(model: adapters.ReferenceModel) -> None:
    assert isinstance(model, VideoModel) and isinstance(model, BatchedModel)
    assert model.card.chunk == 2 and model.card.native_frames == 8 and model.card.causal
    assert model.card.parameters and model.card.train_core_hours is not None


def test_chunks_arrive_one_by_one(model: adapters.ReferenceModel) -> None:
    chunks = list(model.generate(request(frames=7)))
    assert [len(c) for c in chunks] == [2, 2, 2, 1]
    assert all(c.dtype == np.uint8 and c.shape[1:] == (16, 16, 3) for c in chunks)


def test_seed_and_prompt_make_the_video(model: adapters.ReferenceModel) -> None:
    first = whole(model, request())
    assert np.array_equal(first, whole(model, request()))
    assert not np.array_equal(first, whole(model, request(seed=1)))
    assert not np.array_equal(first, whole(model, request(index=1)))


def test_a_batch_is_its_members(model: adapters.ReferenceModel) -> None:
    requests = [request(i, seed=i) for i in range(3)]
    batches = list(model.generate_batch(requests, [None] * 3))
    for i, r in enumerate(requests):
        together = np.concatenate([b[i] for b in batches])
        assert np.abs(together.astype(int) - whole(model, r)).max() <= 1


def test_a_shorter_request_is_a_prefix(model: adapters.ReferenceModel) -> None:
    assert np.array_equal(whole(model, request(frames=4)), whole(model, request(frames=16))[:4])


def test_context_is_used_and_noise_is_keyed_by_absolute_frame(
    model: adapters.ReferenceModel,
) -> None:
    truth = [WORLD.clip(request(i).prompt.scene, 6) for i in (0, 1)]
    one, two = (whole(model, request(frames=2), t) for t in truth)
    assert not np.array_equal(one, two)
    noise = model._noise([request()])
    assert np.array_equal(noise([6, 7], 0)[:, 0], noise([6], 0)[:, 0])
    assert not np.array_equal(noise([6], 0), noise([7], 0))
    assert not np.array_equal(noise([6], 0), noise([6], 1))


def test_a_context_that_is_not_whole_chunks_keeps_its_end(model: adapters.ReferenceModel) -> None:
    truth = WORLD.clip(request().prompt.scene, 5)
    latents = model._encode([truth])
    assert latents is not None and latents.shape[1] == 4
    expected = model._encode([truth[1:]])
    assert expected is not None and (latents == expected).all()


def test_steps_can_be_asked_for(weights: Path) -> None:
    few = adapters.load(f"{weights / 'smoke-diffusion-forcing.safetensors'}@4")
    assert few.card.steps == 4 and few.card.name == "smoke-diffusion-forcing@4"


def test_the_teacher_yields_once_and_refuses_what_it_cannot(weights: Path) -> None:
    teacher = adapters.load(str(weights / "smoke-teacher.safetensors"))
    assert not teacher.card.causal and not teacher.card.accepts_context
    assert [len(c) for c in teacher.generate(request())] == [8]
    with pytest.raises(ValueError, match="makes 8 frames, not 16"):
        whole(teacher, request(frames=16))
    with pytest.raises(ValueError, match="bidirectional and cannot continue"):
        whole(teacher, request(), WORLD.clip(request().prompt.scene, 4))


def test_another_size_is_refused(model: adapters.ReferenceModel) -> None:
    with pytest.raises(ValueError, match="makes 16x16 pixels, not 32x32"):
        whole(model, request(size=32))


@pytest.mark.parametrize("name", ["diffusion-forcin", "nowhere/x.safetensors"])
def test_unknown_names_are_one_sentence(name: str) -> None:
    with pytest.raises(CheckpointError) as error:
        adapters.load(name)
    assert "\n" not in str(error.value)


def test_steps_must_be_a_number(weights: Path) -> None:
    with pytest.raises(CheckpointError, match="'four'"):
        adapters.load(f"{weights / 'smoke-diffusion-forcing.safetensors'}@four")


def test_another_codec_is_refused(weights: Path, tmp_path: Path) -> None:
    for path in weights.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    trainer.train("smoke", "codec", ["methods.codec.steps=2"], tmp_path / "other")
    for path in (tmp_path / "other" / "weights").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="trained on another codec"):
        adapters.load(str(tmp_path / "smoke-diffusion-forcing.safetensors"))


# --- what ships -----------------------------------------------------------------------------------

GOLDEN = [
    [118, 115, 113, 116],
    [115, 85, 33, 96],
    [113, 31, 30, 20],
    [118, 25, 39, 19],
]
"""Red of every fourth pixel of an object, in the second frame of a clip's first chunk."""


def test_a_shipped_model_makes_the_pixels_it_made() -> None:
    """To one level of 255, which another machine's arithmetic may round otherwise."""
    chunk = next(adapters.load("self-forcing-dmd").generate(request(size=32)))
    made = chunk[1, 16::4, 8:24:4, 0].astype(int)
    assert np.abs(made - GOLDEN).max() <= 1, f"if other weights are meant, write {made.tolist()}"


# --- prompt switches, parts and scopes ------------------------------------------------------------


def test_a_sent_prompt_changes_the_next_chunk_and_no_earlier_one() -> None:
    model = adapters.load("self-forcing-dmd")  # a trained one: its prompt is to be seen
    assert model.card.switches_prompt
    first, other = request(size=32), request(1).prompt
    assert other.text != first.prompt.text
    stream = model.generate(first)
    made = [stream.send(sent) for sent in (None, None, other, None)]
    away = np.abs(np.concatenate(made).astype(int) - whole(model, first)).max((1, 2, 3))
    assert (away[:4] == 0).all() and (away[4:] > 20).all()
    with pytest.raises(StopIteration):
        next(stream)


def test_the_prompt_already_said_changes_nothing(model: adapters.ReferenceModel) -> None:
    stream = model.generate(request())
    made = [next(stream), stream.send(request().prompt), *stream]
    assert np.array_equal(np.concatenate(made), whole(model, request()))


def test_less_is_done_in_a_narrower_scope(model: adapters.ReferenceModel) -> None:
    usual = whole(model, request())
    for scope in ("dit+decode", "dit"):
        narrow = request().model_copy(update={"options": {"scope": scope}})
        model.prepare(narrow)
        timed = clock.Timed(lambda asked=narrow: model.generate(asked), split=True)
        frames = np.concatenate(list(timed))
        assert np.array_equal(frames, usual if scope == "dit+decode" else np.zeros_like(usual))
        parts = {name for chunk in timed.spans for name in chunk}
        assert parts == {"denoise", "cache"} | ({"decode"} if scope == "dit+decode" else set())


def test_the_parts_of_a_chunk_are_named(model: adapters.ReferenceModel) -> None:
    timed = clock.Timed(lambda: model.generate(request()), split=True)
    list(timed)
    assert timed.spans[0].keys() == {"text", "denoise", "decode"}
    assert all(chunk.keys() == {"cache", "denoise", "decode"} for chunk in timed.spans[1:])
    plain = clock.Timed(lambda: model.generate(request()))
    list(plain)
    assert not plain.spans
