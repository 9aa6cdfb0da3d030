"""Fingerprints: distances between them are those between the pixels, as nearly as is said."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench.exposure_prints import LEAST, SIZE, fingerprint, rms, squares
from sfbench.interfaces import Frames
from sfbench.tasks import shapes

CLIPS = 40


def clip(index: int, shift: int = 0) -> Frames:
    return shapes.render(shapes.sample_scene("shapes-1", "selection", index), 24, 32, shift)


def noisy(frames: Frames, level: float, seed: int) -> Frames:
    noise = np.random.default_rng(seed).normal(0, level, frames.shape)
    return np.clip(np.round(frames + noise), 0, 255).astype(np.uint8)


def far(index: int) -> tuple[Frames, Frames]:
    return clip(index), clip(index, shift=2)  # the body has moved on


def near(index: int) -> tuple[Frames, Frames]:
    return clip(index), noisy(clip(index), 0.4, index)  # some values by a level


@pytest.mark.parametrize("chunk", [2, 6])
@pytest.mark.parametrize("pair", [far, near])
def test_distances_are_those_of_pixels(pair, chunk: int) -> None:  # type: ignore[no-untyped-def]
    """One pair is off by 20 % (standard error), many on average by as much less."""
    ratios = []
    for index in range(CLIPS):
        first, second = pair(index)
        beside = clip(index + 1)
        prints = [{("p", 0): fingerprint(c, beside, chunk, str(index))} for c in (first, second)]
        (found,) = squares(*prints).values()
        exact = np.square(rms(first, second, chunk))
        ratios.append(np.array(found) / exact)
    spread = np.sqrt(ratios).std()
    assert spread == pytest.approx((2 * SIZE) ** -0.5, rel=0.2)
    assert np.mean(ratios) == pytest.approx(1, abs=4 * (2 / SIZE / np.size(ratios)) ** 0.5 + 0.01)


def test_a_way_that_all_prompts_share_averages_out_over_them() -> None:
    """All clips brighter by a level: with one projection all would be wrong by the same."""
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    found = [np.square(fingerprint(grey + 1, grey, 2, f"test-{n}")).mean() for n in range(100)]
    assert np.mean(found) == pytest.approx(1, abs=3 * (2 / SIZE / 100) ** 0.5)
    assert np.std(found) > 0.2


def test_what_stands_beside_does_not_matter() -> None:
    first, second = far(0)
    found = []
    for beside in (clip(5), np.zeros_like(first)):
        prints = [{("p", 0): fingerprint(c, beside, 4, "p")} for c in (first, second)]
        found.append(squares(*prints)["p", 0])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_rms_is_exact() -> None:
    first, second = far(3)
    change = first.astype(float) - second
    expected = [np.sqrt((change[k : k + 5] ** 2).mean()) for k in range(0, 24, 5)]
    assert rms(first, second, 5) == pytest.approx(expected, abs=0.006)


def test_equal_clips_are_at_distance_zero_and_one_value_is_seen() -> None:
    frames = clip(0)
    other = frames.copy()
    other[0, 3, 4, 1] += 1
    prints = [{("p", 0): fingerprint(c, frames, 2, "p")} for c in (frames, other)]
    found = squares(*prints)["p", 0]
    assert found[1:] == [0] * 11
    assert np.sqrt(found[0]) == pytest.approx((1 / (2 * 32 * 32 * 3)) ** 0.5, rel=0.1)
    assert np.sqrt(found[0]) > LEAST
    assert squares(prints[0], {("q", 0): prints[1]["p", 0]}) == {}


def test_a_record_keeps_few_short_numbers() -> None:
    numbers = fingerprint(clip(0, 2), clip(0), 2, "p")
    assert len(numbers) == 12 * SIZE
    assert all(number == round(number, 2) for number in numbers)
    assert fingerprint(clip(0, 2), clip(0), 2, "p") == numbers
