"""Videos of one's own in shards of both formats: those of the folder, and no network."""

from __future__ import annotations

import io
import json
import socket
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("datasets")
import datasets
import pyarrow
from pyarrow import parquet

from sfbench.reference.config import DataConfig
from sfbench.reference.data import Pool
from sfbench.registry import load_dataset
from sfbench.schema import SceneRef
from sfbench.tasks.video_exposure import VideoExposure
from sfbench.video import VideoError, write_clip
from sfbench.video_folder import SPLITS, FolderError, OwnVideos, VideoFolder

from test_video_folder import film

COUNT = 9


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and whoever asks for the network is an error."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("the network is asked for something")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the shards are made of."""
    root = tmp_path_factory.mktemp("films")
    for n in range(COUNT):
        write_clip(root / f"{n:03}.mp4", film(n), fps=16)
        (root / f"{n:03}.txt").write_text(f"film {n}, described")
    return root


def contents(folder: Path) -> list[tuple[str, bytes, str]]:
    """Key, bytes and caption of each video."""
    return [
        (path.stem, path.read_bytes(), path.with_suffix(".txt").read_text())
        for path in sorted(folder.glob("*.mp4"))
    ]


def tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def with_text(folder: Path, out: Path) -> str:
    """Two shards, captions beside the videos."""
    films = contents(folder)
    for number, part in enumerate((films[:4], films[4:])):
        members = [
            m
            for key, data, text in part
            for m in ((f"{key}.mp4", data), (f"{key}.txt", text.encode()))
        ]
        tar(out / f"train-{number}.tar", members)
    return "train-*.tar"


def with_json(folder: Path, out: Path) -> str:
    """Captions in JSON; the later ones have fields that the first ones have not."""
    members = []
    for n, (key, data, text) in enumerate(contents(folder)):
        told: dict[str, Any] = {"caption": text} if n % 2 else {"text": text, "extra": None}
        told |= {"extra": "words", "list": [1, {"a": 2}]} if n > 6 else {}
        members += [(f"{key}.json", json.dumps(told).encode()), (f"{key}.mp4", data)]
    tar(out / "all.tar", members)
    return "all.tar"


def with_bytes(folder: Path, out: Path) -> str:
    films = contents(folder)
    for number, part in enumerate((films[:4], films[4:])):
        table = {
            "video": [data for _, data, _ in part],
            "caption": [text for *_, text in part],
            "embedding": [[0.5] * 8] * len(part),
        }
        parquet.write_table(pyarrow.table(table), out / f"part-{number}.parquet")
    return "part-*.parquet"


def as_declared(folder: Path, out: Path) -> str:
    """As the hub has it: a column that says it is video, which the package itself would decode."""
    films = contents(folder)
    kinds = {"video": datasets.Video(), "prompt": datasets.Value("string")}
    columns = {
        "video": [{"bytes": data, "path": f"{key}.mp4"} for key, data, _ in films],
        "prompt": [text for *_, text in films],
    }
    table = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
    table.to_parquet(out / "hub.parquet")
    return "hub.parquet"


def with_paths(folder: Path, out: Path) -> str:
    table = {"file_name": [], "text": []}
    for key, data, text in contents(folder):
        (out / "files").mkdir(exist_ok=True)
        (out / "files" / f"{key}.mp4").write_bytes(data)
        table["file_name"].append(f"files/{key}.mp4")
        table["text"].append(text)
    parquet.write_table(pyarrow.table(table), out / "paths.parquet")
    return "paths.parquet"


MAKERS = (with_text, with_json, with_bytes, as_declared, with_paths)


def opened(pattern: str | Path, *given: Any) -> OwnVideos:
    name = f"shards:{pattern}"
    dataset: OwnVideos = load_dataset(name)(name, *given)
    return dataset


# --- the same videos ------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_shards_hold_what_the_folder_holds(make: Any, folder: Path, tmp_path: Path) -> None:
    shards = opened(tmp_path / make(folder, tmp_path))
    own = VideoFolder(f"folder:{folder}")
    assert (shards.shape, shards.fps) == (own.shape, own.fps)
    for split in (*SPLITS, "all"):
        there, here = shards.of_split(split), own.of_split(split)
        assert [shards.prompt(ref) for ref in there] == [own.prompt(ref) for ref in here]
        assert [shards.length(ref) for ref in there] == [8] * len(here)
        for one, other in zip(there, here, strict=True):
            assert (shards.clip(one, 5, 2) == own.clip(other, 5, 2)).all()
    assert shards.level.partition(":")[2] == own.level.partition(":")[2]  # of content alone


def test_any_row_can_be_had_at_once(folder: Path, tmp_path: Path) -> None:
    shards = opened(tmp_path / with_text(folder, tmp_path), (12, 16), 8)
    for n in (8, 0, 5):
        ref = SceneRef(dataset=shards.level, split="all", index=n)
        assert shards.clip(ref, 4).shape == (4, 12, 16, 3)
        assert [c.shape for c in shards.clips(ref, 2, [0, 2])] == [(2, 12, 16, 3)] * 2


def test_a_model_trains_on_shards_as_on_a_folder(folder: Path, tmp_path: Path) -> None:
    """The pool, decoded in a process that gets the shards by their name on disk."""
    pattern = tmp_path / with_text(folder, tmp_path)
    config = {"size": (16, 24), "fps": 16, "frames": 2, "clip_frames": 4}
    pools = [
        Pool(DataConfig(dataset=name, workers=workers, **config))  # type: ignore[arg-type]
        for name, workers in ((f"shards:{pattern}", 1), (f"folder:{folder}", 0))
    ]
    for pool in pools:
        pool.keep(tmp_path / "pool")
    windows = pools[0].windows(0, 0, range(16))
    first, second = (pool.pixels(windows, 2) for pool in pools)
    assert (first == second).all() and first.shape == (16, 2, 3, 16, 24)
    assert pools[0].prompts(windows) == pools[1].prompts(windows)


def test_a_task_takes_them_as_videos_of_ones_own(folder: Path, tmp_path: Path) -> None:
    pattern = tmp_path / with_bytes(folder, tmp_path)
    task = VideoExposure(f"shards:{pattern}", "smoke", prefix=2, frames=4, features="thumbs")
    assert task.reference_rows == ("replay:truth",) and len(task.scenes) == 8
    assert str(tmp_path) not in task.card.model_dump_json()


# --- what is refused ------------------------------------------------------------------------------


def refused(pattern: Path, said: str) -> None:
    with pytest.raises(FolderError, match=said) as error:
        opened(pattern)
    assert "\n" not in str(error.value)


def test_patterns_that_match_nothing_or_too_much(folder: Path, tmp_path: Path) -> None:
    refused(tmp_path / "*.tar", "No file matches")
    with_text(folder, tmp_path)
    with_bytes(folder, tmp_path)
    refused(tmp_path / "*-0.*", r"files ending in \.parquet, \.tar; shards are all")
    (tmp_path / "x.zip").touch()
    refused(tmp_path / "x.zip", r"files ending in \.zip")


def test_shards_that_are_none(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no archive" * 99)
    refused(tmp_path / "x.tar", "cannot be read")
    (tmp_path / "x.parquet").write_bytes(b"no table" * 99)
    refused(tmp_path / "x.parquet", r"x\.parquet cannot be read as Parquet")
    tar(tmp_path / "empty.tar", [("a.txt", b"a caption")])
    refused(tmp_path / "empty.tar", "Row 0 of the shards .* holds no video")
    parquet.write_table(pyarrow.table({"n": [1]}), tmp_path / "n.parquet")
    refused(tmp_path / "n.parquet", r"n\.parquet holds no video; its columns are n,")


def test_a_video_without_a_caption_is_named(folder: Path, tmp_path: Path) -> None:
    (key, data, text), (other, *_) = contents(folder)[:2]
    tar(
        tmp_path / "x.tar",
        [(f"{key}.mp4", data), (f"{key}.txt", text.encode()), (f"a/{other}.mp4", data)],
    )
    refused(tmp_path / "x.tar", r"001\.mp4 of the shards .* has no caption")


def test_a_broken_video_is_named(folder: Path, tmp_path: Path) -> None:
    ((key, data, text), *_) = contents(folder)
    tar(tmp_path / "x.tar", [(f"{key}.mp4", b"no video"), (f"{key}.txt", text.encode())])
    refused(tmp_path / "x.tar", r"000\.mp4 cannot be read as video .*; mend it, or take it away")
    spoilt = bytearray(data)
    start = spoilt.index(b"mdat") + 200
    spoilt[start : start + 2000] = bytes(2000)
    tar(tmp_path / "y.tar", [(f"{key}.mp4", bytes(spoilt)), (f"{key}.txt", text.encode())])
    shards = opened(tmp_path / "y.tar")
    with pytest.raises(VideoError, match=r"^000\.mp4 "):
        shards.clip(shards.of_split("all")[0], 8)


def test_a_path_that_leads_to_nothing(tmp_path: Path) -> None:
    table = {"path": ["gone.mp4"], "text": ["a"]}
    parquet.write_table(pyarrow.table(table), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", r"gone\.mp4 cannot be read")


def test_the_package_that_is_missing_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = with_text(folder, tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(tmp_path / pattern, r"pip install 'sfbench\[shards\]'")
