"""Text encoders: a protocol, and two that need no weights: a small vocabulary, and any words.

L text rows, D text width. Rows after the end of the text are zero, and the DiT attends to them too
(as Wan's does), so the padding length is part of a model.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from .config import ConfigError, TextConfig

# fmt: off
VOCABULARY = (
    "a", "and", "over", "background", "moving",
    "disc", "square", "triangle",
    "red", "yellow", "green", "blue",
    "dark", "grey", "light",
    "slowly", "quickly", "horizontally", "vertically", "diagonally",
)
# fmt: on


UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])")  # kana and ideographs


class TextEncoder(Protocol):
    """Turns prompts into rows of features."""

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """``[B, L, D]``; the empty prompt is the unconditional one."""
        ...


class VocabularyEncoder:
    """A fixed random unit vector for each word and each place; nothing is learned, so all models of
    a preset share one encoder, as all of Wan share UMT5."""

    def __init__(self, config: TextConfig) -> None:
        generator = torch.Generator().manual_seed(20250608)
        table = torch.randn(len(VOCABULARY) + config.length, config.dim, generator=generator)
        table = table / table.norm(dim=1, keepdim=True) * config.dim**0.5
        self.length = config.length
        self.words = {word: table[i] for i, word in enumerate(VOCABULARY)}
        self.places = table[len(VOCABULARY) :]

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """``[B, L, D]``; refuses a word or a length that is not known."""
        return torch.stack([self._encode(prompt) for prompt in prompts])

    def _encode(self, prompt: str) -> Tensor:
        words = re.findall(r"[a-z]+", prompt.lower())
        unknown = [word for word in words if word not in self.words]
        if unknown:
            raise ConfigError(
                f"the word '{unknown[0]}' of '{prompt}' is not in this model's vocabulary "
                f"({', '.join(VOCABULARY)})"
            )
        if len(words) > self.length:
            raise ConfigError(
                f"'{prompt}' has {len(words)} words; this model takes {self.length} (text.length)"
            )
        rows = torch.zeros_like(self.places)
        for place, word in enumerate(words):
            rows[place] = (self.words[word] + self.places[place]) / 2**0.5
        return rows


class WordEncoder:
    """Any words: a fixed random unit vector for each, a pure function of the word, and one for each
    place. Nothing is learned or looked up, so words that mean the same are as far apart as others.

    A text that is longer than the model's is cut (:func:`too_long`).
    """

    def __init__(self, config: TextConfig) -> None:
        self.length, self.dim = config.length, config.dim
        self.places = torch.stack([_vector(f"place {n}", self.dim) for n in range(self.length)])

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """``[B, L, D]``."""
        return torch.stack([self._encode(prompt) for prompt in prompts])

    def _encode(self, prompt: str) -> Tensor:
        rows = torch.zeros_like(self.places)
        for place, word in enumerate(words_of(prompt)[: self.length]):
            rows[place] = (_vector(f"word {word}", self.dim) + self.places[place]) / 2**0.5
        return rows


def words_of(text: str) -> list[str]:
    """The words of any language, without case or punctuation; an ideograph is a word."""
    text = unicodedata.normalize("NFKC", UNSPACED.sub(r" \1 ", text)).casefold()
    # Letters, marks and digits: a vowel of many scripts is a mark on its consonant.
    return "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text).split()


@lru_cache(maxsize=2**16)
def _vector(key: str, dim: int) -> Tensor:
    """As long as an entry of the vocabulary's table: the root of ``dim``."""
    seed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1
    # The processor's own generator, wherever new tensors are made by default.
    generator = torch.Generator("cpu").manual_seed(seed)
    drawn = torch.randn(dim, generator=generator, device="cpu")
    unit: Tensor = drawn / drawn.norm()
    scaled: Tensor = unit * dim**0.5
    return scaled


ENCODERS: dict[str, Callable[[TextConfig], TextEncoder]] = {
    "vocabulary": VocabularyEncoder,
    "words": WordEncoder,
}


def text_encoder(config: TextConfig) -> TextEncoder:
    """The encoder that a preset names."""
    if config.kind not in ENCODERS:
        raise ConfigError(
            f"text.kind '{config.kind}' is Wan's own encoder, whose weights are given and not made "
            f"here; use {' or '.join(ENCODERS)}."
        )
    return ENCODERS[config.kind](config)


def too_long(captions: Sequence[str], config: TextConfig) -> str:
    """One sentence on the captions that will be cut; empty if there are none."""
    if config.kind != "words":
        return ""
    counts = [len(words_of(caption)) for caption in captions]
    cut = [count for count in counts if count > config.length]
    if not cut:
        return ""
    return (
        f"{len(cut)} of {len(counts)} captions are cut to their first {config.length} words "
        f"(the longest has {max(cut)}); a larger text.length keeps more"
    )
