"""Files of older versions are read for ever; those of newer ones are refused in one sentence."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from sfbench import leaderboard, migrations
from sfbench.migrations import VersionError, migrate
from sfbench.row_files import read_result
from sfbench.schema import SCHEMA_VERSION, Record
from sfbench.store import StoreError, parse_record

GOLDEN = Path(__file__).parent / "golden"


def test_there_is_a_step_for_every_version() -> None:
    assert len(migrations.STEPS) == SCHEMA_VERSION - 1


def test_a_result_of_version_1_is_read() -> None:
    result = read_result(GOLDEN / "result_v1.json")
    assert result.schema_version == SCHEMA_VERSION and result.sha256 == ""
    assert result.division == "closed"
    content = json.loads((GOLDEN / "result_v1.json").read_text())
    assert result.model_dump(mode="json")["estimates"] == content["estimates"]
    assert leaderboard.load([GOLDEN / "result_v1.json"]) == [result]


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r["task"].update(seeds=[0]),
        lambda r: r["task"]["geometry"].update(height=64, width=64),
        lambda r: r["task"].update(dataset="shapes-2"),
        lambda r: r["validity"].update(ok=False, reasons=["limit: 2 of 800 requests"]),
    ],
)
def test_what_was_not_the_task_as_it_shipped_is_open(change: object) -> None:
    content = json.loads((GOLDEN / "result_v1.json").read_text())
    change(content)  # type: ignore[operator]
    before = copy.deepcopy(content)
    assert migrate(content)["division"] == "open"
    assert content == before, "a migration changes nothing in place"


def test_records_and_manifests_of_version_1_are_read() -> None:
    path = GOLDEN / "record_v1.jsonl"
    lines = path.read_bytes().splitlines()
    records = [parse_record(path, n, line) for n, line in enumerate(lines, 1)]
    assert len(records) == len(lines) and all(isinstance(r, Record) for r in records)
    manifest = json.loads((GOLDEN / "manifest_v1.json").read_text())
    assert migrate(manifest) == manifest | {"schema_version": SCHEMA_VERSION}


def test_a_newer_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"schema version 999, newer .*; upgrade sfbench"):
        migrate({"schema_version": 999})
    file = tmp_path / "result.json"
    file.write_text('{"schema_version": 999, "what": "nobody knows yet"}')
    with pytest.raises(leaderboard.Unreadable, match=r"^[^\n]*newer than this sfbench reads"):
        leaderboard.load([file])
    with pytest.raises(StoreError, match=r"schema version 999.*install a newer sfbench"):
        parse_record(file, 1, b'{"schema_version": 999, "what": 1}')


@pytest.mark.parametrize("version", [0, -1, "1", 1.0, None, True])
def test_a_version_that_never_was_is_refused(version: object) -> None:
    with pytest.raises(TypeError):
        migrate({"schema_version": version})
