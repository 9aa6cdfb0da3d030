"""VBench as a backend: official totals, and the driver with real processes and a fake package."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfbench import vbench_driver as driver
from sfbench import vbench_files as files
from sfbench.schema import digest
from sfbench.vbench import (
    DIMENSIONS,
    InputError,
    ResultError,
    SetupError,
    VBenchError,
    WorkerError,
    aggregate,
    normalised,
)
from sfbench.vbench_preflight import preflight
from sfbench.video import write_clip

PUBLISHED = Path(__file__).parent / "data" / "published_vbench.csv"
ROWS = list(csv.DictReader(PUBLISHED.open()))
SCORES = st.fixed_dictionaries({name: st.floats(0, 1) for name in DIMENSIONS})

# --- the totals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_published_rows_are_reproduced(row: dict[str, str]) -> None:
    found = aggregate({name: float(row[name]) / 100 for name in DIMENSIONS})
    for total in ("quality", "semantic", "total"):
        assert getattr(found, total) == pytest.approx(float(row[total]), abs=0.02)
    assert (found.present, found.text) == (16, "complete: 16 of 16")


@given(SCORES, st.sampled_from(sorted(DIMENSIONS)))
def test_a_missing_dimension_takes_its_totals_away(scores: dict[str, float], name: str) -> None:
    whole = aggregate(scores)
    del scores[name]
    part = aggregate(scores)
    assert (part.total, part.present, part.text) == (None, 15, "partial: 15 of 16")
    quality = DIMENSIONS[name].group == "quality"
    assert part.quality == (None if quality else whole.quality)
    assert part.semantic == (whole.semantic if quality else None)


@given(SCORES, st.sampled_from(sorted(DIMENSIONS)), st.floats(0, 1))
def test_a_better_score_is_never_a_worse_total(
    scores: dict[str, float], name: str, other: float
) -> None:
    low, high = sorted((scores[name], other))
    worse, better = (aggregate(scores | {name: score}).total for score in (low, high))
    assert worse is not None and better is not None
    assert worse <= better + 1e-9


def test_the_best_and_the_worst_are_the_ends_of_the_scale() -> None:
    ends = aggregate({d.name: d.high for d in DIMENSIONS.values()})
    assert (ends.quality, ends.semantic, ends.total) == pytest.approx((100, 100, 100))
    ends = aggregate({d.name: d.low for d in DIMENSIONS.values()})
    assert (ends.quality, ends.semantic, ends.total) == pytest.approx((0, 0, 0))


def test_normalised_scores_are_not_clipped() -> None:
    found = normalised({"motion_smoothness": 0.999, "temporal_flickering": 0.5})
    assert found["motion_smoothness"] > 1
    assert found["temporal_flickering"] < 0
    assert normalised({"overall_consistency": -0.1})["overall_consistency"] < 0


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"sharpness": 0.5}, "'sharpness' is not a VBench dimension; choose from subject_"),
        ({"color": float("nan")}, "color is nan, which is no score; leave the dimension out."),
        ({"color": 92.92}, "color is 92.92, but its raw scores lie in 0..1 (not in per cent)."),
        ({"scene": -0.2}, "scene is -0.2, but its raw scores lie in 0..1 (not in per cent)."),
    ],
)
def test_what_is_no_score_is_said(scores: dict[str, float], sentence: str) -> None:
    with pytest.raises(VBenchError, match=re.escape(sentence)):
        aggregate(scores)


def test_the_table_is_complete() -> None:
    groups = [d.group for d in DIMENSIONS.values()]
    assert (groups.count("quality"), groups.count("semantic")) == (7, 9)
    assert set(DIMENSIONS) == set(files.WEIGHTS) == set(files.PACKAGES)


# --- a fake environment ---------------------------------------------------------------------------

VBENCH = """
import json, os, signal, socket, subprocess, sys
from pathlib import Path

FAULT = os.environ["FAULT"]
URL = "https://example.org/weights.pth"

class VBench:
    def __init__(self, device, info, out):
        self.out = Path(out)
        self.out.mkdir()
        assert Path(info).is_file() and device == "cpu"

    def evaluate(self, videos_path, name, prompt_list, dimension_list, local, mode, **others):
        print("much", file=sys.stdout)
        print("10%|#   | 1/9\\r20%|##  | 2/9", file=sys.stderr)
        (dimension,) = dimension_list
        assert local and os.environ["VBENCH_CACHE_DIR"] and os.environ["TORCH_HOME"]
        if FAULT == "raise":
            raise AssertionError("out of luck")
        if FAULT == "tool":
            subprocess.run(["wget", URL, "-P", "x"], check=True)
        if FAULT == "clone":
            subprocess.run(["git", "clone", URL, "x"], check=True)
        if FAULT == "name":
            socket.create_connection(("example.org", 80))
        if FAULT == "address":
            socket.socket().connect(("192.0.2.1", 80))
        if FAULT == "pickle":
            raise RuntimeError("see torch.load about weights_only https://example.org")
        if FAULT == "silent":
            os._exit(0)
        if FAULT == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if FAULT == "hangs":
            signal.pause()
        videos = sorted(os.listdir(videos_path), reverse=True)
        score = 70.0 if dimension == "imaging_quality" else 0.75
        if FAULT == "prompts":
            score = {"b": 0.25}.get(prompt_list["b.mp4"], 0.0)
        rows = [{"video_path": f"{videos_path}/{v}", "video_results": score} for v in videos]
        mean = 0.70 if dimension == "imaging_quality" else score
        if FAULT == "nan":
            rows[0]["video_results"] = mean = float("nan")
        if FAULT == "mean":
            mean = float("nan")
        if FAULT == "drop":
            rows.pop()
        if FAULT == "empty":
            rows = []
        if FAULT == "stranger":
            rows.append({"video_path": "z.mp4", "video_results": 0.5})
        if FAULT == "range":
            rows[0]["video_results"] = 98.5
        (self.out / f"{name}_eval_results.json").write_text(json.dumps({dimension: [mean, rows]}))
"""

TORCHVISION = """
import torch
missing = [name for name in ("nms", "qnms") if name not in torch.library.declared]
if missing:
    raise RuntimeError(f"operator torchvision::{missing[0]} does not exist")
"""

TORCH = """
class library:
    declared = []

    class Library:
        def __init__(self, name, kind):
            assert (name, kind) == ("torchvision", "DEF")

        def define(self, text):
            library.declared.append(text.partition("(")[0])

def device(name):
    return name
"""

PROMPTS = [
    {"prompt_en": "a cat", "dimension": ["temporal_flickering", "color"]},
    {"prompt_en": "a dog", "dimension": ["temporal_flickering"]},
]
MUSIQ = "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Variables under which this interpreter finds a fake vbench and its fake neighbours."""
    site = tmp_path / "site"
    (site / "vbench").mkdir(parents=True)
    (site / "vbench" / "__init__.py").write_text(VBENCH)
    (site / "vbench" / "VBench_full_info.json").write_text(json.dumps(PROMPTS))
    (site / "torch.py").write_text(TORCH)
    (site / "torchvision.py").write_text(TORCHVISION)
    for name in ("decord", "cv2", "PIL", "numpy", "tqdm", "pyiqa", "omegaconf", "fvcore"):
        (site / f"{name}.py").write_text("")
    return {
        "PYTHONPATH": str(site),
        "HOME": str(tmp_path / "home"),
        "VBENCH_CACHE_DIR": str(tmp_path / "cache"),
        "FAULT": "",
    }


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos that the fake package lists in reverse."""
    return folder(tmp_path / "videos", "a.mp4", "b.mp4")


def folder(path: Path, *names: str, frames: int = 3) -> Path:
    path.mkdir(exist_ok=True)
    for name in names:
        write_clip(path / name, np.zeros((frames, 16, 16, 3), np.uint8), 8)
    return path


def weight(env: dict[str, str], name: str, size: int) -> Path:
    path = Path(env["VBENCH_CACHE_DIR"], name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.truncate(path, size)
    return path


def score(env: dict[str, str], videos: Path, dimension: str = "temporal_flickering", **options):
    return driver.score(sys.executable, dimension, videos, videos.parent / "o", env=env, **options)


# --- the driver -----------------------------------------------------------------------------------


def test_a_score_is_sorted_written_and_complete_with_its_versions(
    env: dict[str, str], videos: Path
) -> None:
    longer = videos.parent / "longer.txt"
    longer.write_text("a cat, in detail")
    found = score(env, videos, extended_prompts=longer)
    assert found.value == 0.75
    assert list(found.per_video.items()) == [("a.mp4", 0.75), ("b.mp4", 0.75)]
    assert (found.n, found.mode, found.complete, found.official) == (
        2,
        "custom_input",
        False,
        False,
    )
    assert found.versions["python"] == sys.version.split()[0]
    assert found.extended_prompts_sha256 is not None
    assert digest(found) != digest(score(env, videos))
    written = (videos.parent / "o" / "temporal_flickering.json").read_text()
    assert json.loads(written)["value"] == 0.75


def test_imaging_quality_comes_on_one_scale_and_with_its_weights(
    env: dict[str, str], videos: Path
) -> None:
    weight(env, MUSIQ, 2_000_000)
    found = score(env, videos, "imaging_quality")
    assert found.value == 0.70
    assert set(found.per_video.values()) == {0.70}
    assert set(found.weights) == set(found.unpublished) == {MUSIQ}


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        ("nan", ResultError, "has no finite score (NaN) for b.mp4."),
        ("mean", ResultError, "has no finite mean (NaN) over its videos."),
        ("drop", ResultError, "dropped a.mp4 of 2 videos, as it does with what it cannot read"),
        ("empty", ResultError, "dropped a.mp4, b.mp4 of 2 videos"),
        ("stranger", ResultError, "scored z.mp4, which it was not given."),
        ("range", ResultError, "temporal_flickering is 98.5, but its raw scores lie in 0..1"),
        ("raise", WorkerError, "failed with exit code 1: AssertionError: out of luck"),
        ("silent", WorkerError, "ended without a result."),
        ("killed", WorkerError, "was killed by signal 9 (out of memory?): 20%|##  | 2/9"),
        ("hangs", WorkerError, "was stopped after 2 s."),
        ("tool", SetupError, "wanted to download https://example.org/weights.pth; put it in its"),
        ("clone", SetupError, "wanted to download https://example.org/weights.pth; put it in its"),
        ("name", SetupError, "keeps VBench offline, and it asked for 'example.org'"),
        ("address", SetupError, "keeps VBench offline, and it asked for '192.0.2.1'"),
        ("pickle", SetupError, "pass trust_weights=True if you trust where it came from."),
    ],
)
def test_each_fault_is_one_sentence_of_its_kind(
    env: dict[str, str], videos: Path, fault: str, kind: type[VBenchError], sentence: str
) -> None:
    timeout = 2.0 if fault == "hangs" else None
    with pytest.raises(VBenchError) as raised:
        score(env | {"FAULT": fault}, videos, timeout_s=timeout)
    assert type(raised.value) is kind
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "temporal_flickering" in str(raised.value)
    assert not (videos.parent / "o").exists()


def test_the_network_is_there_when_it_is_asked_for(env: dict[str, str], videos: Path) -> None:
    tools = videos.parent / "tools"
    tools.mkdir()
    (tools / "wget").write_text('#!/bin/sh\necho "$1" > "$MARK"\n')
    (tools / "wget").chmod(0o755)
    mark = videos.parent / "mark"
    with_tools = env | {"FAULT": "tool", "PATH": str(tools), "MARK": str(mark)}
    with pytest.raises(SetupError):
        score(with_tools, videos)
    assert not mark.exists()
    assert score(with_tools, videos, download=True).value == 0.75
    assert mark.read_text() == "https://example.org/weights.pth\n"


def test_prompts_go_with_their_videos(env: dict[str, str], videos: Path) -> None:
    given_too_few = {"a.mp4": "a"}
    with pytest.raises(InputError, match=r"no prompt for b\.mp4; give one"):
        score(env, videos, prompts=given_too_few)
    with_prompts = env | {"FAULT": "prompts"}
    assert score(with_prompts, videos, prompts=given_too_few | {"b.mp4": "b"}).value == 0.25


def test_the_standard_takes_its_own_names_and_knows_when_it_is_whole(
    env: dict[str, str], tmp_path: Path
) -> None:
    names = [f"{animal}-{i}.mp4" for animal in ("a cat", "a dog") for i in range(5)]
    whole = folder(tmp_path / "v", *names, "other.mp4")
    found = score(env, whole, mode="vbench_standard")
    assert (list(found.per_video), found.complete, found.official) == (names, True, True)
    assert driver.totals([found]).text == "partial: 1 of 16"
    (whole / names[3]).unlink()
    found = score(env, whole, mode="vbench_standard")
    assert (found.n, found.complete) == (9, False)
    assert driver.totals([found]).text == "partial: 0 of 16"
    with pytest.raises(InputError, match="cannot be given in vbench_standard"):
        score(env, whole, mode="vbench_standard", prompts={})


def test_color_may_leave_videos_out(env: dict[str, str], tmp_path: Path) -> None:
    for name in ("detectron2", "lvis", "timm", "transformers"):
        Path(env["PYTHONPATH"], f"{name}.py").write_text("")
    weight(env, "grit_model/grit_b_densecap_objectdet.pth", 1)
    videos = folder(tmp_path / "v", "a cat-0.mp4", "a cat-1.mp4")
    found = score(env | {"FAULT": "drop"}, videos, "color", mode="vbench_standard")
    assert (found.unscored, found.n) == (("a cat-0.mp4",), 1)
    with pytest.raises(ResultError, match="dropped"):
        score(env | {"FAULT": "empty"}, videos, "color", mode="vbench_standard")


@pytest.mark.parametrize(
    ("dimension", "kind", "sentence"),
    [
        ("sharpness", VBenchError, "'sharpness' is not a VBench dimension"),
        ("scene", InputError, "scene scores VBench's own prompts only; use vbench_standard."),
        ("dynamic_degree", SetupError, "dynamic_degree needs easydict, which "),
        ("imaging_quality", SetupError, f"{MUSIQ} is missing (about 109 MB); VBENCH_CACHE_DIR"),
    ],
)
def test_what_cannot_run_is_refused_before_it_runs(
    env: dict[str, str], videos: Path, dimension: str, kind: type[VBenchError], sentence: str
) -> None:
    with pytest.raises(VBenchError, match=re.escape(sentence)) as raised:
        score(env | {"FAULT": "raise"}, videos, dimension)
    assert type(raised.value) is kind


def test_a_folder_without_videos_and_a_stranger_are_refused(
    env: dict[str, str], tmp_path: Path
) -> None:
    empty = folder(tmp_path / "v")
    with pytest.raises(InputError, match=r"holds no \.mp4 file"):
        score(env, empty)
    (empty / "a.webm").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.webm is not a \.mp4 file"):
        score(env, empty)
    with pytest.raises(InputError, match="is not a folder"):
        score(env, tmp_path / "nowhere")
    with pytest.raises(SetupError, match=r"nowhere cannot be run \(No such file"):
        driver.score(tmp_path / "nowhere", "temporal_flickering", empty, tmp_path, env=env)


# --- the pre-flight -------------------------------------------------------------------------------


def test_preflight_names_all_that_is_missing_and_what_can_run(
    env: dict[str, str], videos: Path
) -> None:
    weight(env, MUSIQ, 2_000_000)
    weight(env, "amt_model/amt-s.pth", 900)
    found = preflight(sys.executable, list(DIMENSIONS), videos, "custom_input", env)
    assert found.ready == ("temporal_flickering", "imaging_quality")
    text = "\n".join(found.lines())
    cache, home = env["VBENCH_CACHE_DIR"], env["HOME"]
    for line in (
        "temporal_flickering: ready",
        "scene: cannot run",
        f"  {cache}/amt_model/amt-s.pth has only 900 bytes; get it again (about 12 MB).",
        f"  {cache}/clip_model/ViT-B-32.pt is missing (about 354 MB); VBENCH_CACHE_DIR moves it.",
        f"  {home}/.cache/torch/hub/checkpoints/dino_vitbase16_pretrain.pth is missing",
        "  package clip is not installed there (openai-clip).",
        "  package detectron2 is not installed there",
        "  it needs vbench_standard: its questions belong to VBench's own prompts.",
    ):
        assert f"\n{line}" in text


def test_preflight_prints_nothing(
    env: dict[str, str], videos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    preflight(sys.executable, list(DIMENSIONS), videos, "custom_input", env)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_is_not_a_torchscript_archive(env: dict[str, str]) -> None:
    path = weight(env, "clip_model/ViT-B-32.pt", 4_000_000)
    for member, fit in (("x/data.pkl", False), ("x/code/y.py", True)):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, b"0" * 4_000_000)
        faults = files.weight_faults("background_consistency", env, set())
        assert (faults == []) is fit
    path.write_bytes(b"0" * 4_000_000)
    (fault,) = files.weight_faults("background_consistency", env, set())
    assert fault == f"{path} is not a TorchScript archive; get it again (about 354 MB)."


def test_a_file_that_a_package_ships_is_not_missed(env: dict[str, str]) -> None:
    assert len(files.weight_faults("temporal_style", env, set())) == 2
    (fault,) = files.weight_faults("temporal_style", env, {"clip"})
    assert "ViClip-InternVid" in fault


def test_preflight_judges_each_video(env: dict[str, str], tmp_path: Path) -> None:
    mixed = folder(tmp_path / "v", "two.mp4", frames=2)
    weight(env, MUSIQ, 2_000_000)
    names = ["temporal_flickering", "imaging_quality"]
    found = preflight(sys.executable, names, mixed, "custom_input", env)
    assert found.ready == ("temporal_flickering",)
    assert found.dimensions[1].faults == ("two.mp4 has 2 of the 3 frames that it needs.",)
    assert preflight(sys.executable, names, mixed, env=env, decode=False).ready == tuple(names)
    folder(mixed, "one.mp4", frames=1)
    assert preflight(sys.executable, names, mixed, "custom_input", env).ready == ()
    (mixed / "one.mp4").unlink()
    whole = (mixed / "two.mp4").read_bytes()
    (mixed / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (mixed / "loud.MP4").write_bytes(whole)
    (mixed / "note.txt").write_text("not looked at")
    found = preflight(sys.executable, names, mixed, "custom_input", env)
    assert found.ready == ()
    assert [fault.split()[0] for fault in found.faults] == ["loud.MP4", "cut.mp4"]


def test_preflight_counts_the_samples_of_the_standard(env: dict[str, str], tmp_path: Path) -> None:
    names = [f"a cat-{i}.mp4" for i in range(5)] + ["a dog-0.mp4"]
    videos = folder(tmp_path / "v", *names)
    found = preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
    assert found.lines()[1:] == ["temporal_flickering: ready; 1 of 2 prompts x 5 present"]
    folder(videos, "a cow-0.mp4")
    found = preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
    assert found.faults == ("Named after no prompt ({prompt}-0.mp4 to -4.mp4): a cow-0.mp4.",)
    Path(env["PYTHONPATH"], "vbench", "VBench_full_info.json").unlink()
    with pytest.raises(SetupError, match=r"prompt list .* is missing"):
        preflight(sys.executable, ["temporal_flickering"], videos, "vbench_standard", env)
