"""`sfbench score` in the terminal: what there is to score, what VBench lacks, the row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from . import scoring, vbench_driver
from .footage import Video, find, sizes
from .interfaces import FootageTask
from .progress import shown
from .registry import load
from .schema import ModelCard, Result
from .session import UsageError, slug
from .store import RESULT
from .vbench import DIMENSIONS, VBenchError, known
from .vbench_preflight import Mode, Preflight, preflight

MODES = ("custom_input", "vbench_standard")


@dataclass(frozen=True)
class VBenchWish:
    """What of VBench is asked for."""

    dimensions: tuple[str, ...] = ()
    python: Path | None = None
    mode: str = "custom_input"
    extended_prompts: Path | None = None
    download: bool = False


@dataclass(frozen=True)
class Job:
    """Videos, their task, and where the run goes."""

    task: FootageTask
    videos: tuple[Video, ...]
    card: ModelCard
    source: Path
    out: Path
    hint: str
    """A better command for these videos, if there is one."""


def plan(
    source: Path, task: str, name: str | None, options: Mapping[str, Any], out: Path | None
) -> Job:
    """Read the videos' names and headers, and set up the task on them."""
    kind = load("footage", task)
    if refused := options.keys() - signature(kind).parameters.keys():
        raise UsageError(f"{task} takes no --{sorted(refused)[0]}; leave it out.")
    videos = tuple(find(source))
    if "against" in options:
        options = {**options, "against": _true(options["against"])}
    try:
        made: FootageTask = kind(videos, **options)
    except ValueError as error:
        raise UsageError(f"The task {task} cannot be set up so: {error}.") from error
    folder = source if source.is_dir() else source.parent
    label = name or folder.resolve().name
    card = ModelCard(name=label, notes=f"{len(videos)} finished videos")
    place = out or Path("runs/score") / slug(f"{label}-{task}")
    return Job(made, videos, card, source, place, _hint(task, videos, card, folder))


def _hint(task: str, videos: Sequence[Video], card: ModelCard, folder: Path) -> str:
    """Videos of the embedded world's own prompts can be judged by its oracle."""
    prompts = [request.prompt for request in load("tasks", task)().requests(card)]
    known = {name for prompt in prompts for name in (prompt.text, prompt.id)}
    if not {video.prompt for video in videos} <= known:
        return ""
    return (
        "These are prompts of the embedded world, whose oracle sees more than pixel measures do: "
        f"sfbench run --task {task} --model videos:{folder}"
    )


def _true(source: Path) -> list[Video]:
    """The videos to compare with; all must be readable."""
    videos = find(source)
    for video in videos:
        if video.fault:
            raise UsageError(f"A true video of {source} cannot be used: {video.fault}")
    return videos


def show(job: Job, wish: VBenchWish) -> None:
    """What would be scored."""
    console = _console()
    prompts = len({video.prompt for video in job.videos})
    seeds = len({video.seed for video in job.videos})
    console.print(
        f"{job.task.card.name}: {len(job.videos)} videos, {prompts} prompts, {seeds} seeds"
    )
    if mixed := sizes(job.videos):
        console.print(f"sizes differ: {mixed}")
    for video in job.videos:
        if video.fault:
            console.print(f"cannot be scored: {video.fault}", soft_wrap=True)
    if job.hint:
        console.print(job.hint, soft_wrap=True)
    if wish.dimensions:
        console.print("\n".join(_checked(job, wish).lines()), soft_wrap=True)


def run(job: Job, wish: VBenchWish, retry_errors: bool) -> Result:
    """Our own pass, then VBench's dimensions that can run, then the row.

    What VBench lacks is found out before either: both may take hours.
    """
    from .report import print_board

    console, errors = _console(), _console(stderr=True)
    found = _ready(job, wish) if wish.dimensions else None
    with shown(errors, job.card.name) as progress:
        result = scoring.score(
            job.task, job.videos, job.card, job.out, retry_errors=retry_errors, progress=progress
        )
    skipped: list[str] = []
    if found is not None:
        skipped = _run_vbench(job, wish, found, errors)
        result = scoring.score(job.task, job.videos, job.card, job.out)
    print_board([result], console)
    for reason in result.validity.reasons:
        console.print(reason, soft_wrap=True)
    if job.hint:
        console.print(job.hint, soft_wrap=True)
    if skipped:
        console.print(
            f"Not run of VBench: {', '.join(skipped)}; --dry-run says what each needs.",
            soft_wrap=True,
        )
    console.print(str(job.out / RESULT), soft_wrap=True)
    return result


# --- VBench ---------------------------------------------------------------------------------------


def _ready(job: Job, wish: VBenchWish) -> Preflight:
    """The pre-flight, if any dimension can run."""
    found = _checked(job, wish)
    if not found.ready and not wish.download:
        raise VBenchError(
            "No dimension of VBench that was asked for can run here; the same command with "
            f"--dry-run lists what is missing, e.g. {_first_fault(found)}"
        )
    return found


def _run_vbench(job: Job, wish: VBenchWish, found: Preflight, console: Console) -> list[str]:
    """Score the dimensions that are ready and not yet scored; returns those that are not ready."""
    asked = [readiness.dimension for readiness in found.dimensions]
    ready = asked if wish.download else list(found.ready)
    done = {result.dimension for result in scoring.dimensions(job.out)}
    prompts = {video.path.name: video.prompt for video in job.videos}
    for name in ready:
        if name in done:
            continue
        console.print(f"VBench, {name}: {len(job.videos)} videos")
        vbench_driver.score(
            str(wish.python),
            name,
            job.source,
            job.out / scoring.VBENCH,
            found.mode,
            prompts=prompts if found.mode == "custom_input" else None,
            extended_prompts=wish.extended_prompts,
            download=wish.download,
        )
    return [name for name in asked if name not in ready]


def _checked(job: Job, wish: VBenchWish) -> Preflight:
    """The pre-flight of what is wished; a wish that cannot be is one sentence."""
    if wish.python is None:
        raise UsageError(
            "VBench runs in an interpreter of its own: give --vbench-python, or set "
            "SFBENCH_VBENCH_PYTHON; `make vbench-env` builds one."
        )
    if wish.mode not in MODES:
        raise UsageError(
            f"There is no VBench mode '{wish.mode}'; the modes are {', '.join(MODES)}."
        )
    if not job.source.is_dir():
        raise UsageError("VBench scores the .mp4 files of a folder, not a manifest.")
    mode = cast(Mode, wish.mode)
    return preflight(wish.python, _dimensions(wish.dimensions, mode), job.source, mode)


def _dimensions(names: Sequence[str], mode: Mode) -> list[str]:
    if tuple(names) == ("all",):
        return [n for n, d in DIMENSIONS.items() if d.custom or mode == "vbench_standard"]
    return [name for name in names if known(name)]


def _first_fault(found: Preflight) -> str:
    return next((f for f in (*found.faults, *(f for d in found.dimensions for f in d.faults))), "")


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, emoji=False, markup=False, highlight=False)
