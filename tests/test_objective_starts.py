"""Where students start from: trajectories are the teacher's ODE, consistency its two points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sfbench.reference import objective_init
from sfbench.reference.config import ConfigError
from sfbench.reference.objective_init import CausalOde, Consistency, OdeRegression

from objective_fixtures import made

# --- starts ---------------------------------------------------------------------------------------


def test_the_students_levels_are_on_the_teachers_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, _ = made(OdeRegression, monkeypatch, teacher_steps=48)
    assert objective.at == [0, 12, 24, 36]
    assert [1000 * objective.ode.sigmas[i] for i in objective.at] == pytest.approx(
        [1000, 937.5, 2500 / 3, 625]
    )
    with pytest.raises(ConfigError, match=r"t = 937\.5 is not on the grid .* 50 steps"):
        made(OdeRegression, monkeypatch, teacher_steps=50)


@pytest.mark.parametrize("kind", [OdeRegression, CausalOde])
def test_trajectories_are_the_teachers_ode(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a teacher that always sees one clip the ODE is a straight line to it."""
    monkeypatch.setattr(objective_init, "PART", 4)
    objective, d = made(kind, monkeypatch, teacher_steps=8, pairs=6)
    d.folder = tmp_path
    goal = torch.full((), 0.25, dtype=torch.float64)
    objective.teacher.forward = lambda x, *a, **k: torch.zeros_like(x) + goal
    states, _ = objective._trajectories().of([5, 1])
    start, end = states[:, 0], states[:, -1]
    torch.testing.assert_close(end, torch.full_like(end, 0.25), rtol=0, atol=1e-3)  # fp16
    for index, level in enumerate(objective.student.sigmas):
        line = level * start + (1 - level) * 0.25
        torch.testing.assert_close(states[:, index], line, rtol=0, atol=4e-3)
    assert start.std() == pytest.approx(1, abs=0.05)
    assert not torch.equal(states[0], states[1])


def test_a_perfect_student_of_the_ode_has_no_loss(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    objective, d = made(OdeRegression, monkeypatch, teacher_steps=4, pairs=32)
    d.folder = tmp_path
    for net in (objective.teacher, objective.generator):
        net.forward = lambda x, *a, **k: torch.full_like(x, 0.25)
    assert float(objective.loss("generator", 0)[0]) == 0


def test_trajectories_that_are_made_are_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: what is whole is kept, what is missing is made, and equal to before."""
    monkeypatch.setattr(objective_init, "PART", 2)
    objective, d = made(OdeRegression, monkeypatch, teacher_steps=4, pairs=6)
    d.folder = tmp_path
    store = objective._trajectories()
    before = [np.load(store.path(part)) for part in range(3)]
    kept = store.path(0).stat().st_mtime_ns
    store.path(1).unlink()
    (store.folder / ".00001.7.part").write_bytes(b"torn")
    objective._stored = None
    again = objective._trajectories()
    assert again.path(0).stat().st_mtime_ns == kept
    assert all(np.array_equal(np.load(again.path(p)), before[p]) for p in range(3))


@pytest.mark.parametrize("kind", [CausalOde, Consistency])
def test_an_autoregressive_teacher_sees_the_clean_true_past(
    kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_init, "PART", 2)
    objective, d = made(kind, monkeypatch, teacher_steps=4, pairs=2)
    d.folder, seen = tmp_path, []
    forward = objective.teacher.forward
    objective.teacher.forward = lambda *a, **k: seen.append((a, k)) or forward(*a, **k)
    objective.loss("generator", 0)[0].backward()
    assert all(p.grad is not None for p in objective.generator.parameters())
    assert all(p.grad is None for p in objective.teacher.parameters())
    for (x, sigma, _), how in seen:
        assert x.shape[1] == 24 and not sigma[:, :12].any() and bool((sigma[:, 12:] > 0).all())
        assert not how["mask"][12:, :2][:2].any()  # the first noisy chunk sees no clean frame
        true = (
            [objective._stored._batch([n]).latents for n in range(2)] if kind is CausalOde else []
        )
        expected = torch.cat(true) if true else d.batch(0).latents
        assert torch.equal(x[:, :12], expected)


def test_consistency_is_zero_for_the_teachers_own_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that always says where the teacher's ODE ends is consistent; a wrong one is not;
    the further point is held."""
    objective, _ = made(Consistency, monkeypatch, teacher_steps=8)
    ends = lambda x, *a, **k: torch.full_like(x, 0.25)  # noqa: E731
    objective.teacher.forward = objective.generator.forward = ends
    assert float(objective.loss("generator", 0)[0]) == pytest.approx(0, abs=1e-20)
    bias = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    calls = SimpleNamespace(graded=0)

    def moved(x, sigma, *a, **k):  # type: ignore[no-untyped-def]
        calls.graded += torch.is_grad_enabled()
        return x * sigma[..., None, None, None] + bias

    objective.generator.forward = moved
    loss, _ = objective.loss("generator", 0)
    (g,) = torch.autograd.grad(loss, bias)
    assert float(loss.detach()) > 0 and calls.graded == 1 and g != 0
