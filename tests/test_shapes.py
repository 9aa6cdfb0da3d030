"""The embedded world: its text is true, its motion lawful and stationary, its pixels exact."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sfbench.schema import SceneRef
from sfbench.tasks import shapes

LEVELS = tuple(shapes.LEVELS)


def scenes(level: str, count: int, split: str = "train") -> list[shapes.Scene]:
    return [shapes.sample_scene(level, split, i) for i in range(count)]


# --- scenes and their text ------------------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS)
def test_a_scene_is_a_function_of_its_name(level: str) -> None:
    twice = [
        shapes.scene_from_rng(level, np.random.default_rng([LEVELS.index(level), 2, 5]))
        for _ in range(2)
    ]
    assert twice[0] == twice[1] == shapes.sample_scene(level, "test", 5)
    others = [shapes.sample_scene(level, "train", 5), shapes.sample_scene(level, "test", 6)]
    assert all(other != twice[0] for other in others)


@pytest.mark.parametrize("level", LEVELS)
def test_constants_lie_in_their_ranges_and_colours_differ(level: str) -> None:
    number, (smallest, largest) = shapes.LEVELS[level]
    for scene in scenes(level, 300):
        assert len(scene.bodies) == len({body.colour for body in scene.bodies}) == number
        for body in scene.bodies:
            assert smallest <= body.radius <= largest
            assert abs(body.hue - shapes.COLOURS[body.colour]) <= shapes.HUE_SPREAD
            assert max(body.rgb) == pytest.approx(body.value)
        low, high = shapes.BACKGROUNDS[scene.background]
        assert low <= max(scene.background_rgb) <= high
        tint = 1 - min(scene.background_rgb) / max(scene.background_rgb)
        assert tint <= shapes.TINT + 1e-9


@pytest.mark.parametrize("level", LEVELS)
def test_prompt_and_parse_are_inverse(level: str) -> None:
    for scene in scenes(level, 300):
        bodies, background = shapes.parse(shapes.prompt(scene))
        assert background == scene.background
        for words, body in zip(bodies, scene.bodies, strict=True):
            assert words == {name: getattr(body, name) for name in words}


@pytest.mark.parametrize(
    "text",
    ["", "a cat on a mat", "a red disc", "a red disc moving slowly over a dark background"],
)
def test_parse_refuses_what_is_not_of_this_world(text: str) -> None:
    with pytest.raises(ValueError, match="not a description"):
        shapes.parse(text)


@pytest.mark.parametrize("start", [0, 96, 10_000])
@pytest.mark.parametrize("level", LEVELS)
def test_the_prompt_stays_true(level: str, start: int) -> None:
    """Speed and direction of the steps between bounces, early and late, are the words'."""
    for scene in scenes(level, 60):
        steps = np.abs(np.diff(shapes.positions(scene, 48, start), axis=0))
        for n, body in enumerate(scene.bodies):
            vx, vy = np.quantile(steps[:, n], 0.75, axis=0)  # a bounce only shortens a step
            low, high = shapes.SPEEDS[body.speed]
            assert low - 1e-9 <= np.hypot(vx, vy) <= high + 1e-9
            low, high = shapes.MOTIONS[body.motion]
            assert low - 1e-6 <= np.degrees(np.arctan2(vy, vx)) <= high + 1e-6


def test_a_body_stands_out_from_every_background() -> None:
    """The oracle relies on a contrast of .4 in RGB distance."""
    pairs = [(s.bodies[0].rgb, s.background_rgb) for s in scenes("shapes-1", 3000)]
    contrast = np.linalg.norm(np.diff(np.array(pairs), axis=1)[:, 0], axis=1)
    assert contrast.min() > 0.4


# --- motion ---------------------------------------------------------------------------------------


def test_fold_reflects_and_stays_between_the_walls() -> None:
    low, high = np.array([0.2, 0.3]), np.array([0.8, 0.6])
    inside = np.array([[0.2, 0.3], [0.5, 0.45], [0.8, 0.6]])
    np.testing.assert_allclose(shapes.fold(inside, low, high), inside)
    beyond = np.array([[0.9, 0.7], [0.1, 0.2], [2.0, -1.0]])
    np.testing.assert_allclose(
        shapes.fold(beyond, low, high), [[0.7, 0.5], [0.3, 0.4], [0.8, 0.4]], atol=1e-12
    )
    far = np.random.default_rng(0).normal(scale=100, size=(1000, 2))
    folded = shapes.fold(far, low, high)
    assert (folded >= low).all() and (folded <= high).all()


@pytest.mark.parametrize("level", LEVELS)
def test_every_body_stays_inside_the_frame(level: str) -> None:
    for scene in scenes(level, 100):
        centres = shapes.positions(scene, 200)
        for n, body in enumerate(scene.bodies):
            left, top, right, bottom = shapes.extents(body.shape, body.radius)
            assert (centres[:, n] - [left, top] >= -1e-12).all()
            assert (centres[:, n] + [right, bottom] <= 1 + 1e-12).all()


def test_steps_between_bounces_are_the_velocity() -> None:
    for scene in scenes("shapes-1", 50):
        body, steps = scene.bodies[0], np.diff(shapes.positions(scene, 60)[:, 0], axis=0)
        whole = np.isclose(np.abs(steps), np.abs([body.vx, body.vy])).all(axis=1)
        assert whole.mean() > 0.5
        assert (np.hypot(*steps.T) <= np.hypot(body.vx, body.vy) + 1e-12).all()


def test_the_law_is_stationary() -> None:
    """Late frames are drawn from the law of the first: drift over a horizon is the model's."""

    def placed(split: str, start: int) -> np.ndarray:
        """Positions ``[n, 2]`` between the walls, 0..1, of scenes that the other sample lacks."""
        found = []
        for scene in scenes("shapes-1", 1500, split):
            body = scene.bodies[0]
            low, high = shapes.walls(body.shape, body.radius)
            found.append((shapes.positions(scene, 1, start)[0, 0] - low) / (high - low))
        return np.array(found)

    early, late = placed("train", 0), placed("test", 96)
    for axis in range(2):
        assert stats.ks_2samp(early[:, axis], late[:, axis]).pvalue > 0.01
        assert stats.kstest(late[:, axis], "uniform").pvalue > 0.01


# --- pixels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("level", LEVELS)
def test_render_is_exact_in_time_and_deterministic(level: str, size: int) -> None:
    scene = shapes.sample_scene(level, "train", 1)
    whole = shapes.render(scene, 40, size)
    assert whole.shape == (40, size, size, 3) and whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, shapes.render(scene, 40, size))
    np.testing.assert_array_equal(whole[7:19], shapes.render(scene, 12, size, start=7))


@pytest.mark.parametrize("level", LEVELS)
def test_sizes_show_one_scene(level: str) -> None:
    for scene in scenes(level, 10):
        large = shapes.render(scene, 8, 64).astype(float)
        halved = large.reshape(8, 32, 2, 32, 2, 3).mean(axis=(2, 4))
        error = np.abs(halved - shapes.render(scene, 8, 32))
        assert error.mean() < 1.0  # of 255; the two differ along rims only


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_shapes_of_one_radius_have_one_area(shape: str, size: int) -> None:
    """Anywhere between the walls: an area that is short somewhere has left the frame."""
    rng = np.random.default_rng(0)
    for radius in (0.16, 0.19, 0.22):
        centres = rng.uniform(*shapes.walls(shape, radius), size=(50, 2))
        area = shapes.coverage(shape, radius, centres, size).sum(axis=(1, 2)) / size**2
        np.testing.assert_allclose(area, np.pi * radius**2, rtol=0.04 * 16 / size)


@pytest.mark.parametrize("shape", shapes.SHAPES)
def test_the_position_is_the_centroid(shape: str) -> None:
    size, centres = 32, np.random.default_rng(0).uniform(0.4, 0.6, size=(50, 2))
    cover = shapes.coverage(shape, 0.2, centres, size)
    grid = (np.arange(size) + 0.5) / size
    x = (cover.sum(axis=1) @ grid) / cover.sum(axis=(1, 2))
    y = (cover.sum(axis=2) @ grid) / cover.sum(axis=(1, 2))
    assert np.abs(np.stack([x, y], axis=1) - centres).max() * size < 0.05


def test_later_bodies_are_in_front() -> None:
    scene = shapes.sample_scene("shapes-2", "train", 0)
    middle = np.full((1, 2, 2), 0.5)
    pixel = shapes.draw(scene, middle, 32)[0, 16, 16]
    np.testing.assert_allclose(pixel / 255, scene.bodies[1].rgb, atol=0.003)


# --- the dataset ----------------------------------------------------------------------------------


def test_the_dataset_serves_scenes_by_name() -> None:
    world, ref = shapes.Shapes("shapes-2", 16), SceneRef(dataset="shapes-2", split="test", index=3)
    scene = shapes.sample_scene("shapes-2", "test", 3)
    np.testing.assert_array_equal(world.clip(ref, 5, start=2), shapes.render(scene, 5, 16, start=2))
    assert world.prompt(ref) == shapes.prompt(scene)


def test_the_dataset_refuses_what_it_cannot_serve() -> None:
    with pytest.raises(ValueError, match="unknown level"):
        shapes.Shapes("shapes-9")
    with pytest.raises(ValueError, match="too small"):
        shapes.Shapes(size=8)
    with pytest.raises(ValueError, match="scene of 'shapes-2'"):
        shapes.Shapes().clip(SceneRef(dataset="shapes-2", split="test", index=0), 4)
