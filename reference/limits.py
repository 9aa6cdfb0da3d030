"""What the numbers of a preset must fulfil, each alone and in a row together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import Any

from .ancestry import USES
from .config import MethodConfig, Preset

Rules = list[tuple[bool, str]]
"""Whether each holds, and the sentence for where it does not."""
Limits = tuple[tuple[str, Callable[[float], bool], str], ...]
"""What must be true of fields, in words and as a test, and their paths."""

OF_PRESET: Limits = (
    (
        "must be at least 1",
        lambda x: x >= 1,
        "data.frames data.clips codec.channels codec.width text.length text.dim "
        "engine.sequence_parallel",
    ),
    (
        "must not be negative",
        lambda x: 0 <= x < inf,
        "seed data.workers engine.micro_batch codec.latent_noise codec.decoder_noise "
        "codec.edge_weight",
    ),
    ("must be over 0", lambda x: 0 < x < inf, "data.fps data.size"),
    ("must be in 0..1", lambda x: 0 <= x <= 1, "codec.decoder_share"),
)
OF_NETWORK: Limits = (
    (
        "must be at least 1",
        lambda x: x >= 1,
        "model.dim model.ffn_dim model.layers model.heads model.patch model.freq_dim "
        "model.frames_per_chunk",
    ),
    ("must not be negative", lambda x: x >= 0, "model.window model.sink"),
    ("must be over 0", lambda x: 0 < x < inf, "model.rope_theta"),
)
OF_ROW: Limits = (
    (
        "must be at least 1",
        lambda x: x >= 1,
        "steps batch critic_ratio teacher_steps pairs sampler.steps",
    ),
    (
        "must not be negative",
        lambda x: 0 <= x < inf,
        "lr critic_lr warmup weight_decay ema_start evaluate_every patience weight_floor "
        "critic_warmup anchor grad_frames longest lora.rank gan.weight gan.r1 gan.r2",
    ),
    (
        "must be over 0",
        lambda x: 0 < x < inf,
        "clip shift score_shift gan.sigma sampler.shift",
    ),
    (
        "must be in 0..1",
        lambda x: 0 <= x <= 1,
        "ema mixed_noise drop_text switch score_range",
    ),
    (
        "must be in 0..1, without 1",
        lambda x: 0 <= x < 1,
        "betas clean_chunks sampler.context_noise",
    ),
    ("must be over 0 and at most 1000", lambda x: 0 < x <= 1000, "sampler.few"),
)


def numbers(preset: Preset) -> Rules:
    """Of each number alone; checked first, for other rules divide by some of them."""
    rules = [*_within(preset, (*OF_PRESET, *OF_NETWORK))]
    for name, row in preset.methods.items():
        both = [*_within(row, OF_ROW), *_within(preset.of(name), OF_NETWORK)]
        rules += [(ok, f"methods.{name}.{rule}") for ok, rule in both]
    return rules


def of_network(preset: Preset) -> Rules:
    """Of a network's shape."""
    model, (_, height, width) = preset.model, preset.latent_shape
    n, alone = model.frames_per_chunk, model.first_alone
    return [
        (
            height % model.patch == 0 and width % model.patch == 0,
            "model.patch must divide the latent's sides",
        ),
        (model.dim % model.heads == 0, "model.heads must divide model.dim"),
        ((model.dim // model.heads) % 2 == 0, "a head's width must be even (RoPE rotates pairs)"),
        (
            (preset.data.frames - alone) % n == 0,
            "frames_per_chunk must divide data.frames (less one, with model.first_alone)",
        ),
        (model.window % n == 0, "frames_per_chunk must divide model.window"),
        (
            model.sink % n == 0 or (alone and (model.sink - 1) % n == 0),
            "frames_per_chunk must divide model.sink (less one, with model.first_alone)",
        ),
    ]


def of_row(preset: Preset, name: str) -> Rules:
    """Of a row's numbers together."""
    row, kind, model = preset.method(name), preset.kind(name), preset.of(name).model
    n, frames, few = model.frames_per_chunk, preset.data.frames, row.sampler.few
    rolls = kind.startswith("self-forcing") or kind == "bidirectional-dmd"
    rules = [
        (
            row.sampler.kind != "renoise" or (bool(few) and list(few) == sorted({*few})[::-1]),
            "sampler.few must be one level or more, each below the one before",
        ),
        (
            not rolls or row.sampler.guidance == 1,
            f"sampler.guidance must be 1: {kind} rolls its student out without guidance; the "
            "teacher's is real_guidance",
        ),
        (not row.longest or row.longest >= frames, "longest is under data.frames"),
        (
            not row.longest or (row.longest - frames) % n == 0,
            f"longest - data.frames must be whole chunks of {n}",
        ),
        (not row.switch or row.longest > frames, "switch needs longest over data.frames"),
        (not row.image or model.first_alone, "image needs model.first_alone"),
        (
            not row.grad_frames or row.grad_frames >= n,
            f"grad_frames must be a chunk ({n}) at least, or 0",
        ),
        (
            row.score_range[0] < row.score_range[1],
            "score_range must be a lower level, then a higher",
        ),
        (not row.patience or row.evaluate_every > 0, "patience needs evaluate_every"),
        (
            "teacher" not in USES.get(kind, ()) or bool(row.teacher),
            "teacher must name a row; of random weights there is nothing to learn",
        ),
        (not row.lora.rank or bool(row.lora.targets), "lora.targets must name a matrix"),
        *_judged(preset, row, kind, name),
    ]
    return [(ok, f"methods.{name}.{rule}") for ok, rule in rules]


def _judged(preset: Preset, row: MethodConfig, kind: str, name: str) -> Iterator[tuple[bool, str]]:
    """Blocks of the critic, where a discriminator looks at them."""
    start = row.critic_init if row.critic_init in preset.methods else name
    layers = preset.of(start).model.layers
    if row.gan.weight or kind == "self-forcing-gan":
        yield (
            all(-layers <= block < layers for block in row.gan.blocks),
            f"gan.blocks must be among the critic's {layers}, 0 to {layers - 1}",
        )


def _within(config: Any, limits: Limits) -> Iterator[tuple[bool, str]]:
    for words, holds, paths in limits:
        for path in paths.split():
            value = config
            for key in path.split("."):
                value = getattr(value, key)
            each: Sequence[float] = value if isinstance(value, tuple) else (value,)
            yield all(map(holds, each)), f"{path} {words}, not {_shown(value)}"


def _shown(value: Any) -> str:
    return str([*value]) if isinstance(value, tuple) else str(value)
