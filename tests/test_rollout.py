"""One rollout: training equals inference, and gradient goes where Algorithm 1 lets it."""

import pytest
import torch

from sfbench.reference.rollout import rollout
from sfbench.reference.schedule import Schedule

from reference_fixtures import inputs, keyed_noise, network

FEW = Schedule((1.0, 0.9375, 0.8333, 0.625), renoise=True)


def roll(net, schedule=FEW, frames=12, batch=2, noise_seed=3, **how):  # type: ignore[no-untyped-def]
    _, _, text = inputs(net, batch)
    chunks = rollout(net, text, keyed_noise(net, batch, noise_seed), schedule, frames=frames, **how)
    return torch.cat(list(chunks), 1)


@pytest.mark.parametrize("exit_step", [0, 1, 2, 3])
def test_training_mode_equals_inference(exit_step: int) -> None:
    net = network(window=8)
    trained = roll(net, exits=[exit_step] * 6)
    served = roll(net, Schedule(FEW.sigmas[: exit_step + 1], renoise=True))
    assert trained.requires_grad and not served.requires_grad
    torch.testing.assert_close(trained, served, rtol=0, atol=1e-11)


def test_one_exit_a_chunk() -> None:
    net = network(window=8)
    mixed = roll(net, exits=[0, 3, 1, 2, 0, 3])
    assert torch.equal(mixed[:, :2], roll(net, exits=[0] * 6)[:, :2])
    assert not torch.equal(mixed[:, 2:4], roll(net, exits=[0] * 6)[:, 2:4])


def test_gradient_comes_from_the_exit_step_alone() -> None:
    """The parameter gradient of a chunk is that of its last evaluation on constant inputs."""
    net = network(window=8)
    calls = []
    forward = net.forward
    net.forward = lambda *a, **k: calls.append((a, k, torch.is_grad_enabled())) or forward(*a, **k)
    out = roll(net, exits=[2] * 6)
    with_grad = [c for c in calls if c[2]]
    assert len(calls) == 6 * 3 and len(with_grad) == 6  # a cache pass is part of the next call
    assert all(c[0][1] == FEW.sigmas[2] for c in with_grad)
    assert not any(c[0][0].requires_grad for c in calls)
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def evaluations(net, **how) -> list[int]:  # type: ignore[no-untyped-def]
    """Frames of each call of the network in a rollout of four chunks."""
    frames, forward = [], net.forward
    net.forward = lambda x, *a, **k: frames.append(x.shape[1]) or forward(x, *a, **k)
    roll(net, frames=8, **how)
    net.forward = forward
    return frames


def test_a_finished_chunk_is_cached_by_the_next_ones_first_call() -> None:
    """In training, and where that call has no gradient, which the cached frames must not have."""
    assert evaluations(network(), exits=[1] * 4) == [2, 2, 4, 2, 4, 2, 4, 2]
    assert evaluations(network(), exits=[0] * 4) == [2] * 7
    assert evaluations(network(), exits=[0] * 4, grad_from=8) == [2, 4, 4, 4]
    apart = [2] * 11
    assert evaluations(network(window=4, sink=2), exits=[1] * 4) == apart
    assert evaluations(network(), exits=[1] * 4, kv_grad="stale") == apart
    assert evaluations(network()) == [2] * (4 * 4 + 3)


@pytest.mark.parametrize(
    "policy",
    [
        dict(window=0),
        dict(window=2),  # sees no past at all
        dict(window=6),
        dict(window=6, positions="absolute"),
        dict(window=5, first_alone=True),
        dict(window=4, sink=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("context_noise", [0.0, 0.2])
def test_caching_in_the_next_call_gives_what_a_call_apart_does(
    policy: dict, context_noise: float
) -> None:
    net, blank = network(**policy), torch.zeros(1, 5, 8, dtype=torch.float64)
    how = Schedule(FEW.sigmas, True, guidance=2.0, context_noise=context_noise)
    frames = 12 + net.config.first_alone
    served = roll(net, how, frames, blank=blank)
    trained = roll(net, how, frames, blank=blank, exits=[3] * 7, grad_from=frames)
    torch.testing.assert_close(trained, served, rtol=0, atol=1e-11)


def test_nothing_flows_through_the_cache() -> None:
    """The gradient of a chunk's loss equals that of the chunk alone given a constant cache."""
    net = network(window=8)
    torch.autograd.backward(roll(net, exits=[1] * 6)[:, 4:6].square().sum())
    through_rollout = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    constant = roll(net, Schedule(FEW.sigmas[:2], renoise=True), frames=4).detach()
    chunk = rollout(
        net,
        inputs(net)[2],
        keyed_noise(net, 2),
        FEW,
        frames=2,
        start=4,
        context=constant,
        exits=[1],
    )
    next(chunk).square().sum().backward()
    for a, b in zip(through_rollout, (p.grad for p in net.parameters()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_early_frames_can_go_without_gradient() -> None:
    net = network(window=8)
    chunks = list(
        rollout(
            net, inputs(net)[2], keyed_noise(net, 2), FEW, frames=12, exits=[1] * 6, grad_from=8
        )
    )
    assert [c.requires_grad for c in chunks] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    "policy", [dict(window=0), dict(window=6), dict(window=6, sink=2)], ids=str
)
def test_a_given_context_equals_having_generated_it(policy: dict) -> None:
    net = network(**policy)
    whole = roll(net, frames=12)
    text = inputs(net)[2]
    resumed = rollout(net, text, keyed_noise(net, 2), FEW, frames=4, start=8, context=whole[:, :8])
    torch.testing.assert_close(torch.cat(list(resumed), 1), whole[:, 8:], rtol=0, atol=1e-9)


def test_length_is_unbounded_with_a_window() -> None:
    net = network(window=4)
    assert torch.isfinite(roll(net, frames=80)).all()


def test_one_sample_never_depends_on_its_batch() -> None:
    net = network(window=8)
    text = inputs(net)[2]
    noise = keyed_noise(net, 2)
    both = torch.cat(list(rollout(net, text, noise, FEW, frames=6)), 1)
    alone = rollout(net, text[1:], lambda f, s: noise(f, s)[1:], FEW, frames=6)
    torch.testing.assert_close(torch.cat(list(alone), 1), both[1:], rtol=0, atol=1e-9)


def test_noise_is_asked_by_absolute_frame_and_step() -> None:
    net = network(window=8)
    asked = []
    noise = keyed_noise(net, 2)
    context = torch.zeros(2, 4, *net.latent_shape, dtype=torch.float64)
    spy = lambda f, s: asked.append((list(f), s)) or noise(f, s)  # noqa: E731
    list(rollout(net, inputs(net)[2], spy, FEW, frames=2, start=10, context=context))
    assert asked == [([10, 11], s) for s in range(4)]


def test_guidance_one_is_none_and_two_extrapolates() -> None:
    net = network()
    blank = torch.zeros(1, 5, 8, dtype=torch.float64)
    one = roll(net, Schedule((1.0,), True, guidance=1.0), frames=2)
    two = roll(net, Schedule((1.0,), True, guidance=2.0), frames=2, blank=blank)
    empty = torch.cat(
        list(
            rollout(
                net, blank.expand(2, -1, -1), keyed_noise(net, 2), Schedule((1.0,), True), frames=2
            )
        ),
        1,
    )
    torch.testing.assert_close(two, empty + 2 * (one - empty))


def test_bidirectional_is_the_same_function() -> None:
    net = network()
    _, _, text = inputs(net)
    noise = keyed_noise(net, 2)
    out = next(rollout(net, text, noise, Schedule((1.0,), False), frames=12, chunk=12))
    torch.testing.assert_close(
        out, net(noise(range(12), 0), torch.ones(2, 12, dtype=torch.float64), text)
    )


def test_a_ragged_context_is_refused() -> None:
    net = network()
    with pytest.raises(ValueError, match="not a multiple of the chunk"):
        roll(
            net,
            frames=2,
            start=3,
            context=torch.zeros(2, 3, *net.latent_shape, dtype=torch.float64),
        )
