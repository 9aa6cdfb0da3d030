"""Text for Wan is what diffusers' pipeline makes of it at 512 rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfbench.reference import wan_text
from sfbench.reference.wan_text import UMT5

from wan_fixtures import text_encoder, tokenizer, vae

PROMPTS = ["a red disc moves slowly", "", "the  blue &amp;amp;\n square\u00a0on dark", "red " * 600]


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any]:
    return text_encoder(), tokenizer()


@torch.no_grad()
def test_rows_are_those_of_the_pipeline(parts: tuple[Any, Any]) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    encoder, words = parts
    pipeline: Any = WanPipeline(
        tokenizer=words,
        text_encoder=encoder,
        transformer=None,
        vae=vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    expected = pipeline.encode_prompt(
        PROMPTS, do_classifier_free_guidance=False, max_sequence_length=512, device="cpu"
    )[0]
    made = UMT5(encoder, words, 512)(PROMPTS)
    assert made.shape == (4, 512, 10) and not made[0, 6:].any() and made[3].any(dim=1).all()
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_a_prompt_is_encoded_once_and_the_oldest_is_forgotten(
    parts: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, words = parts
    text, seen = UMT5(encoder, words, 8), []
    hook = encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    first = text(["red", "blue", "red"])
    assert torch.equal(first[0], first[2]) and seen == [2]
    assert torch.equal(text(["  red "])[0], first[0]) and seen == [2]  # as it is after cleaning
    monkeypatch.setattr(wan_text, "KEPT", 2)
    text(["dark"])
    text(["red"])  # it was asked for later than blue
    assert seen == [2, 1]
    text(["blue"])
    assert seen == [2, 1, 1]
    hook.remove()
