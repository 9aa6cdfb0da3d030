"""Training on videos of one's own: the whole chain from one command, and what it rests on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from sfbench.reference import trainer
from sfbench.reference.checkpoint import load_weights
from sfbench.reference.codec import AutoEncoder
from sfbench.reference.config import CodecConfig, ConfigError, DataConfig
from sfbench.reference.data import LatentPool, Pool, keyed, recognised
from sfbench.reference.recipes import from_dict, recipe_hash
from sfbench.reference.run import NotResumed
from sfbench.video import VideoError, write_clip
from sfbench.video_folder import OwnVideos, VideoFolder

from test_video_folder import film

CHAIN = ("codec", "diffusion-forcing", "teacher-forcing", "teacher", "self-forcing-dmd")
LONG = "Ein Käfer krabbelt über das Blatt, von links nach rechts, und ist schnell"
STUDENT = {"batch": 4, "warmup": 1, "init": "diffusion-forcing", "drop_text": 0.0}
PRESET = {
    "data": {"size": [16, 32], "fps": 8, "frames": 4, "clip_frames": 6, "clips": 64, "workers": 1},
    "codec": {"channels": 4, "width": 8},
    "text": {"kind": "words", "length": 6, "dim": 16},
    "model": {
        "dim": 32,
        "ffn_dim": 32,
        "layers": 1,
        "heads": 2,
        "patch": 2,
        "frames_per_chunk": 2,
        "window": 4,
    },
    "methods": {
        "codec": {"steps": 6, "batch": 8},
        "diffusion-forcing": {"steps": 3, "batch": 4},
        "teacher-forcing": {"steps": 3, "batch": 4},
        "teacher": {"steps": 3, "batch": 4, "init": "diffusion-forcing"},
        "self-forcing-dmd": STUDENT
        | {"steps": 4, "critic_warmup": 1, "critic_ratio": 1, "sampler": {"kind": "renoise"}},
    },
}
DATA = DataConfig(size=(16, 32), fps=8, frames=4, clip_frames=6, clips=64)


def filmed(folder: Path, count: int, frames: int = 12, first: int = 0) -> Path:
    """Real files with captions in a table: wider than what is asked for, at twice the rate."""
    folder.mkdir(exist_ok=True)
    for n in range(first, first + count):
        write_clip(folder / f"{n:02}.mp4", film(n, frames, 24, 40), fps=16)
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve short videos, two long ones, and one that is too short to train on."""
    folder = tmp_path_factory.mktemp("own") / "videos"
    filmed(folder, 12)
    filmed(folder, 2, frames=40, first=12)
    filmed(folder, 1, frames=6, first=14)
    rows = [{"file": f"{n:02}.mp4", "text": f"A film, number {n}"} for n in range(14)]
    rows[3]["text"] = LONG
    rows.append({"file": "14.mp4", "text": "short"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def data(folder: Path, **changes: object) -> DataConfig:
    return DataConfig(**{**vars(DATA), "dataset": f"folder:{folder}", **changes})  # type: ignore[arg-type]


# --- the chain ------------------------------------------------------------------------------------


Trained = tuple[Path, str]


@pytest.fixture(scope="module")
def trained(videos: Path) -> Trained:
    """All rows, by the command line in a process of its own; its folder, and what it said."""
    home = videos.parent
    (home / "mine.yaml").write_text(yaml.safe_dump(PRESET))
    given = ("--method", "all", "--set", "data.dataset=folder:videos", "--out", "out")
    return home, sfbench(home, "train-reference", "--preset", "mine.yaml", *given).stdout


def sfbench(home: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sfbench", *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_one_command_trains_the_chain(trained: Trained) -> None:
    home, said = trained
    for row in CHAIN:
        tensors, card = load_weights(home / f"out/weights/mine-{row}.safetensors")
        assert all(torch.isfinite(t).all() for t in tensors.values())
        assert card["preset"]["data"]["size"] == [16, 32]
    flat = " ".join(said.split())
    assert "clips of 6 frames, from" in flat and "training videos of folder:videos" in flat
    if any("Käfer" in c for c in Pool(data(home / "videos")).captions()):
        assert "are cut to their first 6 words (the longest has 13)" in flat
    kept = sorted(path.name for path in (home / "out/cache").iterdir())
    level = VideoFolder(f"folder:{home / 'videos'}", (16, 32), 8).level.replace(":", "-")
    assert len(kept) == 2 and all(level in name for name in kept)


def test_what_was_decoded_is_not_decoded_again(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _ = trained
    before = {path: path.stat().st_mtime_ns for path in (home / "out/cache").iterdir()}
    weights = {row: home / f"out/weights/mine-{row}.safetensors" for row in CHAIN}
    codec = weights["codec"].read_bytes()
    for row in ("codec", "teacher"):
        weights[row].unlink()

    def refused(self: OwnVideos, *_: object) -> None:
        raise AssertionError("a video is decoded")

    monkeypatch.setattr(OwnVideos, "_read", refused)
    given = ["data.dataset=folder:videos"]
    monkeypatch.chdir(home)
    for row in ("codec", "teacher"):
        trainer.train("mine.yaml", row, given, Path("out"), resume=True)
    assert weights["codec"].read_bytes() == codec and weights["teacher"].is_file()
    assert before == {path: path.stat().st_mtime_ns for path in (home / "out/cache").iterdir()}


def test_the_weights_continue_videos_that_were_held_out(trained: Trained) -> None:
    home, _ = trained
    filmed(home / "held", 4, frames=32, first=50)
    settings = ("fps=8", "prefix=4", "frames=8", "features=thumbs")
    given = [word for setting in settings for word in ("--set", setting)]
    model = "reference:out/weights/mine-self-forcing-dmd.safetensors"
    world = ("--task", "video-exposure", "--dataset", "folder:held", "--size", "32x16")
    out = sfbench(
        home, "run", *world, "--tier", "smoke", "--model", model, *given, "--out", "ran"
    ).stdout
    assert "mine-self-forcing-dmd" in out
    result = json.loads((home / "ran/mine-self-forcing-dmd/result.json").read_text())
    assert result["validity"]["ok"] and result["task"]["geometry"]["width"] == 32


# --- the pool -------------------------------------------------------------------------------------


def test_the_pool_is_what_is_for_training_and_long_enough(videos: Path) -> None:
    pool = Pool(data(videos))
    whole = VideoFolder(f"folder:{videos}", (16, 32), 8)
    train = whole.of_split("train")
    lengths = [whole.length(ref) or 0 for ref in train]
    assert pool.count == sum(n // 6 for n in lengths) > len(pool.captions()) > 8
    assert {ref.split for ref, _ in pool.places} == {"train"}
    firsts = [start for _, start in pool.places]
    assert firsts == sorted(firsts) and set(firsts) == {0, 6, 12}  # all videos before the second
    ref, start = pool.places[-1]
    assert (
        pool.pixels([(pool.count - 1, 1)], 3) == Pool(data(videos)).pixels([(pool.count - 1, 1)], 3)
    ).all()
    shown = pool.pixels([(pool.count - 1, 1)], 3)[0]
    assert shown.shape == (3, 3, 16, 32)
    true = torch.from_numpy(whole.clip(ref, 3, start + 1)).movedim(-1, -3)
    assert torch.equal(((shown + 1) * 127.5).round().to(torch.uint8), true)
    assert pool.prompts([(0, 0)]) == [whole.prompt(pool.places[0][0])]
    assert Pool(data(videos, clips=3)).places == pool.places[:3]


def test_the_embedded_world_is_drawn_as_it_was() -> None:
    """What ships was trained on these very windows."""
    pool = Pool(DataConfig(size=16, clips=512, clip_frames=16, frames=8))
    for step in (0, 7, 250):
        expected = []
        for sample in (0, 1, 31):
            g = np.random.default_rng((5, step, sample, 101))
            expected.append((int(g.integers(512)), int(g.integers(9))))
        assert pool.windows(5, step, (0, 1, 31)) == expected
    assert pool.windows(0, 3, [2]) == [(44, 0)]
    assert keyed(1).integers(10) == np.random.default_rng((1,)).integers(10)
    assert pool.name == "shapes-1-16px-512x16"


def test_processes_decode_what_one_would(videos: Path, tmp_path: Path) -> None:
    kept = []
    for workers in (0, 2):
        before = torch.get_rng_state()
        pool = Pool(data(videos, workers=workers))
        pool.keep(tmp_path / str(workers))
        assert torch.equal(before, torch.get_rng_state())  # initial weights come from it
        (file,) = (tmp_path / str(workers)).iterdir()
        kept.append(file.read_bytes())
        windows = pool.windows(0, 0, range(8))
        assert torch.equal(pool.pixels(windows, 2), Pool(data(videos)).pixels(windows, 2))
    assert kept[0] == kept[1]


def test_latents_are_those_of_the_pixels_kept_or_not(videos: Path, tmp_path: Path) -> None:
    codec = AutoEncoder(CodecConfig(channels=4, width=8)).eval()
    kept, fresh = Pool(data(videos)), Pool(data(videos))
    kept.keep(tmp_path / "a")
    of_kept = LatentPool.open(kept, codec, "c" * 64, tmp_path / "a").latents
    of_fresh = LatentPool.open(fresh, codec, "c" * 64, tmp_path / "b").latents
    assert of_kept.shape == (kept.count, 6, 4, 2, 4) and (of_kept == of_fresh).all()
    with torch.no_grad():
        expected = codec.encode(kept.pixels([(2, 0)], 6)).half().numpy()[0]
    assert (of_kept[2] == expected).all()
    assert len([*(tmp_path / "b").iterdir()]) == 1  # no pixels, and nothing half-made


# --- what a recipe calls them ---------------------------------------------------------------------


def test_a_recipe_knows_own_videos_by_what_they_are(videos: Path, tmp_path: Path) -> None:
    def recipe(folder: Path) -> str:
        preset = from_dict({"name": "mine", **PRESET})
        told = recognised(data(folder))
        assert told.by_content().dataset == told.content != told.dataset
        return recipe_hash(replace(preset, data=told), "diffusion-forcing")

    copied = Path(shutil.copytree(videos, tmp_path / "copied"))
    assert recipe(videos) == recipe(copied)
    (copied / "captions.jsonl").write_text(
        (copied / "captions.jsonl").read_text().replace("A film, number 1", "Another, number 1")
    )
    assert recipe(videos) != recipe(copied)
    plain = DataConfig()
    assert recognised(plain) == plain == plain.by_content()


def test_a_run_does_not_go_on_with_other_videos(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PRESET))
    folder = Path(shutil.copytree(videos, tmp_path / "videos"))
    given = [f"data.dataset=folder:{folder}"]
    mine, out = str(tmp_path / "mine.yaml"), tmp_path / "out"
    trainer.train(mine, "codec", given, out)
    trainer.train(mine, "codec", given, out, resume=True)  # nothing is left to do
    filmed(folder, 1, first=20)
    (folder / "20.txt").write_text("One more")
    with pytest.raises(NotResumed, match="was trained by another recipe"):
        trainer.train(mine, "codec", given, out, resume=True)


# --- what is refused ------------------------------------------------------------------------------


def test_videos_that_are_too_short(videos: Path) -> None:
    with pytest.raises(ConfigError, match=r"the longest has 20\); set data.clip_frames"):
        Pool(data(videos, clip_frames=200))


def test_a_folder_without_a_training_video(tmp_path: Path) -> None:
    n = next(n for n in range(99) if _split(filmed(tmp_path / str(n), 1, 12, n)) != "train")
    with pytest.raises(ConfigError, match="holds 1 videos, and none of them is in the split"):
        Pool(data(tmp_path / str(n)))


def _split(folder: Path) -> str:
    return VideoFolder(f"folder:{folder}").videos[0].split


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_video_stops_with_its_name(tmp_path: Path, workers: int) -> None:
    folder, place = filmed(tmp_path / "videos", 6), 0
    while True:  # a file whose header is good, in the split for training
        path = folder / "05.mp4"
        content = bytearray(write_and_read(path, 100 + place))
        start = content.index(b"mdat") + 200
        content[start : start + 2000] = bytes(2000)
        path.write_bytes(content)
        if VideoFolder(f"folder:{folder}").videos[5].split == "train":
            break
        place += 1
    with pytest.raises(VideoError, match=r"^05\.mp4 .*; mend it, or take it away\.$"):
        Pool(data(folder, workers=workers)).keep(tmp_path / "cache")
    assert [*(tmp_path / "cache").iterdir()] == []


def write_and_read(path: Path, seed: int) -> bytes:
    write_clip(path, film(seed, 12, 24, 40), fps=16)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("data.dataset=folder:absent",), "'absent' is no folder"),
        (("text.kind=vocabulary",), "pass --set text.kind=words to train on folder:videos."),
        (("data.clip_frames=100",), "set data.clip_frames"),
        (("data.dataset=shapes-1",), "this world is square"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_sentence(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: tuple[str, ...],
    said: str,
) -> None:
    from sfbench import cli

    monkeypatch.chdir(trained[0])
    sets = [word for s in ("data.dataset=folder:videos", *given) for word in ("--set", s)]
    with pytest.raises(SystemExit) as stop:
        cli.main(["train-reference", "--preset", "mine.yaml", "--out", "other", *sets])
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and err.count("\n") == 1


@dataclass
class Free:
    free: int


def test_a_full_disk_is_said_before_it_is_full(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: Free(10_000))
    with pytest.raises(ConfigError, match=r"set data\.clips to less, or choose another --out"):
        Pool(data(videos)).keep(tmp_path)
