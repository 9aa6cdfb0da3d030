"""What a row's updates compute: each pass of ``objective_*.py``, in FLOPs a sample; no torch.

Exit steps are averaged over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil

from . import arithmetic as cost
from .ancestry import USES, role
from .arithmetic import Work
from .config import Preset, SamplerConfig

DOUBLE = ("teacher-forcing", "causal-ode", "consistency", "tf-dmd")
"""Methods whose sequence is (clean, noisy)."""
MASKED = (*DOUBLE, "diffusion-forcing", "ode", "causvid")


@dataclass(frozen=True)
class Network:
    """One network of a row."""

    name: str
    parameters: int
    trained: int  # of them
    start: str  # the row whose weights it starts from


@dataclass(frozen=True)
class Part:
    """A piece of an update's work."""

    name: str
    work: Work
    kept: float = 0.0  # bytes a sample until the backward pass


@dataclass(frozen=True)
class Update:
    """One player's update."""

    player: str
    count: int  # in the whole run
    parts: tuple[Part, ...]
    draws: float = 0.0  # noise tensors a sample

    @property
    def work(self) -> Work:
        """All of a sample's."""
        return sum((part.work for part in self.parts), Work())

    @property
    def kept(self) -> float:
        """Bytes a sample, all together."""
        return sum(part.kept for part in self.parts)


def levels(sampler: SamplerConfig) -> tuple[float, ...]:
    """Sigma of each denoising step, as ``schedule.py`` resolves it: ``s u / (1 + (s - 1) u)``."""
    even = [1 - i / sampler.steps for i in range(sampler.steps)]
    u = [t / 1000 for t in sampler.few] if sampler.kind == "renoise" else even
    return tuple(sampler.shift * x / (1 + (sampler.shift - 1) * x) for x in u)


class Plan:
    """The passes of a row's updates: what ``objective_*.py`` does, in FLOPs a sample."""

    def __init__(self, preset: Preset, name: str, processes: int = 1) -> None:
        self.preset, self.name = preset.of(name), name
        self.config, self.kind = preset.method(name), preset.kind(name)
        self.together = self.preset.grades_together(self.config, processes)
        self.graded = self.config.grad_frames or preset.data.frames  # of a rollout
        self.frames, self.recompute = preset.data.frames, preset.engine.checkpoint_blocks
        self.codec = self.kind == "codec"
        roles = ("generator", *USES.get(self.kind, ()))
        self.of = {r: preset.of(role(preset, name, r) or name) for r in roles if not self.codec}
        self.judges = self.kind == "self-forcing-gan" or bool(self.config.gan.weight)
        self.scores = self.kind != "self-forcing-gan"
        model = self.preset.model
        self.chunks = _chunks(self.frames, model.frames_per_chunk, model.first_alone)

    def networks(self) -> Iterator[Network]:
        """Each, with the row it starts from."""
        if self.codec:
            size = cost.codec_parameters(self.preset.codec)
            yield Network("codec", size, size, "")
        for name, own in self.of.items():
            size, lora = cost.parameters(own), self.config.lora
            heads = 0
            if name == "critic" and self.judges:
                heads = cost.head_parameters(own, self.config.gan)
            trained = (cost.lora_parameters(own, lora) if lora.rank else size) + heads
            size += trained if lora.rank else heads  # adapters stand beside the matrices
            start = role(self.preset, self.name, name)
            yield Network(name, size, 0 if name == "teacher" else trained, start)

    def updates(self) -> Iterator[Update]:
        """Of each player."""
        config = self.config
        if self.codec:
            kept, work = cost.codec_kept(self.preset), cost.codec_forward(self.preset)
            whole = self._trained("reconstruction", work, kept, False)
            yield Update("codec", config.steps, tuple(whole), 1)
        elif "critic" not in self.of:
            yield Update("generator", config.steps, tuple(self._regression()), 1)
        else:
            turns = ceil(max(0, config.steps - config.critic_warmup) / config.critic_ratio)
            made, draws = self._fakes(graded=True)
            parts = (*made, *self._match())
            yield Update("generator", turns, parts, draws)
            made, draws = self._fakes(graded=False)
            own = 1 - turns / config.steps if config.share_rollout else 1  # the rest are shared
            made = [Part(part.name, part.work * own) for part in made]
            yield Update("critic", config.steps, (*made, *self._criticise()), draws * own)

    def once(self) -> Part | None:
        """What is computed before the first update."""
        if self.kind not in ("ode", "causal-ode"):
            return None
        passes = 1 if self.kind == "causal-ode" or self.config.real_guidance == 1 else 2
        each = self._masked("teacher") if self.kind == "causal-ode" else self._all("teacher")
        times = self.config.pairs * self.config.teacher_steps * passes
        return Part("trajectories", each * times)

    # --- many-step methods and initialisations ----------------------------------------------------

    def _regression(self) -> Iterator[Part]:
        double = self.kind in DOUBLE
        work = self._masked("generator") if double else self._all("generator")
        frames = self.frames * (1 + double)
        if self.kind == "consistency":
            yield Part("teacher", self._masked("teacher"))
            yield Part("target", work)
        yield from self._trained("regression", work, self._kept("generator", frames), True)

    # --- distillation -----------------------------------------------------------------------------

    def _fakes(self, graded: bool) -> tuple[list[Part], float]:
        """The generator's clips, and the noise drawn for them."""
        if self.kind in ("causvid", "tf-dmd"):
            double = self.kind == "tf-dmd"
            work = self._masked("generator") if double else self._all("generator")
            held = self._kept("generator", self.frames * (1 + double))
            parts = [*self._trained("clip", work, held, True)] if graded else [Part("clip", work)]
            return parts, 1
        steps = len(levels(self.config.sampler))
        passes = steps if self.config.exits == "last" else (steps + 1) / 2
        if self.kind == "bidirectional-dmd":
            single = self._all("generator")
            parts = [Part("rollout", single * passes)]
            if graded:
                back = single.backward(self.recompute)
                parts.append(Part("backward", back, self._kept("generator", self.frames)))
            return parts, passes * self.frames
        length = (self.config.longest or self.frames) + self.frames
        made = length // 2 - self.config.image  # longer rollouts: their average length
        seen = self.visible(made)
        own = self.of["generator"]
        passing = [cost.forward(own, n, past + n) for n, past in seen]
        rolled = sum((w * passes for w in passing), cost.text(own))
        parts = [
            Part("rollout", rolled),
            Part("cache", sum(passing[:-1], Work())),  # nothing follows the last chunk
        ]
        if graded:
            scope = min(self.graded, made)
            starts = [sum(n for n, _ in seen[:i]) for i in range(len(seen))]
            carried = [w for w, start in zip(passing, starts, strict=True) if made - start <= scope]
            passed = sum(carried, Work())
            if self.together:
                passed = replace(passed, blocks=own.model.layers)  # all of them in one call
                parts.append(Part("exits once more", passed))
            back = passed.backward(self.recompute)
            parts.append(Part("backward", back, self._kept("generator", scope)))
        return parts, passes * made

    def visible(self, length: int) -> list[tuple[int, int]]:
        """(frames, past frames it sees) of each chunk of a rollout."""
        model, past, found = self.preset.model, int(self.config.image), []
        limit = model.sink + model.window - model.frames_per_chunk if model.window else length
        for n in _chunks(length, model.frames_per_chunk, model.first_alone and not past):
            found.append((n, min(past, limit)))
            past += n
        return found

    def _match(self) -> Iterator[Part]:
        """The generator's loss on its clip."""
        critic, guided = self._all("critic"), 1 if self.config.real_guidance == 1 else 2
        held = self._kept("critic", self.frames)
        if self.scores:
            through = self.kind == "self-forcing-sid"
            yield from self._scored("fake score", critic, held, through)
            teacher, size = self._all("teacher"), self._kept("teacher", self.frames)
            yield from self._scored("real score", teacher * guided, size * guided, through)
        if self.judges:
            yield from self._scored("judged as true", critic + self._look(), held, True)
            if self.config.gan.relativistic:
                yield Part("true clips judged", critic + self._look())
        if self.config.anchor:
            work, held = self._all("generator"), self._kept("generator", self.frames)
            yield from self._trained("anchor", work, held, True)

    def _criticise(self) -> Iterator[Part]:
        """The critic's loss on a clip."""
        work, held = self._all("critic"), self._kept("critic", self.frames)
        if not self.judges:
            yield from self._trained("fake score", work, held, True)
            return
        passes = 2 + bool(self.config.gan.r1) + bool(self.config.gan.r2)
        name = "told apart, with R1 and R2" if passes > 2 else "told apart"
        yield from self._trained(name, (work + self._look()) * passes, held * passes, True)

    # --- passes -----------------------------------------------------------------------------------

    def _all(self, name: str) -> Work:
        return cost.whole(self.of[name], self.frames)

    def _masked(self, name: str) -> Work:
        """(clean, noisy): twice the frames."""
        return cost.whole(self.of[name], 2 * self.frames)

    def _look(self) -> Work:
        return cost.look(self.of["critic"], self.config.gan, self.frames)

    def _kept(self, name: str, frames: int) -> float:
        return cost.kept(self.of[name], frames, self.recompute)

    def _trained(self, name: str, work: Work, held: float, blocks: bool) -> Iterator[Part]:
        yield Part(name, work)
        yield Part("backward", work.backward(self.recompute and blocks), held)

    def _scored(self, name: str, work: Work, held: float, through: bool) -> Iterator[Part]:
        """A score without gradient, or with one that passes through it."""
        yield Part(name, work)
        if through:
            yield Part("back through it", work.backward(self.recompute, weights=False), held)


def _chunks(frames: int, n: int, alone: bool) -> list[int]:
    """Frames of each chunk."""
    first = [1] if alone and frames else []
    rest = frames - len(first)
    return [*first, *([n] * (rest // n)), *([rest % n] if rest % n else [])]
