"""Speed of the oracle, in frames a second on one core: a part of ``make bench``."""

from __future__ import annotations

import statistics

from sfbench.clock import Stopwatch

from . import oracle, shapes

CLIPS, FRAMES, SIZE = 24, 96, 32


def main() -> None:
    """Print how fast clips of each level are decoded and judged."""
    for level in shapes.LEVELS:
        seconds = statistics.median(_judge(level, index) for index in range(CLIPS))
        rate = FRAMES / seconds
        print(f"oracle, {level} at {SIZE}x{SIZE}: {rate:.0f} frames a second (goal 500)")


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
