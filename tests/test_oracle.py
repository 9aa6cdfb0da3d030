"""The oracle: right on truth, on another rasteriser and through a codec; sane on anything else.

*Perfect* under anti-aliasing means the bounds of :data:`PERFECT`: they shrink with the size of a
pixel, and two bodies cost a little where a sliver of one peeps out from behind the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sfbench.interfaces import Frames
from sfbench.tasks import oracle, shapes
from sfbench.tasks.oracle import State
from sfbench.tasks.shapes import Body, Scene

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


def held_out(level: str, count: int) -> list[Scene]:
    return [shapes.sample_scene(level, "test", i) for i in range(count)]


def body(**changes: object) -> Body:
    """A small red disc in the middle that goes right slowly, but for the changes."""
    plain = Body("disc", "red", 0.0, 0.9, 0.85, 0.17, 0.5, 0.5, 0.03, 0.0, "slowly", "horizontally")
    return replace(plain, **changes)  # type: ignore[arg-type]


def dark(*bodies: Body) -> Scene:
    return Scene(bodies, "dark", (0.14, 0.14, 0.14))


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


def rounded(rgb: tuple[float, float, float]) -> NDArray[np.int64]:
    return np.round(np.array(rgb) * 255).astype(int)


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


def state_at(state: State, times: NDArray[np.int64]) -> State:
    """The state at chosen frames."""
    series = [f.name for f in fields(State) if f.name != "size"]
    return replace(state, **{name: getattr(state, name)[times] for name in series})


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
