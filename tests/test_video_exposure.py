"""The video-exposure task, validated: where nobody knows the law, it finds what was put in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfbench import models, runner
from sfbench.arms import Played, play
from sfbench.departure import SLACK, WORST
from sfbench.interfaces import Frames, VideoModel
from sfbench.schema import Estimate, ModelCard, Record
from sfbench.store import read_records
from sfbench.tasks import rows
from sfbench.tasks.conclusion import Conclusion
from sfbench.tasks.continuations import ARMS, role
from sfbench.tasks.video_exposure import VideoExposure
from sfbench.tasks.video_judge import quarters
from sfbench.verify_rows import check
from sfbench.video import VideoError, write_clip

import real_videos
from simulators import Brightening, Drifting, Ignoring, card

Child = Callable[..., "subprocess.CompletedProcess[str]"]
PAIR = ("own", "true")
CHUNK, CHUNKS = 4, 4


@pytest.fixture(scope="module")
def task() -> VideoExposure:
    return VideoExposure(tier="smoke", features="thumbs", frames=CHUNK * CHUNKS)


def concluded(task: VideoExposure, model: VideoModel, arms: Sequence[str] = PAIR) -> Conclusion:
    models.bind(model, task.truth)
    found = []
    for request in task.requests(model.card):
        if role(request, task.prefix) in arms:
            (played,) = play(model, [request], task.truth)
            assert isinstance(played, Played), played
            scores = task.score(request, played.frames)
            found.append(Record(key=request.key, request=request, scores=scores))
    return task.conclude(model.card, found)


def contains(estimate: Estimate, value: float, slack: float = 1e-5) -> bool:
    assert estimate.low is not None and estimate.high is not None, estimate.method
    return estimate.low - slack <= value <= estimate.high + slack


# --- no bias --------------------------------------------------------------------------------------


def test_the_filmed_continuation_is_the_floor(task: VideoExposure) -> None:
    found = concluded(task, models.Replay(), ARMS).estimates
    assert found["exposure_gap"].value == 0
    assert found["violation_own"].value == found["violation_floor"].value
    assert found["round_trip"].value == 0
    assert found["kernel_own"].value == pytest.approx(0, abs=1e-9)
    for measure in ("exposure_ratio", "context_sensitivity", "twin_divergence"):
        assert found[measure].value is None and found[measure].method.startswith("n/a")


def test_a_perfect_sampler_has_no_bias(task: VideoExposure) -> None:
    """It makes other futures than the filmed ones where these are open, and that is no fault."""
    model = rows.oracle_row("observer")
    model.card = card("observer", chunk=CHUNK)
    found = concluded(task, model).estimates
    assert contains(found["exposure_gap"], 0)
    assert contains(found["kernel_gap"], 0, slack=1e-4)
    assert contains(found["exposure_gap_growth"], 0)


# --- bias that was put in -------------------------------------------------------------------------


def test_an_error_that_adds_up_is_found_as_it_was_made(task: VideoExposure) -> None:
    """One level more a chunk of own frames: the grade of brightness has a closed form."""
    always, levels = 6, 8
    model = Brightening(task.truth, levels, always)
    found = concluded(task, model)
    truth = task.judge.true_departures(task.prefix, task.frames, CHUNK)
    expected = {arm: [] for arm in PAIR}
    for name, ref in task.scenes.items():
        film = task.truth(ref, task.prefix + task.frames).astype(float)
        limit = [
            float(np.quantile([t[k, 0] for n, t in truth.items() if n != name], 0.95)) + SLACK[0]
            for k in range(CHUNKS)
        ]
        for arm, step in (("own", levels), ("true", 0)):
            added = always + step * np.arange(CHUNKS)
            inwards = 1 if film[:6].mean() < 140 else -1
            away = [
                abs(luma(np.clip(film[at : at + CHUNK] + inwards * a, 0, 255)) - luma(film[:6]))
                for at, a in zip(range(task.prefix, len(film), CHUNK), added, strict=True)
            ]
            expected[arm].append(np.clip((np.array(away) / limit - 1) / (WORST - 1), 0, 1).mean())
    measured = found.estimates["own_exposure"].value
    assert measured == pytest.approx(np.mean(expected["own"]), abs=2e-3)
    gap = found.estimates["exposure_gap"]
    assert gap.low is not None
    assert gap.low > 0
    assert found.estimates["exposure_gap_growth"].low > 0


def luma(frames: Frames) -> float:
    return float((frames @ [0.2126, 0.7152, 0.0722]).mean() / 255)


def test_estimates_are_monotone_in_the_error(task: VideoExposure) -> None:
    found = [concluded(task, Brightening(task.truth, e, 2)).estimates for e in (0, 3, 8, 20)]
    for name in ("exposure_gap", "violation_own"):
        values = [f[name].value or 0.0 for f in found]
        assert values == sorted(values) and len(set(values)) == len(values), name
    assert found[0]["exposure_gap"].value == pytest.approx(0, abs=1e-3)


def test_errors_of_law_are_found_too(task: VideoExposure) -> None:
    """Of hue, size and speed, in what a reader makes of its own frames: more error, more bias."""
    gaps = [concluded(task, Drifting(e)).estimates["exposure_gap"] for e in (0.0, 0.1, 0.3)]
    values = [gap.value for gap in gaps]
    assert values[0] is not None and values[2] is not None
    assert values[0] < 0.02 < values[2]


def test_samples_that_are_far_from_true_are_told() -> None:
    """Noise is as far under its own context as under the true one, and much farther than truth."""
    noise = models.Cheat("noise")
    noise.card = card("noise", chunk=CHUNK, kind="cheat")
    found = concluded(VideoExposure(tier="smoke", frames=CHUNK * CHUNKS), noise).estimates
    floor = found["kernel_floor"]
    assert floor.high is not None and found["kernel_own"].low is not None
    assert found["kernel_own"].low > floor.high
    assert contains(found["kernel_gap"], 0)


# --- what is not ranked ---------------------------------------------------------------------------


def test_a_model_that_ignores_its_context_is_flagged(task: VideoExposure) -> None:
    found = concluded(task, Ignoring(), (*PAIR, "swapped"))
    assert "IGNORES CONTEXT" in found.validity.flags
    seeing = concluded(task, rows.oracle_row("observer"), (*PAIR, "swapped"))
    assert "IGNORES CONTEXT" not in seeing.validity.flags


@pytest.mark.parametrize(("name", "word"), [("frozen", "stands still"), ("loop", "repeats")])
def test_cheats_are_flagged(task: VideoExposure, name: str, word: str) -> None:
    flags = concluded(task, models.Cheat(name)).validity.flags
    assert [flag for flag in flags if word in flag], flags


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"causal": False}, "makes the whole clip at once"),
        ({"accepts_context": False}, "does not accept context"),
    ],
)
def test_what_cannot_be_measured_says_why(
    task: VideoExposure, fields: dict[str, bool], reason: str
) -> None:
    model = ModelCard(name="m", **{"accepts_context": True, **fields})
    assert task.requests(model) == []
    found = task.conclude(model, [])
    whole = concluded(task, models.Replay())
    assert found.estimates.keys() == whole.estimates.keys()
    assert all(e.value is None and reason in e.method for e in found.estimates.values())


# --- vectors --------------------------------------------------------------------------------------


def test_quarters_are_means_on_fixed_directions() -> None:
    looks = np.random.default_rng(0).normal(size=(8, 30))
    made = quarters(looks)
    assert made.shape == (4, 64)
    means = looks.reshape(4, 2, 30).mean(axis=1)
    assert quarters(np.repeat(means, 5, axis=0)) == pytest.approx(made)
    norms = np.linalg.norm(quarters(np.eye(30)[:4]), axis=1)
    assert norms == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("chunks", [1, 2, 3, 5])
def test_few_chunks_stand_in_several_quarters(chunks: int) -> None:
    looks = np.arange(chunks * 3.0).reshape(chunks, 3)
    assert np.isfinite(quarters(looks)).all()


# --- as a user does it, on real film --------------------------------------------------------------

MODEL = '''
import cv2
import numpy as np


class Blurring:
    """Pans over the last frame, a little softer and brighter each time."""

    card = {"name": "blurring", "chunk": 4, "accepts_context": True}

    def generate(self, request, context=None):
        frame = context[-1]
        for _ in range(0, request.geometry.frames, 4):
            chunk = []
            for _ in range(4):
                frame = cv2.GaussianBlur(np.roll(frame, 1, axis=1), (0, 0), 0.8)
                frame = cv2.convertScaleAbs(frame, alpha=1.05)
                chunk.append(frame)
            yield np.stack(chunk)


model = Blurring()
'''


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six excerpts of the real clips, small, with captions."""
    folder = tmp_path_factory.mktemp("films")
    places = [("bikes", 0), ("bikes", 120), ("bikes", 200), ("bigbuckbunny", 0)]
    places += [("carphone_pristine", 0), ("carphone_pristine", 60)]
    for number, (name, start) in enumerate(places):
        frames, _ = real_videos.excerpt(name, start, 44)
        small = [cv2.resize(f, (64, 48), interpolation=cv2.INTER_AREA) for f in frames]
        write_clip(folder / f"{number}.mp4", np.stack(small), fps=25)
        (folder / f"{number}.txt").write_text(f"{name} from frame {start}")
    return folder


def test_a_folder_of_real_videos_from_the_command_line(
    films: Path, tmp_path: Path, sfbench: Child
) -> None:
    (tmp_path / "mine.py").write_text(MODEL)
    settings = ["--set", "prefix=8", "--set", "frames=8", "--set", "features=thumbs"]
    dataset = ["--task", "video-exposure", "--dataset", f"folder:{films}"]
    run = sfbench(
        *("run", *dataset, *settings, "--tier", "smoke", "--out", "out"),
        *("--model", "mine:model", "--model", "replay:truth"),
    )
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / "out/blurring/result.json").read_text())
    gap = result["estimates"]["exposure_gap"]
    assert gap["low"] > 0 and gap["clusters"] == 6, gap
    assert result["estimates"]["own_sharpness"]["value"] > 0.2
    assert result["division"] == "open" and result["validity"]["ok"]
    assert str(films) not in (tmp_path / "out/blurring/records.jsonl").read_text()
    texts = {r.request.prompt.text for r in read_records(tmp_path / "out/blurring")}
    assert "bikes from frame 120" in texts
    away = sfbench("verify", "out/blurring")
    assert away.returncode == 5
    assert "say where they are with --dataset" in away.stdout
    here = sfbench("verify", "out/blurring", "--dataset", f"folder:{films}")
    assert here.returncode == 0, here.stdout
    report = sfbench("report", "out", "--out", "board")
    assert report.returncode == 0, report.stderr
    assert "kernel gap" in (tmp_path / "board/LEADERBOARD.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "prefix=500"], "0 of its videos have the 516 frames"),
        (["--set", "prefix=0"], "prefix is '0', and must be a number above 0"),
        (["--set", "features=clip"], "Unknown feature 'clip'"),
        (["--set", "features=nothing:here"], "The features 'nothing:here' cannot be had"),
        (["--set", "split=held-out"], "There is no split 'held-out'"),
        (["--set", "scope=dit"], "--set scope=dit: use --scope"),
        (["--set", "length=3"], "video-exposure takes no 'length'"),
        (["--size", "64x"], "--size 64x: write pixels a side, or WIDTHxHEIGHT"),
        (["--set", "fps=60"], "runs at 25 frames a second, and 60 are wanted"),
    ],
)
def test_bad_settings_are_one_sentence(
    films: Path, sfbench: Child, words: list[str], said: str
) -> None:
    dataset = ["--task", "video-exposure", "--dataset", f"folder:{films}", "--set", "frames=16"]
    told = sfbench("run", *dataset, "--model", "replay:truth", "--dry-run", *words)
    assert told.returncode == 2, told.stdout
    assert said in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_a_film_that_breaks_fails_its_request_and_not_the_run(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = VideoExposure(
        f"folder:{films}", tier="smoke", seeds=(0,), prefix=8, frames=8, features="thumbs"
    )
    broken = sorted(films.glob("*.mp4"))[2]
    read = type(task.world)._read

    def fails(world: object, video: object, count: int) -> Iterator[Frames]:
        if getattr(video, "path", None) == broken:
            raise VideoError(f"{broken.name} is damaged at frame 3.")
        return read(world, video, count)

    monkeypatch.setattr(type(task.world), "_read", fails)
    result = runner.run(task, models.Replay(), tmp_path / "run", limit=6)
    assert result.failures == {"video": 1}


def test_a_row_of_the_embedded_world_can_be_verified(tmp_path: Path) -> None:
    task = VideoExposure(tier="smoke", features="thumbs", frames=8)
    runner.run(task, models.Replay(), tmp_path / "row", clips="all")
    assert check(tmp_path / "row").findings == ()
    records = tmp_path / "row" / "records.jsonl"
    first = records.read_text().replace('"sharpness":[0.0', '"sharpness":[9.0', 1)
    records.write_text(first)
    assert check(tmp_path / "row").findings


def test_a_row_cannot_name_code(tmp_path: Path) -> None:
    """Features of one's own are imported by name: never from somebody else's row."""
    task = VideoExposure(tier="smoke", features="thumbs")
    told = task.card.conditions | {"features": "os:getcwd"}
    hostile = task.card.model_copy(update={"conditions": told})
    with pytest.raises(ValueError, match="its features are 'os:getcwd', which are not here"):
        VideoExposure.settings_of(hostile)
