"""Finished videos of any world, each taken as a whole (:mod:`.footage_drift`: along its length).

There is no oracle here and no truth: these are proxies (:mod:`.proxies`), read beside each other
and never ranked. VBench's own scores are added by ``sfbench score --vbench``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sfbench.footage import Video, sizes, typical
from sfbench.interfaces import Frames
from sfbench.metrics import Metric
from sfbench.metrics_video import measures_known
from sfbench.schema import Record, Scores, TaskCard, digest
from sfbench.video import stream

from . import proxies
from .conclusion import Conclusion

VERSION = 1


class VideoQuality:
    """Implements :class:`sfbench.interfaces.FootageTask`."""

    NAME = "video-quality"

    def __init__(self, videos: Sequence[Video], against: Sequence[Video] = ()) -> None:
        """``against``: true videos, to which the kernel distance of these is told."""
        self.against = tuple(against)
        files = sorted(video.sha256 for video in against)
        self.card = card_of(self.NAME, videos, {"against": digest(files)} if files else {})

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """One value a measure."""
        return proxies.watch(frames, fps, measures_known())[0]

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """A mean over prompts of each measure."""
        found, clips = Conclusion(), scored(records)
        proxies.conclude(found, clips, measures_known())
        if self.against:
            truth = proxies.vectors([self._true(v) for v in self.against], proxies.VECTOR)
            seen = proxies.vectors(clips, proxies.VECTOR)
            proxies.distance(found, "kernel_features", seen, truth)
        return found

    def _true(self, video: Video) -> tuple[str, Scores]:
        """The vector of a true video, under a prompt that no generated one shares."""
        with stream(video.path) as reader:
            return f"true: {video.prompt}", proxies.watch(reader, reader.fps, ())[0]


# --- helpers --------------------------------------------------------------------------------------


def card_of(
    name: str, videos: Sequence[Video], conditions: dict[str, str], metrics: Sequence[Metric] = ()
) -> TaskCard:
    """Prompts and seeds are those that the videos name; files do not enter it, models do."""
    mixed = sizes(videos)
    return TaskCard(
        name=name,
        version=VERSION,
        tier="full",
        dataset="videos",
        prompts_sha256=digest(sorted({video.prompt for video in videos})),
        geometry=typical(videos),
        seeds=tuple(sorted({video.seed for video in videos})),
        metrics={m.name: m.version for m in (*measures_known(), *metrics)},
        conditions=conditions | ({"sizes": mixed} if mixed else {}),
    )


def scored(records: Sequence[Record]) -> list[tuple[str, Scores]]:
    """Prompt and scores of each video that has some."""
    return [(r.request.prompt.text, r.scores) for r in records if r.scores]
