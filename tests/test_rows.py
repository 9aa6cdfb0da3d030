"""The reference rows know what they claim to know, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from sfbench.schema import Geometry, Prompt, Request, SceneRef
from sfbench.tasks import rows, shapes


def request(index: int, frames: int, level: str = "shapes-1", seed: int = 0) -> Request:
    ref = SceneRef(dataset=level, split="selection", index=index)
    text = shapes.prompt(shapes.sample_scene(level, "selection", index))
    geometry = Geometry(frames=frames, height=32, width=32, fps=16)
    return Request(prompt=Prompt(id=str(index), text=text, scene=ref), geometry=geometry, seed=seed)


def test_truth_continues_at_the_absolute_frame() -> None:
    scene = shapes.sample_scene("shapes-1", "selection", 1)
    (clip,) = rows.oracle_row("truth").generate(request(1, 5), shapes.render(scene, 7, 32))
    assert np.array_equal(clip, shapes.render(scene, 5, 32, start=7))


@pytest.mark.parametrize("level", ["shapes-1", "shapes-2"])
def test_the_observer_reads_a_scene_from_six_frames(level: str) -> None:
    away = []
    for index in range(12):
        scene = shapes.sample_scene(level, "selection", index)
        seen = rows.perceive(shapes.render(scene, 6, 32), len(scene.bodies))
        assert seen is not None
        true, read = shapes.positions(scene, 12, 6), shapes.positions(seen, 12)
        away += [
            np.linalg.norm(read - t[:, None], axis=2).min(axis=1).max() for t in true.swapaxes(0, 1)
        ]
    assert np.median(away) < 0.02


@pytest.mark.parametrize("speed", [0.0, 0.03, 0.075])
def test_a_path_is_fitted_through_its_bounces(speed: float) -> None:
    low, high, time = 0.2, 0.8, np.arange(-30, 0)
    seen = shapes.fold(0.31 + speed * time, np.array(low), np.array(high))
    seen = seen + np.random.default_rng(0).normal(0, 0.002, len(seen))
    place, velocity = rows.fit_axis(time, seen, low, high)
    ahead = np.arange(12)
    expected = shapes.fold(0.31 + speed * ahead, np.array(low), np.array(high))
    found = shapes.fold(place + velocity * ahead, np.array(low), np.array(high))
    assert np.abs(found - expected).max() < 0.01


def test_the_observer_looks_at_pixels_only() -> None:
    other = shapes.render(shapes.sample_scene("shapes-1", "selection", 2), 8, 32)
    (a,) = rows.oracle_row("observer").generate(request(1, 6), other)
    (b,) = rows.oracle_row("observer").generate(request(2, 6), other)
    assert np.array_equal(a, b)


def test_without_context_it_draws_what_the_text_says() -> None:
    for level, index in (("shapes-1", 4), ("shapes-2", 4)):
        asked = request(index, 3, level)
        scene = rows.draw_consistent(asked.prompt.text, np.random.default_rng(0))
        assert shapes.prompt(scene) == asked.prompt.text
        (a,) = rows.oracle_row("observer").generate(asked)
        (b,) = rows.oracle_row("observer").generate(asked)
        (c,) = rows.oracle_row("observer").generate(asked.model_copy(update={"seed": 1}))
        assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_an_empty_context_does_not_stop_the_observer() -> None:
    (clip,) = rows.oracle_row("observer").generate(request(1, 4), np.zeros((6, 32, 32, 3), "u1"))
    assert clip.shape == (4, 32, 32, 3)


def test_unknown_rows_are_named() -> None:
    with pytest.raises(ValueError, match="oracle:truth and oracle:observer"):
        rows.oracle_row("guess")
