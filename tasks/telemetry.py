"""What is asked of a model while it trains: a little of a task, on videos held out for that.

In the embedded world: eight scenes of the split ``selection`` of the long-horizon task. Of videos
of one's own: up to eight of the split ``selection``, as the video-exposure task continues them. No
board uses either, and nothing trains on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

from sfbench import stats
from sfbench.arms import batch_key, play
from sfbench.interfaces import VideoModel
from sfbench.schema import Estimate, Failure, ModelCard, Record, Request
from sfbench.video_folder import OWN

from .continuations import PREFIX, role
from .long_horizon import LongHorizon
from .video_exposure import LEAST_VIDEOS, TooFewVideos, VideoExposure
from .video_judge import Grades

ARMS = ("free", "true", "own")  # without the longer true prefixes
WATCHED = ("exposure_gap", "violation_own", "drift")
BIDIRECTIONAL = ("violation_1x",)
BATCH = 16
SPLIT = "selection"


class NotEvaluated(ValueError):
    """A model that could not be asked; the text is one sentence."""


class Watched(Protocol):
    """What training tells of its videos."""

    @property
    def dataset(self) -> str:
        """``shapes-1``, ``folder:PATH``, ``shards:PATTERN``."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def fps(self) -> float:
        """Frames a second."""
        ...

    @property
    def frames(self) -> int:
        """Of the native length."""
        ...

    @property
    def clip_frames(self) -> int:
        """That every video which is trained on has."""
        ...


class Selection:
    """``evaluate(model) -> figures``, for :mod:`sfbench.reference.telemetry`."""

    def __init__(self, data: Watched, causal: bool) -> None:
        """Raises :class:`NotEvaluated` for what cannot be asked, before anything is trained."""
        self.task: LongHorizon | VideoExposure
        if data.dataset.startswith(OWN):
            self.task = _of_films(data, causal)
            self.prefix = self.task.prefix
        else:
            self.task, self.prefix = _of_the_embedded_world(data), PREFIX
        self.names = WATCHED if causal else BIDIRECTIONAL

    def __call__(self, model: VideoModel) -> dict[str, float]:
        """The exposure gap (area over the continuation), violation under own context and drift,
        each with its interval; of a model that makes whole clips, its violation.

        ``score`` is the mean of violation under own context and drift: both are shares, and one
        without the other can be had by ignoring the prompt, or by forgetting it.
        """
        asked = [r for r in self.task.requests(model.card) if role(r, self.prefix) in ARMS]
        estimates = self._estimates(model.card, [*self._records(model, asked)])
        figures: dict[str, float] = {}
        for name in self.names:
            estimate = estimates[name]
            if estimate.value is None:
                raise NotEvaluated(f"'{name}' of {model.card.name} could not be measured.")
            figures[name] = estimate.value
            if estimate.low is not None and estimate.high is not None:
                figures |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        scored = [figures[name] for name in self.names if name != "exposure_gap"]
        return figures | {"score": sum(scored) / len(scored)}

    def _records(self, model: VideoModel, asked: Sequence[Request]) -> Iterator[Record]:
        for _, alike in groupby(asked, key=batch_key):
            group = [*alike]
            for first in range(0, len(group), BATCH):
                part = group[first : first + BATCH]
                for request, answer in zip(part, play(model, part, self.task.truth), strict=True):
                    if isinstance(answer, Failure):
                        raise NotEvaluated(f"{model.card.name}: {answer.reason}.")
                    scores = self.task.score(request, answer.frames)
                    yield Record(key=request.key, request=request, scores=scores)

    def _estimates(self, model: ModelCard, records: Sequence[Record]) -> dict[str, Estimate]:
        estimates = self.task.conclude(model, records).estimates
        if isinstance(self.task, LongHorizon):
            return estimates
        return estimates | {"drift": drift(self.task.continued(model, records).grades("own"))}


def drift(grades: Grades) -> Estimate:
    """How much more the last third of a continuation departs than its first third.

    ``grades``: ``[K, M]`` of each continuation, by chunk and measure. A film that goes on as other
    films do has none, for a grade is relative to them at the same distance.
    """
    rows: dict[str, list[float]] = {}
    for (prompt, _), table in grades.items():
        violation, third = table.mean(axis=1), -(-len(table) // 3)
        gone = violation[-third:].mean() - violation[:third].mean()
        rows.setdefault(prompt, []).append(float(gone))
    return stats.mean(rows, unit="0..1", better="lower")


def _of_the_embedded_world(data: Watched) -> LongHorizon:
    if not data.dataset.startswith("shapes-"):
        raise NotEvaluated(
            f"A run on '{data.dataset}' cannot be evaluated while it trains: that needs the "
            "embedded world or videos of one's own; leave evaluate_every at 0."
        )
    return LongHorizon(data.dataset, "smoke", data.shape[0], split=SPLIT)


def _of_films(data: Watched, causal: bool) -> VideoExposure:
    """Continuations of half a native length, as long as the clips that are trained on allow."""
    if not causal:
        raise NotEvaluated(
            "A model that makes whole clips continues no video, and nothing else can be measured "
            f"of it on '{data.dataset}'; leave its evaluate_every at 0."
        )
    prefix = data.frames // 2
    try:
        return VideoExposure(
            data.dataset,
            "smoke",
            data.shape,
            fps=data.fps,
            prefix=prefix,
            frames=data.clip_frames - prefix,
            split=SPLIT,
        )
    except TooFewVideos:
        raise NotEvaluated(
            f"A run is evaluated on the split '{SPLIT}' of '{data.dataset}', one video in ten, and "
            f"fewer than {LEAST_VIDEOS} of these have {data.clip_frames} frames at {data.fps:g} a "
            "second; add videos, or leave evaluate_every at 0."
        ) from None
