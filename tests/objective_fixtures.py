"""What the objectives' tests draw: random latents, a text encoder, double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfbench.reference import objective_init
from sfbench.reference.config import MethodConfig, SamplerConfig
from sfbench.reference.data import LatentPool, Pool, noise_for
from sfbench.reference.objective_fakes import own_past
from sfbench.reference.objectives import Draw

from reference_fixtures import network, preset, replace


class Words:
    """A text encoder for tests: any prompt, by its length."""

    def __call__(self, prompts: list[str]) -> torch.Tensor:
        rows = [torch.full((5, 8), len(p) / 50) for p in prompts]
        return torch.stack(rows).double()


def draw(config: MethodConfig | None = None, **model: object) -> Draw:
    p = preset(**model)
    p = replace(p, data=replace(p.data, clips=8, clip_frames=16))
    latents = np.random.default_rng(0).standard_normal((8, 16, *p.latent_shape)).astype(np.float16)
    out = Draw(p, config or MethodConfig(batch=3), LatentPool(Pool(p.data), latents), Words())
    return out


def as_double(d: Draw, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Noise and clips in double precision, so that closed forms can be checked tightly."""
    for name in ("uniform", "noise"):
        plain = getattr(Draw, name)
        monkeypatch.setattr(Draw, name, lambda self, *a, plain=plain: plain(self, *a).double())
    clips = LatentPool.clips
    monkeypatch.setattr(LatentPool, "clips", lambda self, w: clips(self, w).double())
    rolled = Draw.rollout_noise

    def rollout_noise(self: Draw, *a: int):  # type: ignore[no-untyped-def]
        noise = rolled(self, *a)
        return lambda f, s: noise(f, s).double()

    monkeypatch.setattr(Draw, "rollout_noise", rollout_noise)
    return d


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
