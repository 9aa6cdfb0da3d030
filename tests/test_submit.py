"""What a pull request would add, and what is refused before one is opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfbench import cli, runner
from sfbench.cli_common import INVALID
from sfbench.schema import ModelCard, Result
from sfbench.store import as_bytes
from sfbench.submit import FILES, Refused, prepare, write
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.verify_rows import check

import fakes


class Mine(fakes.Static):
    card = ModelCard(
        name="My Model", revision="1", causal=True, accepts_context=False, notes="no weights"
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = tmp_path_factory.mktemp("runs") / "mine"
    runner.run(LongHorizon(tier="smoke"), Mine(), row)
    return stamped(row, clean)


@pytest.fixture
def row(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def clean(content: Any) -> None:
    content["provenance"].update(commit="a" * 12, dirty=False)


def stamped(row: Path, change: Callable[[Any], None]) -> Path:
    """A row with other facts, under a hash that fits."""
    content = json.loads((row / "result.json").read_text())
    change(content)
    sealed = Result.model_validate(content).sealed()
    (row / "result.json").write_bytes(as_bytes(sealed.model_dump(mode="json")))
    return row


def test_three_files_are_added_and_hold_where_they_lie(row: Path, tmp_path: Path) -> None:
    found = prepare(row, tmp_path / "results")
    assert not (tmp_path / "results").exists(), "preparing writes nothing"
    target = tmp_path / "results" / "runs" / "long-horizon" / "my-model"
    assert write(found) == [target / name for name in FILES]
    assert sorted(p.name for p in target.iterdir()) == sorted(FILES)
    assert all((target / name).read_bytes() == (row / name).read_bytes() for name in FILES)
    assert check(target).ok
    write(prepare(row, tmp_path / "results"))  # the same model again replaces its row


def test_a_dry_run_prints_and_writes_nothing(
    row: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["sfbench", "submit", str(row), "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out = capsys.readouterr().out
    assert not ended.value.code and not (tmp_path / "results").exists()
    assert "results/runs/long-horizon/my-model/records.jsonl" in out
    assert "git switch --create long-horizon-my-model" in out and "clips" not in out


def test_what_does_not_hold_is_refused(
    row: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stamped(row, lambda r: r["estimates"]["drift"].update(value=0.0, low=0.0, high=0.0))
    monkeypatch.setattr("sys.argv", ["sfbench", "submit", str(row)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == INVALID
    assert f"{row}: result.json: estimates.drift.high is 0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r["provenance"].update(dirty=True), "run by code with changes of its own"),
        (lambda r: r["provenance"].update(commit=None, dirty=None), "that is not known"),
    ],
)
def test_code_that_nobody_can_find_again_is_refused(
    row: Path, tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        prepare(stamped(row, change), tmp_path / "results")


def test_a_card_that_says_no_revision_is_refused(row: Path, tmp_path: Path) -> None:
    for name in ("manifest.json", "result.json"):
        content = json.loads((row / name).read_text())
        content["model"].update(revision="unknown")
        (row / name).write_bytes(as_bytes(content))
    with pytest.raises(Refused, match="has a model card that does not say its revision;"):
        prepare(stamped(row, clean), tmp_path / "results")


def test_what_is_no_part_of_a_row_is_refused(row: Path, tmp_path: Path) -> None:
    (row / "extra.sh").touch()
    with pytest.raises(Refused, match=r"holds extra\.sh, which no run of sfbench writes"):
        prepare(row, tmp_path / "results")
    (row / "etc").symlink_to("/etc")
    with pytest.raises(Refused, match="etc is a link, and rows are plain files"):
        prepare(row, tmp_path / "results")


def test_a_part_of_a_run_and_a_cheat_are_refused(tmp_path: Path) -> None:
    runner.run(LongHorizon(tier="smoke"), Mine(), tmp_path / "part", limit=2)
    stamped(tmp_path / "part", clean)
    with pytest.raises(Refused, match=r"is INVALID: .*limit: 2 of 8"):
        prepare(tmp_path / "part", tmp_path / "results")

    class Cheat(Mine):
        card = ModelCard(name="cheat", kind="cheat", causal=True, accepts_context=False)

    runner.run(LongHorizon(tier="smoke"), Cheat(), tmp_path / "cheat")
    stamped(tmp_path / "cheat", clean)
    with pytest.raises(Refused, match="is a cheat; only models"):
        prepare(tmp_path / "cheat", tmp_path / "results")


def test_a_name_that_is_taken_is_refused(row: Path, tmp_path: Path) -> None:
    write(prepare(row, tmp_path / "results"))
    target = tmp_path / "results" / "runs" / "long-horizon" / "my-model"
    stamped(target, lambda r: r["model"].update(revision="2"))
    with pytest.raises(Refused, match="another model called My Model"):
        prepare(row, tmp_path / "results")
