"""The published schema is what is written, and what is written keeps to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sfbench import cli, leaderboard
from sfbench.row_files import is_untouched, schema
from sfbench.schema import Result
from sfbench.store import as_bytes

from simulators import result, spread

RESULTS = Path(__file__).parents[1] / "results"
ROWS = sorted(path.parent for path in (RESULTS / "runs").glob("*/*/result.json"))


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(schema())
    Draft202012Validator.check_schema(found)
    return found


def valid(document: dict[str, Any], kind: str, content: Any) -> bool:
    whole = {**document, **document["properties"][kind]}
    del whole["properties"]
    return Draft202012Validator(whole).is_valid(content)


def test_the_committed_schema_is_the_printed_one() -> None:
    assert (RESULTS / "schema.json").read_text() == schema(), "if that is meant: make golden"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.parent.name}-{row.name}")
def test_committed_rows_keep_to_it(row: Path, document: dict[str, Any]) -> None:
    for kind in ("manifest", "result"):
        content = json.loads((row / f"{kind}.json").read_text())
        assert valid(document, kind, content)
        assert not valid(document, kind, content | {"surprise": 1})
    with (row / "records.jsonl").open() as lines:
        assert all(valid(document, "record", json.loads(next(lines))) for _ in range(3))


def test_the_certification_keeps_to_it(document: dict[str, Any]) -> None:
    content = json.loads((RESULTS / "certification.json").read_text())
    assert valid(document, "certification", content)
    assert not valid(document, "certification", {"metrics": 1})


# --- a result that was changed --------------------------------------------------------------------


def sealed(folder: Path, name: str) -> Path:
    """A run directory with a result under its own hash."""
    folder.mkdir()
    found: Result = result(name, spread(0.1, 1)).sealed()
    (folder / "result.json").write_bytes(as_bytes(found.model_dump(mode="json")))
    return folder


@pytest.mark.parametrize("command", ["report", "compare"])
def test_a_result_that_was_changed_is_refused_in_one_sentence(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = [sealed(tmp_path / name, name) for name in ("first", "second")]
    more = ["--format", "csv", "--out", str(tmp_path / "out")] if command == "report" else []

    def code() -> int:
        monkeypatch.setattr("sys.argv", ["sfbench", command, *map(str, rows), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    assert code() == 0
    capsys.readouterr()
    file = rows[1] / "result.json"
    content = json.loads(file.read_text())
    content["estimates"]["violation_own"]["value"] = 0.0
    file.write_bytes(as_bytes(content))
    assert code() == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert f"{file} was changed after it was written: it has another hash than its own" in said.err


def test_a_result_of_version_1_has_no_hash_to_fit(tmp_path: Path) -> None:
    golden = Path(__file__).parent / "golden" / "result_v1.json"
    assert not is_untouched(golden)
    assert [r.sha256 for r in leaderboard.load([golden])] == [""]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.parent.name}-{row.name}")
def test_committed_results_have_the_hash_that_they_hold(row: Path) -> None:
    assert is_untouched(row / "result.json")
