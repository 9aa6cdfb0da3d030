"""Training data: true clips of a dataset, drawn by (seed, step, sample) and cached as latents.

F frames of a clip, C H W of a latent. The pool is a fixed set of long clips; a sample is a window
of one. Randomness is a function of (seed, step, sample), so that a resumed run, or one on
another number of processes, sees the same clips.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sfbench.interfaces import Dataset
from sfbench.registry import load
from sfbench.schema import SceneRef

from .codec import AutoEncoder, to_video
from .config import DataConfig


def keyed(*key: int) -> np.random.Generator:
    """A NumPy generator that is a pure function of its key."""
    return np.random.default_rng(key)


def noise_for(keys: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Standard normal ``[B, *shape]``, each item a pure function of its key alone."""
    return torch.stack([torch.randn(*shape, generator=_torch_keyed(key)) for key in keys])


def _torch_keyed(key: Sequence[int]) -> torch.Generator:
    # blake2 rather than Python's hash: the same on every machine and version.
    text = ",".join(map(str, key)).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    return torch.Generator().manual_seed(seed)


class Pool:
    """The clips a model trains on: windows of ``data.frames`` frames of ``data.clips`` videos."""

    def __init__(self, data: DataConfig, split: str = "train") -> None:
        self.data, self.split = data, split
        self.dataset: Dataset = load("datasets", data.dataset)(data.dataset, data.size, data.fps)
        self._prompts: dict[int, str] = {}

    def windows(self, seed: int, step: int, samples: Sequence[int]) -> list[tuple[int, int]]:
        """``(clip, first frame)`` of these samples of a step."""
        last = self.data.clip_frames - self.data.frames
        draws = [keyed(seed, step, i, 101) for i in samples]
        return [(int(g.integers(self.data.clips)), int(g.integers(last + 1))) for g in draws]

    def pixels(self, windows: Sequence[tuple[int, int]], frames: int) -> Tensor:
        """True video ``[B, frames, 3, H, W]`` in -1..1."""
        clips = [self.dataset.clip(self._ref(i), frames, start) for i, start in windows]
        return to_video(np.stack(clips))

    def prompts(self, windows: Sequence[tuple[int, int]]) -> list[str]:
        """The text of each sample."""
        for clip, _ in windows:
            if clip not in self._prompts:
                self._prompts[clip] = self.dataset.prompt(self._ref(clip))
        return [self._prompts[clip] for clip, _ in windows]

    def _ref(self, clip: int) -> SceneRef:
        return SceneRef(dataset=self.data.dataset, split=self.split, index=clip)


@dataclass
class LatentPool:
    """A pool seen through a codec: all its latents, in one memory-mapped file."""

    pool: Pool
    latents: NDArray[np.float16]  # [clips, clip_frames, C, H, W]

    def clips(self, windows: Sequence[tuple[int, int]]) -> Tensor:
        """Latents ``[B, F, C, H, W]`` of the samples."""
        frames = self.pool.data.frames
        picked = [self.latents[clip, start : start + frames] for clip, start in windows]
        return torch.from_numpy(np.stack(picked)).float()

    @staticmethod
    @torch.no_grad()
    def open(
        pool: Pool,
        codec: AutoEncoder,
        codec_hash: str,
        folder: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LatentPool:
        """Encode the pool once, or map the file an earlier run left (named by what is in it)."""
        data = pool.data
        name = f"{data.dataset}-{data.size}px-{data.clips}x{data.clip_frames}-{codec_hash[:12]}"
        path = folder / f"latents-{name}.npy"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            # Two runs may encode at once: each writes a file of its own, and the renames agree.
            part = path.with_suffix(f".{np.random.SeedSequence().entropy}.part")
            store: np.memmap[tuple[int, ...], np.dtype[np.float16]] | None = None
            for first in range(0, data.clips, 32):
                windows = [(i, 0) for i in range(first, min(first + 32, data.clips))]
                batch = codec.encode(pool.pixels(windows, data.clip_frames)).half().numpy()
                if store is None:
                    shape = (data.clips, *batch.shape[1:])
                    store = np.lib.format.open_memmap(part, "w+", np.float16, shape)
                store[first : first + len(batch)] = batch
                progress(min(first + 32, data.clips), data.clips)
            assert store is not None
            store.flush()
            part.rename(path)
        return LatentPool(pool, np.load(path, mmap_mode="r"))
