"""Parameters, FLOPs and activations of one network, from its configuration alone; no torch.

One multiply-add is two FLOPs. F frames of S tokens, L text rows, d model width, f feed-forward
width. What is small beside the rest (norms, softmax, RoPE) is left out, as FLOP counters do.
"""

from __future__ import annotations

from dataclasses import dataclass

from .config import CodecConfig, GanConfig, LoraConfig, Preset

FP32 = 4  # bytes; weights, gradients, optimiser and averages are kept so in every precision


@dataclass(frozen=True)
class Work:
    """FLOPs of a sample, apart for products with weights and for attention; and what is launched.

    ``blocks``: block passes, forward or backward, that the host launches, whatever the batch.
    """

    linear: float = 0.0
    attention: float = 0.0
    blocks: float = 0.0

    @property
    def flops(self) -> float:
        """All of them."""
        return self.linear + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(
            self.linear + other.linear,
            self.attention + other.attention,
            self.blocks + other.blocks,
        )

    def __mul__(self, times: float) -> Work:
        return Work(self.linear * times, self.attention * times, self.blocks * times)

    def backward(self, recompute: bool, weights: bool = True) -> Work:
        """Of this forward pass: twice it for weights and inputs, and once more to recompute.

        ``weights``: whether they are trained; else a gradient only passes through to the inputs.
        """
        again = int(recompute)
        return Work(
            self.linear * (2 if weights else 1) + self.linear * again,
            self.attention * (2 + again),
            self.blocks * (1 + again),
        )


# --- the transformer ------------------------------------------------------------------------------


def tokens_of(preset: Preset) -> int:
    """Tokens of a frame."""
    _, height, width = preset.latent_shape
    return (height // preset.model.patch) * (width // preset.model.patch)


def block_parameters(preset: Preset) -> int:
    """Of one block: two attentions with their norms, one affine norm, feed-forward, modulation."""
    d, f = preset.model.dim, preset.model.ffn_dim
    attention = 4 * (d * d + d) + 2 * d
    return 2 * attention + 2 * d + (d * f + f) + (f * d + d) + 6 * d


def parameters(preset: Preset) -> int:
    """Of the whole transformer."""
    m, text = preset.model, preset.text.dim
    d, cells = m.dim, preset.latent_shape[0] * m.patch**2
    patches = cells * d + d
    words = (text * d + d) + (d * d + d)
    time = (m.freq_dim * d + d) + (d * d + d) + (d * 6 * d + 6 * d)
    head = d * cells + cells + 2 * d
    return patches + words + time + m.layers * block_parameters(preset) + head


def lora_parameters(preset: Preset, lora: LoraConfig) -> int:
    """Of the adapters that are trained in place of the matrices they are beside."""
    d, f = preset.model.dim, preset.model.ffn_dim
    sides = dict.fromkeys("qkvo", 2 * (d + d)) | {"ffn.0": d + f, "ffn.2": f + d}  # two attentions
    return preset.model.layers * lora.rank * sum(sides.get(name, 0) for name in lora.targets)


def forward(preset: Preset, frames: int, seen: int) -> Work:
    """One pass over ``frames`` frames that attend to ``seen``, themselves included; text apart."""
    m, per_frame = preset.model, tokens_of(preset)
    d, tokens, cells = m.dim, frames * per_frame, preset.latent_shape[0] * m.patch**2
    blocks = m.layers * tokens * 2 * (6 * d * d + 2 * d * m.ffn_dim)
    ends = tokens * 2 * 2 * d * cells  # patches in, patches out
    time = frames * 2 * (m.freq_dim * d + 7 * d * d)
    attention = m.layers * 4 * tokens * d * (seen * per_frame + preset.text.length)
    return Work(blocks + ends + time, attention, m.layers)


def text(preset: Preset) -> Work:
    """Text rows embedded, and each block's keys and values of them: once a clip."""
    d, rows = preset.model.dim, preset.text.length
    embedded = 2 * rows * (preset.text.dim * d + d * d)
    return Work(embedded + preset.model.layers * rows * 2 * 2 * d * d)


def whole(preset: Preset, frames: int) -> Work:
    """One pass over all frames at once, each attending to all; its text included.

    A mask saves nothing: what is masked is computed too.
    """
    return forward(preset, frames, frames) + text(preset)


def kept(preset: Preset, frames: int, recompute: bool) -> float:
    """Bytes that a pass over ``frames`` frames keeps for its backward pass.

    Of every token and layer; the widths are what autograd saves in a block of ours, measured. With
    recomputation only each block's input.
    """
    m, tokens = preset.model, frames * tokens_of(preset)
    if recompute:
        return FP32 * m.layers * tokens * m.dim
    return m.layers * block_kept(preset, frames)


def block_kept(preset: Preset, frames: int) -> float:
    """The same of one block, without recomputation."""
    m, tokens = preset.model, frames * tokens_of(preset)
    wide, inner = (83, 6) if preset.engine.precision == "bf16" else (92, 8)
    return tokens * (wide * m.dim + inner * m.ffn_dim)


def cache_bytes(preset: Preset, frames: int) -> float:
    """Keys and values of so many frames."""
    each = 2 if preset.engine.precision == "bf16" else FP32
    return 2 * each * preset.model.layers * frames * tokens_of(preset) * preset.model.dim


# --- the discriminator's heads --------------------------------------------------------------------


def judged(preset: Preset, gan: GanConfig) -> int:
    """How many blocks a discriminator looks at."""
    return len(gan.blocks) or min(3, max(1, preset.model.layers // 2))


def head_parameters(preset: Preset, gan: GanConfig) -> int:
    """Of the registers, what each does, and the verdict."""
    d, count = preset.model.dim, judged(preset, gan)
    look = 2 * d + 2 * d + (4 * (d * d + d) + 2 * d) + (d * 4 * d + 4 * d) + (4 * d * d + d)
    return count * (d + look) + 2 * count * d + (count * d * d + d) + (d + 1)


def look(preset: Preset, gan: GanConfig, frames: int) -> Work:
    """What the heads cost beside a pass: keys and values of all tokens, for one query."""
    d, tokens = preset.model.dim, frames * tokens_of(preset)
    return Work(4 * tokens * d * d, 4 * tokens * d, 1) * judged(preset, gan)


# --- the codec ------------------------------------------------------------------------------------


def _convolutions(config: CodecConfig) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel side, stride at its output) of every one, as ``codec.py`` builds them."""
    w, c = config.width, config.channels

    def residual(width: int, stride: int, times: int = 1) -> list[tuple[int, int, int, int]]:
        return [(width, width, 3, stride)] * (2 * times)

    encoder = [(3, w, 3, 2), *residual(w, 2), (w, 2 * w, 3, 4), *residual(2 * w, 4)]
    encoder += [(2 * w, 4 * w, 3, 8), *residual(4 * w, 8), (4 * w, c, 1, 8)]
    decoder = [(c, 4 * w, 3, 8), *residual(4 * w, 8, 2), (4 * w, 8 * w, 3, 8), *residual(2 * w, 4)]
    decoder += [(2 * w, 4 * w, 3, 4), *residual(w, 2), (w, 12, 3, 2)]
    return encoder + decoder


def codec_parameters(config: CodecConfig) -> int:
    """Of both halves of a learned codec."""
    return sum(i * o * k * k + o for i, o, k, _ in _convolutions(config))


def codec_forward(preset: Preset) -> Work:
    """A frame, encoded and decoded."""
    height, width = preset.data.shape
    macs = [i * o * k * k * height * width / s**2 for i, o, k, s in _convolutions(preset.codec)]
    return Work(2 * sum(macs), 0, len(macs) / 10)  # a convolution is a tenth of a block to launch


def codec_kept(preset: Preset) -> float:
    """Bytes a frame's backward pass needs: inputs and activations of every convolution."""
    height, width = preset.data.shape
    values = [2 * (i + o) * height * width / s**2 for i, o, _, s in _convolutions(preset.codec)]
    return FP32 * sum(values)
