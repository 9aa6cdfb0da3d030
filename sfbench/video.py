"""Video files in and out (PyAV): written without loss, read within bounds.

Whatever is wrong with a file is a :class:`VideoError` of one sentence. A file may come from anyone:
only plain video containers are opened (no playlists, which name other files and hosts), and the
size of a frame is checked before the first one is decoded. All checks are those of :func:`stream`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from .interfaces import Frames
from .store import replacing

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi")
MAX_FRAMES = 100_000
MAX_PIXELS = 8192 * 8192
"""Pixels of one frame."""
CODED_PIXELS = 256 * 256
"""What a codec may add at the edges, on the safe side: frames are coded in blocks."""
DECODERS = 4
"""Threads of one decoder at the most: each may hold a frame, so memory must not grow with cores."""
REC709 = np.array([0.2126, 0.7152, 0.0722])
"""Weights of R, G and B in luma."""
LEAST_PLAYED = 256
"""Pixels of the longer side that a player shows as more than a stamp."""
RATE_DENOMINATOR = 1001  # exact for whole rates and for 24000/1001 and its kin


class VideoError(ValueError):
    """A video file that cannot be used; the text is one sentence."""


@dataclass(frozen=True)
class Held:
    """A video file in memory, as one that came out of a shard."""

    name: str
    data: bytes


Source = Path | Held
"""What can be read as a video."""


def write_clip(path: Path, frames: Frames, fps: float, crf: int = 0) -> str:
    """Write ``uint8 [T, H, W, 3]`` as H.264 in RGB, atomically; without loss unless ``crf`` > 0.

    Returns :func:`pixel_hash`, which is also the hash of what :func:`read_clip` gives back from a
    file without loss.
    """
    import av

    with replacing(path) as temporary, av.open(temporary, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(RATE_DENOMINATOR)
        options = {"crf": str(crf), "preset": "veryfast"}
        stream = container.add_stream("libx264rgb", rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return pixel_hash(frames)


def write_playable(path: Path, frames: Frames, fps: float) -> None:
    """Write frames as every player and browser takes them, atomically: H.264 in 4:2:0.

    Nearly without loss. Small frames are enlarged by a whole factor, and odd sides lose a row.
    """
    import av

    factor = max(1, LEAST_PLAYED // max(frames.shape[1:3]))
    height, width = (side * factor // 2 * 2 for side in frames.shape[1:3])
    with replacing(path) as temporary, av.open(temporary, "w", format="mp4") as container:
        rate = Fraction(fps).limit_denominator(RATE_DENOMINATOR)
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            large = frame.repeat(factor, 0).repeat(factor, 1)[:height, :width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode(None))


def pixel_hash(frames: Frames) -> str:
    """SHA-256 of the pixels in row order."""
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def read_clip(
    path: Source, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS
) -> tuple[Frames, float]:
    """All frames ``uint8 [T, H, W, 3]`` of a video, and its frames per second.

    Memory stays within ``max_frames`` frames of ``max_pixels`` pixels; more is an error.
    """
    with stream(path, max_frames, max_pixels) as reader, _told(path):
        return np.stack(list(reader)), reader.fps


def stream(path: Source, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS) -> Reader:
    """Open a video to be read frame by frame, in memory that does not grow with its length.

    ::

        with stream(path) as reader:
            for frame in reader:  # uint8 [H, W, 3]
                ...

    A fault further on in the file is raised when its frame is reached, and a file cut short after
    its last frame: what was made of the frames until then is to be thrown away.
    """
    return Reader(path, max_frames, max_pixels)


class Reader:
    """An open video (:func:`stream`): its rate and size, and its frames, which can be read once."""

    fps: float
    height: int
    width: int

    def __init__(self, path: Source, max_frames: int, max_pixels: int) -> None:
        import av

        self._path, self._max_frames = path, max_frames
        if isinstance(path, Path) and not path.is_file():
            raise VideoError(f"{path.name} is not a file.")
        file = path.resolve() if isinstance(path, Path) else io.BytesIO(path.data)
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
        with _told(path):
            self._container = av.open(file, "r", options=options)
        try:
            self._stream = _video_stream(path, self._container)
            _ensure_size(path, self._stream, max_pixels)
        except VideoError:
            self.close()
            raise
        context = self._stream.codec_context
        context.options = {"max_pixels": str(2 * max_pixels + CODED_PIXELS)}
        context.thread_type, context.thread_count = "AUTO", DECODERS
        assert self._stream.average_rate is not None
        self.fps = float(self._stream.average_rate)
        self.height, self.width = context.height, context.width
        self._frames = self._decode()

    @property
    def declared_frames(self) -> int | None:
        """How many frames the header promises; ``None`` where it does not say."""
        seconds = _declared_seconds(self._container, self._stream)
        return self._stream.frames or (None if seconds is None else round(seconds * self.fps))

    def __iter__(self) -> Iterator[Frames]:
        return self._frames

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; frames that were not read are lost."""
        self._container.close()

    def _decode(self) -> Iterator[Frames]:
        name, count, end = self._path.name, 0, 0.0
        with _told(self._path):
            for frame in self._container.decode(self._stream):
                if frame.is_corrupt:
                    raise VideoError(f"{name} is damaged at frame {count}.")
                if count == self._max_frames:
                    raise VideoError(
                        f"{name} has more than the {self._max_frames} frames that are read."
                    )
                if (frame.height, frame.width) != (self.height, self.width):
                    raise VideoError(
                        f"{name} changes its size: frame {count} is {frame.width}x{frame.height}, "
                        f"not {self.width}x{self.height}."
                    )
                count, end = count + 1, frame.time or 0.0
                yield _pixels(frame)
        if not count:
            raise VideoError(f"{name} holds no frame.")
        _ensure_whole(self._path, self._container, self._stream, count, end)


# --- helpers --------------------------------------------------------------------------------------


@contextmanager
def _told(path: Source) -> Iterator[None]:
    """What the decoder raises, as one sentence."""
    import av

    try:
        yield
    except (av.FFmpegError, EOFError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(f"{path.name} cannot be read as video ({reason}).") from None


def _video_stream(path: Source, container: av.container.InputContainer) -> VideoStream:
    if not container.streams.video:
        raise VideoError(f"{path.name} holds no video stream.")
    found = container.streams.video[0]
    if not found.average_rate:
        raise VideoError(f"{path.name} does not say its frame rate.")
    return found


def _ensure_size(path: Source, stream: VideoStream, max_pixels: int) -> None:
    width, height = stream.codec_context.width, stream.codec_context.height
    if not 0 < width * height <= max_pixels:
        raise VideoError(
            f"{path.name} has frames of {width}x{height}; from 1 to {max_pixels} pixels are read."
        )


def _pixels(frame: Any) -> Frames:
    pixels: Frames = frame.to_ndarray(format="rgb24")
    return pixels


def _ensure_whole(
    path: Source,
    container: av.container.InputContainer,
    stream: VideoStream,
    count: int,
    last: float,
) -> None:
    """A file cut short may decode without complaint; its header still says how long it was."""
    assert stream.average_rate is not None
    frame = 1 / float(stream.average_rate)
    seconds = _declared_seconds(container, stream)
    short = seconds is not None and last + frame < seconds - 2 * frame
    if count < stream.frames or short:
        declared = f"{stream.frames} frames" if stream.frames else f"{seconds:.2f} s"
        raise VideoError(f"{path.name} is cut short: {count} frames of the {declared} it declares.")


def _declared_seconds(container: av.container.InputContainer, stream: VideoStream) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "").split(":")
    if len(tag) == 3:
        try:
            return int(tag[0]) * 3600 + int(tag[1]) * 60 + float(tag[2])
        except ValueError:
            return None
    alone = len(container.streams) == 1  # else the longest stream decides, e.g. the sound
    return container.duration / 1e6 if alone and container.duration is not None else None
