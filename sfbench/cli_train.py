"""The command line of training: train-reference, and the dry run that says what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import registry
from .cli_common import interruptible, use_threads

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  sfbench train-reference --preset smoke
  sfbench train-reference --method self-forcing-dmd --set methods.self-forcing-dmd.steps=200
  sfbench train-reference --preset tiny --method teacher --out runs/mine --resume
  sfbench train-reference --dry-run --preset wan-1.3b --method self-forcing-dmd --gpus 64
  sfbench train-reference --preset wan-1.3b --method ode --given base=wan-1.3b \\
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
