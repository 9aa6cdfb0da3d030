"""Wan's weights are read from every form they come in, and give what diffusers gives with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfbench.reference.checkpoint import CheckpointError
from sfbench.reference.config import CodecConfig, DataConfig, Preset, TextConfig
from sfbench.reference.model import DiT
from sfbench.reference.wan_weights import diffusers_name, fill, official, sizes, stored

from wan_fixtures import SIZE, transformer


def ours(found: Any, config: Any, **how: Any) -> DiT:
    """The network of stored weights, in single precision."""
    read = sizes(found.shapes(), config, "test")
    preset = Preset(
        name="wan",
        data=DataConfig(size=SIZE),
        codec=CodecConfig(kind="wan", channels=read.channels),
        text=TextConfig(kind="umt5", length=7, dim=read.text_dim),
        model=read.model(window=0, **how),
    )
    with torch.device("meta"):
        net = DiT(preset)
    fill(net, found, "test", torch.float32)
    return net.eval()


@pytest.fixture(scope="module")
def theirs() -> Any:
    return transformer()


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("wan")
    theirs.save_pretrained(path)
    return path


def given(frames: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, frames, 6, 8, 6, generator=generator)
    return x, torch.randn(2, 7, 10, generator=generator)


@torch.no_grad()
def test_the_bidirectional_forward_is_diffusers(theirs: Any, folder: Path) -> None:
    x, text = given()
    sigma = torch.tensor([0.9, 0.35])
    v = theirs(x.movedim(1, 2), 1000 * sigma, text).sample.movedim(1, 2)
    net = ours(stored(folder), theirs.config)
    x0 = net(x, sigma[:, None], text)
    torch.testing.assert_close((x - x0) / sigma[:, None, None, None, None], v, rtol=0, atol=1e-4)


@torch.no_grad()
def test_frames_may_have_noise_levels_of_their_own(theirs: Any, folder: Path) -> None:
    x, text = given()
    sigma = torch.tensor([[0.9, 0.35, 0.1], [0.2, 0.7, 1.0]])
    tokens = (1000 * sigma).repeat_interleave(4 * 3, dim=1)  # diffusers has one a token
    v = theirs(x.movedim(1, 2), tokens, text).sample.movedim(1, 2)
    net = ours(stored(folder), theirs.config)
    torch.testing.assert_close(
        (x - net(x, sigma, text)) / sigma[..., None, None, None], v, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "model.",
        "model._fsdp_wrapped_module.",
        "_orig_mod.",
        "model._checkpoint_wrapped_module.",
    ],
)
@pytest.mark.parametrize("names", ["official", "diffusers"])
def test_names_of_every_origin_are_read(
    prefix: str, names: str, theirs: Any, folder: Path, tmp_path: Path
) -> None:
    net = ours(stored(folder), theirs.config)
    rename = diffusers_name if names == "diffusers" else str
    save_file(
        {prefix + rename(k): v for k, v in net.state_dict().items()}, tmp_path / "w.safetensors"
    )
    again = ours(stored(tmp_path), {"num_heads": 3})
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items())


def test_every_name_of_diffusers_has_ours_and_back(theirs: Any) -> None:
    given = list(theirs.state_dict())
    back = official(given)
    assert len(set(back.values())) == len(given)
    assert [diffusers_name(back[name]) for name in given] == given


# --- what does not fit ----------------------------------------------------------------------------


def saved(tensors: dict[str, torch.Tensor], folder: Path) -> Path:
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "w.safetensors")
    return folder


def test_missing_unknown_and_misshapen_tensors_are_listed(theirs: Any, tmp_path: Path) -> None:
    tensors = dict(theirs.state_dict())
    tensors["proj_out.bias"] = tensors["proj_out.bias"][:-1]
    tensors["blocks.1.attn1.to_q.lora"] = torch.zeros(1)
    del tensors["blocks.0.norm2.bias"]
    with pytest.raises(CheckpointError) as error:
        ours(stored(saved(tensors, tmp_path)), theirs.config)
    text = str(error.value)
    assert "1 missing: blocks.0.norm3.bias" in text
    assert "1 unknown: blocks.1.self_attn.q.lora" in text
    assert "1 mis-shaped: head.head.bias (23 where 24 is expected)" in text


def test_many_are_not_all_named(theirs: Any, tmp_path: Path) -> None:
    tensors = {k: v for k, v in theirs.state_dict().items() if "attn2" not in k}
    with pytest.raises(CheckpointError, match=r"20 missing: .* and more\.$"):
        ours(stored(saved(tensors, tmp_path)), theirs.config)


@pytest.mark.parametrize(
    ("changes", "config", "reason"),
    [
        (dict(image_dim=4, added_kv_proj_dim=60), {"num_heads": 3}, "image-to-video"),
        (dict(patch_size=(2, 2, 2)), {"num_heads": 3}, "patches of 2x2x2"),
        (dict(out_channels=3), {"num_heads": 3}, "another architecture"),
        (dict(), {"num_heads": 7}, "60 wide, which 7 heads do not share"),
        (dict(), {}, "its config.json is expected"),
    ],
    ids=str,
)
def test_other_architectures_are_refused(
    changes: dict, config: dict, reason: str, tmp_path: Path
) -> None:
    other = transformer(**changes).state_dict()
    with pytest.raises(CheckpointError, match=reason):
        ours(stored(saved(other, tmp_path)), config)


def test_what_is_no_wan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not hold a Wan transformer"):
        ours(stored(saved({"weight": torch.zeros(3)}, tmp_path)), {})


def test_weights_in_several_files_are_read_as_their_index_says(
    theirs: Any, folder: Path, tmp_path: Path
) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    whole, parts = ours(stored(folder), theirs.config), ours(stored(tmp_path), theirs.config)
    assert all(torch.equal(v, parts.state_dict()[k]) for k, v in whole.state_dict().items())
    files[1].unlink()
    with pytest.raises(CheckpointError, match=f"lacks 1 of {len(files)} weights files"):
        stored(tmp_path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"convert it with `sfbench convert-wan`"):
        stored(tmp_path)
    with pytest.raises(CheckpointError, match="no safetensors files"):
        stored(tmp_path / "nowhere")
