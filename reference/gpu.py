"""`make gpu`: train the headline rows of a preset on this machine, and write down what it took.

Each row runs a few steps for its pace, then as many of its recipe's as fit its share of the time;
what was cut short says so. The result is one JSON file with its provenance. It needs torch and,
for the data, pydantic; neither av nor diffusers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console

from .ancestry import lineage
from .arithmetic import tokens_of
from .config import ConfigError, Preset
from .estimate import estimate
from .machines import machine
from .recipes import load_preset, recipe_hash

HEADLINE = ("codec", "diffusion-forcing", "teacher", "self-forcing-dmd")
NEEDED = ("torch", "numpy", "yaml", "safetensors", "pydantic")
PACE_STEPS = 20  # the second half of them is timed
FOR_TRAINING = 0.85  # of the time; the rest is for pace, evaluation and writing
LEAST = 20  # seconds that are left, or what follows training is skipped
POINTS = 40  # of a loss curve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and say where the result is."""
    parser = argparse.ArgumentParser(prog="python -m sfbench.reference.gpu", description=__doc__)
    parser.add_argument("--preset", default="base", help="see `sfbench list presets`")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it")
    parser.add_argument("--out", type=Path, default=Path("results") / "gpu", help="of the JSON")
    parser.add_argument("--work", type=Path, help="of the weights [default: runs/gpu/<time>]")
    given = parser.parse_args(arguments)
    if sentence := not_here(given.device):
        print(f"sfbench: {sentence}", file=sys.stderr)
        return 2
    work = given.work or Path("runs") / "gpu" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    try:
        job = Job(given.preset, given.device, work, time.monotonic() + 60 * given.minutes)
        found = job.run()
    except ConfigError as error:
        print(f"sfbench: {error}", file=sys.stderr)
        return 2
    found = {"provenance": provenance(job.on), "minutes": given.minutes, **found}
    path = given.out / f"{job.preset.name}-{slug(found['provenance']['device'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    part.replace(path)
    job.console.print(f"{path}; weights in {work / 'weights'}")
    return 0


def not_here(device: str) -> str:
    """One sentence about what this machine lacks; else nothing."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return (
            f"{', '.join(absent)} not installed: where there is a network, `pip download --dest "
            f"wheels {' '.join(absent)}` with this Python's version, then here `pip install "
            f"--no-index --find-links wheels {' '.join(absent)}`."
        )
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        return "this torch sees no GPU; --device cpu runs the same on the CPU."
    return ""


@dataclass
class Job:
    """One run of the headline rows."""

    named: str
    device: str
    work: Path
    end: float

    def __post_init__(self) -> None:
        import torch

        self.preset: Preset = load_preset(self.named)
        cuda = self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())
        self.on = "cuda" if cuda else "cpu"
        self.console = Console(highlight=False)
        rows = [row for row in HEADLINE if row in self.preset.methods]
        self.rows = lineage(self.preset, rows)
        here = machine(self.preset, "h100" if cuda else "cpu")
        found = [estimate(self.preset, row, here) for row in self.rows]
        self.step = {e.name: (e.seconds - e.before) / self._steps(e.name) for e in found}
        before = [0.0, *(e.before for e in found)]  # the row after the codec encodes the clips
        self.expected = {
            e.name: e.seconds - e.before + spent for e, spent in zip(found, before, strict=False)
        }

    def _steps(self, row: str) -> int:
        return self.preset.method(row).steps

    def run(self) -> dict[str, Any]:
        """Every row, then what its student does."""
        left = self.end - time.monotonic()
        last = self.end - (1 - FOR_TRAINING) * left
        rows = []
        for row in self.rows:
            ahead = sum(self.expected[name] for name in self.rows[self.rows.index(row) :])
            share = self.expected[row] / ahead
            rows.append(self.row(row, share * (last - time.monotonic())))
        return {
            "preset": self.preset.name,
            "precision": self.preset.engine.precision,
            "rows": rows,
            "graded": self.graded(self.rows[-1]),
            "streaming": self.streaming(self.rows[-1]),
            "evaluation": self.evaluation(self.rows[-1]),
        }

    def row(self, row: str, seconds: float) -> dict[str, Any]:
        """Train one row for about so many seconds; returns what it took."""
        config, started = self.preset.method(row), time.monotonic()
        pace = self.pace(row, "pace")
        spent = time.monotonic() - started  # the first row after the codec encodes the clips
        steps = max(PACE_STEPS, min(config.steps, int((seconds - spent) / pace)))
        warmup = min(config.critic_warmup, steps // 4)
        overrides = self.train(row, steps, warmup, self.work)
        lines = log(self.work / row)
        losses = [key for key in lines[-1] if key.endswith("_loss") and not key.startswith("chunk")]
        losses = [key for key in losses if isinstance(lines[-1][key], float)]
        every, each = max(1, len(lines) // POINTS), lines[-1]["seconds"] / steps
        self.console.print(
            f"{row}: {1000 * each:.1f} ms a step (estimated {1000 * self.step[row]:.1f}), "
            f"{steps} of {config.steps} steps"
        )
        return {
            "row": row,
            "recipe": recipe_hash(load_preset(self.named, overrides), row),
            "steps": steps,
            "recipe_steps": config.steps,
            "cut_short": steps < config.steps,
            "seconds": lines[-1]["seconds"],
            "seconds_per_step": each,
            "seconds_wall": round(time.monotonic() - started, 2),
            "estimated_seconds_per_step": self.step[row],
            "losses": {
                key: [[line["step"], line[key]] for line in lines[::every] if key in line]
                for key in losses
            },
        }

    def pace(self, row: str, folder: str, *overrides: str) -> float:
        """Seconds a step, by a few of them."""
        # The generator's turns come as often as later on, so that the pace has its share of them.
        self.train(row, PACE_STEPS, 0, self.work / folder, *overrides)
        lines = log(self.work / folder / row)
        spent = float(lines[-1]["seconds"] - lines[0]["seconds"])
        return max(1e-6, spent / (PACE_STEPS / 2))

    def graded(self, row: str) -> dict[str, Any]:
        """Seconds of a step of both players, by a graded pass a chunk and by one for all."""
        if self.end - time.monotonic() < LEAST:
            return {"skipped": "no time was left"}
        own, config = self.preset.of(row), self.preset.method(row)
        tokens = config.batch * own.model.frames_per_chunk * tokens_of(own)
        ratio = f"methods.{row}.critic_ratio=1"
        ways = ("apart", "together")
        found = {w: self.pace(row, f"graded-{w}", f"engine.graded={w}", ratio) for w in ways}
        return {"row": row, "tokens_a_chunk": tokens, "seconds_per_step": found}

    def train(self, row: str, steps: int, warmup: int, out: Path, *overrides: str) -> list[str]:
        """Through the trainer's front door; returns all overrides."""
        from .trainer import train

        if out != self.work and not out.exists():  # a trial shares ancestors and encoded clips
            out.mkdir(parents=True)
            for shared in ("weights", "cache"):
                (self.work / shared).mkdir(exist_ok=True)
                (out / shared).symlink_to((self.work / shared).resolve())
        given = [
            f"engine.device={self.on}",
            f"methods.{row}.steps={steps}",
            f"methods.{row}.critic_warmup={warmup}",
            *overrides,
        ]
        train(self.named, row, given, out, console=Console(quiet=out != self.work))
        return given

    # --- what came of it --------------------------------------------------------------------------

    def streaming(self, row: str) -> dict[str, Any]:
        """Pace of the student at batch 1, four times its length: denoise, cache and decode."""
        import torch

        from .checkpoint import load_into, load_weights
        from .engine import Engine
        from .methods import load_codec
        from .model import DiT
        from .rollout import rollout
        from .schedule import Schedule
        from .trained import Library

        library, own = Library(self.preset.name, self.work / "weights"), self.preset.of(row)
        net = DiT(own)
        load_into(net, load_weights(library.require(row, row))[0], row)
        net = net.eval().requires_grad_(False).to(self.on)
        codec = load_codec(own, library, row)[0].to(self.on)
        frames, shape = 4 * own.data.frames, own.latent_shape
        words = torch.zeros(1, own.text.length, own.text.dim, device=self.on)

        def noise(index: Sequence[int], step: int) -> torch.Tensor:
            return torch.randn(1, len(index), *shape, device=self.on)

        times: list[float] = []
        for _ in range(2):  # the first is for warm-up
            times = [time.perf_counter()]
            steps = Schedule.of(own.method(row).sampler)
            made = rollout(Engine(net), words, noise, steps, frames=frames)
            with torch.inference_mode():
                for latents in made:
                    codec.decode(latents).cpu()
                    times.append(time.perf_counter())
        chunks = [b - a for a, b in pairwise(times)]
        held = torch.cuda.max_memory_allocated() if self.on == "cuda" else None
        return {
            "row": row,
            "precision": "fp32",
            "frames": frames,
            "first_chunk_s": chunks[0],
            "median_chunk_s": sorted(chunks)[len(chunks) // 2],
            "frames_per_second": frames / (times[-1] - times[0]),
            "peak_gpu_bytes_of_the_process": held,
        }

    def evaluation(self, row: str) -> dict[str, Any]:
        """The long-horizon task's smoke tier, by the command line, if it fits in what is left."""
        left = self.end - time.monotonic()
        if importlib.util.find_spec("av") is None:
            return {"skipped": "av is not installed: the harness could not write its clips"}
        if left < LEAST:
            return {"skipped": "no time was left"}
        weights = (self.work / "weights" / f"{self.preset.name}-{row}.safetensors").resolve()
        data, out = self.preset.data, (self.work / "evaluation").resolve()
        command = [sys.executable, "-m", "sfbench", "run", "--task", "long-horizon"]
        command += ["--tier", "smoke", "--model", f"reference:{weights}", "--out", str(out)]
        command += ["--dataset", data.dataset, "--size", str(data.shape[0])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            return {"skipped": f"{left:.0f} s were not enough"}
        results = [*out.rglob("result.json")]
        if done.returncode or not results:
            return {"skipped": " ".join(done.stderr.split())[-300:] or "it left no result"}
        estimates = json.loads(results[0].read_text())["estimates"]
        kept = ("value", "low", "high", "n", "unit")
        return {name: {k: e.get(k) for k in kept} for name, e in estimates.items()}


# --- provenance -----------------------------------------------------------------------------------


def log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``train.jsonl``."""
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


def provenance(on: str) -> dict[str, Any]:
    """What ran, on what."""
    import torch

    cuda = on == "cuda"
    properties = torch.cuda.get_device_properties(0) if cuda else None
    return {
        "device": properties.name if properties else f"cpu {platform.machine()}",
        "device_memory_bytes": properties.total_memory if properties else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "system": platform.system(),
        "commit": git("rev-parse", "HEAD"),
        "changed_files": changed(),
        "utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def git(*command: str) -> str | None:
    """Of the folder this file is in; ``None`` where it is no checkout."""
    folder = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if not done.returncode else None


def changed() -> int | None:
    """How many files differ from the commit."""
    found = git("status", "--porcelain")
    return None if found is None else len(found.splitlines())


def slug(name: str) -> str:
    """A name as a part of a file's."""
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


if __name__ == "__main__":
    sys.exit(main())
