"""Measures of videos on made-up ones, where the right answer is known."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from sfbench import metrics_flow, metrics_video
from sfbench.interfaces import Frames
from sfbench.metrics_video import MEASURES, VideoMeasure, View, Watched, watch
from sfbench.registry import providers
from sfbench.video import REC709, VideoError

FPS = 24.0


def texture(height: int, width: int, seed: int = 0) -> Frames:
    """Smooth coloured noise: something for the flow to hold on to, at any size."""
    coarse = np.random.default_rng(seed).normal(0, 1, (9, 12, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (128 + 50 * image).clip(0, 255).astype(np.uint8)


def sliding(step: float, frames: int = 8, height: int = 96, width: int = 128) -> Frames:
    """A texture that moves left by ``step`` pixels a frame."""
    margin = int(np.ceil(step * frames)) + 1
    wide = texture(height, width + margin)
    return np.stack([_shifted(wide, step * n)[:, :width] for n in range(frames)])


def _shifted(image: Frames, x: float) -> Frames:
    moved = cv2.warpAffine(image, np.float32([[1, 0, -x], [0, 1, 0]]), image.shape[1::-1])
    return np.asarray(moved, np.uint8)


def value(frames: Frames, name: str, fps: float = FPS) -> float | None:
    return watch(frames, fps, [measure(name)]).values[name]


def known(frames: Frames, name: str, fps: float = FPS) -> float:
    found = value(frames, name, fps)
    assert found is not None
    return found


def measure(name: str) -> VideoMeasure:
    return next(m for m in MEASURES if m.name == name)


# --- motion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 128), (240, 426)])
def test_a_known_shift_is_a_known_motion(height: int, width: int) -> None:
    diagonal = np.hypot(height, width)
    step = 0.01 * diagonal
    found = known(sliding(step, 6, height, width), "motion_magnitude")
    assert found == pytest.approx(0.01 * FPS, rel=0.1)


def test_motion_is_of_the_scene_and_not_of_the_frame_rate() -> None:
    slow, fast = (
        known(sliding(step, 8), "motion_magnitude", fps) for step, fps in ((2.0, 12), (1.0, 24))
    )
    assert slow == pytest.approx(fast, rel=0.1)


def test_flow_leads_back_to_where_the_point_was() -> None:
    now, before = (metrics_flow.shrink(f[..., 0], (96, 128)) for f in sliding(3, 2)[::-1])
    back = metrics_flow.flow(now, before)
    assert np.median(back[..., 0]) == pytest.approx(3, abs=0.2)
    assert np.median(back[..., 1]) == pytest.approx(0, abs=0.1)
    moved = metrics_flow.follow(before.astype(np.float32), back)
    assert np.abs(moved - now)[8:-8, 8:-8].mean() < 1


def test_flow_does_not_depend_on_the_threads() -> None:
    now, before = (frame[..., 0] for frame in sliding(3, 2, 144, 256))
    threads = cv2.getNumThreads()
    try:
        found = []
        for count in (1, 2, 5):
            cv2.setNumThreads(count)
            found.append(metrics_flow.flow(now, before))
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(found[0], other) for other in found)


def test_smoothness_is_1_of_steady_motion_and_0_of_stutter() -> None:
    steady = sliding(2, 9)
    assert known(steady, "motion_smoothness_flow") > 0.9
    assert known(np.repeat(steady[::2], 2, axis=0), "motion_smoothness_flow") < 0.05
    jitter = steady[[0, 2, 1, 3, 2, 4, 3, 5, 4]]
    assert known(jitter, "motion_smoothness_flow") < 0.3


def test_standing_still_is_not_smooth_and_not_shaky() -> None:
    still = np.repeat(texture(96, 128)[None], 6, axis=0)
    found = watch(still, FPS).values
    assert found["motion_magnitude"] == pytest.approx(0, abs=1e-3)
    assert found["motion_smoothness_flow"] is None
    assert found["repeated_frames"] == 1
    assert found["temporal_flickering"] == 1
    assert found["warping_error"] == pytest.approx(0, abs=1e-3)


def test_warping_error_is_what_motion_does_not_explain() -> None:
    moving = sliding(2, 8)
    plain = known(moving, "warping_error")
    assert plain < 0.01
    flicker = (moving * np.where(np.arange(8) % 2, 1.1, 0.9)[:, None, None, None]).clip(0, 255)
    assert known(flicker.astype(np.uint8), "warping_error") > plain + 0.03


def test_what_comes_into_sight_is_not_compared() -> None:
    back = np.zeros((64, 64, 2), np.float32)
    back[..., 0] = 5
    seen = metrics_flow.visible(back, -back)
    assert seen[:, :-5].all() and not seen[:, -5:].any()
    assert not metrics_flow.visible(back, back).any()


# --- cuts -----------------------------------------------------------------------------------------


def test_a_cut_is_found_and_masked_but_not_for_the_flicker() -> None:
    dark = (texture(96, 128, seed=5) * 0.4).astype(np.uint8)
    found = watch(np.concatenate([sliding(1, 6), np.repeat(dark[None], 6, axis=0)]), FPS)
    assert found.cuts == (6,)
    assert found.cuts_per_minute == pytest.approx(60 * FPS / 12)
    for name in ("motion_magnitude", "motion_smoothness_flow", "warping_error"):
        assert not found.series[name].known[6]
    assert not found.series["motion_smoothness_flow"].known[7]
    assert found.series["temporal_flickering"].known[1:].all()
    assert found.series["temporal_flickering"].values[6] < 0.8


@pytest.mark.parametrize("size", [16, 32, 128])
def test_noise_flashes_and_fast_motion_are_no_cuts(size: int) -> None:
    rng = np.random.default_rng(0)
    assert watch(rng.integers(0, 256, (12, size, size, 3), np.uint8), FPS, []).cuts == ()
    flash = np.repeat(texture(size, size)[None], 6, axis=0)
    flash[3] = (flash[3] * 1.6).clip(0, 255)
    assert watch(flash, FPS, []).cuts == ()
    assert watch(sliding(size / 8, 6, size, size), FPS, []).cuts == ()


# --- pictures -------------------------------------------------------------------------------------


def test_picture_measures_are_their_formulas() -> None:
    clip = np.random.default_rng(1).integers(0, 256, (3, 40, 56, 3), np.uint8)
    found = watch(clip, FPS).values
    y = clip @ REC709
    neighbours = y[:, :-2, 1:-1] + y[:, 2:, 1:-1] + y[:, 1:-1, :-2] + y[:, 1:-1, 2:]
    variance = (neighbours - 4 * y[:, 1:-1, 1:-1]).var(axis=(1, 2))
    assert found["sharpness"] == pytest.approx(np.log10(variance + 1).mean(), abs=1e-4)
    assert found["exposure"] == pytest.approx(y.mean() / 255, abs=1e-5)
    high, low = clip.max(-1).astype(float), clip.min(-1)
    assert found["saturation"] == pytest.approx(((high - low) / high.clip(1)).mean(), abs=2e-3)


def test_motion_of_what_differs_in_colour_alone_is_no_repeat() -> None:
    """Equal luma: a test of grey frames took a moving red square on grey for a still."""
    clip = np.full((8, 32, 32, 3), 100, np.uint8)
    red = np.array([160, 86, 66])
    assert abs(red @ REC709 - 100) < 1
    for n in range(8):
        clip[n, 8:20, 2 * n : 2 * n + 10] = red
    assert value(clip, "repeated_frames") == 0


def test_flickering_is_the_formula() -> None:
    clip = np.random.default_rng(2).integers(0, 256, (5, 24, 24, 3), np.uint8)
    pairs = np.abs(np.diff(clip.astype(np.float64), axis=0)).mean(axis=(1, 2, 3))
    assert value(clip, "temporal_flickering") == pytest.approx((255 - pairs.mean()) / 255, abs=1e-9)


def test_clipped_is_the_share_at_both_ends() -> None:
    frame = np.full((1, 20, 20, 3), 128, np.uint8)
    frame[0, :5], frame[0, 5:10] = 1, 254
    assert value(frame, "clipped") == pytest.approx(0.5)
    assert value(frame[:, 10:], "clipped") == 0


@pytest.mark.parametrize(("height", "width"), [(64, 96), (16, 16), (72, 8)])
def test_blockiness_sees_the_grid(height: int, width: int) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    tiles = cv2.resize(frame, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
    blocks = cv2.resize(tiles, (width, height), interpolation=cv2.INTER_NEAREST)
    assert known(blocks[None], "blockiness") == pytest.approx(1)
    assert abs(known(frame[None], "blockiness")) < 0.1
    assert value(np.roll(blocks, (3, 3), (0, 1))[None], "blockiness") != pytest.approx(1)


def test_blockiness_of_a_flat_or_tiny_frame_is_0() -> None:
    assert value(np.full((1, 32, 32, 3), 9, np.uint8), "blockiness") == 0
    assert value(texture(8, 8)[None], "blockiness") == 0


def test_repeats_are_counted_though_a_level_changes() -> None:
    moving = sliding(4, 8)
    assert value(moving, "repeated_frames") == 0
    stutter = np.repeat(moving[:4], 2, axis=0)
    stutter[::2] = np.where(stutter[::2] < 255, stutter[::2] + 1, 254)
    assert value(stutter, "repeated_frames") == pytest.approx(4 / 7)


# --- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (2, 2), (16, 16), (32, 32), (16, 640), (90, 160), (2160, 3840)]
)
def test_every_size_is_measured(height: int, width: int) -> None:
    frames = np.stack([np.roll(texture(height, width), n, axis=1) for n in range(3)])
    found = watch(frames, FPS)
    assert found.frames == 3
    for m in MEASURES:
        within(found, m)
        if m.name not in ("motion_smoothness_flow", "warping_error"):
            assert found.values[m.name] is not None


def within(found: Watched, m: VideoMeasure) -> None:
    series = found.series[m.name]
    assert np.isfinite(series.values).all()
    low, high = m.bounds
    for number in series.values[series.known]:
        assert low is None or number >= low - 1e-6
        assert high is None or number <= high + 1e-6


def test_one_frame_has_no_pairs_and_no_frame_has_nothing() -> None:
    one = watch(texture(32, 48)[None], FPS)
    assert one.values["temporal_flickering"] is None
    assert one.values["motion_magnitude"] is None
    assert one.values["exposure"] is not None
    none = watch([], FPS)
    assert none.frames == 0
    assert none.cuts_per_minute is None
    assert set(none.values.values()) == {None}


def test_series_have_a_place_for_every_frame() -> None:
    found = watch(sliding(1, 7), FPS)
    for name, series in found.series.items():
        assert series.values.dtype == np.float32
        assert len(series.values) == len(series.known) == 7
        windows = series.windows(3)
        assert len(windows) == 3
        mean = found.values[name]
        assert mean == pytest.approx(float(series.values[series.known].mean()), rel=1e-5)
    assert found.series["motion_magnitude"].windows(1)[0] is None


def test_frames_that_are_none_are_refused() -> None:
    with pytest.raises(VideoError, match=r"must be uint8 \[H, W, 3\], not float32 \[4, 4, 3\]"):
        watch([np.zeros((4, 4, 3), np.float32)], FPS)  # type: ignore[list-item]
    with pytest.raises(VideoError, match="Frame 1 is of shape"):
        watch([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], FPS)


class Watcher:
    """Notes what is still alive."""

    def __init__(self) -> None:
        self.seen: list[weakref.ref[View]] = []
        self.most = 0

    def add(self, view: View) -> None:
        self.seen.append(weakref.ref(view))
        gc.collect()
        self.most = max(self.most, sum(r() is not None for r in self.seen))
        assert view.previous is None or len(view.previous.rgb)
        before = view.previous and view.previous.previous
        assert before is None or (not before.rgb.size and before.previous is None)


def test_only_the_frames_that_are_needed_stay() -> None:
    watcher, clip = Watcher(), sliding(1, 12)
    gc.freeze()  # what other tests left is not searched again for every frame
    try:
        watch(clip, FPS, observers=[watcher])
    finally:
        gc.unfreeze()
    assert len(watcher.seen) == 12
    assert watcher.most <= 4


def test_memory_does_not_grow_with_the_length() -> None:
    def endless(count: int) -> Iterator[Frames]:
        base = texture(96, 128)
        return (np.roll(base, n, axis=1) for n in range(count))

    peaks = []
    for count in (20, 20, 200):  # the first one pays for what is made once
        tracemalloc.start()
        watch(endless(count), FPS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_frame = (peaks[2] - peaks[1]) / 180
    assert per_frame < 20 * len(MEASURES), "a frame has 37 kB"


def test_a_measure_of_ones_own() -> None:
    def change(view: View) -> float | None:
        return None if view.before is None else float(np.ptp(view.small))

    own = VideoMeasure(
        name="own",
        better=None,
        unit="levels",
        bounds=(0, 255),
        resolution=1,
        note="range",
        per_frame=change,
    )
    assert watch(sliding(1, 4), FPS, [own]).values["own"] is not None
    assert metrics_video.MEASURES


def test_each_measure_is_listed() -> None:
    assert list(providers("metrics")) == [measure.name for measure in metrics_video.MEASURES]
