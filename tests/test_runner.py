"""A run: every request once, failures do not stop it, and the result says what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sfbench.interfaces import Frames
from sfbench.runner import BATCH_BYTES, batches, run
from sfbench.schema import ModelCard, Request, Result, Scores
from sfbench.store import StoreError, read_records
from sfbench.video import read_clip

import fakes


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    task = fakes.FakeTask(arms=("own", "true"))
    result = run(task, fakes.Static(), tmp_path / "run", progress=lambda *n: told.append(n))

    assert told == [(n, 18) for n in range(19)]
    assert result.validity.ok
    assert not result.failures
    assert result.estimates["level"].n == 18
    assert Result.model_validate_json((tmp_path / "run" / "result.json").read_text()) == result
    records = read_records(tmp_path / "run")
    assert [r.request for r in records] == task.requests(fakes.Static.card)
    data = (tmp_path / "run" / "records.jsonl").read_bytes()
    assert result.records_sha256 == hashlib.sha256(data).hexdigest()
    assert result.provenance.wall_s is not None
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_clips_on_disk_are_the_pixels_that_were_scored(tmp_path: Path) -> None:
    run(fakes.FakeTask(arms=("own",)), fakes.Static(), tmp_path)
    records = read_records(tmp_path)
    assert {r.request.arm for r in records if r.clip} == {"free"}
    assert len(list((tmp_path / "clips").iterdir())) == 6
    for record in records[:6]:
        assert record.clip is not None
        frames, fps = read_clip(tmp_path / record.clip.path)
        assert np.array_equal(frames, fakes.noise(record.request, 0, 8))
        assert hashlib.sha256(frames.tobytes()).hexdigest() == record.clip.sha256
        assert (*frames.shape[:3], fps) == (8, 33, 17, 16)


def test_all_clips_can_be_kept(tmp_path: Path) -> None:
    run(fakes.FakeTask(arms=("own",)), fakes.Static(), tmp_path, clips="all")
    assert all(record.clip for record in read_records(tmp_path))


def test_equal_seeds_give_equal_pixels_whatever_the_batch(tmp_path: Path) -> None:
    task = fakes.FakeTask(arms=("own", "streamed"))
    seen = []
    for batch in (1, 4, 32):
        result = run(task, fakes.Batched(), tmp_path / str(batch), batch=batch, clips="all")
        records = read_records(tmp_path / str(batch))
        clips = {r.key: r.clip.sha256 for r in records if r.clip}
        assert len(clips) == 18
        seen.append((clips, result.estimates, result.per_prompt))
        assert max(r.timing.batch for r in records if r.timing) == min(batch, 6)
    assert seen[0] == seen[1] == seen[2]


def test_the_same_command_again_does_nothing(tmp_path: Path) -> None:
    class Counting(fakes.Static):
        calls = 0

        def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
            Counting.calls += 1
            return super().generate(request, context)

    first = run(fakes.FakeTask(), Counting(), tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    second = run(fakes.FakeTask(), Counting(), tmp_path)
    assert Counting.calls == 6
    assert (tmp_path / "records.jsonl").read_bytes() == before
    assert comparable(first) == comparable(second)


def test_a_limited_run_is_not_valid_and_can_be_completed(tmp_path: Path) -> None:
    limited = run(fakes.FakeTask(), fakes.Static(), tmp_path / "a", limit=2)
    assert not limited.validity.ok
    assert limited.validity.reasons == ("limit: 2 of 6 requests",)
    assert limited.estimates["level"].n == 2
    completed = run(fakes.FakeTask(), fakes.Static(), tmp_path / "a")
    assert completed.validity.ok
    assert comparable(completed) == comparable(
        run(fakes.FakeTask(), fakes.Static(), tmp_path / "b")
    )


def test_failures_are_counted_kept_and_retried_on_demand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUBBORN", "1")
    failed = run(fakes.FakeTask(), fakes.Stubborn(), tmp_path)
    assert failed.failures == {"model": 2}
    assert failed.validity.reasons == ("2 of 6 requests failed (model 2)",)
    assert failed.estimates["level"].clusters == 2
    reasons = {r.failure.reason for r in read_records(tmp_path) if r.failure}
    assert reasons == {"RuntimeError: out of ideas"}

    monkeypatch.delenv("STUBBORN")
    assert run(fakes.FakeTask(), fakes.Stubborn(), tmp_path).failures == {"model": 2}
    retried = run(fakes.FakeTask(), fakes.Stubborn(), tmp_path, retry_errors=True)
    assert retried.validity.ok
    assert not retried.failures
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 8


@pytest.mark.parametrize("what", ["raises", "nan"])
def test_a_score_that_fails_is_a_failure_of_that_request(tmp_path: Path, what: str) -> None:
    class Harsh(fakes.FakeTask):
        def score(self, request: Request, frames: Frames) -> Scores:
            if request.prompt.id == "p0" and what == "raises":
                raise ZeroDivisionError("nothing to divide")
            if request.prompt.id == "p0":
                return Scores(values={"level": float("nan")})
            return super().score(request, frames)

    result = run(Harsh(), fakes.Static(), tmp_path)
    assert result.failures == {"score": 2}
    broken = [r for r in read_records(tmp_path) if r.failure]
    assert all(r.clip and r.timing and not r.scores for r in broken)


def test_another_seed_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    run(fakes.FakeTask(seeds=(0,)), fakes.Static(), tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(StoreError, match=r"task\.seeds: \[0\] there, \[0, 1\] now"):
        run(fakes.FakeTask(seeds=(0, 1)), fakes.Static(), tmp_path)
    other = fakes.Static()
    other.card = ModelCard(name="static", revision="2", accepts_context=True)
    with pytest.raises(StoreError, match=r'model\.revision: "1" there, "2" now'):
        run(fakes.FakeTask(seeds=(0,)), other, tmp_path)
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_a_full_disk_stops_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sfbench import runner

    write, written = runner.write_clip, []

    def filling(path: Path, frames: Frames, fps: float) -> str:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        return write(path, frames, fps)

    monkeypatch.setattr(runner, "write_clip", filling)
    with pytest.raises(OSError, match="No space left"):
        run(fakes.FakeTask(), fakes.Static(), tmp_path)
    assert len(read_records(tmp_path)) == 2
    assert not (tmp_path / "result.json").exists()
    monkeypatch.undo()
    assert run(fakes.FakeTask(), fakes.Static(), tmp_path).validity.ok


def test_batches_are_the_same_when_a_part_is_done_and_bounded_in_memory() -> None:
    requests = fakes.FakeTask(prompts=10, arms=("own",)).requests(fakes.Static.card)
    found = list(batches(requests, 8))
    assert [len(group) for group in found] == [8, 8, 4, 8, 8, 4]
    assert [request for group in found for request in group] == requests
    large = requests[0].geometry.model_copy(update={"frames": 81, "height": 480, "width": 640})
    huge = [request.model_copy(update={"geometry": large}) for request in requests]
    sizes = [len(group) for group in batches(huge, 32)]
    assert max(sizes) == BATCH_BYTES // (81 * 480 * 640 * 3)
    assert sum(sizes) == len(huge)


def test_a_result_knows_no_nan(tmp_path: Path) -> None:
    run(fakes.FakeTask(), fakes.Static(), tmp_path)
    text = (tmp_path / "result.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["schema_version"] == 2


def comparable(result: Result) -> dict[str, object]:
    """A result without what may differ between two equal runs."""
    return result.model_dump(exclude={"provenance", "records_sha256", "sha256"})
