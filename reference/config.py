"""Frozen configuration: what a preset may say, a group a class. ``recipes.py`` reads it.

Everything about shapes follows from these fields; nothing else holds a size.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any


class ConfigError(ValueError):
    """A configuration a user can mend; the text is one sentence."""


def unknown(what: str, name: str, known: Any) -> str:
    """One sentence for a name that is not known, with the nearest ones that are."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:8]
    return f"Unknown {what} '{name}'; did you mean {', '.join(near)}?"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    dataset: str = "shapes-1"  # or folder:PATH, shards:PATTERN; prompts:FILE has no clips
    content: str = ""  # of one's own videos or prompts, by a hash; found out when a run begins
    size: int | tuple[int, int] = 32  # pixels a side, or height and width
    fps: float = 16.0
    frames: int = 12  # latent frames of the native length: what a model is trained to make
    clips: int = 16384  # true videos in the training pool; as many as there are, if fewer
    clip_frames: int = 48  # frames of each; a sample is a window of `frames` of them
    workers: int = 0  # processes that decode videos while the pool is encoded

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def by_content(self) -> DataConfig:
        """What is one's own by what it is, wherever it lies; for recipes and cards."""
        return replace(self, dataset=self.content or self.dataset, content="")


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """A convolutional autoencoder, frame by frame, spatial stride 8; or Wan's."""

    kind: str = "learned"  # "learned": trained by the method `codec`; "wan": Wan2.1's VAE
    channels: int = 8  # of a latent
    width: int = 32  # channels after the first stride; doubled at each further one
    latent_noise: float = 0.1  # Gaussian noise on standardised latents while both halves train
    decoder_noise: float = 0.2  # largest noise while the decoder alone trains
    decoder_share: float = 0.4  # of the steps: decoder alone, encoder frozen
    edge_weight: float = 4.0  # extra weight of pixels at edges

    @property
    def stride(self) -> int:
        """Pixels a latent cell, each way."""
        return 8

    @property
    def temporal(self) -> int:
        """Pixel frames a latent frame, the first apart, which is one frame."""
        return 4 if self.kind == "wan" else 1


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text encoder."""

    kind: str = "vocabulary"  # of the embedded world; "words": any words; "umt5": Wan's
    length: int = 12  # rows, padding included: the padding length is part of the model
    dim: int = 64


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One DiT (Wan2.1's architecture at any size)."""

    dim: int = 224
    ffn_dim: int = 448
    layers: int = 4
    heads: int = 7
    patch: int = 4  # latent cells a token covers, each way
    freq_dim: int = 128  # of the sinusoidal time embedding
    rope_theta: float = 100.0  # the paper's 10000 is for 21 latent frames and 1560 tokens each
    prediction: str = "x0"  # what the network's output is: "x0" or "v"
    frames_per_chunk: int = 2
    first_alone: bool = False  # the first frame is a chunk of its own (image to video)
    window: int = 10  # frames a chunk sees, itself included; 0: all
    sink: int = 0  # first frames that are never evicted
    positions: str = "relative"  # "relative" to the window, or "absolute" (the released weights)

    @property
    def context(self) -> tuple[int, int, int, bool]:
        """What a chunk is and sees: the arguments of masks after the number of frames."""
        return self.frames_per_chunk, self.window, self.sink, self.first_alone


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How a model is run."""

    kind: str = "euler"  # "euler": the flow's ODE; "renoise": x0, then fresh noise
    steps: int = 16
    shift: float = 3.0
    guidance: float = 1.0  # ordinary classifier-free guidance: 1 is none
    few: tuple[float, ...] = (1000.0, 750.0, 500.0, 250.0)  # before the warp; for "renoise"
    context_noise: float = 0.0  # level of noise, 0..1, at which own frames become context
    recache: bool = False  # after a change of prompt, the past is cached again under the new one


@dataclass(frozen=True, kw_only=True)
class GanConfig:
    """A discriminator on the critic's backbone (the paper's appendix; weights of its losses)."""

    weight: float = 0.0  # beside DMD or SiD; the method self-forcing-gan has nothing else: 1
    relativistic: bool = True  # compares a true clip with a generated one; else each alone
    blocks: tuple[int, ...] = ()  # whose features are judged; (): the last half, at most three
    r1: float = 30.0  # penalty where clips are true, halved as in the paper
    r2: float = 30.0  # and where they are generated
    sigma: float = 0.05  # size of the finite difference that both penalties take


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters in place of whole matrices (peft); merged when weights are shipped."""

    rank: int = 0  # 0: none, all weights are trained
    alpha: float = 0.0  # 0: equal to the rank
    targets: tuple[str, ...] = ("q", "k", "v", "o", "ffn.0", "ffn.2")


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One row of the paper's tables: how one network is trained."""

    method: str = ""  # where the row's name is not its method's
    model: dict[str, Any] = field(default_factory=dict)  # what differs in this row's own network
    steps: int = 1000
    batch: int = 32  # over all processes and micro-batches
    lr: float = 1e-3
    warmup: int = 100  # steps of linear warm-up
    decay: str = "cosine"  # "cosine" to zero, or "constant"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.995
    ema_start: int = 0  # the average starts as a copy of the weights at this update
    init: str = ""  # method whose weights this one starts from; "": random
    given: str = ""  # weights made elsewhere that this row stands for; it is not trained
    lora: LoraConfig = field(default_factory=LoraConfig)
    evaluate_every: int = 0  # steps between evaluations on held-out prompts; 0: none
    patience: int = 0  # evaluations without a better one after which training stops; 0: never
    shift: float = 3.0  # of the training noise levels
    weight_floor: float = 0.4  # v-loss times (sigma / max(sigma, floor))^2
    clean_chunks: float = 0.0  # share of chunks shown clean, without loss (diffusion forcing)
    mixed_noise: float = 0.0  # share of clips with a noise level of their own for each chunk
    drop_text: float = 0.1  # share of prompts replaced by the empty one
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    # Initialisation and distillation only.
    teacher: str = "teacher"  # the real score, or whose trajectories are learned
    teacher_steps: int = 48  # of its ODE; the student's levels must be among them
    pairs: int = 2048  # trajectories that are kept
    # Distillation only.
    critic_init: str = "teacher"  # the fake score starts here
    critic_lr: float = 5e-4
    critic_ratio: int = 5  # critic updates a generator update
    critic_warmup: int = 100  # critic updates before the first generator update
    share_rollout: bool = False  # at a generator's turn the critic takes its clips too
    real_guidance: float = 1.0  # ordinary guidance weight of the real score
    score_shift: float = 3.0  # of the noise levels at which scores are compared
    score_range: tuple[float, float] = (0.02, 0.98)  # these levels are clamped to this, after shift
    sid_alpha: float = 1.0  # SiD's alpha
    gan: GanConfig = field(default_factory=GanConfig)
    anchor: float = 0.0  # weight of flow matching on true clips at the student's own levels
    exits: str = "same"  # exit step: the "same" in all chunks of a clip, "own", or "last" always
    grad_frames: int = 0  # last frames that carry gradient; 0: all that are scored
    kv_grad: str = "none"  # gradient through the cache: "none" (the paper), "stale" or "true"
    longest: int = 0  # rollouts up to so many frames, the last of which are scored; 0: native
    switch: float = 0.0  # share of the longer rollouts whose prompt changes where scoring starts
    image: bool = False  # rollouts start from the true first frame (needs model.first_alone)
    expect: str = ""  # the score this recipe is expected to reach, as a person would say it


FEW_TOKENS = 128
"""Of a chunk, in all samples at once, up to which one graded pass is no slower than one a chunk,
though each chunk is evaluated once more (``make bench``, on a CPU)."""


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How the work is laid out on machines. No part of a recipe: it may change on a resume."""

    micro_batch: int = 0  # samples a process computes at once; 0: all of its share
    sharding: str = "replicate"  # "replicate" (DDP), "shard" (FSDP2), or "hybrid": shard in a node
    precision: str = "fp32"  # of matrix products: "fp32" or "bf16"; sums are always fp32
    checkpoint_blocks: bool = False  # recompute activations in the backward pass
    offload_teacher: bool = False  # keep its weights in the CPU's memory between uses
    attention: str = "auto"  # under a mask: "auto", "dense", "blocks" or "flex" (attention.Seen)
    graded: str = "auto"  # a rollout's graded evaluations: "apart", "together" after it, or by size
    sequence_parallel: int = 1  # processes that share the tokens of one sample
    device: str = "auto"  # "cpu", "cuda", or "auto": a GPU for each process, if there are any

    def share(self, batch: int, processes: int) -> int:
        """Samples of a batch that fall to a process, at most."""
        return ceil(batch / max(1, processes // self.sequence_parallel))

    def pieces(self, batch: int, processes: int) -> int:
        """Micro-batches of each process; all have equally many."""
        share = self.share(batch, processes)
        return ceil(share / (self.micro_batch or share))

    def at_once(self, batch: int, processes: int) -> int:
        """Samples of a micro-batch, at most."""
        return ceil(self.share(batch, processes) / self.pieces(batch, processes))


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Everything that determines a training run but the method's name."""

    name: str
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    text: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    methods: dict[str, MethodConfig] = field(default_factory=dict)
    engine: EngineConfig = field(default_factory=EngineConfig)
    given: dict[str, str] = field(default_factory=dict)
    """Where weights lie that were made elsewhere: by row, or by "codec" and "text"."""
    contents: dict[str, str] = field(default_factory=dict)
    """What these are, by hashes; found out when a run begins."""

    def by_content(self, names: Iterable[str]) -> Preset:
        """What was made elsewhere by what it is; ``names``: those of ``contents`` that matter."""
        contents = {name: self.contents[name] for name in names if name in self.contents}
        return replace(self, data=self.data.by_content(), given={}, contents=contents)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(C, h, w)`` of one latent frame."""
        height, width = (side // self.codec.stride for side in self.data.shape)
        return self.codec.channels, height, width

    def grades_together(self, method: MethodConfig, processes: int) -> bool:
        """Whether a rollout's graded evaluations are made in one pass, after it.

        Never where more than what is cached ties a chunk to others: gradient through the cache,
        sinks that move along with the window, or a prompt that changes while gradient is carried.
        """
        model, (_, height, width) = self.model, self.latent_shape
        moving = model.sink and model.positions == "relative"
        switched = method.switch and method.grad_frames > self.data.frames
        if method.kv_grad != "none" or moving or switched or self.engine.graded == "apart":
            return False
        frame = (height // model.patch) * (width // model.patch)
        samples = self.engine.at_once(method.batch, processes)
        tokens = samples * model.frames_per_chunk * frame
        return self.engine.graded == "together" or tokens <= FEW_TOKENS

    def method(self, name: str) -> MethodConfig:
        """The recipe of a row, or one sentence naming the nearest."""
        if name not in self.methods:
            raise ConfigError(unknown("method", name, self.methods))
        return self.methods[name]

    def kind(self, name: str) -> str:
        """The method by which a row is trained."""
        return self.method(name).method or name

    def of(self, name: str) -> Preset:
        """The preset as a row sees it: with the row's own network."""
        return dataclasses.replace(
            self, model=dataclasses.replace(self.model, **self.method(name).model)
        )
