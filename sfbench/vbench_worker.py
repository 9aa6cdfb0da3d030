"""One VBench dimension in the interpreter that has vbench; started by path, not imported.

It reads a JSON order on standard input and prints one JSON line at its end. That environment has
no sfbench: only the standard library and what vbench brings are used here. Whatever goes wrong is
left to raise, so that the last line on standard error says what it was.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
from importlib import import_module, metadata, util
from pathlib import Path
from typing import Any

END = "sfbench-vbench "
"""Opens the last line; vbench prints much before it."""
NO_NETWORK = 4
"""Exit code of the inert downloaders, as wget's own for a network failure."""
DOWNLOADERS = ("wget", "git")
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
REPORTED = (
    "vbench",
    "torch",
    "torchvision",
    "numpy",
    "decord",
    "opencv-python",
    "opencv-python-headless",
    "openai-clip",
    "timm",
    "transformers",
    "pyiqa",
)


def main() -> None:
    """Carry out the order."""
    order = json.load(sys.stdin)
    here = Path(__file__).resolve().parent
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != here]  # sfbench/vbench.py
    with tempfile.TemporaryDirectory(prefix="sfbench-vbench-") as folder:
        if not order["download"]:
            keep_offline(Path(folder))
        provide_vocabulary(order)
        repair_torchvision()
        scored = evaluate(order, Path(folder))
    print(END + json.dumps(scored, allow_nan=False), flush=True)


def keep_offline(folder: Path) -> None:
    """Keep this process off the network, and the two programs that VBench downloads with.

    The libraries below it open connections of their own, which Python's audit events show.
    """
    programs = folder / "bin"
    programs.mkdir()
    for name in DOWNLOADERS:
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name}: sfbench keeps VBench offline >&2\n")
        with program.open("a") as script:
            script.write(f"exit {NO_NETWORK}\n")
        program.chmod(0o755)
    os.environ["PATH"] = os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath)))
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse names and remote addresses; a socket of this machine has a text for an address."""
    remote = event == "socket.connect" and isinstance(arguments[1], tuple)
    if remote or event == "socket.getaddrinfo":
        where = arguments[1][0] if remote else arguments[0]
        raise ConnectionError(f"sfbench keeps VBench offline, and it asked for {where!r}")


def provide_vocabulary(order: dict[str, Any]) -> None:
    """Two dimensions fetch this word list while they are imported; openai-clip brings it along."""
    target = Path(order["cache"], "ViCLIP", VOCABULARY)
    spec = util.find_spec("clip") if order["vocabulary"] and not target.exists() else None
    if spec is not None and spec.origin is not None:
        source = Path(spec.origin).with_name(VOCABULARY)
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


_declared: list[Any] = []
"""Declarations live as long as this list."""


def repair_torchvision() -> None:
    """Make a CUDA build of torchvision importable beside a CPU build of torch.

    Such a build cannot load its compiled operators, and its import then fails on the first that it
    wants to describe. Declaring their names is enough: no dimension calls them.
    """
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    torch = import_module("torch")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    import_module("torchvision")


def evaluate(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run the dimension on links to the videos, so that VBench sees these and nothing else."""
    torch, vbench = import_module("torch"), import_module("vbench")
    staged, out = folder / "videos", folder / "out"
    staged.mkdir()
    for video in order["videos"]:
        (staged / Path(video).name).symlink_to(video)
    package = Path(str(vbench.__file__)).parent
    bench = vbench.VBench(
        torch.device(order["device"]), str(package / "VBench_full_info.json"), str(out)
    )
    bench.evaluate(
        videos_path=str(staged),
        name="run",
        prompt_list=order["prompts"],
        dimension_list=[order["dimension"]],
        local=True,
        read_frame=False,
        mode=order["mode"],
        imaging_quality_preprocessing_mode="longer",
    )
    written = json.loads((out / "run_eval_results.json").read_text())  # it may hold bare NaN
    mean, rows = written[order["dimension"]]
    return {
        "value": finite(mean),
        "videos": [[Path(r["video_path"]).name, finite(r["video_results"])] for r in rows],
        "versions": versions(),
    }


def finite(value: Any) -> float | None:
    """A number, or ``None`` for NaN and infinity, which strict JSON cannot hold."""
    number = float(value)
    return number if math.isfinite(number) else None


def versions() -> dict[str, str]:
    """Versions of Python and of what the score depends on."""
    found = {"python": sys.version.split()[0]}
    for name in REPORTED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
