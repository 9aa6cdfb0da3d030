"""VBench-Long's arithmetic: each rule by a case that can be done by hand, and by properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sfbench import vbench_long as long
from sfbench.vbench import DIMENSIONS, VBenchError

SUBJECT, BACKGROUND = (long.MATCHING[f"{name}_consistency"] for name in ("subject", "background"))
OTHERS = long.Networks(in_clip="EfficientNet-Lite0", clip_to_clip="EfficientNet-Lite0")
KNOTS = {
    "subject_consistency": (0.8027, 0.8857, 0.9327, 0.9668, 0.9887, 0.9955, 1.0),
    "background_consistency": (0.9121, 0.9342, 0.9461, 0.9575, 0.9717, 0.9859, 1.0),
}
"""Seven of the 101 points of VBench-Long's tables."""
AT = (0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0)


# --- clips ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "fps", "seconds", "expected"),
    [
        (96, 24, 2, [(0, 48), (48, 96)]),
        (100, 24, 2, [(0, 48), (48, 96), (52, 100)]),  # 4 left over: the third overlaps by 44
        (49, 24, 2, [(0, 48), (1, 49)]),
        (48, 24, 2, [(0, 48)]),
        (47, 24, 2, [(0, 47)]),  # shorter than a clip
        (1, 24, 2, [(0, 1)]),
        (60, 29.97, 2, [(0, 58), (2, 60)]),  # int(29.97) = 29
        (96, 24, 2.9, [(0, 48), (48, 96)]),  # int(2.9) = 2
    ],
)
def test_slices(frames: int, fps: float, seconds: float, expected: list[tuple[int, int]]) -> None:
    assert long.slices(frames, fps, seconds) == expected


@given(st.integers(1, 3000), st.integers(1, 60), st.integers(1, 10))
def test_slices_cover_the_video_in_clips_of_one_length(frames: int, fps: int, seconds: int) -> None:
    found = long.slices(frames, fps, seconds)
    covered = {frame for start, stop in found for frame in range(start, stop)}
    assert covered == set(range(frames))
    assert {stop - start for start, stop in found} == {min(frames, fps * seconds)}
    assert found == sorted(set(found))
    assert len(found) == -(-frames // (fps * seconds))


@pytest.mark.parametrize(("frames", "fps", "seconds"), [(9, 0.9, 2), (9, 24, 0.5), (0, 24, 2)])
def test_what_cannot_be_cut_is_said(frames: int, fps: float, seconds: float) -> None:
    with pytest.raises(VBenchError, match="cannot be cut into clips"):
        long.slices(frames, fps, seconds)


def test_three_dimensions_take_longer_clips_of_the_standard_prompts() -> None:
    seconds = {name: long.clip_seconds(name) for name in DIMENSIONS}
    assert {name for name, s in seconds.items() if s == 10} == long.LONG_CLIPS
    assert set(seconds.values()) == {2, 10}
    assert long.clip_seconds("human_action", "long_custom_input") == 2


# --- the two branches -----------------------------------------------------------------------------


def test_a_video_is_the_mean_of_its_clips() -> None:
    assert long.in_clip([0.5, 0.75, 1.0]) == 0.75
    for wrong in ([], [0.5, float("nan")]):
        with pytest.raises(VBenchError, match="not the scores of clips"):
            long.in_clip(wrong)


def test_clip_to_clip_by_hand() -> None:
    e = np.array([[2.0, 0.0], [0.0, 3.0], [5.0, 0.0]])
    # second: 0 and 0; third: 0 to the second, 1 to the first
    assert long.clip_to_clip(e) == pytest.approx((0 + 0.5) / 2)


def test_opposite_clips_count_as_unlike_and_not_below() -> None:
    assert long.clip_to_clip(np.array([[1.0, 0.0], [-1.0, 0.0]])) == 0.0
    assert long.clip_to_clip(np.zeros((2, 3))) == 0.0


@given(st.integers(2, 9), st.integers(0, 99))
def test_clip_to_clip_knows_directions_only(clips: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    e = rng.normal(size=(clips, 8)) + 1
    score = long.clip_to_clip(e)
    assert score is not None and 0 <= score <= 1 + 1e-12
    scaled = e * rng.uniform(0.1, 9, size=(clips, 1))
    assert long.clip_to_clip(scaled) == pytest.approx(score)
    assert long.clip_to_clip(np.repeat(e[:1], clips, axis=0)) == pytest.approx(1)


def test_one_clip_has_nothing_to_be_compared_with() -> None:
    assert long.clip_to_clip(np.ones((1, 4))) is None


@pytest.mark.parametrize("wrong", [np.ones(4), np.ones((0, 4)), np.full((2, 4), np.nan)])
def test_what_is_no_embedding_is_said(wrong: np.ndarray) -> None:
    with pytest.raises(VBenchError, match="cannot be compared"):
        long.clip_to_clip(wrong)


# --- the table and the fusion ---------------------------------------------------------------------


@pytest.mark.parametrize("dimension", KNOTS)
def test_the_table_is_met_at_its_knots_straight_between_and_clamped_beyond(dimension: str) -> None:
    y = KNOTS[dimension]
    table = long.Table(x=AT, y=y)
    assert [table(x) for x in AT] == pytest.approx(y)
    assert table(0.2) == pytest.approx((y[0] + y[1]) / 2)
    assert table(0.0) == y[0]
    assert table(1.2) == y[-1]


@pytest.mark.parametrize(
    ("x", "y"),
    [((0.0, 1.0), (1.0, 0.5)), ((0.0, 0.0), (0.5, 1.0)), ((0.5,), (0.5,)), ((0.0, 1.0), (0.5,))],
)
def test_a_table_must_rise(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="table"):
        long.Table(x=x, y=y)


def test_fusion_is_even_and_leaves_a_single_clip_alone() -> None:
    assert long.fuse(0.8, 0.9) == pytest.approx(0.85)
    assert long.fuse(0.8, 0.0) == 0.8


EMBEDDINGS = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
BETWEEN = (2 * 0.5**0.5 + 0.5**0.5 + 1) / 4


def test_a_fused_score_needs_the_table_and_its_networks() -> None:
    table = long.Table(x=AT, y=KNOTS["subject_consistency"])
    found = long.consistency("subject_consistency", [0.9, 0.8, 0.7], EMBEDDINGS, SUBJECT, table)
    assert found.clip_to_clip == pytest.approx(BETWEEN)
    assert found.mapped == pytest.approx(table(BETWEEN))
    assert found.fused == pytest.approx((0.8 + table(BETWEEN)) / 2)
    assert found.clips == 3


def test_without_a_table_both_parts_stand_alone() -> None:
    for networks in (BACKGROUND, OTHERS):
        found = long.consistency("background_consistency", [0.9] * 3, EMBEDDINGS, networks)
        assert (found.mapped, found.fused) == (None, None)
        assert found.in_clip == pytest.approx(0.9)
        assert found.clip_to_clip == pytest.approx(BETWEEN)
        assert found.networks == networks


def test_one_clip_is_its_in_clip_score() -> None:
    table = long.Table(x=AT, y=KNOTS["subject_consistency"])
    found = long.consistency("subject_consistency", [0.9], EMBEDDINGS[:1], SUBJECT, table)
    assert (found.clip_to_clip, found.mapped, found.fused) == (None, None, 0.9)


def test_a_table_of_other_networks_is_refused() -> None:
    table = long.Table(x=AT, y=KNOTS["subject_consistency"])
    with pytest.raises(VBenchError, match=r"belongs to DINO ViT-B/16 .*; leave it out"):
        long.consistency("subject_consistency", [0.9] * 3, EMBEDDINGS, OTHERS, table)
    with pytest.raises(VBenchError, match="2 scores for 3 first frames"):
        long.consistency("subject_consistency", [0.9] * 2, EMBEDDINGS, SUBJECT)
    with pytest.raises(VBenchError, match="no clip-to-clip branch"):
        long.consistency("imaging_quality", [0.9] * 3, EMBEDDINGS, SUBJECT)
