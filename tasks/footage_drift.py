"""Finished videos of any world: how each changes along its length.

Three ways to look at it. *Change*: the last whole window of one native horizon minus the first; a
video of one window has none. *Panel*: the drift panel (:mod:`sfbench.panel`); where true videos are
given (``--against``), the headline ``lost`` is the share of videos that leave what truth shows in
any of its measures, and ``lost_floor`` is what other true videos get by the same rule. *Papers*:
the drift scores of other papers (:mod:`sfbench.compat`) on our proxies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from sfbench import compat, panel, stats
from sfbench.footage import Video
from sfbench.interfaces import Frames
from sfbench.metrics_video import measures_known
from sfbench.metrics_view import Series, Watched
from sfbench.panel import PANEL, Clip, Thumbs
from sfbench.schema import Curve, Estimate, Record, Scores, Validity, digest
from sfbench.video import stream

from . import proxies
from .conclusion import Conclusion
from .footage import card_of, scored

Floats = NDArray[np.float64]

NATIVE_SECONDS = 5.0  # of the models that the field calls native at 81 frames, 16 a second
ENDS_SECONDS = 5.0  # at either end of a video, as Rolling Forcing takes them
SCALES = {"sharpness": 1.0, "exposure": 1.0, "saturation": 1.0, "motion_magnitude": 0.1}
"""Proxies on which other papers' scores are shown, and the scale of the corrected VDE."""
STILL = 0.9  # share of frames that repeat the one before
STANDS_STILL = "DEGENERATE (stands still)"
NO_TRUTH = "n/a: needs true videos to tell it from; give them with --against"


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
        self.card = card_of(self.NAME, videos, conditions, PANEL)

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """One value a measure and window, the panel's values, and what other papers compute."""
        thumbs = Thumbs()
        scores, watched = proxies.watch(frames, fps, measures_known(), also=[thumbs])
        length = max(1, round(self.native * fps))
        series = {
            name: tuple(_rounded(v) for v in values.windows(length))
            for name, values in watched.series.items()
        }
        whole = {"windows": float(watched.frames // length)}
        rated = panel.row(Clip(watched, thumbs.all())) | _papers(watched)
        found = {name: _rounded(value) for name, value in rated.items()}
        return Scores(values=scores.values | whole | found, series=series)

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """Change, panel, and papers."""
        found, clips = Conclusion(), scored(records)
        self._changes(found, clips)
        self._panel(found, clips)
        _published(found, clips)
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
        still = [(s.values["still_share"] or 0) > STILL for _, s in clips]
        if sum(still) > len(still) / 2:
            found.validity = found.validity.model_copy(update={"flags": (STANDS_STILL,)})
        if not self.against:
            for name in ("lost", "lost_floor"):
                found.estimates[name] = stats.missing(NO_TRUTH, unit="share", better="lower")
            return
        truth = _table([self._true(video) for video in self.against])
        prompts = [prompt for prompt, _ in clips]
        gone = panel.lost(_table([s.values for _, s in clips]), panel.limits(truth))
        sample = _sample((p, float(x)) for p, x in zip(prompts, gone, strict=True))
        found.estimates["lost"] = stats.share(sample, unit="share", better="lower")
        found.per_prompt["lost"] = stats.by_prompt(sample)
        found.estimates["lost_floor"] = _floor(truth)

    def _true(self, video: Video) -> dict[str, float | None]:
        thumbs = Thumbs()
        needed = {name for metric in PANEL for name in metric.reads}
        measures = [m for m in measures_known() if m.name in needed]
        with stream(video.path) as reader:
            _, watched = proxies.watch(reader, reader.fps, measures, also=[thumbs])
        return panel.row(Clip(watched, thumbs.all()))


# --- helpers --------------------------------------------------------------------------------------


def _floor(truth: Floats) -> Estimate:
    """The share lost of true videos by the limits of the others: of each half by the other's."""
    halves = truth[::2], truth[1::2]
    if len(halves[1]) < 2:
        return stats.missing("n/a: needs four true videos", unit="share", better="lower")
    sides = zip(halves, reversed(halves), strict=True)
    gone = [float(x) for half, other in sides for x in panel.lost(half, panel.limits(other))]
    values = {f"true-{n}": value for n, value in enumerate(gone)}
    return stats.share(values, unit="share", better="lower")


def _papers(watched: Watched) -> dict[str, float | None]:
    """Other papers' scores of one video, on the proxies of :data:`SCALES`."""
    found: dict[str, float | None] = {}
    for name, scale in SCALES.items():
        known = _known(watched.series[name])
        end = max(1, round(ENDS_SECONDS * watched.fps))
        enough = len(known) >= compat.CHUNKS
        parts = compat.chunks(known) if enough else ()
        found |= {
            f"{name}_contrast": compat.contrast(known) if enough else None,
            f"{name}_vde": compat.vde(parts) if enough and parts[0] else None,
            f"{name}_vde_corrected": compat.vde_corrected(parts, scale) if enough else None,
            f"{name}_first": float(np.mean(known[:end])) if len(known) >= 2 * end else None,
            f"{name}_last": float(np.mean(known[-end:])) if len(known) >= 2 * end else None,
        }
    return found


def _published(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    """Means over prompts of each paper's score; delta-drift is one of all videos."""
    for name in SCALES:
        for kind in ("contrast", "vde", "vde_corrected"):
            sample = proxies.by_prompt(clips, f"{name}_{kind}")
            found.add(f"{name}_{kind}", sample, better="lower")
        both = [(p, s.values[f"{name}_first"], s.values[f"{name}_last"]) for p, s in clips]
        change = [(p, b - a) for p, a, b in both if a is not None and b is not None]
        found.add(
            f"{name}_delta_drift", _sample((p, abs(move)) for p, move in change), better="lower"
        )


def _known(series: Series) -> list[float]:
    """The frames that have a value."""
    return [float(value) for value in series.values[series.known]]


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
