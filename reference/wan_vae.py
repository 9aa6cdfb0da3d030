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
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Of the weights of convolutions, as a GPU's fastest kernels take them."""


class WanCodec:
    """The VAE of a clip: standardised latents, and streams either way."""

    temporal = TEMPORAL

    def __init__(self, vae: Any) -> None:
        """``vae``: an ``AutoencoderKLWan`` in evaluation mode."""
        self.vae, self.channels = vae, int(vae.config.z_dim)
        shape = (1, 1, vae.config.z_dim, 1, 1)
        self.mean = torch.tensor(vae.config.latents_mean).view(shape)
        self.std = torch.tensor(vae.config.latents_std).view(shape)
        self.decoding: Callable[..., Tensor] = vae.decoder
        self.layout: torch.memory_format | None = None  # of caches, where it must not change

    def prepare(self, *, channels_last: bool, compiled: bool) -> None:
        """Make decoding fast; what comes out is the same but for rounding.

        The compiler is called once a state of the caches: for a first latent, a first chunk after
        it, and all later ones.
        """
        if channels_last:
            for parameter in self.vae.decoder.parameters():
                if form := FORMATS.get(parameter.dim()):
                    parameter.data = parameter.data.contiguous(memory_format=form)
        if compiled:
            run = self.vae.decoder.forward
            self.decoding = torch.compile(run, dynamic=False)
            self.layout = torch.channels_last_3d if channels_last else torch.contiguous_format

    def scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of latents, where ``like`` is."""
        if self.mean.device != like.device:  # once: a GPU is waited for when memory is copied
            self.mean, self.std = self.mean.to(like.device), self.std.to(like.device)
        return self.mean.to(like.dtype), self.std.to(like.dtype)

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

    def __init__(self, codec: WanCodec, network: Any, run: Callable[..., Tensor]) -> None:
        """``run``: the network's own call, or what stands for it."""
        from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

        self.codec, self.vae, self.network, self._call = codec, codec.vae, network, run
        self.started = False
        convolutions = sum(isinstance(m, WanCausalConv3d) for m in network.modules())
        self._caches: list[Any] = [None] * convolutions

    def _run(self, x: Tensor, **how: Any) -> Tensor:
        out = self._call(x, feat_cache=self._caches, feat_idx=[0], **how)
        if layout := self.codec.layout:  # another would have all compiled anew
            for place, cache in enumerate(self._caches):
                if isinstance(cache, Tensor):
                    self._caches[place] = cache.contiguous(memory_format=layout)
        return out

    def _like(self, x: Tensor) -> Tensor:
        weight = next(self.network.parameters())
        return x.to(weight.device, weight.dtype)


class Decoder(_Stream):
    """Latents to pixels; the first call starts with the first latent of a video."""

    def __init__(self, codec: WanCodec) -> None:
        super().__init__(codec, codec.vae.decoder, codec.decoding)

    def frames(self, latents: int) -> int:
        """Pixel frames that so many more latent frames make."""
        return TEMPORAL * latents - (0 if self.started else TEMPORAL - 1)

    def __call__(self, latents: Tensor) -> Tensor:
        """``[B, F, C, h, w]`` to pixels ``[B, T, 3, H, W]`` in -1..1: four a latent."""
        mean, std = self.codec.scale(latents)
        x = self._like(latents * std + mean).movedim(1, 2)
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
        super().__init__(codec, codec.vae.encoder, codec.vae.encoder)

    def __call__(self, video: Tensor) -> Tensor:
        """``[B, T, 3, H, W]`` in -1..1 to the latents' means ``[B, F, C, h, w]``.

        T is a multiple of 4, in the first call one more. Raises ``ValueError``.
        """
        frames = video.shape[1]
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
        means = self.vae.quant_conv(torch.cat(parts, dim=2)).chunk(2, dim=1)[0].movedim(2, 1)
        mean, std = self.codec.scale(means)
        latents: Tensor = (means - mean) / std
        return latents
