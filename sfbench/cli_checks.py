"""The command line, what is here and whether it can be relied on: list."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(rich_markup_mode=None)


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
