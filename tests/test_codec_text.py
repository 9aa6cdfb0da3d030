"""The codec's axes and losses, and the text encoder's vocabulary."""

import numpy as np
import pytest
import torch

from sfbench.reference.codec import AutoEncoder, reconstruction_loss, to_frames, to_video
from sfbench.reference.config import CodecConfig, TextConfig
from sfbench.reference.text import VOCABULARY, VocabularyEncoder
from sfbench.tasks import shapes


def test_pixels_round_trip_exactly() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 9, 3), dtype=np.uint8)
    video = to_video(frames)
    assert video.shape == (2, 3, 3, 8, 9) and video.min() >= -1 and video.max() <= 1
    assert np.array_equal(to_frames(video), frames)
    assert to_frames(torch.full((1, 3, 2, 2), 7.0)).max() == 255


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_codec_strides_by_eight_frame_by_frame(size: int) -> None:
    codec = AutoEncoder(CodecConfig(width=8)).eval()
    video = torch.rand(1, 3, 3, size, size) * 2 - 1
    latents = codec.encode(video)
    assert latents.shape == (1, 3, 8, size // 8, size // 8)
    assert codec.decode(latents).shape == video.shape
    later = video.clone()
    later[:, 2] *= -1
    assert torch.equal(codec.encode(later)[:, :2], latents[:, :2])


def test_the_decoder_phase_leaves_the_encoder_alone() -> None:
    config = CodecConfig(width=8)
    video, noise = torch.rand(4, 1, 3, 16, 16) * 2 - 1, torch.randn(4, 1, 8, 2, 2)
    for alone in (False, True):
        codec = AutoEncoder(config)
        reconstruction_loss(codec, video, noise, config, alone).backward()
        assert (codec.encoder[0].weight.grad is None) == alone
        assert codec.decoder[0].weight.grad is not None


def test_training_latents_are_standardised() -> None:
    codec = AutoEncoder(CodecConfig(width=8)).train()
    latents = codec.encode(torch.rand(16, 1, 3, 32, 32) * 2 - 1)
    latents = latents.detach()
    assert latents.mean().abs() < 1e-5 and abs(float(latents.std()) - 1) < 0.05


def test_every_word_of_the_world_is_known() -> None:
    words = {
        w
        for level in shapes.LEVELS
        for i in range(200)
        for w in shapes.prompt(shapes.sample_scene(level, "train", i)).split()
    }
    assert words == set(VOCABULARY)


def test_prompts_differ_by_word_and_by_place() -> None:
    encode = VocabularyEncoder(TextConfig())
    rows = encode(["a red disc", "a disc red", "a blue disc", ""])
    assert rows.shape == (4, 12, 64)
    assert not torch.allclose(rows[0], rows[1]) and not torch.allclose(rows[0], rows[2])
    assert not rows[3].any() and not rows[0, 3:].any()
    assert torch.equal(encode(["A red, disc"])[0], rows[0])


def test_unknown_words_and_long_prompts_are_refused() -> None:
    encode = VocabularyEncoder(TextConfig(length=3))
    with pytest.raises(ValueError, match="'horse'"):
        encode(["a horse"])
    with pytest.raises(ValueError, match="4 words; this model takes 3"):
        encode(["a red disc moving"])
