"""Videos that cheat, handed in as folders under neutral names: no headline is won by one.

What is asked of a cheat is to be flagged ``DEGENERATE``, and so not ranked, or to be worse in the
headline than every honest model on the committed board. True videos, the slowest too, are neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfbench import runner
from sfbench.interfaces import Frames
from sfbench.models import VideosModel, pendulum
from sfbench.schema import Request, Result
from sfbench.tasks import proxies, rows, shapes
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.tasks.quality import Quality
from sfbench.video import write_clip

RUNS = Path(__file__).parents[1] / "results" / "runs"
Film = Callable[[shapes.Scene, int, np.random.Generator], Frames]


def truth(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    return shapes.render(scene, frames, 32)


def played(order: Callable[[int, np.random.Generator], np.ndarray]) -> Film:
    """True frames in another order."""

    def film(scene: shapes.Scene, frames: int, rng: np.random.Generator) -> Frames:
        return truth(scene, frames, rng)[order(frames, rng)]

    return film


def noise(scene: shapes.Scene, frames: int, rng: np.random.Generator) -> Frames:
    return rng.integers(0, 256, (frames, 32, 32, 3), np.uint8)


def half_speed(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    slow = [replace(b, vx=b.vx / 2, vy=b.vy / 2) for b in scene.bodies]
    return shapes.render(replace(scene, bodies=tuple(slow)), frames, 32)


def slowest(scene: shapes.Scene, frames: int, _: np.random.Generator) -> Frames:
    """True: each body at the least speed that its word allows."""
    calm = []
    for body in scene.bodies:
        share = shapes.SPEEDS[body.speed][0] / np.hypot(body.vx, body.vy)
        calm.append(replace(body, vx=body.vx * share, vy=body.vy * share))
    return shapes.render(replace(scene, bodies=tuple(calm)), frames, 32)


CHEATS: dict[str, Film] = {
    "frozen": played(lambda n, rng: np.zeros(n, int)),
    "frozen midway": played(lambda n, rng: np.minimum(np.arange(n), n // 2)),
    "truth, then frozen": played(lambda n, rng: np.minimum(np.arange(n), n * 5 // 8)),
    "loop": played(lambda n, rng: np.array(pendulum(min(12, n // 2), 0, n))),
    "first frame again and again": played(lambda n, rng: np.arange(n) % min(6, n // 3)),
    "shuffled": played(lambda n, rng: rng.permutation(n)),
    "noise": noise,
    "half speed": half_speed,
}
TRUE: dict[str, Film] = {"truth": truth, "slowest": slowest}


@pytest.fixture(autouse=True)
def no_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """No headline is made of image features, and they are most of the work of a clip."""
    monkeypatch.setattr(proxies, "has_features", lambda: False)


@cache
def scene_of(text: str, seed: int, number: int) -> tuple[shapes.Scene, dict[str, Any]]:
    """A scene that fits the prompt, and the state of the generator that drew it."""
    rng = np.random.default_rng([seed, number])
    return rows.draw_consistent(text, rng), dict(rng.bit_generator.state)


def handed_in(film: Film, asked: list[Request], folder: Path) -> None:
    """One file a request; each seed of a prompt shows another scene that fits the prompt."""
    folder.mkdir()
    for request in asked:
        number = int(request.prompt.id.rpartition("-")[2])
        scene, state = scene_of(request.prompt.text, request.seed, number)
        rng = np.random.default_rng()
        rng.bit_generator.state = state  # as if the scene had been drawn here
        clip = film(scene, request.geometry.frames, rng)
        write_clip(folder / f"{request.prompt.id}-{request.seed}.mp4", clip, request.geometry.fps)


def outcome(kind: type[LongHorizon] | type[Quality], film: Film, place: Path) -> Result:
    """A run of the smoke tier on a folder of one film, called `entry`."""
    task = kind(tier="smoke")
    free = [r for r in task.requests(rows.Truth().card) if r.context is None]
    handed_in(film, free, place / "entry")
    return runner.run(task, VideosModel(str(place / "entry")), place / "run")


@cache
def honest(task: str) -> list[Result]:
    """Of the committed board: every model that plays, read once."""
    found = [Result.model_validate_json(p.read_text()) for p in RUNS.glob(f"{task}/*/result.json")]
    return [
        r
        for r in found
        if r.model.kind == "model" and not any("DEGENERATE" in f for f in r.validity.flags)
    ]


@cache
def worst_of_the_honest(task: str, estimate: str) -> float:
    """The value that a cheat may not be better than: that of the best honest model."""
    values = [
        (e.value, e.better) for r in honest(task) if (e := r.estimates[estimate]).value is not None
    ]
    if not values:
        raise LookupError(f"no honest model has {estimate} on the board of {task}")
    sign = -1 if values[0][1] == "higher" else 1
    return min(sign * value for value, _ in values)


def wins(result: Result, estimate: str) -> bool:
    """Whether a row looks better in a headline than an honest model does."""
    found = result.estimates[estimate]
    if found.value is None:
        return False
    sign = -1 if found.better == "higher" else 1
    return sign * found.value < worst_of_the_honest(result.task.name, estimate)


def degenerate(result: Result) -> bool:
    return any(flag.startswith("DEGENERATE") for flag in result.validity.flags)


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_wins_a_headline_of_long_horizon(name: str, tmp_path: Path) -> None:
    result = outcome(LongHorizon, CHEATS[name], tmp_path)
    assert result.model.kind == "model", "the name gives nothing away"
    for headline in ("drift", "alive_8x", "violation_own"):
        assert degenerate(result) or not wins(result, headline), (headline, result.estimates)


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_wins_a_headline_of_quality(name: str, tmp_path: Path) -> None:
    result = outcome(Quality, CHEATS[name], tmp_path)
    for headline in ("adherence", "violation"):
        assert degenerate(result) or not wins(result, headline), (headline, result.estimates)


@pytest.mark.parametrize("name", TRUE)
@pytest.mark.parametrize("kind", [LongHorizon, Quality])
def test_true_videos_are_never_flagged(
    kind: type[LongHorizon] | type[Quality], name: str, tmp_path: Path
) -> None:
    result = outcome(kind, TRUE[name], tmp_path)
    assert not degenerate(result), result.validity.flags
    headline = "drift" if kind is LongHorizon else "violation"
    assert result.estimates[headline].value == pytest.approx(0, abs=0.01)
    assert wins(result, headline)
