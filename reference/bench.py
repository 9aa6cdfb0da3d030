"""Speed as ratios measured in one run: ``make bench``; speed does not depend on the weights.

Each figure is the median of several timings, taken in turns, so that a slow moment of the machine
hits both sides of a ratio.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from .attention import block_causal, clean_and_noisy
from .catalogue import DEFAULT_PRESET
from .codec import AutoEncoder
from .config import Preset
from .data import noise_for
from .model import DiT
from .objectives import flow_loss
from .recipes import load_preset
from .rollout import rollout
from .schedule import Schedule

FPS = 16.0  # of the embedded world: what a live stream has to keep up with


def main() -> None:
    """Print the table for the default preset, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    bench = Bench(load_preset(DEFAULT_PRESET))
    table = Table(title=f"preset {DEFAULT_PRESET}, one thread, batch 1 unless said")
    for column in ("what", "first", "second", "ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in (*bench.streaming(), *bench.training(), *bench.caching()):
        table.add_row(*row)
    Console().print(table)


Row = tuple[str, str, str, str]


class Bench:
    """Networks of a preset, and the comparisons."""

    def __init__(self, preset: Preset) -> None:
        self.preset, self.net = preset, DiT(preset)
        self.codec = AutoEncoder(preset.codec).eval()
        self.text = torch.randn(1, preset.text.length, preset.text.dim)

    def streaming(self) -> list[Row]:
        """The few-step causal student against the many-step bidirectional teacher."""
        methods, frames = self.preset.methods, self.preset.data.frames
        student = Schedule.of(methods["self-forcing-dmd"].sampler)
        teacher = Schedule.of(methods["teacher"].sampler)

        @torch.inference_mode()
        def play(schedule: Schedule, length: int, chunk: int | None) -> None:
            for latents in rollout(
                self.net, self.text, self._noise, schedule, frames=length, chunk=chunk
            ):
                self.codec.decode(latents)

        n = self.preset.model.frames_per_chunk
        clip, first, whole, long = in_turns(
            lambda: play(student, frames, None),
            lambda: play(student, n, None),
            lambda: play(teacher, frames, frames),
            lambda: play(student, 4 * frames, None),
        )
        rate = 4 * frames / long
        return [
            _row("a frame: teacher, student", whole / frames, clip / frames),
            _row("to the first frame: teacher, student", whole, first),
            (
                "student streams, against the world's rate",
                f"{rate:.0f} fps",
                f"{FPS:.0f} fps",
                f"{rate / FPS:.1f}x",
            ),
        ]

    def training(self) -> list[Row]:
        """One training step of each method, at an equal batch of 8."""
        p, batch, frames = self.preset, 8, self.preset.data.frames
        n, window, sink = p.model.frames_per_chunk, p.model.window, p.model.sink
        x = torch.randn(batch, frames, *p.latent_shape)
        text = self.text.expand(batch, -1, -1)
        sigma = torch.rand(batch, frames) * 0.9 + 0.05
        causal, both = (
            block_causal(frames, n, window, sink),
            clean_and_noisy(frames, n, window, sink),
        )

        def diffusion_forcing() -> None:
            self._descend(self.net(x, sigma, text, mask=causal), x, sigma)

        def teacher_forcing() -> None:
            out = self.net(
                torch.cat((x, x), 1),
                torch.cat((0 * sigma, sigma), 1),
                text,
                positions=[*range(frames), *range(frames)],
                mask=both,
            )
            self._descend(out[:, frames:], x, sigma)

        schedule = Schedule.of(p.methods["self-forcing-dmd"].sampler)

        def noise(frames: Sequence[int], step: int) -> Tensor:
            return self._noise(frames, step).expand(batch, -1, -1, -1, -1)

        def self_forcing(exit_step: int) -> None:
            exits = [exit_step] * (frames // n)
            chunks = rollout(self.net, text, noise, schedule, frames=frames, exits=exits)
            fake = torch.cat(list(chunks), 1)
            with torch.no_grad():  # the two scores
                self.net(fake, sigma, text)
                self.net(fake, sigma, text)
            self._descend(fake, x, sigma)

        df, tf, *sf = in_turns(
            diffusion_forcing, teacher_forcing, *(lambda e=e: self_forcing(e) for e in range(4))
        )
        mean = sum(sf) / len(sf)
        return [
            _row("a step: teacher forcing, diffusion forcing", tf, df),
            _row("a generator step: self forcing (mean exit), diffusion forcing", mean, df),
            _row("a generator step: self forcing (mean exit), teacher forcing", mean, tf),
        ]

    def caching(self) -> list[Row]:
        """The last chunk of a clip from the cache, against recomputing its context at each step."""
        frames, n = self.preset.data.frames, self.preset.model.frames_per_chunk
        past, step = frames - n, torch.zeros(1, 1)
        x = torch.randn(1, frames, *self.preset.latent_shape)
        cache = self.net.new_cache(capacity=frames)
        mask = block_causal(frames, n, self.preset.model.window)
        with torch.inference_mode():
            for first in range(0, past, n):
                part = x[:, first : first + n]
                index = range(first, first + n)
                self.net(
                    part, step.expand(1, n), self.text, positions=index, cache=cache, write=True
                )

        @torch.inference_mode()
        def cached() -> None:
            for _ in range(4):
                self.net(
                    x[:, past:],
                    step.expand(1, n),
                    self.text,
                    positions=range(past, frames),
                    cache=cache,
                )

        @torch.inference_mode()
        def recomputed() -> None:
            for _ in range(4):
                self.net(x, step.expand(1, frames), self.text, mask=mask)

        slow, fast = in_turns(recomputed, cached)
        return [_row(f"a chunk after {past} frames: recomputed, cached", slow, fast)]

    def _noise(self, frames: Sequence[int], step: int) -> Tensor:
        parts = [noise_for([(0, f, step)], self.preset.latent_shape) for f in frames]
        return torch.stack(parts, 1)

    def _descend(self, prediction: Tensor, x: Tensor, sigma: Tensor) -> None:
        torch.autograd.backward(flow_loss(prediction, x, sigma, 0.4).mean())
        self.net.zero_grad(set_to_none=True)


def in_turns(*jobs: Callable[[], None], rounds: int = 5) -> list[float]:
    """Median seconds of each job; all jobs run once a round, after one unmeasured round."""
    times: list[list[float]] = [[] for _ in jobs]
    for number in range(rounds + 1):
        for job, kept in zip(jobs, times, strict=True):
            started = time.perf_counter()
            job()
            if number:
                kept.append(time.perf_counter() - started)
    return [statistics.median(kept) for kept in times]


def _row(what: str, first: float, second: float) -> Row:
    return what, f"{first * 1e3:.1f} ms", f"{second * 1e3:.1f} ms", f"{first / second:.2f}x"


if __name__ == "__main__":
    main()
