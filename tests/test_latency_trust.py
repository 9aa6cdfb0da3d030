"""How far a timing can be trusted: a turn is one moment of the machine, and what is off says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sfbench import figures, latency, leaderboard, runner, session, stats, tables, verdicts
from sfbench.interfaces import Frames
from sfbench.latency import Stream
from sfbench.schema import ModelCard, Request, Result, Startup, Timing
from sfbench.tasks import drift, timings
from sfbench.tasks.latency import CHEAT, NOISY, Latency

from latency_fixtures import FakeClock, Scripted, measured, steadily, stop_clocks, value


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return stop_clocks(monkeypatch)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of a stream whose every chunk takes 50 ms; what many tests look at and none changes."""
    return steadily(tmp_path_factory.mktemp("steady"))


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
