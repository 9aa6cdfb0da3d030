"""One DiT: the cached, the masked and the bidirectional use of it agree."""

import pytest
import torch
from torch import Tensor

from sfbench.reference.blocks import normed, rms
from sfbench.reference.masks import block_causal, clean_and_noisy
from sfbench.reference.model import DiT

from reference_fixtures import inputs, network, preset


def by_chunks(net: DiT, x: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
    """The same frames, chunk after chunk through the cache."""
    cache, n = net.new_cache(capacity=12), net.config.frames_per_chunk
    parts = []
    for i in range(0, 12, n):
        part, at = slice(i, i + n), range(i, i + n)
        parts.append(net(x[:, part], sigma[:, part], text, positions=at, cache=cache, write=True))
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("prediction", ["x0", "v"])
@pytest.mark.parametrize(
    "policy",
    [
        dict(window=0),
        dict(window=4),
        dict(window=8),
        dict(window=4, sink=2, positions="absolute"),
        dict(frames_per_chunk=1, window=3),
        dict(frames_per_chunk=3, window=6),
        dict(frames_per_chunk=4, window=0),
    ],
    ids=str,
)
def test_cached_chunks_equal_one_block_causal_pass(policy: dict, prediction: str) -> None:
    net = network(**policy, prediction=prediction)
    config, (x, sigma, text) = net.config, inputs(net)
    n = config.frames_per_chunk
    mask = block_causal(12, n, config.window, config.sink)
    whole = net(x, sigma, text, mask=mask)
    torch.testing.assert_close(by_chunks(net, x, sigma, text), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_norm_is_the_same_without_gradient(dtype: torch.dtype) -> None:
    norm = torch.nn.RMSNorm(48, eps=1e-6).to(dtype)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 48, dtype=dtype) * torch.tensor([1e-3, 1.0, 1e3], dtype=dtype)[:, None]
    with torch.no_grad():
        torch.testing.assert_close(normed(norm, x), norm(x))
        pair = rms(x[:, :2], torch.stack([norm.weight, 2 * norm.weight]))
        torch.testing.assert_close(pair, torch.stack([norm(x[:, 0]), 2 * norm(x[:, 1])], 1))


def test_in_single_precision_they_agree_to_1e_5() -> None:
    torch.manual_seed(0)
    net = DiT(preset()).eval()
    torch.nn.init.normal_(net.head.head.weight, std=0.05)
    x, sigma, text = (t.float() for t in inputs(net))
    whole = net(x, sigma, text, mask=block_causal(12, 2))
    torch.testing.assert_close(by_chunks(net, x, sigma, text), whole, rtol=0, atol=1e-5)


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_does() -> None:
    net = network(window=8)
    x, sigma, text = inputs(net)
    mask = block_causal(12, 2, 8)
    here = net(x, sigma, text, mask=mask)
    there = net.cuda()(x.cuda(), sigma.cuda(), text.cuda(), mask=mask)
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-9)


def test_the_future_never_reaches_the_past() -> None:
    net = network(window=8)
    x, sigma, text = inputs(net)
    mask = block_causal(12, 2, 8)
    before = net(x, sigma, text, mask=mask)
    x[:, 6:] += 100
    sigma[:, 6:] = 0.5
    after = net(x, sigma, text, mask=mask)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.equal(before[:, 6:], after[:, 6:])


def test_a_window_of_the_whole_clip_is_the_full_cache() -> None:
    outs = []
    for window in (0, 12):
        net = network(window=window)
        outs.append(by_chunks(net, *inputs(net)))
    assert torch.equal(*outs)


def test_serving_first_does_not_spoil_training() -> None:
    net = network()
    x, sigma, text = inputs(net)
    with torch.inference_mode():
        net(x, sigma, text)
    net(x, sigma, text).sum().backward()
    assert net.patch_embedding.weight.grad is not None


def test_beyond_the_window_nothing_is_seen() -> None:
    """Through L layers a frame reaches L windows back, never further."""
    net = network(window=4, layers=1)
    x, sigma, text = inputs(net)
    mask = block_causal(12, 2, 4)
    before = net(x, sigma, text, mask=mask)
    x[:, :2] += 100
    after = net(x, sigma, text, mask=mask)
    assert torch.equal(before[:, 4:], after[:, 4:])
    assert not torch.equal(before[:, 2:4], after[:, 2:4])


def test_rolling_positions_are_relative() -> None:
    """The same content at a later time gives the same output."""
    net = network(window=6)
    x, sigma, text = inputs(net, frames=6)
    outs = []
    for offset in (0, 5000):
        cache = net.new_cache()
        for i in range(0, 6, 2):
            where = range(offset + i, offset + i + 2)
            out = net(
                x[:, i : i + 2], sigma[:, i : i + 2], text, positions=where, cache=cache, write=True
            )
        outs.append(out)
    torch.testing.assert_close(*outs, rtol=0, atol=1e-9)


def test_teacher_forcing_layout_equals_denoising_on_a_clean_cache() -> None:
    """The noisy half of (clean, noisy) is what the cached model computes chunk by chunk."""
    net = network(window=8)
    noisy, sigma, text = inputs(net)
    clean, _, _ = inputs(net, seed=9)
    zero = torch.zeros_like(sigma)
    both = net(
        torch.cat((clean, noisy), 1),
        torch.cat((zero, sigma), 1),
        text,
        positions=[*range(12), *range(12)],
        mask=clean_and_noisy(12, 2, 8),
    )[:, 12:]
    cache = net.new_cache()
    for i in range(0, 12, 2):
        part, where = slice(i, i + 2), [i, i + 1]
        out = net(noisy[:, part], sigma[:, part], text, positions=where, cache=cache)
        torch.testing.assert_close(out, both[:, part], rtol=0, atol=1e-9)
        net(clean[:, part], zero[:, part], text, positions=where, cache=cache, write=True)


def test_bidirectional_sees_everything_and_text_matters() -> None:
    net = network()
    x, sigma, text = inputs(net)
    before = net(x, sigma, text)
    later = x.clone()
    later[:, -1] += 1
    assert not torch.allclose(net(later, sigma, text)[:, 0], before[:, 0])
    assert not torch.allclose(net(x, sigma, text.flip(0)), before)


def test_each_frame_has_its_own_noise_level() -> None:
    net = network(layers=1, window=2)
    x, sigma, text = inputs(net)
    mask = block_causal(12, 2, 2)
    before = net(x, sigma, text, mask=mask)
    sigma[:, 4:6] *= 0.5
    after = net(x, sigma, text, mask=mask)
    changed = [not torch.equal(before[:, f], after[:, f]) for f in range(12)]
    assert changed == [f in (4, 5) for f in range(12)]


def test_a_common_noise_level_may_be_given_once() -> None:
    net = network()
    x, sigma, text = inputs(net)
    for common in (sigma[:1, :1], sigma[:, :1], sigma[:1]):
        given = net(x, common, text)
        torch.testing.assert_close(given, net(x, common.expand_as(sigma), text), rtol=0, atol=1e-11)


@torch.no_grad()
def test_halved_products_change_little_and_only_products() -> None:
    net = network(window=6, dim=96)
    x, sigma, text = (t.float() for t in inputs(net))
    net = net.float()
    exact = by_chunks(net, x, sigma, text)
    net.halve(torch.bfloat16)
    kinds = {name: p.dtype for name, p in net.named_parameters()}
    single = {n for n, kind in kinds.items() if kind == torch.float32}
    outside = {n.split(".")[0] for n in single}
    assert outside == {"time_embedding", "time_projection", "head", "blocks"}
    assert all("norm" in n or "modulation" in n for n in single if n.startswith("blocks"))
    cache = net.new_cache(capacity=4)
    net(x[:, :2], sigma[:, :2], text, positions=range(2), cache=cache, write=True)
    assert all(t.dtype == torch.bfloat16 for t in cache.read(0) or ())  # half the memory
    halved = by_chunks(net, x, sigma, text)
    assert halved.dtype == torch.float32
    error = (halved - exact).square().mean().sqrt() / exact.square().mean().sqrt()
    assert 1e-5 < float(error) < 2e-2


def test_patches_round_trip() -> None:
    """A projection that keeps all values shows the channel order (row, column, channel)."""
    net = network()
    x, *_ = inputs(net)
    p, c = net.config.patch, net.latent_shape[0]
    net.patch_embedding.weight.data.zero_()
    net.patch_embedding.bias.data.zero_()
    for row in range(p):
        for column in range(p):
            for channel in range(c):
                out = (row * p + column) * c + channel
                net.patch_embedding.weight.data[out, channel, 0, row, column] = 1
    tokens = net.patchify(x)[..., : p * p * c]
    assert torch.equal(net.unpatchify(tokens, *x.shape[:2]), x)


def test_the_patch_matmul_is_the_convolution() -> None:
    net = network()
    x, *_ = inputs(net)
    by_conv = net.patch_embedding(x.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(net.patchify(x), by_conv)
