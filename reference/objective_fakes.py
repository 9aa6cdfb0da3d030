"""How the clips come about on which a few-step student is judged: the rows of the paper's ablation.

Self Forcing, diffusion forcing (CausVid) and teacher forcing differ in what a chunk sees as its
past, and in nothing else; the loss on the clip is another file's. A fourth way, the whole clip at
once, is the student without a past. B batch, F frames, C H W of a latent frame, L text rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import keyed
from .engine import quick
from .masks import chunks_of
from .model import DiT
from .objective_exits import Exits
from .objectives import Batch, Chunks, Draw
from .rollout import rollout
from .schedule import Schedule, add_noise


@dataclass
class Student:
    """A few-step generator in training, and the randomness of its clips."""

    draw: Draw
    generator: DiT
    schedule: Schedule

    def __post_init__(self) -> None:
        self.frames = self.draw.preset.data.frames
        self.chunks = Chunks(self.draw, self.generator)

    @property
    def grades_together(self) -> bool:
        """Whether gradients of a rollout are made in one pass: the same on all processes."""
        return self.draw.preset.grades_together(self.draw.method, self.draw.place[1])

    def levels(self, step: int, purpose: int) -> Tensor:
        """One of the few levels for each chunk, ``[B, F]``."""
        index = self.draw.uniform(step, purpose, len(self.chunks.all)) * len(self.schedule)
        return self.chunks.a_frame(torch.tensor(self.schedule.sigmas)[index.long()])

    def exits(self, step: int, purpose: int, chunks: int) -> list[int]:
        """The step at which each chunk stops: equal in all samples, on all machines."""
        random, how = keyed(self.draw.preset.seed, step, purpose), self.draw.method.exits
        if how == "last":
            return [len(self.schedule) - 1] * chunks
        if how == "same":
            return [int(random.integers(len(self.schedule)))] * chunks
        return [int(e) for e in random.integers(len(self.schedule), size=chunks)]


Fakes = Callable[[Student, Batch, int, int], Tensor]
"""``fakes(student, batch, step, purpose) -> [B, F, C, H, W]``, with gradient if gradient is on."""


def own_past(student: Student, batch: Batch, step: int, purpose: int) -> Tensor:
    """Self Forcing, Algorithm 1: the model's own KV-cached rollout from noise.

    With ``longest`` the rollout may be longer, and its last F frames are the clip; with ``switch``
    some of these begin under another prompt. With ``image`` the first frame is the true one. Where
    calls are small, all exits are evaluated again after it, with gradient (``objective_exits.py``).
    """
    draw, method, frames = student.draw, student.draw.method, student.frames
    length, switched = _length(student, step, purpose)
    first = int(method.image)
    net, model = student.generator, student.generator.config
    chunks = chunks_of(length - first, model.frames_per_chunk, model.first_alone, first)
    graded = min(method.grad_frames or frames, length) if torch.is_grad_enabled() else 0
    later = Exits(net, length - graded, graded) if graded and student.grades_together else None
    made = rollout(
        net if graded and not later else quick(net),
        draw.batch(step, purpose + 4).text if switched else batch.text,
        draw.rollout_noise(step, purpose),
        student.schedule,
        frames=length - first,
        start=first,
        context=batch.latents[:, :1] if first else None,
        exits=student.exits(step, purpose, len(chunks)),
        grad_from=length if later else length - graded,
        kv_grad=method.kv_grad if graded else "none",
        recache=method.sampler.recache,
        watch=later.watch if later else None,
    )
    clip, told = [batch.latents[:, :1]] if first else [], None
    before = next(chunk for chunk in chunks if chunk.stop >= length - frames)  # what is scored
    for index in chunks:
        clip.append(made.send(told))
        told = batch.text if switched and index == before else None
    if later:
        again = later.evaluate(batch.text)
        clip = [torch.cat(clip, dim=1)[:, : -again.shape[1]], again]
    return torch.cat(clip, dim=1)[:, length - frames :]


def _length(student: Student, step: int, purpose: int) -> tuple[int, bool]:
    """Frames of a rollout, and whether its prompt changes; equal in all samples."""
    method, frames = student.draw.method, student.frames
    n = student.generator.config.frames_per_chunk
    if not method.longest:
        return frames, False
    random = keyed(student.draw.preset.seed, step, purpose, 1)
    length = frames + n * int(random.integers((method.longest - frames) // n + 1))
    return length, length > frames and bool(random.random() < method.switch)


def noised_truth(student: Student, batch: Batch, step: int, purpose: int) -> Tensor:
    """Diffusion forcing (CausVid): true clips, each chunk noised to one of the few levels, and
    denoised at once under the block-causal mask. No frame is the model's own."""
    sigma = student.levels(step, purpose)
    x_t = add_noise(batch.latents, student.draw.noise(step, purpose + 1, student.frames), sigma)
    return student.chunks.after_noisy(student.generator, x_t, sigma, batch.text)


def true_past(student: Student, batch: Batch, step: int, purpose: int) -> Tensor:
    """Teacher forcing: as :func:`noised_truth`, but each chunk sees the clean true past."""
    sigma, frames = student.levels(step, purpose), student.frames
    x_t = add_noise(batch.latents, student.draw.noise(step, purpose + 1, frames), sigma)
    return student.chunks.after_clean(student.generator, batch, x_t, sigma)


def whole_clip(student: Student, batch: Batch, step: int, purpose: int) -> Tensor:
    """The bidirectional few-step student (DMD2): all frames at once, through its own steps."""
    (clip,) = rollout(
        student.generator if torch.is_grad_enabled() else quick(student.generator),
        batch.text,
        student.draw.rollout_noise(step, purpose),
        student.schedule,
        frames=student.frames,
        chunk=student.frames,
        exits=student.exits(step, purpose, 1),
        grad_from=0 if torch.is_grad_enabled() else student.frames,
    )
    return clip
