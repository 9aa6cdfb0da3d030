"""Runs the real VBench package: one dimension a call, in an interpreter of its own.

The package pins old libraries and loads all networks before it scores anything, so it lives in
another environment, and one missing file stops one dimension only. It also drops videos it cannot
read and writes NaN, so nothing is believed before it was checked against what was asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .schema import Base
from .store import write_atomic
from .vbench import (
    InputError,
    ResultError,
    SetupError,
    Totals,
    WorkerError,
    aggregate,
    ensure_plausible,
    known,
    some,
)
from .vbench_files import WEIGHTS, Weight, located, packages, probe, roots, weight_faults
from .vbench_preflight import Mode, find_videos, standard_names, standard_prompts
from .vbench_worker import DOWNLOADERS, END

WORKER = Path(__file__).with_name("vbench_worker.py")
PER_CENT = {"imaging_quality"}
"""Dimensions whose value a video is in 0..100 while their mean is in 0..1."""
MAY_DROP = {"color"}
"""It leaves out, by its definition, videos in which the object has no colour."""


class DimensionResult(Base):
    """One dimension of VBench on one set of videos."""

    dimension: str
    mode: Mode
    value: float
    """VBench's own mean, in 0..1 (a cosine may be negative); some weigh videos by their frames."""
    per_video: dict[str, float]
    """File name to score, on the scale of ``value``, sorted by name."""
    n: int
    """Videos that were scored."""
    unscored: tuple[str, ...] = ()
    """Videos that the dimension leaves out by definition."""
    complete: bool
    """``vbench_standard`` with every sample of every prompt of this dimension."""
    weights: dict[str, str]
    """Weight file, below its root, to SHA-256."""
    unpublished: tuple[str, ...] = ()
    """Weight files whose hash is known not to be that of the published file."""
    versions: dict[str, str]
    device: str
    extended_prompts_sha256: str | None = None
    """Of the file of longer prompts that the videos were made from, if there was one."""

    @property
    def official(self) -> bool:
        """Whether it may enter an official total."""
        return self.complete and not self.unpublished


def totals(results: Iterable[DimensionResult]) -> Totals:
    """Official totals; what is incomplete, custom or of other weights counts as missing."""
    return aggregate({r.dimension: r.value for r in results if r.official})


def score(
    python: str | Path,
    dimension: str,
    videos: Path,
    out: Path,
    mode: Mode = "custom_input",
    *,
    prompts: Mapping[str, str] | None = None,
    extended_prompts: Path | None = None,
    download: bool = False,
    trust_weights: bool = False,
    device: str = "cpu",
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> DimensionResult:
    """Score the ``.mp4`` files of the folder ``videos`` and write ``out/<dimension>.json``.

    ``prompts`` maps file names to texts in ``custom_input``; without it VBench takes the text from
    the name. The network is used only with ``download``. ``trust_weights`` lets torch load weight
    files that could run code, in that process only. Raises :class:`VBenchError` of some kind.
    """
    env = os.environ if env is None else env
    origins = _ensure_ready(python, dimension, mode, env, download)
    chosen, complete = _chosen(dimension, videos, mode, origins)
    order = {
        "dimension": dimension,
        "mode": mode,
        "videos": [str(path.resolve()) for path in chosen],
        "prompts": _prompts(chosen, mode, prompts),
        "cache": str(roots(env)["VBENCH_CACHE_DIR"]),
        "vocabulary": any(weight.inside for weight in WEIGHTS[dimension]),
        "download": download,
        "device": device,
    }
    answer = _run(python, order, _environment(env, trust_weights), timeout_s)
    value, per_video, unscored = _checked(dimension, [path.name for path in chosen], answer)
    weights, unpublished = _hashes(dimension, env)
    result = DimensionResult(
        dimension=dimension,
        mode=mode,
        value=value,
        per_video=per_video,
        n=len(per_video),
        unscored=unscored,
        complete=complete,
        weights=weights,
        unpublished=unpublished,
        versions=answer["versions"],
        device=device,
        extended_prompts_sha256=_sha256(extended_prompts) if extended_prompts else None,
    )
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.model_dump(mode="json"), indent=1, sort_keys=True, allow_nan=False)
    write_atomic(out / f"{dimension}.json", (text + "\n").encode())
    return result


# --- before the run -------------------------------------------------------------------------------


def _ensure_ready(
    python: str | Path, dimension: str, mode: Mode, env: Mapping[str, str], download: bool
) -> dict[str, str | None]:
    """Where that interpreter has each package, once all is there that the dimension needs."""
    if mode == "custom_input" and not known(dimension).custom:
        raise InputError(f"{dimension} scores VBench's own prompts only; use vbench_standard.")
    names = packages(dimension)
    origins = probe(python, names, env)
    if absent := [name for name in names if not origins[name]]:
        raise SetupError(f"{dimension} needs {some(absent)}, which {python} does not have.")
    faults = weight_faults(dimension, env, set(names))
    if faults and not download:
        more = f" ({len(faults) - 1} more file(s) likewise)" if len(faults) > 1 else ""
        raise SetupError(f"{dimension} cannot run{more}: {faults[0]}")
    return origins


def _chosen(
    dimension: str, folder: Path, mode: Mode, origins: Mapping[str, str | None]
) -> tuple[list[Path], bool]:
    """The videos to score, and whether they are all that the standard asks for."""
    found, strangers = find_videos(folder)
    if strangers:
        raise InputError(strangers[0])
    complete = False
    if mode == "vbench_standard":
        prompts = standard_prompts(origins)[dimension]
        wanted = {name for prompt in prompts for name in standard_names(prompt)}
        found = [path for path in found if path.name in wanted]
        complete = len(found) == len(wanted)
    if not found:
        raise InputError(f"{folder} holds no .mp4 file that {dimension} scores in {mode}.")
    return found, complete


def _prompts(
    chosen: Sequence[Path], mode: Mode, prompts: Mapping[str, str] | None
) -> dict[str, str]:
    if prompts is None:
        return {}
    if mode == "vbench_standard":
        raise InputError("Prompts cannot be given in vbench_standard: the file names hold them.")
    if absent := [path.name for path in chosen if path.name not in prompts]:
        raise InputError(f"There is no prompt for {some(absent)}; give one for each video.")
    return {path.name: prompts[path.name] for path in chosen}


def _environment(env: Mapping[str, str], trust_weights: bool) -> dict[str, str]:
    found = dict(env) | {name: str(path) for name, path in roots(env).items()}
    return found | ({"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"} if trust_weights else {})


# --- the run --------------------------------------------------------------------------------------


def _run(
    python: str | Path, order: dict[str, Any], env: dict[str, str], timeout_s: float | None
) -> dict[str, Any]:
    """The worker's answer."""
    dimension = order["dimension"]
    try:
        done = subprocess.run(
            [str(python), str(WORKER)],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            errors="replace",
            env=env,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"VBench's {dimension} was stopped after {timeout_s:g} s.") from None
    if done.returncode:
        raise _failure(order, done.returncode, done.stderr)
    last = (done.stdout.splitlines() or [""])[-1]
    if not last.startswith(END):
        raise WorkerError(f"VBench's {dimension} ended without a result.")
    answer: dict[str, Any] = json.loads(last.removeprefix(END))
    return answer


def _failure(order: Mapping[str, Any], code: int, stderr: str) -> WorkerError | SetupError:
    """The one sentence that the last words of the worker come to."""
    dimension = order["dimension"]
    lines = [line.strip() for line in re.split(r"[\r\n]", stderr) if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    fetched = re.search(r"https?://[^'\s]+", last)
    if "keeps VBench offline" in last or any(f"['{name}'" in last for name in DOWNLOADERS):
        what = fetched.group() if fetched else last
        did, instead = "wanted to", "pass download=True"
        if order["download"]:
            did, instead = "could not", "try again with a network"
        return SetupError(
            f"VBench's {dimension} {did} download {what}; put it in its place or {instead}."
        )
    if "weights_only" in last:
        return SetupError(
            f"VBench's {dimension} has a weight file that may run code when loaded; pass "
            "trust_weights=True if you trust where it came from."
        )
    how = f"failed with exit code {code}"
    if code < 0:
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        how = f"was killed by signal {-code}{hint}"
    return WorkerError(f"VBench's {dimension} {how}: {last}")


# --- after the run --------------------------------------------------------------------------------


def _checked(
    dimension: str, asked: Sequence[str], answer: Mapping[str, Any]
) -> tuple[float, dict[str, float], tuple[str, ...]]:
    """The mean, the videos' scores and the videos without one, if they are what was asked for."""
    scale = 100.0 if dimension in PER_CENT else 1.0
    given: dict[str, float | None] = dict(answer["videos"])
    if strangers := sorted(given.keys() - set(asked)):
        raise ResultError(f"VBench's {dimension} scored {some(strangers)}, which it was not given.")
    if unreal := sorted(name for name, value in given.items() if value is None):
        raise ResultError(f"VBench's {dimension} has no finite score (NaN) for {some(unreal)}.")
    absent = tuple(sorted(set(asked) - given.keys()))
    if absent and (dimension not in MAY_DROP or not given):
        raise ResultError(
            f"VBench's {dimension} dropped {some(list(absent))} of {len(asked)} videos, as it does "
            "with what it cannot read; replace or remove the file."
        )
    if answer["value"] is None:
        raise ResultError(f"VBench's {dimension} has no finite mean (NaN) over its videos.")
    per_video = {n: v / scale for n, v in sorted(given.items()) if v is not None}
    for value in (answer["value"], *per_video.values()):
        ensure_plausible(dimension, value)
    return answer["value"], per_video, absent


def _hashes(dimension: str, env: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """SHA-256 of each weight file, and those that are known to differ from the published one."""
    hashes: dict[str, str] = {}
    others: list[str] = []
    for weight in WEIGHTS[dimension]:
        path = located(weight, env)
        if path is not None:
            hashes[weight.path] = _sha256(path)
            others += [weight.path] if _differs(weight, hashes[weight.path]) else []
    return hashes, tuple(others)


def _differs(weight: Weight, sha256: str) -> bool:
    return not sha256.startswith(weight.sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
