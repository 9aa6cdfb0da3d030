"""``sfbench certify``: the command, and whether a committed file is what it makes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sfbench import certification, certify, certify_check, cli, failures, metrics

COMMITTED = Path(__file__).parents[1] / "results" / certification.FILE


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many takes there are is no matter of the command; the judging has tests of its own."""
    monkeypatch.setattr(certify, "CALIBRATION", 8)
    monkeypatch.setattr(certify, "QUIET", 4)


def call(*extra: str) -> int:
    with pytest.raises(SystemExit) as stop:
        cli.main(["certify", "frozen", "--clips", "2", "--jobs", "1", *extra])
    return int(stop.value.code or 0)


def test_the_command_fails_where_a_declaration_does(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--out", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "declarations hold on shapes-1, 32x32, 48 frames" in out
    written = tmp_path / certification.FILE
    assert json.loads(written.read_text())["clips"] == 2
    assert call("--check", str(written)) == 0
    assert f"{written} is what is made here." in capsys.readouterr().out
    honest = next(m for m in metrics.MEASURES if m.name == "frozen")
    lying = replace(honest, sees=("blur",), partly=())
    monkeypatch.setattr(metrics, "MEASURES", (lying,))
    assert call("--check", str(written)) == 1
    out = capsys.readouterr().out
    assert "frozen says that it sees blur" in out
    assert "is blind to freeze, and the test says that it sees it" in out
    assert "frozen and blur: declared 'blind_to' in the file, 'sees' now." in out


def test_a_changed_dose_fails_the_check(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--out", str(tmp_path)) == 0
    before = failures.doses()
    freeze = before["freeze"]
    changed = freeze.model_copy(update={"videos": (0.3, *freeze.videos[1:])})
    monkeypatch.setattr(failures, "doses", lambda: {**before, "freeze": changed})
    capsys.readouterr()
    # Not even injected here: a dose for videos, the command damages the embedded world.
    assert call("--check", str(tmp_path / certification.FILE)) == 1
    out = capsys.readouterr().out
    assert "hash of sfbench/doses.yaml: the file says '" in out
    assert f"{failures.doses_sha256()}" in out and "is not what is made here." in out


def changed(kept: certification.Certification, **fields: object) -> certification.Certification:
    first = kept.responses[0].model_copy(update=fields)
    return kept.model_copy(update={"responses": (first, *kept.responses[1:])})


def test_figures_may_differ_a_little_and_no_more() -> None:
    kept = certify_check.committed(COMMITTED)
    assert certify_check.differences(kept, kept) == []
    first = kept.responses[0]
    dose = first.doses[0]

    def with_dose(**fields: object) -> list[str]:
        doses = (dose.model_copy(update=fields), *first.doses[1:])
        return certify_check.differences(changed(kept, doses=doses), kept)

    clip = 1 / kept.clips
    step = clip if dose.alarms < 0.5 else -clip
    assert with_dose(z=dose.z + 0.09) == with_dose(alarms=dose.alarms + step) == []
    assert "z " in with_dose(z=dose.z + 0.2)[0]
    assert "alarms " in with_dose(alarms=dose.alarms + 2 * step)[0]
    assert dose.z_interval is not None
    assert "interval of z" in with_dose(z_interval=(dose.z_interval[0] - 1, dose.z_interval[1]))[0]
    for fields in ({"version": 99}, {"holds": False}, {"unit": "miles"}, {"rho": None}):
        assert len(certify_check.differences(changed(kept, **fields), kept)) == 1, fields


def test_what_is_missing_or_too_much_is_named() -> None:
    kept = certify_check.committed(COMMITTED)
    fewer = kept.model_copy(update={"responses": kept.responses[1:]})
    name = f"{kept.responses[0].metric} and {kept.responses[0].failure}"
    assert certify_check.differences(fewer, kept) == [f"{name}: only in the file."]
    assert certify_check.differences(fewer, kept, whole=False) == []
    assert certify_check.differences(kept, fewer) == [f"{name}: not in the file."]


def test_proposals_come_from_calibration_takes(
    few: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked: list[certify.Job] = []
    examine = certify._examine

    def noted(*given: object) -> object:
        looked.append(given[-1])
        return examine(*given)

    monkeypatch.setattr(certify, "_examine", noted)
    honest = next(m for m in metrics.MEASURES if m.name == "frozen")
    monkeypatch.setattr(metrics, "MEASURES", (replace(honest, sees=("freeze", "blur"), partly=()),))
    assert call("--propose") == 0
    assert {split for split, _, _ in looked} == {"selection"}
    assert {index for _, index, damaged in looked if damaged} == {8, 9}
    out = capsys.readouterr().out
    assert "frozen sees: freeze, frozen\n" in out
    assert "but declares blur as sees" in out and "but declares frozen as blind to" in out
    assert call("--propose", "--check", "x") == 2


def test_what_is_no_certification_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    for name, said in (
        ("bad.json", "is not a certification (5 validation"),
        ("none.json", "No such"),
    ):
        assert call("--check", str(tmp_path / name)) == 2
        assert said in capsys.readouterr().err


def test_an_unknown_metric_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["certify", "sharpnes_change"])
    assert stop.value.code == 2
    assert (
        "Unknown metric 'sharpnes_change'; did you mean sharpness_change" in capsys.readouterr().err
    )
