"""The command line, what is done with finished runs: report, compare, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import registry
from .cli_common import FAILURES, INVALID, use_threads

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  sfbench verify results
  sfbench verify results --strict
  sfbench verify runs/long-horizon-full/mine --rescore 20
  sfbench verify --model 'cmd:python examples/cmd_model.py'"""
)
def verify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH...", help="Run directories, or folders of them."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A model instead; see `sfbench list models`."),
    ] = None,
    rescore: Annotated[
        int, typer.Option(min=0, help="Clips a row that are scored again, where they are here.")
    ] = 3,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="folder:PATH", help="Of rows on videos of your own: where these are."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Also wrong: what keeps a row off the board, else noted."),
    ] = False,
    size: Annotated[int, typer.Option(min=8, help="Of a model: pixels a side.")] = 32,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Compute finished rows again from their records and clips, or check a model's contract.

    Says in words what does not hold. A row that is wrong is exit code 5, a model 1. Notes say what
    a pull request is refused for; with --strict that is wrong too.
    """
    if bool(paths) == bool(model):
        raise typer.BadParameter("name either finished rows or one --model")
    use_threads(threads)
    if model:
        _verify_model(model, size)
    else:
        _verify_rows(paths or [], rescore, dataset, strict)


def _verify_model(name: str, size: int) -> None:
    from .verify_model import verify as check

    report = check(name, size=size)
    print("\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(FAILURES)


def _verify_rows(paths: list[Path], rescore: int, dataset: str | None, strict: bool) -> None:
    from .row_folders import rows
    from .verify_rows import check
    from .verify_tables import check_tables

    wrong = 0
    for row in rows(paths):
        found = check(row, rescore, dataset, strict=strict)
        print("\n".join(found.lines()), flush=True)
        wrong += not found.ok
    for finding in [finding for path in paths for finding in check_tables(path)]:
        print(f"wrong  {finding}")
        wrong += 1
    if wrong:
        raise typer.Exit(INVALID)


@app.command(
    epilog="""\b
Examples:
  sfbench submit runs/long-horizon-full/mine --dry-run
  sfbench submit runs/long-horizon-full/mine --to results"""
)
def submit(
    run: Annotated[Path, typer.Argument(help="A finished run directory.")],
    to: Annotated[Path, typer.Option(help="Folder of results in a clone.")] = Path("results"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check, and print what would be added.")
    ] = False,
) -> None:
    """Verify a finished run, and copy what a pull request adds to results/."""
    from .submit import prepare, write

    found = prepare(run, to)
    if not dry_run:
        write(found)
    print("\n".join(found.lines()))


@app.command(
    epilog="""\b
Examples:
  sfbench schema"""
)
def schema() -> None:
    """Print the JSON schema of all files that sfbench writes."""
    from .row_files import schema as text

    print(text(), end="")


@app.command(
    epilog="""\b
Examples:
  sfbench report
  sfbench report results/runs --out results --headline oracle:truth,teacher-forcing
  sfbench report runs/mine --among results/runs
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
        typer.Option(help="Markdown page whose marked blocks (<!-- board -->) are made again."),
    ] = None,
    among: Annotated[
        list[Path] | None,
        typer.Option(
            help="Where the rows lie that these are ranked among, e.g. results/runs.",
            show_default=False,
        ),
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
    for path in write_report(sources, out or sources[0], chosen, embed, rows, among or []):
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
