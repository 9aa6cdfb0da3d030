"""Videos made elsewhere: found by name or manifest, scored in one pass, faults told, resumed."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfbench import cli, footage, scoring, scoring_session
from sfbench.footage import FootageError, find
from sfbench.interfaces import Frames
from sfbench.metrics_video import measures_known, watch
from sfbench.schema import Record, Result, Scores
from sfbench.scoring_session import VBenchWish
from sfbench.tasks import proxies
from sfbench.tasks.drift import STILL
from sfbench.tasks.footage_drift import VideoDrift
from sfbench.vbench_driver import DimensionResult
from sfbench.video import stream, write_clip

NONE = VBenchWish()


@pytest.fixture(autouse=True)
def no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "has_features", lambda: False)


def clip(seed: int = 0, frames: int = 12, size: int = 48, gain: float = 1.0) -> Frames:
    """A textured field that moves a pixel a frame; ``gain`` is its last brightness."""
    field = np.random.default_rng(seed).integers(40, 120, (size, size, 3))
    gains = np.linspace(1, gain, frames)
    return np.stack([np.roll(field, t, 1) * g for t, g in enumerate(gains)]).astype(np.uint8)


def folder(root: Path, *names: str, **how: float) -> Path:
    root.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        write_clip(root / name, clip(number, **how), 8)  # type: ignore[arg-type]
    return root


def job(source: Path, out: Path, task: str = "quality", **options: float) -> scoring_session.Job:
    return scoring_session.plan(source, task, None, options, out)


def run(source: Path, out: Path, task: str = "quality", **options: float) -> Result:
    return scoring_session.run(job(source, out, task, **options), NONE, retry_errors=False)


# --- which videos there are -----------------------------------------------------------------------


def test_names_say_prompt_and_seed(tmp_path: Path) -> None:
    names = ("a cat-0.mp4", "a cat-12.mp4", "half-time.mp4", ".hidden.mp4", "notes.txt")
    source = folder(tmp_path / "v", *names[:4])
    (source / names[4]).write_text("no video")
    found = [
        (v.prompt, v.seed, v.geometry.frames if v.geometry else 0) for v in footage.find(source)
    ]
    assert found == [("a cat", 0, 12), ("a cat", 12, 12), ("half-time", 0, 12)]


def test_a_manifest_says_what_names_do_not(tmp_path: Path) -> None:
    source = folder(tmp_path / "v", "1.mp4", "2.mp4")
    sha256 = hashlib.sha256((source / "1.mp4").read_bytes()).hexdigest()
    lines = [
        {"path": "1.mp4", "prompt": "a dog", "seed": 3, "fps": 8, "sha256": sha256},
        {"path": "2.mp4", "prompt": "a dog", "fps": 24},
    ]
    manifest = source / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)) + "\n")
    second, first = footage.find(manifest)
    assert (first.prompt, first.seed, first.fault) == ("a dog", 3, "")
    assert (second.seed, second.fault) == (0, "2.mp4 runs at 8 frames a second, not at 24.")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ('{"path": "absent.mp4"}', "There is no file 'absent.mp4'"),
        ('{"path": "a-0.mp4", "sha256": "00"}', "is not the file that the manifest names"),
        ('{"path": "a-0.mp4", "colour": 1}', "line 1 is not a video"),
        ("[1]", "line 1 is not a video"),
        ('{"path": "a-0.mp4"}\n{"path": "b-0.mp4", "prompt": "a"}', "are both the video of 'a'"),
        ("", "holds no video"),
    ],
)
def test_a_bad_manifest_is_one_sentence(tmp_path: Path, lines: str, says: str) -> None:
    manifest = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4") / "manifest.jsonl"
    manifest.write_text(lines)
    with pytest.raises(FootageError, match=says):
        footage.find(manifest)


def test_an_empty_folder_and_nothing_but_garbage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FootageError, match="holds no video"):
        footage.find(tmp_path)
    (tmp_path / "a-0.mp4").write_bytes(b"garbage")
    with pytest.raises(FootageError, match=r"No video of .* can be read: a-0.mp4 cannot be read"):
        footage.find(tmp_path)
    with pytest.raises(FootageError, match="neither a folder of videos nor a manifest"):
        footage.find(tmp_path / "absent")


# --- what is made of them -------------------------------------------------------------------------


def test_a_folder_becomes_a_row(tmp_path: Path) -> None:
    source = folder(tmp_path / "mine", "a-0.mp4", "a-1.mp4", "b-0.mp4")
    result = run(source, tmp_path / "out")
    assert result.validity.ok and result.model.name == "mine"
    assert (result.task.name, result.task.dataset) == ("video-quality", "videos")
    own = [watch(clip(n), 8).values["temporal_flickering"] for n in range(3)]
    assert None not in own
    found = result.estimates["temporal_flickering"]
    expected = ((own[0] + own[1]) / 2 + own[2]) / 2  # type: ignore[operator]
    assert found.value == pytest.approx(expected, abs=1e-5) and (found.n, found.clusters) == (3, 2)
    assert {m.name for m in measures_known()} <= result.estimates.keys()


def test_one_bad_file_is_told_and_the_rest_is_scored(tmp_path: Path) -> None:
    source = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4")
    whole = (source / "b-0.mp4").read_bytes()
    (source / "c-0.mp4").write_bytes(whole[: len(whole) // 2])
    result = run(source, tmp_path / "out")
    assert not result.validity.ok and result.failures == {"video": 1}
    assert "1 of 3 videos were not scored: c-0.mp4" in result.validity.reasons[0]
    assert result.estimates["sharpness"].n == 2


def test_a_second_run_scores_only_what_is_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4"), tmp_path / "out"
    asked = job(source, out)
    stopped, measure = [0], asked.task.measure

    def measured(frames: Iterable[Frames], fps: float) -> Scores:
        stopped[0] += 1
        if stopped[0] == 2:
            raise KeyboardInterrupt
        return measure(frames, fps)

    monkeypatch.setattr(asked.task, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        scoring.score(asked.task, asked.videos, asked.card, out)
    scoring.score(asked.task, asked.videos, asked.card, out)
    assert stopped == [3], "the first video is not scored again"


def test_another_file_under_the_same_name_is_another_run(tmp_path: Path) -> None:
    source, out = folder(tmp_path / "v", "a-0.mp4"), tmp_path / "out"
    run(source, out)
    write_clip(source / "a-0.mp4", clip(9), 8)
    with pytest.raises(Exception, match="belongs to another configuration"):
        run(source, out)


def test_drift_is_last_window_minus_first(tmp_path: Path) -> None:
    source = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4", frames=32, gain=2.0)
    result = run(source, tmp_path / "out", "long-horizon", native=1.0)
    assert result.task.conditions == {"native": "1 s"}
    start, end = (clip(0, 32, gain=2.0)[part].mean() / 255 for part in (slice(0, 8), slice(24, 32)))
    found = result.estimates["exposure_change"]
    assert found.value == pytest.approx(end - start, abs=0.02) and found.low and found.low > 0.1
    assert result.estimates["motion_magnitude_change"].value == pytest.approx(0, abs=0.1)
    assert len(result.curves["exposure"].y) == 4


def test_a_video_of_one_window_has_no_drift(tmp_path: Path) -> None:
    result = run(folder(tmp_path / "v", "a-0.mp4"), tmp_path / "out", "long-horizon")
    assert not result.validity.ok and "no video holds two windows" in result.validity.reasons[0]
    assert result.estimates["exposure_change"].value is None
    with pytest.raises(ValueError, match="has no frames"):
        VideoDrift(footage.find(tmp_path / "v"), native=0)


def test_true_videos_tell_how_far_these_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "has_features", lambda: True)
    names = [f"{letter}-0.mp4" for letter in "abcd"]
    true = folder(tmp_path / "true", *names, frames=2)
    (tmp_path / "black").mkdir()
    for name in names:
        write_clip(tmp_path / "black" / name, np.zeros((2, 48, 48, 3), np.uint8), 8)
    far, near = (
        scoring_session.run(
            scoring_session.plan(tmp_path / name, "quality", None, {"against": true}, out),
            NONE,
            False,
        )
        for name, out in (("black", tmp_path / "1"), ("true", tmp_path / "2"))
    )
    values = [r.estimates["kernel_features"].value for r in (far, near)]
    floor = far.estimates["kernel_features_floor"].high
    assert None not in values and floor is not None
    assert values[0] > floor and values[0] > 5 * abs(values[1])  # type: ignore[operator,arg-type]
    assert far.task.conditions["against"] == near.task.conditions["against"] != ""


# --- VBench beside it -----------------------------------------------------------------------------


def dimension(name: str, complete: bool, **per_video: float) -> DimensionResult:
    return DimensionResult(
        dimension=name,
        mode="vbench_standard" if complete else "custom_input",
        value=float(np.mean(list(per_video.values()))),
        per_video={f"{video}.mp4": value for video, value in per_video.items()},
        n=len(per_video),
        complete=complete,
        weights={},
        versions={"vbench": "9"},
        device="cpu",
    )


def test_vbench_scores_join_the_row_and_a_part_has_no_total(tmp_path: Path) -> None:
    source, out = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4"), tmp_path / "out"
    run(source, out)
    place = out / scoring.VBENCH
    place.mkdir()
    found = dimension("subject_consistency", True, **{"a-0": 0.9, "b-0": 0.7})
    (place / "subject_consistency.json").write_text(found.model_dump_json())
    result = run(source, out)
    own = result.estimates["vbench_subject_consistency"]
    assert own.value == pytest.approx(0.8) and own.clusters == 2 and own.low == 0.0
    assert result.estimates["vbench_total"].value is None
    assert result.estimates["vbench_total"].method == "partial: 1 of 16"
    said = {
        "vbench_mode": "vbench_standard",
        "vbench_version": "9",
        "vbench_prompts": "as they are",
    }
    assert result.task.conditions == said, "other modes, prompts or versions are another table"


def test_vbench_without_an_interpreter_says_what_to_do(tmp_path: Path) -> None:
    asked = job(folder(tmp_path / "v", "a-0.mp4"), tmp_path / "out")
    with pytest.raises(Exception, match="SFBENCH_VBENCH_PYTHON"):
        scoring_session.run(asked, VBenchWish(dimensions=("all",)), retry_errors=False)
    bare = VBenchWish(dimensions=("aesthetic_quality",), python=Path(sys.executable))
    with pytest.raises(Exception, match=r"No dimension of VBench that was asked for can run here"):
        scoring_session.run(asked, bare, retry_errors=False)


def test_videos_of_the_embedded_world_are_sent_to_its_oracle(tmp_path: Path) -> None:
    assert not job(folder(tmp_path / "v", "a-0.mp4"), tmp_path / "1").hint
    own = folder(tmp_path / "w", "test-0-0.mp4", "test-1-0.mp4")
    assert job(own, tmp_path / "2").hint.endswith(f"--task quality --model videos:{own}")


# --- the command ----------------------------------------------------------------------------------


def test_the_command_makes_a_row_and_tells_a_bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder(tmp_path / "v", "a-0.mp4", "b-0.mp4")
    given = ["score", "--videos", str(source), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        cli.main(given)
    assert done.value.code == 0 and "video-quality v1" in capsys.readouterr().out
    (source / "c-0.mp4").write_bytes(b"garbage")
    with pytest.raises(SystemExit) as done:
        cli.main([*given[:-1], str(tmp_path / "again")])
    assert done.value.code == 1 and "c-0.mp4 cannot be read" in capsys.readouterr().out
    with pytest.raises(SystemExit) as done:
        cli.main(["score", "--videos", str(tmp_path / "absent")])
    assert done.value.code == 2 and "neither a folder" in capsys.readouterr().err


def drifting(darker: float, seed: int) -> Frames:
    """Ninety frames of a moving texture that loses light."""
    rng = np.random.default_rng(seed)
    base = cv2.resize(rng.integers(60, 200, (12, 16, 3), np.uint8), (64, 48))
    gain = 1 - darker * np.arange(90) / 89
    moved = np.stack([np.roll(base, n, axis=1) for n in range(90)])
    return np.round(moved * gain[:, None, None, None]).astype(np.uint8)


def measured(task: VideoDrift, path: Path) -> Scores:
    with stream(path) as reader:
        return task.measure(reader, reader.fps)


def folder_of(root: Path, darker: float, count: int, first: int) -> Path:
    root.mkdir()
    for n in range(count):
        write_clip(root / f"clip {n}-0.mp4", drifting(darker, first + n), 16)
    return root


def test_videos_are_lost_where_no_true_one_would_be(tmp_path: Path) -> None:
    true = find(folder_of(tmp_path / "true", 0.02, 6, 0))
    result = {}
    for name, darker in (("good", 0.02), ("bad", 0.6)):
        videos = find(folder_of(tmp_path / name, darker, 4, 100))
        task = VideoDrift(videos, native=1.0, against=true)
        records = [
            Record(key=r.key, request=r, scores=measured(task, v.path))
            for v in videos
            if (r := v.request(task.card.geometry))
        ]
        result[name] = task.conclude(records).estimates
    assert result["bad"]["lost"].value == 1 and result["good"]["lost"].value == 0
    assert result["bad"]["lost_floor"].value == 0 and result["bad"]["lost_floor"].n == 6
    assert (result["bad"]["panel_exposure_change"].value or 0) > 0.1
    for kind in ("contrast", "vde", "vde_corrected", "delta_drift"):
        good, bad = (result[name][f"exposure_{kind}"].value for name in ("good", "bad"))
        if kind == "delta_drift":  # 5.6 s do not hold two ends of 5
            assert good is None and bad is None
        else:
            assert good is not None and bad is not None and bad > 5 * good


def test_without_truth_nothing_is_said_to_be_lost(tmp_path: Path) -> None:
    videos = find(folder_of(tmp_path / "some", 0.0, 2, 0))
    task = VideoDrift(videos, native=1.0)
    still = np.repeat(drifting(0, 0)[:1], 90, axis=0)
    request = videos[0].request(task.card.geometry)
    record = Record(key=request.key, request=request, scores=task.measure(list(still), 16))
    found = task.conclude([record])
    for name in ("lost", "lost_floor", "motion_ratio"):
        said = found.estimates[name]
        assert said.value is None and "nothing tells a loop" in said.method
        assert "--against" in said.method
    assert found.validity.flags == (STILL,)
