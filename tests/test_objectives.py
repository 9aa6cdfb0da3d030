"""Each objective is its equation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfbench.reference import objective_dmd as dmd
from sfbench.reference.config import MethodConfig, SamplerConfig
from sfbench.reference.objective_fakes import (
    Fakes,
    noised_truth,
    own_past,
    true_past,
    whole_clip,
)
from sfbench.reference.objective_flow import DiffusionForcing, Teacher, TeacherForcing
from sfbench.reference.objectives import Batch, Draw, flow_loss
from sfbench.reference.schedule import add_noise, velocity, x0_from_v

from objective_fixtures import as_double, draw
from reference_fixtures import inputs, network

BLANK = torch.zeros(1, 5, 8, dtype=torch.float64)


# --- DMD ------------------------------------------------------------------------------------------


def scores() -> tuple[torch.Tensor, ...]:
    fake, real = network(1), network(2)
    x, _, text = inputs(fake, seed=5)
    _, _, noise = (None, None, torch.randn_like(x))
    sigma = torch.tensor([[0.3], [0.8]], dtype=torch.float64).expand(-1, 12)
    return fake, real, x, text, sigma, noise


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_dmd_gradient_is_the_formula(guidance: float) -> None:
    fake, real, x, text, sigma, noise = scores()
    g = dmd.dmd_gradient(x, real, fake, text, BLANK, sigma, noise, guidance)
    x_t = add_noise(x, noise, sigma)
    f_real = real(x_t, sigma, text)
    if guidance != 1:
        uncond = real(x_t, sigma, BLANK.expand_as(text))
        f_real = f_real + (guidance - 1) * (f_real - uncond)  # the official code's w = guidance - 1
    for b in range(2):
        expected = (fake(x_t, sigma, text)[b] - f_real[b]) / (x[b] - f_real[b]).abs().mean()
        torch.testing.assert_close(g[b], expected.detach())


def test_autograd_through_the_dmd_loss_is_the_gradient() -> None:
    fake, real, x, text, sigma, noise = scores()
    x.requires_grad_(True)
    g = dmd.dmd_gradient(x, real, fake, text, BLANK, sigma, noise, 2.0)
    dmd.dmd_loss(x, g).backward()
    torch.testing.assert_close(x.grad, g / g.numel(), rtol=1e-9, atol=1e-15)
    assert not g.requires_grad


def test_without_guidance_equal_scores_give_zero() -> None:
    fake, _, x, text, sigma, noise = scores()
    assert not dmd.dmd_gradient(x, fake, fake, text, BLANK, sigma, noise, 1.0).any()
    assert dmd.dmd_gradient(x, fake, fake, text, BLANK, sigma, noise, 2.0).any()


def distillation(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch, **config: object
) -> dmd.Distillation:
    sampler = SamplerConfig(kind="renoise", shift=5.0)
    method = MethodConfig(batch=2, sampler=sampler, critic_warmup=3, drop_text=0.0, **config)
    d = as_double(draw(method, window=8), monkeypatch)
    generator, critic, teacher = (network(seed, window=8) for seed in range(3))
    return dmd.DMD(d, generator, critic, fakes, teacher)


@pytest.mark.parametrize("fakes", [own_past, noised_truth, true_past, whole_clip])
def test_only_the_player_whose_turn_it_is_learns(
    fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = distillation(fakes, monkeypatch)
    for player, other in (("generator", "critic"), ("critic", "generator")):
        loss, _ = objective.loss(player, 4)
        loss.backward()
        assert all(p.grad is not None for p in objective.players[player].parameters())
        assert all(p.grad is None for p in objective.players[other].parameters())
        assert all(p.grad is None for p in objective.teacher.parameters())
        objective.players[player].zero_grad(set_to_none=True)


def test_turns_keep_the_ratio_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = distillation(own_past, monkeypatch)
    turns = [objective.turns(step) for step in range(3 + 10)]
    assert turns[:3] == [("critic",)] * 3
    assert [i for i, t in enumerate(turns) if t[0] == "generator"] == [3, 8]
    assert all(t[-1] == "critic" for t in turns)


def test_self_forcing_never_uses_true_clips_and_its_baselines_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = torch.zeros(2, 5, 8, dtype=torch.float64)
    ways = ((own_past, False), (whole_clip, False), (noised_truth, True), (true_past, True))
    for fakes, uses in ways:
        student = distillation(fakes, monkeypatch).student
        zero = torch.zeros(2, 12, 3, 4, 4, dtype=torch.float64)
        a, b = (fakes(student, Batch(lambda x=zero + k: x, text), 4, 23) for k in (0, 1))
        assert torch.equal(a, b) != uses


def test_exit_steps_are_uniform_and_shared_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = distillation(own_past, monkeypatch)
    exits = [shared.student.exits(step, 23, 6) for step in range(400)]
    assert all(len(set(e)) == 1 for e in exits)
    counts = np.bincount([e[0] for e in exits], minlength=4)
    assert counts.min() > 70
    own = distillation(own_past, monkeypatch, exits="own")
    assert any(len(set(own.student.exits(step, 23, 6))) > 1 for step in range(5))


def test_score_levels_are_shifted_then_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = distillation(own_past, monkeypatch, score_shift=5.0)
    levels = torch.cat([objective.score_levels(step, 21) for step in range(300)])
    assert levels.shape == (300 * objective.config.batch, 1)  # one level a clip
    assert levels.min() >= 0.02 and levels.max() == 0.98
    assert 0.75 < float(levels.median()) < 0.89  # warp(1/2, 5) = .833


def test_the_critic_learns_the_generators_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = distillation(own_past, monkeypatch, weight_floor=0.0)
    loss, _ = objective.loss("critic", 4)
    d, step = objective.draw, 4
    batch = d.batch(step, 40)
    with torch.no_grad():
        x = objective.fakes(objective.student, batch, step, 43)
        sigma, noise = objective.score_levels(step, 41), d.noise(step, 42, 12)
        predicted = objective.critic(add_noise(x, noise, sigma), sigma, batch.text)
        error = (predicted - x) / sigma[..., None, None, None]  # = v - v_hat
    torch.testing.assert_close(loss, error.square().mean())


# --- flow matching --------------------------------------------------------------------------------


def test_flow_loss_is_the_velocity_loss_above_the_floor() -> None:
    x0, noise, v_hat = torch.randn(
        3, 2, 4, 3, 4, 4, dtype=torch.float64, generator=torch.manual_seed(1)
    )
    sigma = torch.tensor([[0.5, 0.6, 0.9, 1.0], [0.4, 0.7, 0.8, 0.1]], dtype=torch.float64)
    x_t = add_noise(x0, noise, sigma)
    loss = flow_loss(x0_from_v(x_t, v_hat, sigma), x0, sigma, 0.4)
    plain = (v_hat - velocity(x0, noise)).square().mean((2, 3, 4))
    torch.testing.assert_close(loss[0], plain[0])
    torch.testing.assert_close(loss[1, 3], plain[1, 3] * (0.1 / 0.4) ** 2)


def test_clean_chunks_carry_no_loss_and_stay_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    d = as_double(draw(MethodConfig(batch=4, clean_chunks=0.5)), monkeypatch)
    net = network()
    objective = DiffusionForcing(d, net)
    net.forward = lambda x, s, t, mask: seen.update(x=x, s=s) or torch.zeros_like(x)
    loss, _ = objective.loss("generator", 0)
    clean = seen["s"] == 0
    true = d.batch(0).latents
    assert 0 < clean.float().mean() < 1 and torch.equal(seen["x"][clean], true[clean])
    expected = true.square().mean((2, 3, 4)) / seen["s"].clamp(min=0.4) ** 2
    torch.testing.assert_close(loss, expected[~clean].mean())


def test_a_batch_whose_chunks_are_all_clean_has_no_loss() -> None:
    """One clip of few chunks is now and then clean throughout."""
    net = network().float()
    objective = DiffusionForcing(draw(MethodConfig(batch=1, clean_chunks=1.0)), net)
    objective.draw.text = lambda prompts: torch.zeros(len(prompts), 5, 8)
    loss, _ = objective.loss("generator", 0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(bool((p.grad == 0).all()) for p in net.parameters() if p.grad is not None)


def test_teacher_has_one_level_a_clip_and_diffusion_forcing_one_a_chunk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    d = as_double(draw(MethodConfig(batch=4)), monkeypatch)
    for kind, per_clip in ((Teacher, True), (DiffusionForcing, False)):
        seen, net = {}, network()
        net.forward = lambda x, s, t, mask=None, seen=seen: seen.update(s=s) or torch.zeros_like(x)
        kind(d, net).loss("generator", 0)
        assert torch.equal(seen["s"][:, 0::2], seen["s"][:, 1::2])
        assert bool((seen["s"] == seen["s"][:, :1]).all()) == per_clip


def test_teacher_forcing_is_blind_to_its_own_clean_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Moving the clean chunk k moves noisy chunks after k and not chunk k itself."""
    d = as_double(draw(MethodConfig(batch=2)), monkeypatch)
    net, out = network(), []
    forward = net.forward
    net.forward = lambda *a, **k: out.append(forward(*a, **k)) or out[-1]
    TeacherForcing(d, net).loss("generator", 0)

    def moved(x, *a, **k):  # type: ignore[no-untyped-def]
        x = x.clone()
        x[:, 4:6] += 1
        out.append(forward(x, *a, **k))
        return out[-1]

    net.forward = moved
    TeacherForcing(d, net).loss("generator", 0)
    before, after = (o[:, 12:] for o in out)
    assert torch.equal(before[:, :6], after[:, :6]) and not torch.equal(before[:, 6:], after[:, 6:])


def test_a_step_is_a_pure_function_of_its_number(tmp_path: Path) -> None:
    d = draw()
    assert torch.equal(d.batch(7).latents, d.batch(7).latents)
    assert not torch.equal(d.batch(7).latents, d.batch(8).latents)
    assert torch.equal(d.noise(3, 2, 12), d.noise(3, 2, 12))
    small = Draw(d.preset, MethodConfig(batch=2), d.pool, d.text)
    assert torch.equal(small.noise(3, 2, 12), d.noise(3, 2, 12)[:2])  # a sample is its index's
