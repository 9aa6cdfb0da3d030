"""What is asked of a model while it trains: a little of the long-horizon task, on other scenes.

Eight scenes of the split ``selection``, which no board uses: their exposure bias and their drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from sfbench.arms import batch_key, play
from sfbench.interfaces import VideoModel
from sfbench.schema import Failure, Record, Request

from .continuations import role
from .long_horizon import LongHorizon

ARMS = ("free", "true", "own")  # without the longer true prefixes
WATCHED = ("exposure_gap", "violation_own", "drift")
BIDIRECTIONAL = ("violation_1x",)
BATCH = 16


class NotEvaluated(ValueError):
    """A model that could not be asked; the text is one sentence."""


class Selection:
    """``evaluate(model) -> figures``, for :mod:`sfbench.reference.telemetry`."""

    def __init__(self, dataset: str, shape: tuple[int, int]) -> None:
        """``shape``: height and width. Raises :class:`NotEvaluated` for videos of one's own."""
        if not dataset.startswith("shapes-") or shape[0] != shape[1]:
            raise NotEvaluated(
                f"A run on '{dataset}' at {shape[0]}x{shape[1]} cannot be evaluated while it "
                "trains: that needs the embedded world; leave evaluate_every at 0."
            )
        self.task = LongHorizon(dataset, "smoke", shape[0], split="selection")

    def __call__(self, model: VideoModel) -> dict[str, float]:
        """The exposure gap (area over the continuation), violation under own context and drift,
        each with its interval; of a model that makes whole clips, its violation.

        ``score`` is the mean of violation under own context and drift: both are in 0..1, and one
        without the other can be had by ignoring the prompt, or by forgetting it.
        """
        asked = [r for r in self.task.requests(model.card) if role(r) in ARMS]
        conclusion = self.task.conclude(model.card, [*self._records(model, asked)])
        names = WATCHED if model.card.causal else BIDIRECTIONAL
        figures: dict[str, float] = {}
        for name in names:
            estimate = conclusion.estimates[name]
            if estimate.value is None:
                raise NotEvaluated(f"'{name}' of {model.card.name} could not be measured.")
            figures[name] = estimate.value
            if estimate.low is not None and estimate.high is not None:
                figures |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        scored = [figures[name] for name in names if name != "exposure_gap"]
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
