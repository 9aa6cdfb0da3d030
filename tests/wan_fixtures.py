"""Small random Wan models, made with diffusers' and transformers' own classes: every parameter
matters, and sides and widths differ, so that none can be taken for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("diffusers")

SIZE = (64, 48)
"""Pixels; 8 x 6 latents, 4 x 3 tokens of a frame."""
CHANNELS, TEXT = 6, 10


def shaken(module: Any, seed: int = 0) -> Any:
    """Random everywhere; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            nn.init.normal_(parameter, std=0.15, generator=generator)
            if ("norm" in name and name.endswith("weight")) or name.endswith("gamma"):
                parameter += 1
    return module.eval()


def transformer(**changes: Any) -> Any:
    """A bidirectional Wan of two layers, three heads of 20."""
    from diffusers import WanTransformer3DModel

    sizes: dict[str, Any] = dict(
        patch_size=(1, 2, 2),
        num_attention_heads=3,
        attention_head_dim=20,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=TEXT,
        freq_dim=32,
        ffn_dim=44,
        num_layers=2,
        rope_max_seq_len=64,
    )
    return shaken(WanTransformer3DModel(**(sizes | changes)))


def vae(**changes: Any) -> Any:
    """Wan's VAE, four channels to begin with."""
    from diffusers import AutoencoderKLWan

    sizes: dict[str, Any] = dict(
        base_dim=4,
        z_dim=CHANNELS,
        latents_mean=[0.1 * n for n in range(CHANNELS)],
        latents_std=[1 + 0.2 * n for n in range(CHANNELS)],
    )
    return shaken(AutoencoderKLWan(**(sizes | changes)))


WORDS = "a the red blue disc square moves slowly on dark light"


def text_encoder() -> Any:
    """UMT5 of two layers, with the words of :func:`tokenizer`."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=len(WORDS.split()) + 3, d_model=TEXT, d_kv=6, d_ff=14, num_layers=2, num_heads=3
    )
    return shaken(UMT5EncoderModel(config))


def tokenizer() -> Any:
    """Whole words, and an end of text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: n for n, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS.split()])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def pipeline(path: Path) -> Path:
    """A folder in diffusers' format: a transformer, a VAE, a text encoder and its tokenizer."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    kind: Any = WanPipeline
    scheduler: Any = FlowMatchEulerDiscreteScheduler
    kind(
        transformer=transformer(),
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        scheduler=scheduler(shift=3.0),
    ).save_pretrained(path)
    return path
