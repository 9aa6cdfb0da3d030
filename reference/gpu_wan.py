"""`make gpu`, its second half: the pace of Wan2.1 as a stream on this machine, with random weights.

Speed does not depend on the weights, so none are needed: the network has its published size. It
needs torch and numpy, and diffusers for the VAE's share, which is left out without. The result is
one JSON file: pace, FLOPs by the formula of ``arithmetic.py``, the ceiling that this machine's
products reach, the share of it, and what each switch of the engine brings.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from . import arithmetic
from .codec import frames_of
from .config import ConfigError, Preset
from .engine import Engine, Switches
from .gpu import provenance, slug
from .model import DiT
from .recipes import load_preset
from .rollout import rollout
from .schedule import Schedule

ENGINES: dict[str, Callable[[DiT], DiT | Engine]] = {
    "engine": Engine,
    "levels embedded anew": lambda net: Engine(net, Switches(levels=False)),
    "three products for queries, keys and values": lambda net: Engine(net, Switches(fused=False)),
    "the DiT itself": lambda net: net,
}
"""What is timed: everything on, each switch off by itself, and no engine."""
STEADY = 3  # chunks after the context is full
CEILING = {"cuda": 8192, "cpu": 1024}  # side of the matrices whose product is timed


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
    found = {"provenance": provenance(device), "preset": preset.name, **job.run()}
    path = given.out / f"{preset.name}-stream-{slug(found['provenance']['device'])}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    part.replace(path)
    print(path)
    return 0


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
    def run(self) -> dict[str, Any]:
        """Chunk-wise, everything on and each switch off; then frame-wise; then a short window."""
        frames, n = self.preset.data.frames, self.preset.model.frames_per_chunk
        ceiling, vae = self.ceiling(), self.vae(n)
        shapes = [(n, frames), (1, frames), (n, min(frames, 3 * n))]
        streams = []
        for number, (chunk, window) in enumerate(shapes):
            model = replace(self.preset.model, frames_per_chunk=chunk, window=window)
            preset = replace(self.preset, model=replace(model, positions="relative"))
            net = self.network(preset)
            names = [*ENGINES] if number == 0 else ["engine"]
            streams += [
                self.stream(preset, net, name, ceiling, vae)
                for name in names
                if time.monotonic() < self.end
            ]
        return {
            "height": self.preset.data.shape[0],
            "width": self.preset.data.shape[1],
            "dtype": str(self.dtype).removeprefix("torch."),
            "steps": len(self.schedule),
            "parameters": arithmetic.parameters(self.preset),
            "ceiling_flops_per_second": ceiling,
            "vae_seconds_per_chunk": vae,
            "streams": streams,
        }

    def network(self, preset: Preset) -> DiT:
        """With weights that are drawn: none is zero, so none is skipped."""
        torch.manual_seed(0)
        with torch.device(self.device):
            net = DiT(preset).eval().requires_grad_(False)
        torch.nn.init.xavier_uniform_(net.head.head.weight)
        if self.dtype != torch.float32:
            net.halve(self.dtype)
        return net

    def stream(
        self, preset: Preset, net: DiT, name: str, ceiling: float, vae: float | None
    ) -> dict[str, Any]:
        """Seconds of each chunk of a stream that goes on after its context is full."""
        n, window = preset.model.frames_per_chunk, preset.model.window
        frames = (window // n + STEADY) * n
        text = torch.randn(1, preset.text.length, preset.text.dim, device=self.device)
        model = ENGINES[name](net)

        def noise(index: Sequence[int], step: int) -> Tensor:
            return torch.randn(1, len(index), *preset.latent_shape, device=self.device)

        seconds: list[float] = []
        for _ in range(2):  # the first is for warm-up
            seconds, began = [], self.now()
            for _chunk in rollout(model, text, noise, self.schedule, frames=frames):
                seconds.append(self.now() - began)
                began = self.now()
        flops = self.flops(preset, frames)
        native = [*range(0, preset.data.frames, n)]
        steady = sorted(seconds[-STEADY:])[STEADY // 2]
        pixels = frames_of(preset.data.frames, self.time)
        clip = sum(seconds[: len(native)])
        found: dict[str, Any] = {
            "what": name,
            "frames_per_chunk": n,
            "window": window,
            "seconds": seconds,
            "flops": flops,
            "fps_of_the_native_clip": pixels / clip,
            "fps_steady": self.time * n / steady,
            "first_chunk_seconds": seconds[0],
            "share_of_ceiling": sum(flops) / sum(seconds) / ceiling,
            "fps_steady_with_vae_after": None,
            "peak_bytes": torch.cuda.max_memory_allocated() if self.device == "cuda" else None,
        }
        if vae is not None and n == self.preset.model.frames_per_chunk:
            found["fps_steady_with_vae_after"] = self.time * n / (steady + vae)
        self.console.print(
            f"{name}, {n} a chunk, window {window}: {found['fps_of_the_native_clip']:.1f} fps over "
            f"{pixels} frames, {found['fps_steady']:.1f} steady, "
            f"{100 * found['share_of_ceiling']:.0f} % of the ceiling"
        )
        return found

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

    def vae(self, chunk: int) -> float | None:
        """Seconds of decoding a chunk in a stream, or ``None`` without diffusers or Wan's codec."""
        if self.preset.codec.kind != "wan" or importlib.util.find_spec("diffusers") is None:
            return None
        from diffusers import AutoencoderKLWan

        from .wan_vae import WanCodec

        kind: Any = AutoencoderKLWan  # whose constructor has no annotations
        with torch.device(self.device):
            codec = WanCodec(kind().to(self.dtype).eval().requires_grad_(False))
        latents = torch.randn(1, chunk, *self.preset.latent_shape, device=self.device)
        decode, times = codec.stream(), []
        for _ in range(2 + STEADY):
            began = self.now()
            decode(latents)
            times.append(self.now() - began)
        return sorted(times[2:])[STEADY // 2]

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

    def now(self) -> float:
        """When all that was asked for is done."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
