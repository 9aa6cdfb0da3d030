"""What a rollout may do beyond the paper: each option's value, and where its gradient goes."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import pytest
import torch

from sfbench.reference.attention import KVCache
from sfbench.reference.masks import chunks_of, clean_and_noisy
from sfbench.reference.model import DiT, Text
from sfbench.reference.rollout import rollout
from sfbench.reference.schedule import Schedule, add_noise

from reference_fixtures import inputs, keyed_noise, network, replace

FEW = Schedule((1.0, 0.8, 0.5), renoise=True)
ONE = Schedule((1.0,), renoise=True)


def roll(net: DiT, schedule: Schedule = FEW, frames: int = 12, **how: object) -> torch.Tensor:
    text = inputs(net)[2]
    return torch.cat([*rollout(net, text, keyed_noise(net, 2), schedule, frames=frames, **how)], 1)


# --- a change of prompt ---------------------------------------------------------------------------


def switched(net: DiT, at: int, frames: int, recache: bool, **how: object) -> torch.Tensor:
    """A rollout whose prompt changes after ``at`` frames."""
    text, made = inputs(net)[2], []
    chunks = rollout(net, text, keyed_noise(net, 2), FEW, frames=frames, recache=recache, **how)
    told = None
    for index in chunks_of(frames, 2):
        made.append(chunks.send(told))
        told = text + 1 if index.stop == at else None
    return torch.cat(made, 1)


@pytest.mark.parametrize(
    ("policy", "held"),
    [(dict(window=0), range(8)), (dict(window=6), range(4, 8))],
    ids=str,
)
def test_recaching_is_a_fresh_start_from_what_is_held(policy: dict, held: Sequence[int]) -> None:
    net = network(**policy)
    whole = switched(net, 8, 12, recache=True)
    context = whole[:, held.start : held.stop]
    text, noise = inputs(net)[2] + 1, keyed_noise(net, 2)
    fresh = rollout(net, text, noise, FEW, frames=4, start=8, context=context)
    torch.testing.assert_close(whole[:, 8:], torch.cat([*fresh], 1), rtol=0, atol=1e-9)
    kept = switched(net, 8, 12, recache=False)
    assert torch.equal(kept[:, :8], whole[:, :8])
    assert not torch.allclose(kept[:, 8:], whole[:, 8:])


@pytest.mark.parametrize("recache", [False, True])
def test_a_change_of_prompt_in_training_is_that_of_a_stream(recache: bool) -> None:
    """What is cached in one call with what follows is so under the prompt it was made under."""
    net = network(window=6)
    served = switched(net, 8, 12, recache)
    trained = switched(net, 8, 12, recache, exits=[2] * 6)
    torch.testing.assert_close(trained, served, rtol=0, atol=1e-11)


def test_recaching_with_sinks_holds_the_same_frames() -> None:
    net, caches = network(window=4, sink=2), []
    new = net.new_cache
    net.new_cache = lambda **how: caches.append(new(**how)) or caches[-1]
    switched(net, 8, 10, recache=True)
    assert len(caches) == 2 and caches[0].frames == caches[1].frames == [0, 1, 6, 7]


# --- noise on the context -------------------------------------------------------------------------


def test_context_noise_is_what_the_cache_is_made_of() -> None:
    net, calls = network(window=0), []
    forward = net.forward
    net.forward = lambda *a, **k: calls.append((a, k)) or forward(*a, **k)
    noisy = replace(FEW, context_noise=0.1)
    out = roll(net, noisy)
    written = [(a, k) for a, k in calls if k.get("write")]
    assert len(written) == 5
    for (x, sigma, _), how in written:
        index = how["positions"]
        clean = out[:, index.start : index.stop]
        assert sigma == 0.1
        level = torch.full((1, 1), sigma, dtype=torch.float64)
        torch.testing.assert_close(x, add_noise(clean, keyed_noise(net, 2)(index, 3), level))
    net.forward = forward
    assert not torch.allclose(roll(net, FEW), out)


# --- gradient through the cache -------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "stale", "true"])
@pytest.mark.parametrize(
    "policy", [dict(window=0), dict(window=6), dict(window=4, sink=2)], ids=str
)
def test_the_gradient_mode_changes_no_value(mode: str, policy: dict) -> None:
    net = network(**policy)
    plain = roll(net, exits=[1] * 6)
    graded = roll(net, exits=[1] * 6, kv_grad=mode)
    torch.testing.assert_close(graded, plain, rtol=0, atol=1e-11)


def last_chunk(net: DiT, mode: str) -> torch.Tensor:
    """A loss on the last of three chunks, each made by one evaluation, so all of it has a graph."""
    return roll(net, ONE, frames=6, exits=[0] * 3, kv_grad=mode)[:, 4:].square().sum()


def gradient(net: DiT, loss: torch.Tensor) -> torch.Tensor:
    parts = torch.autograd.grad(loss, [*net.parameters()], allow_unused=True)
    return torch.cat([p.flatten() for p in parts if p is not None])


def test_true_gradient_through_the_cache_is_the_derivative() -> None:
    net = network(window=0)
    weight = net.blocks[0].self_attn.v.weight
    (exact,) = torch.autograd.grad(last_chunk(net, "true"), weight)
    direction = torch.randn_like(weight, dtype=torch.float64)

    def at(step: float) -> float:
        with torch.no_grad():
            weight.add_(step * direction)
            value = float(last_chunk(net, "none").detach())
            weight.sub_(step * direction)
        return value

    numeric = (at(1e-5) - at(-1e-5)) / 2e-5
    assert float((exact * direction).sum()) == pytest.approx(numeric, rel=1e-5)
    (cut,) = torch.autograd.grad(last_chunk(net, "none"), weight)
    assert float((cut * direction).sum()) != pytest.approx(numeric, rel=1e-2)


class InPlace(KVCache):
    """A cache written in place, never detached: the public code's, whose gradient leaks."""

    def _appended(self, buffer: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        start = len(self.frames) * self.tokens
        buffer[:, start : start + item.shape[1]] = item
        return buffer


def test_stale_gradient_is_that_of_a_cache_written_in_place() -> None:
    net = network(window=0)
    cache = InPlace(layers=2, tokens=net.tokens, chunk=2, capacity=6)
    text, noise, made = inputs(net)[2], keyed_noise(net, 2), []
    for first in range(0, 6, 2):
        index = range(first, first + 2)
        x = noise(index, 0)
        made.append(net(x, x.new_ones(2, 2), text, positions=index, cache=cache, write=True))
        del cache.frames[first:]  # the exit's pass wrote with a graph; the clean one overwrites
        with torch.no_grad():
            net(made[-1], x.new_zeros(2, 2), text, positions=index, cache=cache, write=True)
    leaked = gradient(net, made[-1].square().sum())
    stale = gradient(net, last_chunk(net, "stale"))
    torch.testing.assert_close(stale, leaked, rtol=1e-9, atol=1e-9)
    for other in ("none", "true"):
        assert not torch.allclose(gradient(net, last_chunk(net, other)), leaked)


# --- the first frame alone ------------------------------------------------------------------------


def test_chunks_of_by_hand() -> None:
    assert chunks_of(5, 2) == [range(0, 2), range(2, 4), range(4, 5)]
    assert chunks_of(5, 2, alone=True) == [range(0, 1), range(1, 3), range(3, 5)]
    assert chunks_of(4, 2, alone=True, start=1) == [range(1, 3), range(3, 5)]


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("window", [0, 6])
def test_a_rollout_is_teacher_forcing_on_its_own_frames(alone: bool, window: int) -> None:
    """The masked pass of (clean, noisy) gives each chunk what the cache gave it."""
    frames = 12 + alone
    net = network(window=window, first_alone=alone, layers=1)  # one layer: the past has no past
    out = roll(net, ONE, frames=frames)
    noise = keyed_noise(net, 2)(range(frames), 0)
    levels = torch.cat((torch.zeros(2, frames), torch.ones(2, frames)), 1).double()
    mask = clean_and_noisy(frames, 2, window, 0, alone)
    both = torch.cat((out, noise), 1)
    places = [*range(frames)] * 2
    again = net(both, levels, inputs(net)[2], positions=places, mask=mask)[:, frames:]
    torch.testing.assert_close(out, again, rtol=0, atol=1e-9)


def test_one_true_frame_can_be_continued() -> None:
    net = network(window=6, first_alone=True)
    whole = roll(net, frames=7)
    assert [
        c.shape[1] for c in rollout(net, inputs(net)[2], keyed_noise(net, 2), FEW, frames=7)
    ] == [
        1,
        2,
        2,
        2,
    ]
    resumed = roll(net, frames=6, start=1, context=whole[:, :1])
    torch.testing.assert_close(resumed, whole[:, 1:], rtol=0, atol=1e-9)


# --- text and memory ------------------------------------------------------------------------------


def test_text_is_projected_once_a_rollout() -> None:
    net, seen = network(window=6), []
    hook = net.blocks[1].cross_attn.k.register_forward_hook(lambda *_: seen.append(1))
    roll(net)
    assert len(seen) == 1
    roll(net, exits=[2] * 6)
    assert len(seen) == 3  # and once with its graph
    hook.remove()


def test_kept_text_changes_nothing() -> None:
    net = network()
    x, sigma, text = inputs(net)
    known = Text(text)
    once, twice = net(x, sigma, known), net(x, sigma, known)
    assert torch.equal(once, twice) and torch.equal(once, net(x, sigma, text))
    kept = torch.autograd.grad((once + twice).square().sum(), [*net.parameters()])
    anew = (net(x, sigma, text) + net(x, sigma, text)).square().sum()
    for a, b in zip(kept, torch.autograd.grad(anew, [*net.parameters()]), strict=True):
        torch.testing.assert_close(a, b)


def tensors() -> list[torch.Tensor]:
    """All plain tensors in memory that anybody can reach."""
    gc.collect()
    plain = (torch.Tensor, torch.nn.Parameter)
    return [item for item in gc.get_objects() if type(item) in plain and item.is_cpu]


def test_memory_of_a_rollout_does_not_grow_with_its_length() -> None:
    most = []
    for policy, frames in ((dict(window=6, sink=2), 16), (dict(window=6, sink=2), 64), ({}, 64)):
        net = network(**policy)
        others = tensors()  # whose storage may be none: compilers leave such behind
        known = {id(tensor) for tensor in others}
        chunks = rollout(net, inputs(net)[2], keyed_noise(net, 2), FEW, frames=frames, recache=True)
        held = []
        for _ in chunks:
            own = [t.untyped_storage() for t in tensors() if id(t) not in known]
            held.append(sum({s.data_ptr(): s.nbytes() for s in own}.values()))
        most.append(max(held[4:]))
    assert most[1] <= 1.01 * most[0]
    assert most[2] > 3 * most[0]  # the full cache does grow, and that is seen


def test_what_was_read_from_a_cache_stays_as_it_was() -> None:
    """So a block may be computed again in the backward pass, after the cache has moved on."""
    cache = KVCache(layers=1, tokens=1, chunk=2, window=4, sink=0)
    one = torch.ones(1, 2, 1, 2)
    cache.write([0, 1], [one], [one])
    read = cache.read(0)
    assert read is not None
    cache.write([2, 3], [2 * one], [2 * one])
    assert torch.equal(read[0], one) and torch.equal(cache.read(0)[0], 2 * one)
