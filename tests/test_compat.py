"""Other papers' drift scores on arrays whose values are worked out by hand."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest

from sfbench import compat, vbench_long
from sfbench.compat import (
    CompatError,
    chunks,
    contrast,
    delta_drift,
    signed_contrast,
    vde,
    vde_corrected,
)

FLAT = [0.7] * 10


def test_the_docstring_s_example() -> None:
    assert doctest.testmod(compat).failed == 0


def test_contrast_looks_at_fifteen_in_a_hundred_at_either_end() -> None:
    scores = [1.0] * 15 + [9.0] * 70 + [0.5] * 15
    assert contrast(scores) == 0.5 and signed_contrast(scores) == -0.5
    assert contrast(scores[::-1]) == 0.5 and signed_contrast(scores[::-1]) == 0.5
    # 15 % of 10 is 1.5, of 20 it is 3; of 3 frames less than one.
    assert contrast([0, 2, *[5] * 6, 6, 8]) == pytest.approx(7 - 1)
    assert contrast([0, 1, 2, *[5] * 14, 7, 8, 9]) == pytest.approx(8 - 1)
    assert contrast([1, 5, 3]) == 2


def test_contrast_is_blind_to_what_recovers_and_to_freezing() -> None:
    assert contrast([1.0] * 40 + [0.0] * 20 + [1.0] * 40) == 0
    assert contrast(FLAT) == 0


def test_vde_as_published_weighs_the_end_least() -> None:
    half_lost_at_the_end = [1.0] * 9 + [0.5]
    dip_in_the_second = [1.0, 0.5, *[1.0] * 8]
    assert vde(half_lost_at_the_end) == pytest.approx(1 * 0.5)
    assert vde(dip_in_the_second) == pytest.approx(9 * 0.5)
    assert vde(half_lost_at_the_end, "log") == 0
    assert vde(dip_in_the_second, "log") == pytest.approx(math.log(9) * 0.5)
    # Three chunks: 2 |4 - 2| / 2 + 1 |1 - 2| / 2.
    assert vde([2, 4, 1]) == pytest.approx(2.5)
    assert vde([-2, -4, -1]) == pytest.approx(-2.5)


def test_vde_has_no_unit_but_grows_with_the_chunks() -> None:
    scores = np.linspace(1.0, 0.4, 10)
    assert vde(list(3 * scores)) == pytest.approx(vde(list(scores)))
    assert vde([1.0] + [0.5] * 19) == pytest.approx(0.5 * 190)
    assert vde([1.0] + [0.5] * 9) == pytest.approx(0.5 * 45)


def test_vde_corrected() -> None:
    assert vde_corrected([1.0] * 9 + [0.5], scale=1) == pytest.approx(9 * 0.5 / 45)
    assert vde_corrected([1.0, 0.5, *[1.0] * 8], scale=1) == pytest.approx(0.5 / 45)
    assert vde_corrected([1.0] + [0.5] * 19, scale=1) == pytest.approx(0.5)
    assert vde_corrected([1.0] + [0.5] * 9, scale=1) == pytest.approx(0.5)
    assert vde_corrected([0.0, 2.0], scale=4) == 0.5, "the first score may be 0"
    assert vde_corrected(FLAT, scale=1) == vde(FLAT) == vde(FLAT, "log") == 0


def test_chunks() -> None:
    assert chunks(list(range(20))) == tuple(n + 0.5 for n in range(0, 20, 2))
    assert chunks(list(range(12)), 10)[:3] == (0.5, 2.5, 4.0)


def test_the_two_readings_of_delta_drift_differ() -> None:
    first, last = [70.0, 60.0], [65.0, 65.0]
    assert delta_drift(first, last, "mean of abs") == 5
    assert delta_drift(first, last, "abs of mean") == 0
    one_way = [60.0, 50.0]
    assert delta_drift(first, one_way, "mean of abs") == 10
    assert delta_drift(first, one_way, "abs of mean") == 10


def test_slow_fast_is_vbench_long_s() -> None:
    assert compat.slow_fast_within is vbench_long.in_clip
    assert compat.slow_fast_between is vbench_long.clip_to_clip
    assert compat.slow_fast_between(np.ones((4, 3))) == pytest.approx(1), "frozen is perfect"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: contrast([1.0]), "Scores of shape [1] are too few; give at least 2 in a row."),
        (lambda: chunks([1.0] * 9), "Scores of shape [9] are too few; give at least 10 in a row."),
        (lambda: vde([0.0, 1.0]), "VDE divides by the first chunk's score, which is 0 here."),
        (lambda: vde([1.0, math.nan]), "there is NaN or infinity among them"),
        (lambda: vde_corrected([1.0, 2.0], 0), "A scale of 0 cannot measure anything"),
        (lambda: delta_drift([1.0], [1.0, 2.0], "abs of mean"), "1 first and 2 last scores"),
    ],
)
def test_what_has_no_value_is_one_sentence(call: object, text: str) -> None:
    with pytest.raises(CompatError) as told:
        call()  # type: ignore[operator]
    assert text in str(told.value)
