"""A row that was changed after its run is found, and the change is named."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfbench import cli, runner
from sfbench.cli_common import INVALID
from sfbench.models import resolve
from sfbench.row_folders import rows
from sfbench.schema import ModelCard, Record, Result
from sfbench.store import as_bytes
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.verify_rows import check
from sfbench.verify_tables import check_tables
from sfbench.video import read_clip, write_clip

import fakes

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
    told = f"clips/{clip.name} (record {clip.stem})"
    assert finding == f"{told} holds other pixels than its record says"
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


def test_one_unit_in_the_last_place_is_rounding_and_two_are_not(row: Path) -> None:
    """Another machine's sums end so."""
    for units, ok in ((1, True), (2, False)):
        resealed(row, lambda r, n=units: nudged(r["estimates"]["drift"], "value", n))
        assert check(row, rescore=0).ok is ok
        resealed(row, lambda r, n=units: nudged(r["estimates"]["drift"], "value", -n))
    resealed(row, lambda r: nudged(r["estimates"]["drift"], "n", 1e5))  # a count is exact
    assert "estimates.drift.n" in check(row, rescore=0).findings[0]


def nudged(values: dict[str, float], name: str, units: float) -> None:
    values[name] = type(values[name])(round(values[name] + units * 1e-5, 5))


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
    told = re.compile(
        r"clips/(\w+)\.\w+ \(record (\w+)\): scores\.series\.violation\.0 is 0\.0, and "
    )
    named = [found for f in findings if (found := told.match(f))]
    assert named and all(found[1] == found[2] for found in named)


def test_requests_that_nobody_asked_for_are_found(row: Path) -> None:
    def dropped(content: Any) -> None:
        content["requests"]["count"] -= 1

    edited(row / "manifest.json", dropped)
    assert "requests are not those that the task asks for" in check(row, 0).findings[0]


def test_a_wrong_record_is_named_by_its_line_and_its_key(row: Path) -> None:
    file = row / "records.jsonl"
    records = [Record.model_validate_json(line) for line in file.read_text().splitlines()]
    other = records[2].request.model_copy(update={"seed": 77})
    records[2] = records[2].model_copy(update={"request": other, "key": other.key})
    records[4] = records[4].model_copy(update={"key": "0" * 16})
    assert records[5].clip is not None
    away = records[5].clip.model_copy(update={"path": "../secret.mp4"})
    records[5] = records[5].model_copy(update={"clip": away})
    file.write_text("".join(record.model_dump_json() + "\n" for record in records))
    findings = check(row, 0).findings
    for told in (
        f"records.jsonl line 3: the task does not ask for its request (record {other.key})",
        f"records.jsonl line 5: key is {'0' * 16}, and its request makes it "
        f"{records[4].request.key}",
        f"leads out of {row}; it was not touched (record {records[5].key})",
    ):
        assert any(told in finding for finding in findings), findings
    lines = file.read_text().splitlines()
    lines[6] = lines[6].replace('"seed":', '"sead":', 1)
    file.write_text("\n".join(lines) + "\n")
    (finding,) = check(row, 0).findings
    assert "records.jsonl line 7 is not a record (request.seed: Field required)" in finding


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


def test_a_board_within_a_folder_is_apart_from_its_tables_and_checked_with_it(
    finished: Path, tmp_path: Path
) -> None:
    """Its rows are ranked among those above that can be compared with them."""
    from sfbench.report import write_report

    shelf = tmp_path / "results"
    board = shelf / "boards" / "mine"
    shutil.copytree(finished, shelf / "runs" / "noise")
    inner = Path(shutil.copytree(finished, board / "runs" / "inner"))
    resealed(inner, lambda r: r["model"].update(name="cheat:inner"))
    write_report([shelf], shelf, ["csv", "md"])
    write_report([board], board, ["csv", "md"], among=[shelf / "runs"])
    assert "cheat:inner" not in (shelf / "LEADERBOARD.md").read_text()
    told = (board / "LEADERBOARD.md").read_text()
    assert "cheat:inner" in told and "cheat:noise" in told
    assert check_tables(shelf) == check_tables(board) == []
    assert rows([shelf]) == [inner, shelf / "runs" / "noise"]
    page = board / "leaderboard.csv"
    page.write_text(page.read_text() + "\n")
    assert check_tables(shelf) == [f"{page} is not what `sfbench report` makes"]


# --- rules of the board ---------------------------------------------------------------------------

KNOWN = {"commit": "a" * 12, "dirty": False}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda r: r["provenance"].update(commit=None, dirty=True),
            "was run by code with changes of its own (commit None); run it again",
        ),
        (lambda r: r["provenance"].update(dirty=True), "was run by code with changes of its own"),
        (lambda r: r["provenance"].update(dirty=None), "was run by code that is not known"),
        (lambda r: r["provenance"].update(commit="main"), "that is not known (commit main)"),
    ],
)
def test_a_row_of_code_that_nobody_can_find_is_noted_and_refused_where_strict(
    row: Path, change: Callable[[Any], None], reason: str
) -> None:
    resealed(row, lambda r: (r["provenance"].update(KNOWN), change(r)))
    found = check(row, 0)
    assert found.ok and len(found.notes) == 1 and reason in found.notes[0]
    assert found.lines()[1].startswith(f"note   {row}: not for the board, it was run by code")
    strict = check(row, 0, strict=True)
    assert not strict.ok and not strict.notes and f"the row {found.notes[0]}" in strict.findings


def test_strict_takes_a_row_that_keeps_to_the_rules(row: Path) -> None:
    resealed(row, lambda r: r["provenance"].update(KNOWN))
    assert check(row, 0).notes == () and check(row, 0, strict=True).ok
    for left in ("lock", "lock-2of4", "records-2of4.jsonl", "shards.json"):
        (row / left).touch()  # of the run, and of shards that were killed
    assert check(row, 0, strict=True).ok


def test_a_part_of_a_run_and_a_model_without_a_source_are_refused_where_strict(
    tmp_path: Path,
) -> None:
    class Mine(fakes.Static):
        card = ModelCard(name="mine", causal=True, accepts_context=False)

    runner.run(LongHorizon(tier="smoke"), Mine(), tmp_path, limit=2)
    resealed(tmp_path, lambda r: r["provenance"].update(KNOWN))
    notes = check(tmp_path, 0).notes
    assert notes == (
        "is INVALID: 6 of 8 requests were not run; limit: 2 of 8 requests",
        "has a model card that does not say its revision and in its notes where its weights can "
        "be had, or that they cannot",
    )
    findings = check(tmp_path, 0, strict=True).findings
    assert findings == tuple(f"the row {note}" for note in notes)


def test_the_command_is_strict_where_asked(
    row: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resealed(row, lambda r: r["provenance"].update(commit=None, dirty=True))
    for more, code in (([], 0), (["--strict"], INVALID)):
        monkeypatch.setattr("sys.argv", ["sfbench", "verify", str(row), "--rescore", "0", *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert int(ended.value.code or 0) == code
        said = "wrong  {}: the row was run" if more else "note   {}: not for the board, it was run"
        assert said.format(row) in capsys.readouterr().out


# --- what stands in the tables --------------------------------------------------------------------


def test_a_row_within_a_row_is_checked_too(row: Path, finished: Path) -> None:
    inner = Path(shutil.copytree(finished, row / "clips" / "inner"))
    assert rows([row]) == [row, inner]


def test_a_result_outside_of_a_row_is_found(finished: Path, tmp_path: Path) -> None:
    """`sfbench report` reads it, and nothing shows what it follows from."""
    from sfbench.report import write_report

    shutil.copytree(finished, tmp_path / "runs" / "noise@4")
    shutil.copyfile(finished / "result.json", tmp_path / "runs" / "noise@4" / "other.json")
    write_report([tmp_path], tmp_path, ["csv"])
    assert check_tables(tmp_path) == [], (
        "what lies in a run directory beside its result is not read"
    )
    loose = tmp_path / "x@1" / "evil.json"
    loose.parent.mkdir()
    shutil.copyfile(finished / "result.json", loose)
    assert check_tables(tmp_path) == [
        f"{loose} is a result without its records, so nothing shows that it follows from any"
    ]


def test_tables_that_cannot_be_made_again_are_wrong(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "noise")
    (tmp_path / "leaderboard.csv").write_text("")
    edited(tmp_path / "noise" / "result.json", lambda r: r["model"].update(notes="better"))
    (finding,) = check_tables(tmp_path)
    assert "no table can be made again" in finding and "was changed after it was" in finding
    (tmp_path / "leaderboard.csv").unlink()
    (tmp_path / "leaderboard.csv").symlink_to("/etc/passwd")
    assert check_tables(tmp_path) == [
        f"{tmp_path / 'leaderboard.csv'} is a link, and rows are plain files"
    ]
