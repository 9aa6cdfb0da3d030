"""A row that was changed after its run is found, and the change is named."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfbench import cli, runner
from sfbench.cli_common import INVALID
from sfbench.models import resolve
from sfbench.schema import Result
from sfbench.store import as_bytes
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.verify_rows import check, check_tables, rows
from sfbench.video import read_clip, write_clip

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = tmp_path_factory.mktemp("runs") / "noise"
    runner.run(LongHorizon(tier="smoke"), resolve("cheat:noise"), row)
    return row


@pytest.fixture
def row(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "row"))


def edited(file: Path, change: Callable[[Any], None]) -> None:
    """Change JSON, and write it as the tool would."""
    content = json.loads(file.read_text())
    change(content)
    file.write_bytes(as_bytes(content))


def resealed(row: Path, change: Callable[[Any], None]) -> None:
    """Change a result, as somebody would who knows of its hash."""
    edited(row / "result.json", change)
    result = Result.model_validate_json((row / "result.json").read_text())
    (row / "result.json").write_bytes(as_bytes(result.sealed().model_dump(mode="json")))


def test_a_finished_row_holds(row: Path) -> None:
    found = check(row)
    assert found.ok and found.clips == found.scored + found.clips - 3 and found.absent == 0
    assert found.records == len((row / "records.jsonl").read_text().splitlines())
    shutil.rmtree(row / "clips")
    found = check(row)
    assert found.ok and found.clips == 0 and found.absent > 0, "clips need not travel"


@pytest.mark.parametrize("name", ["manifest.json", "records.jsonl", "result.json"])
def test_a_flipped_byte_is_found_wherever_it_is(row: Path, name: str) -> None:
    shutil.rmtree(row / "clips")  # need not travel, and are not what is damaged here
    rng, data = random.Random(name), (row / name).read_bytes()
    places = [0, len(data) - 1, *(rng.randrange(len(data)) for _ in range(12))]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(7)
        (row / name).write_bytes(damaged)
        findings = check(row, rescore=0).findings
        assert findings and any(name in text for text in findings), (place, findings)
    (row / name).write_bytes(data)
    assert check(row, rescore=0).ok


def test_a_result_without_its_hash_is_found(row: Path) -> None:
    edited(row / "result.json", lambda r: r.update(sha256=""))
    assert check(row, rescore=0).findings == (
        "result.json has another hash than its own sha256 says",
    )


def test_other_pixels_are_found(row: Path) -> None:
    clip = sorted((row / "clips").iterdir())[0]
    frames, fps = read_clip(clip)
    frames[5, 3, 3, 0] ^= 1
    write_clip(clip, frames, fps)
    (finding,) = check(row, rescore=0).findings
    assert finding == f"clips/{clip.name} holds other pixels than its record says"
    clip.write_bytes(clip.read_bytes()[:200])
    assert "cannot be read" in check(row, rescore=0).findings[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r["estimates"]["drift"].update(value=0.0), "estimates.drift.value is 0.0"),
        (lambda r: r["estimates"]["drift"].update(low=0.0), "estimates.drift.low"),
        (lambda r: r["per_prompt"]["drift"].update({"test-0": 0.0}), "per_prompt.drift.test-0"),
        (lambda r: r["curves"]["drift"]["y"][0].update(value=0.0), "curves.drift.y.0.value"),
        (lambda r: r["validity"].update(flags=[]), "validity.flags"),
        (lambda r: r.update(division="open"), "division is open, and its records make it closed"),
        (lambda r: r["estimates"].pop("drift"), "estimates.drift is None"),
        (lambda r: r["model"].update(name="mine"), "manifest.json and result.json differ in model"),
    ],
)
def test_a_number_that_does_not_follow_is_named_though_the_hash_is_right(
    row: Path, change: Callable[[Any], None], named: str
) -> None:
    resealed(row, change)
    findings = check(row, rescore=0).findings
    assert any(named in finding for finding in findings), findings


def test_a_record_that_was_made_better_is_found_by_its_clip(row: Path) -> None:
    """Even if all aggregates and hashes were made to fit."""
    lines = [json.loads(line) for line in (row / "records.jsonl").read_text().splitlines()]
    for record in lines:
        if record["clip"]:
            record["scores"]["series"]["violation"] = [0.0] * 16
    text = "".join(json.dumps(r, separators=(",", ":")) + "\n" for r in lines)
    (row / "records.jsonl").write_text(text)
    (row / "result.json").unlink()
    runner.run(LongHorizon(tier="smoke"), resolve("cheat:noise"), row)  # only concludes
    assert check(row, rescore=0).ok
    findings = check(row, rescore=2).findings
    assert any("scores.series.violation.0 is 0.0, and scored again" in f for f in findings)


def test_records_that_nobody_asked_for_are_found(row: Path) -> None:
    def dropped(content: Any) -> None:
        content["requests"]["count"] -= 1

    edited(row / "manifest.json", dropped)
    assert "requests are not those that the task asks for" in check(row, 0).findings[0]


def test_the_command_names_the_row_and_exits_with_5(
    row: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*arguments: str) -> int:
        monkeypatch.setattr("sys.argv", ["sfbench", "verify", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    assert command(str(row.parent)) == 0
    assert capsys.readouterr().out.startswith(f"ok     {row}: ")
    edited(row / "result.json", lambda r: r["estimates"]["drift"].update(value=0.0))
    assert command(str(row)) == INVALID
    out = capsys.readouterr().out
    assert f"wrong  {row}: result.json has another hash than its own" in out
    assert "estimates.drift.value is 0.0, and its records make it" in out
    assert command(str(row / "nothing")) == 2
    assert command(str(row), "--model", "cheat:noise") == 2
    (row.parent / "empty").mkdir()
    assert command(str(row.parent / "empty")) == 2
    assert "No finished run lies in" in capsys.readouterr().err


def test_tables_that_were_touched_are_found(finished: Path, tmp_path: Path) -> None:
    from sfbench.report import write_report

    shelf = tmp_path / "results"
    shutil.copytree(finished, shelf / "runs" / "noise")
    write_report([shelf / "runs"], shelf, ["csv", "md"])
    assert check_tables(shelf) == [] and rows([shelf]) == [shelf / "runs" / "noise"]
    page = shelf / "LEADERBOARD.md"
    page.write_text(page.read_text().replace("cheat:noise", "my-model", 1))
    assert check_tables(shelf) == [f"{page} is not what `sfbench report` makes"]
