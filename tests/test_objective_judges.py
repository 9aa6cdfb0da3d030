"""SiD and GAN are their equations, and what players share is made once."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as nnf

from sfbench.reference.config import GanConfig
from sfbench.reference.objective_critic import Critic, discriminator_loss, generator_loss
from sfbench.reference.objective_dmd import DMD
from sfbench.reference.objective_gan import GAN
from sfbench.reference.objective_init import Consistency
from sfbench.reference.objective_sid import SiD, sid_loss
from sfbench.reference.schedule import add_noise

from objective_fixtures import made
from reference_fixtures import inputs, network, replace

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
