"""What `sfbench doctor` looks at on the machine: codecs, the run folder, disk, memory, cores.

A check returns a :data:`Finding` and may raise anything; :mod:`.doctor` makes rows of both.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from .store import write_atomic

Verdict = Literal["ok", "warn", "fail"]
Finding = tuple[Verdict, str, str]
"""Verdict, one sentence, and the command that mends it (empty: nothing is to be done)."""

GB = 1e9
LEAST_DISK = 2 * GB
LEAST_MEMORY = 2 * GB
THREADS = "OMP_NUM_THREADS"
PYAV = "pip install --force-reinstall --no-deps 'av>=14,<20'"

TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1]) as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(3)
"""
REFUSED = 3  # its exit code where the lock is held


# --- video ----------------------------------------------------------------------------------------


def codecs() -> Finding:
    """Two frames through the lossless codec of run directories and through ordinary H.264."""
    import numpy as np

    from .video import read_clip, write_clip

    rows, columns = np.mgrid[:32, :48]
    frame = np.stack([5 * columns, 7 * rows, 3 * (rows + columns)], axis=-1).astype(np.uint8)
    frames = np.stack([frame, 255 - frame])
    with tempfile.TemporaryDirectory() as folder:
        exact, lossy = Path(folder) / "exact.mp4", Path(folder) / "h264.mp4"
        try:
            write_clip(exact, frames, 8)
            same = np.array_equal(read_clip(exact)[0], frames)
            _write_h264(lossy, frames)
            off = float(np.abs(read_clip(lossy)[0].astype(int) - frames).mean())
        except Exception as error:
            return "fail", f"PyAV cannot write and read H.264 ({_one_line(error)}).", PYAV
    if not same:
        return "fail", "A lossless clip did not come back as it was written.", PYAV
    if off > 16:  # levels of 255; colour at half resolution costs 2 or 3
        return "fail", f"An H.264 clip came back {off:.0f} levels away from what was written.", PYAV
    return "ok", "H.264 is written and read, with loss and without.", ""


def _write_h264(path: Path, frames: object) -> None:
    """As most videos of others are: ``yuv420p``."""
    import av
    import numpy as np

    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"crf": "18"})
        clip = np.asarray(frames)
        stream.height, stream.width, stream.pix_fmt = *clip.shape[1:3], "yuv420p"
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


# --- the folder of the runs -----------------------------------------------------------------------


def folder(out: Path) -> Finding:
    """Whether runs can be written there, and whether a lock keeps a second process out."""
    place = nearest(out)
    elsewhere = "sfbench run --out ~/sfbench-runs"
    if not place.is_dir():
        return "fail", f"{place} is a file, so no run can be written there.", elsewhere
    try:
        with tempfile.TemporaryDirectory(prefix=".sfbench-doctor-", dir=place) as inside:
            path = Path(inside) / "lock"
            write_atomic(path, b"")
            held = _lock_holds(path)
    except OSError as error:
        reason = error.strerror or str(error)
        return "fail", f"{place} cannot be written and locked ({reason}).", elsewhere
    if not held:
        text = f"A lock in {place} keeps no other process out (a network folder without flock?)."
        return "fail", text, elsewhere
    return "ok", f"{place} can be written, and its locks hold.", ""


def _lock_holds(path: Path) -> bool:
    """Another process must be refused: on some network folders a lock only seems to be there."""
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        command = [sys.executable, "-I", "-S", "-c", TRY_LOCK, str(path)]
        return subprocess.run(command, capture_output=True).returncode == REFUSED


def disk(out: Path) -> Finding:
    """Room for clips."""
    place = nearest(out)
    free = shutil.disk_usage(place).free
    text = f"{free / GB:.1f} GB are free where {place} lies"
    if free < LEAST_DISK:
        least = f"{text}; clips of a full run need {LEAST_DISK / GB:.0f} GB."
        return "warn", least, "sfbench run --out FOLDER_ON_A_LARGER_DISK"
    return "ok", f"{text}.", ""


def nearest(out: Path) -> Path:
    """The folder itself or, while it is not there, the one that it would be made in."""
    path = out.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


# --- memory and cores -----------------------------------------------------------------------------


def memory() -> Finding:
    """What a process may still take, the limit of a container included."""
    free = free_memory()
    if free is None:
        return "ok", "This system does not say how much memory is free.", ""
    text = f"{free / GB:.1f} GB of memory are free"
    if free < LEAST_MEMORY:
        return "warn", f"{text}; smaller batches need less.", "sfbench run --batch 4"
    return "ok", f"{text}.", ""


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes; the lesser of what the system and the control group leave, ``None`` if neither says.

    What the group holds of files it would give up, so it counts as free.
    """
    found = []
    meminfo = _read(root / "proc/meminfo")
    if "MemAvailable:" in meminfo:
        found.append(1024 * int(meminfo.partition("MemAvailable:")[2].split()[0]))
    group = root / "sys/fs/cgroup"
    limit, used = _read(group / "memory.max").strip(), _read(group / "memory.current").strip()
    if limit.isdigit() and used.isdigit():
        cached = _read(group / "memory.stat").partition("\ninactive_file ")[2].split()
        found.append(int(limit) - int(used) + (int(cached[0]) if cached else 0))
    return min(found) if found else None


def cores() -> Finding:
    """Threads beyond the cores that this process may use slow each other down."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wanted = os.environ.get(THREADS)
    words = f"{count} cores can be used"
    if wanted is None:
        return "ok", f"{words}; {THREADS} is not set, so libraries choose their threads.", ""
    mend = f"export {THREADS}={count}"
    if not wanted.isdigit() or int(wanted) < 1:
        return "warn", f"{words}, but {THREADS} is '{wanted}', which is no number.", mend
    if count is not None and int(wanted) > count:
        return "warn", f"{words}, but {THREADS} is {wanted}: threads will wait.", mend
    return "ok", f"{words}; {THREADS} is {wanted}.", ""


# --- helpers --------------------------------------------------------------------------------------


def quoted(path: Path | str) -> str:
    """For a command line."""
    return shlex.quote(str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
