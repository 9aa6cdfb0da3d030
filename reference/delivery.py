"""From latents to frames on the host, beside the work on the next chunk.

A GPU decodes a chunk on a stream of its own while the network already makes the one after. Nothing
here waits before :data:`Ready` is called.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .codec import to_pixels

Ready = Callable[[], NDArray[np.uint8]]
"""Frames ``uint8 [B, T, H, W, 3]``; waits until they are there."""


class Delivery:
    """Of one stream of chunks."""

    def __init__(self, device: torch.device) -> None:
        self._own: torch.cuda.Stream | None = None
        if device.type == "cuda":
            # Before the next chunk's work: somebody waits for these frames.
            self._own = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]  # not annotated

    def begin(
        self,
        latents: Tensor,
        decode: Callable[[Tensor], Tensor] | None,
        size: tuple[int, int],
        count: int,
    ) -> Ready:
        """Decode ``[B, F, C, h, w]``, and bring the first ``count`` frames to the host.

        Without ``decode`` frames of this height and width are black, and are there when the latents
        are made.
        """
        if self._own:
            self._own.wait_stream(torch.cuda.current_stream(latents.device))
            # Their memory must not be given away before they are read.
            latents.record_stream(self._own)
        with torch.cuda.stream(self._own) if self._own else nullcontext():
            if decode:
                made = to_pixels(decode(latents)[:, :count])
                host = torch.empty(made.shape, dtype=made.dtype, pin_memory=made.is_cuda)
                host.copy_(made, non_blocking=True)
                frames: NDArray[np.uint8] = host.numpy()
            else:
                frames = np.zeros((len(latents), count, *size, 3), np.uint8)
            arrived = self._own.record_event() if self._own else None

        def ready() -> NDArray[np.uint8]:
            if arrived:
                arrived.synchronize()
            return frames

        return ready
