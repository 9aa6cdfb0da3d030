"""Times that were scripted come back: exactly under a fake clock, with nothing else in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sfbench import (
    clock,
    figures,
    latency,
    leaderboard,
    runner,
    session,
    stats,
    tables,
    verdicts,
)
from sfbench.interfaces import Frames
from sfbench.latency import Stream
from sfbench.models import Truth
from sfbench.schema import ModelCard, Prompt, Request, Result, Scores, Startup, Timing
from sfbench.tasks import drift, played, timings
from sfbench.tasks.latency import CHEAT, NOISY, Latency

Seconds = Callable[[int, int], float]
"""Of (stream, chunk), both from 0; warm-up streams count."""


class FakeClock:
    """Time passes only when somebody says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@cache
def _seen(text: str, shape: tuple[int, ...], pixels: bytes) -> Scores:
    return SCORES(np.frombuffer(pixels, np.uint8).reshape(shape), text)


SCORES = played.scores
"""As it is; in these tests most streams show the same few clips, and each is scored once."""


def stop_clocks(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(clock, "perf_counter", fake)
    # Under a fake clock the fixed piece of arithmetic takes no time: it need not be done.
    monkeypatch.setattr(runner, "machine_seconds", lambda: 0.0)
    monkeypatch.setattr(
        played, "scores", lambda frames, text: _seen(text, frames.shape, frames.tobytes())
    )
    return fake


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return stop_clocks(monkeypatch)


class Scripted:
    """Shows the truth, two frames a chunk, and takes as long for each as it is told."""

    needs_truth = True

    def __init__(self, time: FakeClock, seconds: Seconds, **card: object) -> None:
        known: dict[str, object] = {"name": "scripted", "chunk": 2, "native_frames": 12}
        self.card = ModelCard(**(known | card))
        self.time, self.seconds, self.streams = time, seconds, 0
        self.heard: list[tuple[int, str]] = []
        self.prepared: list[str] = []

    def bind(self, truth: Truth) -> None:
        self.truth = truth

    def clip(self, request: Request) -> Frames:
        assert request.prompt.scene is not None
        return self.truth(request.prompt.scene, request.geometry.frames)

    def prepare(self, request: Request) -> None:
        self.prepared.append(request.prompt.text)
        self.time.now += 5.0

    def generate(
        self, request: Request, context: Frames | None = None
    ) -> Generator[Frames, Prompt | None, None]:
        stream, self.streams = self.streams, self.streams + 1
        clip = self.clip(request)
        size = self.card.chunk if self.card.causal else request.geometry.frames
        assert size is not None
        for k in range(request.geometry.frames // size):
            self.time.now += self.seconds(stream, k)
            prompt = yield clip[size * k : size * (k + 1)]
            if prompt is not None:
                self.heard.append((size * (k + 1), prompt.text))
                self.time.now += 0.07  # it has to be embedded


class Split(Scripted):
    """Says what its parts take: a half is denoising, a tenth each the other two, and the rest."""

    told = ("denoise", "denoise", "cache", "decode", "decode")

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        clip = self.clip(request)
        with clock.span("text"):
            self.time.now += 0.2
        for start in range(0, request.geometry.frames, 2):
            for name in self.told:
                with clock.span(name):
                    self.time.now += 0.01
            self.time.now += 0.001
            yield clip[start : start + 2]


class Slow(Latency):
    """Scoring costs ten seconds a clip, which no timing may hold."""

    time: FakeClock

    def score(self, request: Request, frames: Frames) -> Scores:
        self.time.now += 10.0
        return super().score(request, frames)


def measured(
    time: FakeClock, out: Path, seconds: Seconds, tier: str = "lite", **card: object
) -> Result:
    task = Slow(tier=tier)
    task.time = time
    return runner.run(task, Scripted(time, seconds, **card), out)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of a stream whose every chunk takes 50 ms; what many tests look at and none changes."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        time = stop_clocks(monkeypatch)
        return measured(time, tmp_path_factory.mktemp("steady"), lambda s, k: 0.05)


def value(result: Result, name: str) -> float:
    found = result.estimates[name].value
    assert found is not None, f"{name}: {result.estimates[name].method}"
    return found


# --- scripted times are recovered -----------------------------------------------------------------


def test_a_steady_stream(steady: Result) -> None:
    exact = {"first_frame": 50, "gap_p50": 50, "gap_p95": 50, "jitter": 0, "fps_full": 40}
    exact |= {"late_16": 0, "late_24": 0, "fps_slope": 0, "throughput": 40}
    for name, expected in exact.items():
        assert value(steady, name) == pytest.approx(expected, abs=1e-6), name
    assert steady.validity.ok and not steady.validity.flags
    assert steady.curves["pace"].y[0].value == pytest.approx(40)


def test_a_slow_first_chunk(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.04 if k else 0.4)
    assert value(result, "first_frame") == pytest.approx(400)
    assert value(result, "gap_p50") == pytest.approx(40)
    assert value(result, "throughput") == pytest.approx(96 / (0.4 + 47 * 0.04), abs=1e-4)


def test_spikes_are_in_the_tail_and_not_in_the_middle(time: FakeClock, tmp_path: Path) -> None:
    # One of the 47 gaps of each stream is a spike: 2.1 % of 752.
    result = measured(time, tmp_path, lambda s, k: 0.3 if k == 20 else 0.05, "full")
    assert value(result, "gap_p50") == pytest.approx(50)
    assert value(result, "gap_p95") == pytest.approx(50)
    assert value(result, "gap_p99") == pytest.approx(300)
    assert value(result, "late_16") == pytest.approx(1 / 47, abs=1e-5)
    assert value(result, "jitter") == pytest.approx(0, abs=1e-6)


def test_a_pace_that_falls_with_the_horizon(time: FakeClock, tmp_path: Path) -> None:
    def seconds(stream: int, k: int) -> float:
        return 2 / (50 - 0.5 * k)  # half a frame a second slower with every two frames

    result = measured(time, tmp_path, seconds)
    assert value(result, "fps_slope") == pytest.approx(-3, abs=1e-4)  # six chunks a horizon of 12


def test_deadlines(time: FakeClock, tmp_path: Path) -> None:
    # Two frames last 125 ms at 16 fps and 83 ms at 24.
    result = measured(time, tmp_path, lambda s, k: 0.1 if k % 4 else 0.13)
    assert value(result, "late_24") == 1
    assert value(result, "late_16") == pytest.approx(11 / 47, abs=1e-5)


def test_only_the_part_with_a_full_context_ranks(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.01 if k < 6 else 0.1)
    assert value(result, "fps_full") == pytest.approx(20)


def test_a_clip_in_one_piece(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.6, causal=False)
    assert value(result, "first_frame") == pytest.approx(600)
    assert value(result, "throughput") == pytest.approx(20)
    for name in ("gap_p50", "late_16", "jitter", "fps_full", "fps_slope"):
        assert result.estimates[name].value is None
        assert "whole clip at once" in result.estimates[name].method
    (group,) = leaderboard.groups([result])
    assert [row.label for row in group.native] == ["scripted"]


# --- prompt switches, parts, scopes ---------------------------------------------------------------


def test_a_prompt_switch_is_said_in_mid_stream_and_timed(time: FakeClock, tmp_path: Path) -> None:
    task, model = Latency(tier="lite"), Scripted(time, lambda s, k: 0.05, switches_prompt=True)
    result = runner.run(task, model, tmp_path)
    assert value(result, "switch") == pytest.approx(50 + 70)
    assert value(result, "gap_p95") == pytest.approx(50), "plain streams are not switched"
    switched = [r for r in task.requests(model.card) if r.switch]
    assert model.heard == [(48, r.switch.prompt.text) for r in switched if r.switch]
    assert all(r.switch and r.switch.prompt.text != r.prompt.text for r in switched)


def test_a_model_that_cannot_switch_is_not_asked(steady: Result) -> None:
    assert steady.estimates["switch"].value is None
    assert "cannot change its prompt" in steady.estimates["switch"].method


def test_a_model_that_says_it_switches_and_does_not(time: FakeClock, tmp_path: Path) -> None:
    class Deaf(Split):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            return iter(list(super().generate(request, context)))

    model = Deaf(time, lambda s, k: 0.05, switches_prompt=True)
    result = runner.run(Latency(tier="smoke"), model, tmp_path)
    assert result.failures == {"model": 1} and not result.validity.ok


def test_the_parts_of_a_chunk(time: FakeClock, tmp_path: Path) -> None:
    result = runner.run(Latency(tier="lite"), Split(time, lambda s, k: 0.0), tmp_path)
    exact = {"text": 200, "denoise": 20, "cache": 10, "decode": 20}
    for name, expected in exact.items():
        assert value(result, f"part_{name}") == pytest.approx(expected), name
    assert value(result, "explained") == pytest.approx((0.2 + 48 * 0.05) / (0.2 + 48 * 0.051), 1e-4)


def test_parts_that_do_not_add_up_are_not_published(time: FakeClock, tmp_path: Path) -> None:
    model = Split(time, lambda s, k: 0.0)
    model.told = ("denoise", "guidance", "cache", "decode", "decode")
    result = runner.run(Latency(tier="lite"), model, tmp_path)
    assert value(result, "explained") == pytest.approx((0.2 + 48 * 0.04) / (0.2 + 48 * 0.051), 1e-4)
    assert result.estimates["part_denoise"].value is None
    assert "are 80% of the time" in result.estimates["part_denoise"].method


def test_a_model_without_parts_says_so(steady: Result) -> None:
    for name in ("explained", "part_decode"):
        assert steady.estimates[name].value is None, name
        assert "names no part" in steady.estimates[name].method


def test_the_parts_of_a_clip_in_one_piece(time: FakeClock, tmp_path: Path) -> None:
    class Whole(Split):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            yield np.concatenate(list(super().generate(request, context)))

    model = Whole(time, lambda s, k: 0.0, causal=False, native_frames=12)
    result = runner.run(Latency(tier="lite"), model, tmp_path)
    exact = {"text": 200, "denoise": 120, "cache": 60, "decode": 120}
    for name, expected in exact.items():
        assert value(result, f"part_{name}") == pytest.approx(expected), name


def test_a_scope_is_prepared_outside_the_clock(
    time: FakeClock, tmp_path: Path, steady: Result
) -> None:
    task = Latency(tier="lite", scope="dit")
    model = Scripted(time, lambda s, k: 0.05, scopes=("e2e", "dit"))
    result = runner.run(task, model, tmp_path / "dit")
    assert value(result, "first_frame") == pytest.approx(50) and len(model.prepared) == 10
    with pytest.raises(leaderboard.Incomparable, match=r"scope \(dit vs e2e\)"):
        leaderboard.require_comparable([result, steady])


def test_a_scope_that_a_model_does_not_offer_is_refused(time: FakeClock, tmp_path: Path) -> None:
    result = runner.run(
        Latency(tier="smoke", scope="dit"), Scripted(time, lambda s, k: 0.05), tmp_path
    )
    assert result.failures == {"unsupported": 5} and not result.validity.ok


@pytest.mark.parametrize("field", ({"dtype": "bfloat16"}, {"compiled": True}))
def test_other_arithmetic_is_another_table(
    time: FakeClock, tmp_path: Path, field: dict[str, object]
) -> None:
    a = measured(time, tmp_path / "a", lambda s, k: 0.05, "smoke")
    b = measured(time, tmp_path / "b", lambda s, k: 0.05, "smoke", **field)
    with pytest.raises(leaderboard.Incomparable, match=f"differ in {next(iter(field))}"):
        leaderboard.require_comparable([a, b])


def test_latents_are_not_pixels(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.05, frames_per_latent=4)
    assert value(result, "fps_full") == pytest.approx(40)
    assert value(result, "latents_full") == pytest.approx(10)


def test_models_take_turns(
    time: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[str] = []

    class Turned(Scripted):
        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            played.append(self.card.name)
            yield from super().generate(request, context)

    monkeypatch.setattr(session, "resolve", lambda n: Turned(time, lambda s, k: 0.05, name=n))
    started = Startup(
        ready_s=1, first_frame_s=2, peak_bytes=3, steady_bytes=2, cuda_peak_bytes=None
    )
    monkeypatch.setattr(runner, "measure", lambda name, dataset, request: started)
    plans = session.plan("latency", {"tier": "lite"}, ["a:x", "b:x"], tmp_path, None)
    results = session.run(plans, {})
    assert "".join(n[0] for n, _ in itertools.groupby(played)) == "ababa", "ab, ba, ab, ba"
    assert all(r.validity.ok and r.estimates["gap_p50"].n == 6 * 47 for r in results)
    assert not list(tmp_path.rglob("*.mp4")), "a clip that is timed is not kept"


# --- a turn is one moment of the machine ----------------------------------------------------------


class Wandering:
    """A machine that is a tenth slower in every further turn of anybody."""

    def __init__(self, time: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.visits = 0
        begin = runner.run

        def run(*arguments: object, **named: object) -> Result:
            self.visits += 1
            return begin(*arguments, **named)  # type: ignore[arg-type]

        started = Startup(
            ready_s=1, first_frame_s=2, peak_bytes=3, steady_bytes=2, cuda_peak_bytes=None
        )
        monkeypatch.setattr(runner, "run", run)
        monkeypatch.setattr(runner, "measure", lambda name, dataset, request: started)
        monkeypatch.setattr(
            session,
            "resolve",
            lambda name: Scripted(time, lambda s, k: 0.02 * 1.1**self.visits, name=name),
        )


@pytest.mark.parametrize(("tier", "turns"), [("lite", 4), ("full", 8)])
def test_the_cluster_of_a_timing_is_the_turn_it_was_played_in(
    time: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tier: str, turns: int
) -> None:
    Wandering(time, monkeypatch)
    plans = session.plan("latency", {"tier": tier}, ["a:x", "b:x"], tmp_path, None)
    results = session.run(plans, {})
    for place, result in enumerate(results):
        visits = [2 * turn + (1 - place if turn % 2 else place) + 1 for turn in range(turns)]
        expected = {f"turn-{n}": 20 * 1.1**visit for n, visit in enumerate(visits, 1)}
        for name in ("first_frame", "gap_p50"):
            found = result.estimates[name]
            assert result.per_prompt[name] == pytest.approx(expected, abs=1e-4)
            assert found.clusters == turns and "turn" in found.method
        assert result.estimates["cold_start"].clusters == len(result.per_prompt["cold_start"])
        assert result.estimates["late_24"].clusters == turns
    page = tables.markdown(leaderboard.groups(results))
    assert f"shapes-1 · {turns} turns · " in page and "95 % interval over turns" in page


@pytest.mark.parametrize("turns", [4, 8])
@pytest.mark.parametrize("lasting", [0.0, 0.5, 0.9])
def test_a_wandering_machine_tells_no_model_from_itself(turns: int, lasting: float) -> None:
    """Two equal models take turns on a machine whose speed wanders by 6 % between visits.

    ``lasting``: how much of it lasts until the next visit, so how much a turn's pair shares. Were
    each stream taken for independent, 7 to 30 % of verdicts would be false.
    """
    rng, trials, streams = np.random.default_rng(turns), 1000, 16 // turns
    told = {"turn": 0, "stream": 0}
    card = ModelCard(name="m", causal=False)
    for trial in range(trials):
        speed = [rng.normal(0, 0.06)]
        for _ in range(2 * turns - 1):
            fresh = np.sqrt(1 - lasting**2) * rng.normal(0, 0.06)
            speed.append(lasting * speed[-1] + fresh)
        seconds = 0.04 * np.exp(np.array(speed)[:, None] + rng.normal(0, 0.03, streams))
        by_turn, by_stream = [], []
        for own in (seconds[::2], seconds[1::2]):
            by_turn.append({f"turn-{n}": 1000 * row.mean() for n, row in enumerate(own)})
            if not trial:  # what the task publishes; it need not do all else a thousand times
                taken = [
                    (f"turn-{n}", Timing(chunks=((12, second),)))
                    for n, row in enumerate(own)
                    for second in row
                ]
                published = timings.measure(card, taken).per_prompt["first_frame"]
                assert published == pytest.approx(by_turn[-1], abs=1e-5)
            by_stream.append({str(n): 1000 * s for n, s in enumerate(own.ravel())})
        for name, pair in (("turn", by_turn), ("stream", by_stream)):
            told[name] += verdicts.excludes_zero(stats.difference(pair[0], pair[1]))
    error = np.sqrt(0.05 * 0.95 / trials)
    assert told["turn"] / trials <= 0.05 + 2 * error, told
    assert told["stream"] > 1.5 * told["turn"]


# --- what may not be trusted says so --------------------------------------------------------------


def test_a_percentile_needs_its_sample(steady: Result) -> None:
    assert [stats.least_for(q) for q in (0.9, 0.99)] == [64, 662]
    assert steady.estimates["gap_p99"].value is None
    assert "282 of the 662" in steady.estimates["gap_p99"].method


@pytest.mark.parametrize("wander", [0.0, 0.2])
def test_the_interval_of_a_percentile_covers(wander: float) -> None:
    """Also where all of a turn is faster or slower, which a hundred gaps a turn do not undo."""
    rng, true, covered = np.random.default_rng(3), np.log(10), 0
    for gaps in rng.exponential(size=(400, 8, 100)) * np.exp(rng.normal(0, wander, (400, 8, 1))):
        found = stats.percentile({str(turn): row for turn, row in enumerate(gaps)}, 0.9)
        assert found.low is not None and found.high is not None
        covered += found.low <= true * (1 + 0.5 * wander**2) <= found.high
    assert 0.92 * 400 <= covered <= 0.99 * 400


def test_a_model_that_is_still_warming_up_is_not_ranked(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.05 if s >= 4 else 0.09)
    assert not result.validity.ok
    assert "steady from stream 4 on, not 2" in result.validity.reasons[0]


def test_a_declared_warm_up_is_left_out(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.05 if s >= 2 else 0.5)
    assert result.validity.ok
    assert value(result, "gap_p95") == pytest.approx(50)


def test_a_noisy_machine_is_flagged(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.05 * (1 + 0.3 * (s % 3)))
    assert any(flag.startswith(NOISY) for flag in result.validity.flags)


def test_a_cheat_is_timed_and_not_ranked_nor_drawn(time: FakeClock, tmp_path: Path) -> None:
    result = measured(time, tmp_path, lambda s, k: 0.001, kind="cheat")
    assert CHEAT in result.validity.flags
    (group,) = leaderboard.groups([result])
    assert not group.ranked
    assert figures.pace(group, tmp_path / "pace.png") is None


@pytest.mark.parametrize(
    ("order", "word"),
    [
        (lambda n: np.zeros(n, int), drift.NO_MOTION),
        (lambda n: np.minimum(np.arange(n), n // 2), drift.STILL),
        (lambda n: np.arange(n) % 24, drift.REPEATS),
    ],
)
def test_what_does_not_play_is_not_ranked(
    time: FakeClock, tmp_path: Path, order: Callable[[int], np.ndarray], word: str
) -> None:
    class Replayed(Scripted):
        def clip(self, request: Request) -> Frames:
            return super().clip(request)[order(request.geometry.frames)]

    result = runner.run(Latency(tier="lite"), Replayed(time, lambda s, k: 0.05), tmp_path)
    assert result.validity.flags == (word,)
    assert not leaderboard.groups([result])[0].ranked


def test_noise_is_not_ranked_however_fast(time: FakeClock, tmp_path: Path) -> None:
    class Noise(Scripted):
        def clip(self, request: Request) -> Frames:
            rng = np.random.default_rng(0)
            return rng.integers(0, 256, super().clip(request).shape, np.uint8)

    result = runner.run(Latency(tier="lite"), Noise(time, lambda s, k: 0.001), tmp_path)
    assert result.validity.flags == (drift.NOTHING,)
    clean = runner.run(Latency(tier="lite"), Scripted(time, lambda s, k: 0.05), tmp_path / "true")
    assert value(clean, "violation_1x") == pytest.approx(0, abs=0.01)
    assert not clean.validity.flags


def test_other_conditions_are_another_table(
    time: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for threads in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        results.append(measured(time, tmp_path / threads, lambda s, k: 0.05, "smoke"))
    with pytest.raises(leaderboard.Incomparable, match=r"differ in threads \(1 vs 2\)"):
        leaderboard.require_comparable(results)


def test_a_resumed_run_warms_up_again(time: FakeClock, tmp_path: Path) -> None:
    task = Latency(tier="lite")
    first = Scripted(time, lambda s, k: 0.05)
    runner.run(task, first, tmp_path, limit=5)
    assert first.streams == 4  # and one in a process of its own
    # A process that starts again is slow at first; those streams are not recorded.
    second = Scripted(time, lambda s, k: 0.05 if s >= 2 else 9.0)
    result = runner.run(task, second, tmp_path)
    assert second.streams == 2 + 4 + 2  # the last two are timed part by part
    assert result.validity.ok and value(result, "gap_p95") == pytest.approx(50)


def test_the_machines_own_speed_is_told_beside(
    time: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = iter([9.0, 9.0, *[0.010, 0.014] * 3, 9.0, 9.0])  # neither warm-up nor parts
    monkeypatch.setattr(runner, "machine_seconds", lambda: next(speeds))
    assert value(measured(time, tmp_path, lambda s, k: 0.05), "machine") == pytest.approx(12)


def test_requests_are_never_batched(time: FakeClock, tmp_path: Path) -> None:
    class Batched(Scripted):
        def generate_batch(self, requests: object, contexts: object) -> Iterator[list[Frames]]:
            raise AssertionError("a batch has no latency")
            yield

    result = runner.run(Latency(tier="smoke"), Batched(time, lambda s, k: 0.05), tmp_path)
    assert value(result, "gap_p50") == pytest.approx(50)
    with pytest.raises(ValueError, match="a batch of 8 has no latency"):
        Stream.of(Timing(chunks=((2, 0.1),), batch=8))


def test_too_few_streams_say_nothing_of_warmth_or_noise() -> None:
    stream = Stream((2, 2), (0.1, 0.1))
    assert latency.warm_from([stream] * 3) is None
    assert latency.noise([[stream], [stream]]) is None


def test_noise_is_what_streams_of_one_turn_differ_by() -> None:
    rng = np.random.default_rng(0)
    for size in (2, 3, 8):
        speeds = np.exp(rng.normal(0, 0.3, (2000, 1)) + rng.normal(0, 0.05, (2000, size)))
        found = latency.noise([[Stream((2, 2), (1.0, s)) for s in row] for row in speeds])
        assert found == pytest.approx(0.05, rel=0.1), size
