"""The command line, what is here and whether it can be relied on: certify, doctor, list."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_common import FAILURES, interruptible

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  sfbench certify
  sfbench certify sharpness_change return_share
  sfbench certify --check results/certification.json
  sfbench certify my_metric --propose
  sfbench certify --videos my_true_videos --out runs/certified"""
)
def certify(
    metric: Annotated[
        list[str] | None, typer.Argument(help="Metrics; see `sfbench list metrics`. [default: all]")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(help="Folder of true videos. [default: the embedded world]"),
    ] = None,
    frames: Annotated[int, typer.Option(min=16, help="Frames of a clip of --videos.")] = 48,
    shots: Annotated[
        bool, typer.Option("--shots", help="Take each shot of --videos for a video of its own.")
    ] = False,
    clips: Annotated[int, typer.Option(min=2, help="Clips to damage.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: one a core]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for certification.json and CERTIFICATION.md.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="A certification.json that must be what is made here.")
    ] = None,
    propose: Annotated[
        bool,
        typer.Option("--propose", help="Damage calibration clips; say what to declare of them."),
    ] = False,
) -> None:
    """Damage true videos, and hold each metric to what it declares to see."""
    from rich.console import Console

    from . import certify as certifying
    from . import certify_check, certify_tables
    from .progress import shown
    from .registry import load

    if propose and (videos or out or check):
        raise typer.BadParameter(
            "goes with metrics, --clips and --jobs alone", param_hint="--propose"
        )
    kept = certify_check.committed(check) if check else None
    world = load("sources", "world")
    source = load("sources", "videos")(videos, frames, shots) if videos else world()
    errors = Console(stderr=True)
    output = Console(emoji=False, markup=False, highlight=False)
    with interruptible("nothing was written"), shown(errors, "certify") as progress:
        if propose:
            labels = certifying.propose(metric or (), clips=clips, jobs=jobs, progress=progress)
            output.print("\n".join(certify_tables.proposed(labels)), soft_wrap=True)
            return
        found = certifying.certify(metric or (), source, tests=clips, jobs=jobs, progress=progress)
    certify_tables.show(found, output)
    differ = certify_check.differences(found, kept, whole=not metric) if kept else []
    for line in differ:
        output.print(line, soft_wrap=True)
    if kept:
        output.print(f"{check} is {'not ' if differ else ''}what is made here.", soft_wrap=True)
    if out is not None:
        metrics = list(certifying.known_metrics().values())
        for path in certify_tables.write(found, metrics, out):
            print(path)
    if differ or not found.ok:
        raise typer.Exit(FAILURES)


@app.command(
    epilog="""\b
Examples:
  sfbench doctor
  sfbench doctor --out /mnt/shared/runs --json
  sfbench doctor --model wan:Wan2.1-T2V-1.3B"""
)
def doctor(
    out: Annotated[Path, typer.Option(help="Folder where runs would be written.")] = Path("runs"),
    vbench_python: Annotated[
        Path | None,
        typer.Option(envvar="SFBENCH_VBENCH_PYTHON", help="Interpreter that has vbench."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model to look at besides: its parts, and what it takes.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check what works here, and show the command that mends what does not."""
    from .doctor_child import LOOK_AT_TORCH, Child

    # What takes longest goes first: torch is being imported while the checks themselves are.
    torch = Child([sys.executable, "-c", LOOK_AT_TORCH])
    from .doctor import examine

    report = examine(out, vbench_python, torch, model)
    print(report.model_dump_json(indent=1) if as_json else "\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILURES)


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
