"""`sfbench train-reference --dry-run`: what a run takes, before an hour is spent; no torch.

Tables by arithmetic (``estimate.py``), and what is missing on this machine (``machines.py``).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from . import elsewhere
from .ancestry import lineage
from .config import Preset
from .estimate import Machine, Row, estimate
from .machines import machine, missing
from .recipes import load_preset

WIDTH = 100  # in a file or a pipe, where nothing needs to wrap
BAR = 44  # characters of a full GPU
BOUND = {"compute": "compute", "host": "the host (kernel launches, noise drawn on the CPU)"}


def show(
    preset: str,
    method: str,
    overrides: list[str] | None = None,
    out: Path | None = None,
    as_json: bool = False,
    console: Console | None = None,
    weights: list[str] | None = None,
    **wanted: Any,
) -> None:
    """Print the estimate of a row, or of all.

    ``weights``: ``NAME=PATH``, where those lie that were made elsewhere; ``wanted``: arguments of
    ``machines.machine``.
    """
    config = load_preset(preset, overrides, weights)
    if method != "all":
        config.method(method)
    here = machine(config, **wanted)
    names = lineage(config, config.methods if method == "all" else [method])
    every = {name: estimate(config, name, here) for name in names if name in config.methods}
    rows = [*every.values()] if method == "all" else [every[method]]
    absent = missing(config, rows, here, out or Path("runs") / "train" / config.name)
    present = elsewhere.found(config, [row.name for row in rows])
    if as_json:
        print(json.dumps(document(config, here, rows, absent) | {"found": present}, indent=1))
        return
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(_title(config, method, here))
    if method == "all":
        console.print(_work(rows, config, here))
        console.print(_legend(rows, here))
        console.print(_memories(rows, here))
    else:
        _one(rows[0], config, here, [*every.values()][:-1], console)
    _end(present, absent, console)


def document(preset: Preset, here: Machine, rows: list[Row], absent: list[str]) -> dict[str, Any]:
    """The same as plain data; FLOPs are a sample's, bytes a GPU's."""
    return {
        "preset": preset.name,
        "estimate": True,
        "machine": dataclasses.asdict(here),
        "rows": [
            dataclasses.asdict(row)
            | {
                "gpu_hours": row.seconds * here.gpus / 3600,
                "flops": {update.player: update.work.flops for update in row.updates},
                "t": [1000 * sigma for sigma in row.levels],
            }
            for row in rows
        ],
        "missing": absent,
    }


# --- all rows -------------------------------------------------------------------------------------


def _work(rows: list[Row], preset: Preset, here: Machine) -> Table:
    works = [update.work.flops for row in rows for update in row.updates]
    size = _scale(max(works, default=0))[0]
    table = _table("work", "parameters", "batch", "updates", "G", "C", "takes")
    for row in rows:
        count = "+".join(number(net.parameters) for net in row.networks)
        if row.given or not row.updates:
            what = f"given: {row.given}" if row.given else "not estimated"
            table.add_row(Text(f"{row.name}: {what}", style="dim"), count)
            continue
        cells = [f"{update.work.flops / size:.2f}" for update in row.updates]
        table.add_row(
            row.name,
            count,
            str(preset.method(row.name).batch),
            "+".join(str(update.count) for update in row.updates),
            *(cells if len(cells) == 2 else [*cells, ""]),
            duration(row.seconds),
        )
    total = sum(row.seconds for row in rows)
    table.add_section()
    table.add_row("all", "", "", "", "", "", duration(total), style="bold")
    return table


def _legend(rows: list[Row], here: Machine) -> Text:
    letter = _scale(max((u.work.flops for row in rows for u in row.updates), default=0))[1]
    hours = sum(row.seconds for row in rows) * here.gpus / 3600
    return Text(
        "Parameters of generator + critic + teacher. G, C: an update of the generator, of the\n"
        f"critic, {letter}FLOP a sample. {hours:,.1f} {_unit(here)} hours in all.\n",
        style="dim",
    )


def _memories(rows: list[Row], here: Machine) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row.memory))
    size, letter = _scale(max((1e9 * row.gigabytes for row in rows), default=0))
    short = {"gradients": "grads", "optimiser": "optim", "KV cache": "KV", "activations": "activ"}
    named = [short.get(name, name) for name in columns]
    table = _table(f"{letter}B a {_unit(here)}", *named, "all")
    for row in rows:
        if row.memory:
            over = "red" if row.gigabytes > here.memory / 1e9 else None
            held = [row.memory.get(name, 0.0) / size for name in columns]
            cells = [f"{amount:.1f}" if amount else "" for amount in held]
            total = Text(f"{1e9 * row.gigabytes / size:.1f}", style=over or "bold")
            table.add_row(row.name, *cells, total)
    return table


# --- one row --------------------------------------------------------------------------------------


def _one(row: Row, preset: Preset, here: Machine, before: list[Row], console: Console) -> None:
    if row.given:
        size = number(row.networks[0].parameters)
        console.print(f"This row is not trained: it stands for {row.given}, {size} parameters.\n")
        return
    if not row.updates:
        console.print("Nothing is known of the passes of another package's method.\n")
        return
    console.print(_networks(row, preset))
    if row.levels:
        console.print(_levels(row, preset))
    console.print(_memory(row, here, preset.engine.checkpoint_blocks))
    if not here.cpu and row.host > 1e9:
        console.print(_host(row, here))
    console.print(_updates(row))
    console.print(_time(row, preset, here, before))


def _networks(row: Row, preset: Preset) -> Table:
    table = _table("network", "parameters", "trained", "width x blocks", "starts from", numbers=1)
    for net in row.networks:
        model = preset.of(net.start or row.name).model
        shape = "" if row.method == "codec" else f"{model.dim} x {model.layers}"
        given = preset.method(net.start).given if net.start in preset.methods else ""
        start = f"{net.start} ({given})" if given else net.start or "random weights"
        part = "yes" if net.trained == net.parameters else f"{number(net.trained)} (LoRA)"
        trained = part if net.trained else "frozen"
        table.add_row(net.name, f"{net.parameters:,}", trained, shape, start)
    return table


def _host(row: Row, here: Machine) -> Text:
    near = min(here.per_node, here.gpus)
    whose = f"{near} processes load" if near > 1 else "a process loads"
    return Text(
        f"host    about {row.host / 1e9:.0f} GB of a machine's memory while {whose} networks"
    )


def _levels(row: Row, preset: Preset) -> Table | Text:
    """The noise levels as they are used: shifted, which surprises those who know the list."""
    sampler = preset.method(row.name).sampler
    if sampler.kind == "euler":
        return Text(
            f"levels: {len(row.levels)} Euler steps at shift {sampler.shift:g}, t from 1000 to "
            f"{1000 * row.levels[-1]:.1f}; guidance {sampler.guidance:g}\n"
        )
    table = _table("denoising step", *(str(i + 1) for i in range(len(row.levels))))
    table.add_row("the list", *(f"{t:g}" for t in sampler.few))
    table.add_row("t, by shift " + f"{sampler.shift:g}", *(f"{1000 * s:.5g}" for s in row.levels))
    table.add_row("sigma", *(f"{s:.4g}" for s in row.levels))
    return table


def _memory(row: Row, here: Machine, again: bool) -> Table:
    size, letter = _scale(1e9 * row.gigabytes)
    where = "memory" if here.cpu else "memory of a GPU"
    table = _table(where, f"{letter}B", "", numbers=1)
    for name, amount in row.memory.items():
        table.add_row(f"  {name}", f"{amount / size:.1f}", _bar(amount / here.memory, "cyan"))
        if name == "activations" and row.method != "codec":
            how = "kept" if again else "computed again"
            table.add_row(f"    if {how}", f"{row.otherwise / size:.1f}", "", style="dim")
    fits = 1e9 * row.gigabytes <= here.memory
    colour, word = ("green", "fits") if fits else ("red", "does not fit")
    of = Text(f"of {here.memory / 1e9:.0f} GB: {word}", style=colour)
    table.add_row("all", f"{1e9 * row.gigabytes / size:.1f}", of, style="bold")
    return table


def _updates(row: Row) -> Table:
    largest = max(update.work.flops for update in row.updates)
    size, letter = _scale(largest)
    table = _table("work of a sample", f"{letter}FLOP", "", numbers=1)
    for update in row.updates:
        for part in update.parts:
            work = part.work.flops
            table.add_row(f"  {part.name}", f"{work / size:.2f}", _bar(work / largest, "magenta"))
        total = f"{update.work.flops / size:.2f}"
        table.add_row(f"a {update.player} update", total, "", style="bold")
        table.add_section()
    return table


def _time(row: Row, preset: Preset, here: Machine, before: list[Row]) -> Text:
    config, counts = preset.method(row.name), {u.player: u.count for u in row.updates}
    own = preset.engine.share(config.batch, here.gpus)
    at_once = preset.engine.at_once(config.batch, here.gpus)
    said = " + ".join(f"{count:,} {player} updates" for player, count in counts.items())
    text = Text("takes   ", style="bold")
    text.append(f"{duration(row.seconds)}", style="bold green")
    hours = row.seconds * here.gpus / 3600
    also = f", {hours:,.1f} {_unit(here)} hours" if hours >= 0.1 else ""
    text.append(
        f"{also}: {said}\n"
        f"        of {config.batch} samples, {own} a {_unit(here)}, {at_once} at once\n"
        f"        bound by {BOUND[row.bound]}\n",
        style="not bold",
    )
    if row.once:
        text.append(
            f"        {duration(row.before)} of it before the first: {row.once.name}, "
            f"{flops(row.once.work.flops)} in all\n",
            style="not bold",
        )
    made = [f"{other.name} {duration(other.seconds)}" for other in before if other.seconds]
    if made:
        text.append("after   ", style="bold").append(f"{', '.join(made)}\n", style="not bold")
    return text


# --- words ----------------------------------------------------------------------------------------


def _title(preset: Preset, method: str, here: Machine) -> Text:
    text = Text(f"{preset.name} · {method}", style="bold")
    engine = preset.engine
    sharding = f", {engine.sharding}" if here.gpus > 1 else ""
    blocks = ", activations computed again" if engine.checkpoint_blocks else ""
    return text.append(
        f"\n{here.gpus} x {here.name} ({here.memory / 1e9:.0f} GB, {here.peak / 1e12:.3g} TFLOP/s "
        f"in {engine.precision}){sharding}{blocks}\n"
        f"an estimate, at {here.share:.0%} of peak; nothing was measured\n",
        style="not bold dim",
    )


def _end(present: list[str], absent: list[str], console: Console) -> None:
    if present:
        console.print(Text("Found here", style="green"))
    for line in present:
        console.print(Text(f"  {line}"))
    if not absent:
        console.print(Text("Nothing is missing here.", style="green"))
        return
    console.print(Text("Missing here", style="bold yellow"))
    for line in absent:
        console.print(Text(f"  {line}"))


def _table(first: str, *others: str, numbers: int | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column(first, overflow="fold")
    for index, name in enumerate(others):
        right = numbers is None or index < numbers
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    return table


def _bar(share: float, colour: str) -> Text:
    full = round(2 * BAR * min(share, 1.0))
    return Text("━" * (full // 2) + "╸" * (full % 2), style=colour)


def _unit(here: Machine) -> str:
    return "process" if here.cpu else "GPU"


def _scale(count: float) -> tuple[float, str]:
    """The unit to show so much in."""
    units = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))
    return next((unit for unit in units if count >= unit[0]), (1e3, "k"))


def number(count: float) -> str:
    """With a letter for thousands, millions or billions."""
    size, letter = _scale(count)
    return f"{count / size:.3g}{letter.replace('G', 'B')}"


def flops(count: float) -> str:
    """With its unit."""
    size, letter = _scale(count)
    return f"{count / size:.2f} {letter}FLOP"


def duration(seconds: float) -> str:
    """In words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min" if seconds >= 600 else f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
