"""The command line does not change by accident: commands, options, defaults, exit codes.

Run as a program it prints what ``tests/golden/cli.txt`` should hold (``make golden``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from sfbench import cli, cli_common

GOLDEN = Path(__file__).parent / "golden" / "cli.txt"
EXITS = ("FAILURES", "USAGE", "INTERRUPTED", "INCOMPARABLE", "INVALID")


def tree(command: Any, name: str) -> Iterator[str]:
    """A command, its parameters, and the commands below it."""
    yield name
    for parameter in command.params:
        names = ", ".join((*parameter.opts, *parameter.secondary_opts))
        default = "" if callable(parameter.default) else f" = {parameter.default!r}"
        need = " (required)" if parameter.required else ""
        yield f"    {names}{default}{need}"
    for below in sorted(getattr(command, "commands", {})):
        yield from tree(command.commands[below], f"{name} {below}")


def text() -> str:
    lines = [*tree(typer.main.get_command(cli.app), "sfbench"), "exit codes"]
    lines += [f"    {name}: {getattr(cli_common, name)}" for name in EXITS]
    return "\n".join(lines) + "\n"


def test_the_command_line_is_as_it_was() -> None:
    assert text() == GOLDEN.read_text(), "if that is meant: make golden, and a line in CHANGELOG.md"


if __name__ == "__main__":
    print(text(), end="")
