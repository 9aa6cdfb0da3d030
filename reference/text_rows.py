"""The text of a training pool, encoded once and kept on disk, so that no encoder is needed later.

UMT5 is four times as large as the generator, so it is at hand only while the rows of all prompts
are made. They are kept in bfloat16 and without padding: 512 rows for each of 250,000 prompts would
be a terabyte, and most of them zeros. L rows of a padded text, D their width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .config import TextConfig
from .stored import Part, Progress, stored
from .wan_text import UMT5, clean

AT_ONCE = 32
"""Texts that are encoded together, of about one length."""
TOKENISED = 4096
"""Texts that are counted together."""


class TextRows:
    """A :class:`.text.TextEncoder` for the texts that it was made for; raises ``KeyError``."""

    def __init__(
        self, texts: Sequence[str], rows: NDArray[np.int16], ends: NDArray[np.int64], length: int
    ) -> None:
        """``rows``: ``[N, D]``, bits of bfloat16, of all texts in order; ``ends``: ``[P]``, where
        each text's rows end; ``length``: L."""
        self.rows, self.ends, self.length = rows, ends, length
        self.places = {text: place for place, text in enumerate(texts)}

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """``[B, L, D]``, in single precision; zeros after the end of a text."""
        # On the CPU, wherever new tensors are made by default.
        out = torch.zeros(len(prompts), self.length, self.rows.shape[1], device="cpu")
        for target, prompt in zip(out, prompts, strict=True):
            own = self._own(self.places[prompt])
            target[: len(own)] = torch.from_numpy(own).view(torch.bfloat16)
        return out

    def _own(self, place: int) -> NDArray[np.int16]:
        start = int(self.ends[place - 1]) if place else 0
        return np.array(self.rows[start : int(self.ends[place])])

    @staticmethod
    def open(
        texts: Sequence[str],
        config: TextConfig,
        encoder_hash: str,
        encoder: Callable[[], UMT5],
        folder: Path,
        progress: Progress = lambda done, total: None,
    ) -> TextRows:
        """Encode the texts, or map the files an earlier run left (named by what is in them).

        ``encoder``: loads it, on its device; called only if it is needed.
        """
        told = json.dumps([encoder_hash, config.length, *texts])
        name = f"text-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
        loaded = cache(encoder)
        ends = stored(folder / f"{name}-ends.npy", _counted(texts, loaded), len(texts))
        parts, less = _encoded(texts, ends, loaded), "train on fewer prompts"
        rows = stored(folder / f"{name}.npy", parts, int(ends[-1]), progress, less)
        return TextRows(texts, rows, ends, config.length)


def _counted(texts: Sequence[str], encoder: Callable[[], UMT5]) -> Iterator[Part]:
    """Where each text's rows end: known from its tokens, before any is encoded."""
    end = 0
    for first in range(0, len(texts), TOKENISED):
        counts = encoder().counts([clean(text) for text in texts[first : first + TOKENISED]])
        ends = end + np.cumsum(counts, dtype=np.int64)
        end = int(ends[-1])
        yield slice(first, first + len(ends)), ends


def _encoded(
    texts: Sequence[str], ends: NDArray[Any], encoder: Callable[[], UMT5]
) -> Iterator[Part]:
    """The rows of each text; texts of about one length together, so that little is padded."""
    counts = np.diff(ends, prepend=0)
    order = np.argsort(counts, kind="stable")
    for first in range(0, len(order), AT_ONCE):
        places = order[first : first + AT_ONCE]
        made = encoder().rows([clean(texts[place]) for place in places])
        for place, rows in zip(places, made, strict=True):
            bits = rows.bfloat16().view(torch.int16).numpy()
            yield slice(int(ends[place]) - len(bits), int(ends[place])), bits
