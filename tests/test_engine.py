"""The engine gives what the DiT gives, whatever is cached, evicted, or turned off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfbench.reference.engine import Engine, Switches, quick
from sfbench.reference.model import DiT
from sfbench.reference.rollout import rollout
from sfbench.reference.schedule import Schedule

from reference_fixtures import inputs, keyed_noise, network

FEW = Schedule((1.0, 0.8, 0.5), renoise=True)
POLICIES = [
    dict(window=0),
    dict(window=2),  # no past at all
    dict(window=6),
    dict(window=6, positions="absolute"),
    dict(window=4, sink=2),
    dict(window=2, sink=2),  # no past but the sinks
    dict(window=4, sink=1),  # not a whole chunk
    dict(window=4, sink=2, positions="absolute"),
    dict(window=5, first_alone=True),
    dict(window=5, frames_per_chunk=1),
    dict(window=6, sink=3, frames_per_chunk=3, prediction="v"),
]
SWITCHES = [dict(), dict(levels=False), dict(fused=False)]


@torch.no_grad()
def roll(model: DiT | Engine, net: DiT, schedule: Schedule = FEW, **how: Any) -> Tensor:
    how = {"frames": 18 + net.config.first_alone} | how
    return torch.cat([*rollout(model, inputs(net)[2], keyed_noise(net, 2), schedule, **how)], 1)


def same(served: Tensor, plain: Tensor) -> None:
    torch.testing.assert_close(served, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_a_stream_is_the_dits(policy: dict[str, Any], switches: dict[str, bool]) -> None:
    net = network(**policy)
    same(roll(Engine(net, Switches(**switches)), net), roll(net, net))


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_context_is_continued_as_the_dit_does(policy: dict[str, Any]) -> None:
    net = network(**policy)
    alone = net.config.first_alone
    context = torch.randn(2, 12 + alone, *net.latent_shape, dtype=torch.float64)
    how = dict(start=12 + alone, frames=6, context=context)
    same(roll(Engine(net), net, **how), roll(net, net, **how))


@pytest.mark.parametrize("recache", [False, True])
@pytest.mark.parametrize("policy", [dict(window=6), dict(window=4, sink=2)], ids=str)
def test_a_change_of_prompt(policy: dict[str, Any], recache: bool) -> None:
    net, made = network(**policy), []
    text = inputs(net)[2]
    with torch.no_grad():
        for model in (net, Engine(net)):
            chunks = rollout(model, text, keyed_noise(net, 2), FEW, frames=14, recache=recache)
            parts = [chunks.send(text + 1 if n == 4 else None) for n in range(7)]
            made.append(torch.cat(parts, 1))
    same(made[1], made[0])


def test_guidance_noise_on_the_context_and_a_whole_clip_at_once() -> None:
    net = network(window=6)
    guided = Schedule(FEW.sigmas, renoise=True, guidance=2.0, context_noise=0.1)
    blank = torch.zeros(1, 5, 8, dtype=torch.float64)
    ways: list[tuple[Schedule, dict[str, int]]] = [
        (guided, {}),
        (Schedule((1.0, 0.5), False), {"chunk": 18}),
    ]
    for schedule, how in ways:
        plain, served = (roll(m, net, schedule, blank=blank, **how) for m in (net, Engine(net)))
        same(served, plain)


@torch.no_grad()
def test_halved_products_are_the_dits() -> None:
    net = network(window=6).float()
    net.halve(torch.bfloat16)
    text, noise = inputs(net)[2].float(), keyed_noise(net, 2)
    plain, served = (
        torch.cat([*rollout(m, text, lambda f, s: noise(f, s).float(), FEW, frames=12)], 1)
        for m in (net, Engine(net))
    )
    assert served.dtype == torch.float32
    error = (served - plain).square().mean().sqrt() / plain.square().mean().sqrt()
    assert float(error) < 3e-2  # keys are rounded after their rotation, not before


@torch.no_grad()
def test_under_autocast_weights_are_halved_once() -> None:
    """It is as near to exact products as the DiT is."""
    net = network(window=6).float()
    text, noise = inputs(net)[2].float(), keyed_noise(net, 2)

    def roll(model: DiT | Engine) -> Tensor:
        made = rollout(model, text, lambda f, s: noise(f, s).float(), FEW, frames=12)
        return torch.cat([*made], 1)

    exact = roll(net)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        engine = quick(net)
        assert isinstance(engine, Engine)
        assert {t.dtype for w in engine._layers for t in (*w.qkv[0][:2], *w.narrow[:2])} == {
            torch.bfloat16
        }
        served, plain = roll(engine), roll(net)
    assert served.dtype == torch.float32 and all(p.dtype == torch.float32 for p in net.parameters())
    own, other = ((made - exact).square().mean().sqrt() for made in (served, plain))
    assert 0 < own < 1.2 * other


@torch.no_grad()
def test_a_long_stream_stays_in_its_slots() -> None:
    """Nothing is allocated anew, and after a thousand frames the values are still the DiT's."""
    net = network(window=6, sink=2, layers=1)
    engine, caches, places = Engine(net), [], set()
    new = engine.new_cache
    engine.new_cache = lambda **how: caches.append(new(**how)) or caches[-1]
    text, noise = inputs(net)[2], keyed_noise(net, 2)
    one = Schedule((1.0,), renoise=True)
    served = rollout(engine, text, noise, one, frames=1000)
    plain = rollout(net, text, noise, one, frames=1000)
    for a, b in zip(served, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)
        if caches and caches[0].buffers.keys:
            places.add(
                tuple(t.data_ptr() for t in (*caches[0].buffers.keys, *caches[0].buffers.values))
            )
    assert len(places) == 1 and caches[0].frames == [0, 1, 994, 995, 996, 997]


def test_a_level_is_embedded_once() -> None:
    net, seen = network(window=6), []
    net.time_projection.register_forward_hook(lambda *_: seen.append(1))
    roll(Engine(net), net)
    assert len(seen) == len(FEW) + 1  # and the clean one
    roll(Engine(net, Switches(levels=False)), net)
    assert len(seen) > 20
