"""What Self Forcing is trained on: few-step lists, longer rollouts, changed prompts, images."""

from __future__ import annotations

import pytest
import torch

from sfbench.reference.config import EngineConfig, MethodConfig
from sfbench.reference.objective_fakes import Student, own_past
from sfbench.reference.schedule import Schedule

from objective_fixtures import FEW, as_double, draw
from reference_fixtures import network, replace

# --- few-step lists, longer rollouts, and rollouts from an image ----------------------------------


def student(
    monkeypatch: pytest.MonkeyPatch,
    model: dict | None = None,
    graded: str = "apart",
    **config: object,
) -> Student:
    method = MethodConfig(batch=2, drop_text=0.0, **({"sampler": FEW} | config))
    model = {"window": 8} | (model or {})
    d = as_double(draw(method, **model), monkeypatch)
    d.preset = replace(d.preset, engine=EngineConfig(graded=graded))
    return Student(d, network(0, **model), Schedule.of(FEW))


@pytest.mark.parametrize("few", [(1000.0,), (1000.0, 500.0), (1000.0, 750.0, 500.0, 250.0)])
@pytest.mark.parametrize("exits", ["same", "own", "last"])
def test_a_list_of_any_length_and_every_way_to_leave_it(
    few: tuple[float, ...], exits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = student(monkeypatch, exits=exits)
    s.schedule = Schedule.of(replace(FEW, few=few))
    drawn = [s.exits(step, 23, 6) for step in range(60)]
    last = len(few) - 1
    assert {e for exit in drawn for e in exit} == (
        {last} if exits == "last" else set(range(last + 1))
    )
    assert all(len(set(exit)) == 1 for exit in drawn) == (exits != "own" or not last)
    calls = asked(s)
    clip = own_past(s, s.draw.batch(0, 20), 0, 23)
    made = sum(1 for _, _, grad in calls if grad)
    assert clip.shape[1] == 12 and made == 6
    stops = s.exits(0, 23, 6)
    apart = stops[1:].count(0)  # chunks whose first call has gradient, which no cache pass may have
    assert len(calls) == sum(e + 1 for e in stops) + apart


def asked(student: Student) -> list[tuple[range, torch.Tensor, bool]]:
    """Positions, text and gradient of every call of the generator."""
    calls, forward = [], student.generator.forward

    def spy(x, sigma, text, **how):  # type: ignore[no-untyped-def]
        calls.append((how["positions"], text.rows, torch.is_grad_enabled()))
        return forward(x, sigma, text, **how)

    student.generator.forward = spy
    return calls


def switched(s: Student, step: int) -> tuple[list[tuple[range, torch.Tensor, bool]], int]:
    """A rollout's calls and length; what is scored, and no more, is made under the new prompt."""
    batch, calls = s.draw.batch(0, 20), asked(s)
    own_past(s, replace(batch, text=batch.text + 0.5), step, 23)
    length = max(p[-1] for p, _, _ in calls) + 1
    told = {p[0]: torch.equal(t, batch.text + 0.5) for p, t, _ in calls}
    assert all(new == (first >= length - 12) for first, new in told.items())
    return calls, length


def test_a_longer_rollout_is_scored_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    s = student(monkeypatch, longest=24)
    batch, lengths = s.draw.batch(0, 20), set()
    for step in range(12):
        calls = asked(s)
        clip = own_past(s, batch, step, 23)
        length = max(p[-1] for p, _, _ in calls) + 1
        graded = [p[0] for p, _, grad in calls if grad]
        assert clip.shape[1] == 12 and clip.requires_grad
        assert graded == [*range(length - 12, length, 2)]
        lengths.add(length)
    assert lengths <= {12, 14, 16, 18, 20, 22, 24} and len(lengths) > 3


@pytest.mark.parametrize("image", [False, True])
def test_a_frame_alone_only_delays_a_change_of_prompt(
    image: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chunk in which scoring begins is still under the old prompt, and is not graded."""
    model = dict(first_alone=True, frames_per_chunk=11, window=22)
    s = student(monkeypatch, model, longest=45, switch=1.0, image=image)
    for step in range(6):
        calls, length = switched(s, step)
        if length > 12:
            assert {p[0] for p, _, grad in calls if grad} == {length - 11}


def test_a_prompt_changes_where_scoring_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    s = student(monkeypatch, longest=24, switch=1.0)
    assert not torch.equal(s.draw.batch(0, 27).text, s.draw.batch(0, 20).text)
    for step in range(6):
        switched(s, step)


def test_from_an_image_the_first_frame_is_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clip keeps it, and no gradient is made for it."""
    s = student(monkeypatch, dict(first_alone=True, frames_per_chunk=11, window=0), image=True)
    batch = s.draw.batch(0, 20)
    clip = own_past(s, batch, 0, 23)
    assert torch.equal(clip[:, :1], batch.latents[:, :1]) and clip.shape[1] == 12
    other = own_past(s, replace(batch, clips=lambda: batch.latents + 1), 0, 23)
    assert not torch.equal(clip[:, 1:], other[:, 1:])  # it is seen
