"""The methods by name: what each needs, and how its networks are put together.

Adding one: a class in an ``objective_*.py`` file, a line in ``METHODS``, a recipe in a preset. From
another package: a :class:`Method` in the entry-point group ``sfbench.methods``, and a preset file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import ancestry, elsewhere, given
from .checkpoint import load_into
from .codec import AutoEncoder, Codec, reconstruction_loss
from .config import ConfigError, MethodConfig, Preset, unknown
from .data import LatentPool, Pool, noise_for
from .model import DiT
from .objective_dmd import DMD
from .objective_fakes import Fakes, noised_truth, own_past, true_past, whole_clip
from .objective_flow import DiffusionForcing, Teacher, TeacherForcing
from .objective_gan import GAN
from .objective_init import CausalOde, Consistency, OdeRegression
from .objective_sid import SiD
from .objectives import CPU, Draw, Metrics, Objective
from .text import TextEncoder, text_encoder, too_long
from .text_rows import TextRows
from .trained import Library

Note = Callable[[str], None]


@dataclass(frozen=True)
class Method:
    """A method's objective, how the clips it judges come about, and whether its model streams."""

    objective: Any  # a class: objective(draw, generator, **its networks)
    fakes: Fakes | None = None
    causal: bool = True


METHODS = {
    "teacher": Method(Teacher, causal=False),
    "diffusion-forcing": Method(DiffusionForcing),
    "teacher-forcing": Method(TeacherForcing),
    "ode": Method(OdeRegression),
    "causal-ode": Method(CausalOde),
    "consistency": Method(Consistency),
    "causvid": Method(DMD, noised_truth),
    "tf-dmd": Method(DMD, true_past),
    "self-forcing-dmd": Method(DMD, own_past),
    "self-forcing-sid": Method(SiD, own_past),
    "self-forcing-gan": Method(GAN, own_past),
    "bidirectional-dmd": Method(DMD, whole_clip, causal=False),
}


@cache
def methods_known() -> dict[str, Method]:
    """Ours, and those of installed packages."""
    return METHODS | {point.name: point.load() for point in entry_points(group="sfbench.methods")}


def ensure_known(preset: Preset, name: str) -> None:
    """One sentence for a method that does not exist, or that the preset has no recipe for."""
    if name != "all":
        preset.method(name)
    known = ("codec", *methods_known())
    for row in preset.methods:
        if preset.kind(row) not in known:
            raise ConfigError(unknown("method", preset.kind(row), known))
    if sentence := elsewhere.refusal(preset, name):
        raise ConfigError(sentence)


def order(preset: Preset) -> list[str]:
    """The preset's rows, ancestors first."""
    try:
        return [
            *TopologicalSorter({row: needs(preset, row) for row in preset.methods}).static_order()
        ]
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise ConfigError(
            f"Preset '{preset.name}': rows start from one another: {circle}."
        ) from None


def needs(preset: Preset, name: str) -> list[str]:
    """The rows whose weights this one is built from."""
    kind = preset.kind(name)
    return ancestry.needs(preset, name, () if kind == "codec" else _uses(kind))


def _uses(kind: str) -> Sequence[str]:
    return getattr(methods_known()[kind].objective, "uses", ())


def build(
    preset: Preset,
    name: str,
    library: Library,
    cache: Path,
    note: Note,
    device: torch.device = CPU,
) -> Objective:
    """The objective of a row with its networks made and its ancestors loaded.

    ``device``: where what is kept on disk is computed; networks are made on the CPU.
    """
    torch.manual_seed(preset.seed)  # initial weights; nothing after this uses the global generator
    config, kind, own = preset.method(name), preset.kind(name), preset.of(name)
    pool = Pool(preset.data, temporal=preset.codec.temporal)
    _tell(preset, pool, note)
    if kind == "codec":
        # It asks for single frames of any clip.
        pool.keep(cache, _every_tenth(note, "decoding the training pool", "clips"))
        return CodecTraining(preset, config, pool)
    text = _text(preset, pool, cache, note, device)
    latents = LatentPool(pool, None)
    if ancestry.needs_clips(preset, name):
        codec, card = _codec(preset, library, name, device)
        show = _every_tenth(note, "encoding the training pool", "clips")
        latents = LatentPool.open(pool, codec, card, cache, show)
    draw = Draw(own, config, latents, text, cache)
    generator = _network(own, config.init, library, name)
    networks: dict[str, Any] = {}
    for role in _uses(kind):
        ancestor = ancestry.role(preset, name, role)
        of = preset.of(ancestor) if ancestor else own
        networks[role] = _network(of, ancestor, library, name, role != "teacher")
        draw.ancestors[role] = str(library.card(ancestor)["sha256"]) if ancestor else ""
    method = methods_known()[kind]
    if method.fakes:
        networks["fakes"] = method.fakes
    objective: Objective = method.objective(draw, generator, **networks)
    return objective


def _text(preset: Preset, pool: Pool, cache: Path, note: Note, device: torch.device) -> TextEncoder:
    """The text encoder; or, of one too large to stay, the rows of all prompts."""
    if preset.text.kind != "umt5":
        return text_encoder(preset.text)
    content, show = preset.contents["text"], _every_tenth(note, "encoding the prompts", "rows")
    encoder = partial(given.text, preset, device)
    return TextRows.open(pool.texts(), preset.text, content, encoder, cache, show)


def _codec(
    preset: Preset, library: Library, wanted_by: str, device: torch.device
) -> tuple[Codec, str]:
    """The codec that the pool is seen through, and its hash."""
    if preset.codec.kind != "wan":
        return load_codec(preset, library, wanted_by)
    return given.codec(preset, device), preset.contents["codec"]


def load_codec(preset: Preset, library: Library, wanted_by: str) -> tuple[AutoEncoder, str]:
    """The trained codec, in evaluation mode, and its hash."""
    tensors, card = library.load("codec", wanted_by)
    codec = AutoEncoder(preset.codec)
    load_into(codec, tensors, "codec")
    codec = codec.eval().requires_grad_(False)
    # Twice as fast on a CPU; the argument is missing from torch's type stubs.
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return codec, str(card["sha256"])


def _network(
    preset: Preset, ancestor: str, library: Library, wanted_by: str, trained: bool = True
) -> DiT:
    """A network as ``preset`` has it, with an ancestor's weights, or random ones."""
    if ancestor in library.given:
        return given.network(preset, ancestor, trained)
    network = DiT(preset)
    if ancestor:
        load_into(network, library.load(ancestor, wanted_by)[0], ancestor)
    return network


def _tell(preset: Preset, pool: Pool, note: Note) -> None:
    """What is made of what is one's own; refuses an encoder that does not know its words."""
    data = preset.data
    if not data.content:
        return
    if preset.text.kind == "vocabulary":
        raise ConfigError(
            "text.kind 'vocabulary' knows the words of the embedded world alone; pass "
            f"--set text.kind=words to train on {data.dataset}."
        )
    if pool.own is None:
        note(f"{pool.count} prompts of {data.dataset}")
        return
    captions, there = pool.captions(), len(pool.own.of_split(pool.split))
    note(
        f"{pool.count} clips of {data.clip_frames} frames, from {len(captions)} of the {there} "
        f"training videos of {data.dataset}"
    )
    if sentence := too_long(captions, preset.text):
        note(sentence)


def _every_tenth(note: Note, doing: str, what: str) -> Callable[[int, int], None]:
    tenths = 0

    def progress(done: int, total: int) -> None:
        nonlocal tenths
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            note(f"{doing}, {done}/{total} {what}")

    return progress


class CodecTraining:
    """The autoencoder: both halves, then the decoder alone on noisier latents."""

    def __init__(self, preset: Preset, config: MethodConfig, pool: Pool) -> None:
        self.preset, self.config, self.pool = preset, config, pool
        self.draw = None  # the batch norm needs all of the batch
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
        windows = self.pool.windows(self.preset.seed, step, range(self.config.batch))
        device = next(self.codec.parameters()).device
        video = self.pool.pixels(windows, 1).to(device)
        keys = [(self.preset.seed, step, i, 2) for i in range(len(windows))]
        noise = noise_for(keys, (1, *self.preset.latent_shape)).to(device)
        loss = reconstruction_loss(self.codec, video, noise, config, decoder_only)
        return loss, {}
