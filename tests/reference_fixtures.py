"""Small random networks for the reference's tests; no trained weights, no zero layers."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sfbench.reference.config import CodecConfig, DataConfig, ModelConfig, Preset, TextConfig
from sfbench.reference.model import DiT


def preset(**model: Any) -> Preset:
    """4x4 latents in 2x2 patches: four tokens a frame, so that space is exercised."""
    defaults: dict[str, Any] = dict(
        dim=48, ffn_dim=64, layers=2, heads=2, patch=2, freq_dim=16, window=0, frames_per_chunk=2
    )
    return Preset(
        name="test",
        data=DataConfig(frames=12),
        codec=CodecConfig(channels=3),
        text=TextConfig(length=5, dim=8),
        model=ModelConfig(**(defaults | model)),
    )


def network(seed: int = 0, **model: Any) -> DiT:
    """A DiT in double precision whose every parameter matters."""
    torch.manual_seed(seed)
    net = DiT(preset(**model))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net.double().eval()


def inputs(
    net: DiT, batch: int = 2, frames: int = 12, seed: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, a level for each chunk, and text."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, frames, *net.latent_shape, generator=g, dtype=torch.float64)
    n = net.config.frames_per_chunk
    sigma = torch.rand(batch, frames // n, generator=g, dtype=torch.float64)
    text = torch.randn(batch, 5, 8, generator=g, dtype=torch.float64)
    return x, sigma.repeat_interleave(n, 1), text


def keyed_noise(net: DiT, batch: int, seed: int = 3) -> Any:
    """A rollout's noise: a pure function of frame and denoising step."""

    def noise(frames: Any, step: int) -> Tensor:
        parts = [
            torch.randn(
                batch,
                *net.latent_shape,
                generator=torch.Generator().manual_seed(seed * 10_000 + f * 100 + step),
                dtype=torch.float64,
            )
            for f in frames
        ]
        return torch.stack(parts, 1)

    return noise


def replace(config: Any, **changes: Any) -> Any:
    """``dataclasses.replace``, short."""
    return dataclasses.replace(config, **changes)
