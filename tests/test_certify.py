"""Certification: honest declarations hold, false ones do not; what is committed is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfbench import certification, certify, certify_judge, certify_tables, failures
from sfbench.certify import certify as run
from sfbench.certify_judge import Examined, judge, label
from sfbench.panel import ClipMetric
from sfbench.stats import wilson
from sfbench.tasks.certified import World

ROOT = Path(__file__).parents[1]
SAY_NOTHING = {"clipped", "blockiness"}
"""Metrics that no failure of the embedded world moves; on real film they may be moved."""


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
    assert complaint.startswith(
        "own says that it sees noise, and the test says that it is blind to it: z 0.0 and"
    )


@pytest.mark.parametrize("shift", [5.5, 12.0])
def test_what_is_seen_must_be_declared(shift: float) -> None:
    modest = judged(metric(), {"blur": shift})
    assert [r.failure for r in modest.responses if not r.holds] == ["blur"]
    (complaint,) = certify_tables.complaints(modest)
    assert complaint.startswith("own says that it is blind to blur, and the test says that it sees")


def test_what_moves_a_metric_must_be_declared_too() -> None:
    """z of .7, 1.4 and 2.1: no dose is told, but the answer follows the dose clip by clip."""
    (blur,) = (r for r in judged(metric(), {"blur": 1}).responses if r.failure == "blur")
    assert abs(blur.doses[-1].z) < 3 and label(blur) == "partly" and not blur.holds
    honest = judged(metric(partly=("blur",)), {"blur": 1})
    assert honest.ok and honest.responses[2].declared == "partly"


def test_partly_is_neither_full_sight_nor_blindness() -> None:
    for shift, said in ((30.0, "sees"), (0.0, "is blind to")):
        (complaint,) = certify_tables.complaints(judged(metric(partly=("blur",)), {"blur": shift}))
        assert complaint.startswith(
            f"own says that it partly sees blur, and the test says that it {said} it"
        )


def test_a_shift_within_the_resolution_is_none() -> None:
    found = judged(metric(resolution=0.5), {"blur": 0.1})
    assert found.ok and all(r.rho is None for r in found.responses)


def test_a_failure_has_one_label() -> None:
    with pytest.raises(ValueError, match="declares 'blur' twice"):
        metric(sees=("blur",), partly=("blur",))
    with pytest.raises(ValueError, match="or there is no such failure"):
        metric(partly=("blurr",))


def test_intervals_are_those_of_the_clips() -> None:
    """The median of 12 of 1 to 12, drawn anew: half of the resamples lie below the middle."""
    found = judged(metric(sees=("blur",)), {"blur": 8})
    again = judged(metric(sees=("blur",)), {"blur": 8})
    assert found == again
    for response in found.responses:
        for dose in response.doses:
            assert dose.z_interval and dose.alarms_interval
            low, high = dose.z_interval
            assert low <= dose.z + 1e-9 and dose.z <= high + 1e-9
            assert dose.alarms_interval == pytest.approx(wilson(dose.alarms * 12, 12), abs=1e-3)
    blur = found.responses[2]
    # Every clip shifts alike: what varies is the yardstick of 60 clips, by a tenth or so.
    low, high = blur.doses[0].z_interval or (0.0, 0.0)
    assert 0.1 < (high - low) / blur.doses[0].z < 0.8
    assert blur.rho_interval == pytest.approx((1, 1), abs=0.02)


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
    yard = certify_judge.Yardstick(metric(), calibration)
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
    assert "| drift | loop | " in paths[1].read_text()


def test_the_committed_certification_is_whole_and_holds() -> None:
    committed = certification.read(ROOT / "results" / certification.FILE)
    assert committed.ok and not committed.unseen and not committed.unjudged
    assert all(r.holds for r in committed.responses) and all(q.holds for q in committed.quiet)
    assert committed.doses_sha256 == failures.doses_sha256()
    known = certify.known_metrics()
    assert {(r.metric, r.version) for r in committed.responses} == {
        (m.name, m.version) for m in known.values()
    }
    assert {r.failure for r in committed.responses} == set(failures.FAILURES)
    for response in committed.responses:
        assert response.declared == known[response.metric].declared(response.failure)
        assert [d.dose for d in response.doses] == list(failures.doses()[response.failure].world)
    page = certify_tables.page(committed, list(known.values()))
    assert (ROOT / "results" / certify_tables.PAGE).read_text() == page


def test_every_metric_declares_itself() -> None:
    for known in certify.known_metrics().values():
        assert known.note and known.unit and known.version >= 1 and known.resolution > 0
        labels = [*known.sees, *known.partly, *known.blind_to]
        assert sorted(labels) == sorted(failures.FAILURES)
        assert known.sees or known.partly or known.name in SAY_NOTHING
        low, high = known.bounds
        assert low is None or high is None or low < high
