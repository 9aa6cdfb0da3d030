"""True videos of one's own as a dataset: captions, splits, shapes, rates, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfbench import video_folder
from sfbench.interfaces import Frames
from sfbench.registry import load_dataset
from sfbench.schema import SceneRef
from sfbench.video import VideoError, write_clip
from sfbench.video_folder import SPLITS, FolderError, VideoFolder, fitted

import real_videos


def film(seed: int, frames: int = 8, height: int = 24, width: int = 32) -> Frames:
    """A ramp that moves one pixel a frame, by seed: frame n shows n in its first pixel."""
    rng = np.random.default_rng(seed)
    still = rng.integers(0, 200, (height, width, 3), dtype=np.uint8)
    clip = np.stack([np.roll(still, n, axis=1) for n in range(frames)])
    clip[:, 0, 0] = np.arange(frames)[:, None]
    return clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(3):
        write_clip(tmp_path / f"video {n}.mp4", film(n), fps=16)
    return tmp_path


def name(folder: Path) -> str:
    return f"folder:{folder}"


# --- captions -------------------------------------------------------------------------------------


def texts(dataset: VideoFolder) -> list[str]:
    return [dataset.prompt(ref) for ref in dataset.of_split("all")]


def test_without_captions_the_name_is_the_text(folder: Path) -> None:
    assert texts(VideoFolder(name(folder))) == ["video 0", "video 1", "video 2"]


def test_a_text_file_beside_a_video_is_its_caption(folder: Path) -> None:
    (folder / "video 1.txt").write_text("a red\n  square\n")
    assert texts(VideoFolder(name(folder))) == ["video 0", "a red square", "video 2"]


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("captions.csv", 'file,text\nvideo 0.mp4,"a, b"\nvideo 2.mp4,c\n'),
        ("metadata.csv", '\ufefffile_name,caption\nvideo 0.mp4,"a, b"\nvideo 2.mp4,c\n'),
        (
            "captions.jsonl",
            '{"path": "video 0.mp4", "prompt": "a, b"}\n\n{"file": "video 2.mp4", "text": "c"}\n',
        ),
    ],
)
def test_a_table_holds_captions(folder: Path, table: str, text: str) -> None:
    (folder / table).write_text(text, encoding="utf-8")
    assert texts(VideoFolder(name(folder))) == ["a, b", "video 1", "c"]


@pytest.mark.parametrize(
    ("table", "text", "said"),
    [
        ("captions.csv", "file,text\nvideo 9.mp4,c\n", "no video 'video 9.mp4'"),
        ("captions.csv", "a,b\n1,2\n", "line 2 names no file and text"),
        ("captions.jsonl", '{"file": "video 0.mp4", "text": "c"}\n[1]\n', "line 2 is no JSON"),
        ("captions.jsonl", "{\n", "line 1 is no JSON"),
    ],
)
def test_a_bad_table_is_one_sentence(folder: Path, table: str, text: str, said: str) -> None:
    (folder / table).write_text(text)
    with pytest.raises(FolderError, match=said):
        VideoFolder(name(folder))


# --- pixels ---------------------------------------------------------------------------------------


def test_frames_are_those_of_the_file(folder: Path) -> None:
    dataset = VideoFolder(name(folder))
    assert (dataset.shape, dataset.fps) == ((24, 32), 16)
    ref = dataset.of_split("all")[1]
    assert (dataset.clip(ref, 8) == film(1)).all()
    assert (dataset.clip(ref, 3, 4) == film(1)[4:7]).all()


def test_a_clip_may_be_spoilt_without_harm(folder: Path) -> None:
    dataset = VideoFolder(name(folder))
    ref = dataset.of_split("all")[0]
    dataset.clip(ref, 4)[:] = 0
    assert (dataset.clip(ref, 4) == film(0)[:4]).all()


def test_a_lower_rate_leaves_frames_out(folder: Path) -> None:
    dataset = VideoFolder(name(folder), fps=8)
    ref = dataset.of_split("all")[0]
    assert dataset.clip(ref, 4)[:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert len(dataset.of_split("all", frames=4)) == 3
    assert dataset.of_split("all", frames=5) == []


def test_a_higher_rate_is_refused(folder: Path) -> None:
    with pytest.raises(FolderError, match="runs at 16 frames a second, and 24 are wanted"):
        VideoFolder(name(folder), fps=24)


def test_a_rate_that_is_a_little_slower_shows_a_frame_twice(tmp_path: Path) -> None:
    """29.97 frames a second are taken as 30."""
    write_clip(tmp_path / "film.mp4", film(0), fps=15.9)
    dataset = VideoFolder(name(tmp_path), fps=16)
    (ref,) = dataset.of_split("all", frames=8)
    assert dataset.clip(ref, 8)[:, 0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]


def test_clips_that_follow_one_another_are_read_in_one_pass(folder: Path) -> None:
    dataset = VideoFolder(name(folder))
    (ref, *_) = dataset.of_split("all")
    clips = [*dataset.clips(ref, 3, [0, 4])]
    assert len(clips) == 2 and not dataset._cache
    assert (clips[0] == film(0)[:3]).all() and (clips[1] == film(0)[4:7]).all()
    with pytest.raises(VideoError, match="has 8 of the 9 frames"):
        [*dataset.clips(ref, 3, [0, 6])]


@pytest.mark.parametrize(("height", "width"), [(12, 12), (48, 32), (10, 40)])
def test_the_middle_is_cut_and_scaled(height: int, width: int) -> None:
    rows, columns = np.mgrid[0:24, 0:32].astype(np.float64)
    frame = np.stack([rows * 8, columns * 8, rows], axis=-1).astype(np.uint8)
    made = fitted(frame, height, width)
    assert made.shape == (height, width, 3)
    middle = frame[..., :2].reshape(-1, 2).mean(axis=0)
    assert np.abs(made[..., :2].reshape(-1, 2).mean(axis=0) - middle).max() < 5
    slope = np.diff(made[height // 2, :, 1].astype(float)).mean() * width
    shown = min(32.0, 24 * width / height)
    assert slope == pytest.approx(8 * shown, rel=0.15)


def test_memory_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_folder, "CACHE_BYTES", 3 * film(0).nbytes // 2)
    dataset = VideoFolder(name(folder))
    for _ in range(2):
        for n, ref in enumerate(dataset.of_split("all")):
            assert (dataset.clip(ref, 8) == film(n)).all()
            assert sum(c.nbytes for c in dataset._cache.values()) <= video_folder.CACHE_BYTES


# --- scenes ---------------------------------------------------------------------------------------


def test_splits_part_the_folder_and_stay_as_videos_come(tmp_path: Path) -> None:
    for n in range(30):
        write_clip(tmp_path / f"{n:02}.mp4", film(n, frames=2), fps=16)
    before = {s: paths(VideoFolder(name(tmp_path)), s) for s in SPLITS}
    whole = [path for split in before.values() for path in split]
    assert sorted(whole) == paths(VideoFolder(name(tmp_path)), "all")
    assert len(before["train"]) > len(before["test"]) > 0
    write_clip(tmp_path / "00-another.mp4", film(99, frames=2), fps=16)
    for split, known in before.items():
        assert set(known) <= set(paths(VideoFolder(name(tmp_path)), split))


def paths(dataset: VideoFolder, split: str) -> list[str]:
    return [dataset._video(ref).path.name for ref in dataset.of_split(split)]


def test_a_scene_names_no_path_and_no_other_folder(folder: Path, tmp_path: Path) -> None:
    dataset = VideoFolder(name(folder))
    (ref, *_) = dataset.of_split("all")
    assert str(folder) not in json.dumps(ref.model_dump())
    other = ref.model_copy(update={"dataset": "folder:0123"})
    with pytest.raises(FolderError, match="is asked of"):
        dataset.clip(other, 1)
    with pytest.raises(FolderError, match="no split 'held-out'"):
        dataset.of_split("held-out")


def test_another_file_or_caption_is_another_dataset(folder: Path) -> None:
    first = VideoFolder(name(folder)).level
    (folder / "video 0.txt").write_text("another")
    second = VideoFolder(name(folder)).level
    write_clip(folder / "video 3.mp4", film(3), fps=16)
    assert len({first, second, VideoFolder(name(folder)).level}) == 3


# --- what is refused ------------------------------------------------------------------------------


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="is no folder"):
        VideoFolder(name(tmp_path / "absent"))
    with pytest.raises(FolderError, match="holds no video"):
        VideoFolder(name(tmp_path))


def test_a_damaged_video_is_named(folder: Path) -> None:
    (folder / "video 1.mp4").write_bytes(b"no video")
    with pytest.raises(FolderError, match=r"video 1\.mp4 .*; mend it, or take it away"):
        VideoFolder(name(folder))


def test_a_video_that_ends_early_is_an_error_of_its_own(folder: Path) -> None:
    dataset = VideoFolder(name(folder))
    with pytest.raises(VideoError, match=r"video 2\.mp4 has 8 of the 9 frames"):
        dataset.clip(dataset.of_split("all")[2], 9)


def test_a_real_video_is_read(tmp_path: Path) -> None:
    (tmp_path / "bikes.mp4").symlink_to(real_videos.path("bikes"))
    dataset = load_dataset(name(tmp_path))(name(tmp_path), (36, 64), 12.0)
    ref = SceneRef(dataset=dataset.level, split="all", index=0)
    clip = dataset.clip(ref, 5, 3)
    frames, fps = real_videos.excerpt("bikes", 0, 40)
    for n in range(5):
        source = frames[int((n + 3) * fps / 12 + 1e-6)]
        assert (clip[n] == fitted(source, 36, 64)).all()
