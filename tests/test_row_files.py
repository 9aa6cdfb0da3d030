"""The published schema is what is written, and what is written keeps to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sfbench.row_files import schema

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
