"""Wan's causal video VAE as a stream: exact, a few frames at a time, in memory of a fixed size.

The networks are diffusers' ``AutoencoderKLWan``; ours is the owner of their caches, which keep the
last frames that each causal convolution has seen. A latent frame is 8 x 8 pixels and four frames,
except for the first, which is one frame. B batch, F latent frames, T pixel frames, C h w of a
latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

TEMPORAL = 4


class WanCodec:
    """The VAE of a clip: standardised latents, and streams either way."""

    temporal = TEMPORAL

    def __init__(self, vae: Any) -> None:
        """``vae``: an ``AutoencoderKLWan`` in evaluation mode."""
        self.vae, self.channels = vae, int(vae.config.z_dim)
        shape = (1, 1, vae.config.z_dim, 1, 1)
        self.mean = torch.tensor(vae.config.latents_mean).view(shape)
        self.std = torch.tensor(vae.config.latents_std).view(shape)

    def encode(self, video: Tensor) -> Tensor:
        """Pixels ``[B, 4 F - 3, 3, H, W]`` in -1..1 to latents ``[B, F, C, h, w]``."""
        return self.encoder()(video)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents ``[B, F, C, h, w]`` to pixels ``[B, 4 F - 3, 3, H, W]`` in -1..1."""
        return self.stream()(latents)

    def encoder(self) -> Encoder:
        """Encodes a video from its first frame on, piece by piece."""
        return Encoder(self)

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """Decodes a video from its first latent on, piece by piece."""
        return Decoder(self)

    def stream(self, past: Tensor | None = None) -> Callable[[Tensor], Tensor]:
        """Decodes a video piece by piece; ``past``: latents ``[B, F, C, h, w]`` before it."""
        decoder = self.decoder()
        for place in range(0 if past is None else past.shape[1]):
            assert past is not None
            decoder(past[:, place : place + 1])  # only the caches are wanted
        return decoder


class _Stream:
    """The caches of one network, one a causal convolution, between calls."""

    def __init__(self, codec: WanCodec, network: Any) -> None:
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

        self.codec, self.vae, self.network = codec, codec.vae, network
        self.started = False
        convolutions = sum(isinstance(m, WanCausalConv3d) for m in network.modules())
        self._caches: list[Any] = [None] * convolutions

    def _run(self, x: Tensor, **how: Any) -> Tensor:
        out: Tensor = self.network(x, feat_cache=self._caches, feat_idx=[0], **how)
        return out

    def _like(self, x: Tensor) -> Tensor:
        weight = next(self.network.parameters())
        return x.to(weight.device, weight.dtype)


class Decoder(_Stream):
    """Latents to pixels; the first call starts with the first latent of a video."""

    def __init__(self, codec: WanCodec) -> None:
        super().__init__(codec, codec.vae.decoder)

    def frames(self, latents: int) -> int:
        """Pixel frames that so many more latent frames make."""
        return TEMPORAL * latents - (0 if self.started else TEMPORAL - 1)

    def __call__(self, latents: Tensor) -> Tensor:
        """``[B, F, C, h, w]`` to pixels ``[B, T, 3, H, W]`` in -1..1: four a latent."""
        codec = self.codec
        x = self._like(latents * codec.std.to(latents) + codec.mean.to(latents)).movedim(1, 2)
        x = self.vae.post_quant_conv(x)
        parts = []
        if not self.started:  # the first latent is not upsampled in time, so it goes by itself
            parts.append(self._run(x[:, :, :1], first_chunk=True))
            self.started, x = True, x[:, :, 1:]
        if x.shape[2]:
            parts.append(self._run(x))
        return torch.cat(parts, dim=2).movedim(2, 1).clamp(-1, 1)


class Encoder(_Stream):
    """Pixels to latents; the first call starts with the first frame of a video."""

    def __init__(self, codec: WanCodec) -> None:
        super().__init__(codec, codec.vae.encoder)

    def __call__(self, video: Tensor) -> Tensor:
        """``[B, T, 3, H, W]`` in -1..1 to the latents' means ``[B, F, C, h, w]``.

        T is a multiple of 4, in the first call one more. Raises ``ValueError``.
        """
        codec, frames = self.codec, video.shape[1]
        if frames % TEMPORAL != (0 if self.started else 1):
            raise ValueError(
                f"{frames} frames are no whole latents: {TEMPORAL} make one, the first alone"
            )
        x = self._like(video).movedim(1, 2)
        parts = []
        if not self.started:
            parts.append(self._run(x[:, :, :1]))
            self.started, x = True, x[:, :, 1:]
        starts = range(0, x.shape[2], TEMPORAL)  # in parts, so that memory does not grow with T
        parts += [self._run(x[:, :, start : start + TEMPORAL]) for start in starts]
        mean = self.vae.quant_conv(torch.cat(parts, dim=2)).chunk(2, dim=1)[0].movedim(2, 1)
        latents: Tensor = (mean - codec.mean.to(mean)) / codec.std.to(mean)
        return latents
