"""The command line of the live page: demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_common import use_threads

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="""\b
Examples:
  sfbench demo
  sfbench demo --model reference:diffusion-forcing@4 --threads 1 --port 9000
  sfbench demo --model wan:PATH --size 832x480 --prompt "a cat walks on grass" --out recordings

The page is for this machine alone. One on another is reached through a tunnel:
ssh -L 8765:127.0.0.1:8765 HOST"""
)
def demo(
    model: Annotated[
        str, typer.Option(metavar="NAME", help="A causal model; see `sfbench list models`.")
    ] = "reference:self-forcing-dmd",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="Pixels a side, or WIDTHxHEIGHT. [default: 32, as the embedded world]",
        ),
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(min=1, max=1000, help="Frames a second. [default: 16]", show_default=False),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, help="The longest stream, in seconds of video.")
    ] = 120,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Example that the page offers, repeatable. [default: of the embedded world]"
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0: any that is free.")
    ] = 8765,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the recordings. [default: one that is gone at the end]"),
    ] = None,
) -> None:
    """Watch a model generate, live on a web page, and change its prompt meanwhile."""
    use_threads(threads)
    from . import demo as page
    from .session import sides

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    page.give(model, sides(size), fps, seconds, prompt or (), port, out, say)
