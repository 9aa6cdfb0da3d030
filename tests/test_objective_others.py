"""SiD, GAN, longer rollouts and starts from a teacher's ODE: each is its equation."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as nnf

from sfbench.reference import objective_init
from sfbench.reference.config import ConfigError, GanConfig, MethodConfig, SamplerConfig
from sfbench.reference.data import noise_for
from sfbench.reference.objective_critic import Critic, discriminator_loss, generator_loss
from sfbench.reference.objective_dmd import DMD
from sfbench.reference.objective_fakes import Student, own_past
from sfbench.reference.objective_gan import GAN
from sfbench.reference.objective_init import CausalOde, Consistency, OdeRegression
from sfbench.reference.objective_sid import SiD, sid_loss
from sfbench.reference.objectives import Draw
from sfbench.reference.schedule import Schedule, add_noise

from objective_fixtures import as_double, draw
from reference_fixtures import inputs, network, replace

FEW = SamplerConfig(kind="renoise", shift=5.0)


def made(
    kind: type, monkeypatch: pytest.MonkeyPatch, model: dict | None = None, **config: object
) -> tuple[object, Draw]:
    """An objective on random networks in double precision."""
    model = {"window": 8} | (model or {})
    method = MethodConfig(batch=2, sampler=FEW, critic_warmup=3, drop_text=0.0, **config)
    d = as_double(draw(method, **model), monkeypatch)
    monkeypatch.setattr(objective_init, "noise_for", lambda *a: noise_for(*a).double())
    networks = [network(seed, **model) for seed in range(3)]
    teacher = {"teacher": networks[2]} if "teacher" in kind.uses else {}
    torch.manual_seed(5)
    if "critic" in kind.uses:
        objective = kind(d, networks[0], critic=networks[1], fakes=own_past, **teacher)
    else:
        objective = kind(d, networks[0], **teacher)
    for player in objective.players.values():
        player.double()
    return objective, d


# --- SiD ------------------------------------------------------------------------------------------


def test_sid_with_alpha_one_moves_the_clip_away_from_the_fake_score() -> None:
    x, real, fake = torch.randn(3, 2, 4, 3, 4, 4, dtype=torch.float64)
    for b in range(2):
        scale = (x[b] - real[b]).abs().mean()
        expected = (real[b] - fake[b]) * (fake[b] - x[b]) / scale
        torch.testing.assert_close(sid_loss(x, real, fake, 1.0)[b], expected)
        half = (real[b] - fake[b]) * ((real[b] - x[b]) - 0.5 * (real[b] - fake[b])) / scale
        torch.testing.assert_close(sid_loss(x, real, fake, 0.5)[b], half)


def test_sid_gradient_is_the_finite_difference_through_both_scores(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    objective, d = made(SiD, monkeypatch)
    batch = d.batch(4, 20)
    x = torch.randn_like(batch.latents).requires_grad_(True)
    loss, _ = objective.match(x, batch, 4, 20)
    (exact,) = torch.autograd.grad(loss, x)
    sigma, noise = objective.score_levels(4, 21), objective.score_noise(4, 22)
    real_at_x = objective.teacher(add_noise(x.detach(), noise, sigma), sigma, batch.text)
    scale = (x - real_at_x).detach().abs().mean((1, 2, 3, 4), keepdim=True)  # held, as sg says

    @torch.no_grad()
    def value(x: torch.Tensor) -> float:
        x_t = add_noise(x, noise, sigma)
        real, fake = (net(x_t, sigma, batch.text) for net in (objective.teacher, objective.critic))
        return float(((real - fake) * (fake - x) / scale).mean())

    way = torch.randn_like(exact)
    numeric = (value(x + 1e-5 * way) - value(x - 1e-5 * way)) / 2e-5
    assert float((exact * way).sum()) == pytest.approx(numeric, rel=1e-6)


def test_sid_is_at_rest_where_the_scores_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, d = made(SiD, monkeypatch)
    objective.critic = objective.teacher
    batch = d.batch(4, 20)
    x = torch.randn_like(batch.latents).requires_grad_(True)
    loss, _ = objective.match(x, batch, 4, 20)
    (g,) = torch.autograd.grad(loss, x)
    assert float(loss.detach()) == 0 and float(g.abs().max()) < 1e-15


@pytest.mark.parametrize("kind", [SiD, GAN])
@pytest.mark.parametrize("shared", [False, True])
def test_only_the_player_whose_turn_it_is_learns(
    kind: type, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective, _ = made(kind, monkeypatch, share_rollout=shared)
    for player, other in (("generator", "critic"), ("critic", "generator")):
        objective.loss(player, 4)[0].backward()
        learns = [p for p in objective.players[player].parameters() if p.requires_grad]
        assert all(p.grad is not None for p in learns)
        assert all(p.grad is None for p in objective.players[other].parameters())
        objective.players[player].zero_grad(set_to_none=True)


def test_a_shared_rollout_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for shared, rollouts in ((False, 2), (True, 1)):
        objective, _ = made(DMD, monkeypatch, share_rollout=shared)
        plain, count = objective.fakes, []
        objective.fakes = lambda *a, plain=plain, count=count: count.append(1) or plain(*a)
        for player in objective.turns(3):
            objective.loss(player, 3)
        assert len(count) == rollouts
        objective.loss("critic", 4)  # no generator's turn: clips of its own
        assert len(count) == rollouts + 1


# --- GAN ------------------------------------------------------------------------------------------


class Linear:
    """A discriminator whose logit is a sum over the clip: its slope is known."""

    def __call__(self, x, sigma, text, judge):  # type: ignore[no-untyped-def]
        return None, 0.1 * x.sum((1, 2, 3, 4))


def test_discriminator_losses_are_the_formulas() -> None:
    true, fake, nudge = torch.randn(3, 2, 4, 3, 4, 4, dtype=torch.float64)
    r, f = (0.1 * x.sum((1, 2, 3, 4)) for x in (true, fake))
    plain = GanConfig(r1=0, r2=0)
    for relativistic, d_loss, g_loss in (
        (True, nnf.softplus(-(r - f)).mean(), nnf.softplus(-(f - r)).mean()),
        (False, (nnf.softplus(-r) + nnf.softplus(f)).mean(), nnf.softplus(-f).mean()),
    ):
        config = replace(plain, relativistic=relativistic)
        told, figures = discriminator_loss(Linear(), true, fake, f, None, None, nudge, config)
        torch.testing.assert_close(told, d_loss)
        assert figures["told_apart"] == float((r > f).float().mean())
        torch.testing.assert_close(
            generator_loss(Linear(), true, fake, None, None, config)[0], g_loss
        )
    penalised, _ = discriminator_loss(
        Linear(), true, fake, f, None, None, nudge, GanConfig(r1=30, r2=20, sigma=0.05)
    )
    bare, _ = discriminator_loss(Linear(), true, fake, f, None, None, nudge, plain)
    slope = 0.1 * nudge.sum((1, 2, 3, 4))
    torch.testing.assert_close(penalised - bare, 0.5 * (30 + 20) * slope.square().mean())


def test_a_gan_pushes_the_clip_up_the_discriminators_logit(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The gradient in the clip is the finite difference; where logits agree the loss is log 2."""
    objective, d = made(GAN, monkeypatch)
    batch = d.batch(4, 20)
    x = torch.randn_like(batch.latents).requires_grad_(True)
    loss, _ = objective.match(x, batch, 4, 20)
    (exact,) = torch.autograd.grad(loss, x)
    way = torch.randn_like(exact)
    with torch.no_grad():
        up, down = (objective.match(x + s * way, batch, 4, 20)[0] for s in (1e-5, -1e-5))
    assert float((exact * way).sum()) == pytest.approx(float(up - down) / 2e-5, rel=1e-5)
    equal, _ = objective.match(batch.latents, batch, 4, 20)
    assert float(equal) == pytest.approx(math.log(2))


def test_a_discriminator_learns_to_tell() -> None:
    """On clips that differ by their mean it is right after a few steps."""
    torch.manual_seed(0)
    critic = Critic(network(1).float(), GanConfig())
    optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3)
    text, sigma = inputs(network(), 8)[2][:1].float().expand(8, -1, -1), torch.full((8, 12), 0.3)
    for _ in range(20):
        true, fake = torch.randn(2, 8, 12, 3, 4, 4)
        fake = fake + 0.5
        f = critic(fake, sigma, text, judge=True)[1]
        loss, figures = discriminator_loss(
            critic, true, fake, f, sigma, text, torch.randn_like(true), GanConfig(r1=0.1, r2=0.1)
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert figures["told_apart"] == 1.0


def test_a_gan_term_beside_dmd_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    with_term, d = made(DMD, monkeypatch, gan=GanConfig(weight=0.5))
    batch = d.batch(4, 20)
    x = with_term.fakes(with_term.student, batch, 4, 23)
    plain, _ = with_term.match(x, batch, 4, 20)
    told, _ = with_term.adversarial(x, batch, 4, 20)
    torch.testing.assert_close(with_term.loss("generator", 4)[0], plain + 0.5 * told)
    assert isinstance(with_term.critic, Critic)


def test_an_anchor_holds_the_generator_to_true_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = made(DMD, monkeypatch)
    held, _ = made(DMD, monkeypatch, anchor=0.3)
    loss, figures = held.loss("generator", 4)
    without = plain.loss("generator", 4)[0]
    assert float((loss - without).detach()) == pytest.approx(0.3 * figures["anchor_loss"])


# --- few-step lists, longer rollouts, and rollouts from an image ----------------------------------


def student(
    monkeypatch: pytest.MonkeyPatch, model: dict | None = None, **config: object
) -> Student:
    method = MethodConfig(batch=2, sampler=FEW, drop_text=0.0, **config)
    model = {"window": 8} | (model or {})
    d = as_double(draw(method, **model), monkeypatch)
    return Student(d, network(0, **model), Schedule.of(FEW))


@pytest.mark.parametrize("few", [(1000.0,), (1000.0, 500.0), (1000.0, 750.0, 500.0, 250.0)])
@pytest.mark.parametrize("exits", ["same", "own", "last"])
def test_a_list_of_any_length_and_every_way_to_leave_it(
    few: tuple[float, ...], exits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = student(monkeypatch, exits=exits)
    s.schedule = Schedule.of(replace(FEW, few=few))
    drawn = [s.exits(step, 23, 6) for step in range(60)]
    last = len(few) - 1
    assert {e for exit in drawn for e in exit} == (
        {last} if exits == "last" else set(range(last + 1))
    )
    assert all(len(set(exit)) == 1 for exit in drawn) == (exits != "own" or not last)
    calls = asked(s)
    clip = own_past(s, s.draw.batch(0, 20), 0, 23)
    made = sum(1 for _, _, grad in calls if grad)
    assert clip.shape[1] == 12 and made == 6
    assert len(calls) == sum(e + 1 for e in s.exits(0, 23, 6)) + 5  # and five passes for the cache


def asked(student: Student) -> list[tuple[range, torch.Tensor, bool]]:
    """Positions, text and gradient of every call of the generator."""
    calls, forward = [], student.generator.forward

    def spy(x, sigma, text, **how):  # type: ignore[no-untyped-def]
        calls.append((how["positions"], text.rows, torch.is_grad_enabled()))
        return forward(x, sigma, text, **how)

    student.generator.forward = spy
    return calls


def test_a_longer_rollout_is_scored_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    s = student(monkeypatch, longest=24)
    batch, lengths = s.draw.batch(0, 20), set()
    for step in range(12):
        calls = asked(s)
        clip = own_past(s, batch, step, 23)
        length = max(p[-1] for p, _, _ in calls) + 1
        graded = [p[0] for p, _, grad in calls if grad]
        assert clip.shape[1] == 12 and clip.requires_grad
        assert graded == [*range(length - 12, length, 2)]
        lengths.add(length)
    assert lengths <= {12, 14, 16, 18, 20, 22, 24} and len(lengths) > 3


def test_a_prompt_changes_where_scoring_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    s = student(monkeypatch, longest=24, switch=1.0)
    batch = s.draw.batch(0, 20)
    before = s.draw.batch(0, 27).text
    assert not torch.equal(before, batch.text)
    for step in range(6):
        calls = asked(s)
        own_past(s, replace(batch, text=batch.text + 0.5), step, 23)
        length = max(p[-1] for p, _, _ in calls) + 1
        told = {p[0]: torch.equal(t, batch.text + 0.5) for p, t, _ in calls}
        assert all(new == (first >= length - 12) for first, new in told.items())


def test_from_an_image_the_first_frame_is_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip keeps it, and no gradient is made for it."""
    s = student(monkeypatch, dict(first_alone=True, frames_per_chunk=11, window=0), image=True)
    batch = s.draw.batch(0, 20)
    clip = own_past(s, batch, 0, 23)
    assert torch.equal(clip[:, :1], batch.latents[:, :1]) and clip.shape[1] == 12
    other = own_past(s, replace(batch, latents=batch.latents + 1), 0, 23)
    assert not torch.equal(clip[:, 1:], other[:, 1:])  # it is seen


# --- starts ---------------------------------------------------------------------------------------


def test_the_students_levels_are_on_the_teachers_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = made(OdeRegression, monkeypatch, teacher_steps=48)
    assert objective.at == [0, 12, 24, 36]
    assert [1000 * objective.ode.sigmas[i] for i in objective.at] == pytest.approx(
        [1000, 937.5, 2500 / 3, 625]
    )
    with pytest.raises(ConfigError, match=r"t = 937\.5 is not on the grid .* 50 steps"):
        made(OdeRegression, monkeypatch, teacher_steps=50)


@pytest.mark.parametrize("kind", [OdeRegression, CausalOde])
def test_trajectories_are_the_teachers_ode(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a teacher that always sees one clip the ODE is a straight line to it."""
    monkeypatch.setattr(objective_init, "PART", 4)
    objective, d = made(kind, monkeypatch, teacher_steps=8, pairs=6)
    d.folder = tmp_path
    goal = torch.full((), 0.25, dtype=torch.float64)
    objective.teacher.forward = lambda x, *a, **k: torch.zeros_like(x) + goal
    states, _ = objective._trajectories().of([5, 1])
    start, end = states[:, 0], states[:, -1]
    torch.testing.assert_close(end, torch.full_like(end, 0.25), rtol=0, atol=1e-3)  # fp16
    for index, level in enumerate(objective.student.sigmas):
        line = level * start + (1 - level) * 0.25
        torch.testing.assert_close(states[:, index], line, rtol=0, atol=4e-3)
    assert start.std() == pytest.approx(1, abs=0.05)
    assert not torch.equal(states[0], states[1])


def test_a_perfect_student_of_the_ode_has_no_loss(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    objective, d = made(OdeRegression, monkeypatch, teacher_steps=4, pairs=32)
    d.folder = tmp_path
    for net in (objective.teacher, objective.generator):
        net.forward = lambda x, *a, **k: torch.full_like(x, 0.25)
    assert float(objective.loss("generator", 0)[0]) == 0


def test_trajectories_that_are_made_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: what is whole is kept, what is missing is made, and equal to before."""
    monkeypatch.setattr(objective_init, "PART", 2)
    objective, d = made(OdeRegression, monkeypatch, teacher_steps=4, pairs=6)
    d.folder = tmp_path
    store = objective._trajectories()
    before = [np.load(store.path(part)) for part in range(3)]
    kept = store.path(0).stat().st_mtime_ns
    store.path(1).unlink()
    (store.folder / ".00001.7.part").write_bytes(b"torn")
    objective._stored = None
    again = objective._trajectories()
    assert again.path(0).stat().st_mtime_ns == kept
    assert all(np.array_equal(np.load(again.path(p)), before[p]) for p in range(3))


@pytest.mark.parametrize("kind", [CausalOde, Consistency])
def test_an_autoregressive_teacher_sees_the_clean_true_past(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_init, "PART", 2)
    objective, d = made(kind, monkeypatch, teacher_steps=4, pairs=2)
    d.folder, seen = tmp_path, []
    forward = objective.teacher.forward
    objective.teacher.forward = lambda *a, **k: seen.append((a, k)) or forward(*a, **k)
    objective.loss("generator", 0)[0].backward()
    assert all(p.grad is not None for p in objective.generator.parameters())
    assert all(p.grad is None for p in objective.teacher.parameters())
    for (x, sigma, _), how in seen:
        assert x.shape[1] == 24 and not sigma[:, :12].any() and bool((sigma[:, 12:] > 0).all())
        assert not how["mask"][12:, :2][:2].any()  # the first noisy chunk sees no clean frame
        true = (
            [objective._stored._batch([n]).latents for n in range(2)] if kind is CausalOde else []
        )
        expected = torch.cat(true) if true else d.batch(0).latents
        assert torch.equal(x[:, :12], expected)


def test_consistency_is_zero_for_the_teachers_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that always says where the teacher's ODE ends is consistent; a wrong one is not;
    the further point is held."""
    objective, _ = made(Consistency, monkeypatch, teacher_steps=8)
    ends = lambda x, *a, **k: torch.full_like(x, 0.25)  # noqa: E731
    objective.teacher.forward = objective.generator.forward = ends
    assert float(objective.loss("generator", 0)[0]) == pytest.approx(0, abs=1e-20)
    bias = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    calls = SimpleNamespace(graded=0)

    def moved(x, sigma, *a, **k):  # type: ignore[no-untyped-def]
        calls.graded += torch.is_grad_enabled()
        return x * sigma[..., None, None, None] + bias

    objective.generator.forward = moved
    loss, _ = objective.loss("generator", 0)
    (g,) = torch.autograd.grad(loss, bias)
    assert float(loss.detach()) > 0 and calls.graded == 1 and g != 0


def test_a_batch_is_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses of parts of a batch, weighted by their size, have the mean of the whole."""
    for kind in (SiD, GAN, DMD, Consistency):
        objective, d = made(kind, monkeypatch)
        for player in objective.players:
            whole = float(objective.loss(player, 4)[0].detach())
            parts = []
            for i in range(2):
                d.samples = range(i, i + 1)
                parts.append(float(objective.loss(player, 4)[0].detach()))
            d.samples = range(2)
            assert sum(parts) / 2 == pytest.approx(whole, rel=1e-9), (kind, player)
