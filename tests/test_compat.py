"""Other papers' drift scores on arrays whose values are worked out by hand."""

from __future__ import annotations

import ast
import inspect
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfbench import compat, vbench_long
from sfbench.compat import (
    CompatError,
    chunk_means,
    chunks,
    contrast,
    delta_drift,
    end_seconds,
    ends,
    signed_contrast,
    vde,
    vde_corrected,
)

FLAT = [0.7] * 10
LOST_AT_THE_END = [1.0] * 9 + [0.5]
DIP_IN_THE_SECOND = [1.0, 0.5, *[1.0] * 8]
TENTHS = st.lists(st.floats(0.1, 10), min_size=10, max_size=10)


# --- start-end contrast ---------------------------------------------------------------------------


def test_contrast_is_between_fifteen_in_a_hundred_at_either_end() -> None:
    scores = [1.0] * 15 + [9.0] * 70 + [0.5] * 15
    assert contrast(scores) == 0.5 and signed_contrast(scores) == -0.5
    assert contrast(scores[::-1]) == 0.5 and signed_contrast(scores[::-1]) == 0.5
    # 16 frames at an end would take one of the middle's: (15 * 1 + 9) / 16 = 1.5.
    assert contrast(scores[:15] + [9.0] * 76 + scores[-15:]) == 0.5, "15 % of 106 is 15.9"


@pytest.mark.parametrize(
    ("frames", "length"),
    [(2, 1), (3, 1), (6, 1), (7, 1), (13, 1), (14, 2), (19, 2), (20, 3), (81, 12), (100, 15)],
)
def test_fifteen_in_a_hundred_is_rounded_down(frames: int, length: int) -> None:
    # 0.15 * 13 = 1.95, of 14 it is 2.1, of 19 it is 2.85, of 81 it is 12.15.
    assert ends(frames) == (slice(0, length), slice(frames - length, frames))


def test_contrast_is_blind_to_what_recovers_to_freezing_and_to_loops() -> None:
    assert contrast([1.0] * 40 + [0.0] * 20 + [1.0] * 40) == 0
    assert contrast(FLAT) == 0
    # The ends hold 15 of 100: 8 low and 7 high ones, then 7 low and 8 high: 0.6 / 15 = 0.04.
    assert contrast([0.2, 0.8] * 50) == pytest.approx(0.04)


# --- VDE ------------------------------------------------------------------------------------------


def test_vde_as_published_weighs_the_end_least() -> None:
    # Weights of chunks 2..10: 9, 8, ..., 1.
    assert vde(LOST_AT_THE_END) == 1 * 0.5
    assert vde(DIP_IN_THE_SECOND) == 9 * 0.5
    assert vde(LOST_AT_THE_END, "log") == 0, "log 1"
    assert vde(DIP_IN_THE_SECOND, "log") == pytest.approx(math.log(9) * 0.5)
    # Three chunks: 2 |4 - 2| / 2 + 1 |1 - 2| / 2 = 2 + 0.5, and log 2 * 1 + 0.
    assert vde([2, 4, 1]) == 2.5
    assert vde([2, 4, 1], "log") == pytest.approx(math.log(2))


def test_vde_as_published_keeps_its_defects() -> None:
    assert vde([-2, -4, -1]) == -2.5, "a negative error"
    assert vde([0, 1, 1]) == math.inf
    assert vde([1.0] + [0.5] * 9) == 0.5 * 45
    assert vde([1.0] + [0.5] * 19) == 0.5 * 190, "more chunks, more error"


def test_vde_corrected() -> None:
    # Weights of chunks 2..10: 1, 2, ..., 9; their sum is 45.
    assert vde_corrected(LOST_AT_THE_END) == pytest.approx(9 * 0.5 / 45)
    assert vde_corrected(DIP_IN_THE_SECOND) == pytest.approx(1 * 0.5 / 45)
    assert vde_corrected(LOST_AT_THE_END, weights="uniform") == pytest.approx(0.5 / 9)
    assert vde_corrected(DIP_IN_THE_SECOND, weights="uniform") == pytest.approx(0.5 / 9)
    for count in (9, 19):
        assert vde_corrected([1.0] + [0.5] * count) == pytest.approx(0.5)
    assert vde_corrected([-2, -4, -1]) == pytest.approx((1 * 2 + 2 * 1) / (2 * 3)), "|m_1|"
    assert vde_corrected([0.0, 2.0]) == 2 / compat.TINY
    assert vde_corrected([0.0, 2.0], scale=4) == 0.5


@given(TENTHS, st.floats(0.1, 10))
def test_vde_has_no_unit_and_is_0_where_nothing_changes(scores: list[float], gain: float) -> None:
    scaled = [gain * score for score in scores]
    assert vde(scaled) == pytest.approx(vde(scores))
    assert vde(scaled, "log") == pytest.approx(vde(scores, "log"))
    assert vde_corrected(scaled) == pytest.approx(vde_corrected(scores))
    assert vde([gain] * 10) == vde([gain] * 10, "log") == vde_corrected([gain] * 10) == 0


@given(TENTHS)
def test_bounds(scores: list[float]) -> None:
    largest = max(abs(score - scores[0]) for score in scores)
    for weights in ("rising", "uniform"):
        found = vde_corrected(scores, scale=1, weights=weights)  # type: ignore[arg-type]
        assert 0 <= found <= largest * (1 + 1e-9)
    assert 0 <= vde(scores) <= 45 * largest / scores[0] * (1 + 1e-9)
    assert contrast(scores) == contrast(scores[::-1]) <= max(scores) - min(scores)
    assert contrast([score + 1 for score in scores]) == pytest.approx(contrast(scores))


def test_chunks_are_equal_and_leave_the_rest_out() -> None:
    assert chunk_means(range(20)) == [n + 0.5 for n in range(0, 20, 2)]
    assert chunk_means([*range(10), 99], 10) == list(range(10)), "the eleventh frame is left out"
    assert chunks(29)[-1] == slice(18, 20)
    assert chunk_means([1, 3, 5, 7, 100], 2) == [2, 6]


# --- delta-drift ----------------------------------------------------------------------------------


def test_the_two_readings_of_delta_drift_differ() -> None:
    first, last = [70.0, 60.0], [65.0, 65.0]
    assert delta_drift(first, last, "mean of abs") == 5
    assert delta_drift(first, last, "abs of mean") == 0
    one_way = [60.0, 50.0]
    assert delta_drift(first, one_way, "mean of abs") == 10
    assert delta_drift(first, one_way, "abs of mean") == 10


@given(TENTHS, TENTHS)
def test_one_reading_is_never_less(first: list[float], last: list[float]) -> None:
    means = delta_drift(first, last, "abs of mean")
    assert means <= delta_drift(first, last, "mean of abs") * (1 + 1e-9)
    assert means == pytest.approx(delta_drift(last, first, "abs of mean"))


def test_the_seconds_at_either_end() -> None:
    assert end_seconds(480, 16) == (slice(0, 80), slice(400, 480))
    assert end_seconds(160, 16) == (slice(0, 80), slice(80, 160))
    assert end_seconds(300, 29.97) == (slice(0, 150), slice(150, 300))  # 149.85
    assert end_seconds(4, 1, seconds=0.1) == (slice(0, 1), slice(3, 4))


# --- all of them ----------------------------------------------------------------------------------


def test_slow_fast_is_vbench_long_s() -> None:
    networks = vbench_long.MATCHING["subject_consistency"]
    frozen = np.ones((4, 3))
    found = compat.slow_fast_consistency("subject_consistency", [1.0] * 4, frozen, networks)
    assert found.in_clip == 1 and found.clip_to_clip == pytest.approx(1), "frozen is perfect"


def test_every_scorer_is_listed_and_says_what_it_is_blind_to() -> None:
    for name, scorer in compat.SCORERS.items():
        assert callable(getattr(compat, name))
        assert "freezing" in scorer.blind_to
    frozen = [0.6] * 100
    assert contrast(frozen) == vde(chunk_means(frozen)) == vde_corrected(chunk_means(frozen)) == 0
    assert delta_drift([0.6], [0.6], "mean of abs") == 0


def test_there_is_no_second_copy_of_vbench_long() -> None:
    defined = {
        node.name
        for node in ast.parse(inspect.getsource(compat)).body
        if isinstance(node, ast.FunctionDef)
    }
    assert defined.isdisjoint({"consistency", "in_clip", "clip_to_clip", "fuse"})
    assert compat.slow_fast_consistency is vbench_long.consistency


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: contrast([1.0]), "Scores of shape [1] are too few for a contrast; give 2 or more"),
        (lambda: contrast([[1.0, 2.0]]), "Scores of shape [1, 2] are too few"),
        (lambda: ends(1), "1 frames have no two ends"),
        (lambda: vde([1.0]), "Scores of shape [1] are too few for VDE"),
        (lambda: chunk_means([1.0] * 9), "Scores of shape [9] are too few for a chunk"),
        (lambda: chunks(9), "9 frames cannot be cut into 10 chunks"),
        (lambda: vde([1.0, math.nan]), "There is NaN or infinity among the scores"),
        (lambda: vde_corrected([1.0, 2.0], 0), "A scale of 0 cannot measure a change"),
        (lambda: delta_drift([1.0], [1.0, 2.0], "abs of mean"), "1 first and 2 last scores"),
        (lambda: delta_drift([], [], "abs of mean"), "too few for delta-drift; give 1 or more"),
        (lambda: end_seconds(159, 16), "159 frames at 16 fps do not hold two ends of 5 s"),
    ],
)
def test_what_has_no_value_is_one_sentence(call: object, text: str) -> None:
    with pytest.raises(CompatError) as told:
        call()  # type: ignore[operator]
    assert text in str(told.value) and str(told.value).count(". ") == 0
