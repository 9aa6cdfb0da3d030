"""What training costs, as ratios measured in one run: ``make bench``; weights do not matter.

Each figure is the median of several timings, taken in turns, so that a slow moment of the machine
hits both sides of a ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from . import objective_fakes
from .attention import Seen, attend
from .catalogue import DEFAULT_PRESET
from .config import Preset
from .data import LatentPool, Pool
from .engine import Engine, quick
from .masks import clean_and_noisy
from .model import DiT, Text
from .objective_dmd import DMD
from .objective_fakes import Fakes, noised_truth, own_past, true_past
from .objective_flow import DiffusionForcing, TeacherForcing
from .objectives import Draw
from .recipes import load_preset
from .rollout import Denoise, Past
from .text import text_encoder


def main() -> None:
    """Print the tables for the default preset, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small = Bench(load_preset(DEFAULT_PRESET))
    show(
        f"preset {DEFAULT_PRESET}, one thread, batch 1 unless said",
        [
            *small.joining(),
            *small.sharing(),
            *small.texting(),
            *small.masking(),
        ],
    )
    # A call of few tokens reads all weights for little work, and a rollout has the most calls: the
    # recipe's batch, the paper's, and a finer grid.
    fine = Bench(load_preset(DEFAULT_PRESET, ["model.patch=1"]))
    own = small.preset.method("self-forcing-dmd").batch
    for bench, batch in ((small, own), (small, 64), (fine, 4)):
        tokens = batch * bench.preset.model.frames_per_chunk * bench.net.tokens
        title = f"preset {DEFAULT_PRESET}, batch {batch}, {tokens} tokens a chunk"
        show(title, bench.training(batch))


def show(title: str, rows: Sequence[Row]) -> None:
    """Print a table."""
    table = Table(title=title)
    for column in ("what", "first", "second", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for cells in rows:
        table.add_row(*cells)
    Console().print(table)


Row = tuple[str, str, str, str]


class Bench:
    """Networks of a preset, and the comparisons."""

    def __init__(self, preset: Preset) -> None:
        self.preset, self.net = preset, DiT(preset)

    def training(self, batch: int) -> list[Row]:
        """A generator step of the paper's efficiency figure: the three ways to a clip, DMD on each.

        Scores included; Self Forcing apart for each exit step, and with a graded pass a chunk. And
        teacher forcing's own step, many-step, on the doubled sequence.
        """
        draw = self._draw(batch)
        self_forcing, teacher_forcing, diffusion_forcing = (
            self._distillation(draw, fakes) for fakes in (own_past, true_past, noised_truth)
        )
        by_chunk = self._distillation(self._draw(batch, "apart"), own_past)

        def generator(objective: DMD, exit_step: int | None = None) -> None:
            student, chunks = objective.student, len(objective.student.chunks.all)
            exits = student.exits if exit_step is None else lambda *_: [exit_step] * chunks
            with patch.object(student, "exits", exits):
                torch.autograd.backward(objective.loss("generator", 0)[0])
            objective.generator.zero_grad(set_to_none=True)

        flow = {"DF": DiffusionForcing(draw, self.net), "TF": TeacherForcing(draw, self.net)}

        def many_step(name: str) -> None:
            torch.autograd.backward(flow[name].loss("generator", 0)[0])
            self.net.zero_grad(set_to_none=True)

        steps = range(len(self_forcing.student.schedule))
        tf, df, many_tf, many_df, *sf = in_turns(
            lambda: generator(teacher_forcing),
            lambda: generator(diffusion_forcing),
            lambda: many_step("TF"),
            lambda: many_step("DF"),
            *(lambda e=e: generator(self_forcing, e) for e in steps),
            *(lambda e=e: generator(by_chunk, e) for e in steps),
        )
        sf, apart = sf[: len(steps)], sf[len(steps) :]
        rows = [row(f"a generator step: SF+DMD, {e + 1} steps; TF+DMD", sf[e], tf) for e in steps]
        return [
            *rows,
            row("a generator step: SF+DMD, mean exit; TF+DMD", mean(sf), tf),
            row("a generator step: SF+DMD, mean exit; DF+DMD", mean(sf), df),
            row("a generator step: SF+DMD, a graded pass a chunk; one", mean(apart), mean(sf)),
            row("a many-step step: teacher forcing, diffusion forcing", many_tf, many_df),
        ]

    def joining(self) -> list[Row]:
        """A critic's rollout: by the network, chunks cached in calls of their own or in the next
        one's first; by the engine."""
        draw = self._draw(8)
        student = self._distillation(draw, own_past).student
        batch = draw.batch(0, 20)

        def apart(past: Past, denoise: Denoise, x: Tensor, *how: Any) -> Tensor:
            past.settle(denoise)
            return joint(past, denoise, x, *how)

        joint = Past.evaluate

        @torch.no_grad()
        def roll(evaluate: Callable[..., Tensor], maker: Callable[[DiT], DiT | Engine]) -> None:
            with (
                patch.object(Past, "evaluate", evaluate),
                patch.object(objective_fakes, "quick", maker),
            ):
                for step in range(4):  # exits of each
                    own_past(student, batch, step, 43)

        slow, fast, engine = in_turns(
            lambda: roll(apart, lambda net: net),
            lambda: roll(joint, lambda net: net),
            lambda: roll(joint, quick),
        )
        return [
            row("four rollouts of a critic: cached apart, with the next chunk", slow, fast),
            row("four rollouts of a critic: by the network, by an engine", fast, engine),
        ]

    def sharing(self) -> list[Row]:
        """A step of both players: rollouts of their own, against one that they share."""
        draw = self._draw(8)
        own = self._distillation(draw, own_past)
        draw_shared = self._draw(8, share_rollout=True)
        shared = self._distillation(draw_shared, own_past)

        def both(objective: DMD) -> None:
            for player in ("generator", "critic"):
                torch.autograd.backward(objective.loss(player, 0)[0])
                objective.players[player].zero_grad(set_to_none=True)

        slow, fast = in_turns(lambda: both(own), lambda: both(shared))
        return [row("generator and critic: a rollout each, one for both", slow, fast)]

    def masking(self) -> list[Row]:
        """Teacher forcing's attention with 64 tokens a frame: under a mask, block by block."""
        frames, n, window = self.preset.data.frames, 2, self.preset.model.window
        mask, heads = clean_and_noisy(frames, n, window), self.preset.model.heads
        width = self.preset.model.dim // heads
        q, k, v = (
            torch.randn(2, 2 * frames * 64, heads, width, requires_grad=True) for _ in range(3)
        )

        def run(how: str) -> None:
            torch.autograd.backward(attend(q, k, v, Seen(mask, 64, how)).sum())

        dense, blocks = in_turns(lambda: run("dense"), lambda: run("blocks"))
        return [row("teacher forcing's attention: masked, in blocks", dense, blocks)]

    def texting(self) -> list[Row]:
        """A training rollout: text projected at each call, once."""
        draw = self._draw(8)
        student = self._distillation(draw, own_past).student
        batch = draw.batch(0, 20)

        def roll(fresh: bool) -> None:
            how = (lambda self, layer, make: make()) if fresh else Text.once
            with patch.object(Text, "once", how):
                torch.autograd.backward(own_past(student, batch, 0, 23).square().mean())
            self.net.zero_grad(set_to_none=True)

        anew, once = in_turns(lambda: roll(True), lambda: roll(False))
        return [row("a rollout with gradient: text projected at each call, once", anew, once)]

    def _draw(self, batch: int, graded: str = "auto", **options: Any) -> Draw:
        """The preset's Self Forcing on random latents."""
        p = replace(self.preset, engine=replace(self.preset.engine, graded=graded))
        p = replace(p, data=replace(p.data, clips=batch, clip_frames=p.data.frames))
        method = replace(p.method("self-forcing-dmd"), batch=batch, **options)
        shape = (batch, p.data.frames, *p.latent_shape)
        latents = np.random.default_rng(0).standard_normal(shape).astype(np.float16)
        return Draw(p, method, LatentPool(Pool(p.data), latents), text_encoder(p.text))

    def _distillation(self, draw: Draw, fakes: Fakes) -> DMD:
        critic, teacher = DiT(self.preset), DiT(self.preset)
        return DMD(draw, self.net, critic, fakes, teacher)


def in_turns(*jobs: Callable[[], None], rounds: int = 5) -> list[float]:
    """Median seconds of each job; all jobs run once a round, after one unmeasured round."""
    times: list[list[float]] = [[] for _ in jobs]
    for number in range(rounds + 1):
        for job, kept in zip(jobs, times, strict=True):
            started = time.perf_counter()
            job()
            if number:
                kept.append(time.perf_counter() - started)
    return [median(kept) for kept in times]


def row(what: str, first: float, second: float) -> Row:
    """Two times in seconds, and their ratio."""
    return what, f"{first * 1e3:.1f} ms", f"{second * 1e3:.1f} ms", f"{first / second:.2f}x"


if __name__ == "__main__":
    main()
