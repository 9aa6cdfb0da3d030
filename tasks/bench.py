"""Speed of the oracle and truth of the clock: a part of ``make bench``."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sfbench import runner
from sfbench.clock import Stopwatch
from sfbench.interfaces import Frames
from sfbench.schema import ModelCard, Request

from . import oracle, shapes
from .latency import Latency

CLIPS, FRAMES, SIZE = 24, 96, 32
FIRST, GAP = 0.200, 0.030  # seconds that the sleeping model takes


def main() -> None:
    """Print how fast clips are judged, and how true a known latency is measured."""
    for level in shapes.LEVELS:
        seconds = statistics.median(_judge(level, index) for index in range(CLIPS))
        rate = FRAMES / seconds
        print(f"oracle, {level} at {SIZE}x{SIZE}: {rate:.0f} frames a second (goal 500)")
    with tempfile.TemporaryDirectory() as out:
        result = runner.run(Latency(tier="lite"), Sleeper(), Path(out))
    for name, known in (("first_frame", FIRST), ("gap_p50", GAP), ("gap_p95", GAP)):
        found = result.estimates[name].value
        assert found is not None
        away = found - 1000 * known
        within = abs(away) <= max(3.0, 20 * known)  # 3 ms or 2 %
        print(
            f"clock, {name}: slept {1000 * known:.0f} ms, measured {found:.2f} ms "
            f"({away:+.2f}; goal 3 ms or 2 %: {'met' if within else 'missed'})"
        )


class Sleeper:
    """A model whose latency is known: it sleeps."""

    card = ModelCard(name="sleeper", chunk=2, native_frames=12)

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Two black frames a chunk."""
        size = request.geometry.height
        for k in range(request.geometry.frames // 2):
            threading.Event().wait(GAP if k else FIRST)
            yield np.zeros((2, size, size, 3), np.uint8)


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
