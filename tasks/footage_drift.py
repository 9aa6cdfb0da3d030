"""Finished videos of any world: how each changes along its length.

Three ways to look at it. *Change*: the last whole window of one native horizon minus the first; a
video of one window has none. *Panel*: the drift panel (:mod:`sfbench.panel`); where true videos are
given (``--against``), the headline ``lost`` is the share of videos that leave what truth shows in
any of its measures, and ``lost_floor`` is what other true videos get by the same rule. *Papers*:
other papers' formulas on our proxies (:mod:`.footage_papers`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sfbench import panel, stats
from sfbench.footage import Video
from sfbench.interfaces import Frames
from sfbench.metrics_video import Watched, measures_known
from sfbench.panel import PANEL, Clip, Thumbs
from sfbench.schema import Curve, Estimate, Record, Scores, Validity, digest
from sfbench.video import stream

from . import footage_flags, footage_papers, proxies
from .conclusion import Conclusion
from .drift import STILL
from .footage import card_of, scored

Floats = NDArray[np.float64]

NATIVE_SECONDS = 5.0  # of the models that the field calls native at 81 frames, 16 a second
VERSION = 3  # 2: the panel, and what other papers' formulas take; 3: the order of the frames


class VideoDrift:
    """Implements :class:`sfbench.interfaces.FootageTask`."""

    NAME = "video-drift"

    def __init__(
        self,
        videos: Sequence[Video],
        native: float = NATIVE_SECONDS,
        against: Sequence[Video] = (),
    ) -> None:
        """``native``: seconds of the native horizon, the length of a window; ``against``: truth."""
        if not native > 0:
            raise ValueError(f"a native horizon of {native:g} s has no frames; write seconds > 0")
        self.native, self.against = native, tuple(against)
        conditions = {"native": f"{native:g} s"}
        if against:
            conditions["against"] = digest(sorted(video.sha256 for video in against))
        card = card_of(self.NAME, videos, conditions, PANEL)
        self.card = card.model_copy(update={"version": VERSION})

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """One value a measure and window, the panel's values, and what papers' formulas take."""
        thumbs = Thumbs()
        scores, watched = proxies.watch(frames, fps, measures_known(), also=[thumbs])
        length = max(1, round(self.native * fps))
        series = {
            name: tuple(_rounded(v) for v in values.windows(length))
            for name, values in watched.series.items()
        }
        whole = {"windows": float(watched.frames // length)}
        found = _whole(watched, thumbs)
        parts = footage_papers.measure(watched)
        return Scores(values=scores.values | whole | found, series=series | parts)

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """Change, panel, and papers."""
        found, clips = Conclusion(), scored(records)
        self._changes(found, clips)
        self._panel(found, clips)
        footage_papers.conclude(found, clips)
        return found

    def _changes(self, found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
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

    def _curve(self, found: Conclusion, name: str, long: Sequence[tuple[str, Scores, int]]) -> None:
        """Over the windows that every long video has."""
        count = min(windows for _, _, windows in long)
        y = [stats.mean(_sample((p, s.series[name][k]) for p, s, _ in long)) for k in range(count)]
        x = tuple(round((k + 1) * self.native, 3) for k in range(count))
        found.curves[name] = Curve(x=x, x_label="seconds", y=tuple(y))

    def _panel(self, found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
        for metric in PANEL:
            sample = proxies.by_prompt(clips, metric.name)
            found.add(f"panel_{metric.name}", sample, unit=metric.unit, better=metric.better)
        sample = proxies.by_prompt(clips, footage_flags.DISORDER)
        found.add(footage_flags.DISORDER, sample, unit="share", better="lower")
        if not self.against:
            still = footage_flags.stands_still(clips)
            self._flag(found, (STILL,) if still else ())
            for name in ("lost", "lost_floor"):
                missing = stats.missing(footage_flags.NO_TRUTH, unit="share", better="lower")
                found.estimates[name] = missing
            found.estimates["motion_ratio"] = stats.missing(footage_flags.NO_TRUTH)
            return
        true = [(video.prompt, self._true(video)) for video in self.against]
        self._flag(found, footage_flags.flags(clips, true))
        found.estimates["motion_ratio"] = footage_flags.motion_ratio(clips, true)
        truth = _table([s.values for _, s in true])
        prompts = [prompt for prompt, _ in clips]
        gone = panel.lost(_table([s.values for _, s in clips]), panel.limits(truth))
        sample = _sample((p, float(x)) for p, x in zip(prompts, gone, strict=True))
        found.estimates["lost"] = stats.share(sample, unit="share", better="lower")
        found.per_prompt["lost"] = stats.by_prompt(sample)
        found.estimates["lost_floor"] = _floor(truth)

    def _flag(self, found: Conclusion, words: tuple[str, ...]) -> None:
        found.validity = found.validity.model_copy(update={"flags": words})

    def _true(self, video: Video) -> Scores:
        """What the panel and the flags need of a true video."""
        thumbs = Thumbs()
        needed = {name for metric in PANEL for name in metric.reads}
        measures = [m for m in measures_known() if m.name in needed]
        with stream(video.path) as reader:
            scores, watched = proxies.watch(reader, reader.fps, measures, also=[thumbs])
        return Scores(values=scores.values | _whole(watched, thumbs))


# --- helpers --------------------------------------------------------------------------------------


def _whole(watched: Watched, thumbs: Thumbs) -> dict[str, float | None]:
    """The values that need the whole video."""
    frames = thumbs.all()
    found = panel.row(Clip(watched, frames))
    found[footage_flags.DISORDER] = footage_flags.disorder(frames)
    return {name: _rounded(value) for name, value in found.items()}


def _floor(truth: Floats) -> Estimate:
    """The share lost of true videos by the limits of the others: of each half by the other's."""
    halves = truth[::2], truth[1::2]
    if len(halves[1]) < 2:
        return stats.missing("n/a: needs four true videos", unit="share", better="lower")
    sides = zip(halves, reversed(halves), strict=True)
    gone = [float(x) for half, other in sides for x in panel.lost(half, panel.limits(other))]
    values = {f"true-{n}": value for n, value in enumerate(gone)}
    return stats.share(values, unit="share", better="lower")


def _table(rows: Sequence[dict[str, float | None]]) -> Floats:
    """``[V, M]``: the panel's values; what has none is as good as truth can be."""
    return np.array(
        [[-np.inf if (v := row[m.name]) is None else v for m in PANEL] for row in rows], np.float64
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, stats.DIGITS) + 0.0


def _sample(pairs: Iterable[tuple[str, float | None]]) -> dict[str, list[float]]:
    sample: dict[str, list[float]] = {}
    for prompt, value in pairs:
        if value is not None:
            sample.setdefault(prompt, []).append(value)
    return sample
