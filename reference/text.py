"""Text encoders: a protocol, and one for a small vocabulary that needs no weights.

L text rows, D text width. Rows after the end of the text are zero, and the DiT attends to them too
(as Wan's does), so the padding length is part of a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .config import TextConfig

# fmt: off
VOCABULARY = (
    "a", "and", "over", "background", "moving",
    "disc", "square", "triangle",
    "red", "yellow", "green", "blue",
    "dark", "grey", "light",
    "slowly", "quickly", "horizontally", "vertically", "diagonally",
)
# fmt: on


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
        """``[B, L, D]``. Raises ``ValueError`` for a word or a length that is not known."""
        return torch.stack([self._encode(prompt) for prompt in prompts])

    def _encode(self, prompt: str) -> Tensor:
        words = re.findall(r"[a-z]+", prompt.lower())
        unknown = [word for word in words if word not in self.words]
        if unknown:
            raise ValueError(
                f"the word '{unknown[0]}' of '{prompt}' is not in this model's vocabulary "
                f"({', '.join(VOCABULARY)})"
            )
        if len(words) > self.length:
            raise ValueError(f"'{prompt}' has {len(words)} words; this model takes {self.length}")
        rows = torch.zeros_like(self.places)
        for place, word in enumerate(words):
            rows[place] = (self.words[word] + self.places[place]) / 2**0.5
        return rows
