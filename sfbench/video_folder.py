"""True videos of one's own, as a dataset: ``folder:PATH``, with or without captions.

A caption is the text of a ``.txt`` file beside the video, or a line of ``captions.csv`` or
``captions.jsonl`` (also called ``metadata``, as the Hugging Face hub has it) with the columns
``file`` and ``text``; without any it is the file's name. Frames are cut to the shape that is asked
for around the middle, scaled, and brought to the rate by leaving some out.

What is true of any videos of one's own, wherever they are kept, is :class:`OwnVideos`.

T frames, H height, W width.
"""

from __future__ import annotations

import csv
import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from .interfaces import Frames
from .schema import SceneRef, digest
from .video import SUFFIXES, Source, VideoError, stream

SCHEME, SHARDS = "folder", "shards"
OWN = (f"{SCHEME}:", f"{SHARDS}:")
"""How the names of datasets begin that hold videos of one's own."""
TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
FILE_COLUMNS = ("file", "file_name", "path", "video")
TEXT_COLUMNS = ("text", "caption", "prompt")
SPLITS = {"selection": range(0, 10), "test": range(10, 20), "train": range(20, 100)}
"""Per cent of the videos, by a hash of the file: adding videos moves none of the others."""
WHOLE = "all"
CACHE_BYTES = 2**30
"""Of frames as they were asked for; a video is asked for many times in a row."""
SLOWER = 1.01  # a file's rate may be this much under the rate that is wanted


class FolderError(ValueError):
    """Videos that cannot be used as a dataset; the text is one sentence."""


@dataclass(frozen=True)
class Filmed:
    """One true video, its header read."""

    path: Path
    """In a shard: the name that it has there."""
    text: str
    sha256: str
    fps: float
    frames: int | None
    """As the header says; ``None`` where it does not."""
    height: int
    width: int
    row: int = 0
    """Its number in the shards."""

    @property
    def split(self) -> str:
        """Where its hash puts it."""
        place = int(self.sha256[:8], 16) % 100
        return next(name for name, places in SPLITS.items() if place in places)

    def length(self, fps: float) -> int | None:
        """Frames that it has at another rate."""
        return None if self.frames is None else int(self.frames * fps / self.fps + 1e-6)


class OwnVideos(ABC):
    """Implements :class:`sfbench.interfaces.Dataset`; scenes are numbered in order of names.

    The split ``all`` is the whole of it, for a dataset that holds nothing but held-out videos.
    """

    def __init__(
        self,
        scheme: str,
        videos: Sequence[Filmed],
        size: int | tuple[int, int] | None = None,
        fps: float | None = None,
    ) -> None:
        """``size``: pixels a side, or height and width.

        Size and rate are, unless said, those of most of the videos.
        """
        self.videos = videos
        self.fps = fps or Counter(v.fps for v in videos).most_common(1)[0][0]
        for video in videos:
            if video.fps * SLOWER < self.fps:
                raise FolderError(
                    f"{video.path.name} runs at {video.fps:g} frames a second, and {self.fps:g} "
                    "are wanted, which it does not have; ask for fewer, or leave it out."
                )
        self.shape = (size, size) if isinstance(size, int) else size or _usual_shape(videos)
        self.level = f"{scheme}:{digest([[v.sha256, v.text] for v in videos])}"
        self._by_split: dict[str, list[Filmed]] = {}
        self._cache: OrderedDict[tuple[str, int], Frames] = OrderedDict()

    @abstractmethod
    def _source(self, video: Filmed) -> Source:
        """Where a video's bytes are."""

    def of_split(self, split: str, frames: int = 0) -> list[SceneRef]:
        """The scenes of a split that are known to have ``frames`` frames or more."""
        chosen = self._chosen(split)
        lengths = [video.length(self.fps) for video in chosen]
        return [
            SceneRef(dataset=self.level, split=split, index=n)
            for n, length in enumerate(lengths)
            if length is None or length >= frames
        ]

    def length(self, ref: SceneRef) -> int | None:
        """Frames that a scene has; ``None`` where its header does not say."""
        return self._video(ref).length(self.fps)

    def clip(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames ``uint8 [frames, H, W, 3]``; raises :class:`.video.VideoError`."""
        video, stop = self._video(ref), start + frames
        key = (ref.split, ref.index)
        kept = self._cache.pop(key, None)
        if kept is None or len(kept) < stop:
            kept = np.stack(list(self._read(video, stop)))
        self._cache[key] = kept
        while len(self._cache) > 1 and sum(c.nbytes for c in self._cache.values()) > CACHE_BYTES:
            self._cache.popitem(last=False)
        return kept[start:stop].copy()

    def clips(self, ref: SceneRef, frames: int, starts: Sequence[int]) -> Iterator[Frames]:
        """Clips that follow one another, in one pass and in the memory of one clip.

        ``starts`` ascend by ``frames`` or more.
        """
        later = list(starts)
        taken: list[Frames] = []
        for index, frame in enumerate(self._read(self._video(ref), starts[-1] + frames)):
            if index >= later[0]:
                taken.append(frame)
            if len(taken) == frames:
                yield np.stack(taken)
                taken, later = [], later[1:]

    def prompt(self, ref: SceneRef) -> str:
        """Its caption."""
        return self._video(ref).text

    def _video(self, ref: SceneRef) -> Filmed:
        if ref.dataset != self.level:
            raise FolderError(f"A video of '{ref.dataset}' is asked of '{self.level}'.")
        return self._chosen(ref.split)[ref.index]

    def _chosen(self, split: str) -> list[Filmed]:
        if split != WHOLE and split not in SPLITS:
            raise FolderError(f"There is no split '{split}'; they are {', '.join(SPLITS)}.")
        if split not in self._by_split:
            self._by_split[split] = [v for v in self.videos if split in (WHOLE, v.split)]
        return self._by_split[split]

    def _read(self, video: Filmed, count: int) -> Iterator[Frames]:
        """The first frames of a video, as they are wanted."""
        made = 0
        with stream(self._source(video)) as reader:
            for index, frame in enumerate(reader):
                # A video that is a little slower than what is wanted shows a frame twice.
                while made < count and index == int(made * video.fps / self.fps + 1e-6):
                    made += 1
                    yield fitted(frame, *self.shape)
                if made == count:
                    return
        raise VideoError(f"{video.path.name} has {made} of the {count} frames that are needed.")


class VideoFolder(OwnVideos):
    """A folder's videos."""

    def __init__(
        self, name: str, size: int | tuple[int, int] | None = None, fps: float | None = None
    ) -> None:
        """``name``: ``folder:PATH``; ``size``: pixels a side, or height and width."""
        self.root = Path(name.removeprefix(f"{SCHEME}:")).expanduser()
        super().__init__(SCHEME, _find(self.root), size, fps)

    def _source(self, video: Filmed) -> Source:
        return video.path


def fitted(frame: Frames, height: int, width: int) -> Frames:
    """The middle of a frame in another shape, ``uint8 [H, W, 3]``."""
    import cv2

    rows, columns = frame.shape[:2]
    if (rows, columns) == (height, width):
        return frame
    scale = min(rows / height, columns / width)
    cut_rows, cut_columns = (
        min(rows, round(scale * height)),
        min(columns, round(scale * width)),
    )
    top, left = (rows - cut_rows) // 2, (columns - cut_columns) // 2
    middle = frame[top : top + cut_rows, left : left + cut_columns]
    how = cv2.INTER_AREA if scale >= 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(middle, (width, height), interpolation=how), np.uint8)


# --- what a folder holds --------------------------------------------------------------------------


def _find(root: Path) -> list[Filmed]:
    if not root.is_dir():
        raise FolderError(f"'{root}' is no folder; a dataset is named folder:PATH.")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    files = [p for p in files if not p.name.startswith(".")]
    if not files:
        raise FolderError(f"'{root}' holds no video ({', '.join(SUFFIXES)}).")
    captions = _captions(root)
    if strangers := captions.keys() - {p.relative_to(root).as_posix() for p in files}:
        raise FolderError(
            f"There is no video '{min(strangers)}' in '{root}', though its captions name it."
        )
    return [_filmed(root, path, captions) for path in files]


def _filmed(root: Path, path: Path, captions: dict[str, str]) -> Filmed:
    beside = path.with_suffix(".txt")
    text = captions.get(path.relative_to(root).as_posix())
    if text is None:
        text = beside.read_text(encoding="utf-8") if beside.is_file() else path.stem
    stat = path.stat()
    seen = _seen(path.absolute(), stat.st_size, stat.st_mtime_ns)
    return replace(seen, path=path, text=" ".join(text.split()))


@lru_cache(maxsize=2**17)
def _seen(path: Path, size: int, changed: int) -> Filmed:
    """A file of that size, changed at that time: what it is. A process asks it of each once."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return filmed(path, path, "", sha256)


def filmed(source: Source, path: Path, text: str, sha256: str, row: int = 0) -> Filmed:
    """A video with what its header says; one that has none is refused."""
    try:
        with stream(source) as reader:
            header = (reader.fps, reader.declared_frames, reader.height, reader.width)
    except VideoError as error:
        raise FolderError(f"{str(error).removesuffix('.')}; mend it, or take it away.") from None
    return Filmed(path, " ".join(text.split()), sha256, *header, row)


def _captions(root: Path) -> dict[str, str]:
    """File, relative to the folder, to caption; of the first table that there is."""
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        return {}
    found: dict[str, str] = {}
    for number, row in _rows(table):
        file = next((row[c] for c in FILE_COLUMNS if isinstance(row.get(c), str)), None)
        text = next((row[c] for c in TEXT_COLUMNS if isinstance(row.get(c), str)), None)
        if file is None or text is None:
            raise FolderError(
                f"{table.name}, line {number} names no file and text; its columns are "
                f"{FILE_COLUMNS[0]} and {TEXT_COLUMNS[0]}."
            )
        found[Path(file).as_posix()] = text
    return found


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    text = table.read_text(encoding="utf-8-sig")
    if table.suffix == ".csv":
        for row in (reader := csv.DictReader(text.splitlines())):
            yield reader.line_num, row
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise FolderError(f"{table.name}, line {number} is no JSON object.")
        yield number, found


def _usual_shape(videos: Sequence[Filmed]) -> tuple[int, int]:
    return Counter((v.height, v.width) for v in videos).most_common(1)[0][0]
