"""The protocols: what a model, a dataset, and a task must offer. Duck-typed; nothing to inherit.

Shapes: T frames, H height, W width; pixels are ``uint8 [T, H, W, 3]`` RGB numpy arrays on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .schema import (
    Curve,
    Estimate,
    ModelCard,
    Record,
    Request,
    SceneRef,
    Scores,
    TaskCard,
    Validity,
)

Frames = NDArray[np.uint8]


@runtime_checkable
class VideoModel(Protocol):
    """A generator of video. Noise should be keyed by (seed, absolute frame, denoising step)."""

    @property
    def card(self) -> ModelCard:
        """What the model says about itself."""
        ...

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        """Yield ``uint8 [t, H, W, 3]`` chunks as soon as decoded, ``geometry.frames`` in all.

        ``context`` is real video ``[T, H, W, 3]`` to continue from; the first new frame has the
        absolute index ``len(context)``. A model whose card says ``switches_prompt`` gives a
        generator: ``send(prompt)`` returns the first chunk under a new :class:`.schema.Prompt`.
        """
        ...


@runtime_checkable
class BatchedModel(Protocol):
    """A model that can also serve many requests at once, where time is not what is measured."""

    def generate_batch(
        self, requests: Sequence[Request], contexts: Sequence[Frames | None]
    ) -> Iterator[list[Frames]]:
        """Yield one list of chunks ``[t, H, W, 3]`` (one a request) at a time.

        Requests of a batch share a geometry, and contexts are all ``None`` or of one length.
        """
        ...


@runtime_checkable
class Preparing(Protocol):
    """A model that can be asked for less than ``e2e``: the text is then embedded beforehand."""

    def prepare(self, request: Request) -> None:
        """Do, outside the clock, the part of the work that the request's scope leaves out."""
        ...


class Dataset(Protocol):
    """True videos, addressed by name, split and index."""

    fps: float
    shape: tuple[int, int]
    """Height and width."""

    def clip(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """Frames ``start .. start + frames`` of a scene, ``uint8 [frames, H, W, 3]``."""
        ...

    def prompt(self, ref: SceneRef) -> str:
        """The text that describes the scene."""
        ...


class Task(Protocol):
    """What to ask of a model, how to score a clip, and what to conclude.

    A task whose subject is time has ``warm_up``, the number of its first requests that only warm
    the model up. Its requests are played one by one, no clip is kept, and a resumed run plays those
    again first. Several models take turns, in as many ``rounds`` as it says.
    """

    @property
    def card(self) -> TaskCard:
        """Identity of the task as configured."""
        ...

    def requests(self, model: ModelCard) -> list[Request]:
        """All requests of the task that apply to the model, in a fixed order."""
        ...

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a scene, for contexts and for scoring."""
        ...

    def score(self, request: Request, frames: Frames) -> Scores:
        """Measure one generated clip ``[T, H, W, 3]``; context frames are not part of it."""
        ...

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Aggregate the records of a run."""
        ...


class FootageTask(Protocol):
    """How to score finished videos that may be longer than memory: one pass each."""

    @property
    def card(self) -> TaskCard:
        """Identity of the task on these videos."""
        ...

    def measure(self, frames: Iterable[Frames], fps: float) -> Scores:
        """Measure one video; ``frames`` are ``uint8 [H, W, 3]``, to be read once."""
        ...

    def conclude(self, records: Sequence[Record]) -> Conclusion:
        """Aggregate the records of all videos."""
        ...


class Conclusion(Protocol):
    """What a task concludes from the records of one model."""

    estimates: dict[str, Estimate]
    curves: dict[str, Curve]
    per_prompt: dict[str, dict[str, float]]
    validity: Validity
