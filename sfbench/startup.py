"""A model in a process of its own: how long it takes from nothing to a frame, and what it holds.

The parent starts ``python -m sfbench.startup`` and times the lines that the child prints. Files are
in the machine's page cache as the run left them, so this is a cold process, not a cold disk.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from .clock import Stopwatch
from .models import bind, resolve
from .registry import load_dataset
from .schema import Base, Failure, Request, Startup

READY, FRAME, END = "sfbench-ready", "sfbench-frame", "sfbench-end "
"""Lines of the child. A model may print too; only these are read."""


class Order(Base):
    """What the child is to do; JSON on its standard input."""

    model: str
    dataset: str
    request: Request


class Memory(Base):
    """What the child says at its end, in bytes; ``None``: this system does not tell."""

    peak: int | None
    steady: int | None
    cuda_peak: int | None


def measure(model: str, dataset: str, request: Request) -> Startup | Failure:
    """Start a model by name in a new process and play one free request on it."""
    options = {name: value for name, value in request.options.items() if name != "process"}
    plain = request.model_copy(update={"options": options})
    order = Order(model=model, dataset=dataset, request=plain)
    with tempfile.TemporaryFile("w+") as errors:  # a pipe that nobody reads would fill
        watch = Stopwatch()
        child = subprocess.Popen(
            [sys.executable, "-m", "sfbench.startup"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert child.stdin is not None and child.stdout is not None
        with child:
            child.stdin.write(order.model_dump_json())
            child.stdin.close()
            seconds, memory = _listen(child.stdout, watch)
        errors.seek(0)
        said = errors.read().strip().splitlines()
    if child.returncode or memory is None:
        last = said[-1] if said else f"exit code {child.returncode}"
        return Failure(kind="model", reason=f"in a process of its own: {last}")
    return Startup(
        ready_s=seconds[READY],
        first_frame_s=seconds[FRAME],
        peak_bytes=memory.peak,
        steady_bytes=memory.steady,
        cuda_peak_bytes=memory.cuda_peak,
    )


def _listen(lines: IO[str], watch: Stopwatch) -> tuple[dict[str, float], Memory | None]:
    """When each line came, and the last one's content."""
    seconds: dict[str, float] = {}
    memory = None
    for line in lines:
        word = line.rstrip("\n")
        if word in (READY, FRAME):
            seconds[word] = watch.seconds
        elif word.startswith(END):
            memory = Memory.model_validate_json(word.removeprefix(END))
    return seconds, memory


# --- the child ------------------------------------------------------------------------------------


def main() -> None:
    """Load, say so, generate, say when the first frame is there, and what was held."""
    order = Order.model_validate_json(sys.stdin.read())
    model, geometry = resolve(order.model), order.request.geometry
    world = load_dataset(order.dataset)(order.dataset, geometry.height, geometry.fps)
    bind(model, world.clip)
    print(READY, flush=True)
    steady = None
    for number, _ in enumerate(model.generate(order.request)):
        if number == 0:
            print(FRAME, flush=True)
        steady = _resident()
    memory = Memory(peak=_peak(), steady=steady, cuda_peak=_cuda_peak())
    print(END + memory.model_dump_json(), flush=True)


def _peak() -> int | None:
    """Largest resident set of this process so far."""
    found = _status("VmHWM")
    if found is None and sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found  # on Linux getrusage would count the parent's, from before exec


def _resident() -> int | None:
    """Resident set now."""
    return _status("VmRSS")


def _status(field: str) -> int | None:
    """A size that Linux keeps of this process, in bytes; elsewhere ``None``."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(v.split()[1]) * 1024 for v in lines if v.startswith(f"{field}:")), None)


def _cuda_peak() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    main()
