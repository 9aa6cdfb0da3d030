"""A rollout's gradient in one pass afterwards is that of Algorithm 1, chunk by chunk."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfbench.reference import objective_fakes
from sfbench.reference.config import EngineConfig, MethodConfig
from sfbench.reference.engine import Engine, quick
from sfbench.reference.model import DiT
from sfbench.reference.objective_exits import Exits
from sfbench.reference.objective_fakes import Student, own_past
from sfbench.reference.schedule import Schedule

from objective_fixtures import FEW, as_double, draw
from reference_fixtures import network, preset, replace

LONG: dict[str, Any] = dict(longest=24)
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as the paper": ({}, {}),
    "nothing is evicted": (dict(window=0), {}),
    "no past at all": (dict(window=2), {}),
    "a frame a chunk": (dict(window=5, frames_per_chunk=1), {}),
    "exits of its own a chunk": ({}, dict(exits="own")),
    "noise on the context": ({}, dict(sampler=replace(FEW, context_noise=0.2))),
    "gradient at the end": ({}, dict(grad_frames=4)),
    "a longer rollout": (dict(window=6), LONG),
    "graded before it is scored": (dict(window=6), LONG | dict(grad_frames=16)),
    "another prompt": (dict(window=6), LONG | dict(switch=1.0)),
    "another prompt, cached again": (
        dict(window=6),
        LONG | dict(switch=1.0, sampler=replace(FEW, recache=True)),
    ),
    "from an image": (
        dict(window=6, first_alone=True, frames_per_chunk=1),
        dict(image=True, exits="own"),
    ),
    "another prompt, from an image": (
        dict(window=11, first_alone=True, frames_per_chunk=11),
        LONG | dict(longest=34, switch=1.0, image=True, sampler=replace(FEW, recache=True)),
    ),
    "sinks that stay": (dict(window=6, sink=2, positions="absolute"), LONG),
    "no past but sinks": (dict(window=2, sink=2, positions="absolute"), LONG),
    "velocities": (dict(window=6, prediction="v"), dict(exits="last")),
}


def student(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], graded: str, **config: Any
) -> Student:
    method = MethodConfig(batch=2, drop_text=0.0, **({"sampler": FEW} | config))
    model = {"window": 8} | model
    with monkeypatch.context():
        d = as_double(draw(method, **model), monkeypatch)
    d.preset = replace(d.preset, engine=EngineConfig(graded=graded))
    return Student(d, network(0, **model), Schedule.of(method.sampler))


def graded_calls(net: DiT) -> list[int]:
    """How many frames each call with gradient is of."""
    calls, forward = [], net.forward

    def spy(x: torch.Tensor, *given: Any, **how: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            calls.append(x.shape[1])
        return forward(x, *given, **how)

    net.forward = spy
    return calls


@pytest.mark.parametrize("way", WAYS)
def test_clip_and_gradient_are_those_of_a_pass_a_chunk(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model, config), made = WAYS[way], {}
    for graded in ("apart", "together"):
        with monkeypatch.context() as patched:
            s = student(patched, model, graded, **config)
            batch, calls = s.draw.batch(0, 20), graded_calls(s.generator)
            clips = [own_past(s, batch, step, 23) for step in range(4)]
            weight = torch.linspace(-1, 1, clips[0].numel(), dtype=torch.float64)
            sum((c.flatten() * weight).sum() for c in clips).backward()
            gradients = {n: p.grad for n, p in s.generator.named_parameters() if p.grad is not None}
            made[graded] = clips, gradients, calls
    (one, apart, many), (other, together, few) = made["apart"], made["together"]
    assert len(few) == 4 and len(many) >= 4 and sum(few) == sum(many)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-9)
    assert apart.keys() == together.keys() and len(apart) > 20
    for name, gradient in apart.items():
        torch.testing.assert_close(together[name], gradient, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (dict(window=4, sink=2), {}),  # sinks that move
        ({}, dict(kv_grad="true")),
        ({}, dict(kv_grad="stale")),
        ({}, LONG | dict(switch=1.0, grad_frames=16)),  # two prompts with gradient
    ],
    ids=str,
)
def test_what_ties_chunks_is_never_parted(
    model: dict[str, Any], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    s = student(monkeypatch, model, "together", **config)
    calls = graded_calls(s.generator)
    own_past(s, s.draw.batch(0, 20), 0, 23)
    assert len(calls) >= 6


def test_by_size_all_processes_choose_the_same() -> None:
    """A chunk of the test's network has 2 frames of 4 tokens."""
    p, row = preset(), MethodConfig(batch=16)
    assert p.grades_together(row, 1)  # 128 tokens
    assert not p.grades_together(replace(row, batch=17), 1)
    # Two processes have 15 and 16 samples: whoever has the fewer chooses as the other does.
    assert not p.grades_together(replace(row, batch=33), 2)
    assert p.grades_together(replace(row, batch=32), 2)
    small = replace(p, engine=EngineConfig(micro_batch=8))
    assert small.grades_together(replace(row, batch=100), 1)
    shared = replace(p, engine=EngineConfig(sequence_parallel=2))
    assert not shared.grades_together(replace(row, batch=32), 2)
    for graded, together in (("apart", False), ("together", True)):
        asked = replace(p, engine=EngineConfig(graded=graded))
        assert asked.grades_together(replace(row, batch=1), 1) == together
        assert asked.grades_together(replace(row, batch=99), 1) == together


def test_what_is_kept_does_not_grow_with_the_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    s, kept = student(monkeypatch, dict(window=6), "together", longest=60), []
    evaluate = Exits.evaluate

    def looked(exits: Exits, text: torch.Tensor) -> torch.Tensor:
        kept.append(sum(x.numel() for x in exits._past._keys))
        return evaluate(exits, text)

    monkeypatch.setattr(Exits, "evaluate", looked)
    for length in (24, 60):
        drawn = (length, False)
        monkeypatch.setattr(objective_fakes, "_length", lambda *_, drawn=drawn: drawn)
        own_past(s, s.draw.batch(0, 20), 0, 23)
    assert kept[0] == kept[1]


@pytest.mark.parametrize("kv_grad", ["none", "stale", "true"])
def test_a_critics_rollout_is_an_engines_and_the_dits(
    kv_grad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is not: what an engine cannot take on, the network does itself."""
    s = student(monkeypatch, {}, "auto", kv_grad=kv_grad)
    batch, net = s.draw.batch(0, 20), s.generator
    calls, forward = [], net.forward
    net.forward = lambda *a, **how: calls.append(1) or forward(*a, **how)
    with torch.no_grad():
        quickly = own_past(s, batch, 0, 43)
        assert not calls
        net.whole = False
        plainly = own_past(s, batch, 0, 43)
        assert calls
    torch.testing.assert_close(quickly, plainly, rtol=0, atol=1e-9)


def test_an_engine_is_for_plain_networks_alone() -> None:
    net = network()
    assert isinstance(quick(net), Engine)
    for name, value in (("whole", False), ("sharing", object())):
        other = network()
        setattr(other, name, value)
        assert quick(other) is other
    adapted = network()
    adapted.blocks[0].self_attn.q.base_layer = torch.nn.Linear(2, 2)  # as peft has it
    assert quick(adapted) is adapted
