"""Finished videos of any world: their quality, and how it changes along each video.

There is no oracle here and no truth: these are proxies (:mod:`.proxies`), read beside each other
and never ranked. ``video-quality`` takes each video as a whole. ``video-drift`` cuts it into
windows of one native horizon and compares the last whole window with the first; a video of one
window has no drift. VBench's own scores are added by ``sfbench score --vbench``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sfbench import stats
from sfbench.footage import Video, sizes, typical
from sfbench.interfaces import Frames
from sfbench.metrics_video import measures_known
from sfbench.schema import Curve, Record, Scores, TaskCard, Validity, digest
from sfbench.video import stream

from . import proxies
from .conclusion import Conclusion

NATIVE_SECONDS = 5.0  # of the models that the field calls native at 81 frames, 16 a second
VERSION = 1


class VideoQuality:
    """Implements :class:`sfbench.interfaces.FootageTask`."""

    NAME = "video-quality"

    def __init__(self, videos: Sequence[Video], against: Sequence[Video] = ()) -> None:
        """``against``: true videos, to which the kernel distance of these is told."""
        self.against = tuple(against)
        files = sorted(video.sha256 for video in against)
        self.card = _card(self.NAME, videos, {"against": digest(files)} if files else {})

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """One value a measure."""
        return proxies.watch(frames, fps, measures_known())[0]

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """A mean over prompts of each measure."""
        found, clips = Conclusion(), _clips(records)
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


class VideoDrift:
    """Implements :class:`sfbench.interfaces.FootageTask`."""

    NAME = "video-drift"

    def __init__(self, videos: Sequence[Video], native: float = NATIVE_SECONDS) -> None:
        """``native``: seconds of the native horizon, which is the length of a window."""
        if not native > 0:
            raise ValueError(f"a native horizon of {native:g} s has no frames; write seconds > 0")
        self.native = native
        self.card = _card(self.NAME, videos, {"native": f"{native:g} s"})

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """One value a measure and window; windows hold ``native`` seconds."""
        scores, watched = proxies.watch(frames, fps, measures_known())
        length = max(1, round(self.native * fps))
        series = {
            name: tuple(
                None if v is None else round(v, stats.DIGITS) + 0.0 for v in values.windows(length)
            )
            for name, values in watched.series.items()
        }
        whole = watched.frames // length
        return Scores(values={**scores.values, "windows": float(whole)}, series=series)

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """First window, last whole window, and their difference paired by video."""
        found, clips = Conclusion(), _clips(records)
        long = [(p, s, int(s.values["windows"] or 0)) for p, s in clips]
        long = [(p, s, windows) for p, s, windows in long if windows > 1]
        if not long:
            reason = f"no video holds two windows of {self.native:g} s; set --native"
            found.validity = Validity(ok=False, reasons=(reason,))
        for measure in measures_known():
            ends = [
                (p, s.series[measure.name][0], s.series[measure.name][w - 1]) for p, s, w in long
            ]
            found.add(f"{measure.name}_start", _sample((p, a) for p, a, _ in ends))
            found.add(f"{measure.name}_end", _sample((p, b) for p, _, b in ends))
            change = ((p, b - a) for p, a, b in ends if a is not None and b is not None)
            found.add(f"{measure.name}_change", _sample(change), unit=measure.unit)
            if long:
                self._curve(found, measure.name, long)
        return found

    def _curve(self, found: Conclusion, name: str, long: Sequence[tuple[str, Scores, int]]) -> None:
        """Over the windows that every long video has."""
        count = min(windows for _, _, windows in long)
        y = [stats.mean(_sample((p, s.series[name][k]) for p, s, _ in long)) for k in range(count)]
        x = tuple(round((k + 1) * self.native, 3) for k in range(count))
        found.curves[name] = Curve(x=x, x_label="seconds", y=tuple(y))


# --- helpers --------------------------------------------------------------------------------------


def _card(name: str, videos: Sequence[Video], conditions: dict[str, str]) -> TaskCard:
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
        metrics={measure.name: measure.version for measure in measures_known()},
        conditions=conditions | ({"sizes": mixed} if mixed else {}),
    )


def _clips(records: Sequence[Record]) -> list[tuple[str, Scores]]:
    return [(r.request.prompt.text, r.scores) for r in records if r.scores]


def _sample(pairs: Iterable[tuple[str, float | None]]) -> dict[str, list[float]]:
    sample: dict[str, list[float]] = {}
    for prompt, value in pairs:
        if value is not None:
            sample.setdefault(prompt, []).append(value)
    return sample
