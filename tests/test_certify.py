"""Certification: honest declarations hold, false ones do not, in the world and on real videos."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfbench import certification, certify, certify_tables, cli, failures
from sfbench.certify import Examined, judge
from sfbench.certify import certify as run
from sfbench.certify_videos import Videos
from sfbench.panel import ClipMetric
from sfbench.tasks.certified import World
from sfbench.video import write_clip

import real_videos as real

ROOT = Path(__file__).parents[1]


def metric(**fields: object) -> ClipMetric:
    known: dict[str, object] = {
        "name": "own",
        "better": "lower",
        "unit": "1",
        "bounds": (0, None),
        "resolution": 0.1,
        "note": "a metric of a test",
        "of": lambda clip: 0.0,
    }
    return ClipMetric(**(known | fields))


def values(shift: dict[str, float], seed: int, damaged: bool = True) -> Examined:
    """What a metric with unit noise gives, moved by ``shift[failure]`` a dose of rank 1, 2, 3."""
    rng = np.random.default_rng(seed)
    level = rng.normal()
    found = Examined({("clean", 0): {"own": level}, ("other", 0): {"own": rng.normal()}})
    if damaged:
        found |= {(n, 0): {"own": level + shift.get(n, 0)} for n in failures.NUISANCES}
        for name, line in failures.doses().items():
            for rank, dose in enumerate(line.world, 1):
                found[name, dose] = {"own": level + rank * shift.get(name, 0)}
    return found


def judged(own: ClipMetric, shift: dict[str, float]) -> certification.Certification:
    calibration = [values({}, seed, damaged=False) for seed in range(60)]
    test = [values(shift, 1000 + seed) for seed in range(12)]
    return judge([own], World(), calibration, test)


def test_what_is_declared_must_be_seen() -> None:
    honest = judged(metric(sees=("blur",)), {"blur": 8})
    assert honest.ok and not certify_tables.complaints(honest)
    (blur,) = (r for r in honest.responses if r.failure == "blur")
    assert blur.declared == "sees" and blur.rho == pytest.approx(1, abs=0.02)
    # The yardstick is the spread of the difference of two independent unit Gaussians.
    assert [d.z for d in blur.doses] == pytest.approx([8 / 2**0.5 * k for k in (1, 2, 3)], rel=0.25)
    lie = judged(metric(sees=("blur", "noise")), {"blur": 8})
    assert not lie.ok
    (complaint,) = certify_tables.complaints(lie)
    assert complaint.startswith("own says that it sees noise: z 0.0 and")


def test_what_is_seen_must_be_declared() -> None:
    modest = judged(metric(), {"blur": 12})
    assert [r.failure for r in modest.responses if not r.holds] == ["blur"]
    assert "is blind to blur and sees it" in certify_tables.complaints(modest)[0]
    assert judged(metric(), {"blur": 5.5}).ok, "between the two margins either may stand"


def test_a_metric_that_sees_only_the_largest_dose_does_not_see() -> None:
    late = [values({}, 1000 + seed) for seed in range(12)]
    last = failures.doses()["blur"].world[-1]
    for take in late:
        take["blur", last] = {"own": take["clean", 0]["own"] + 50}
    found = judge(
        [metric(sees=("blur",))], World(), [values({}, s, False) for s in range(60)], late
    )
    assert [r.failure for r in found.responses if not r.holds] == ["blur"]


def test_a_metric_that_falls_and_rises_is_not_seen_to_see() -> None:
    turning = [values({"blur": 8}, 1000 + seed) for seed in range(12)]
    for take in turning:
        clean = take["clean", 0]["own"]
        assert clean is not None
        for dose, moved in zip(failures.doses()["blur"].world, (9, -9, 9), strict=True):
            take["blur", dose] = {"own": clean + moved}
    found = judge(
        [metric(sees=("blur",))], World(), [values({}, s, False) for s in range(60)], turning
    )
    assert not found.ok


def test_an_alarm_under_a_nuisance_breaks_a_metric() -> None:
    nervous = judged(metric(), {"one level": 9})
    assert [(q.nuisance, q.alarms) for q in nervous.quiet if not q.holds] == [("one level", 1.0)]
    assert (
        "raises an alarm in 100% of clips under 'one level'"
        in certify_tables.complaints(nervous)[0]
    )


def test_false_alarms_on_other_truth_are_near_what_the_band_leaves_out() -> None:
    calibration = [values({}, seed, damaged=False) for seed in range(200)]
    fresh = [values({}, 5000 + seed, damaged=False) for seed in range(2000)]
    yard = certify.Yardstick(metric(), calibration)
    share = np.mean([yard.alarm(take, "clean", 0) for take in fresh])
    assert 0.04 < share < 0.14


def test_no_value_is_the_worst_value() -> None:
    gone = [values({}, 1000 + seed) for seed in range(12)]
    for take in gone:
        for dose in failures.doses()["freeze"].world:
            take["freeze", dose] = {"own": None}
    own = metric(better="higher", bounds=(-30, 0), sees=("freeze",))
    assert judge([own], World(), [values({}, s, False) for s in range(60)], gone).ok


@pytest.mark.slow
def test_some_metrics_for_real(tmp_path: Path) -> None:
    """The whole list is certified by ``make test`` itself; these need no optical flow."""
    names = ["still_share", "v_motion", "drift"]
    found = run(names, tests=2, jobs=1)
    assert found.ok, certify_tables.complaints(found)
    assert {r.metric for r in found.responses} == set(names)
    assert {r.failure for r in found.responses} == set(failures.FAILURES)
    paths = certify_tables.write(found, list(certify.known_metrics().values()), tmp_path)
    assert certification.read(paths[0]) == found
    assert "| drift | loop | sees |" in paths[1].read_text()


def test_the_committed_certification_is_whole_and_holds() -> None:
    committed = certification.read(ROOT / "results" / certification.FILE)
    assert committed.ok and not committed.unseen
    known = certify.known_metrics()
    assert {(r.metric, r.version) for r in committed.responses} == {
        (m.name, m.version) for m in known.values()
    }
    assert {r.failure for r in committed.responses} == set(failures.FAILURES)
    for response in committed.responses:
        declared = "sees" if response.failure in known[response.metric].sees else "blind_to"
        assert response.declared == declared
        assert [d.dose for d in response.doses] == list(failures.doses()[response.failure].world)
    page = certify_tables.page(committed, list(known.values()))
    assert (ROOT / "results" / certify_tables.PAGE).read_text() == page


def test_every_metric_declares_itself() -> None:
    for known in certify.known_metrics().values():
        assert known.note and known.unit and known.version >= 1 and known.resolution > 0
        assert not set(known.sees) - set(failures.FAILURES)
        assert set(known.sees) | set(known.blind_to) == set(failures.FAILURES)
        low, high = known.bounds
        assert low is None or high is None or low < high


# --- real videos ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of the real clips, as a user's folder."""
    root = tmp_path_factory.mktemp("true")
    for name, size, corners in (
        ("bikes", 256, ((0, 0), (16, 192), (16, 384))),
        ("carphone_pristine", 144, ((0, 0), (0, 32))),
    ):
        frames, fps = real.excerpt(name, 0, 250)
        for n, (top, left) in enumerate(corners):
            crop = frames[:, top : top + size, left : left + size]
            # Still larger than what is certified: a take decodes its video from the start.
            small = [cv2.resize(f, (128, 128), interpolation=cv2.INTER_AREA) for f in crop]
            write_clip(root / f"{name} {n}-0.mp4", np.stack(small).astype(np.uint8), fps)
    return root


def test_on_real_videos_the_largest_dose_must_be_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfbench.certify_videos.LENGTH", 24)
    monkeypatch.setattr("sfbench.certify_videos.SIDE", 96)
    source = Videos(folder)
    monkeypatch.setattr(certify, "CALIBRATION", 10)
    monkeypatch.setattr(certify, "QUIET", 4)
    found = run(["return_share", "colour_change"], source, tests=3, jobs=1)
    seen = {r.failure for r in found.responses if r.metric == "return_share" and r.doses[-1].z > 3}
    assert {"loop", "regression"} <= seen
    turned = next(
        r for r in found.responses if (r.metric, r.failure) == ("colour_change", "colour")
    )
    assert turned.doses[-1].z > turned.doses[0].z > 0


def test_a_folder_that_is_too_small(tmp_path: Path) -> None:
    write_clip(tmp_path / "one-0.mp4", np.zeros((30, 32, 32, 3), np.uint8), 8)
    with pytest.raises(certify.CertifyError, match=r"holds 0 pieces .* needs two videos and 12"):
        Videos(tmp_path)
    with pytest.raises(certify.CertifyError, match="in the embedded world alone"):
        certify.chosen(["v_motion"], "videos")


# --- the command ----------------------------------------------------------------------------------


def test_the_command_fails_where_a_declaration_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sfbench import metrics

    honest = next(m for m in metrics.MEASURES if m.name == "frozen")
    # How many takes there are is no matter of the command; the judging has tests of its own.
    monkeypatch.setattr(certify, "CALIBRATION", 8)
    monkeypatch.setattr(certify, "QUIET", 4)

    def call(*extra: str) -> int:
        with pytest.raises(SystemExit) as stop:
            cli.main(["certify", "frozen", "--clips", "2", "--jobs", "1", *extra])
        return int(stop.value.code or 0)

    assert call("--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "declarations hold on shapes-1, 32x32, 48 frames" in out
    assert json.loads((tmp_path / certification.FILE).read_text())["clips"] == 2
    lying = replace(honest, sees=("blur",))
    monkeypatch.setattr(metrics, "MEASURES", (lying,))
    assert call() == 1
    out = capsys.readouterr().out
    assert "frozen says that it sees blur" in out and "is blind to freeze and sees it" in out


def test_an_unknown_metric_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["certify", "sharpnes_change"])
    assert stop.value.code == 2
    assert (
        "Unknown metric 'sharpnes_change'; did you mean sharpness_change" in capsys.readouterr().err
    )
