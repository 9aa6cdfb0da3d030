"""Videos that cheat, handed in as folders under neutral names: no headline is won by one.

What is asked of a cheat is to be flagged ``DEGENERATE``, and so not ranked, or to be worse in the
headline than every honest model on the committed board. True videos, the slowest too, are neither.
(``violation_own``, which ranks long-horizon, needs context; a folder of videos takes none.)
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfbench import runner
from sfbench.models import VideosModel
from sfbench.schema import Request, Result
from sfbench.tasks import drift, proxies, rows, shapes
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.tasks.quality import Quality
from sfbench.video import write_clip

from films import CHEATS, TRUE, Film

RUNS = Path(__file__).parents[1] / "results" / "runs"
WORDS = {
    "frozen": drift.NO_MOTION,
    "frozen midway": drift.STILL,
    "truth, then frozen": drift.STILL,
    "loop": drift.REPEATS,
    "first frame again and again": drift.REPEATS,
    "shuffled": drift.SHUFFLED,
    "noise": drift.NOTHING,
    "half speed": drift.SLOW,
}
"""What is true of each cheat, and is said of it."""


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


def merit(result: Result, estimate: str) -> float | None:
    """The value in a headline, turned so that more is better."""
    found = result.estimates[estimate]
    if found.value is None:
        return None
    return found.value if found.better == "higher" else -found.value


def merits(task: str, estimate: str) -> list[float]:
    """What the honest models that have the estimate are worth by it; more is better."""
    found = [v for r in honest(task) if (v := merit(r, estimate)) is not None]
    assert len(found) > 5, f"the board of {task} has too few honest models with {estimate}"
    return found


def is_below_all(result: Result, estimate: str) -> bool:
    """Whether a row is worse than every honest model; a tie is not worse."""
    own = merit(result, estimate)
    assert own is not None
    return all(own < other for other in merits(result.task.name, estimate))


def degenerate(result: Result) -> bool:
    return any(flag.startswith("DEGENERATE") for flag in result.validity.flags)


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_wins_a_headline_of_long_horizon(name: str, tmp_path: Path) -> None:
    result = outcome(LongHorizon, CHEATS[name], tmp_path)
    assert result.model.kind == "model", "the name gives nothing away"
    for headline in ("drift", "alive_8x"):
        assert degenerate(result) or is_below_all(result, headline), (headline, result.estimates)
    assert result.validity.flags == (WORDS[name],)


@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_wins_a_headline_of_quality(name: str, tmp_path: Path) -> None:
    result = outcome(Quality, CHEATS[name], tmp_path)
    for headline in ("adherence", "violation"):
        assert degenerate(result) or is_below_all(result, headline), (headline, result.estimates)
    assert result.validity.flags == (WORDS[name],)


@pytest.mark.parametrize("name", TRUE)
@pytest.mark.parametrize("kind", [LongHorizon, Quality])
def test_true_videos_are_never_flagged(
    kind: type[LongHorizon] | type[Quality], name: str, tmp_path: Path
) -> None:
    result = outcome(kind, TRUE[name], tmp_path)
    assert not degenerate(result), result.validity.flags
    headline = "drift" if kind is LongHorizon else "violation"
    assert result.estimates[headline].value == pytest.approx(0, abs=0.01)
    own = merit(result, headline)
    assert own is not None and all(own > other for other in merits(result.task.name, headline))
