"""What serving a stream costs, as ratios measured in one run: ``make bench``.

As in ``bench.py``, each figure is the median of several timings, taken in turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as nnf
from torch import Tensor, nn

from .bench import Row, in_turns, row, show
from .blocks import Block
from .catalogue import DEFAULT_PRESET
from .codec import AutoEncoder
from .config import Preset
from .data import noise_for
from .engine import Engine, Switches
from .masks import block_causal
from .model import DiT, Text
from .recipes import load_preset
from .rollout import rollout
from .schedule import Schedule

FPS = 16.0  # of the embedded world: what a live stream has to keep up with


def main() -> None:
    """Print the table for the default preset, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    serving = Serving(load_preset(DEFAULT_PRESET))
    rows = [*serving.streaming(), *serving.engine(), *serving.caching()]
    show(f"preset {DEFAULT_PRESET}, one thread, batch 1", rows)


class Serving:
    """The network of a preset, and the comparisons."""

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
                engine, self.text, self._noise, schedule, frames=length, chunk=chunk
            ):
                self.codec.decode(latents)

        n, engine = self.preset.model.frames_per_chunk, Engine(self.net)
        clip, first, whole, long = in_turns(
            lambda: play(student, frames, None),
            lambda: play(student, n, None),
            lambda: play(teacher, frames, frames),
            lambda: play(student, 4 * frames, None),
        )
        rate = 4 * frames / long
        return [
            row("a frame: teacher, student", whole / frames, clip / frames),
            row("to the first frame: teacher, student", whole, first),
            (
                "student streams, against the world's rate",
                f"{rate:.0f} fps",
                f"{FPS:.0f} fps",
                f"{rate / FPS:.1f}x",
            ),
        ]

    def engine(self) -> list[Row]:
        """A call of a stream, its context full: the DiT, the engine, and its products alone."""
        net, x = self.net, torch.randn(1, 2, *self.preset.latent_shape)
        n, window = self.preset.model.frames_per_chunk, self.preset.model.window
        last, calls = range(window, window + n), 20

        @torch.inference_mode()
        def caller(model: DiT | Engine) -> Callable[[], None]:
            # Each kind has a cache of its own, which the union of kinds cannot say.
            text, cache = Text(self.text), model.new_cache()
            for start in range(0, window, n):
                index: Any = range(start, start + n)
                model(x, 0.0, text, positions=index, cache=cache, write=True)  # type: ignore[arg-type]

            @torch.inference_mode()
            def call() -> None:
                for _ in range(calls):
                    model(x, 0.8, text, positions=last, cache=cache)  # type: ignore[arg-type]

            return call

        @torch.inference_mode()
        def alone() -> None:
            for _ in range(calls):
                for product in products:
                    product()

        products = self._products(window)
        engine, plain, *rest, least = in_turns(
            caller(Engine(net)),
            caller(net),
            caller(Engine(net, Switches(levels=False))),
            caller(Engine(net, Switches(fused=False))),
            alone,
            rounds=15,
        )
        pairs = {
            "the DiT, the engine": (plain, engine),
            "levels embedded anew, kept": (rest[0], engine),
            "three products for queries, keys and values, one": (rest[1], engine),
            "the engine, its products and attention alone": (engine, least),
        }
        return [row(f"a call: {k}", a / calls, b / calls) for k, (a, b) in pairs.items()]

    def _products(self, window: int) -> list[Callable[[], Tensor]]:
        """The matrix products and attentions of a call, on what they would be given."""
        m, n, tokens = self.preset.model, self.preset.model.frames_per_chunk, self.net.tokens

        def product(layer: nn.Linear) -> Callable[[], Tensor]:
            given = torch.randn(1, n * tokens, layer.weight.shape[1])
            return lambda: nnf.linear(given, layer.weight, layer.bias)

        def attention(seen: int) -> Callable[[], Tensor]:
            q, k, v = (
                torch.randn(1, m.heads, length, m.dim // m.heads)
                for length in (n * tokens, seen, seen)
            )
            return lambda: nnf.scaled_dot_product_attention(q, k, v)

        found = [product(nn.Linear(self.preset.latent_shape[0] * m.patch**2, m.dim))]
        for block in self.net.blocks:
            assert isinstance(block, Block)
            over, ffn = block.cross_attn, block.ffn
            found += [product(nn.Linear(m.dim, 3 * m.dim)), attention(window * tokens)]
            found += [product(block.self_attn.o), product(over.q)]
            found += [attention(self.preset.text.length), product(over.o)]
            found += [product(layer) for layer in ffn if isinstance(layer, nn.Linear)]
        return [*found, product(self.net.head.head)]

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
        return [row(f"a chunk after {past} frames: recomputed, cached", slow, fast)]

    def _noise(self, frames: Sequence[int], step: int) -> Tensor:
        parts = [noise_for([(0, f, step)], self.preset.latent_shape) for f in frames]
        return torch.stack(parts, 1)


if __name__ == "__main__":
    main()
