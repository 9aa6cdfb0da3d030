"""Real video: VBench's own number, what damage does to each measure, and files that are damaged."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from sfbench.interfaces import Frames
from sfbench.metrics_video import MEASURES, watch
from sfbench.video import VideoError, read_clip, stream, write_clip

import real_videos as real

VBENCH_FLICKERING = 0.9803379560607711
"""What vbench 0.1.5 says of the three clips: temporal_flickering, mean of videos."""
FLICKERING = tuple(m for m in MEASURES if m.name == "temporal_flickering")
EXCERPTS = {
    "bigbuckbunny": ("bigbuckbunny", 40, 10),
    "bikes": ("bikes", 31, 20),
    "carphone": ("carphone_pristine", 0, 24),
}


def values(name: str, damage: Callable[[Frames], Frames] | None = None) -> dict[str, float | None]:
    frames, fps = real.excerpt(*EXCERPTS[name])
    return watch(damage(frames) if damage else frames, fps).values


@pytest.fixture(scope="module")
def whole() -> dict[str, dict[str, float | None]]:
    return {name: values(name) for name in EXCERPTS}


# --- the measures ---------------------------------------------------------------------------------


def test_temporal_flickering_is_vbenchs() -> None:
    found = []
    for name in real.CLIPS:
        with stream(real.path(name)) as reader:
            found.append(watch(reader, reader.fps, FLICKERING).values["temporal_flickering"])
    assert np.mean([v for v in found if v is not None]) == pytest.approx(
        VBENCH_FLICKERING, abs=1e-8
    )


def blocky(frames: Frames) -> Frames:
    return real.coded(frames, "mpeg4", qmin="25", qmax="31")


def blocky_jpeg(frames: Frames) -> Frames:
    return real.coded(frames, "mjpeg", qmin="25", qmax="31")


def starved(frames: Frames) -> Frames:
    return real.coded(frames, crf="48")


def frozen_and_coded(frames: Frames) -> Frames:
    return real.coded(real.frozen(frames), crf="30")


DAMAGES = [  # the damage, the measure that declares to see it, which way it moves and how far
    (real.blurred, "sharpness", -0.8),
    (real.noisy, "sharpness", 0.1),
    (real.noisy, "temporal_flickering", -0.01),
    (real.noisy, "warping_error", 0.001),
    (real.flickering, "temporal_flickering", -0.03),
    (real.flickering, "warping_error", 0.03),
    (blocky, "blockiness", 0.1),
    (blocky_jpeg, "blockiness", 0.2),
    (starved, "blockiness", 0.05),
    (starved, "sharpness", -0.03),
    (real.frozen, "motion_magnitude", -0.01),
    (real.frozen, "repeated_frames", 0.4),
    (frozen_and_coded, "repeated_frames", 0.4),
    (real.stuttering, "repeated_frames", 0.4),
    (real.stuttering, "motion_smoothness_flow", -0.2),
    (real.brighter, "exposure", 0.1),
    (real.brighter, "clipped", 0.05),
    (real.greyer, "saturation", -0.04),
]


@pytest.mark.parametrize(
    ("damage", "name", "least"), DAMAGES, ids=[f"{d.__name__}-{n}" for d, n, _ in DAMAGES]
)
@pytest.mark.parametrize("clip", EXCERPTS)
def test_damage_moves_what_declares_to_see_it(
    clip: str,
    damage: Callable[[Frames], Frames],
    name: str,
    least: float,
    whole: dict[str, dict[str, float | None]],
) -> None:
    measures = [m for m in MEASURES if m.name == name]
    frames, fps = real.excerpt(*EXCERPTS[clip])
    after, before = watch(damage(frames), fps, measures).values[name], whole[clip][name]
    assert after is not None and before is not None
    assert np.sign(least) * (after - before) > abs(least)


def test_freezing_is_flickerings_best_value() -> None:
    """Why it is never read alone: a measure's blind side is declared, and real."""
    still = values("carphone", lambda frames: np.repeat(frames[:1], 6, axis=0))
    assert still["temporal_flickering"] == 1
    assert still["motion_magnitude"] == pytest.approx(0, abs=1e-4)
    assert still["motion_smoothness_flow"] is None


def test_the_pristine_clip_is_told_from_the_distorted_one() -> None:
    good, bad = (
        watch(*real.excerpt(f"carphone_{kind}", 0, 30)).values for kind in ("pristine", "distorted")
    )
    for name, sign in (("sharpness", -1), ("blockiness", 1), ("clipped", 1), ("saturation", -1)):
        first, second = good[name], bad[name]
        assert first is not None and second is not None
        assert sign * (second - first) > 0
    # Strong coding removes grain, which these two take for a good sign; they declare it.
    assert bad["temporal_flickering"] > good["temporal_flickering"]  # type: ignore[operator]
    assert bad["warping_error"] < good["warping_error"]  # type: ignore[operator]


def test_cuts_are_found() -> None:
    bikes, fps = real.excerpt("bikes", 20, 60)
    assert watch(bikes, fps, ()).cuts == (10, 56)
    joined = np.concatenate([bikes[12:20, :144, :176], real.excerpt("carphone_pristine", 0, 8)[0]])
    assert watch(joined, fps, ()).cuts == (8,)
    assert watch(*real.excerpt("bigbuckbunny", 40, 10), ()).cuts == ()
    assert watch(*real.excerpt("carphone_pristine", 0, 100), ()).cuts == ()


# --- the files ------------------------------------------------------------------------------------


def refused(path: Path, reason: str) -> None:
    """By the reader of a frame at a time, and so by all that rest on it."""
    with pytest.raises(VideoError, match=reason) as caught:
        read_clip(path)
    assert str(caught.value).startswith(path.name) and str(caught.value).endswith(".")
    with pytest.raises(VideoError, match=reason), stream(path) as reader:
        watch(reader, reader.fps, FLICKERING)


def copied(name: str, to: Path) -> Path:
    """The clip in another container, not coded again."""
    with av.open(real.path(name)) as source, av.open(to, "w") as container:
        video = source.streams.video[0]
        copy = container.add_stream_from_template(video)
        for packet in source.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    return to


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    """An mkv decodes to its torn end without complaint."""
    data = copied("carphone_pristine", tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"x.{suffix}").write_bytes(data[: int(share * len(data))])
    refused(tmp_path / f"x.{suffix}", "cut short|damaged|cannot be read")


def test_an_mkv_that_is_whole_is_read(tmp_path: Path) -> None:
    frames, fps = read_clip(copied("carphone_pristine", tmp_path / "whole.mkv"))
    assert len(frames) == 120
    assert fps == pytest.approx(29.97, abs=0.01)
    assert np.array_equal(frames[:24], real.excerpt("carphone_pristine", 0, 24)[0])


def test_corrupt_bytes(tmp_path: Path) -> None:
    """Which other evaluators score as if nothing were wrong."""
    data = bytearray(real.path("carphone_pristine").read_bytes())
    for n in range(len(data) // 3, len(data) // 3 + 30_000, 11):
        data[n] ^= 0xFF
    (tmp_path / "x.mp4").write_bytes(data)
    refused(tmp_path / "x.mp4", "damaged|cannot be read")


def test_sound_alone_and_no_frame(tmp_path: Path) -> None:
    with av.open(tmp_path / "sound.mkv", "w") as container:
        sound = container.add_stream("aac", rate=44100)
        for n in range(20):
            silence = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            silence.sample_rate, silence.pts = 44100, n * 1024
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    refused(tmp_path / "sound.mkv", "holds no video stream")
    data = copied("carphone_pristine", tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "none.mkv").write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])
    refused(tmp_path / "none.mkv", "cannot be read|holds no frame")


HOSTILE = """
import sys
from pathlib import Path
from sfbench.bench import _peak
from sfbench.video import VideoError, stream
import av, numpy
before = _peak()
try:
    with stream(Path(sys.argv[1])) as reader:
        for frame in reader:
            print(frame.shape)
except VideoError as error:
    print(error)
print(0 if before is None else _peak() - before)
"""


@pytest.mark.parametrize("side", [20000, 40000])
@pytest.mark.parametrize("lie", ["header", "picture"])
def test_a_hostile_size_costs_no_memory(tmp_path: Path, lie: str, side: int) -> None:
    """In the header of the file, or in each picture, which only the decoder reads."""
    path = tmp_path / "x.avi"
    with av.open(path, "w") as container:
        video = container.add_stream("rawvideo" if lie == "header" else "mjpeg", rate=16)
        video.width = video.height = 64
        video.pix_fmt = "bgr24" if lie == "header" else "yuvj420p"
        for frame in np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    data = bytearray(path.read_bytes())
    if lie == "header":
        start = data.index(b"strf") + 12
        data[start : start + 8] = struct.pack("<ii", side, side)
    else:
        start = -1
        while (start := data.find(b"\xff\xc0\x00\x11", start + 1)) >= 0:
            data[start + 5 : start + 9] = struct.pack(">HH", side, side)
    path.write_bytes(data)
    said, grown = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    assert said.startswith("x.avi")
    assert int(grown) < 50e6, "one frame of 20000 x 20000 is 1.2 GB"


def test_what_is_streamed_is_what_is_read(tmp_path: Path) -> None:
    frames, fps = real.excerpt("carphone_pristine", 0, 10)
    write_clip(tmp_path / "x.mp4", frames, fps)
    with stream(tmp_path / "x.mp4") as reader:
        assert (reader.height, reader.width) == frames.shape[1:3]
        assert reader.fps == pytest.approx(fps, rel=1e-4)
        assert np.array_equal(np.stack(list(reader)), frames)
        assert list(reader) == []
