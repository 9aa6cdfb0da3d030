"""Wan as a model of the harness: what it makes, what it refuses, and the tasks that it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfbench import cli
from sfbench.interfaces import BatchedModel, VideoModel
from sfbench.models import ModelError, resolve
from sfbench.reference import wan, wan_options
from sfbench.reference.codec import to_frames
from sfbench.reference.wan import WanModel
from sfbench.reference.wan_weights import Sizes
from sfbench.schema import Geometry, Prompt, Request

from wan_fixtures import CHANNELS, TEXT, pipeline, text_encoder, tokenizer, transformer, vae


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline(tmp_path_factory.mktemp("wan") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> WanModel:
    found = resolve(f"wan:{folder}?chunk=2&window=6&steps=2")
    assert isinstance(found, WanModel)
    return found


def request(frames: int = 13, seed: int = 0, size: tuple[int, int] = (32, 48)) -> Request:
    shape = Geometry(frames=frames, height=size[0], width=size[1], fps=16)
    return Request(prompt=Prompt(id="p", text="a red disc"), geometry=shape, seed=seed)


def whole(model: WanModel, *args: Any) -> np.ndarray:
    return np.concatenate([*model.generate(*args)])


# --- what it makes --------------------------------------------------------------------------------


def test_the_card(model: WanModel, folder: Path) -> None:
    card = model.card
    assert isinstance(model, VideoModel) and isinstance(model, BatchedModel)
    assert card.name == "tiny?chunk=2&window=6&steps=2" and card.causal and card.accepts_context
    assert (card.chunk, card.frames_per_latent, card.native_frames, card.steps) == (8, 4, 81, 2)
    assert card.parameters == sum(p.numel() for p in transformer().parameters())
    assert card.weights_sha256 and card.revision == card.weights_sha256[:12]


def test_the_first_latent_is_one_frame_and_the_end_is_cut(model: WanModel) -> None:
    assert [len(c) for c in model.generate(request(5))] == [5]
    assert [len(c) for c in model.generate(request(30))] == [5, 8, 8, 8, 1]
    assert whole(model, request(30))[:5].shape == (5, 32, 48, 3)
    assert np.array_equal(whole(model, request(30)), whole(model, request(45))[:30])


def test_seed_and_prompt_make_the_video_and_a_batch_is_its_members(model: WanModel) -> None:
    one, two = whole(model, request()), whole(model, request(seed=1))
    assert one.std() > 5 and not np.array_equal(one, two)
    batch = [*model.generate_batch([request(), request(seed=1)], [None, None])]
    for index, alone in enumerate((one, two)):
        together = np.concatenate([chunks[index] for chunks in batch])
        assert np.abs(together.astype(int) - alone).max() <= 1


def test_any_resolution_that_patches_fill(model: WanModel) -> None:
    before = whole(model, request())
    assert whole(model, request(size=(64, 16))).shape == (13, 64, 16, 3)
    assert np.array_equal(whole(model, request()), before)
    with pytest.raises(ValueError, match="multiples of 16, not 32x40"):
        whole(model, request(size=(32, 40)))


def test_another_prompt_shows_from_the_next_chunk_on(model: WanModel) -> None:
    stream, plain = model.generate(request(21)), whole(model, request(21))
    made = [next(stream), stream.send(Prompt(id="q", text="the blue square on dark")), *stream]
    away = np.abs(np.concatenate(made).astype(int) - plain).max((1, 2, 3))
    assert (away[:5] == 0).all() and (away[5:] > 0).all()


def test_a_context_is_continued_in_latents_and_in_the_decoder(model: WanModel) -> None:
    """All as one: the context's latents before those that are made, decoded from the start."""
    context = whole(model, request(16))  # 13 frames of it are whole chunks: its end
    made = whole(model, request(8), context)
    latents = model._encode([context])
    assert latents is not None and latents.shape[1] == 4
    grabbed = []
    stream = model.codec.stream

    def spy(past: torch.Tensor | None = None) -> Any:
        decode = stream(past)
        return lambda more: grabbed.append(more) or decode(more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.codec, "stream", spy)
        assert np.array_equal(whole(model, request(8), context), made)
    with torch.inference_mode():
        once = model.codec.decode(torch.cat((latents, *grabbed), 1))
    assert np.abs(to_frames(once)[0, 13:21].astype(int) - made).max() <= 1
    other = whole(model, request(8), context[::-1])
    assert not np.array_equal(other, made)  # it is seen
    assert len(whole(model, request(8), context[:3])) == 8  # less than a chunk: none is seen


def test_narrower_scopes_do_less_and_make_as_many_frames(model: WanModel) -> None:
    usual = whole(model, request())
    for scope in ("dit+decode", "dit"):
        narrow = request().model_copy(update={"options": {"scope": scope}})
        model.prepare(narrow)
        frames = whole(model, narrow)
        assert np.array_equal(frames, usual if scope == "dit+decode" else np.zeros_like(usual))


def test_halved_products_make_nearly_the_same_video(model: WanModel, folder: Path) -> None:
    halved = resolve(f"wan:{folder}?chunk=2&window=6&steps=2&dtype=bfloat16&vae=float32")
    assert isinstance(halved, WanModel) and halved.card.dtype == "bfloat16"
    off = whole(halved, request()).astype(float) - whole(model, request())
    assert 0 < np.sqrt(np.square(off).mean()) < 3


# --- where weights come from ----------------------------------------------------------------------


def test_a_file_takes_the_rest_from_a_base(folder: Path, tmp_path: Path, model: WanModel) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes((folder / "transformer/diffusion_pytorch_model.safetensors").read_bytes())
    (tmp_path / "mine.json").write_text(json.dumps({"num_heads": 3}))
    found = resolve(f"wan:{file}?chunk=2&window=6&steps=2&base={folder}")
    assert np.array_equal(whole(found, request()), whole(model, request()))
    with pytest.raises(ModelError, match=r"has no vae; .*base=FOLDER"):
        resolve(f"wan:{file}")


def test_parts_of_other_models_are_refused(folder: Path, tmp_path: Path) -> None:
    transformer(in_channels=4, out_channels=4).save_pretrained(tmp_path / "transformer")
    with pytest.raises(ModelError, match=r"takes 4 latent channels .* its VAE makes 6"):
        resolve(f"wan:{tmp_path}?base={folder}")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere", "is no Wan folder"),
        ("weights.pt", "is pickled, which can run code"),
        ("random-1.3b?steps=0", "steps=0 of wan: is too small"),
        ("random-1.3b?steps=two", "steps='two' must be a number"),
        ("random-1.3b?step=2", "Unknown wan option 'step'; did you mean steps"),
        ("random-1.3b?positions=both", "Unknown positions 'both'"),
        ("random-1.3b?shift=nan", "shift=nan of wan: must be a number above 0"),
        ("random-1.3b?device=cuda", "torch sees no GPU"),
    ],
)
def test_what_cannot_be_is_one_sentence(name: str, reason: str, tmp_path: Path) -> None:
    if "cuda" in name and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ModelError, match=reason) as error:
        resolve(f"wan:{name if 'random' in name else tmp_path / name}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["words", "umt5"])
def test_random_weights_do_all_the_work(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size that a CPU makes; the names differ from the published ones in nothing else."""
    small, encoder = vae(), text_encoder()
    # Only now: at its first use transformers puts another module in its own place.
    import diffusers
    import transformers

    monkeypatch.setitem(wan_options.RANDOM, "random-small", "base")
    monkeypatch.setattr(wan, "published", lambda _: Sizes(60, 44, 2, 3, 2, 32, CHANNELS, TEXT))
    monkeypatch.setattr(diffusers, "AutoencoderKLWan", lambda: small)
    monkeypatch.setattr(transformers, "UMT5EncoderModel", lambda config: encoder)
    drawn = resolve(f"wan:random-small?chunk=1&window=3&steps=2&text={text}")
    assert isinstance(drawn, WanModel) and "for timing alone" in drawn.card.notes
    again = resolve(f"wan:random-small?chunk=1&window=3&steps=2&text={text}")
    if text == "umt5":
        for each in (drawn, again):  # its own words, as many as the small encoder knows
            each.text.tokenizer = tokenizer()
    frames = whole(drawn, request())
    assert frames.shape == (13, 32, 48, 3) and frames.std() > 1
    assert np.array_equal(frames, whole(again, request()))


def test_published_sizes_have_the_published_numbers_of_parameters() -> None:
    from sfbench.reference.model import DiT

    for name, count in (("random-1.3b", 1_418_996_800), ("random-14b", 14_288_491_584)):
        with torch.device("meta"):
            net = DiT(wan.preset_of(wan.published(name), wan_options.DEFAULTS))
        assert sum(p.numel() for p in net.parameters()) == count


# --- the tasks ------------------------------------------------------------------------------------


def test_all_tasks_run_on_a_stream_and_on_the_bidirectional_pipeline(
    folder: Path, tmp_path: Path
) -> None:
    models = [f"wan:{folder}?chunk=2&window=6&steps=2", f"diffusers:{folder}?steps=2&frames=13"]
    chosen = [part for model in models for part in ("--model", model)]
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "--task", "all", "--tier", "smoke", *chosen, "--out", str(tmp_path)])
    assert not end.value.code
    found = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    assert sorted((r["task"]["name"], r["model"]["causal"]) for r in found) == [
        (task, causal)
        for task in ("latency", "long-horizon", "quality")
        for causal in (False, True)
    ]
    (drift,) = (r for r in found if r["task"]["name"] == "long-horizon" and r["model"]["causal"])
    assert drift["estimates"]["drift"]["value"] > 0.5  # noise, and told from video
