"""VBench as a backend: official totals, and the driver with real processes and a fake package."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

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

from vbench_fixtures import MUSIQ, fake_environment, folder, weight

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


# --- the driver -----------------------------------------------------------------------------------


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Variables under which this interpreter finds a fake vbench and its fake neighbours."""
    return fake_environment(tmp_path)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos that the fake package lists in reverse."""
    return folder(tmp_path / "videos", "a.mp4", "b.mp4")


def score(env: dict[str, str], videos: Path, dimension: str = "temporal_flickering", **options):
    return driver.score(sys.executable, dimension, videos, videos.parent / "o", env=env, **options)


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
