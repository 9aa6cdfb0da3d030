"""The command line: run, score, verify, train-reference, report, list.

What a user can mend is one sentence on stderr. Exit codes: 0 done, 1 some requests failed, 2 usage,
3 interrupted. Nothing slow is imported before a command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from . import __version__, registry

FAILURES, USAGE, INTERRUPTED = 1, 2, 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Measure how video generators behave when they feed on their own output.",
    epilog="""\b
Examples:
  sfbench list
  sfbench run --task long-horizon --tier smoke --model cheat:frozen
  sfbench report runs --out leaderboard

SFBENCH_DEBUG=1 shows the traceback behind a message.""",
)


class Interrupted(Exception):
    """Ctrl-C; the text says how to go on."""

    exit_code = INTERRUPTED


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(given or ["--help"], prog_name="sfbench", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = _say("interrupted.", INTERRUPTED)
    except Exception as error:
        if os.environ.get("SFBENCH_DEBUG") or not _is_for_the_user(error):
            raise
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        code = _say(text, getattr(error, "exit_code", USAGE))
    sys.exit(code or 0)


def _is_for_the_user(error: Exception) -> bool:
    """Errors of this package are written for the user; so are the parser's and the system's."""
    ours = type(error).__module__.partition(".")[0] == "sfbench"
    return ours or hasattr(error, "format_message") or isinstance(error, OSError)


def _say(text: str, code: int) -> int:
    print("sfbench:", " ".join(text.split()), file=sys.stderr)
    return code


# --- run ------------------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  sfbench run --task long-horizon --tier smoke
  sfbench run --task all --tier smoke
  sfbench run --task latency --threads 1 --model reference:self-forcing-dmd
  sfbench run --model reference:self-forcing-dmd --model cheat:loop --out runs/mine
  sfbench run --model mymodule:MyModel --limit 4
  sfbench run --model videos:my_videos --dry-run"""
)
def run(
    task: Annotated[
        str, typer.Option(help="Task, or all; see `sfbench list tasks`.")
    ] = "long-horizon",
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Model, repeatable; see `sfbench list models`. Without it: all that ship, the "
            "cheats and the task's reference rows.",
        ),
    ] = None,
    tier: Annotated[
        str | None, typer.Option(help="How much: smoke, lite or full.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset; see `sfbench list datasets`.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Pixels a side.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds a prompt.")] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="What latency times: e2e, dit+decode or dit.", show_default=False),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first requests; never a valid result.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run directories, one a model. [default: runs/<task>-<tier>]"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be run, and run nothing.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Requests generated together.")] = 32,
    all_clips: Annotated[
        bool, typer.Option("--all-clips", help="Keep the clips of every arm, not of free only.")
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Run failed requests again.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Run a task on models. The same command again goes on where it stopped."""
    _use_threads(threads)
    from . import session

    chosen = {
        "dataset": dataset,
        "tier": tier,
        "size": size,
        "seeds": tuple(range(seeds)) if seeds else None,
        "scope": scope,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    planned = session.plan_all(task, given, model or [], out, limit)
    if dry_run:
        for plans in planned:
            session.show(plans)
        return
    options: dict[str, Any] = {
        "limit": limit,
        "batch": batch,
        "clips": "all" if all_clips else "free",
        "retry_errors": retry_errors,
    }
    with _interruptible("finished requests are saved, and the same command goes on from there"):
        results = [result for plans in planned for result in session.run(plans, options)]
    if any(result.failures for result in results):
        raise typer.Exit(FAILURES)


def _use_threads(count: int | None) -> None:
    """Before the libraries that read it are imported."""
    if count:
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))


@contextmanager
def _interruptible(advice: str) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {advice}.") from None


# --- score, verify --------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  sfbench score --videos my_videos
  sfbench score --videos manifest.jsonl --task long-horizon --native 5
  sfbench score --videos my_videos --vbench all --vbench-python .venv-vbench/bin/python --dry-run
  sfbench score --videos standard --vbench all --vbench-mode vbench_standard"""
)
def score(
    videos: Annotated[
        Path,
        typer.Option(help="Folder of videos named <prompt>-<seed>.mp4, or a manifest.jsonl."),
    ],
    task: Annotated[str, typer.Option(help="quality or long-horizon.")] = "quality",
    name: Annotated[
        str | None, typer.Option(help="Name of the row. [default: the folder's]")
    ] = None,
    native: Annotated[
        float | None,
        typer.Option(help="long-horizon: seconds of the native horizon, 5 unless said."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="quality: true videos, likewise, to tell the kernel distance from."),
    ] = None,
    vbench: Annotated[
        str, typer.Option(metavar="DIMENSIONS", help="VBench's, with commas between, or all.")
    ] = "",
    vbench_python: Annotated[
        Path | None,
        typer.Option(envvar="SFBENCH_VBENCH_PYTHON", help="Interpreter that has vbench."),
    ] = None,
    vbench_mode: Annotated[
        str, typer.Option(help="custom_input or vbench_standard.")
    ] = "custom_input",
    extended_prompts: Annotated[
        Path | None,
        typer.Option(help="File of the longer prompts that vbench_standard videos were made from."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let VBench fetch missing weights.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Run directory. [default: runs/score/<name>-<task>]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be scored, and what is missing.")
    ] = False,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Score failed videos again.")
    ] = False,
) -> None:
    """Score videos made elsewhere. The same command again goes on where it stopped."""
    from . import scoring_session

    wanted = scoring_session.VBenchWish(
        dimensions=tuple(d.strip() for d in vbench.split(",") if d.strip()),
        python=vbench_python,
        mode=vbench_mode,
        extended_prompts=extended_prompts,
        download=download,
    )
    chosen = {"native": native, "against": against}
    options = {key: value for key, value in chosen.items() if value is not None}
    job = scoring_session.plan(videos, task, name, options, out)
    if dry_run:
        scoring_session.show(job, wanted)
        return
    with _interruptible("videos that are scored are saved; the same command goes on from there"):
        result = scoring_session.run(job, wanted, retry_errors)
    if not result.validity.ok:
        raise typer.Exit(FAILURES)


@app.command(
    epilog="""\b
Examples:
  sfbench verify --model mymodule:MyModel
  sfbench verify --model 'cmd:python examples/cmd_model.py'"""
)
def verify(
    model: Annotated[str, typer.Option(metavar="NAME", help="Model; see `sfbench list models`.")],
    size: Annotated[int, typer.Option(min=8, help="Pixels a side.")] = 32,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Check that a model keeps the contract, and say in words where it does not."""
    _use_threads(threads)
    from .verify import verify as check

    report = check(model, size=size)
    print("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILURES)


# --- the other commands ---------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  sfbench train-reference --preset smoke
  sfbench train-reference --method self-forcing-dmd --set methods.self-forcing-dmd.steps=200
  sfbench train-reference --preset tiny --method teacher --out runs/mine --resume"""
)
def train_reference(
    preset: Annotated[str, typer.Option(help="Preset; see `sfbench list presets`.")] = "tiny",
    method: Annotated[
        str, typer.Option(help="Method; see `sfbench list methods`. all: each that is missing.")
    ] = "all",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the preset."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory. [default: runs/train/<preset>]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train the reference implementation."""
    _use_threads(threads)
    train = registry.load("trainers", "reference")
    with _interruptible("the same command with --resume goes on from the newest checkpoint"):
        train(preset, method, overrides or [], out, resume)


@app.command(
    epilog="""\b
Examples:
  sfbench report
  sfbench report results/runs --out results --headline oracle:truth,teacher-forcing
  sfbench report runs/long-horizon-smoke --format md"""
)
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Results, run directories or folders of them. [default: runs]"),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="What to write: csv, md, png.")
    ] = "csv,md,png",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. [default: the first of RUNS]")
    ] = None,
    embed: Annotated[
        Path | None,
        typer.Option(help="Markdown page whose <!-- board --> block is replaced by the table."),
    ] = None,
    headline: Annotated[
        str,
        typer.Option(
            metavar="ROWS",
            help="Rows, with commas between, whose frames and drift make headline.png.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Rank finished runs; write the leaderboard and its pictures."""
    from .report import FORMATS, write_report

    chosen = [name.strip() for name in formats.split(",")]
    for name in chosen:
        if name not in FORMATS:
            raise typer.BadParameter(registry.unknown("format", name, FORMATS))
    sources = runs or [Path("runs")]
    rows = [name.strip() for name in headline.split(",") if name.strip()]
    for path in write_report(sources, out or sources[0], chosen, embed, rows):
        print(path)


@app.command(
    name="list",
    epilog="""\b
Examples:
  sfbench list
  sfbench list models
  sfbench list methods --json""",
)
def list_(
    what: Annotated[
        str | None, typer.Argument(help="tasks, models, metrics, datasets, methods or presets.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Show what there is by name."""
    from .listing import everything, render

    print(render(everything(what), as_json))


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"sfbench {__version__}")
        raise typer.Exit
