"""The example of a model in another process: every arm, its context, a switched prompt, spans."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench import registry
from sfbench.arms import Played, play
from sfbench.clock import Timed
from sfbench.models import resolve
from sfbench.program_child import ProgramError
from sfbench.programs import ProgramModel
from sfbench.schema import Geometry, Prompt

import fakes
from program_fixtures import EXAMPLE, REQUEST, TASK


def test_the_example_by_name_in_every_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILTINS["models"], "cmd", "sfbench.programs:ProgramModel")
    model = resolve(f"cmd:{EXAMPLE}")
    assert isinstance(model, ProgramModel)
    assert model.card.name == "moving-gradient" and model.card.accepts_context
    for request in TASK.requests(model.card):
        (answer,) = play(model, [request], TASK.truth)
        assert isinstance(answer, Played), answer
        assert answer.frames.shape == (8, fakes.HEIGHT, fakes.WIDTH, 3)
        if request.arm in ("free", "streamed"):
            assert [frames for frames, _ in answer.timing.chunks] == [4, 4]
    model.close()


def test_the_example_goes_on_from_its_context() -> None:
    model = ProgramModel(EXAMPLE)
    context = TASK.truth(fakes.scene(3), 5)
    request = TASK.requests(model.card)[0]
    first = next(model.generate(request, context))[0].astype(float)
    assert np.abs(first - np.roll(context[-1], 1, axis=1)).mean() < 6
    with pytest.raises(ProgramError, match=r"The context is uint8 \[5, 4, 17, 3\]; it must be"):
        next(model.generate(request, context[:, :4]))
    model.close()


def test_a_large_context_and_a_large_chunk_pass() -> None:
    model = ProgramModel(EXAMPLE)
    shape = Geometry(frames=4, height=400, width=300, fps=8)
    context = np.random.default_rng(0).integers(0, 256, (9, 400, 300, 3), dtype=np.uint8)
    (chunk,) = model.generate(REQUEST.model_copy(update={"geometry": shape}), context)
    assert np.abs(chunk[0].astype(float) - np.roll(context[-1], 1, axis=1)).mean() < 6
    model.close()


def test_a_switched_prompt_shows_in_the_chunk_that_send_returns() -> None:
    model = ProgramModel(EXAMPLE)
    request = REQUEST.model_copy(update={"geometry": Geometry(frames=12, height=8, width=6, fps=8)})
    plain = list(model.generate(request))
    stream = model.generate(request)
    assert np.array_equal(next(stream), plain[0])
    assert not np.array_equal(stream.send(Prompt(id="q", text="blue")), plain[1])
    assert not np.array_equal(next(stream), plain[2])  # and it stays
    with pytest.raises(StopIteration):
        next(stream)
    assert np.array_equal(next(model.generate(request)), plain[0])  # nothing is left of it
    model.close()


def test_spans_are_timed_on_our_clock() -> None:
    model = ProgramModel(EXAMPLE)
    chunks = Timed(lambda: model.generate(REQUEST), split=True)
    assert len(list(chunks)) == 1
    assert set(chunks.spans[0]) == {"denoise"}
    assert 0 < chunks.spans[0]["denoise"] < chunks.seconds[0]
    model.close()
