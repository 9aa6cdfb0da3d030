"""The oracle on what is not as asked: other words, motion, objects; and anything at all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sfbench.interfaces import Frames
from sfbench.tasks import oracle, shapes
from sfbench.tasks.oracle import State
from sfbench.tasks.shapes import Scene

from oracle_fixtures import body, dark, held_out, rounded, state_at

# --- words ----------------------------------------------------------------------------------------

WORDS: dict[str, tuple[str, ...]] = {
    "shape": shapes.SHAPES,
    "colour": tuple(shapes.COLOURS),
    "background": tuple(shapes.BACKGROUNDS),
    "speed": tuple(shapes.SPEEDS),
    "motion": tuple(shapes.MOTIONS),
}


@pytest.mark.parametrize("attribute", WORDS)
def test_adherence_hears_a_wrong_word_and_no_other(attribute: str) -> None:
    for scene in held_out("shapes-1", 6):
        state, text = oracle.decode(shapes.render(scene, 48, 32)), shapes.prompt(scene)
        for word in WORDS[attribute]:
            true = word in text.split()
            said = next(w for w in text.split() if w in WORDS[attribute])
            heard = oracle.adherence(state, text.replace(f" {said}", f" {word}"))
            expected = dict.fromkeys(heard, 1.0) | {attribute: float(true)}
            assert heard == pytest.approx(expected), (said, word)


def test_a_frozen_clip_has_neither_speed_nor_motion() -> None:
    for scene in held_out("shapes-1", 6):
        frozen = np.repeat(shapes.render(scene, 1, 32), 48, axis=0)
        heard = oracle.adherence(oracle.decode(frozen), shapes.prompt(scene))
        assert heard == dict.fromkeys(heard, 1.0) | {"speed": 0.0, "motion": 0.0}


# --- motion ---------------------------------------------------------------------------------------


def moved_along(path: NDArray[np.float64], **changes: object) -> tuple[Scene, State]:
    """A body drawn at positions ``[T, 2]``, whatever the law says."""
    scene = dark(body(**changes))
    return scene, oracle.decode(shapes.draw(scene, path[:, None], 32))


def straight(frames: int, step: float) -> NDArray[np.float64]:
    x = 0.5 + step * (np.arange(frames) - (frames - 1) / 2)
    return np.stack([x, np.full(frames, 0.5)], axis=1)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 2.0])
def test_persistence_is_the_square_of_the_speed(share: float) -> None:
    scene, state = moved_along(straight(9, 0.03 * share))
    measured = oracle.motion(state, scene)
    assert measured.persistence == pytest.approx(share**2, abs=0.02)
    assert measured.speed == pytest.approx(0.03 * share, abs=0.001)
    assert measured.displacement == pytest.approx(share, abs=0.02)
    assert measured.frames == 8


def test_white_noise_of_position_is_jitter_and_not_persistence() -> None:
    rng, persistence, jitter = np.random.default_rng(0), [], []
    for _ in range(60):
        path = straight(9, 0.03)
        scene, state = moved_along(path + rng.normal(scale=0.015, size=path.shape))
        measured = oracle.motion(state, scene)
        assert measured.persistence is not None and measured.jitter is not None
        persistence.append(measured.persistence)
        jitter.append(measured.jitter)
    assert np.mean(persistence) == pytest.approx(1, abs=0.15)
    assert np.mean(jitter) > 1


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_too_few_frames_are_not_measured(frames: int) -> None:
    scene, state = moved_along(straight(frames, 0.03))
    measured = oracle.motion(state, scene)
    assert measured.frames == frames - 1 and measured.persistence is None
    assert (measured.displacement is None) == (frames < 2)
    assert (measured.jitter is None) == (frames < 3)
    assert not oracle.violations(state, scene)["motion"].any()


def test_a_bounce_is_lawful_and_lying_at_the_wall_is_not() -> None:
    scene = dark(body())
    bouncing = oracle.decode(shapes.render(scene, 60, 32))
    assert not oracle.violations(bouncing, scene)["motion"].any()
    for distance in (0.0, 0.005, 0.015, 0.03):
        at_wall = np.tile([1 - scene.bodies[0].radius - distance, 0.5], (30, 1))
        scene, state = moved_along(at_wall)
        assert oracle.violations(state, scene)["motion"].mean() > 0.9, distance


def test_a_reversal_in_mid_air_is_seen_once() -> None:
    path = straight(13, 0.03)
    path[7:] = path[5::-1]
    scene, state = moved_along(path)
    np.testing.assert_array_equal(np.flatnonzero(oracle.violations(state, scene)["motion"]), [7])


def test_a_body_that_slides_along_a_wall_is_judged() -> None:
    """It never meets that wall: its motion up and down is as lawful, or not, as any."""
    vertical = dict(x=0.17, vx=0.0, vy=0.03, motion="vertically")
    scene = dark(body(**vertical))
    state = oracle.decode(shapes.render(scene, 60, 32))
    assert not oracle.violations(state, scene)["motion"].any()
    assert oracle.motion(state, scene).persistence == pytest.approx(1, abs=0.03)
    frozen = state_at(state, np.zeros(60, int))
    assert (oracle.violations(frozen, scene)["motion"] == 1).all()


# --- objects --------------------------------------------------------------------------------------


def test_a_lost_body_is_the_worst_in_all_but_the_background() -> None:
    scene = shapes.sample_scene("shapes-1", "test", 0)
    frames = shapes.render(scene, 12, 32)
    frames[4:7] = rounded(scene.background_rgb)
    graded = oracle.violations(oracle.decode(frames), scene)
    assert not graded.pop("background").any()
    # The step back into sight cannot be seen either.
    np.testing.assert_array_equal(np.flatnonzero(graded.pop("motion") == 1), [4, 5, 6, 7])
    for name, value in graded.items():
        np.testing.assert_array_equal(value, np.isin(np.arange(12), [4, 5, 6]), err_msg=name)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_objects_are_counted_whatever_their_colour(number: int) -> None:
    corners = [(0.25, 0.25), (0.75, 0.75), (0.25, 0.75), (0.75, 0.25)]
    hues = [(name, hue) for name, hue in shapes.COLOURS.items()]
    crowd = [
        body(x=x, y=y, colour=name, hue=hue)
        for (x, y), (name, hue) in zip(corners[:number], hues, strict=False)
    ]
    frames = shapes.render(dark(*crowd), 1, 32) if crowd else np.full((1, 32, 32, 3), 36, np.uint8)
    for bodies in (1, 2):
        assert oracle.decode(frames, bodies).count[0] == number


def test_an_object_cut_in_two_is_two_and_its_crumbs_are_none() -> None:
    scene = dark(body(radius=0.2))
    frames = shapes.render(scene, 1, 32)
    frames[:, :, 15:17] = 36
    frames[:, 2:4, 2:4] = 200
    state = oracle.decode(frames)
    assert state.count[0] == 2 and state.found[0, 0]
    assert oracle.violations(state, scene)["existence"][0] == 1


# --- anything at all ------------------------------------------------------------------------------

NOISE = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
RAMP = np.arange(32, dtype=np.uint8) * 8
ODD_FRAMES: dict[str, Frames] = {
    "black": np.zeros((3, 32, 32, 3), np.uint8),
    "white": np.full((3, 32, 32, 3), 255, np.uint8),
    "red": np.tile(np.array([230, 20, 20], np.uint8), (3, 32, 32, 1)),
    "noise": NOISE,
    "grey noise": np.repeat(NOISE[..., :1], 3, axis=3),
    "ramp": np.broadcast_to(RAMP[:, None], (3, 32, 32, 3)),
    "halves": np.repeat(NOISE[:, :1, :2] // 128 * 255, 16, axis=2).repeat(32, axis=1),
    "checkers": np.tile(np.kron([[0, 1], [1, 0]], np.full((8, 8), 255)), (3, 2, 2))[..., None]
    .repeat(3, axis=3)
    .astype(np.uint8),
    "one frame": NOISE[:1],
    "smallest": NOISE[:, :16, :16],
    "large": np.kron(NOISE, np.ones((1, 5, 5, 1), np.uint8)),
}


def assert_sane(state: State) -> None:
    """Finite wherever a body is found, and every score in its range."""
    for name in ("rgb", "radius", "centre"):
        value = getattr(state, name).reshape(*state.found.shape, -1)
        np.testing.assert_array_equal(np.isfinite(value).all(axis=2), state.found, err_msg=name)
    assert np.isfinite(state.noise).all() and (state.noise <= 1).all()
    assert (state.shape[~state.found] == -1).all() and (state.fit[~state.found] == 0).all()
    level = f"shapes-{state.found.shape[1]}"
    if level in shapes.LEVELS:
        scene = shapes.sample_scene(level, "test", 0)
        graded = np.stack(list(oracle.violations(state, scene).values()))
        heard = np.array(list(oracle.adherence(state, shapes.prompt(scene)).values()))
        assert ((graded >= 0) & (graded <= 1)).all() and ((heard >= 0) & (heard <= 1)).all()
        oracle.motion(state, scene)


@pytest.mark.parametrize("bodies", [1, 2, 3])
@pytest.mark.parametrize("kind", ODD_FRAMES)
def test_odd_frames_are_answered_sanely(kind: str, bodies: int) -> None:
    assert_sane(oracle.decode(ODD_FRAMES[kind], bodies))


@pytest.mark.parametrize("kind", ["black", "white", "red", "noise", "grey noise"])
def test_where_there_is_nothing_nothing_is_found(kind: str) -> None:
    state = oracle.decode(ODD_FRAMES[kind])
    assert not state.found.any()
    assert "noise" in kind or not state.count.any()  # noise may clot into pieces, none of them it
    graded = oracle.violations(state, shapes.sample_scene("shapes-1", "test", 0))
    assert all((graded[name] == 1).all() for name in oracle.VIOLATIONS if name != "background")


def test_a_grey_object_is_an_object_without_a_colour() -> None:
    frames = shapes.render(dark(body(saturation=0.0)), 4, 32)
    state = oracle.decode(frames)
    assert state.found.all() and (state.colour == -1).all()
    assert (state.shape == shapes.SHAPES.index("disc")).all()


def test_frames_that_are_not_square_rgb_are_refused() -> None:
    for shape in ((4, 32, 16, 3), (4, 32, 32), (4, 32, 32, 1), (0, 32, 32, 3)):
        with pytest.raises(ValueError, match="square RGB frames"):
            oracle.decode(np.zeros(shape, np.uint8))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 4),
    cells=st.integers(1, 16),
    block=st.integers(2, 16),
    levels=st.integers(1, 255),
    grey=st.booleans(),
    bodies=st.integers(1, 3),
)
def test_decode_never_raises(
    seed: int, frames: int, cells: int, block: int, levels: int, grey: bool, bodies: int
) -> None:
    """Blocks of any size, of few colours or many: the worst cases for pieces, peaks and medians."""
    size = max(16, cells * block)
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, levels + 1, (frames, cells, cells, 1 if grey else 3)) * (255 // levels)
    video = np.kron(coarse, np.ones((1, block, block, 3 if grey else 1)))
    padded = np.pad(video, ((0, 0), (0, size - len(video[0])), (0, size - len(video[0])), (0, 0)))
    assert_sane(oracle.decode(padded.astype(np.uint8), bodies))
