"""The streaming VAE gives what diffusers gives for the whole clip, and its memory does not grow."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from sfbench.reference.codec import frames_of, latents_of
from sfbench.reference.wan_vae import Decoder, Encoder, WanCodec

from wan_fixtures import CHANNELS, vae

FRAMES = 7
CUTS = [[7], [1] * 7, [3, 3, 1], [2, 1, 4]]


@pytest.fixture(scope="module")
def codec() -> WanCodec:
    return WanCodec(vae())


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(2, FRAMES, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, frames_of(FRAMES, 4), 3, 24, 40, generator=generator) * 2 - 1


@torch.no_grad()
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_decoding_in_parts_is_decoding_the_whole(
    cut: list[int], codec: WanCodec, latents: torch.Tensor
) -> None:
    raw = latents * codec.std + codec.mean  # diffusers takes them as they are
    whole = codec.vae.decode(raw.movedim(1, 2)).sample.movedim(2, 1)
    assert float(whole.std()) > 0.02 and float(whole.abs().max()) <= 1
    decode = codec.stream()
    parts = [decode(part) for part in latents.split(cut, dim=1)]
    made = [frames_of(sum(cut[: n + 1]), 4) - frames_of(sum(cut[:n]), 4) for n in range(len(cut))]
    assert [part.shape[1] for part in parts] == made
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("channels_last", "compiled"), [(True, False), (True, True)])
def test_what_makes_decoding_fast_changes_nothing(
    channels_last: bool,
    compiled: bool,
    codec: WanCodec,
    latents: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Compiled whole, once a state of its caches; the compiler's own kernels need a GPU's time."""
    graphs: list[int] = []

    def count(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> Any:
        graphs.append(len(given))
        return graph.forward

    compiler = partial(torch.compile, backend=count)
    monkeypatch.setattr(torch, "compile", lambda piece, **how: compiler(piece, **how))
    fast = WanCodec(vae())
    fast.vae.load_state_dict(codec.vae.state_dict())
    fast.prepare(channels_last=channels_last, compiled=compiled)
    with torch.inference_mode():
        whole, decode = codec.decode(latents), fast.stream()
        parts = [decode(part) for part in latents.split([1] * FRAMES, dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=3e-5)
    weight = next(p for p in fast.vae.decoder.parameters() if p.dim() == 5 and p.shape[2] > 1)
    last = weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert last and len(graphs) == (3 if compiled else 0)


@torch.no_grad()
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_encoding_in_parts_is_encoding_the_whole(
    cut: list[int], codec: WanCodec, video: torch.Tensor
) -> None:
    mean = codec.vae.encode(video.movedim(1, 2)).latent_dist.mode().movedim(2, 1)
    encode, frames = codec.encoder(), [4 * n for n in cut]
    frames[0] -= 3
    parts = torch.cat([encode(part) for part in video.split(frames, dim=1)], 1)
    expected = (mean - codec.mean) / codec.std
    torch.testing.assert_close(parts, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_stream_goes_on_from_a_past(codec: WanCodec, latents: torch.Tensor) -> None:
    whole = codec.decode(latents)
    after = codec.stream(latents[:, :3])(latents[:, 3:])
    torch.testing.assert_close(after, whole[:, frames_of(3, 4) :], rtol=0, atol=1e-5)
    alone = codec.stream()(latents[:, 3:])
    assert not torch.allclose(alone[:, -4:], whole[:, -4:])  # the past is seen in what follows


def test_part_of_a_latent_is_refused(codec: WanCodec, video: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="4 frames are no whole latents"):
        codec.encode(video[:, :4])


def held(stream: Decoder | Encoder) -> int:
    """Bytes of a stream's caches, whatever of their storage is seen."""
    found = [c.untyped_storage() for c in stream._caches if isinstance(c, torch.Tensor)]
    return sum({s.data_ptr(): s.nbytes() for s in found}.values())


@torch.no_grad()
@pytest.mark.parametrize("way", ["decode", "encode"])
def test_memory_does_not_grow_with_the_length(way: str, codec: WanCodec) -> None:
    stream: Any = codec.stream() if way == "decode" else codec.encoder()
    part = torch.randn((1, 1, CHANNELS, 2, 2) if way == "decode" else (1, 4, 3, 16, 16))
    stream(part[:, :1])
    sizes = []
    for _ in range(12):
        stream(part)
        sizes.append(held(stream))
    assert len(set(sizes[2:])) == 1 and sizes[0] > 0


def test_frames_and_latents() -> None:
    assert [frames_of(n, 4) for n in range(4)] == [0, 1, 5, 9]
    assert [latents_of(n, 4) for n in (0, 1, 2, 5, 6)] == [0, 1, 2, 2, 3]
    assert all(frames_of(n, 1) == latents_of(n, 1) == n for n in range(5))
