"""One model on one task: plan, generate, time, write, score, record, conclude.

The records are the state: a request with a record is done. So a run that was killed goes on when
the same command is given again, and has lost at most the batch in progress.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from . import __version__
from .arms import Played, batch_key, play
from .clock import Stopwatch, machine_seconds
from .interfaces import BatchedModel, Conclusion, Frames, Task, VideoModel
from .models import bind
from .provenance import collect, device
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
    with Store.open(out, manifest(task.card, card, requests)) as store:
        report = progress or (lambda done, total: None)
        waiting = {r.key for r in chosen if not is_done(store.records.get(r.key), retry_errors)}
        report(len(chosen) - len(waiting), len(chosen))
        for request in (r for r in chosen if r.fresh and r.key in waiting):
            store.append(_started(task, request, name))
            waiting.discard(request.key)
            report(len(chosen) - len(waiting), len(chosen))
        warm_up = getattr(task, "warm_up", 0)
        here = [request for request in chosen if not request.fresh]
        if warm_up and waiting and not waiting.issuperset(request.key for request in here):
            for request in here[:warm_up]:  # a new process is cold again
                play(model, [request], task.truth)
        alone = warm_up or not isinstance(model, BatchedModel)
        for group in batches(here, 1 if alone else batch):
            if waiting.isdisjoint(request.key for request in group):
                continue
            speed = machine_seconds() if warm_up else None
            for request, played in zip(group, play(model, group, task.truth), strict=True):
                if request.key not in waiting:
                    continue
                keep = clips == "all" or (request.arm == "free" and not warm_up)
                record = judge(task, request, played, store, keep, speed)
                store.append(record)
                waiting.discard(record.key)
                report(len(chosen) - len(waiting), len(chosen))
        provenance = provenance.model_copy(update={"device": device(), "wall_s": watch.seconds})
        result = _conclude(task, card, requests, chosen, store, provenance)
        if share == 1:
            store.finish(result)
        return result


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


# --- one clip ------------------------------------------------------------------------------------


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
    failures = Counter(str(record.failure.kind) for record in records if record.failure)
    conclusion = task.conclude(card, records)
    return Result(
        model=card,
        task=task.card,
        provenance=provenance,
        validity=_validity(conclusion, len(chosen), len(requests), failures),
        estimates=conclusion.estimates,
        curves=conclusion.curves,
        per_prompt=conclusion.per_prompt,
        failures=dict(failures),
        records_sha256=store.records_sha256(),
    )


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
