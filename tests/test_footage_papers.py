"""Other papers' formulas on our proxies: what a record keeps, and what becomes of it in a row."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import compat
from sfbench.interfaces import Frames
from sfbench.metrics_video import watch
from sfbench.schema import Scores
from sfbench.tasks import footage_papers
from sfbench.tasks.board_footage import DRIFT
from sfbench.tasks.conclusion import Conclusion

FPS = 4


def clip(levels: list[int], size: int = 16) -> Frames:
    """A frame of one grey for each level."""
    return np.repeat(np.uint8(levels), size * size * 3).reshape(len(levels), size, size, 3)


def scored(levels: list[int]) -> Scores:
    return Scores(series=footage_papers.measure(watch(clip(levels), FPS)))


def concluded(**videos: list[int]) -> Conclusion:
    found = Conclusion()
    footage_papers.conclude(found, [(prompt, scored(levels)) for prompt, levels in videos.items()])
    return found


def value(found: Conclusion, name: str) -> float:
    estimate = found.estimates[name].value
    assert estimate is not None, found.estimates[name].method
    return 255 * estimate


def test_a_record_keeps_the_means_that_the_formulas_take() -> None:
    # 46 frames: ends of int(6.9) = 6, of 5 s = 20, and chunks of 4 with a rest of 6.
    kept = scored([51] * 6 + [102] * 14 + [153] * 20 + [255] * 6).series
    assert kept["exposure_ends"] == (0.2, 1.0)
    assert kept["exposure_end_seconds"] == pytest.approx((0.34, (14 * 0.6 + 6) / 20), abs=1e-5)
    assert kept["exposure_tenths"] == pytest.approx((0.2, 0.3, *[0.4] * 3, *[0.6] * 5), abs=1e-5)
    assert len(kept["motion_magnitude_ends"]) == 2


def test_each_score_is_the_papers_formula() -> None:
    up, down = [100] * 20 + [140] * 20, [100] * 20 + [80] * 20
    found = concluded(a=up, b=down)
    assert value(found, "exposure_contrast") == pytest.approx((40 + 20) / 2, abs=0.01)
    assert value(found, "exposure_contrast_signed") == pytest.approx((40 - 20) / 2, abs=0.01)
    assert value(found, "exposure_delta_drift") == pytest.approx(30, abs=0.01)
    assert value(found, "exposure_delta_drift_means") == pytest.approx(10, abs=0.01)
    # Chunks 6..10 are off by .4 and by .2: weights 5 + 4 + 3 + 2 + 1 as published.
    vde = found.estimates["exposure_vde"].value
    assert vde == pytest.approx(15 * (0.4 + 0.2) / 2, abs=1e-3)
    # And 5 + ... + 9 = 35 of 45, in units of the full range.
    assert value(found, "exposure_vde_corrected") == pytest.approx(30 * 35 / 45, abs=0.01)


def test_an_interval_around_no_change_becomes_one_that_starts_at_0() -> None:
    up, down = [100] * 20 + [140] * 20, [100] * 20 + [80] * 20
    around = concluded(a=up, b=down).estimates["exposure_delta_drift_means"]
    assert around.low == 0 and around.high is not None and around.high >= 30 / 255
    falls = concluded(a=down, b=down, c=down).estimates["exposure_delta_drift_means"]
    assert falls.low == falls.high == falls.value == pytest.approx(20 / 255, abs=1e-4)


def test_a_video_too_short_for_a_score_does_not_enter_it() -> None:
    found = concluded(a=[100] * 8 + [140] * 12)
    assert found.estimates["exposure_delta_drift"].value is None
    assert "long enough" in found.estimates["exposure_delta_drift_means"].method
    assert value(found, "exposure_contrast") == pytest.approx(40, abs=0.01)
    both = concluded(a=[100] * 8 + [140] * 12, b=[100] * 20 + [110] * 20)
    assert value(both, "exposure_delta_drift") == pytest.approx(10, abs=0.01)


def test_an_infinite_vde_is_said_and_not_averaged() -> None:
    found = concluded(a=[0] * 20 + [100] * 20, b=[100] * 40)
    assert found.estimates["exposure_vde"].value is None
    assert "first chunk of 1 of 2 videos is 0" in found.estimates["exposure_vde"].method
    assert found.estimates["exposure_vde_corrected"].value is not None


def test_a_frozen_video_is_perfect_to_all_of_them() -> None:
    found = concluded(a=[100] * 40)
    scores = [estimate.value for name, estimate in found.estimates.items() if "exposure" in name]
    assert scores == [0] * 6


def test_the_board_has_a_part_for_them_that_says_what_they_are() -> None:
    (heading,) = [name for name in DRIFT.parts if "other papers" in name]
    assert "not comparable" in heading
    columns = {column.key: column for column in DRIFT.parts[heading]}
    assert columns.keys() == concluded(a=[100] * 40).estimates.keys()
    assert not any(column.brief for column in columns.values())
    said = " ".join(column.meaning for column in columns.values())
    for name, scorer in compat.SCORERS.items():
        assert (f"Blind to {scorer.blind_to}." in said) == (name != "slow_fast_consistency")
