"""Wan as a stream is Wan: against diffusers' network, masked, and with a cache of roped keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as nnf
from torch import Tensor

from sfbench.reference.config import CodecConfig, DataConfig, Preset, SamplerConfig, TextConfig
from sfbench.reference.masks import block_causal
from sfbench.reference.model import DiT
from sfbench.reference.rollout import rollout
from sfbench.reference.schedule import Schedule
from sfbench.reference.wan_weights import official, sizes

from reference_fixtures import keyed_noise
from wan_fixtures import CHANNELS, SIZE, TEXT, transformer

TOKENS = (SIZE[0] // 16) * (SIZE[1] // 16)
FRAMES = 12


class Processor:
    """Attention of diffusers' blocks, written anew: under a mask, or over a cache of roped keys."""

    def __init__(self) -> None:
        self.mask: Tensor | None = None
        self.past: tuple[Tensor, Tensor] | None = None
        self.newest: tuple[Tensor, Tensor] | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(source))
        q, k, v = (x.unflatten(2, (attn.heads, -1)) for x in (q, k, attn.to_v(source)))
        if rotary_emb is not None:
            cos, sin = (table.to(q)[..., 0::2] for table in (rotary_emb[0], rotary_emb[1]))
            q, k = roped(q, cos, sin), roped(k, cos, sin)
            self.newest = k, v
            if self.past:
                k, v = torch.cat((self.past[0], k), 1), torch.cat((self.past[1], v), 1)
        mask = self.mask if rotary_emb is not None else None
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out = nnf.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return attended


def roped(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Theirs:
    """Diffusers' network with those processors."""

    def __init__(self) -> None:
        self.net = transformer()
        self.processors = [Processor() for _ in self.net.blocks]
        for block, processor in zip(self.net.blocks, self.processors, strict=True):
            block.attn1.set_processor(processor)
            block.attn2.set_processor(Processor())
        self.whole = self.net.rope.forward

    def x0(self, x: Tensor, sigma: Tensor, text: Tensor, start: int = 0) -> Tensor:
        """Of frames ``[B, F, C, h, w]`` at absolute frames ``start ..``, each at its level."""
        stop = start + x.shape[1]

        def rope(hidden: Tensor) -> tuple[Tensor, Tensor]:
            longer = hidden.new_zeros(*hidden.shape[:2], stop, *hidden.shape[3:])
            cos, sin = self.whole(longer)
            return cos[:, start * TOKENS :], sin[:, start * TOKENS :]

        self.net.rope.forward = rope
        levels = (1000 * sigma).repeat_interleave(TOKENS, dim=1)
        v = self.net(x.movedim(1, 2), levels, text).sample.movedim(1, 2)
        out: Tensor = x - sigma[..., None, None, None] * v
        return out


def ours(theirs: Any, **how: Any) -> DiT:
    state = theirs.state_dict()
    named = {name: state[given] for given, name in official(list(state)).items()}
    read = sizes({k: tuple(v.shape) for k, v in named.items()}, theirs.config, "test")
    preset = Preset(
        name="wan",
        data=DataConfig(size=SIZE),
        codec=CodecConfig(kind="wan", channels=read.channels),
        text=TextConfig(kind="umt5", length=7, dim=read.text_dim),
        model=read.model(**how),
    )
    net = DiT(preset)
    net.load_state_dict(named)
    return net.eval()


def given() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, FRAMES, CHANNELS, SIZE[0] // 8, SIZE[1] // 8, generator=generator)
    sigma = torch.rand(2, FRAMES, generator=generator).clamp(0.05)
    return x, sigma, torch.randn(2, 7, TEXT, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize(
    "policy",
    [
        dict(frames_per_chunk=3, window=0),
        dict(frames_per_chunk=3, window=6),
        dict(frames_per_chunk=1, window=5),
        dict(frames_per_chunk=2, window=4, sink=2, positions="absolute"),
    ],
    ids=str,
)
def test_chunks_through_the_cache_are_one_masked_pass_of_diffusers(policy: dict[str, Any]) -> None:
    theirs, (x, sigma, text) = Theirs(), given()
    net, n = ours(theirs.net, **policy), policy["frames_per_chunk"]
    seen = block_causal(FRAMES, n, policy["window"], policy.get("sink", 0))
    mask = seen.repeat_interleave(TOKENS, 0).repeat_interleave(TOKENS, 1)
    for processor in theirs.processors:
        processor.mask = mask
    whole, cache = theirs.x0(x, sigma, text), net.new_cache(capacity=FRAMES)
    parts = []
    for i in range(0, FRAMES, n):
        part, at = slice(i, i + n), range(i, i + n)
        parts.append(net(x[:, part], sigma[:, part], text, positions=at, cache=cache, write=True))
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-4)


CHUNK, WINDOW, SINK = 2, 4, 2


def released(theirs: Theirs, text: Tensor, noise: Any, few: Schedule) -> Tensor:
    """A rollout as the released checkpoints do it: keys keep the rotation of their absolute frame,
    the first frames stay, and of the others the oldest are dropped."""
    made, first, last = [], SINK * TOKENS, (WINDOW - CHUNK) * TOKENS
    for start in range(0, FRAMES, CHUNK):
        index = range(start, start + CHUNK)
        x = noise(index, 0)
        for step, level in enumerate(few.sigmas):
            x0 = theirs.x0(x, x.new_full(x.shape[:2], level), text, start)
            if step + 1 < len(few):
                after = few.sigmas[step + 1]
                x = (1 - after) * x0 + after * noise(index, step + 1)
        theirs.x0(x0, x.new_zeros(x.shape[:2]), text, start)  # the clean pass, which is kept
        for processor in theirs.processors:
            assert processor.newest is not None
            k, v = processor.newest
            if processor.past:
                k, v = torch.cat((processor.past[0], k), 1), torch.cat((processor.past[1], v), 1)
            if k.shape[1] > first + last:
                k, v = (torch.cat((t[:, :first], t[:, -last:]), 1) for t in (k, v))
            processor.past = k, v
        made.append(x0)
    return torch.cat(made, 1)


@torch.no_grad()
def test_absolute_positions_are_those_of_the_released_checkpoints() -> None:
    theirs, text = Theirs(), given()[2]
    few = Schedule.of(SamplerConfig(kind="renoise", shift=5.0))

    def rolled(positions: str) -> Tensor:
        policy = dict(frames_per_chunk=CHUNK, window=WINDOW, sink=SINK, positions=positions)
        return torch.cat([*rollout(ours(theirs.net, **policy), text, noise, few, frames=FRAMES)], 1)

    drawn = keyed_noise(ours(theirs.net), 2)

    def noise(frames: Any, step: int) -> Tensor:
        return drawn(frames, step).float()

    absolute, expected = rolled("absolute"), released(theirs, text, noise, few)
    torch.testing.assert_close(absolute, expected, rtol=0, atol=2e-4)
    # Nothing has been evicted before the fourth chunk; from there on a sink's distance differs.
    relative, same = rolled("relative"), SINK + WINDOW
    torch.testing.assert_close(relative[:, :same], expected[:, :same], rtol=0, atol=2e-4)
    assert float((relative - expected)[:, same:].abs().max()) > 1e-2


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [4, 30])
def test_steps_of_the_flow_are_those_of_diffusers_scheduler(steps: int) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    ours = Schedule.of(SamplerConfig(kind="euler", steps=steps, shift=5.0))
    theirs: Any = FlowMatchEulerDiscreteScheduler(shift=5.0)
    theirs.set_timesteps(sigmas=[1 - i / steps for i in range(steps)])
    torch.testing.assert_close(torch.tensor([*ours.sigmas, 0.0]), theirs.sigmas, rtol=0, atol=1e-6)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 3, 4, 4, generator=generator)
    v = torch.randn(x.shape, generator=generator)
    for step, t in enumerate(theirs.timesteps[:-1]):
        x0 = x - ours.sigmas[step] * v
        expected = theirs.step(v, t, x).prev_sample
        torch.testing.assert_close(ours.advance(x, x0, step, x), expected, rtol=0, atol=1e-5)
        x = expected
