"""The quality task proves itself: a perfect sampler is at every ideal, each fault moves what it
should, clips that are not generated are flagged, and what was not measured says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfbench import leaderboard, models, runner
from sfbench.interfaces import Frames, VideoModel
from sfbench.schema import ModelCard, Request, Result
from sfbench.tasks import drift, proxies, quality, rows
from sfbench.tasks.quality import Quality
from sfbench.tasks.shapes import draw, fold, render, walls


class Sampler:
    """Draws from the law, given the prompt, with one fault or none."""

    def __init__(self, fault: str = "") -> None:
        self.card = ModelCard(name=f"sampler{fault}")
        self.fault = fault

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        seed = 0 if self.fault == "same" else request.seed
        rng = np.random.default_rng([seed, len(request.prompt.text)])
        scene = rows.draw_consistent(request.prompt.text, rng)
        frames = render(scene, request.geometry.frames, request.geometry.height)
        if self.fault == "recolour":
            frames = frames[..., [2, 0, 1]]
        if self.fault == "dim":
            frames = (frames * 0.4).astype(np.uint8)
        if self.fault == "grain":
            frames = np.clip(frames + rng.normal(0, 60, frames.shape), 0, 255).astype(np.uint8)
        yield frames


def judged(model: VideoModel, out: Path, tier: str = "smoke") -> Result:
    return runner.run(Quality(tier=tier), model, out)


@pytest.fixture(scope="module")
def perfect(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return runner.run(
        Quality(tier="smoke", seeds=range(4)), Sampler(), tmp_path_factory.mktemp("perfect")
    )


@pytest.fixture
def no_features(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the extra is not installed; the rest is then also faster."""
    monkeypatch.setattr(proxies, "has_features", lambda: False)
    quality._true_features.cache_clear()
    yield
    quality._true_features.cache_clear()


def value(result: Result, name: str) -> float:
    found = result.estimates[name].value
    assert found is not None, f"{name}: {result.estimates[name].method}"
    return found


def test_a_perfect_sampler_is_at_every_ideal(perfect: Result) -> None:
    assert perfect.validity.ok and not perfect.validity.flags
    assert value(perfect, "adherence") == 1 and value(perfect, "violation") < 1e-3
    assert value(perfect, "motion") == pytest.approx(1, abs=0.05)
    found = perfect.estimates["diversity"]
    assert found.low is not None and found.high is not None and found.low < 1 < found.high
    for name in ("kernel_state", "kernel_features"):
        found, floor = perfect.estimates[name], perfect.estimates[f"{name}_floor"]
        assert found.low is not None and found.high is not None and found.low < 0 < found.high
        assert floor.low is not None and floor.high is not None
        assert floor.low <= value(perfect, name) <= floor.high
        assert " vectors of 8 prompts against " in found.method


def test_a_wrong_colour_costs_the_colour(tmp_path: Path, no_features: None) -> None:
    wrong = judged(Sampler("recolour"), tmp_path)
    assert value(wrong, "adherence_colour") < 0.3
    assert value(wrong, "adherence_shape") == value(wrong, "adherence_motion") == 1


def test_what_no_true_clip_is_like_is_far_from_the_truth(tmp_path: Path) -> None:
    """Of sixteen prompts: the interval of eight is wide."""
    for name, fault in (("kernel_state", "dim"), ("kernel_features", "grain")):
        result = judged(Sampler(fault), tmp_path / fault, tier="lite")
        floor, low = result.estimates[f"{name}_floor"].high, result.estimates[name].low
        assert floor is not None and value(result, name) > floor, name
        assert low is not None and low > 0, name


def test_one_clip_for_all_seeds_is_flagged(tmp_path: Path, no_features: None) -> None:
    same = judged(Sampler("same"), tmp_path / "same")
    assert value(same, "diversity") == 0 and same.validity.flags == (quality.SAME_CLIP,)
    truth = judged(rows.oracle_row("truth"), tmp_path / "truth")
    assert value(truth, "diversity") == 0 and not truth.validity.flags, "a reference row may be"


def test_no_cheat_is_ranked_above_a_sampler(tmp_path: Path, no_features: None) -> None:
    ran = {n: judged(models.resolve(f"cheat:{n}"), tmp_path / n) for n in models.Cheat.NAMES}
    assert drift.NO_MOTION in ran["frozen"].validity.flags
    assert quality.SAME_CLIP in ran["loop"].validity.flags
    assert drift.NOTHING in ran["noise"].validity.flags and value(ran["noise"], "adherence") < 0.5
    honest = judged(Sampler(), tmp_path / "honest")
    (group,) = leaderboard.groups([*ran.values(), honest])
    assert [row.label for row in group.ranked] == [honest.model.name]


def test_frames_in_no_order_are_no_video_and_stumbling_is(
    tmp_path: Path, no_features: None
) -> None:
    """A body thrown about at the lawful speed moves badly; shuffled frames do not move at all."""

    class Thrown(Sampler):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            rng = np.random.default_rng([request.seed, len(request.prompt.text)])
            scene = rows.draw_consistent(request.prompt.text, rng)
            body, count = scene.bodies[0], request.geometry.frames
            angles = rng.uniform(0, 2 * np.pi, count)
            steps = np.hypot(body.vx, body.vy) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
            low, high = walls(body.shape, body.radius)
            path = fold(np.array([body.x, body.y]) + np.cumsum(steps, axis=0), low, high)
            yield draw(scene, path[:, None], request.geometry.height)

    class Shuffled(Sampler):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            (frames,) = super().generate(request)
            yield frames[np.random.default_rng(request.seed).permutation(len(frames))]

    thrown, mixed = judged(Thrown(), tmp_path / "a"), judged(Shuffled(), tmp_path / "b")
    assert mixed.validity.flags == (drift.SHUFFLED,)
    assert drift.SHUFFLED not in thrown.validity.flags and value(thrown, "jitter") < 2


def test_the_features_say_when_they_are_not_there(tmp_path: Path, no_features: None) -> None:
    result = judged(Sampler(), tmp_path)
    for name in ("kernel_features", "kernel_features_floor", *proxies.CONSISTENCY):
        assert result.estimates[name].value is None
        assert "pip install 'sfbench[features]'" in result.estimates[name].method
    assert value(result, "kernel_state") < 1 and result.validity.ok


def test_small_clips_get_no_figure_of_vbench(perfect: Result) -> None:
    assert "temporal_flickering" not in perfect.estimates
    assert value(perfect, "repeated_frames") < 1 and perfect.estimates["sharpness"].n == 32


def test_a_clip_that_failed_is_told(tmp_path: Path, no_features: None) -> None:
    class Failing(Sampler):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            if request.seed:
                raise RuntimeError("out of ideas")
            return super().generate(request, context)

    result = judged(Failing(), tmp_path)
    assert not result.validity.ok and "8 of 16 clips were not scored" in result.validity.reasons
    assert result.estimates["diversity"].value is None


def test_a_state_vector_tells_scenes_apart_and_knows_a_lost_object() -> None:
    text = "a red disc moving quickly and horizontally over a dark background"
    scenes = [rows.draw_consistent(text, np.random.default_rng(n)) for n in (0, 1)]
    first, second = (quality.state_vector(render(s, 12, 32), text) for s in scenes)
    body = scenes[0].bodies[0]
    assert first.shape == (12,) and first[0] == 1
    assert first[1:3] == pytest.approx([body.x, body.y], abs=0.03)
    assert np.abs(first[3:5]) == pytest.approx(np.abs([body.vx, body.vy]), abs=0.01)
    assert np.abs(first - second).max() > 0.1
    assert (quality.state_vector(np.zeros((12, 32, 32, 3), np.uint8), text)[:9] == 0).all()
