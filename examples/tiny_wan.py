"""Make a tiny text-to-video pipeline to try the diffusers adapter with: no download, no training.

    python examples/tiny_wan.py tiny-wan
    sfbench run --model "diffusers:tiny-wan?steps=2&frames=13" --tier smoke

It has every part of Wan 2.1 (UMT5 text encoder, flow-matching transformer, causal video VAE) at a
size of a few hundred thousand random weights, so it shows noise, in a second or two. The folder is
an ordinary diffusers pipeline; a real one is used the same way. Needs `sfbench[diffusers]`.
"""

import sys
from pathlib import Path

WORDS = "a an the red yellow green blue disc square triangle moves slowly quickly on dark light"
TEXT_WIDTH = 16
LATENT_CHANNELS = 4


def main(folder):
    """Build the pipeline and save it into ``folder``."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    torch.manual_seed(0)  # the same weights every time
    tokens = tokenizer()
    pipeline = WanPipeline(
        tokenizer=tokens,
        text_encoder=text_encoder(len(tokens)),
        transformer=transformer(),
        vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipeline.save_pretrained(folder)


def tokenizer():
    """A tokenizer of whole words; what it does not know is <unk>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *WORDS.split()]
    vocabulary = {word: number for number, word in enumerate(words)}
    model = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    model.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def text_encoder(vocabulary):
    """UMT5, one layer."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=vocabulary, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return UMT5EncoderModel(config).eval()


def transformer():
    """The denoiser, two blocks; patches are 2x2 latents."""
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=32,
        ffn_dim=48,
        num_layers=2,
        rope_max_seq_len=64,
    )


def vae():
    """The codec: a latent is 8x8 pixels and, after the first frame, 4 frames."""
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=4,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/tiny_wan.py FOLDER")
    main(Path(sys.argv[1]))
