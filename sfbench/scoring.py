"""Videos made elsewhere on one task: one pass each, recorded, resumable, concluded as a row.

The run directory is that of :mod:`.runner`. VBench's dimensions are files of their own in it
(``vbench/<dimension>.json``), so that each is run once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import stats
from .clock import Stopwatch
from .footage import Video, typical
from .interfaces import Conclusion, FootageTask, Frames
from .provenance import collect
from .runner import Progress, is_done, manifest
from .schema import (
    ClipRef,
    Estimate,
    Failure,
    ModelCard,
    Record,
    Request,
    Result,
    TaskCard,
    Validity,
)
from .store import Store
from .vbench import DIMENSIONS
from .vbench_driver import DimensionResult, totals
from .video import VideoError, stream

VBENCH = "vbench"


def score(
    task: FootageTask,
    videos: Sequence[Video],
    card: ModelCard,
    out: Path,
    *,
    retry_errors: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Score what is not yet scored, and conclude; VBench files that lie in ``out`` are included."""
    watch, provenance = Stopwatch(), collect()
    usual = typical(videos)
    asked = [(video, video.request(usual)) for video in videos]
    requests = [request for _, request in asked]
    with Store.open(out, manifest(task.card, card, requests)) as store:
        for done, (video, request) in enumerate(asked):
            if progress:
                progress(done, len(asked))
            if not is_done(store.records.get(request.key), retry_errors):
                store.append(_record(task, video, request))
        if progress:
            progress(len(asked), len(asked))
        records = [store.records[request.key] for request in requests]
        conclusion = task.conclude(records)
        failures = Counter(str(record.failure.kind) for record in records if record.failure)
        found = dimensions(out)
        result = Result(
            model=card,
            task=_card(task.card, found),
            provenance=provenance.model_copy(update={"wall_s": watch.seconds}),
            validity=_validity(conclusion, records),
            division="open",  # whoever made the videos chose their prompts
            estimates=conclusion.estimates | vbench_estimates(found, videos),
            curves=conclusion.curves,
            per_prompt=conclusion.per_prompt,
            failures=dict(failures),
            records_sha256=store.records_sha256(),
        ).sealed()
        store.finish(result)
    return result


def dimensions(out: Path) -> list[DimensionResult]:
    """What VBench has scored in a run directory."""
    files = sorted((out / VBENCH).glob("*.json"))
    return [DimensionResult.model_validate_json(path.read_bytes()) for path in files]


def vbench_estimates(
    found: Sequence[DimensionResult], videos: Sequence[Video]
) -> dict[str, Estimate]:
    """Each dimension with its interval over prompts, and the totals if they are official."""
    if not found:
        return {}
    prompts = {video.path.name: video.prompt for video in videos}
    estimates = {}
    for result in found:
        sample: dict[str, list[float]] = {}
        for name, value in result.per_video.items():
            sample.setdefault(prompts[name], []).append(value)
        kind = "" if result.complete else f", {result.mode}, not official"
        mean = stats.mean(sample, unit="0..1", better="higher", of=f"VBench{kind}; mean")
        estimates[f"vbench_{result.dimension}"] = mean.model_copy(
            update={"value": round(result.value, stats.DIGITS)}
        )
    whole = totals(found)
    for name in ("quality", "semantic", "total"):
        value = getattr(whole, name)
        estimates[f"vbench_{name}"] = (
            stats.missing(whole.text, unit="per cent", better="higher")
            if value is None
            else Estimate(
                value=round(value, stats.DIGITS),
                low=None,
                high=None,
                n=sum(result.n for result in found),
                clusters=len(DIMENSIONS),
                method=f"VBench's weighted mean of dimensions ({whole.text}); no interval",
                unit="per cent",
                better="higher",
            )
        )
    return estimates


def _card(card: TaskCard, found: Sequence[DimensionResult]) -> TaskCard:
    """With how VBench was run, so that other modes, prompts or versions are another table."""
    facts: dict[str, set[str]] = {
        "vbench_mode": {result.mode for result in found},
        "vbench_version": {result.versions.get("vbench", "unknown") for result in found},
        "vbench_prompts": {result.extended_prompts_sha256 or "as they are" for result in found},
    }
    said = {name: ", ".join(sorted(values)) for name, values in facts.items() if values}
    return card.model_copy(update={"conditions": card.conditions | said})


# --- one video ------------------------------------------------------------------------------------


def _record(task: FootageTask, video: Video, request: Request) -> Record:
    """Measure a video in one pass; what is wrong with it is its record's failure."""
    if video.fault:
        failure = Failure(kind="video", reason=video.fault)
        return Record(key=request.key, request=request, failure=failure)
    try:
        with stream(video.path) as reader:
            counted = _Counted(reader)
            scores = task.measure(counted, reader.fps)
    except VideoError as error:
        failure = Failure(kind="video", reason=str(error))
        return Record(key=request.key, request=request, failure=failure)
    clip = ClipRef(
        path=video.path.name,
        frames=counted.frames,
        height=request.geometry.height,
        width=request.geometry.width,
        fps=request.geometry.fps,
        sha256=video.sha256,
    )
    return Record(key=request.key, request=request, clip=clip, scores=scores)


class _Counted:
    """Frames that pass by, and how many they were."""

    def __init__(self, frames: Iterable[Frames]) -> None:
        self.frames = 0
        self._source = frames

    def __iter__(self) -> Iterator[Frames]:
        for self.frames, frame in enumerate(self._source, start=1):  # noqa: B020
            yield frame


def _validity(conclusion: Conclusion, records: Sequence[Record]) -> Validity:
    reasons = list(conclusion.validity.reasons)
    if failed := [record.failure.reason for record in records if record.failure]:
        reasons.append(f"{len(failed)} of {len(records)} videos were not scored: {failed[0]}")
    ok = conclusion.validity.ok and not reasons
    return Validity(ok=ok, reasons=tuple(reasons), flags=conclusion.validity.flags)
