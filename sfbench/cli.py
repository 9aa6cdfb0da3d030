"""The command line: run, score; the rest is in the other ``cli_*``.

What a user can mend is one sentence on stderr. Exit codes: 0 done, 1 some requests failed, 2 usage,
3 interrupted. Nothing slow is imported before a command needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from . import __version__, cli_checks, cli_demo, cli_models, cli_results, cli_train
from .cli_common import FAILURES, INTERRUPTED, USAGE, interruptible, use_device, use_threads

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
  sfbench run --task latency --size 832x480 --model wan:random-1.3b --device cuda
  sfbench run --model reference:self-forcing-dmd --model cheat:loop --out runs/mine
  sfbench run --model mymodule:MyModel --limit 4
  sfbench run --model videos:my_videos --dry-run
  sfbench run --task quality --out /shared/runs --shard 2/4
  sfbench run --task video-exposure --dataset folder:held_out --size 832x480 --model mymodule:m

Shards of one run share its folder; each is a process, on any machine. The one that
finishes last puts the parts together, and so does the same command without --shard."""
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
        str | None,
        typer.Option(help="Dataset; see `sfbench list datasets`. folder:PATH: your own videos."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="N", help="Pixels a side; WIDTHxHEIGHT for your videos, and latency."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Number of seeds a prompt.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other argument of the task, repeatable; video-exposure has prefix, frames, "
            "fps, features and split.",
        ),
    ] = None,
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
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="cpu or cuda, for models that take a GPU. [default: a GPU where there is one]",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only the I-th of N parts, from 1. [default: as RANK and WORLD_SIZE, or "
            "SLURM_ARRAY_TASK_ID and _COUNT, say]",
        ),
    ] = None,
) -> None:
    """Run a task on models. The same command again goes on where it stopped."""
    use_threads(threads)
    use_device(device)
    from . import runner, session, shards

    part, source = shards.chosen(shard, os.environ)
    chosen = {
        "dataset": dataset,
        "tier": tier,
        "size": session.sides(size),
        "seeds": tuple(range(seeds)) if seeds else None,
        "scope": scope,
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    given |= session.settings(settings or ())
    planned = session.plan_all(task, given, model or [], out, limit)
    if part is not None:
        for plans in planned:
            runner.ensure_untimed(plans[0].task)
        if shard is None:
            print(f"sfbench: shard {part}, because of {source}", file=sys.stderr)
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
    with interruptible("finished requests are saved, and the same command goes on from there"):
        results = [result for plans in planned for result in session.run(plans, options, part)]
    if any(result.failures for result in results):
        raise typer.Exit(FAILURES)


# --- score --------------------------------------------------------------------------------


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
        typer.Option(help="True videos, likewise, to tell these from."),
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
    with interruptible("videos that are scored are saved; the same command goes on from there"):
        result = scoring_session.run(job, wanted, retry_errors)
    if not result.validity.ok:
        raise typer.Exit(FAILURES)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"sfbench {__version__}")
        raise typer.Exit


for _more in (cli_train.app, cli_results.app, cli_checks.app, cli_models.app, cli_demo.app):
    app.add_typer(_more)
