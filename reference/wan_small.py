"""A small decoder in place of Wan's VAE: TAEHV's ``taew2_1``, for streams that must keep pace.

It approximates Wan's decoder with a 25th of its operations, so rows made with it have tables of
their own. Encoding stays Wan's. The architecture and the names of tensors are those of
madebyollin/taehv (``taehv.py``); its file is read as published, and the encoder in it is left
alone. The stream is exact: a block remembers one frame, the last that came in, and any division of
a clip gives the same pixels.

It takes latents as the DiT makes them, standardised, and gives pixels in 0..1. LightX2V's
``lighttaew2_1`` has the same tensors but takes latents that are not standardised; no tensor tells,
and it must not be used here. B batch, F latent frames, T pixel frames, C h w of a latent, H W
pixels, N frames of all videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as nnf
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoint import CheckpointError, sha256
from .wan_vae import TEMPORAL, WanCodec
from .wan_weights import Stored, check

WIDTHS = (256, 128, 64, 64)
"""Of the three stages and of what follows them; each stage ends at twice the height and width."""
FRAMES = (1, 2, 2)
"""That each stage makes of one."""
BLOCKS = 3
"""Of each stage."""
FIRST = "decoder.1.weight"
"""A tensor by whose name the weights are known."""
FILE = "small_decoder.safetensors"


class SmallCodec(WanCodec):
    """Encodes as Wan's VAE, decodes with a small network."""

    def __init__(self, vae: Any, network: SmallNetwork, origin: str) -> None:
        """``vae``: its decoder is replaced; ``origin``: of the network's weights, in words."""
        vae.decoder = network  # moves with the VAE; Wan's own would only take memory
        super().__init__(vae)
        self.origin = origin

    def decoder(self) -> SmallDecoder:
        """A stream from a video's first latent on."""
        return SmallDecoder(self.vae.decoder)


class SmallDecoder:
    """Latents to pixels; the first call starts with the first latent of a video."""

    def __init__(self, network: SmallNetwork) -> None:
        self.network, self.started = network, False
        self._past: dict[int, Tensor] = {}  # by place, the last frame that a block has seen

    def frames(self, latents: int) -> int:
        """Pixel frames that so many more latent frames make."""
        return TEMPORAL * latents - (0 if self.started else TEMPORAL - 1)

    def __call__(self, latents: Tensor) -> Tensor:
        """``[B, F, C, h, w]`` to pixels ``[B, T, 3, H, W]`` in -1..1: four a latent."""
        weight, batch = next(self.network.parameters()), len(latents)
        x = latents.to(weight.device, weight.dtype).flatten(0, 1)
        for place, layer in enumerate(self.network.decoder):
            remembers = isinstance(layer, Remember)
            x = layer(x, self._before(place, x, batch)) if remembers else layer(x)
        video = x.reshape(batch, -1, *x.shape[1:])
        if not self.started:  # of a video's first latent the last frame alone is a frame of it
            self.started, video = True, video[:, TEMPORAL - 1 :]
        return video.clamp(0, 1) * 2 - 1

    def _before(self, place: int, x: Tensor, batch: int) -> Tensor:
        """``[N, C, h, w]`` to the frame before each; zeros before a video's first."""
        videos = x.reshape(batch, -1, *x.shape[1:])
        last = self._past.get(place, torch.zeros_like(videos[:, :1]))
        self._past[place] = videos[:, -1:].clone()  # a view would keep all frames of this call
        return torch.cat((last, videos[:, :-1]), dim=1).flatten(0, 1)


# --- the network ----------------------------------------------------------------------------------


class SmallNetwork(nn.Module):
    """The layers under their published names: ``decoder.1.weight`` and so on."""

    def __init__(self, channels: int) -> None:
        """``channels``: of a latent."""
        super().__init__()
        layers: list[nn.Module] = [Squash(), _conv(channels, WIDTHS[0]), nn.ReLU()]
        for frames, width, following in zip(FRAMES, WIDTHS[:-1], WIDTHS[1:], strict=True):
            layers += [Remember(width) for _ in range(BLOCKS)]
            layers += [nn.Upsample(scale_factor=2), Grow(width, frames)]
            layers += [_conv(width, following, bias=False)]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), _conv(WIDTHS[-1], 3))


class Squash(nn.Module):
    """Bounds latents softly, to -3..3."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return 3 * torch.tanh(x / 3)


class Remember(nn.Module):
    """Three convolutions of a frame and the one before it, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inside = [nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)]
        self.conv = nn.Sequential(_conv(2 * width, width), *inside)

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        """Two ``[N, C, h, w]`` to the same shape."""
        return nnf.relu(self.conv(torch.cat((x, before), dim=1)) + x)


class Grow(nn.Module):
    """Several frames of each, made by one convolution of a pixel."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames, self.conv = frames, nn.Conv2d(width, frames * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, h, w]`` to ``[N * frames, C, h, w]``, the earlier ones first."""
        out: Tensor = self.conv(x)
        return out.reshape(len(x) * self.frames, *x.shape[1:])


def _conv(inside: int, outside: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, 3, padding=1, bias=bias)


# --- where weights come from ----------------------------------------------------------------------


def read(path: Path, channels: int) -> SmallNetwork:
    """The network at a path, for latents of so many channels; ``CheckpointError`` if none fits."""
    network, stored = found(path, channels)
    tensors = {name: stored[name].float() for name in network.state_dict()}
    network.load_state_dict(tensors, assign=True)
    return network.eval().requires_grad_(False)


def found(path: Path, channels: int) -> tuple[SmallNetwork, Stored]:
    """The network on the device ``meta``, and tensors that fit it, of which none is read."""
    if not path.is_file():
        raise CheckpointError(
            f"There is no file '{path}'; decoder=small:FILE names the safetensors of a small "
            "decoder (`sfbench convert-wan taew2_1.pth --out FOLDER` makes them)."
        )
    stored = Stored([path])
    return _fitting(stored.shapes(), channels, path.name), stored


def drawn(channels: int) -> SmallNetwork:
    """With random weights, of torch's generator: for timing."""
    network = SmallNetwork(channels)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
    *_, last = network.parameters()
    nn.init.constant_(last, 0.5)  # in the middle of 0..1, so that noise shows
    return network.eval().requires_grad_(False)


def origin(path: Path) -> str:
    """Of a file's weights, in words."""
    return f"the small decoder {path.name} ({sha256(path)[:12]})"


def is_small(tensors: Mapping[str, Tensor]) -> bool:
    """Whether they are a small decoder's, and no transformer's."""
    return FIRST in tensors


def write(tensors: Mapping[str, Tensor], out: Path, what: str) -> None:
    """The decoder's tensors as :data:`FILE` in a new folder; ``CheckpointError`` if they misfit."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    network = _fitting(shapes, tensors[FIRST].shape[1:2].numel(), what)
    out.mkdir(parents=True)
    save_file({name: tensors[name].contiguous() for name in network.state_dict()}, out / FILE)


def _fitting(shapes: Mapping[str, tuple[int, ...]], channels: int, what: str) -> SmallNetwork:
    """The network of these shapes, on the device ``meta``; an encoder beside it is passed over."""
    with torch.device("meta"):
        network = SmallNetwork(channels)
    own = {name: shape for name, shape in shapes.items() if not name.startswith("encoder.")}
    check(network, own, what)
    return network
