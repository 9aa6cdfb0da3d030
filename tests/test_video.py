"""Video in and out: lossless when written, and one typed error for whatever may be wrong."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from sfbench.video import (
    SUFFIXES,
    VideoError,
    pixel_hash,
    read_clip,
    stream,
    write_clip,
    write_playable,
)

Frames = NDArray[np.uint8]


def noise(*shape: int) -> Frames:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


CLIP = noise(48, 24, 32, 3)


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(8, 32, 32, 3), (5, 33, 17, 3), (5, 17, 33, 3), (1, 16, 16, 3), (2, 1, 1, 3)]
)
@pytest.mark.parametrize("kind", ["noise", "flat"])
def test_every_pixel_comes_back(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    frames = noise(*shape) if kind == "noise" else np.full(shape, (255, 0, 3), np.uint8)
    path = tmp_path / "clip.mp4"
    sha256 = write_clip(path, frames, 16)
    again, fps = read_clip(path)
    assert again.dtype == np.uint8
    assert np.array_equal(again, frames)
    assert fps == 16
    assert sha256 == pixel_hash(again) == hashlib.sha256(frames.tobytes()).hexdigest()


@pytest.mark.parametrize("fps", [1, 8, 12.5, 23.976, 24000 / 1001, 60])
def test_the_rate_comes_back(tmp_path: Path, fps: float) -> None:
    write_clip(tmp_path / "clip.mp4", CLIP[:4], fps)
    assert read_clip(tmp_path / "clip.mp4")[1] == pytest.approx(fps, rel=1e-4)


def test_the_hash_is_of_pixels_and_not_of_memory_layout() -> None:
    assert pixel_hash(CLIP) == pixel_hash(np.asfortranarray(CLIP))
    assert pixel_hash(CLIP) != pixel_hash(CLIP[::-1])


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / "clip.mp4", CLIP, 16)
    assert not list(tmp_path.iterdir())


# --- what is read ---------------------------------------------------------------------------------


def refused(path: Path, reason: str, **bounds: int) -> None:
    with pytest.raises(VideoError, match=reason) as caught:
        read_clip(path, **bounds)
    assert str(caught.value).startswith(path.name)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none.mp4", "is not a file")
    refused(tmp_path, "is not a file")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").touch()
    refused(tmp_path / "x.mp4", "cannot be read as video")


def test_garbage(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(noise(5000).tobytes())
    refused(tmp_path / "x.mp4", "cannot be read as video")


@pytest.mark.parametrize(
    "text", ["words " * 100, "#EXTM3U\n#EXTINF:3,\nclip.mp4\n#EXT-X-ENDLIST\n"]
)
def test_text_and_a_playlist_that_names_another_file(tmp_path: Path, text: str) -> None:
    write_clip(tmp_path / "clip.mp4", CLIP, 16)
    for name in ("x.mp4", "x.txt", "x.m3u8"):
        (tmp_path / name).write_text(text)
        refused(tmp_path / name, "cannot be read as video")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_mp4_cut_short(tmp_path: Path, share: float) -> None:
    write_clip(tmp_path / "clip.mp4", CLIP, 16)
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "x.mp4", "cannot be read as video|cut short|damaged")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_mkv_cut_short_which_decodes_without_complaint(tmp_path: Path, share: float) -> None:
    _mux(tmp_path / "clip.mkv", CLIP)
    assert np.array_equal(read_clip(tmp_path / "clip.mkv")[0], CLIP)
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "x.mkv").write_bytes(data[: int(len(data) * share)])
    refused(tmp_path / "x.mkv", "cut short|damaged")


def test_bytes_flipped_inside(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", CLIP, 16)
    data = bytearray((tmp_path / "clip.mp4").read_bytes())
    for n in range(len(data) // 2, len(data) // 2 + 2000, 7):
        data[n] ^= 0xFF
    (tmp_path / "x.mp4").write_bytes(data)
    refused(tmp_path / "x.mp4", "damaged|cannot be read")


def test_no_frames(tmp_path: Path) -> None:
    _mux(tmp_path / "clip.mkv", CLIP)
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "x.mkv").write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # no cluster
    refused(tmp_path / "x.mkv", "cannot be read as video|holds no frame")


def test_sound_only(tmp_path: Path) -> None:
    with av.open(tmp_path / "x.mp4", "w") as container:
        _add_sound(container, 20)
    refused(tmp_path / "x.mp4", "holds no video stream")


def test_sound_longer_than_the_picture_is_no_damage(tmp_path: Path) -> None:
    for name in ("x.mp4", "x.mkv"):
        _mux(tmp_path / name, CLIP, sound=300)
        assert len(read_clip(tmp_path / name)[0]) == len(CLIP)


def test_a_picture_is_no_video(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.fromarray(CLIP[0]).save(tmp_path / "x.png")
    refused(tmp_path / "x.png", "cannot be read as video")


def test_too_many_frames_and_too_many_pixels(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", CLIP, 16)
    assert len(read_clip(tmp_path / "x.mp4", max_frames=48, max_pixels=24 * 32)[0]) == 48
    refused(tmp_path / "x.mp4", "more than the 47 frames", max_frames=47)
    refused(tmp_path / "x.mp4", "frames of 32x24", max_pixels=24 * 32 - 1)


HUNGRY = """
import resource, sys
from pathlib import Path
from sfbench.video import VideoError, read_clip
import av, numpy
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_clip(Path(sys.argv[1]), max_frames=100, max_pixels=int(sys.argv[2]))
except VideoError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("shape", "max_pixels", "reason"),
    [((1, 3000, 3000, 3), 1000, "frames of 3000x3000"), ((3000, 64, 64, 3), 64 * 64, "more than")],
)
def test_a_huge_video_costs_no_memory(
    tmp_path: Path, shape: tuple[int, ...], max_pixels: int, reason: str
) -> None:
    write_clip(tmp_path / "x.mp4", np.broadcast_to(np.uint8(7), shape), 16)
    command = [sys.executable, "-c", HUNGRY, str(tmp_path / "x.mp4"), str(max_pixels)]
    said, kilobytes = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60
    ).stdout.splitlines()
    assert reason in said
    assert int(kilobytes) < 20_000, "a frame of the first is 27 MB, all of the second 37 MB"


def test_a_device_is_not_read() -> None:
    refused(Path("/dev/zero"), "is not a file")


def test_the_suffixes_are_of_containers_that_are_opened(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        path = tmp_path / f"clip{suffix}"
        codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
        _mux(path, CLIP[:8], codec=codec, pixels="yuv420p")
        assert read_clip(path)[0].shape == (8, 24, 32, 3)


def test_nothing_stays_open(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", CLIP, 16)
    (tmp_path / "y.mp4").write_bytes(b"no")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        read_clip(tmp_path / "x.mp4")
        refused(tmp_path / "y.mp4", "cannot be read")
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert after <= before
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0


# --- files no harness would write -----------------------------------------------------------------


def _mux(
    path: Path, frames: Frames, *, sound: int = 0, codec: str = "libx264rgb", pixels: str = "rgb24"
) -> None:
    with av.open(path, "w") as container:
        options = {"crf": "0"} if codec.startswith("libx264") else {}
        stream = container.add_stream(codec, rate=16, options=options)
        stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
        if sound:
            _add_sound(container, sound)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _add_sound(container: av.container.OutputContainer, blocks: int) -> None:
    stream = container.add_stream("aac", rate=44100)
    silence = np.zeros((2, 1024), np.float32)
    for n in range(blocks):
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = 44100, n * 1024
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


# --- one frame at a time --------------------------------------------------------------------------


def test_a_stream_gives_frames_before_it_has_seen_the_end(tmp_path: Path) -> None:
    _mux(tmp_path / "clip.mkv", CLIP)
    data = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "x.mkv").write_bytes(data[: int(len(data) * 0.6)])
    seen = []
    with (
        pytest.raises(VideoError, match=r"cut short|damaged"),
        stream(tmp_path / "x.mkv") as reader,
    ):
        seen.extend(reader)
    assert 0 < len(seen) < len(CLIP)
    assert np.array_equal(seen[0], CLIP[0])


def test_a_stream_can_be_left_early_and_is_read_once(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", CLIP, 16)
    with stream(tmp_path / "x.mp4") as reader:
        assert (reader.height, reader.width, reader.fps) == (24, 32, 16)
        assert np.array_equal(next(iter(reader)), CLIP[0])
        assert np.array_equal(next(iter(reader)), CLIP[1])
    with stream(tmp_path / "x.mp4") as reader:
        assert len(list(reader)) == len(CLIP)
        assert list(reader) == []


STREAMED = """
import sys
from pathlib import Path
from sfbench.bench import _peak
from sfbench.video import stream
import av, numpy
with stream(Path(sys.argv[1])) as reader:
    for _ in range(100):
        next(iter(reader))
    before = _peak()
    count = sum(1 for _ in reader)
print(count, 0 if before is None else _peak() - before)
"""


def test_a_stream_holds_few_frames(tmp_path: Path) -> None:
    write_clip(tmp_path / "x.mp4", np.broadcast_to(np.uint8(7), (500, 240, 320, 3)), 16)
    count, grown = subprocess.run(
        [sys.executable, "-c", STREAMED, str(tmp_path / "x.mp4")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert int(count) == 400
    assert int(grown) < 20e6, "400 frames are 92 MB"


def test_a_size_that_changes_is_refused(tmp_path: Path) -> None:
    """Two streams of H.264 joined: the second's header stands inside the first."""
    for name, size in (("a", 32), ("b", 48)):
        with av.open(tmp_path / f"{name}.h264", "w", format="h264") as container:
            video = container.add_stream("libx264", rate=16, options={"tune": "zerolatency"})
            video.height, video.width, video.pix_fmt = size, size, "yuv420p"
            for frame in noise(4, size, size, 3):
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
    joined = (tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes()
    (tmp_path / "j.h264").write_bytes(joined)
    with av.open(tmp_path / "j.h264") as source, av.open(tmp_path / "x.mkv", "w") as container:
        copy = container.add_stream_from_template(source.streams.video[0])
        for n, packet in enumerate(p for p in source.demux(video=0) if p.size):
            packet.pts = packet.dts = n * 1000
            packet.stream = copy
            container.mux(packet)
    refused(tmp_path / "x.mkv", "changes its size: frame")


@pytest.mark.parametrize("shape", [(6, 32, 48), (3, 15, 31), (2, 300, 200)], ids=str)
def test_what_any_player_takes(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """4:2:0 with even sides, enlarged by a whole factor where it is small, and nearly the same."""
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    frame = np.stack([3 * rows, 2 * columns, rows + columns], -1).clip(0, 255).astype(np.uint8)
    frames = np.broadcast_to(frame, (*shape, 3)).copy()
    write_playable(tmp_path / "a.mp4", frames, 16)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
    made, fps = read_clip(tmp_path / "a.mp4")
    factor = max(1, 256 // max(shape[1:]))
    assert fps == 16 and made.shape[:3] == (shape[0], *(n * factor // 2 * 2 for n in shape[1:]))
    small = made[:, factor // 2 :: factor, factor // 2 :: factor]
    expected = frames[:, : small.shape[1], : small.shape[2]]
    assert np.abs(small.astype(int) - expected).mean() < 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
