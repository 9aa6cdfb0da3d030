"""Weights of every origin become a folder of diffusers, and pickled ones run no code on the way."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Child
from safetensors import safe_open
from torch import Tensor

from sfbench.reference import wan_convert
from sfbench.reference.checkpoint import CheckpointError
from sfbench.reference.wan_convert import convert, unpickled
from sfbench.reference.wan_weights import official

from wan_fixtures import text_encoder, tokenizer, transformer, vae


@pytest.fixture(scope="module")
def theirs() -> Any:
    """Two heads of 128: a checkpoint does not say how many heads share its width."""
    return transformer(num_attention_heads=2, attention_head_dim=128)


@pytest.fixture(scope="module")
def weights(theirs: Any) -> dict[str, Tensor]:
    state = theirs.state_dict()
    return {name: state[given] for given, name in official(list(state)).items()}


def read(folder: Path) -> dict[str, Tensor]:
    with safe_open(folder / "diffusion_pytorch_model.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def same(folder: Path, module: Any) -> bool:
    found, own = read(folder), module.state_dict()
    return found.keys() == own.keys() and all(torch.equal(found[k], own[k]) for k in own)


@pytest.mark.parametrize("prefix", ["model.", "model._fsdp_wrapped_module."])
def test_a_checkpoint_of_self_forcing(
    prefix: str, theirs: Any, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    ema = {prefix + name: tensor for name, tensor in weights.items()}
    last = {name: tensor + 1 for name, tensor in ema.items()}
    torch.save({"generator": last, "generator_ema": ema, "step": 3}, tmp_path / "sf.pt")
    assert convert(tmp_path / "sf.pt", tmp_path / "out") == ["transformer"]
    assert same(tmp_path / "out/transformer", theirs)  # the average, as its authors run it
    convert(tmp_path / "sf.pt", tmp_path / "last", "generator")
    found = read(tmp_path / "last/transformer")
    assert torch.equal(found["proj_out.bias"], weights["head.head.bias"] + 1)
    with pytest.raises(CheckpointError, match="no network 'critic', but generator, generator_ema"):
        convert(tmp_path / "sf.pt", tmp_path / "critic", "critic")
    assert not (tmp_path / "critic").exists()


def test_diffusers_reads_what_is_written(
    theirs: Any, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    from diffusers import WanTransformer3DModel

    torch.save(weights, tmp_path / "plain.pth")
    convert(tmp_path / "plain.pth", tmp_path / "out")
    kind: Any = WanTransformer3DModel
    again = kind.from_pretrained(tmp_path / "out/transformer")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in theirs.state_dict().items())


# --- an official folder ---------------------------------------------------------------------------


def official_vae(module: Any) -> dict[str, Tensor]:
    """Weights under the names of Wan's repository: those that diffusers' own converter takes."""
    from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    both, convolutions = ("weight", "bias"), ("shortcut", "resample.1", "time_conv")
    leaves = ["residual.0.gamma", "residual.3.gamma"]
    leaves += [f"{n}.{p}" for n in ("residual.2", "residual.6", *convolutions) for p in both]
    names = [f"encoder.downsamples.{n}.{leaf}" for n in range(11) for leaf in leaves]
    names += [f"decoder.upsamples.{n}.{leaf}" for n in range(15) for leaf in leaves]
    for side in ("encoder", "decoder"):
        names += [f"{side}.middle.{n}.{leaf}" for n in (0, 2) for leaf in leaves]
        names += [f"{side}.middle.1.{n}" for n in ("norm.gamma", "proj.weight", "proj.bias")]
        names += [f"{side}.middle.1.to_qkv.{p}" for p in both]
        names += [f"{side}.head.0.gamma"]
        names += [f"{side}.{n}.{p}" for n in ("conv1", "head.2") for p in both]
    names += [f"conv{n}.{p}" for n in (1, 2) for p in both]
    state = module.state_dict()
    theirs = {name: next(iter(convert_wan_vae_to_diffusers({name: 0}))) for name in names}
    found = {name: state[other] for name, other in theirs.items() if other in state}
    assert len(found) == len(state)
    return found


def official_text(module: Any) -> dict[str, Tensor]:
    """By the table of names, backwards, written out once more."""
    state, named = module.state_dict(), {}
    named["token_embedding.weight"] = state["shared.weight"]
    named["norm.weight"] = state["encoder.final_layer_norm.weight"]
    for n in range(2):
        old, new = f"encoder.block.{n}.layer", f"blocks.{n}"
        for leaf in "qkvo":
            named[f"{new}.attn.{leaf}.weight"] = state[f"{old}.0.SelfAttention.{leaf}.weight"]
        bias = f"{old}.0.SelfAttention.relative_attention_bias.weight"
        named[f"{new}.pos_embedding.embedding.weight"] = state[bias]
        named[f"{new}.norm1.weight"] = state[f"{old}.0.layer_norm.weight"]
        named[f"{new}.norm2.weight"] = state[f"{old}.1.layer_norm.weight"]
        for ours, leaf in (("gate.0", "wi_0"), ("fc1", "wi_1"), ("fc2", "wo")):
            named[f"{new}.ffn.{ours}.weight"] = state[f"{old}.1.DenseReluDense.{leaf}.weight"]
    return named


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As Wan's repository publishes one, small."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("official")
    made = transformer().state_dict()
    named = {name: made[given].clone() for given, name in official(list(made)).items()}
    save_file(named, path / "diffusion_pytorch_model.safetensors")
    (path / "config.json").write_text('{"_class_name": "WanModel", "dim": 60, "num_heads": 3}')
    torch.save(official_vae(vae()), path / wan_convert.VAE)
    torch.save(official_text(text_encoder()), path / wan_convert.TEXT)
    tokenizer().save_pretrained(path / wan_convert.TOKENIZER)
    return path


def test_an_official_folder_becomes_a_pipeline(folder: Path, tmp_path: Path) -> None:
    from diffusers import WanPipeline

    parts = convert(folder, tmp_path / "out")
    assert parts == ["transformer", "vae", "text_encoder", "tokenizer"]
    kind: Any = WanPipeline
    pipeline = kind.from_pretrained(tmp_path / "out")
    for part, made in (
        ("transformer", transformer()),
        ("vae", vae()),
        ("text_encoder", text_encoder()),
    ):
        own, found = made.state_dict(), getattr(pipeline, part).state_dict()
        assert own.keys() == found.keys() and all(torch.equal(own[k], found[k]) for k in own)
    assert pipeline.tokenizer("a red disc").input_ids == tokenizer()("a red disc").input_ids


def test_the_command(folder: Path, sfbench: Child, tmp_path: Path) -> None:
    done = sfbench("convert-wan", str(folder), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("out: transformer, vae, text_encoder, tokenizer")
    again = sfbench("convert-wan", str(folder), "--out", str(tmp_path / "out"))
    assert again.returncode == 2 and "is there already" in again.stderr
    gone = sfbench("convert-wan", str(tmp_path / "gone"), "--out", str(tmp_path / "b"))
    assert gone.returncode == 2 and "There is no file or folder" in gone.stderr


# --- what is not read -----------------------------------------------------------------------------


class Evil:
    """What pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (Path("evil"), "ran")


def test_a_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"generator": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        convert(tmp_path / "evil.pt", tmp_path / "out")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"no file that torch\.save has written"):
        unpickled(tmp_path / "bare.pt")
    assert not (tmp_path / "evil").exists() and not (tmp_path / "out").exists()


def test_an_archive_that_unfolds_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"0" * 1_000_000)
    with pytest.raises(CheckpointError, match="would unfold to 1000000 bytes"):
        unpickled(tmp_path / "bomb.pt")


@pytest.mark.parametrize(
    ("content", "reason"),
    [([torch.zeros(1)], "holds a list"), ({"a": 1}, "'a', which is not a tensor"),
     ({"a": torch.zeros(1)}, "does not hold a Wan transformer"),
     ({"other": {"a": torch.zeros(1)}}, "no network 'generator_ema or generator', but other")],
    ids=["list", "number", "stranger", "network"],
)  # fmt: skip
def test_what_holds_something_else_is_refused(content: Any, reason: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=reason):
        convert(tmp_path / "w.pt", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "w.pt"]
