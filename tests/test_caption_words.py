"""Captions of one's own, word by word: any language, a vector each, and what is cut."""

from __future__ import annotations

import pytest
import torch

from sfbench.reference.config import ConfigError, TextConfig
from sfbench.reference.text import text_encoder, too_long, words_of

LONG = "Ein Käfer krabbelt über das Blatt, von links nach rechts, und ist schnell"


def test_any_word_has_a_vector_of_its_own() -> None:
    config = TextConfig(kind="words", length=6, dim=64)
    encode = text_encoder(config)
    rows = encode(["a zyzzyva, asleep", "A ZYZZYVA asleep!", "asleep a zyzzyva", ""])
    assert rows.shape == (4, 6, 64)
    assert torch.equal(rows[0], rows[1]) and not torch.allclose(rows[0], rows[2])
    assert not rows[3].any() and not rows[0, 3:].any()
    again = text_encoder(TextConfig(kind="words", length=9, dim=64))(["a zyzzyva, asleep"])
    assert torch.equal(again[0, :6], rows[0])  # of the word and the place alone
    norms = rows[0, :3].norm(dim=1)
    assert (norms - 8).abs().max() < 1.5
    many = encode([f"word{n}" for n in range(200)])[:, 0]
    alike = torch.corrcoef(many - many.mean(0)) - torch.eye(200)
    assert alike.abs().max() < 0.6


def test_what_needs_weights_is_said_to_be_missing() -> None:
    with pytest.raises(ConfigError, match=r"'umt5' is Wan's own encoder.* use vocabulary or"):
        text_encoder(TextConfig(kind="umt5"))


def test_words_of_any_language() -> None:
    assert words_of("The dog's RED_ball -- twice!") == ["the", "dog", "s", "red", "ball", "twice"]
    assert words_of("Ein Käfer, STRASSE") == ["ein", "käfer", "strasse"]
    assert words_of("किताब पढ़ना") == ["किताब", "पढ़ना"]
    assert words_of("猫が走る") == ["猫", "が", "走", "る"]


def test_a_long_caption_is_cut_and_that_is_said() -> None:
    config = TextConfig(kind="words", length=6, dim=16)
    encode = text_encoder(config)
    assert torch.equal(encode([LONG])[0], encode(["Ein Käfer krabbelt über das Blatt"])[0])
    assert too_long([LONG, "short"], config).startswith("1 of 2 captions are cut to their first 6")
    assert too_long(["short"], config) == too_long([LONG], TextConfig()) == ""
