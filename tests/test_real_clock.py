"""Times of a model that really sleeps, by the real clock: what it slept, and nothing of ours.

All else about latency is shown under a clock that a test moves (``test_latency.py``,
``test_latency_trust.py``).
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sfbench.interfaces import Frames
from sfbench.runner import run
from sfbench.schema import Request, Scores
from sfbench.store import read_records

import fakes

SLEPT = 0.05
MOST = 1.5
"""Of what was slept. Asked of the quickest chunk of each place in a clip alone: a busy machine may
wake a sleeper late, and never early, but does not do so every time; what the harness itself added
would be in all of them."""


class Laborious(fakes.FakeTask):
    """Scoring takes longer than any chunk may."""

    def score(self, request: Request, frames: Frames) -> Scores:
        time.sleep(2 * SLEPT)
        return super().score(request, frames)


def test_a_model_that_sleeps_is_timed_by_its_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", str(SLEPT))
    run(Laborious(), fakes.Slow(), tmp_path)
    timings = [record.timing for record in read_records(tmp_path)]
    chunks = [[seconds for _, seconds in timing.chunks] for timing in timings if timing]
    assert [len(seconds) for seconds in chunks] == [4] * 6
    for place in zip(*chunks, strict=True):
        assert SLEPT <= min(place) <= MOST * SLEPT, place
