"""Frozen configuration: what a preset may say, and the one place where it is read.

A preset is a YAML file in ``presets/``; ``--set key.path=value`` overrides a field. An unknown
key is an error that names the nearest one. Everything about shapes follows from these fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import yaml

PRESETS = Path(__file__).parent / "presets"


class ConfigError(ValueError):
    """A configuration a user can mend; the text is one sentence."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    dataset: str = "shapes-1"
    size: int = 32  # pixels a side
    fps: float = 16.0
    frames: int = 12  # native length: what a model is trained to make
    clips: int = 16384  # true videos in the training pool
    clip_frames: int = 48  # frames of each; a sample is a window of `frames` of them


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """A convolutional autoencoder, frame by frame, spatial stride 8."""

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


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The small-vocabulary text encoder."""

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
    window: int = 10  # frames a chunk sees, itself included; 0: all
    sink: int = 0  # first frames that are never evicted
    positions: str = "relative"  # "relative" to the window, or "absolute" (the released weights)


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How a model is run."""

    kind: str = "euler"  # "euler": the flow's ODE; "renoise": x0, then fresh noise
    steps: int = 16
    shift: float = 3.0
    guidance: float = 1.0  # ordinary classifier-free guidance: 1 is none
    few: tuple[float, ...] = (1000.0, 750.0, 500.0, 250.0)  # before the warp; for "renoise"


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One row of the paper's tables: how one network is trained."""

    steps: int = 1000
    batch: int = 32
    lr: float = 1e-3
    warmup: int = 100  # steps of linear warm-up
    decay: str = "cosine"  # "cosine" to zero, or "constant"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.995
    ema_start: int = 0  # the average starts as a copy of the weights at this update
    init: str = ""  # method whose weights this one starts from; "": random
    shift: float = 3.0  # of the training noise levels
    weight_floor: float = 0.4  # v-loss times (sigma / max(sigma, floor))^2
    clean_chunks: float = 0.0  # share of chunks shown clean, without loss (diffusion forcing)
    mixed_noise: float = 0.0  # share of clips with a noise level of their own for each chunk
    drop_text: float = 0.1  # share of prompts replaced by the empty one
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    # Distillation only.
    teacher: str = "teacher"  # the real score
    critic_init: str = "teacher"  # the fake score starts here
    critic_lr: float = 5e-4
    critic_ratio: int = 5  # critic updates a generator update
    critic_warmup: int = 100  # critic updates before the first generator update
    real_guidance: float = 1.0  # ordinary guidance weight of the real score
    score_shift: float = 3.0  # of the noise levels at which scores are compared
    score_range: tuple[float, float] = (0.02, 0.98)  # these levels are clamped to this, after shift
    same_exit: bool = True  # one exit step for the whole clip, or one a chunk
    grad_frames: int = 0  # last frames that carry gradient; 0: all
    expect: str = ""  # the score this recipe is expected to reach, as a person would say it


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

    @property
    def latent_side(self) -> int:
        """Latent cells a side."""
        return self.data.size // self.codec.stride

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of one latent frame."""
        return self.codec.channels, self.latent_side, self.latent_side

    def method(self, name: str) -> MethodConfig:
        """The recipe of a method, or one sentence naming the nearest."""
        if name not in self.methods:
            raise ConfigError(_unknown("method", name, self.methods))
        return self.methods[name]


def preset_names() -> list[str]:
    """The presets that ship."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name: str, overrides: list[str] | None = None) -> Preset:
    """Read a preset, by name or from ``FILE.yaml``, and apply ``key.path=value`` overrides."""
    own = Path(name) if name.endswith(".yaml") else None
    if own is None and name not in preset_names():
        raise ConfigError(_unknown("preset", name, preset_names()))
    if own is not None and not own.is_file():
        raise ConfigError(f"There is no preset file '{name}'.")
    tree = yaml.safe_load((own or PRESETS / f"{name}.yaml").read_text())
    name = own.stem if own else name
    for text in overrides or []:
        _override(tree, text)
    return from_dict({"name": name, **tree})


def from_dict(tree: dict[str, Any]) -> Preset:
    """Build a preset from plain data, as a checkpoint's card stores it; also checks it."""
    preset: Preset = _build(Preset, tree, "preset")
    _check(preset)
    return preset


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data that :func:`from_dict` and JSON can carry."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain


def recipe_hash(preset: Preset, method: str) -> str:
    """Identifies all that determines a method's weights, its ancestors' recipes apart."""
    tree = to_dict(preset)
    tree["methods"] = {method: tree["methods"][method]}
    tree["methods"][method].pop("expect")
    if method == "codec":  # made of pixels alone
        del tree["model"], tree["text"]
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def _override(tree: dict[str, Any], text: str) -> None:
    path, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set takes key=value, for example model.dim=128; got '{text}'.")
    keys = path.split(".")
    node = tree
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {text}: '{key}' is a value, not a group of keys.")
    node[keys[-1]] = yaml.safe_load(value)


def _build(kind: Any, value: Any, where: str) -> Any:
    """Construct ``kind`` from YAML data, checking names and types on the way."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a group of keys, not {value!r}.")
        hints = get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise ConfigError(_unknown(f"key in {where}", str(key), hints))
        built = {key: _build(hints[key], v, f"{where}.{key}") for key, v in value.items()}
        # mypy does not see that a dataclass type can be called.
        return kind(**built)  # type: ignore[operator]
    origin = get_origin(kind)
    if origin is dict:
        return {k: _build(get_args(kind)[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} must be a list, not {value!r}.")
        return tuple(_build(item, v, where) for v in value)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if isinstance(kind, type | types.UnionType) and isinstance(value, kind):
        if kind is int and isinstance(value, bool):
            raise ConfigError(f"{where} must be int, not {value!r}.")
        return value
    raise ConfigError(f"{where} must be {getattr(kind, '__name__', kind)}, not {value!r}.")


def _check(preset: Preset) -> None:
    """Refuse combinations that cannot work, before anything is built."""
    model, data = preset.model, preset.data
    rules = [
        (data.size % preset.codec.stride == 0, "data.size must be a multiple of 8 (codec stride)"),
        (preset.latent_side % model.patch == 0, "model.patch must divide the latent's side"),
        (model.dim % model.heads == 0, "model.heads must divide model.dim"),
        ((model.dim // model.heads) % 2 == 0, "a head's width must be even (RoPE rotates pairs)"),
        (data.frames % model.frames_per_chunk == 0, "frames_per_chunk must divide data.frames"),
        (model.window % model.frames_per_chunk == 0, "frames_per_chunk must divide model.window"),
        (model.sink % model.frames_per_chunk == 0, "frames_per_chunk must divide model.sink"),
        (model.prediction in ("x0", "v"), "model.prediction must be x0 or v"),
        (model.positions in ("relative", "absolute"), "model.positions: relative or absolute"),
        (data.clip_frames >= data.frames, "data.clip_frames must be at least data.frames"),
    ]
    for holds, rule in rules:
        if not holds:
            raise ConfigError(f"Preset '{preset.name}': {rule}.")


def _unknown(what: str, name: str, known: Any) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[:8]
    return f"Unknown {what} '{name}'; did you mean {', '.join(near)}?"
