"""The flow's levels and conversions are exact."""

import pytest
import torch

from sfbench.reference import schedule as S
from sfbench.reference.config import SamplerConfig


def sample(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shape = (2, 3, 4, 5, 5)
    x0, noise = (torch.randn(shape, generator=g, dtype=torch.float64) for _ in range(2))
    return x0, noise, torch.rand(2, 3, generator=g, dtype=torch.float64) * 0.98 + 0.01


def test_conversions_are_each_others_inverse() -> None:
    x0, noise, sigma = sample()
    x_t, v = S.add_noise(x0, noise, sigma), S.velocity(x0, noise)
    torch.testing.assert_close(S.x0_from_v(x_t, v, sigma), x0, rtol=0, atol=1e-12)
    torch.testing.assert_close(S.noise_from_v(x_t, v, sigma), noise, rtol=0, atol=1e-12)
    torch.testing.assert_close(S.v_from_x0(x_t, x0, sigma), v, rtol=0, atol=1e-10)


def test_ends_of_the_path() -> None:
    x0, noise, sigma = sample()
    assert torch.equal(S.add_noise(x0, noise, torch.zeros_like(sigma)), x0)
    assert torch.equal(S.add_noise(x0, noise, torch.ones_like(sigma)), noise)


def test_the_papers_four_steps() -> None:
    schedule = S.Schedule.of(SamplerConfig(kind="renoise", shift=5.0))
    assert [1000 * s for s in schedule.sigmas] == pytest.approx([1000, 937.5, 2500 / 3, 625])


def test_a_48_step_grid_holds_the_few_step_list() -> None:
    grid = S.Schedule.of(SamplerConfig(kind="euler", steps=48, shift=5.0)).sigmas
    few = S.Schedule.of(SamplerConfig(kind="renoise", shift=5.0)).sigmas
    assert [grid[i] for i in (0, 12, 24, 36)] == pytest.approx(few, abs=1e-12)


def test_euler_with_the_true_x0_lands_on_x0() -> None:
    x0, noise, _ = sample()
    schedule = S.Schedule.of(SamplerConfig(kind="euler", steps=7, shift=3.0))
    x = noise
    for step in range(len(schedule) - 1):
        x = schedule.advance(x, x0, step, noise)
        sigma = torch.full((2, 3), schedule.sigmas[step + 1], dtype=torch.float64)
        torch.testing.assert_close(x, S.add_noise(x0, noise, sigma), rtol=0, atol=1e-12)


def test_renoising_uses_the_fresh_noise_only() -> None:
    x0, noise, _ = sample()
    schedule = S.Schedule.of(SamplerConfig(kind="renoise", shift=5.0))
    out = schedule.advance(torch.full_like(x0, 1e9), x0, 0, noise)
    there = schedule.sigmas[1]
    torch.testing.assert_close(out, (1 - there) * x0 + there * noise)
