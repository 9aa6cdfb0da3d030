"""The command line, what is done with finished runs: report, compare, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import registry
from .cli_common import FAILURES, use_threads

app = typer.Typer(rich_markup_mode=None)


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
    use_threads(threads)
    from .verify import verify as check

    report = check(model, size=size)
    print("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILURES)


@app.command(
    epilog="""\b
Examples:
  sfbench report
  sfbench report results/runs --out results --headline oracle:truth,teacher-forcing
  sfbench report runs/long-horizon-smoke --format html"""
)
def report(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Results, run directories or folders of them. [default: runs]"),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="What to write: csv, md, png, html.")
    ] = "csv,md,png,html",
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
    """Rank finished runs; write the leaderboard: tables, pictures, and one page of HTML."""
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
    epilog="""\b
Examples:
  sfbench compare self-forcing-dmd teacher-forcing
  sfbench compare runs/quality-full/mine self-forcing-dmd --task quality --json"""
)
def compare(
    rows: Annotated[
        list[str],
        typer.Argument(
            metavar="A B ...", help="Models as on a board, run directories or result files."
        ),
    ],
    task: Annotated[
        str | None, typer.Option(help="Only this task. [default: each that all rows have]")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="Where names are looked up. [default: results/runs, else runs]"),
    ] = None,
    allow_mismatch: Annotated[
        bool, typer.Option("--allow-mismatch", help="Also rows under different conditions.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Hold rows against each other: paired differences, effect sizes, verdicts in words."""
    import json

    from rich.console import Console

    from . import compare_text
    from .compare import compare as find

    kept = Path("results/runs")
    shelf = results or (kept if kept.is_dir() else Path("runs"))
    pairs = find(rows, shelf, task, allow_mismatch)
    if as_json:
        print(json.dumps(compare_text.as_json(pairs), indent=1, allow_nan=False))
    else:
        compare_text.print_pairs(pairs, Console(emoji=False, markup=False, highlight=False))
