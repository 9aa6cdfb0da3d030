"""The codec between pixels and latents: a protocol, and a small learned autoencoder.

The axis order is ``[B, F, C, H, W]`` on both sides; this file is the only place where the harness's
``uint8 [T, H, W, 3]`` is converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import CodecConfig


class Codec(Protocol):
    """Latents are standardised: zero mean and unit variance a channel over true videos.

    T pixel frames, F latent ones; see :func:`frames_of`.
    """

    temporal: int
    """Pixel frames that a latent frame stands for, except for a video's first, which is one."""

    def encode(self, video: Tensor) -> Tensor:
        """Pixels ``[B, T, 3, H, W]`` in -1..1 to latents ``[B, F, C, h, w]``."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[B, F, C, h, w]`` to pixels ``[B, T, 3, H, W]`` in -1..1."""
        ...

    def stream(self, past: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """As :meth:`decode`, of a video's next latents at each call; ``past``: those before."""
        ...


def frames_of(latents: int, temporal: int) -> int:
    """Pixel frames of a video's first so many latent frames."""
    return temporal * (latents - 1) + 1 if latents else 0


def latents_of(frames: int, temporal: int) -> int:
    """The fewest latent frames that hold a video's first so many pixel frames."""
    return -(-(frames - 1) // temporal) + 1 if frames else 0


def to_video(frames: NDArray[np.uint8]) -> Tensor:
    """``uint8 [..., F, H, W, 3]`` to ``[..., F, 3, H, W]`` in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def to_pixels(video: Tensor) -> Tensor:
    """``[..., F, 3, H, W]`` in -1..1 to ``uint8 [..., F, H, W, 3]``, where it is."""
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.movedim(-3, -1).contiguous()


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """As :func:`to_pixels`, on the host."""
    frames: NDArray[np.uint8] = to_pixels(video).cpu().numpy()
    return frames


class AutoEncoder(nn.Module):
    """A convolutional autoencoder of stride 8 that treats each frame alone.

    One latent a frame: the mean of frame pairs would blur motion. Latents are standardised by a
    batch norm without affine, so that the noise added to them in training cannot be escaped by
    growing.
    """

    temporal = 1

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        w, c = config.width, config.channels
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 3, 2, 1),
            Residual(w),
            nn.Conv2d(w, 2 * w, 3, 2, 1),
            Residual(2 * w),
            nn.Conv2d(2 * w, 4 * w, 3, 2, 1),
            Residual(4 * w),
            nn.Conv2d(4 * w, c, 1),
        )
        self.standardise = nn.BatchNorm2d(c, affine=False, momentum=0.02)
        self.decoder = nn.Sequential(
            nn.Conv2d(c, 4 * w, 3, 1, 1),
            Residual(4 * w),
            Residual(4 * w),
            Upsample(4 * w, 2 * w),
            Residual(2 * w),
            Upsample(2 * w, w),
            Residual(w),
            nn.SiLU(),
            Upsample(w, 3),
        )

    def encode(self, video: Tensor) -> Tensor:
        """Pixels ``[B, F, 3, H, W]`` in -1..1 to latents ``[B, F, C, h, w]``, where it is."""
        video = video.to(next(self.parameters()).device)
        latents = self.standardise(self.encoder(video.flatten(0, 1)))
        out: Tensor = latents.unflatten(0, video.shape[:2])
        return out

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[B, F, C, h, w]`` to pixels ``[B, F, 3, H, W]`` in -1..1."""
        out: Tensor = self.decoder(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])
        return out

    def stream(self, past: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """A frame is decoded by itself, whatever its past."""
        return self.decode


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.Conv2d(width, width, 3, 1, 1)
        nn.init.zeros_(last.weight)  # starts as the identity
        self.body = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1), nn.SiLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape."""
        out: Tensor = x + self.body(x)
        return out


class Upsample(nn.Sequential):
    """Twice the size: a convolution to four values a cell, laid out as 2x2."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__(nn.Conv2d(inside, 4 * outside, 3, 1, 1), nn.PixelShuffle(2))


def reconstruction_loss(
    codec: AutoEncoder, video: Tensor, noise: Tensor, config: CodecConfig, decoder_only: bool
) -> Tensor:
    """Edge-weighted L1 + L2 of the decoded clip, from latents with noise on them.

    ``video``: ``[B, F, 3, H, W]``; ``noise``: standard normal ``[B, F, C, h, w]``. It teaches the
    decoder to render what a generator gets nearly right. While the decoder trains alone, each clip
    has its own noise level (drawn from the first value of its noise, so nothing else is random).
    """
    if decoder_only:
        with torch.no_grad():
            latents = codec.encode(video)
        share = torch.special.ndtr(noise[:, :1, :1, :1, :1])  # uniform in 0..1
        latents = latents + config.decoder_noise * share * noise
    else:
        latents = codec.encode(video) + config.latent_noise * noise
    error = codec.decode(latents) - video
    return (_edges(video, config.edge_weight) * (error.abs() + error.square())).mean()


def _edges(video: Tensor, weight: float) -> Tensor:
    """1, and up to ``1 + weight`` where a pixel differs from its neighbourhood."""
    flat = video.flatten(0, 1)
    blurred = nnf.avg_pool2d(nnf.pad(flat, (2, 2, 2, 2), mode="replicate"), 5, 1)
    contrast = (flat - blurred).abs().amax(1, keepdim=True)
    weights = 1 + weight * contrast.clamp(max=1)
    return weights.reshape(*video.shape[:2], *weights.shape[1:])
