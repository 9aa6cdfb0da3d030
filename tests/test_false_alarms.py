"""How often a set of true clips is said to repeat itself: the rates that the rules state, measured.

True bodies bounce between walls, so some true clips come back to where they were. Which frames are
copies is worked out from positions alone, for thousands of scenes; rendered clips say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from scipy.stats import beta, binom

from sfbench import metrics
from sfbench.schema import Scores
from sfbench.tasks import drift, quality, rows, shapes
from sfbench.tasks.judge import NATIVE
from sfbench.tasks.quality import Quality

from films import calmed

SIZE, SHIFT = 32, 0.1 / 32
PREFIX = 6
STRAIGHT = ("horizontally", "vertically")


def slopes(scene: shapes.Scene) -> np.ndarray:
    """``[2, 2]``: the squared distance of two frames is ``d @ slopes @ d`` for a small step d."""
    (body,) = scene.bodies
    places = np.array([0.506, 0.509]) + SHIFT * np.array([[0, 0], [1, 0], [0, 1]])
    seen = shapes.coverage(body.shape, body.radius, places, SIZE).astype(float).reshape(3, -1)
    steps = (seen[1:] - seen[0]) / SHIFT
    contrast = 255**2 * np.square(np.subtract(body.rgb, scene.background_rgb)).sum()
    return contrast * steps @ steps.T


def copies(scene: shapes.Scene, frames: int, lag: int) -> np.ndarray:
    """What :func:`sfbench.metrics.repeated` finds in the rendered clip, from positions alone."""
    place = shapes.positions(scene, frames)[:, 0]
    apart = place[:, None] - place[None]
    near = ((apart @ slopes(scene)) * apart).sum(axis=2) <= 3 * SIZE**2 * metrics.REPEAT_RMS**2
    return np.tril(near, -lag).any(axis=1).astype(float)


def free(scene: shapes.Scene) -> float:
    """The longest run of copies in a free clip."""
    return metrics.longest_run(copies(scene, drift.FRAMES, 6))


def native(scene: shapes.Scene) -> float:
    """The same in a clip of the quality task."""
    return metrics.longest_run(copies(scene, NATIVE, 2))


def own(scene: shapes.Scene) -> float:
    """The share of copies in a continuation of two native horizons."""
    return float(copies(scene, PREFIX + 2 * NATIVE, 6)[PREFIX:].mean())


RULES = {"free": (free, drift.RETURNS), "native": (native, quality.RETURNS)}
ALL = RULES | {"own": (own, drift.OWN_RETURNS)}


def straight(rng: np.random.Generator) -> Iterator[shapes.Scene]:
    """Scenes of one body on a straight line, for ever."""
    while True:
        scene = shapes.scene_from_rng("shapes-1", rng)
        if scene.bodies[0].motion in STRAIGHT:
            yield scene


def test_positions_tell_what_pixels_tell() -> None:
    rng, agreed = np.random.default_rng(3), []
    for _ in range(40):
        scene = next(straight(rng))
        clip = shapes.render(scene, drift.FRAMES, SIZE)
        seen = metrics.longest_run(metrics.repeated(clip))
        short = metrics.longest_run(metrics.repeated(clip[:NATIVE], lag=2))
        long, brief = drift.RETURNS.limit, quality.RETURNS.limit
        agreed += [(free(scene) >= long) == (seen >= long)]
        agreed += [(native(scene) >= brief) == (short >= brief)]
    assert np.mean(agreed) > 0.96


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("change", [lambda s: s, calmed], ids=["true", "slowest"])
def test_true_clips_reach_it_no_more_often_than_is_stated(
    name: str, change: Callable[[shapes.Scene], shapes.Scene]
) -> None:
    """A count that the stated share makes likely; and no other word asks for more copies."""
    value, of = ALL[name]
    scenes = straight(np.random.default_rng(12))
    met = sum(value(change(next(scenes))) >= of.limit for _ in range(800))
    assert binom.sf(met - 1, 800, of.share) > 0.01
    assert beta.ppf(0.999, met + 1, 800 - met) > of.share / 2, "the stated share is far too high"
    rng = np.random.default_rng(13)
    drawn = (shapes.scene_from_rng("shapes-1", rng) for _ in range(600))
    slant = [change(s) for s in drawn if s.bodies[0].motion not in STRAIGHT]
    assert np.mean([value(scene) >= of.limit for scene in slant]) < 0.02


def flagged(name: str, scenes: list[shapes.Scene]) -> tuple[bool, bool]:
    """Whether one clip of each of these prompts is said to repeat itself, and by a majority."""
    value, of = RULES[name]
    clips = [Scores(values={of.name: value(scene)}) for scene in scenes]
    return drift.beyond_truth(clips, of, len(clips)), drift.most(clips, of.name, of.limit)


@cache
def slowest_sets() -> list[list[shapes.Scene]]:
    """60 draws of the smoke tier, and 200 sets of eight prompts that all ask for a straight one."""
    texts = [prompt.text for prompt in Quality(tier="smoke")._prompts()]
    sets = []
    for draw in range(60):
        rngs = [np.random.default_rng([draw, 77, n]) for n in range(len(texts))]
        drawn = zip(texts, rngs, strict=True)
        sets.append([calmed(rows.draw_consistent(text, rng)) for text, rng in drawn])
    lines = straight(np.random.default_rng(78))
    return sets + [[calmed(next(lines)) for _ in range(8)] for _ in range(200)]


@pytest.mark.parametrize("name", RULES)
def test_the_slowest_true_scenes_are_never_flagged(name: str) -> None:
    """Where a plain majority of free clips flags some of the sets."""
    found = np.array([flagged(name, scenes) for scenes in slowest_sets()])
    assert not found[:, 0].any()
    assert found[:60, 1].any() == found[60:, 1].any() == (name == "free")


@pytest.mark.parametrize("of", [of for _, of in ALL.values()], ids=ALL)
def test_the_rate_of_false_alarms_is_the_stated_one(of: drift.Reach) -> None:
    """Of every number of prompts: what is flagged is rarer than ALARM, and one less is not."""
    for prompts in (*range(1, 40), 64, 128):
        clips = [Scores(values={of.name: 0.0})] * prompts
        for met in range(prompts + 1):
            clips[:met] = [Scores(values={of.name: of.limit})] * met
            rate = binom.sf(met - 1, prompts, of.share)
            assert drift.beyond_truth(clips, of, prompts) == (rate <= drift.ALARM)


def test_the_least_numbers_are_those_of_the_docstring() -> None:
    def least(prompts: int) -> int | None:
        rate = binom.sf(np.arange(prompts + 1) - 1, prompts, drift.RETURNS.share)
        return int(np.argmax(rate <= drift.ALARM)) if (rate <= drift.ALARM).any() else None

    assert [least(n) for n in (7, 8, 16, 32)] == [None, 8, 13, 21]


def test_clips_of_one_prompt_count_as_one() -> None:
    """Four seeds of one scene are no more evidence than one."""
    of = drift.RETURNS
    one, none = (Scores(values={of.name: v}) for v in (of.limit, 0.0))
    assert drift.beyond_truth([one] * 32, of, 8)
    assert not drift.beyond_truth([one] * 28 + [none] * 4, of, 8)
    assert drift.beyond_truth([one] * 28 + [none] * 4, of, 32)
    assert not drift.beyond_truth([], of, 8) and not drift.beyond_truth([one] * 8, of, 0)
