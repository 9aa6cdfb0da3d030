"""One model on one task: plan, generate, time, write, score, record, conclude.

The records are the state: a request with a record is done. So a run that was killed goes on when
the same command is given again, and has lost at most the batch in progress. :func:`run_shard` does
a part of it (:mod:`.shards`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import __version__, shards
from .arms import Played, batch_key, play
from .clock import Stopwatch, machine_seconds
from .interfaces import BatchedModel, Conclusion, Frames, Task, VideoModel
from .models import bind
from .provenance import collect, device
from .rebuild import division
from .schema import (
    SCHEMA_VERSION,
    ClipRef,
    Failure,
    ModelCard,
    Provenance,
    Record,
    Request,
    Result,
    Scores,
    TaskCard,
    Validity,
    digest,
)
from .startup import measure
from .store import Store
from .video import write_clip

Clips = Literal["free", "all"]
Progress = Callable[[int, int], None]
"""Told ``(done, total)`` requests, at the start and after each one."""

DEFAULT_BATCH = 32
BATCH_BYTES = 2**28
"""Pixels of one batch: bounds the memory whatever the geometry."""


def run(
    task: Task,
    model: VideoModel,
    out: Path,
    *,
    limit: int | None = None,
    batch: int = DEFAULT_BATCH,
    clips: Clips = "free",
    retry_errors: bool = False,
    progress: Progress | None = None,
    name: str | None = None,
    share: float = 1.0,
) -> Result:
    """Run what is not yet done of a task on a model, and conclude from what is done.

    ``limit``: only the first requests; such a result is never valid. ``clips``: which clips are
    kept as files, those generated freely or all (of a timed task: none, but with ``all``).
    ``retry_errors``: run failed requests again. ``name``: that the model can be had by in another
    process; without it, nothing is known of how it starts. ``share``: stop after this share of the
    requests, to go on later.
    """
    watch, provenance = Stopwatch(), collect()
    bind(model, task.truth)
    card, requests = model.card, task.requests(model.card)
    chosen = requests[:limit]
    chosen = chosen[: math.ceil(share * len(chosen))]
    units = _units(task, model, chosen, batch)
    with shards.open_whole(out, manifest(task.card, card, requests)) as store:
        _play(task, model, chosen, units, store, _How(clips, retry_errors, name, progress))
        provenance = provenance.model_copy(update={"device": device(), "wall_s": watch.seconds})
        if shards.has_left(out):
            provenance = shards.merge(out, _order(units), provenance)
        result = _conclude(task, card, requests, chosen, store, provenance)
        if share == 1:
            store.finish(result)
        return result


@dataclass(frozen=True)
class Missing:
    """What is still to do of a run when one of its shards has ended."""

    done: int
    total: int
    left: Mapping[shards.Shard, int]
    """Requests that others are to play."""

    def __str__(self) -> str:
        others = ", ".join(f"{shard} ({count})" for shard, count in self.left.items())
        return f"{self.done} of {self.total} requests are done; left to shards {others}"


def run_shard(
    task: Task,
    model: VideoModel,
    out: Path,
    shard: shards.Shard,
    *,
    limit: int | None = None,
    batch: int = DEFAULT_BATCH,
    clips: Clips = "free",
    retry_errors: bool = False,
    progress: Progress | None = None,
    name: str | None = None,
) -> Result | Missing:
    """Run a shard of what :func:`run` does, and conclude if that was the last of it.

    The batches are those of the whole run, dealt to the shards, so pixels are the same.
    """
    ensure_untimed(task)
    watch, provenance = Stopwatch(), collect()
    bind(model, task.truth)
    card, requests = model.card, task.requests(model.card)
    chosen = requests[:limit]
    units = _units(task, model, chosen, batch)
    mine = shard.of(units)
    dealt = [request for unit in mine for request in unit]
    split = shards.Split(count=shard.count, batch=batch, limit=limit, clips=clips)
    with shards.open_part(out, manifest(task.card, card, requests), shard, split) as store:
        _play(task, model, dealt, mine, store, _How(clips, retry_errors, name, progress))
        provenance = provenance.model_copy(update={"device": device(), "wall_s": watch.seconds})
        with shards.entrance(out):
            shards.note(out, shard, provenance)
            store.know(shards.everything(out).values())
            if any(request.key not in store.records for request in chosen):
                return _missing(units, shard.count, store)
            provenance = shards.merge(out, _order(units), provenance, own=shard)
            result = _conclude(task, card, requests, chosen, store, provenance)
            store.finish(result)
            return result


def ensure_untimed(task: Task) -> None:
    """Refuse to split a task whose subject is time."""
    if getattr(task, "warm_up", 0):
        raise shards.ShardError(
            f"{task.card.name} measures time, which processes that share a machine would spoil; "
            "run it whole, without --shard, RANK or SLURM_ARRAY_TASK_ID."
        )


def manifest(task: TaskCard, model: ModelCard, requests: Sequence[Request]) -> dict[str, Any]:
    """What makes two runs the same run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "sfbench": __version__,
        "task": task.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "requests": {"count": len(requests), "sha256": digest([r.key for r in requests])},
    }


def is_done(record: Record | None, retry_errors: bool) -> bool:
    """Whether a request needs no more work."""
    return record is not None and (record.failure is None or not retry_errors)


def batches(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Requests that can be generated together, ``size`` at most, in the order of the first of each.

    Made from *all* requests, done or not: a resumed run repeats the very batches of the first.
    """
    groups: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        groups.setdefault(batch_key(request), []).append(request)
    for group in groups.values():
        shape = group[0].geometry
        clip_bytes = shape.frames * shape.height * shape.width * 3
        step = max(1, min(size, BATCH_BYTES // clip_bytes))
        yield from (group[start : start + step] for start in range(0, len(group), step))


def _units(
    task: Task, model: VideoModel, chosen: Sequence[Request], batch: int
) -> list[list[Request]]:
    """What is played at once, in order: first what has a process of its own, then the batches."""
    alone = getattr(task, "warm_up", 0) or not isinstance(model, BatchedModel)
    here = [request for request in chosen if not request.fresh]
    fresh = [[request] for request in chosen if request.fresh]
    return [*fresh, *batches(here, 1 if alone else batch)]


def _order(units: Sequence[Sequence[Request]]) -> list[str]:
    return [request.key for unit in units for request in unit]


def _missing(units: Sequence[Sequence[Request]], count: int, store: Store) -> Missing:
    left = {}
    for index in range(1, count + 1):
        shard = shards.Shard(count, index)
        keys = _order(shard.of(units))
        if waiting := sum(key not in store.records for key in keys):
            left[shard] = waiting
    total = len(_order(units))
    return Missing(total - sum(left.values()), total, left)


# --- playing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _How:
    """The options of a run that concern one request."""

    clips: Clips
    retry_errors: bool
    name: str | None
    progress: Progress | None


def _play(
    task: Task,
    model: VideoModel,
    chosen: Sequence[Request],
    units: Sequence[Sequence[Request]],
    store: Store,
    how: _How,
) -> None:
    """Play, score and record what is not done; ``units`` are the ``chosen`` as they are played."""
    report = how.progress or (lambda done, total: None)
    waiting = {r.key for r in chosen if not is_done(store.records.get(r.key), how.retry_errors)}
    report(len(chosen) - len(waiting), len(chosen))
    for request in (r for r in chosen if r.fresh and r.key in waiting):
        store.append(_started(task, request, how.name))
        waiting.discard(request.key)
        report(len(chosen) - len(waiting), len(chosen))
    warm_up = getattr(task, "warm_up", 0)
    here = [request for request in chosen if not request.fresh]
    if warm_up and waiting and not waiting.issuperset(request.key for request in here):
        for request in here[:warm_up]:  # a new process is cold again
            play(model, [request], task.truth)
    for group in units:
        if waiting.isdisjoint(request.key for request in group):
            continue
        speed = machine_seconds() if warm_up else None
        for request, played in zip(group, play(model, group, task.truth), strict=True):
            if request.key not in waiting:
                continue
            keep = how.clips == "all" or (request.arm == "free" and not warm_up)
            record = judge(task, request, played, store, keep, speed)
            store.append(record)
            waiting.discard(record.key)
            report(len(chosen) - len(waiting), len(chosen))


def judge(
    task: Task,
    request: Request,
    played: Played | Failure,
    store: Store,
    keep: bool,
    machine_s: float | None = None,
) -> Record:
    """Score the clip, and keep its file if wanted."""
    if isinstance(played, Failure):
        return Record(key=request.key, request=request, failure=played)
    clip = _keep(store, request, played.frames) if keep else None
    scores, failure = _score(task, request, played.frames)
    return Record(
        key=request.key,
        request=request,
        clip=clip,
        timing=played.timing.model_copy(update={"machine_s": machine_s}),
        scores=scores,
        failure=failure,
    )


def _started(task: Task, request: Request, name: str | None) -> Record:
    """How the model starts in a process of its own; an object without a name cannot."""
    if name is None:
        return Record(key=request.key, request=request)
    found = measure(name, task.card.dataset, request)
    if isinstance(found, Failure):
        return Record(key=request.key, request=request, failure=found)
    return Record(key=request.key, request=request, startup=found)


def _keep(store: Store, request: Request, frames: Frames) -> ClipRef:
    relative = f"clips/{request.key}.mp4"
    path = store.path(relative)
    path.parent.mkdir(exist_ok=True)
    sha256 = write_clip(path, frames, request.geometry.fps)
    count, height, width, _ = frames.shape
    return ClipRef(
        path=relative,
        frames=count,
        height=height,
        width=width,
        fps=request.geometry.fps,
        sha256=sha256,
    )


def _score(task: Task, request: Request, frames: Frames) -> tuple[Scores | None, Failure | None]:
    try:
        return task.score(request, frames), None
    except Exception as error:
        return None, Failure(kind="score", reason=f"{type(error).__name__}: {error}")


# --- the conclusion -------------------------------------------------------------------------------


def _conclude(
    task: Task,
    card: ModelCard,
    requests: Sequence[Request],
    chosen: Sequence[Request],
    store: Store,
    provenance: Provenance,
) -> Result:
    records = [store.records[request.key] for request in chosen]
    return Result(
        model=card,
        task=task.card,
        provenance=provenance,
        records_sha256=store.records_sha256(),
        **concluded(task, card, requests, records),
    ).sealed()


def concluded(
    task: Task, card: ModelCard, requests: Sequence[Request], records: Sequence[Record]
) -> dict[str, Any]:
    """The fields of a :class:`.schema.Result` that follow from its records.

    ``records``: those of all ``requests``, or of the first ones, in their order.
    """
    failures = Counter(str(record.failure.kind) for record in records if record.failure)
    conclusion = task.conclude(card, records)
    asked = [record.request for record in records]
    return {
        "validity": _validity(conclusion, len(records), len(requests), failures),
        "division": division(task.card, card, asked),
        "estimates": conclusion.estimates,
        "curves": conclusion.curves,
        "per_prompt": conclusion.per_prompt,
        "failures": dict(failures),
    }


def _validity(conclusion: Conclusion, chosen: int, total: int, failures: Counter[str]) -> Validity:
    """The task's verdict, and the reasons any task has: a part of the requests, or failures."""
    reasons = list(conclusion.validity.reasons)
    if chosen < total:
        reasons.append(f"limit: {chosen} of {total} requests")
    if failures:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(failures.items()))
        reasons.append(f"{sum(failures.values())} of {chosen} requests failed ({kinds})")
    ok = conclusion.validity.ok and not reasons
    return Validity(ok=ok, reasons=tuple(reasons), flags=conclusion.validity.flags)
