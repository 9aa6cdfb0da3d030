"""What the objectives' tests draw: random latents, a text encoder, double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sfbench.reference.config import MethodConfig
from sfbench.reference.data import LatentPool, Pool
from sfbench.reference.objectives import Draw

from reference_fixtures import preset, replace


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
