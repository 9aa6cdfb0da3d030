"""Calls of a network recorded once and played again: a step of a stream as one CUDA graph.

A graph computes with the addresses that it was recorded with. So what differs from call to call is
copied into tensors of its own first, and caches stay where they are (``slots.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Play = Callable[[], Tensor]
Heard = Sequence[tuple[Tensor, ...]]


Run = Callable[[Tensor, Tensor, Tensor, Heard, Any], Tensor]
"""Of x, turns, levels, what is heard and a cache (:meth:`.engine.Engine.run`)."""


class Recorded:
    """Calls of one shape upon one set of buffers, a recording for each place in the cache."""

    def __init__(self, run: Run, record: Callable[[Play], Play]) -> None:
        """``record``: returns what does the same again."""
        self._run, self._record = run, record
        self._given: list[Tensor] = []
        self._heard: list[tuple[Tensor, ...]] = []
        self._source: object = None  # what was heard last
        self._plays: dict[int, Play] = {}

    def __call__(
        self, x: Tensor, turns: Tensor, levels: Tensor, heard: Heard, cache: Any, source: object
    ) -> Tensor:
        """``source``: the text; while it is the same object, what is heard of it is not copied."""
        given = [x, turns, levels]
        with torch.inference_mode(False), torch.no_grad():
            if not self._given:
                self._given = [torch.empty_like(tensor) for tensor in given]
                self._heard = [tuple(torch.empty_like(t) for t in pair) for pair in heard]
        _copy(self._given, given)
        if source is not self._source:
            for own, pair in zip(self._heard, heard, strict=True):
                _copy(own, pair)
            self._source = source
        place = len(cache.frames)
        if place not in self._plays:
            x, turns, levels = self._given
            self._plays[place] = self._record(
                lambda: self._run(x, turns, levels, self._heard, cache)
            )
        return self._plays[place]().clone()  # the next play writes where this one wrote


def _copy(there: Sequence[Tensor], here: Sequence[Tensor]) -> None:
    for own, new in zip(there, here, strict=True):
        own.copy_(new)


def cuda_graph(run: Play) -> Play:
    """Record what ``run`` does on the GPU; it runs twice before, so that all is compiled."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # not annotated
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool()):
        made = run()

    def play() -> Tensor:
        graph.replay()
        return made

    return play


_shared: list[Any] = []


def _pool() -> Any:
    """Memory of what is in between, shared: recordings are played one at a time."""
    if not _shared:
        _shared.append(torch.cuda.graph_pool_handle())
    return _shared[0]
