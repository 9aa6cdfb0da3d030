"""What a training run is worth while it goes on: evaluations on held-out prompts, and its pictures.

Training knows nothing of tasks: whoever starts it hands over ``evaluate(model) -> figures``. The
figure ``score`` (lower is better) chooses: with ``patience`` a run stops when it has not improved
for so many evaluations, and ships the weights of the best one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from .config import DataConfig

Evaluate = Callable[[Any], dict[str, float]]
"""Called with a model as the harness sees it; ``score`` is what a run is chosen by, lowest first,
and ``x_low`` and ``x_high`` are the interval of ``x``."""
Evaluator = Callable[[DataConfig, bool], Evaluate]
"""Called before a run begins with what it trains on, and whether the model is causal."""
SCORE = "score"


@dataclass
class Telemetry:
    """The evaluations of a run, kept in ``telemetry.jsonl``, and its best weights so far."""

    folder: Path
    every: int
    patience: int
    lines: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    def resume(folder: Path, every: int, patience: int, step: int, writes: bool) -> Telemetry:
        """What was found out up to a step; what came after it will come again, the same.

        ``writes``: whether this process is the one that keeps the file.
        """
        found = Telemetry(folder, every, patience)
        if writes and found._file.exists():
            lines = read(found._file)
            found.lines = [line for line in lines if line["step"] <= step]
            found._write()
        return found

    def due(self, step: int, last: int) -> bool:
        """Whether a step is to be evaluated."""
        return bool(self.every) and (step % self.every == 0 or step == last)

    def record(self, step: int, figures: dict[str, float], weights: dict[str, Tensor]) -> None:
        """Write an evaluation down, and keep the weights if they are the best so far."""
        value = figures.get(SCORE)
        if value is None or not math.isfinite(value):
            raise ValueError(f"an evaluation must have a finite '{SCORE}'; got {value}")
        improved = value < min((line[SCORE] for line in self.lines), default=math.inf)
        self.lines.append({"step": step, **figures})
        self.folder.mkdir(parents=True, exist_ok=True)
        if improved and self.patience:
            part = self._best.with_suffix(".part")
            save_file({k: v.contiguous() for k, v in weights.items()}, part)
            part.replace(self._best)
        self._write()

    @property
    def best(self) -> dict[str, float] | None:
        """The evaluation with the lowest score, the earliest of equals."""
        return min(self.lines, key=lambda line: line[SCORE], default=None)

    @property
    def exhausted(self) -> bool:
        """Whether the run should stop: no better evaluation for ``patience`` of them."""
        if not self.patience or not self.best:
            return False
        since = [line for line in self.lines if line["step"] > self.best["step"]]
        return len(since) >= self.patience

    def best_weights(self) -> dict[str, Tensor]:
        """Those of the best evaluation."""
        return load_file(self._best)

    def selection(self) -> str:
        """How the weights that ship were chosen, for their card."""
        if not self.patience or not self.best:
            return "the last step's averaged (EMA) weights; nothing was selected"
        return (
            f"the averaged (EMA) weights of step {self.best['step']:g}, best of "
            f"{len(self.lines)} evaluations on held-out selection prompts"
        )

    @property
    def _file(self) -> Path:
        return self.folder / "telemetry.jsonl"

    @property
    def _best(self) -> Path:
        return self.folder / "best.safetensors"

    def _write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines))
        part.replace(self._file)


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a JSONL file; a torn last one is left out."""
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


# --- the run's report -----------------------------------------------------------------------------


def report(folder: Path, title: str) -> Path | None:
    """Draw ``report.png``: losses, losses a chunk, and what evaluations found."""
    log = folder / "train.jsonl"
    if not log.exists():
        return None
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = _after_resumes(read(log))
    found = folder / "telemetry.jsonl"
    evaluated = read(found) if found.exists() else []
    panels = [p for p in (_losses(steps), _by_chunk(steps), _evaluations(evaluated)) if p]
    if not panels:
        return None
    figure = Figure(figsize=(5.2 * len(panels), 3.4), layout="constrained")
    for number, (name, over, unit, curves) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), number)
        for curve in curves:
            (line,) = axes.plot(curve.x, curve.y, label=curve.name, linewidth=1.3)
            if curve.low and curve.high:
                axes.fill_between(
                    curve.x, curve.low, curve.high, alpha=0.15, color=line.get_color(), linewidth=0
                )
        axes.set(title=name, xlabel=over, ylabel=unit)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.grid(alpha=0.25)
        axes.legend(fontsize=8, frameon=False)
    figure.suptitle(title)
    path = folder / "report.png"
    part = path.with_name(".report.part.png")
    figure.savefig(part, dpi=110, metadata={"Software": None})
    part.replace(path)
    return path


@dataclass
class _Line:
    name: str
    x: list[float]
    y: list[float]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


_Panel = tuple[str, str, str, list[_Line]]
"""Title, what its axes are, and its curves."""


def _after_resumes(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A resumed run logs some steps again; the last word counts."""
    return [*{line["step"]: line for line in lines}.values()]


def _line(name: str, key: str, lines: Sequence[dict[str, Any]]) -> _Line:
    kept = [line for line in lines if isinstance(line.get(key), int | float)]
    curve = _Line(name, [line["step"] for line in kept], [line[key] for line in kept])
    if all(f"{key}_low" in line and f"{key}_high" in line for line in kept):
        curve.low = [line[f"{key}_low"] for line in kept]
        curve.high = [line[f"{key}_high"] for line in kept]
    return curve


def _losses(lines: list[dict[str, Any]]) -> _Panel | None:
    keys = sorted({k for line in lines for k in line if k.endswith("_loss") and "chunk" not in k})
    curves = [_line(key.removesuffix("_loss"), key, lines) for key in keys]
    curves = [curve for curve in curves if curve.x]
    return ("Loss", "step", "loss", curves) if curves else None


def _by_chunk(lines: list[dict[str, Any]]) -> _Panel | None:
    """The newest list of each figure that has one value a chunk, over the chunks."""
    curves = []
    for key in sorted({k for line in lines for k in line if "chunk" in k}):
        held = [line[key] for line in lines if isinstance(line.get(key), list)]
        last = held[-max(1, len(held) // 5) :]  # the last fifth of the run
        if last:
            mean = [sum(values) / len(values) for values in zip(*last, strict=True)]
            curves.append((key.replace("_chunk", ""), mean))
    if not curves:
        return None
    return (
        "By chunk, the run's last fifth",
        "chunk",
        "mean",
        [_Line(name, [*range(1, len(mean) + 1)], mean) for name, mean in curves],
    )


def _evaluations(lines: list[dict[str, Any]]) -> _Panel | None:
    keys = sorted({k for line in lines for k in line} - {"step", SCORE})
    keys = [key for key in keys if not key.endswith(("_low", "_high"))]
    curves = [_line(key, key, lines) for key in keys]
    curves = [curve for curve in curves if curve.x]
    return ("Held-out prompts", "step", "share", curves) if curves else None
