"""The command line: run, score, train-reference; the rest is in the other ``cli_*``.

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

from . import __version__, cli_checks, cli_demo, cli_models, cli_results, registry
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


# --- train ---------------------------------------------------------------------------------------


@app.command(
    epilog="""\b
Examples:
  sfbench train-reference --preset smoke
  sfbench train-reference --method self-forcing-dmd --set methods.self-forcing-dmd.steps=200
  sfbench train-reference --preset tiny --method teacher --out runs/mine --resume
  sfbench train-reference --dry-run --preset wan-1.3b --method self-forcing-dmd --gpus 64
  sfbench train-reference --preset wan-1.3b --method ode --given base=wan-1.3b \
      --set data.dataset=prompts:prompts.txt"""
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
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--given",
            metavar="NAME=PATH",
            help="Where weights lie that were made elsewhere, repeatable. NAME: a row that stands "
            "for them (wan-1.3b: base, teacher), codec or text; these two are by default those of "
            "the first row's folder that has them. PATH: as in wan:PATH.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory. [default: runs/train/<preset>]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest complete checkpoint.")
    ] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate memory, work and hours, say what is missing."),
    ] = False,
    gpus: Annotated[int | None, typer.Option(min=1, help="Of the estimate. [default: 1]")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Of the estimate: h100, h200, a100, rtx4090 or cpu. [default: h100 for a preset "
            "in bf16, else cpu]"
        ),
    ] = None,
    memory_gb: Annotated[
        float | None, typer.Option(min=0, help="Of a GPU of the estimate.", show_default=False)
    ] = None,
    tflops: Annotated[
        float | None, typer.Option(min=0, help="Peak of a GPU of the estimate.", show_default=False)
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0.01, max=1, help="Share of the peak that is reached. [default: 0.35]"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The estimate as JSON.")] = False,
) -> None:
    """Train the reference implementation."""
    use_threads(threads)
    device = {"gpus": gpus, "gpu": gpu, "memory_gb": memory_gb, "tflops": tflops, "share": share}
    given = {name: value for name, value in device.items() if value is not None}
    if dry_run:
        show = registry.load("planners", "reference")
        show(preset, method, overrides or [], out, as_json, weights=weights, **given)
        return
    if given or as_json:
        names = [f"--{name.replace('_', '-')}" for name in given] + ["--json"] * as_json
        raise typer.BadParameter(f"{', '.join(names)} can only stand beside --dry-run.")
    train = registry.load("trainers", "reference")
    with interruptible("the same command with --resume goes on from the newest checkpoint"):
        evaluator = registry.load("evaluators", "reference")
        train(preset, method, overrides or [], out, resume, evaluator=evaluator, given=weights)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        print(f"sfbench {__version__}")
        raise typer.Exit


for _more in (cli_results.app, cli_checks.app, cli_models.app, cli_demo.app):
    app.add_typer(_more)
