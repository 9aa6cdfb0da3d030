"""Rows as somebody with bad intent would hand them in: one sentence each, nothing read outside."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sfbench import plain_files, runner
from sfbench.models import resolve
from sfbench.plain_files import FileError, read_json, shown
from sfbench.row_folders import rows
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.verify_rows import check


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    row = tmp_path_factory.mktemp("runs") / "noise"
    runner.run(LongHorizon(tier="smoke"), resolve("cheat:noise"), row, limit=3)
    return row


@pytest.fixture
def row(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "row"))


def only_finding(row: Path) -> str:
    """What is found first; it is one line, whatever the row holds."""
    found = check(row)
    assert not found.ok
    assert all("\n" not in line and "\x1b" not in line for line in found.lines())
    return found.findings[0]


def rewritten(row: Path, name: str, old: str, new: str) -> None:
    text = (row / name).read_text()
    assert old in text
    (row / name).write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("path", ["../../secret.mp4", "/etc/passwd", "clips/../../x", "a\\u0000b"])
def test_no_path_leads_out(row: Path, path: str) -> None:
    record = json.loads((row / "records.jsonl").read_text().splitlines()[0])
    rewritten(row, "records.jsonl", json.dumps(record["clip"]["path"]), f'"{path}"')
    assert any("leads out of" in finding for finding in check(row).findings)
    (row.parent / "secret.mp4").write_bytes(b"x")
    (row.parent / "x").write_bytes(b"x")
    assert not any("holds other pixels" in finding for finding in check(row).findings)


@pytest.mark.parametrize("name", ["manifest.json", "records.jsonl", "result.json"])
def test_a_link_is_refused(row: Path, name: str) -> None:
    (row / name).rename(row.parent / "elsewhere")
    (row / name).symlink_to(row.parent / "elsewhere")
    assert f"{name} is a link" in only_finding(row)


def test_a_folder_that_is_a_link_is_refused(row: Path) -> None:
    (row.parent / "other").symlink_to(row)
    assert "is a link" in only_finding(row.parent / "other")


def test_a_linked_clip_is_refused(row: Path) -> None:
    clip = next((row / "clips").iterdir())
    clip.rename(row.parent / "moved.mp4")
    clip.symlink_to(row.parent / "moved.mp4")
    assert only_finding(row) == f"clips/{clip.name} is a link, and rows are plain files"


def test_links_and_programs_beside_the_files_are_refused(row: Path) -> None:
    (row / "extra.sh").write_text("#!/bin/sh\n")
    (row / "clips" / "more").mkdir()
    (row / "clips" / "more" / "x.py").touch()
    told = "holds clips/more/x.py and 1 more, which no run of sfbench writes; remove it"
    assert check(row).ok and told in check(row).notes
    assert f"the row {told}" in check(row, strict=True).findings
    (row / "etc").symlink_to("/etc")
    (row / "clips" / "more" / "up").symlink_to("..")
    assert only_finding(row) == "clips/more/up is a link, and rows are plain files (and 1 more)"


def test_a_linked_row_among_others_is_not_passed_over(row: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    row.rename(shelf / "row")
    for name, to in (("linked", "row"), ("away", "/etc"), ("nowhere", "gone")):
        (shelf / name).symlink_to(to)
    found = rows([shelf])
    assert found == [shelf / name for name in ("away", "linked", "nowhere", "row")]
    assert [check(place, 0).ok for place in found] == [False, False, False, True]
    assert (
        only_finding(shelf / "linked") == f"{shelf / 'linked'} is a link, and rows are plain files"
    )


@pytest.mark.parametrize("name", ["manifest.json", "records.jsonl", "result.json"])
def test_a_pipe_does_not_hang(row: Path, name: str) -> None:
    (row / name).unlink()
    os.mkfifo(row / name)
    assert "not a plain file" in only_finding(row)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a": NaN}', "NaN"),
        ('{"a": Infinity}', "Infinity"),
        ('{"a": 1, "a": 2}', "a key comes twice"),
        (f'{{"a": {"9" * 5000}}}', "20 digits"),
        ("[]", "no JSON object"),
        ("{}", "lacks what every result has"),
        ('{"schema_version": 999}', "newer than this sfbench reads"),
        ('{"schema_version": true}', "schema_version is True"),
        ("\x00", "not valid JSON"),
    ],
)
def test_json_that_would_hurt_is_refused(row: Path, content: str, word: str) -> None:
    (row / "result.json").write_text(content)
    assert word in only_finding(row)


def test_a_file_past_its_size_is_not_read(row: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (row / "result.json").open("r+b") as file:
        file.truncate(2**40)  # sparse
    assert "and at most 16777216 are read" in only_finding(row)
    (row / "small.json").write_text('{"a": 1}')
    monkeypatch.setattr(plain_files.os, "open", lambda *_: (_ for _ in ()).throw(OSError(13, "no")))
    with pytest.raises(FileError, match="cannot be opened"):
        read_json(row / "small.json")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('"name": "long-horizon"', '"name": "os.system"', "No task 'os.system' is installed"),
        ('"tier": "smoke"', '"tier": "gigantic"', "cannot be set up so"),
        ('"dataset": "shapes-1"', '"dataset": "../../etc"', "cannot be set up so"),
    ],
)
def test_a_task_that_is_none_is_refused(row: Path, old: str, new: str, word: str) -> None:
    for name in ("manifest.json", "result.json"):
        rewritten(row, name, old, new)
    assert any(word in finding for finding in check(row).findings)


def test_a_name_that_would_paint_the_terminal_is_shown_plain() -> None:
    assert shown("\x1b[31mred\nnext") == "\\x1b[31mred\\nnext"
    assert len(shown("x" * 10_000)) < 200


def test_a_row_of_another_model_under_a_known_name_needs_its_own_records(row: Path) -> None:
    rewritten(row, "result.json", '"cheat:noise"', '"<script>alert(1)</script>"')
    assert "another hash" in only_finding(row) or "differ in model" in only_finding(row)


def test_every_refusal_is_one_sentence(row: Path) -> None:
    damage: list[Callable[[], object]] = [
        lambda: (row / "records.jsonl").write_bytes(b"\xff\xfe\n"),
        lambda: (row / "records.jsonl").write_bytes(b"{}\n"),
        lambda: (row / "records.jsonl").write_bytes(b'{"key": 1'),
        lambda: (row / "manifest.json").unlink(),
    ]
    for spoil in damage:
        spoil()
        assert 0 < len(only_finding(row)) < 600
