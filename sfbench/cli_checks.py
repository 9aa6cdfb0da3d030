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
    clips: Annotated[int, typer.Option(min=2, help="Clips to damage.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes. [default: one a core]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for certification.json and CERTIFICATION.md.")
    ] = None,
) -> None:
    """Damage true videos, and hold each metric to what it declares to see."""
    from rich.console import Console

    from . import certify as certifying
    from . import certify_tables
    from .progress import shown
    from .registry import load

    source = load("sources", "videos")(videos) if videos else load("sources", "world")()
    errors = Console(stderr=True)
    with interruptible("nothing was written"), shown(errors, "certify") as progress:
        found = certifying.certify(metric or (), source, tests=clips, jobs=jobs, progress=progress)
    certify_tables.show(found, Console(emoji=False, markup=False, highlight=False))
    if out is not None:
        metrics = list(certifying.known_metrics().values())
        for path in certify_tables.write(found, metrics, out):
            print(path)
    if not found.ok:
        raise typer.Exit(FAILURES)


@app.command(
    epilog="""\b
Examples:
  sfbench doctor
  sfbench doctor --out /mnt/shared/runs --json"""
)
def doctor(
    out: Annotated[Path, typer.Option(help="Folder where runs would be written.")] = Path("runs"),
    vbench_python: Annotated[
        Path | None,
        typer.Option(envvar="SFBENCH_VBENCH_PYTHON", help="Interpreter that has vbench."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check what works here, and show the command that mends what does not."""
    from .doctor_child import LOOK_AT_TORCH, Child

    # What takes longest goes first: torch is being imported while the checks themselves are.
    torch = Child([sys.executable, "-c", LOOK_AT_TORCH])
    from .doctor import examine

    report = examine(out, vbench_python, torch)
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
