"""The arms: which frames a model is handed, and what is made of what it gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from sfbench.arms import CONTEXT_NOISE, Played, batch_key, corrupt, noised, nudged, play
from sfbench.interfaces import Frames
from sfbench.schema import Failure, ModelCard, Request

import fakes

STEPWISE = ("true", "own", "swapped", "corrupted", "noised", "twin")
ARMS = (*STEPWISE, "streamed")
TASK = fakes.FakeTask(prompts=2, arms=ARMS)  # 8 frames after a prefix of 4, 3 a call
REQUESTS = {
    arm: [r for r in TASK.requests(ModelCard(name="m")) if r.arm == arm] for arm in ("free", *ARMS)
}


class Witness:
    """Answers with frames of its own and remembers what it was handed."""

    card = ModelCard(name="witness", accepts_context=True)

    def __init__(self) -> None:
        self.calls: list[tuple[Request, Frames | None]] = []

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        self.calls.append((request, None if context is None else context.copy()))
        if context is not None:
            context[:] = 0  # a rude model must not spoil the truth
        value = 200 + len(self.calls)
        yield np.full((request.geometry.frames, fakes.HEIGHT, fakes.WIDTH, 3), value, np.uint8)


def played(arm: str) -> tuple[Witness, Frames]:
    witness = Witness()
    answer = play(witness, REQUESTS[arm][:1], TASK.truth)[0]
    assert isinstance(answer, Played)
    assert len(answer.frames) == 8
    assert sum(count for count, _ in answer.timing.chunks) == 8
    return witness, answer.frames


def true(frames: int, index: int = 0) -> Frames:
    return TASK.truth(fakes.scene(index), frames)


def test_free_is_one_call_without_context() -> None:
    witness, _ = played("free")
    ((request, context),) = witness.calls
    assert context is None
    assert request.geometry.frames == 8


def test_streamed_is_one_call_after_the_true_prefix() -> None:
    witness, _ = played("streamed")
    ((request, context),) = witness.calls
    assert request.geometry.frames == 8
    assert np.array_equal(context, true(4))


@pytest.mark.parametrize(("arm", "scene"), [("true", 0), ("swapped", 99)])
def test_true_and_swapped_renew_the_context_of_every_chunk(arm: str, scene: int) -> None:
    witness, frames = played(arm)
    assert [request.geometry.frames for request, _ in witness.calls] == [3, 3, 2]
    for k, (_, context) in enumerate(witness.calls):
        assert np.array_equal(context, true(4 + 3 * k, scene))
    assert frames[:, 0, 0, 0].tolist() == [201] * 3 + [202] * 3 + [203] * 2


def test_own_hands_the_model_its_own_frames() -> None:
    witness, frames = played("own")
    assert [request.geometry.frames for request, _ in witness.calls] == [3, 3, 2]
    for k, (_, context) in enumerate(witness.calls):
        assert np.array_equal(context, np.concatenate([true(4), frames[: 3 * k]]))


def test_corrupted_is_own_after_a_damaged_end_of_the_prefix() -> None:
    witness, frames = played("corrupted")
    for k, (_, context) in enumerate(witness.calls):
        assert context is not None
        assert np.array_equal(context[:1], true(1))
        assert np.array_equal(context[1:4], corrupt(true(4)[1:], REQUESTS["corrupted"][0].seed))
        assert np.array_equal(context[4:], frames[: 3 * k])


def test_noised_is_true_with_noise_after_the_prefix() -> None:
    witness, _ = played("noised")
    noisy = noised(true(12)[4:], REQUESTS["noised"][0])
    for k, (_, context) in enumerate(witness.calls):
        assert np.array_equal(context, np.concatenate([true(4), noisy])[: 4 + 3 * k])


def test_twin_is_own_after_a_prefix_that_was_nudged() -> None:
    witness, frames = played("twin")
    for k, (_, context) in enumerate(witness.calls):
        assert context is not None
        assert np.array_equal(context[:4], nudged(true(4), REQUESTS["twin"][0]))
        assert np.array_equal(context[4:], frames[: 3 * k])


def test_noise_and_nudge_are_of_known_size_and_the_requests_own() -> None:
    grey = np.full((6, 32, 32, 3), 128, np.uint8)
    one, seed, prompt = (REQUESTS["noised"][n] for n in (0, 1, 2))
    assert (one.prompt, one.seed) == (seed.prompt, prompt.seed)
    noise, nudge = (f(grey, one).astype(float) - grey for f in (noised, nudged))
    assert noise.std() == pytest.approx(CONTEXT_NOISE, rel=0.02)
    assert abs(noise.mean()) < 0.5 and abs(nudge.mean()) < 0.02
    assert set(np.unique(nudge)) == {-1, 0, 1}
    assert np.abs(nudge).mean() == pytest.approx(0.5, abs=0.01)
    for change in (noised, nudged):
        assert np.array_equal(change(grey, one), change(grey, one))
        for other in (seed, prompt):
            assert not np.array_equal(change(grey, one), change(grey, other))
    ends = np.stack([grey * 0, grey * 0 + 255])  # nothing wraps around at the ends of the range
    assert np.abs(nudged(ends, one).astype(int) - ends).max() == 1


def test_corruption_is_strong_and_a_function_of_the_seed() -> None:
    frames = true(3)
    damage = np.abs(corrupt(frames, 0).astype(int) - frames.astype(int)).mean()
    assert damage > 20
    assert np.array_equal(corrupt(frames, 0), corrupt(frames, 0))
    assert not np.array_equal(corrupt(frames, 0), corrupt(frames, 1))


def test_the_model_never_learns_its_arm() -> None:
    """The first chunk of every arm with an intact prefix is asked for in the same words."""
    asked = {arm: played(arm)[0].calls[0] for arm in ("true", "own")}
    assert asked["true"][0] == asked["own"][0]
    for arm in REQUESTS:
        for request, _ in played(arm)[0].calls:
            assert request.context is None
            assert not request.options


def test_a_model_without_context_is_not_asked() -> None:
    (answer,) = play(fakes_without_context(), REQUESTS["own"][:1], TASK.truth)
    assert isinstance(answer, Failure)
    assert answer.kind == "unsupported"


def fakes_without_context() -> fakes.Static:
    model = fakes.Static()
    model.card = ModelCard(name="short-sighted", accepts_context=False)
    return model


# --- what a model may get wrong -------------------------------------------------------------------

SIZE = (fakes.HEIGHT, fakes.WIDTH, 3)


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([np.zeros((8, *SIZE), np.float32)], "gave float32"),
        ([np.zeros((8, 32, 32, 3), np.uint8)], r"gave uint8 \[8, 32, 32, 3\]"),
        ([np.zeros((*SIZE,), np.uint8)] * 8, r"a chunk is uint8 \[t, 33, 17, 3\]"),
        ([np.zeros((8, *SIZE[:2], 4), np.uint8)], "gave uint8"),
        ([np.zeros((7, *SIZE), np.uint8)], "gave 7 of the 8 frames"),
        ([np.zeros((9, *SIZE), np.uint8)], "more than the 8 frames"),
        ([], "gave 0 of the 8 frames"),
        ([np.zeros((0, *SIZE), np.uint8)], "t > 0"),
        ([[[1]]], "gave a list"),
        ([None], "gave a NoneType"),
    ],
)
def test_frames_that_were_not_asked_for(chunks: list[object], reason: str) -> None:
    class Wrong(fakes.Static):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            return iter(chunks)  # type: ignore[arg-type]

    (answer,) = play(Wrong(), REQUESTS["free"][:1], TASK.truth)
    assert isinstance(answer, Failure)
    assert answer.kind == "geometry"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(answer.reason)


def test_a_model_that_never_stops_is_stopped() -> None:
    class Endless(fakes.Static):
        given = 0

        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            while True:
                Endless.given += 1
                yield np.zeros((1, *SIZE), np.uint8)

    (answer,) = play(Endless(), REQUESTS["free"][:1], TASK.truth)
    assert isinstance(answer, Failure)
    assert Endless.given == 9


@pytest.mark.parametrize("error", [ValueError("too dark"), SystemExit("too dark"), MemoryError()])
def test_a_model_that_raises(error: BaseException) -> None:
    class Broken(fakes.Static):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            yield from ()
            raise error

    (answer,) = play(Broken(), REQUESTS["free"][:1], TASK.truth)
    assert answer == Failure(kind="model", reason=f"{type(error).__name__}: {error}")


def test_an_error_of_the_task_is_not_the_models_fault() -> None:
    def truth(ref: object, frames: int) -> Frames:
        raise ValueError("no such scene")

    with pytest.raises(ValueError, match="no such scene"):
        play(fakes.Static(), REQUESTS["own"][:1], truth)


def test_a_buffer_that_is_used_again() -> None:
    class Reusing(fakes.Static):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            buffer = np.zeros((1, *SIZE), np.uint8)
            for n in range(request.geometry.frames):
                buffer[:] = n
                yield buffer

    (answer,) = play(Reusing(), REQUESTS["free"][:1], TASK.truth)
    assert isinstance(answer, Played)
    assert answer.frames[:, 0, 0, 0].tolist() == list(range(8))


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["free", *ARMS])
def test_batch_size_does_not_matter(arm: str) -> None:
    alone = [play(fakes.Static(), [r], TASK.truth)[0] for r in REQUESTS[arm]]
    together = play(fakes.Batched(), REQUESTS[arm], TASK.truth)
    for one, other in zip(alone, together, strict=True):
        assert isinstance(one, Played)
        assert isinstance(other, Played)
        assert np.array_equal(one.frames, other.frames)
        assert (one.timing.batch, other.timing.batch) == (1, len(REQUESTS[arm]))


class Echo(fakes.Batched):
    """Goes on with the last frame that it sees, one level brighter."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        assert context is not None
        yield np.repeat(context[-1:] + np.uint8(1), request.geometry.frames, axis=0)


def test_arms_that_ask_alike_share_a_batch() -> None:
    mixed = [REQUESTS[arm][0] for arm in STEPWISE]
    assert len({batch_key(request) for request in mixed}) == 1
    for request, answer in zip(mixed, play(Echo(), mixed, TASK.truth), strict=True):
        (alone,) = play(Echo(), [request], TASK.truth)
        assert isinstance(answer, Played) and isinstance(alone, Played)
        assert np.array_equal(answer.frames, alone.frames)
        assert answer.timing.batch == len(STEPWISE)


def test_a_request_that_fails_in_a_batch_fails_alone() -> None:
    class Fragile(fakes.Stubborn):
        def generate_batch(
            self, requests: Sequence[Request], contexts: Sequence[Frames | None]
        ) -> Iterator[list[Frames]]:
            raise RuntimeError("all of us or none")

    class Picky(Fragile):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            if request.prompt.id == "p1":
                raise RuntimeError("not this one")
            yield from super().generate(request, context)

    answers = play(Picky(), REQUESTS["free"], TASK.truth)
    kinds = [type(answer) for answer in answers]
    assert kinds == [Played, Played, Failure, Failure]


def test_only_like_requests_share_a_batch() -> None:
    keys = {batch_key(request) for arm in REQUESTS for request in REQUESTS[arm]}
    assert len(keys) == 3  # free, streamed, chunk by chunk
    request = REQUESTS["own"][0]
    assert request.context is not None
    longer = request.geometry.model_copy(update={"frames": 9})
    assert batch_key(request.model_copy(update={"geometry": longer})) not in keys
    prefix = request.context.model_copy(update={"prefix": 5})
    assert batch_key(request.model_copy(update={"context": prefix})) not in keys


# --- the clock ------------------------------------------------------------------------------------


def test_the_harness_keeps_the_time() -> None:
    (answer,) = play(fakes.Slow(), REQUESTS["free"][:1], TASK.truth)
    assert isinstance(answer, Played)
    assert [count for count, _ in answer.timing.chunks] == [2, 2, 2, 2]
    for _, seconds in answer.timing.chunks:
        assert 0.02 <= seconds < 0.2
