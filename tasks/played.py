"""Whether a stream that is timed shows a video at all: what generates nothing is fast.

The first native horizon is held against the prompt and the laws of motion (:mod:`.judge`), and the
whole stream is searched for frames that stand still or come again, as in the long-horizon task. The
values stand beside the times and rank nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sfbench import metrics
from sfbench.interfaces import Frames
from sfbench.schema import Better, Scores

from . import drift
from .conclusion import Conclusion
from .judge import DIGITS, NATIVE, WINDOW, free_scores

VIOLATION = "violation_1x"
SHOWN: tuple[tuple[str, str, Better | None], ...] = (
    (VIOLATION, "0..1", "lower"),
    ("motion_1x", "lawful speed squared", None),
    ("jitter_1x", "lawful steps", "lower"),
    ("pace_1x", "lawful speed", None),
)
# Frames at a stand that make a clip of one native horizon a still; a longer one needs a horizon.
STILL_RUN = 4


def scores(frames: Frames, text: str) -> Scores:
    """What :func:`measure` needs of a stream, ``frames [T, H, W, 3]``."""
    judged = free_scores(frames, text)
    known = [v for v in judged.series["violation"][: NATIVE // WINDOW] if v is not None]
    kept = (*(name for name, _, _ in SHOWN if name != VIOLATION), "still_run", "copied_run")
    violation = round(sum(known) / len(known), DIGITS) if known else None
    return Scores(values={VIOLATION: violation} | {name: judged.values[name] for name in kept})


def film(frames: Frames) -> Scores:
    """The part of :func:`scores` that any video has: runs of frames that stand or come again."""
    runs: dict[str, float | None] = {
        "still_run": metrics.longest_run(metrics.still(frames)),
        "copied_run": metrics.longest_run(metrics.repeated(frames)),
    }
    return Scores(values=runs)


def measure(found: Conclusion, clips: Sequence[tuple[str, Scores]], frames: int) -> list[str]:
    """Publish the values of ``(prompt id, scores)``; the words for streams that do not play.

    ``frames``: length of a stream.
    """
    if not clips:
        return []
    streams, shortest = [seen for _, seen in clips], NATIVE if frames > NATIVE else STILL_RUN
    if VIOLATION not in streams[0].values:  # of another world: seen as film alone
        return [drift.STILL] if drift.most(streams, "still_run", shortest) else []
    for name, unit, better in SHOWN:
        sample: dict[str, list[float]] = {}
        for prompt, seen in clips:
            if (value := seen.values[name]) is not None:
                sample.setdefault(prompt, []).append(value)
        found.add(name, sample, unit=unit, better=better)
    flags = drift.not_played(found.estimates, streams, shortest)
    prompts = len({prompt for prompt, _ in clips})
    if not flags and drift.beyond_truth(streams, drift.RETURNS, prompts):
        flags.append(drift.REPEATS)
    return flags
