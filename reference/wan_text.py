"""Wan's text encoder, UMT5 through transformers: rows of a prompt, zeros after its end.

L rows (512 for all published weights, which attend to the zero rows too), D their width.
"""

from __future__ import annotations

import html
from collections import OrderedDict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as nnf
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

KEPT = 256
"""Prompts whose rows are kept: some hundred kilobytes each at full size."""


class UMT5:
    """Prompts to ``[B, L, D]``, in single precision, on the CPU; each prompt is encoded once.

    The encoder, four times as large as the 1.3B generator, computes on ``device`` and goes back to
    the CPU's memory after each use, where it does not take the generator's room.
    """

    def __init__(
        self, encoder: Any, tokenizer: Any, length: int, device: str | torch.device = "cpu"
    ) -> None:
        """``encoder``: a ``UMT5EncoderModel`` in evaluation mode; ``tokenizer``: its own."""
        self.encoder, self.tokenizer = encoder, tokenizer
        self.length, self.device = length, torch.device(device)
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """``[B, L, D]``; a longer prompt is cut, its last row being the end of text."""
        texts = [clean(prompt) for prompt in prompts]
        self._encode(sorted({text for text in texts if text not in self._kept}))
        rows = []
        for text in texts:
            self._kept.move_to_end(text)
            found = self._kept[text]
            rows.append(nnf.pad(found, (0, 0, 0, self.length - len(found))))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return torch.stack(rows)

    @torch.inference_mode(False)  # rows that are kept may be used in training
    @torch.no_grad()
    def _encode(self, texts: list[str]) -> None:
        """Keep the rows of texts."""
        if not texts:
            return
        self.encoder.to(self.device)
        self._kept |= dict(zip(texts, self.rows(texts), strict=True))
        self.encoder.to("cpu")

    def rows(self, texts: list[str]) -> list[Tensor]:
        """``[n, D]`` of each clean text, n up to L, without rows of padding; on the CPU.

        The encoder must be on ``device``.
        """
        given = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.length, return_tensors="pt"
        )
        ids, mask = given.input_ids.to(self.device), given.attention_mask.to(self.device)
        out = self.encoder(ids, mask).last_hidden_state.float().cpu()
        return [row[:n].clone() for row, n in zip(out, mask.sum(1).tolist(), strict=True)]

    def counts(self, texts: list[str]) -> list[int]:
        """How many rows each clean text has."""
        given = self.tokenizer(texts, truncation=True, max_length=self.length)
        return [len(ids) for ids in given.input_ids]


def random_umt5(length: int) -> UMT5:
    """The encoder at full size, 5.7 billion parameters, with weights that are drawn: for timing."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64
    )
    encoder: Any = UMT5EncoderModel(config)
    return UMT5(encoder.eval().requires_grad_(False), _tokens_of_words, length)


def _tokens_of_words(texts: list[str], *, max_length: int, **_: Any) -> SimpleNamespace:
    """Any number for each word, as a real tokenizer has some; 1 ends a text and 0 fills it up."""
    ids = [[2 + crc32(word.encode()) % 250_000 for word in text.split()] for text in texts]
    ended = [torch.tensor([*row[: max_length - 1], 1]) for row in ids]
    filled = pad_sequence(ended, batch_first=True)
    return SimpleNamespace(input_ids=filled, attention_mask=(filled > 0).long())


def clean(prompt: str) -> str:
    """A prompt as Wan was trained on prompts: mended, unescaped twice, single spaces."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(prompt))).split())
