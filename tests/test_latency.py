"""Times that were scripted come back: exactly under a fake clock, with nothing else in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfbench import clock, leaderboard, runner, session
from sfbench.interfaces import Frames
from sfbench.schema import Request, Result, SceneRef, Startup
from sfbench.store import read_records
from sfbench.tasks.latency import Latency

from latency_fixtures import FakeClock, Scripted, measured, steadily, stop_clocks, value


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    return stop_clocks(monkeypatch)


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Of a stream whose every chunk takes 50 ms; what many tests look at and none changes."""
    return steadily(tmp_path_factory.mktemp("steady"))


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


class Film(Scripted):
    """Noise of any size, or one frame of it for ever."""

    still = False

    def clip(self, request: Request) -> Frames:
        size, random = request.geometry, np.random.default_rng(request.seed)
        count = 1 if self.still else size.frames
        frames = random.integers(0, 256, (count, size.height, size.width, 3), np.uint8)
        return np.broadcast_to(frames, (size.frames, *frames.shape[1:])).copy()


@pytest.mark.parametrize("still", [False, True])
def test_frames_that_are_not_the_worlds_are_timed_and_only_stills_are_flagged(
    still: bool, time: FakeClock, tmp_path: Path
) -> None:
    model = Film(time, lambda s, k: 0.05)
    model.still = still
    result = runner.run(Latency(tier="smoke", size=(16, 48)), model, tmp_path)
    assert (result.task.geometry.height, result.task.geometry.width) == (16, 48)
    assert "oracle" not in result.task.metrics and "violation_1x" not in result.estimates
    assert value(result, "fps_full") == pytest.approx(40)
    assert result.validity.flags == (("DEGENERATE (stands still)",) if still else ())
    with pytest.raises(ValueError, match="true videos of this world are square"):
        Latency(size=(16, 48)).truth(SceneRef(dataset="shapes-1", split="test", index=0), 4)


def test_a_long_horizon_is_streamed_well_beyond(time: FakeClock, tmp_path: Path) -> None:
    """Pace with the context full needs chunks after it, however many frames fill it."""
    result = measured(time, tmp_path, lambda s, k: 0.05, "smoke", native_frames=81, chunk=3)
    assert {r.request.geometry.frames for r in read_records(tmp_path)} == {81 + 96}
    assert value(result, "fps_full") == pytest.approx(60)


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
