"""The oracle: right on truth, on another rasteriser, through a codec, and where two bodies cross.

*Perfect* under anti-aliasing means the bounds of :data:`PERFECT`: they shrink with the size of a
pixel, and two bodies cost a little where a sliver of one peeps out from behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfbench.interfaces import Frames
from sfbench.tasks import oracle, shapes
from sfbench.tasks.oracle import State
from sfbench.tasks.shapes import Body, Scene

from oracle_fixtures import body, dark, held_out, rounded, state_at

BODIES = {level: number for level, (number, _) in shapes.LEVELS.items()}

# (level, size): largest error of centre in pixels, of radius in parts, of rgb; 1 - fit; jitter
PERFECT = {
    ("shapes-1", 24): (0.10, 0.03, 0.03, 0.04, 0.12),
    ("shapes-1", 32): (0.07, 0.02, 0.02, 0.03, 0.08),
    ("shapes-1", 64): (0.04, 0.01, 0.02, 0.02, 0.03),
    ("shapes-2", 24): (0.25, 0.08, 0.04, 0.07, 0.12),
    ("shapes-2", 32): (0.25, 0.04, 0.02, 0.04, 0.08),
    ("shapes-2", 64): (0.25, 0.02, 0.02, 0.03, 0.04),
}


def assert_faithful(frames: Frames, scene: Scene, bounds: tuple[float, ...]) -> State:
    """The state of true frames is the truth's, wherever a body is judged."""
    state = oracle.matched(oracle.decode(frames, len(scene.bodies)), scene)
    clear = state.found & ~state.occluded
    centre, radius, rgb, misfit = bounds[:4]
    away = np.abs(state.centre - shapes.positions(scene, len(frames))).max(axis=2)
    assert away[clear].max() * state.size < centre
    assert np.abs(state.radius / [b.radius for b in scene.bodies] - 1)[clear].max() < radius
    assert np.abs(state.rgb - [b.rgb for b in scene.bodies])[clear].max() < rgb
    assert 1 - state.fit[clear].min() < misfit
    shape = np.array([shapes.SHAPES.index(b.shape) for b in scene.bodies])
    colour = np.array([list(shapes.COLOURS).index(b.colour) for b in scene.bodies])
    assert ((state.shape == shape) | ~clear).all()
    assert ((state.colour == colour) | ~clear).all()
    assert (state.background == list(shapes.BACKGROUNDS).index(scene.background)).all()
    assert np.abs(state.background_rgb - scene.background_rgb).max() < 0.01
    return state


def assert_lawful(state: State, scene: Scene, jitter: float) -> None:
    """Nothing is violated and every word of the prompt is there."""
    graded = oracle.violations(state, scene)
    assert {name: value.mean() for name, value in graded.items() if value.mean() >= 0.02} == {}
    heard = oracle.adherence(state, shapes.prompt(scene))
    assert {name: share for name, share in heard.items() if share < 0.98} == {}
    moved = oracle.motion(state, scene)
    assert moved.persistence == pytest.approx(1, abs=0.05)
    assert moved.jitter is not None and moved.jitter < jitter


# --- truth ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "size"), PERFECT)
def test_rendered_truth_is_perfect(level: str, size: int) -> None:
    bounds = PERFECT[level, size]
    for scene in held_out(level, 640 // size):
        state = assert_faithful(shapes.render(scene, 96, size), scene, bounds)
        assert_lawful(state, scene, jitter=bounds[4])


def drawn_by_pillow(scene: Scene, frames: int, size: int, resample: Image.Resampling) -> Frames:
    """The scene by another rasteriser: hard edges at eight times the size, then reduced."""
    scale, clip = 8 * size, []
    for centres in shapes.positions(scene, frames):
        image = Image.new("RGB", (scale, scale), tuple(rounded(scene.background_rgb)))
        draw = ImageDraw.Draw(image)
        for b, (x, y) in zip(scene.bodies, centres * scale - 0.5, strict=True):
            r, fill = b.radius * scale, tuple(rounded(b.rgb))
            if b.shape == "disc":
                draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
            elif b.shape == "square":
                half = r * np.sqrt(np.pi) / 2
                draw.rectangle((x - half, y - half, x + half, y + half), fill=fill)
            else:
                draw.regular_polygon((x, y, r * np.sqrt(4 * np.pi / 27**0.5)), 3, fill=fill)
        clip.append(np.asarray(image.resize((size, size), resample)))
    return np.stack(clip)


@pytest.mark.parametrize("resample", [Image.Resampling.BOX, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("level", BODIES)
def test_another_rasteriser_is_read_as_well(level: str, resample: Image.Resampling) -> None:
    for scene in held_out(level, 8):
        frames = drawn_by_pillow(scene, 24, 32, resample)
        state = assert_faithful(frames, scene, (0.25, 0.05, 0.03, 0.10))
        graded = oracle.violations(state, scene)
        assert max(value.mean() for value in graded.values()) < 0.02


@lru_cache
def codec(components: int) -> Callable[[Frames], Frames]:
    """A codec of principal components of 8 x 8 pixel patches: it blurs and rings, as codecs do."""

    def patches(frames: Frames) -> NDArray[np.float64]:
        cut = frames.reshape(len(frames), 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5)
        return cut.reshape(-1, 192) / 255

    train = [shapes.sample_scene("shapes-1", "train", i) for i in range(300)]
    seen = np.concatenate(
        [patches(shapes.render(s, 3, 32, start=5 * i)) for i, s in enumerate(train)]
    )
    mean = seen.mean(axis=0)
    basis = np.linalg.eigh(np.cov(seen.T))[1][:, -components:]

    def round_trip(frames: Frames) -> Frames:
        kept = (patches(frames) - mean) @ basis @ basis.T + mean
        tiles = kept.reshape(len(frames), 4, 4, 8, 8, 3).transpose(0, 1, 3, 2, 4, 5)
        return np.round(tiles.reshape(frames.shape).clip(0, 1) * 255).astype(np.uint8)

    return round_trip


@pytest.mark.parametrize("level", BODIES)
def test_a_codec_stays_within_tolerance(level: str) -> None:
    """Truth through a codec of 33 to 36 dB violates nothing: a violation is the model's."""
    errors = []
    for scene in held_out(level, 12):
        truth = shapes.render(scene, 48, 32)
        frames = codec(72)(truth)
        errors.append(np.mean((frames / 255.0 - truth / 255.0) ** 2))
        assert_lawful(oracle.decode(frames, BODIES[level]), scene, jitter=0.2)
    assert 32 < -10 * np.log10(np.mean(errors)) < 37


# --- two bodies -----------------------------------------------------------------------------------

BEHIND = body(shape="disc", radius=0.16, x=0.3, vx=0.05)
FRONT = body(shape="square", radius=0.20, colour="blue", hue=220 / 360, x=0.65)


def crossing(rear: Body = BEHIND) -> tuple[Scene, State]:
    """A disc passes behind a larger square that stands still; 20 frames."""
    scene = dark(rear, FRONT)
    path = np.stack([np.linspace(0.18, 0.84, 20), np.full(20, 0.5)], axis=1)
    centres = np.stack([path, np.tile([0.65, 0.5], (20, 1))], axis=1)
    frames = shapes.draw(scene, centres, 32)
    return scene, oracle.matched(oracle.decode(frames, 2), scene)


def test_the_body_behind_is_occluded_and_the_one_in_front_is_judged() -> None:
    _, state = crossing()
    gap = np.abs(np.linspace(0.18, 0.84, 20) - 0.65) - 0.16 - 0.177  # between disc and square
    assert (gap > 0.1).any() and (gap < 0).any()
    assert state.found[gap > 0.1].all() and not state.occluded[gap > 0.1].any()
    covered = gap < -1 / 32
    assert (state.occluded | ~state.found)[covered, 0].all()
    assert (state.found & ~state.occluded)[covered, 1].all()
    assert (state.shape[:, 1] == shapes.SHAPES.index("square")).all()
    assert np.abs(state.radius[:, 1] / FRONT.radius - 1).max() < 0.03


def test_a_body_that_passes_behind_is_not_missing() -> None:
    scene, state = crossing()
    assert (~state.found[:, 0]).any() and state.found[-1, 0]  # it does vanish, and comes out
    graded = oracle.violations(state, scene)
    assert all(not graded[name].any() for name in oracle.VIOLATIONS if name != "motion")
    assert oracle.adherence(state, shapes.prompt(scene))["count"] == 1


def test_a_body_that_never_comes_out_is_missing() -> None:
    scene, state = crossing()
    gone = int(np.argmin(state.found[:, 0]))
    stays = np.r_[np.arange(gone + 1), np.full(20, gone)]  # hidden for more than twice the law's
    frames = state_at(state, stays)
    graded = oracle.violations(frames, scene)
    assert (graded["existence"][gone:] == 1).all() and not graded["existence"][:gone].any()


def test_a_body_that_vanishes_in_the_open_is_missing_at_once() -> None:
    scene = dark(body(x=0.25, vx=0.0, vy=0.03), replace(FRONT, x=0.75, vx=0.0, vy=0.03))
    frames = shapes.render(scene, 12, 32)
    frames[5:8] = shapes.render(dark(scene.bodies[1]), 3, 32, start=5)
    graded = oracle.violations(oracle.decode(frames, 2), scene)
    for name in set(oracle.VIOLATIONS) - {"background", "existence"}:
        assert (graded[name][5:8] >= 0.5).all(), name  # the mean over one lost and one good body
    np.testing.assert_array_equal(np.flatnonzero(graded["existence"]), [5, 6, 7])
    assert not graded["background"].any()


@pytest.mark.parametrize("swap", [False, True])
def test_bodies_keep_their_identity_whatever_their_order(swap: bool) -> None:
    for scene in held_out("shapes-2", 5):
        asked = replace(scene, bodies=scene.bodies[::-1]) if swap else scene
        state = oracle.decode(shapes.render(scene, 24, 32), 2)
        assert max(v.mean() for v in oracle.violations(state, asked).values()) < 0.02


def test_as_many_bodies_must_be_decoded_as_the_scene_has() -> None:
    scene = shapes.sample_scene("shapes-2", "test", 0)
    state = oracle.decode(shapes.render(scene, 2, 32), 1)
    for judge in (oracle.violations, oracle.motion):
        with pytest.raises(ValueError, match="1 bodies were decoded where 2 are expected"):
            judge(state, scene)
