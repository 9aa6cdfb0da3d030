"""The small decoder: its stream is the whole clip, its file is the published one, and rows made
with it are not ranked with those of Wan's own."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf
from conftest import Child
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from sfbench import cli, doctor, leaderboard, tables
from sfbench.models import ModelError, resolve
from sfbench.reference import wan, wan_options, wan_small
from sfbench.reference.checkpoint import CheckpointError
from sfbench.reference.codec import frames_of
from sfbench.reference.wan import WanModel
from sfbench.reference.wan_convert import convert
from sfbench.reference.wan_small import SmallCodec, SmallDecoder, SmallNetwork
from sfbench.reference.wan_vae import WanCodec
from sfbench.reference.wan_weights import Sizes
from sfbench.schema import Geometry, Prompt, Request

from wan_fixtures import CHANNELS, TEXT, pipeline, vae

FRAMES = 6
CUTS = [[6], [1] * 6, [3, 3], [2, 1, 3], [1, 4, 1]]


def published(channels: int) -> dict[str, tuple[int, ...]]:
    """The names and shapes of taew2_1's decoder (16 channels), from its authors' architecture."""
    shapes: dict[str, tuple[int, ...]] = {
        "decoder.1.weight": (256, channels, 3, 3),
        "decoder.1.bias": (256,),
        "decoder.7.conv.weight": (256, 256, 1, 1),
        "decoder.8.weight": (128, 256, 3, 3),
        "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.14.weight": (64, 128, 3, 3),
        "decoder.19.conv.weight": (128, 64, 1, 1),
        "decoder.20.weight": (64, 64, 3, 3),
        "decoder.22.weight": (3, 64, 3, 3),
        "decoder.22.bias": (3,),
    }
    for width, places in ((256, (3, 4, 5)), (128, (9, 10, 11)), (64, (15, 16, 17))):
        for name in (f"decoder.{place}.conv" for place in places):
            shapes[f"{name}.0.weight"] = (width, 2 * width, 3, 3)
            shapes |= dict.fromkeys((f"{name}.2.weight", f"{name}.4.weight"), (width, width, 3, 3))
            shapes |= {f"{name}.{n}.bias": (width,) for n in (0, 2, 4)}
    return shapes


def whole(state: dict[str, Tensor], latents: Tensor) -> Tensor:
    """The clip at once, all frames beside each other: ``[B, F, C, h, w]`` to ``[B, T, 3, H, W]``.

    A block's first convolution, of a frame and the one before, is one over two frames in time.
    """

    def plane(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"][:, :, None]
        edge = (0, weight.shape[-1] // 2, weight.shape[-1] // 2)
        return nnf.conv3d(x, weight, state.get(f"{name}.bias"), padding=edge)

    def block(name: str, x: Tensor) -> Tensor:
        now, before = state[f"{name}.conv.0.weight"].chunk(2, dim=1)
        y = nnf.pad(x, (1, 1, 1, 1, 1, 0))
        y = nnf.conv3d(y, torch.stack((before, now), dim=2), state[f"{name}.conv.0.bias"])
        y = plane(f"{name}.conv.4", plane(f"{name}.conv.2", y.relu()).relu())
        return (x + y).relu()

    x = plane("decoder.1", 3 * torch.tanh(latents.movedim(1, 2) / 3)).relu()
    for first, frames in ((3, 1), (9, 2), (15, 2)):
        for place in range(first, first + 3):
            x = block(f"decoder.{place}", x)
        x = x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)
        parts = plane(f"decoder.{first + 4}.conv", x).chunk(frames, dim=1)
        x = plane(f"decoder.{first + 5}", torch.stack(parts, dim=3).flatten(2, 3))
    pixels = plane("decoder.22", x.relu()).movedim(2, 1)[:, 3:]
    return pixels.clamp(0, 1) * 2 - 1


@pytest.fixture(scope="module")
def network() -> SmallNetwork:
    """All of its parameters matter."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = wan_small.drawn(CHANNELS)
        for name, parameter in made.named_parameters():
            if name.endswith("bias"):
                parameter += 0.2 * torch.randn(parameter.shape)
    return made


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(2, FRAMES, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(1))


# --- the stream -----------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_decoding_in_parts_is_decoding_the_whole(
    cut: list[int], network: SmallNetwork, latents: Tensor
) -> None:
    expected = whole(network.state_dict(), latents)
    inside = (expected.abs() < 1).float().mean()
    assert expected.shape == (2, frames_of(FRAMES, 4), 3, 24, 40)
    assert expected.std() > 0.1 and inside > 0.2  # most is not cut off at the ends
    decode, parts = SmallDecoder(network), []
    for part in latents.split(cut, dim=1):
        told = decode.frames(part.shape[1])
        parts.append(decode(part))
        assert parts[-1].shape[1] == told
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_first_latent_is_one_frame_and_each_further_one_four(
    network: SmallNetwork, latents: Tensor
) -> None:
    decode = SmallDecoder(network)
    made = [decode(latents[:, n : n + 1]).shape[1] for n in range(3)]
    assert made == [1, 4, 4]


@torch.no_grad()
def test_a_stream_goes_on_from_a_past(network: SmallNetwork, latents: Tensor) -> None:
    codec = SmallCodec(vae(), network, "random")
    clip, rest = codec.decode(latents), frames_of(3, 4)
    after = codec.stream(latents[:, :3])(latents[:, 3:])
    torch.testing.assert_close(after, clip[:, rest:], rtol=0, atol=1e-5)
    alone = codec.stream()(latents[:, 3:])
    assert not torch.allclose(alone[:, -4:], clip[:, -4:])  # the past is seen in what follows


@torch.no_grad()
def test_memory_does_not_grow_with_the_length(network: SmallNetwork, latents: Tensor) -> None:
    decode, sizes = SmallDecoder(network), []
    for frames in (1, 1, 5, 2, 6):
        decode(latents[:, :frames])
        kept = [past.untyped_storage().nbytes() for past in decode._past.values()]
        sizes.append((len(kept), sum(kept)))
    values = 3 * 15 * (256 + 4 * 128 + 16 * 64)  # of a frame of 3 x 5 latents, in nine blocks
    assert set(sizes) == {(9, 2 * 4 * values)}  # two videos, four bytes each


def test_a_latent_takes_a_25th_of_the_operations() -> None:
    """At the published sizes, past the first latent of a video."""
    from diffusers import AutoencoderKLWan

    counts = []
    with torch.device("meta"), torch.no_grad():
        kind: Any = AutoencoderKLWan
        for codec in (WanCodec(kind()), SmallCodec(kind(), SmallNetwork(16), "")):
            decode = codec.stream(torch.randn(1, 2, 16, 8, 8))
            with FlopCounterMode(display=False) as counter:
                decode(torch.randn(1, 1, 16, 8, 8))
            counts.append(counter.get_total_flops())
    assert 24 < counts[0] / counts[1] < 26


@torch.no_grad()
def test_encoding_stays_wans(network: SmallNetwork) -> None:
    video = torch.rand(1, 5, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert torch.equal(SmallCodec(vae(), network, "").encode(video), WanCodec(vae()).encode(video))


# --- its file -------------------------------------------------------------------------------------


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        own = SmallNetwork(16).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in own.items()} == published(16)


@pytest.fixture(scope="module")
def weights(network: SmallNetwork) -> dict[str, Tensor]:
    """As the published file has them: in half precision, an encoder beside the decoder."""
    encoder = {"encoder.0.weight": torch.zeros(64, 3, 3, 3), "encoder.0.bias": torch.zeros(64)}
    return encoder | {name: tensor.half() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "taew2_1.safetensors"
    save_file(weights, path)
    return path


def test_a_published_file_is_read(file: Path, weights: dict[str, Tensor]) -> None:
    state = wan_small.read(file, CHANNELS).state_dict()
    assert state.keys() == published(CHANNELS).keys()
    assert all(torch.equal(state[name], weights[name].float()) for name in state)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decoder.1.bias": None}, r"1 missing: decoder\.1\.bias\.$"),
        ({"decoder.3.skip.weight": (9, 9)}, r"1 unknown: decoder\.3\.skip\.weight\.$"),
        (
            {"decoder.22.bias": (12,)},
            r"mis-shaped: decoder\.22\.bias \(12 where 3 is expected\)\.$",
        ),
    ],
    ids=["missing", "unknown", "mis-shaped"],
)
def test_tensors_that_do_not_fit_are_listed(
    change: dict[str, Any], reason: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    other = weights | {name: torch.zeros(shape or 1) for name, shape in change.items()}
    save_file({n: t for n, t in other.items() if change.get(n, 1)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=reason) as error:
        wan_small.read(tmp_path / "w.safetensors", CHANNELS)
    assert "w.safetensors" in str(error.value) and "\n" not in str(error.value)


def test_a_pickled_file_is_read_by_the_converter_alone(
    weights: dict[str, Tensor], tmp_path: Path, sfbench: Child
) -> None:
    path = tmp_path / "taew2_1.pth"
    torch.save(weights, path)
    with pytest.raises(CheckpointError, match=r"can run code .*`sfbench convert-wan`"):
        wan_small.read(path, CHANNELS)
    done = sfbench("convert-wan", str(path), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("out: small_decoder.safetensors")
    found = load_file(tmp_path / "out/small_decoder.safetensors")
    assert found.keys() == published(CHANNELS).keys()
    assert all(torch.equal(found[name], weights[name]) for name in found)
    torch.save({n: t for n, t in weights.items() if n != "decoder.20.weight"}, path)
    with pytest.raises(CheckpointError, match=r"taew2_1\.pth do not fit: 1 missing: decoder\.20"):
        convert(path, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


# --- as a model -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline(tmp_path_factory.mktemp("wan") / "tiny")


def request(frames: int = 13) -> Request:
    shape = Geometry(frames=frames, height=32, width=48, fps=16)
    return Request(prompt=Prompt(id="p", text="a red disc"), geometry=shape, seed=0)


def frames_by(model: Any) -> np.ndarray:
    return np.concatenate([*model.generate(request())])


def test_a_stream_of_the_same_latents_looks_otherwise(folder: Path, file: Path) -> None:
    how = f"wan:{folder}?chunk=2&window=6&steps=2"
    own, small = resolve(how), resolve(f"{how}&decoder=small:{file}")
    assert isinstance(small, WanModel) and isinstance(small.codec, SmallCodec)
    assert (own.card.decoder, small.card.decoder) == (None, "small")
    assert "the small decoder taew2_1.safetensors (" in small.card.notes
    assert [len(chunk) for chunk in small.generate(request(30))] == [5, 8, 8, 8, 1]
    assert frames_by(small).std() > 5 and not np.array_equal(frames_by(own), frames_by(small))
    halved = resolve(f"{how}&decoder=small:{file}&vae=bfloat16")
    assert np.abs(frames_by(halved).astype(int) - frames_by(small)).mean() < 3


@pytest.mark.parametrize(
    ("decoder", "reason"),
    [
        ("small", r"draws random weights, .* name a file with decoder=small:FILE"),
        ("small:", r"Unknown decoder 'small:'; did you mean small, small:FILE"),
        ("tiny", "Unknown decoder 'tiny'"),
        ("wan:x", "Unknown decoder 'wan:x'"),
        ("small:nowhere.safetensors", r"no file 'nowhere\.safetensors'; .*`sfbench convert-wan"),
    ],
)
def test_what_cannot_be_is_one_sentence(decoder: str, reason: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        resolve(f"wan:{folder}?decoder={decoder}")
    assert "\n" not in str(error.value)


def test_random_weights_for_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a size that a CPU makes; all but the decoder is as without it."""
    import diffusers

    monkeypatch.setitem(wan_options.RANDOM, "random-small", "base")
    monkeypatch.setattr(wan, "published", lambda _: Sizes(60, 44, 2, 3, 2, 32, CHANNELS, TEXT))
    small_vae = vae()
    monkeypatch.setattr(diffusers, "AutoencoderKLWan", lambda: deepcopy(small_vae))
    how = "wan:random-small?chunk=1&window=3&steps=2"
    own, small = resolve(how), resolve(f"{how}&decoder=small")
    assert isinstance(own, WanModel) and isinstance(small, WanModel)
    assert small.card.decoder == "small" and "a small decoder of random weights" in small.card.notes
    theirs = own.network.state_dict()
    assert all(torch.equal(t, theirs[n]) for n, t in small.network.state_dict().items())
    assert frames_by(small).std() > 1
    assert np.array_equal(frames_by(small), frames_by(resolve(f"{how}&decoder=small")))


def test_the_doctor_says_which_decoder(folder: Path, file: Path, tmp_path: Path) -> None:
    def said(name: str) -> tuple[str, str]:
        check = doctor.of_model(name)["wan decoder"]
        return check()[:2]

    assert said(f"wan:{folder}") == ("ok", "Wan's own, exact")
    verdict, text = said(f"wan:{folder}?decoder=small:{file}")
    assert verdict == "ok" and f"small, 9,821,571 parameters, in {file}; " in text
    assert "small, of random weights" in said("wan:random-1.3b?decoder=small")[1]
    verdict, text = said(f"wan:random-1.3b?decoder=small:{file}")
    assert verdict == "fail" and "decoder.1.weight (256x6x3x3 where 256x16x3x3" in text


# --- its rows -------------------------------------------------------------------------------------


def test_a_timed_row_is_not_ranked_with_wans_own(folder: Path, file: Path, tmp_path: Path) -> None:
    how = f"wan:{folder}?chunk=2&window=6&steps=2"
    models = ["--model", how, "--model", f"{how}&decoder=small:{file}"]
    command = ["run", "--task", "latency", "--tier", "smoke", "--limit", "2", *models]
    with pytest.raises(SystemExit) as end:
        cli.main([*command, "--out", str(tmp_path)])
    assert not end.value.code
    rows = sorted(path.parent for path in tmp_path.rglob("result.json"))
    own, small = sorted(leaderboard.load([tmp_path]), key=lambda found: found.model.decoder or "")
    assert own.comparison_key != small.comparison_key
    assert leaderboard.differences(own, small) == {"decoder": ("-", "small")}
    titles = [tables.title(group) for group in leaderboard.groups([own, small])]
    assert sorted(title.endswith(" · small decoder") for title in titles) == [False, True]
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", *map(str, rows)])
    assert end.value.code == 4
