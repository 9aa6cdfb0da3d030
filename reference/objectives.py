"""What the objectives share: the batch they draw, the flow-matching loss, and their protocol.

Formulas are those of Self Forcing (Huang et al., 2025) and its ancestors; each file
``objective_*.py`` holds one family. B batch, F frames, C H W of a latent frame, L text rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .config import MethodConfig, Preset
from .data import LatentPool, keyed, noise_for, sent
from .masks import block_causal, chunks_of, clean_and_noisy
from .model import DiT
from .text import TextEncoder

CPU = torch.device("cpu")
Metrics = dict[str, float | list[float]]
"""Figures for the log; a list has one value a chunk."""


class Objective(Protocol):
    """A training method: which networks take turns, and the loss of each turn."""

    players: dict[str, nn.Module]
    """The networks that are trained, by name; the first is the one that is shipped."""

    @property
    def draw(self) -> Draw | None:
        """Its randomness; whoever trains may narrow ``draw.samples`` to a part of the batch.

        ``None``: the batch is never divided, and each process computes the whole of it.
        """
        ...

    def turns(self, step: int) -> Sequence[str]:
        """Who is updated at this step, in order."""
        ...

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """The scalar a player descends, and figures for the log.

        A pure function of ``step`` and of the samples asked for; the losses of parts of a batch,
        weighted by their sizes, have the mean that the whole batch has.
        """
        ...


@dataclass(frozen=True)
class Batch:
    """One step's samples."""

    clips: Callable[[], Tensor]  # reads the latents
    text: Tensor  # [B, L, D]; some prompts are dropped

    @cached_property
    def latents(self) -> Tensor:
        """``[B, F, C, H, W]``, clean and true; read when first asked for, which not all do."""
        return self.clips()


@dataclass
class Draw:
    """All randomness of training: a function of (seed, step, sample, purpose)."""

    preset: Preset
    method: MethodConfig
    pool: LatentPool
    text: TextEncoder
    folder: Path = Path("cache")
    """Where what is computed once may be kept."""
    ancestors: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the weights that the networks start from, by role."""
    place: tuple[int, int] = (0, 1)
    """This process among how many."""
    samples: range = range(0)
    """Which of the batch's samples are computed now, by their number in the whole batch."""
    device: torch.device = CPU
    """Where what is drawn is wanted. All is drawn on the CPU, so that machines agree."""

    def __post_init__(self) -> None:
        self.samples = self.samples or range(self.method.batch)

    @property
    def share(self) -> float:
        """The part of the batch that is computed now."""
        return len(self.samples) / self.method.batch

    def batch(self, step: int, purpose: int = 0) -> Batch:
        """The true clips and prompts of a step."""
        windows = self.pool.pool.windows(self._seed(purpose), step, self.samples)
        prompts = self.pool.pool.prompts(windows)
        dropped = self._uniform(step, 7 + purpose, 1)[:, 0] < self.method.drop_text
        prompts = ["" if drop else p for drop, p in zip(dropped, prompts, strict=True)]
        return self.batch_of(windows, prompts)

    def batch_of(self, windows: Sequence[tuple[int, int]], prompts: Sequence[str]) -> Batch:
        """These windows of clips, under these prompts."""
        text = self.text(prompts).to(self.device)
        return Batch(lambda: sent(self.pool.clips(windows), self.device), text)

    def blank(self) -> Tensor:
        """The empty prompt's rows, ``[1, L, D]``."""
        return self.text([""]).to(self.device)

    def uniform(
        self, step: int, purpose: int, count: int, samples: Sequence[int] | None = None
    ) -> Tensor:
        """Numbers in 0..1, ``[B, count]``; of the samples asked for, or of others."""
        return sent(torch.from_numpy(self._uniform(step, purpose, count, samples)), self.device)

    def _uniform(
        self, step: int, purpose: int, count: int, samples: Sequence[int] | None = None
    ) -> NDArray[np.float32]:
        seed, chosen = self.preset.seed, self.samples if samples is None else samples
        rows = [keyed(seed, step, i, purpose).random(count) for i in chosen]
        return np.stack(rows).astype(np.float32)

    def noise(self, step: int, purpose: int, frames: int) -> Tensor:
        """Standard normal ``[B, frames, C, H, W]``."""
        shape = (frames, *self.preset.latent_shape)
        return sent(noise_for(self._keys(step, purpose), shape), self.device)

    def rollout_noise(self, step: int, purpose: int) -> Callable[[Sequence[int], int], Tensor]:
        """Noise for a rollout, keyed by frame and denoising step too."""
        keys = self._keys(step, purpose)

        def noise(frames: Sequence[int], denoising: int) -> Tensor:
            shape = self.preset.latent_shape
            parts = [noise_for([(*k, f, denoising) for k in keys], shape) for f in frames]
            return sent(torch.stack(parts, dim=1), self.device)

        return noise

    def _keys(self, step: int, purpose: int) -> list[tuple[int, ...]]:
        return [(self.preset.seed, step, i, purpose) for i in self.samples]

    def _seed(self, purpose: int) -> int:
        return self.preset.seed * 1000 + purpose


class Chunks:
    """How clips are cut for a generator, and the two passes over all chunks at once."""

    def __init__(self, draw: Draw, generator: DiT) -> None:
        self.config, self.frames = generator.config, draw.preset.data.frames
        self.all = chunks_of(self.frames, self.config.frames_per_chunk, self.config.first_alone)

    def a_frame(self, values: Tensor) -> Tensor:
        """``[B, chunks]`` as ``[B, F]``."""
        # Not repeat_interleave, which on a GPU waits to learn how many there will be.
        each = zip(values.unbind(1), self.all, strict=True)
        return torch.cat([value[:, None].expand(-1, len(chunk)) for value, chunk in each], dim=1)

    def after_noisy(self, network: DiT, x_t: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        """x0 of chunks that see the noisy ones before them (diffusion forcing)."""
        mask = block_causal(self.frames, *self.config.context)
        out: Tensor = network(x_t, sigma, text, mask=mask)
        return out

    def after_clean(self, network: DiT, batch: Batch, x_t: Tensor, sigma: Tensor) -> Tensor:
        """x0 of noisy chunks that see the clean true ones before them (teacher forcing)."""
        out: Tensor = network(
            torch.cat((batch.latents, x_t), dim=1),
            torch.cat((torch.zeros_like(sigma), sigma), dim=1),
            batch.text,
            positions=[*range(self.frames), *range(self.frames)],  # both are the same moments
            mask=clean_and_noisy(self.frames, *self.config.context),
        )
        return out[:, self.frames :]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is computed here has gradients for its inputs and none for these parameters."""
    trained = [p for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def flow_loss(prediction: Tensor, x0: Tensor, sigma: Tensor, floor: float) -> Tensor:
    """Flow-matching loss a frame, ``[B, F]``: ``|v_hat - v|^2 (sigma / max(sigma, floor))^2``.

    As ``v_hat - v = (x0 - x0_hat) / sigma``, this is ``|x0_hat - x0|^2 / max(sigma, floor)^2``:
    finite at level 0. With ``floor`` 0 it is the plain velocity loss.
    """
    error = (prediction - x0).square().mean(dim=(2, 3, 4))
    return error / sigma.clamp(min=max(floor, 1e-3)).square()


def by_chunk(values: Tensor, chunks: Sequence[range]) -> list[float]:
    """The mean of each chunk of per-frame values ``[B, F]``, for the log."""
    means = [values.detach()[:, c.start : c.stop].mean() for c in chunks]
    found: list[float] = torch.stack(means).tolist()
    return found
