"""The methods by name: what each needs, and how its networks are put together.

Adding one: a class in an ``objective_*.py`` file, a line in ``METHODS``, a recipe in a preset. From
another package: a :class:`Method` in the entry-point group ``sfbench.methods``, and a preset file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoint import load_into
from .codec import AutoEncoder, reconstruction_loss
from .config import ConfigError, MethodConfig, Preset
from .data import LatentPool, Pool, noise_for
from .library import Library
from .model import DiT
from .objective_dmd import CausVid, Distillation, SelfForcing
from .objective_flow import DiffusionForcing, Flow, Teacher, TeacherForcing
from .objectives import Draw, Metrics, Objective
from .text import VocabularyEncoder

Note = Callable[[str], None]


@dataclass(frozen=True)
class Method:
    """A method's objective, and whether its model streams."""

    objective: type[Flow] | type[Distillation]
    causal: bool


METHODS = {
    "diffusion-forcing": Method(DiffusionForcing, causal=True),
    "teacher-forcing": Method(TeacherForcing, causal=True),
    "teacher": Method(Teacher, causal=False),
    "causvid": Method(CausVid, causal=True),
    "self-forcing-dmd": Method(SelfForcing, causal=True),
}


@cache
def methods_known() -> dict[str, Method]:
    """Ours, ancestors first, then those of installed packages."""
    return METHODS | {point.name: point.load() for point in entry_points(group="sfbench.methods")}


def ensure_known(preset: Preset, method: str) -> None:
    """One sentence for a method that does not exist, or that the preset has no recipe for."""
    if method != "all":
        preset.method(method)
    known = ("codec", *methods_known())
    unknown = [name for name in preset.methods if name not in known]
    if unknown:
        raise ConfigError(f"Unknown method '{unknown[0]}'; did you mean {', '.join(known)}?")


def order(preset: Preset) -> list[str]:
    """The preset's methods, ancestors first."""
    return [name for name in ("codec", *methods_known()) if name in preset.methods]


def needs(preset: Preset, method: str) -> list[str]:
    """The methods whose weights this one is built from."""
    if method == "codec":
        return []
    config = preset.method(method)
    names = ["codec", config.init]
    if issubclass(methods_known()[method].objective, Distillation):
        names += [config.teacher, config.critic_init]
    return [name for name in dict.fromkeys(names) if name]


def build(preset: Preset, method: str, library: Library, cache: Path, note: Note) -> Objective:
    """The objective of a method with its networks made and its ancestors loaded."""
    torch.manual_seed(preset.seed)  # initial weights; nothing after this uses the global generator
    config = preset.method(method)
    pool = Pool(preset.data)
    if method == "codec":
        return CodecTraining(preset, config, pool)
    codec, card = load_codec(preset, library, method)
    latents = LatentPool.open(pool, codec, card, cache, _every_tenth(note))
    draw = Draw(preset, config, latents, VocabularyEncoder(preset.text))
    generator = _network(preset, config.init, library, method)
    objective = methods_known()[method].objective
    if issubclass(objective, Distillation):
        critic = _network(preset, config.critic_init, library, method)
        teacher = _network(preset, config.teacher, library, method)
        return objective(draw, generator, critic, teacher)
    return objective(draw, generator)


def load_codec(preset: Preset, library: Library, wanted_by: str) -> tuple[AutoEncoder, str]:
    """The trained codec, in evaluation mode, and its hash."""
    tensors, card = library.load("codec", wanted_by)
    codec = AutoEncoder(preset.codec)
    load_into(codec, tensors, "codec")
    codec = codec.eval().requires_grad_(False)
    # Twice as fast on a CPU; the argument is missing from torch's type stubs.
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return codec, str(card["sha256"])


def _network(preset: Preset, method: str, library: Library, wanted_by: str) -> DiT:
    network = DiT(preset)
    if method:
        load_into(network, library.load(method, wanted_by)[0], method)
    return network


def _every_tenth(note: Note) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done * 10 // total > (done - 32) * 10 // total:
            note(f"encoding the training pool, {done}/{total} clips")

    return progress


class CodecTraining:
    """The autoencoder: both halves, then the decoder alone on noisier latents."""

    def __init__(self, preset: Preset, config: MethodConfig, pool: Pool) -> None:
        self.preset, self.config, self.pool = preset, config, pool
        self.codec = AutoEncoder(preset.codec)
        self.players: dict[str, nn.Module] = {"codec": self.codec}

    def turns(self, step: int) -> Sequence[str]:
        """The codec, always."""
        return ("codec",)

    def loss(self, player: str, step: int) -> tuple[Tensor, Metrics]:
        """Reconstruction of single frames of the pool's clips."""
        config = self.preset.codec
        decoder_only = step >= self.config.steps * (1 - config.decoder_share)
        self.codec.train(not decoder_only)  # the batch norm's statistics freeze with the encoder
        windows = self.pool.windows(self.preset.seed, step, self.config.batch)
        video = self.pool.pixels(windows, 1)
        keys = [(self.preset.seed, step, i, 2) for i in range(len(windows))]
        noise = noise_for(keys, (1, *self.preset.latent_shape))
        loss = reconstruction_loss(self.codec, video, noise, config, decoder_only)
        return loss, {}
