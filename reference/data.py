"""Training data: true clips of a dataset, drawn by (seed, step, sample) and cached as latents.

F latent frames of a clip, C H W of one. The pool is a fixed set of long clips; a sample is a window
of one. Randomness is a function of (seed, step, sample), so that a resumed run, or one on
another number of processes, sees the same clips.

The embedded world makes each clip when it is asked for. Videos of one's own are decoded once, by
processes of their own, and only those that the split ``train`` holds. A file of prompts has no
clips; a sample is one of its lines.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from sfbench.interfaces import Dataset, Frames
from sfbench.prompt_file import PromptFile
from sfbench.registry import load_dataset
from sfbench.schema import SceneRef
from sfbench.video import VideoError
from sfbench.video_folder import OwnVideos

from .codec import Codec, frames_of, to_video
from .config import ConfigError, DataConfig
from .stored import Part, Progress, stored

Place = tuple[SceneRef, int]
"""A video, and the frame of it where a clip starts."""


def keyed(*key: int) -> np.random.Generator:
    """A NumPy generator that is a pure function of its key."""
    return np.random.default_rng(key)


def noise_for(keys: Sequence[Sequence[int]], shape: Sequence[int]) -> Tensor:
    """Standard normal ``[B, *shape]``, each item a pure function of its key alone."""
    drawn = [torch.randn(*shape, generator=_torch_keyed(key), device="cpu") for key in keys]
    return torch.stack(drawn)


def sent(x: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's, on a device. From pinned memory, or the host would wait for all that
    it has asked a GPU for before."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def _torch_keyed(key: Sequence[int]) -> torch.Generator:
    # blake2 rather than Python's hash: the same on every machine and version.
    text = ",".join(map(str, key)).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1
    return torch.Generator().manual_seed(seed)


class Pool:
    """The clips a model trains on: windows of ``data.frames`` frames of ``data.clips`` clips."""

    def __init__(self, data: DataConfig, split: str = "train", temporal: int = 1) -> None:
        """``temporal``: pixel frames a latent frame, the first apart (:func:`.codec.frames_of`)."""
        self.data, self.split = data, split
        self.length = frames_of(data.clip_frames, temporal)
        self.dataset = _dataset(data)
        self.own = self.dataset if isinstance(self.dataset, OwnVideos) else None
        self.places = _places(self.own, data, split, self.length) if self.own else []
        self.count = len(self.places) if self.own else data.clips
        if isinstance(self.dataset, PromptFile):
            self.count = len(self.dataset.prompts)
        self._kept: NDArray[Any] | None = None
        self._prompts: dict[int, str] = {}

    @property
    def name(self) -> str:
        """Names its content, for files that hold it; the path of one's own videos is none of it."""
        tail = f"{self.count}x{self.length}"
        if self.own is None:
            return f"{self.data.dataset}-{self.data.size}px-{tail}"
        height, width = self.data.shape
        content = self.own.level.replace(":", "-")
        return f"{content}-{self.split}-{height}x{width}px-{self.data.fps:g}fps-{tail}"

    def windows(self, seed: int, step: int, samples: Sequence[int]) -> list[tuple[int, int]]:
        """``(clip, first frame)`` of these samples of a step."""
        last = self.data.clip_frames - self.data.frames
        draws = [keyed(seed, step, i, 101) for i in samples]
        return [(int(g.integers(self.count)), int(g.integers(last + 1))) for g in draws]

    def pixels(self, windows: Sequence[tuple[int, int]], frames: int) -> Tensor:
        """True video ``[B, frames, 3, H, W]`` in -1..1."""
        return to_video(np.stack([self._frames(clip, start, frames) for clip, start in windows]))

    def prompts(self, windows: Sequence[tuple[int, int]]) -> list[str]:
        """The text of each sample."""
        for clip, _ in windows:
            if clip not in self._prompts:
                self._prompts[clip] = self.dataset.prompt(self._place(clip)[0])
        return [self._prompts[clip] for clip, _ in windows]

    def texts(self) -> list[str]:
        """Every text that training may ask for, the empty one among them; in order, each once."""
        return sorted({"", *self.prompts([(clip, 0) for clip in range(self.count)])})

    def captions(self) -> list[str]:
        """The text of each of one's own videos that is trained on."""
        whole = self.dataset.prompt
        return [whole(ref) for ref, start in self.places if not start]

    def keep(self, folder: Path, progress: Progress = lambda done, total: None) -> None:
        """Decode one's own videos once, to a file; single frames of any are then at hand."""
        if self.own is None:
            return
        parts = ((slice(n, n + 1), clip[None]) for n, clip in self._decoded())
        self._kept = stored(self._pixel_file(folder), parts, self.count, progress)

    def whole(self, folder: Path) -> Iterator[tuple[int, Frames]]:
        """Each clip of one's own videos and its number: as kept, or as it is decoded."""
        if self._kept is None and self._pixel_file(folder).exists():
            self._kept = np.load(self._pixel_file(folder), mmap_mode="r")
        if self._kept is None:
            return self._decoded()
        return ((number, np.array(clip)) for number, clip in enumerate(self._kept))

    def _pixel_file(self, folder: Path) -> Path:
        return folder / f"pixels-{self.name}.npy"

    def _decoded(self) -> Iterator[tuple[int, Frames]]:
        """Each clip as one of ``data.workers`` processes has decoded it, in no fixed order."""
        assert self.own is not None
        decoding = Decoding(self.own, self.places, self.length)
        workers = min(self.data.workers, os.cpu_count() or 1, len(decoding.jobs))
        loader = DataLoader(
            decoding,
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            # Not forked: a decoder's threads, and OpenCV's, do not live on in a copy of a process,
            # and a copy that tidies away a decoder of this one waits for them for ever.
            multiprocessing_context="spawn" if workers else None,
            # Its own: to draw from the global one would change the networks that are made next.
            generator=torch.Generator("cpu"),
        )
        for number, clip in loader:
            if isinstance(clip, str):
                raise VideoError(f"{clip.removesuffix('.')}; mend it, or take it away.")
            yield number, clip

    def _frames(self, clip: int, start: int, frames: int) -> Frames:
        if self._kept is not None:
            return np.asarray(self._kept[clip, start : start + frames])
        ref, first = self._place(clip)
        return self.dataset.clip(ref, frames, first + start)

    def _place(self, clip: int) -> Place:
        if self.own is not None:
            return self.places[clip]
        return SceneRef(dataset=self.data.dataset, split=self.split, index=clip), 0


@dataclass
class LatentPool:
    """A pool seen through a codec: all its latents, in one memory-mapped file."""

    pool: Pool
    latents: NDArray[Any] | None  # float16 [clips, clip_frames, C, H, W]; None: prompts alone

    def clips(self, windows: Sequence[tuple[int, int]]) -> Tensor:
        """Latents ``[B, F, C, h, w]`` of the samples."""
        assert self.latents is not None, "ancestry.needs_clips says that this row reads no clips"
        frames = self.pool.data.frames
        picked = [self.latents[clip, start : start + frames] for clip, start in windows]
        return torch.from_numpy(np.stack(picked)).float()

    @staticmethod
    @torch.no_grad()
    def open(
        pool: Pool,
        codec: Codec,
        codec_hash: str,
        folder: Path,
        progress: Progress = lambda done, total: None,
    ) -> LatentPool:
        """Encode the pool once, or map the file an earlier run left (named by what is in it)."""
        path = folder / f"latents-{pool.name}-{codec_hash[:12]}.npy"
        parts = _encoded(pool, codec, folder)
        return LatentPool(pool, stored(path, parts, pool.count, progress))


class Decoding(IterableDataset[tuple[int, Any]]):
    """One's own videos, each decoded in one pass by one process: ``(number, clip)``.

    A video that cannot be decoded is a sentence in place of a clip: what a process raises comes out
    as a traceback.
    """

    def __init__(self, videos: OwnVideos, places: Sequence[Place], frames: int) -> None:
        self.videos, self.frames = videos, frames
        by_video: dict[int, list[tuple[int, Place]]] = {}
        for number, place in enumerate(places):
            by_video.setdefault(place[0].index, []).append((number, place))
        self.jobs = [*by_video.values()]

    def __iter__(self) -> Iterator[tuple[int, Frames | str]]:
        """Every n-th video, of the n-th process."""
        info = get_worker_info()
        for job in self.jobs[info.id :: info.num_workers] if info else self.jobs:
            numbers = [number for number, _ in job]
            (ref, _), starts = job[0][1], [start for _, (_, start) in job]
            try:
                yield from zip(numbers, self.videos.clips(ref, self.frames, starts), strict=True)
            except VideoError as error:
                yield numbers[0], str(error)


# --- helpers --------------------------------------------------------------------------------------


def recognised(data: DataConfig) -> DataConfig:
    """With the hash of what one's own videos or prompts are, which a recipe names them by."""
    own = _dataset(data)
    return replace(data, content=own.level) if isinstance(own, OwnVideos | PromptFile) else data


def _dataset(data: DataConfig) -> Dataset:
    try:
        made: Dataset = load_dataset(data.dataset)(data.dataset, data.size, data.fps)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise ConfigError(f"data.dataset {data.dataset}: {error}.") from None
    return made


def _places(videos: OwnVideos, data: DataConfig, split: str, frames: int) -> list[Place]:
    """Where clips of so many frames start, at most ``data.clips``: the first clips of all videos,
    then the second."""
    refs = videos.of_split(split)
    if not refs:
        raise ConfigError(
            f"'{data.dataset}' holds {len(videos.videos)} videos, and none of them is in the split "
            f"'{split}', which four of five are in by a hash of the file; add videos."
        )
    lengths = [videos.length(ref) for ref in refs]
    # Where a header does not say how long a video is, one clip is hoped for.
    counts = [1 if n is None else n // frames for n in lengths]
    if not any(counts):
        raise ConfigError(
            f"None of the {len(refs)} training videos of '{data.dataset}' has the "
            f"{frames} frames at {data.fps:g} a second that are needed (the longest has "
            f"{max(n or 0 for n in lengths)}); set data.clip_frames, and data.frames, which may "
            "not be more, to less."
        )
    return [
        (ref, turn * frames)
        for turn in range(max(counts))
        for ref, count in zip(refs, counts, strict=True)
        if turn < count
    ][: data.clips]


def _encoded(pool: Pool, codec: Codec, folder: Path) -> Iterator[Part]:
    if pool.own is not None:
        for number, clip in pool.whole(folder):
            # One by one, for the order in which clips come is that of the processes.
            yield slice(number, number + 1), _half(codec.encode(to_video(clip)[None]))
        return
    for first in range(0, pool.count, 32):
        windows = [(i, 0) for i in range(first, min(first + 32, pool.count))]
        batch = _half(codec.encode(pool.pixels(windows, pool.length)))
        yield slice(first, first + len(batch)), batch


def _half(latents: Tensor) -> NDArray[Any]:
    return latents.half().cpu().numpy()


def _as_it_is(item: Any) -> Any:
    """Arrays stay arrays: as tensors they would pass through shared memory, which may be small."""
    return item
