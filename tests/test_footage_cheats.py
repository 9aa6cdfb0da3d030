"""Files that cheat, scored as videos of any world against true ones: none that does not play passes
for one that does, and true files, the slowest too, do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sfbench import metrics_video
from sfbench.footage import find
from sfbench.schema import Record, Scores
from sfbench.tasks import drift, footage_drift, footage_flags, proxies, shapes
from sfbench.tasks.conclusion import Conclusion
from sfbench.tasks.footage_drift import VideoDrift
from sfbench.video import stream, write_clip

from films import CHEATS, TRUE, Film

FRAMES, FPS = 48, 16.0
TRUTHS, VIDEOS = 24, {"half speed": 24, "slowest": 24}
"""Speeds of the world overlap: of 12 videos at half speed against 16 true ones 4 of 10 sets are
flagged, of 24 against 24 more than 9 of 10. Of other films eight are enough."""
WORDS = {
    "frozen": drift.STILL,
    "loop": drift.REPEATS,
    "first frame again and again": drift.REPEATS,
    "shuffled": drift.SHUFFLED,
    "noise": drift.SHUFFLED,
    "half speed": drift.SLOW,
}
"""What is said of a cheat. The others leave what true videos show: they are lost."""


NEEDED = ("exposure", "saturation", "sharpness", "motion_magnitude", "repeated_frames")


@pytest.fixture(autouse=True)
def only_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The headline, the flags and the papers' scores are made of these measures."""
    monkeypatch.setattr(proxies, "has_features", lambda: False)
    measures = [m for m in metrics_video.measures_known() if m.name in NEEDED]
    monkeypatch.setattr(footage_drift, "measures_known", lambda: measures)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(TRUE["truth"], tmp_path_factory.mktemp("all") / "true", TRUTHS, seed=1)


def written(film: Film, folder: Path, count: int, seed: int) -> Path:
    """Files of scenes that the world's law draws."""
    folder.mkdir()
    for n in range(count):
        rng = np.random.default_rng([seed, n])
        scene = shapes.scene_from_rng("shapes-1", rng)
        write_clip(folder / f"scene {seed} {n}-0.mp4", film(scene, FRAMES, rng), FPS)
    return folder


@cache
def _seen(path: Path) -> Scores:
    with stream(path) as reader:
        return VideoDrift(find(path.parent), native=1.0).measure(reader, reader.fps)


def concluded(folder: Path, truth: Path | None) -> Conclusion:
    videos = find(folder)
    task = VideoDrift(videos, native=1.0, against=find(truth) if truth else ())
    records = []
    for video in videos:
        request = video.request(task.card.geometry)
        records.append(Record(key=request.key, request=request, scores=_seen(video.path)))
    return task.conclude(records)


@pytest.fixture(autouse=True)
def seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each true file is looked at once, however many folders are held against it."""
    monkeypatch.setattr(VideoDrift, "_true", lambda self, video: _seen(video.path))


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_passes_for_a_video_that_plays(name: str, truth: Path, tmp_path: Path) -> None:
    folder = written(CHEATS[name], tmp_path / "entry", VIDEOS.get(name, 8), seed=2)
    found = concluded(folder, truth)
    assert found.validity.flags == ((WORDS[name],) if name in WORDS else ())
    lost, floor = found.estimates["lost"], found.estimates["lost_floor"]
    assert found.validity.flags or (lost.low or 0) > (floor.high or 1)
    alone = concluded(folder, None)
    assert alone.validity.flags == ((drift.STILL,) if name == "frozen" else ())
    assert alone.estimates["motion_ratio"].method == footage_flags.NO_TRUTH


@pytest.mark.parametrize("name", TRUE)
def test_true_videos_pass(name: str, truth: Path, tmp_path: Path) -> None:
    found = concluded(written(TRUE[name], tmp_path / "entry", VIDEOS.get(name, 8), seed=2), truth)
    assert not found.validity.flags
    ratio = found.estimates["motion_ratio"]
    assert ratio.low is not None and ratio.high is not None
    assert ratio.low < 1 < ratio.high or name == "slowest"
    assert found.estimates["disorder"].value == 0


# --- the rules, on numbers ------------------------------------------------------------------------


def clips(rng: np.random.Generator, count: int, speed: float = 1.0) -> footage_flags.Clips:
    """As true videos might be: speeds over an octave, some that come back, frames in order."""
    return [
        (
            f"{rng.integers(1 << 60)}",
            Scores(
                values={
                    "motion_magnitude": speed * 2 ** rng.uniform(-1, 0),
                    "return_share": float(rng.choice([0.0, 0.2, 0.9], p=[0.4, 0.2, 0.4])),
                    "still_share": 0.0,
                    "disorder": 0.0,
                }
            ),
        )
        for _ in range(count)
    ]


def test_true_sets_are_flagged_no_more_often_than_is_stated() -> None:
    """Two sets drawn alike, where 40 % of true videos repeat themselves: at most 2 in 1000."""
    rng = np.random.default_rng(0)
    found = [footage_flags.flags(clips(rng, 12), clips(rng, 16)) for _ in range(500)]
    assert sum(map(bool, found)) <= 3


def test_the_ratio_has_an_interval_that_covers() -> None:
    rng, inside = np.random.default_rng(1), []
    for _ in range(400):
        ratio = footage_flags.motion_ratio(clips(rng, 10, speed=0.6), clips(rng, 14))
        assert ratio.low is not None and ratio.high is not None
        inside.append(ratio.low <= 0.6 <= ratio.high)
    assert 0.93 <= np.mean(inside) <= 0.98


def test_too_few_prompts_are_not_flagged() -> None:
    """Seeds of one prompt are no more prompts; standing still is no slow motion."""
    rng = np.random.default_rng(2)
    slow, true = clips(rng, 12, speed=0.1), clips(rng, 12)
    assert footage_flags.flags(slow, true) == (drift.SLOW,)
    assert footage_flags.flags([("one", s) for _, s in slow], true) == ()
    assert footage_flags.flags(slow[:3], true[:3]) == ()
    halted = {"still_share": 0.5}
    half = [
        (prompt, Scores(values=scores.values | halted)) for prompt, scores in clips(rng, 12, 0.5)
    ]
    assert footage_flags.flags(half, true) == ()


def test_disorder_is_none_of_a_video_that_moves_badly() -> None:
    """A walk that stumbles has an order; the same frames shuffled have none."""
    rng, line = np.random.default_rng(3), np.arange(40)
    bad = np.cumsum(rng.normal(0.3, 1, 40))  # most of each step is noise
    frames = np.exp(-((line[None, :] - 20 - bad[:, None]) ** 2) / 20).astype(np.float32)
    assert footage_flags.disorder(frames) == 0
    mixed = [footage_flags.disorder(frames[rng.permutation(40)]) or 0 for _ in range(60)]
    assert np.mean(np.array(mixed) >= footage_flags.IN_ORDER) == pytest.approx(0.95, abs=0.08)
    assert footage_flags.disorder(np.repeat(frames[:1], 9, axis=0)) is None
