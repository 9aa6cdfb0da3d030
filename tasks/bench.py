"""Speed of the oracle and truth of the clock: a part of ``make bench``."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sfbench import runner
from sfbench.clock import Stopwatch
from sfbench.interfaces import Frames
from sfbench.schema import Estimate, ModelCard, Request

from . import oracle, shapes
from .latency import Latency

CLIPS, FRAMES, SIZE = 24, 96, 32
AWAKE = 0.010  # seconds


def main() -> None:
    """Print how fast clips are judged, and how true a known latency is measured."""
    for level in shapes.LEVELS:
        seconds = statistics.median(_judge(level, index) for index in range(CLIPS))
        rate = FRAMES / seconds
        print(f"oracle, {level} at {SIZE}x{SIZE}: {rate:.0f} frames a second (goal 500)")
    for name, (gap, known) in SLEEPERS.items():
        with tempfile.TemporaryDirectory() as out:
            result = runner.run(Latency(tier="lite"), Sleeper(gap), Path(out))
        for estimate, truth in known.items():
            print(_told(name, estimate, truth, result.estimates[estimate]))


def _told(name: str, estimate: str, truth: float, found: Estimate) -> str:
    """One known time beside the measured one; the goal is 3 ms or 2 %."""
    assert found.value is not None
    away = found.value - truth
    within = abs(away) <= max(3.0 if found.unit == "ms" else 0.0, 0.02 * abs(truth))
    goal = "met" if within else "missed"
    return (
        f"clock, {name}, {estimate}: slept {truth:.4g}, measured {found.value:.4g} {found.unit} "
        f"({away:+.3g}; goal 3 ms or 2 %: {goal})"
    )


def _falling_pace() -> float:
    """Slope, a native horizon, of the pace of :func:`_growing`."""
    horizons = np.arange(2, FRAMES // 2 + 1) * 2 / 12
    paces = [2 / _growing(k) for k in range(1, FRAMES // 2)]
    return float(np.polyfit(horizons, paces, 1)[0])


def _steady(k: int) -> float:
    return 0.030 if k else 0.200


def _spiky(k: int) -> float:
    return 0.120 if k % 10 == 5 else 0.030


def _growing(k: int) -> float:
    return 0.030 + 0.001 * k


def _late(k: int) -> float:
    return 0.135 if k % 4 == 1 else 0.050  # two frames last 125 ms at 16 fps


# Sleeps of each chunk, and what they must be measured as, in ms or the estimate's unit.
SLEEPERS: dict[str, tuple[Callable[[int], float], dict[str, float]]] = {
    "steady": (_steady, {"first_frame": 200, "gap_p50": 30, "gap_p95": 30}),
    "spikes": (_spiky, {"gap_p50": 30, "gap_p95": 120}),
    "growing": (_growing, {"gap_p50": 54, "fps_slope": _falling_pace()}),
    "deadlines": (_late, {"gap_p50": 50, "late_16": 12 / 47}),
}


class Sleeper:
    """A model whose latency is known: it sleeps."""

    card = ModelCard(name="sleeper", chunk=2, native_frames=12)

    def __init__(self, gap: Callable[[int], float]) -> None:
        self.gap = gap

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Two black frames a chunk."""
        size = request.geometry.height
        for k in range(request.geometry.frames // 2):
            _sleep(self.gap(k))
            yield np.zeros((2, size, size, 3), np.uint8)


def _sleep(seconds: float) -> None:
    """As long as was said: the last of it awake, for the system wakes a sleeper late."""
    watch = Stopwatch()
    threading.Event().wait(max(0.0, seconds - AWAKE))
    while watch.seconds < seconds:
        pass


def _judge(level: str, index: int) -> float:
    """Seconds to read and judge one true clip."""
    scene = shapes.sample_scene(level, "test", index)
    clip = shapes.render(scene, FRAMES, SIZE)
    watch = Stopwatch()
    state = oracle.matched(oracle.decode(clip, len(scene.bodies)), scene)
    oracle.violations(state, scene)
    oracle.motion(state, scene)
    return watch.seconds


if __name__ == "__main__":
    main()
