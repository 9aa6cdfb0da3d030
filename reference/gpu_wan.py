"""`make gpu-wan`: the pace of Wan2.1 as a stream on this machine, with random weights.

Speed does not depend on the weights, so none are needed: the networks have their published sizes.
It needs torch and numpy, and diffusers for Wan's own VAE, which is left out without. The result is
one JSON file: pace from noise to frames on the host, FLOPs by the formula of ``arithmetic.py``, the
ceiling that this machine's products reach, the share of it, and what each switch brings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from . import arithmetic
from .codec import frames_of
from .config import ConfigError, Preset
from .delivery import Delivery
from .engine import Engine, Switches
from .gpu import provenance, slug
from .model import DiT
from .recipes import load_preset
from .rollout import rollout
from .schedule import Schedule

STEADY = 3  # chunks after the context is full
CEILING = {"cuda": 8192, "cpu": 1024}  # side of the matrices whose product is timed
Decode = Callable[[Tensor], Tensor]
Stream = Callable[[], Decode]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and say where the result is."""
    parser = argparse.ArgumentParser(
        prog="python -m sfbench.reference.gpu_wan", description=__doc__
    )
    parser.add_argument("--preset", default="wan-1.3b", help="see `sfbench list presets`")
    parser.add_argument("--network", default="base", help="the row whose network it is")
    parser.add_argument(
        "--student", default="self-forcing-dmd", help="the row whose steps they are"
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument("--minutes", type=float, default=5.0, help="after which nothing new starts")
    parser.add_argument("--out", type=Path, default=Path("results") / "gpu", help="of the JSON")
    given = parser.parse_args(arguments)
    cuda = torch.cuda.is_available()
    if given.device == "cuda" and not cuda:
        print("sfbench: this torch sees no GPU; --device cpu runs the same there.", file=sys.stderr)
        return 2
    device = "cpu" if given.device == "cpu" or not cuda else "cuda"
    try:
        preset = load_preset(given.preset)
        steps = Schedule.of(preset.method(given.student).sampler)
        job = Job(preset.of(given.network), steps, device, time.monotonic() + 60 * given.minutes)
    except ConfigError as error:
        print(f"sfbench: {error}", file=sys.stderr)
        return 2
    made_on = provenance(device)
    path = given.out / f"{preset.name}-stream-{slug(made_on['device'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    for found in job.run():  # each time with one figure more, for a machine may be lent and taken
        found = {"provenance": made_on, "preset": preset.name, **found}
        part.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        part.replace(path)
    print(path)
    return 0


def variants(device: str) -> dict[str, Switches | None]:
    """Everything that is exact, then each switch alone off, then 8 bits, then no engine."""
    best = Switches.of(device)
    off = (
        ("levels", replace(best, levels=False)),
        ("fused", replace(best, fused=False)),
        ("graphs", replace(best, graphs=False)),
        ("compiled", replace(best, compiled=False)),
        ("attention", replace(best, attention="")),
    )
    without = {f"without {name}": switches for name, switches in off if switches != best}
    rounded = replace(best, eight_bit=True)
    eight = {"in 8 bits": rounded} if hasattr(torch.nn.functional, "scaled_mm") else {}
    return {"engine": best, **without, **eight, "the DiT itself": None}


@dataclass
class Job:
    """The streams of one network."""

    preset: Preset
    schedule: Schedule
    device: str
    end: float

    def __post_init__(self) -> None:
        self.dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.console, self.time = Console(highlight=False), self.preset.codec.temporal

    @torch.inference_mode()
    def run(self) -> Iterator[dict[str, Any]]:
        """All figures so far, after each new one."""
        ceiling = self.ceiling()
        self.console.print(f"ceiling of products here: {ceiling / 1e12:.3g} TFLOP/s")
        found: dict[str, Any] = {
            "height": self.preset.data.shape[0],
            "width": self.preset.data.shape[1],
            "dtype": str(self.dtype).removeprefix("torch."),
            "steps": len(self.schedule),
            "parameters": arithmetic.parameters(self.preset),
            "ceiling_flops_per_second": ceiling,
            "decoders": [],
            "streams": [],
        }
        yield found
        for where, measure in self.measures(ceiling):
            if time.monotonic() > self.end:
                return
            found[where].append(measure())
            yield found

    def measures(self, ceiling: float) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        """What there is to measure: the headline first, what a compiler takes longest for last."""
        frames, n = self.preset.data.frames, self.preset.model.frames_per_chunk
        best, known = Switches.of(self.device), self.decoders()
        preset, net = self.network(n, frames)
        for name in ("channels last", "small"):
            if name in known:
                part = partial(self.stream, preset, net, f"engine, {name} decoder", best, ceiling)
                yield "streams", partial(part, known[name], True)
                yield "streams", partial(part, known[name], False)
        for name, switches in variants(self.device).items():
            yield "streams", partial(self.stream, preset, net, name, switches, ceiling)
        for chunk, window in ((1, frames), (n, min(frames, 3 * n))):
            preset, net = self.network(chunk, window)
            part = partial(self.stream, preset, net, "engine", best, ceiling)
            yield "streams", partial(part, known.get("channels last"), True)
        for name, stream in known.items():
            yield "decoders", partial(self.decoding, name, stream, n)

    # --- the network ------------------------------------------------------------------------------

    def network(self, chunk: int, window: int) -> tuple[Preset, DiT]:
        """With weights that are drawn: none is zero, so none is skipped."""
        model = replace(self.preset.model, frames_per_chunk=chunk, window=window)
        preset = replace(self.preset, model=replace(model, positions="relative"))
        torch.manual_seed(0)
        with torch.device(self.device):
            net = DiT(preset).eval().requires_grad_(False)
        torch.nn.init.xavier_uniform_(net.head.head.weight)
        if self.dtype != torch.float32:
            net.halve(self.dtype)
        return preset, net

    def stream(
        self,
        preset: Preset,
        net: DiT,
        name: str,
        switches: Switches | None,
        ceiling: float,
        decoder: Stream | None = None,
        overlapped: bool = False,
    ) -> dict[str, Any]:
        """Seconds of each chunk of a stream that goes on after its context is full.

        Without a decoder a chunk ends with its latents, else with its frames on the host.
        """
        n, window = preset.model.frames_per_chunk, preset.model.window
        model = Engine(net, switches) if switches else net
        began = self.now()
        self.play(preset, model, decoder, overlapped)  # compiles and records
        warm_up = self.now() - began
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = self.play(preset, model, decoder, overlapped)
        flops = self.flops(preset, len(seconds) * n)
        native = [*range(0, preset.data.frames, n)]
        steady = sorted(seconds[-STEADY:])[STEADY // 2]
        pixels = frames_of(preset.data.frames, self.time)
        found: dict[str, Any] = {
            "what": name,
            "switches": asdict(switches) if switches else None,
            "scope": "dit+decode" if decoder else "dit",
            "overlapped": overlapped,
            "frames_per_chunk": n,
            "window": window,
            "warm_up_seconds": warm_up,
            "seconds": seconds,
            "flops": flops,
            "fps_of_the_native_clip": pixels / sum(seconds[: len(native)]),
            "fps_steady": self.time * n / steady,
            "first_chunk_seconds": seconds[0],
            "share_of_ceiling": sum(flops) / sum(seconds) / ceiling,
            "peak_bytes": torch.cuda.max_memory_allocated() if self.device == "cuda" else None,
        }
        self.console.print(
            f"{name}{', overlapped' if overlapped else ''}, {n} a chunk, window {window}: "
            f"{found['fps_of_the_native_clip']:.1f} fps over {pixels} frames, "
            f"{found['fps_steady']:.1f} steady, first chunk {1000 * seconds[0]:.0f} ms, "
            f"{sum(flops) / 1e12:.3g} TFLOP, {100 * found['share_of_ceiling']:.0f} % of the ceiling"
        )
        return found

    def play(
        self, preset: Preset, model: DiT | Engine, decoder: Stream | None, overlapped: bool
    ) -> list[float]:
        """Seconds until each chunk is there, from the one before."""
        n, size = preset.model.frames_per_chunk, preset.data.shape
        frames = (preset.model.window // n + STEADY) * n
        text = torch.randn(1, preset.text.length, preset.text.dim, device=self.device)

        def noise(index: Sequence[int], step: int) -> Tensor:
            return torch.randn(1, len(index), *preset.latent_shape, device=self.device)

        delivery = Delivery(torch.device(self.device))
        decode = decoder() if decoder else None
        seconds, began = [], self.now()
        chunks = rollout(model, text, noise, self.schedule, frames=frames)
        made: Tensor | None = next(chunks)
        while made is not None:
            count = self.time * made.shape[1]  # at most
            ready = delivery.begin(made, decode, size, count)
            made = next(chunks, None) if overlapped else made
            ready()
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
            made = made if overlapped else next(chunks, None)
        return seconds

    def flops(self, preset: Preset, frames: int) -> list[float]:
        """Of each chunk: its steps, and the pass that caches the one before."""
        n, window = preset.model.frames_per_chunk, preset.model.window
        found: list[float] = []
        before = 0.0
        for start in range(0, frames, n):
            seen = min(start + n, window)
            once = arithmetic.forward(preset, n, seen).flops
            words = arithmetic.text(preset).flops if not start else 0.0
            found.append(len(self.schedule) * once + before + words)
            before = once
        return found

    def ceiling(self) -> float:
        """FLOPs a second of one large product, the best of several."""
        side = CEILING[self.device]
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        times = []
        for _ in range(10):
            began = self.now()
            a @ b
            times.append(self.now() - began)
        return 2 * side**3 / min(times)

    # --- decoders ---------------------------------------------------------------------------------

    def decoders(self) -> dict[str, Stream]:
        """Wan's as it is and by switches, and a small one; none without diffusers or its codec."""
        if self.preset.codec.kind != "wan" or importlib.util.find_spec("diffusers") is None:
            return {}
        from diffusers import AutoencoderKLWan

        from . import wan_small
        from .wan_vae import WanCodec

        def vae() -> Any:
            kind: Any = AutoencoderKLWan  # whose constructor has no annotations
            with torch.device(self.device):
                return kind().to(self.dtype).eval().requires_grad_(False)

        plain, last, compiled = (WanCodec(vae()) for _ in range(3))
        last.prepare(channels_last=True, compiled=False)
        compiled.prepare(channels_last=True, compiled=True)
        drawn = wan_small.drawn(self.preset.codec.channels).to(self.device, self.dtype)
        small = wan_small.SmallCodec(vae(), drawn, "random")
        small.prepare(channels_last=True, compiled=False)
        return {
            "plain": plain.stream,
            "channels last": last.stream,
            "small": small.stream,
            "compiled": compiled.stream,
        }

    def decoding(self, name: str, stream: Stream, chunk: int) -> dict[str, Any]:
        """Seconds of decoding a chunk in a stream, once it is under way."""
        latents = torch.randn(1, chunk, *self.preset.latent_shape, device=self.device)
        decode, times = stream(), []
        for _ in range(4 + STEADY):
            began = self.now()
            decode(latents)
            times.append(self.now() - began)
        return {
            "what": name,
            "seconds_per_chunk": sorted(times[4:])[STEADY // 2],
            "warm_up_seconds": sum(times[:4]),
        }

    def now(self) -> float:
        """When all that was asked for is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
