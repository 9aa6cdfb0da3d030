"""What code produced a result, with what packages, on what machine, and by which command.

A result is published, so nothing here names a person, a host or a folder of the machine.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from . import __version__
from .clock import utc_now
from .schema import Provenance

PACKAGE = Path(__file__).parent
CODE = ("sfbench", "reference", "tasks", "pyproject.toml")  # of the checkout
PACKAGES = ("torch", "numpy", "scipy", "pandas", "av", "pydantic", "safetensors", "diffusers")
FOLDER = re.compile(r"(?:(?<=^)|(?<=[=:,]))(?:~|\.\.|/)[^=:,]*/")
"""The directory part of a path that starts at a root, at home or above the current folder."""


def collect(command: Sequence[str] | None = None, package: Path = PACKAGE) -> Provenance:
    """The provenance of a run that starts now; ``command`` defaults to this process's."""
    commit, dirty = revision(package)
    return Provenance(
        sfbench=__version__,
        commit=commit,
        dirty=dirty,
        python=platform.python_version(),
        packages=_versions(),
        machine=_machine(),
        device=device(),
        command=command_line(sys.argv if command is None else command),
        started=utc_now(),
    )


def revision(package: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that holds this very code, and whether the code differs from it.

    ``(None, None)`` for an installed wheel, also when it lies inside someone else's checkout.
    """
    root = package.parent
    if _git(root, "ls-files", "--error-unmatch", f"{package.name}/__init__.py") is None:
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--", *CODE)
    return commit, None if status is None else bool(status)


def device() -> str:
    """The accelerator that a model of this process uses, if any; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return "cpu"


def conditions() -> dict[str, str]:
    """What a timing depends on, beside the model: rows that differ in it are not compared."""
    known = {"python": platform.python_version(), **_versions()}
    software = ", ".join(f"{name} {known[name]}" for name in ("python", "torch") if name in known)
    return {
        "device": device(),
        "machine": _machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "default"),
        "software": software,
    }


def command_line(arguments: Sequence[str]) -> str:
    """The command as one would type it, without the machine's folders."""
    program = Path(arguments[0]).name if arguments else ""
    program = "sfbench" if program == "__main__.py" else program
    return shlex.join([program, *(FOLDER.sub("", argument) for argument in arguments[1:])])


@cache
def _versions() -> dict[str, str]:
    """Asked for with every card of a timed task; a process's packages do not change."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {_cpu()}, {os.cpu_count()} cores"


@cache
def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown processor"


def _git(root: Path, *arguments: str) -> str | None:
    """Output of a git command in ``root``, or ``None`` where there is no git or no checkout."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            env=environment,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
