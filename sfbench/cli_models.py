"""The command line on models' weights: convert-wan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .cli_common import interruptible
from .registry import load

app = typer.Typer(rich_markup_mode=None)


@app.command(
    name="convert-wan",
    epilog="""\b
Examples:
  sfbench convert-wan Wan2.1-T2V-1.3B --out wan-1.3b
  sfbench convert-wan self_forcing_dmd.pt --out self-forcing-dmd
  sfbench convert-wan taew2_1.pth --out small
  sfbench run --task latency --model "wan:self-forcing-dmd?base=wan-1.3b"

Pickled files (.pt, .pth) are read as tensors alone: no code in them can run.""",
)
def convert_wan(
    source: Annotated[
        Path,
        typer.Argument(
            help="An official Wan2.1 folder, a Self Forcing checkpoint, any weights that --model "
            "wan:PATH takes, or TAEHV's small decoder."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there yet.")],
    network: Annotated[
        str,
        typer.Option(
            help="Which network of a checkpoint. [default: generator_ema, else generator]",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Write Wan2.1 weights of any form as a folder of safetensors in diffusers' format."""
    with interruptible("nothing was written"):
        parts = load("converters", "wan")(source, out, network)
    print(f"{out}: {', '.join(parts)}")
