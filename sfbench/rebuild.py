"""A task made again from what a result says of it, and whether that is the task as it ships.

A :class:`.schema.TaskCard` holds all that a task was set up with: its dataset, tier, size, seeds
and, of a timed one, scope. So whoever reads a result can set up the same task, and ask it what it
would have asked and concluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from .footage import Video
from .interfaces import FootageTask, Task
from .registry import load, providers
from .schema import Division, ModelCard, Record, Request, TaskCard

MOST_SEEDS = 1000
CLIP_BYTES = 2**29
"""Pixels of one clip: what is larger is not made or read here."""
NATIVE, AGAINST = "native", "against"  # conditions of tasks on finished videos


class NotHere(ValueError):
    """A task that cannot be made again; the text is one sentence."""


def task_of(card: TaskCard, dataset: str | None = None) -> Task:
    """The task that a card describes; ``dataset``: where the videos are that its hash names."""
    shape = card.geometry
    if len(card.seeds) > MOST_SEEDS or shape.frames * shape.height * shape.width * 3 > CLIP_BYTES:
        raise NotHere(
            f"Tasks of up to {MOST_SEEDS} seeds and {CLIP_BYTES // 2**20} MB a clip are made again."
        )
    setting: dict[str, Any] = {"dataset": card.dataset, "seeds": card.seeds}
    square = shape.height == shape.width
    setting["size"] = shape.height if square else (shape.height, shape.width)
    if card.dataset.partition(":")[1]:
        if dataset is None:
            raise NotHere(
                f"The true videos of this row ({card.dataset}) are not here; say where they are "
                "with --dataset folder:PATH."
            )
        setting["dataset"] = dataset
    tells = getattr(_kind(card.name), "settings_of", None)
    try:
        return _made(card, setting | (tells(card) if tells else {}))
    except ValueError as error:
        raise NotHere(f"The task {card.name} cannot be set up: {error}.") from None


def division(task: TaskCard, model: ModelCard, asked: Sequence[Request]) -> Division:
    """``closed`` where the task as it ships would have asked exactly the same."""
    try:
        shipped = _made(task, {})
    except NotHere:
        return "open"
    here = shipped.card.model_copy(update={"conditions": task.conditions})
    same = here == task and shipped.requests(model) == list(asked)
    return "closed" if same else "open"


def _made(card: TaskCard, setting: dict[str, Any]) -> Task:
    """The task in the card's tier and scope, and in what else is set of what it takes."""
    kind = _kind(card.name)
    known = {"tier": card.tier, "scope": card.conditions.get("scope"), **setting}
    taken = signature(kind).parameters
    try:
        task: Task = kind(**{k: v for k, v in known.items() if k in taken and v is not None})
    except (ValueError, LookupError, TypeError) as error:
        raise NotHere(f"The task {card.name} cannot be set up so: {error}.") from None
    return task


def _kind(name: str) -> Any:
    if name not in providers("tasks"):
        raise NotHere(f"No task '{name}' is installed here.")
    return load("tasks", name)


# --- finished videos ------------------------------------------------------------------------------


def is_of_footage(card: TaskCard) -> bool:
    """Whether the task is one on finished videos."""
    return card.name in _footage_kinds()


def footage_of(card: TaskCard, records: Sequence[Record]) -> FootageTask:
    """The task on the videos that records tell of; the true videos that it had are not here."""
    kind = _footage_kinds()[card.name]
    settings: dict[str, Any] = {}
    if NATIVE in card.conditions:
        settings[NATIVE] = _seconds(card.conditions[NATIVE])
    videos = [video_of(record) for record in records]
    if not videos:
        raise NotHere("No video is recorded.")
    try:
        task: FootageTask = kind(videos, **settings)
    except (ValueError, LookupError, TypeError) as error:
        raise NotHere(f"The task {card.name} cannot be set up so: {error}.") from None
    return task


def video_of(record: Record) -> Video:
    """What a record says of the video that it is about."""
    request = record.request
    return Video(
        path=Path(record.clip.path if record.clip else ""),
        prompt=request.prompt.text,
        seed=request.seed,
        sha256=str(request.options.get("file", "")),
        geometry=request.geometry,
    )


def _footage_kinds() -> dict[str, Any]:
    kinds = [load("footage", name) for name in providers("footage")]
    return {kind.NAME: kind for kind in kinds}


def _seconds(text: str) -> float:
    try:
        return float(text.removesuffix(" s"))
    except ValueError:
        raise NotHere(f"Its native horizon, '{text}', is no number of seconds.") from None
