"""What is written and printed of finished runs."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from sfbench import report, stats, video
from sfbench.boards import board_of
from sfbench.marked_page import Unmarked
from sfbench.registry import providers
from sfbench.schema import ClipRef, Geometry, Prompt, Record, Request, Result

from simulators import result, spread

PNG = b"\x89PNG\r\n\x1a\n"


def store(root: Path, finished: Result, clips: int = 0) -> Path:
    """A run directory, with free clips of the first prompts."""
    (root / "clips").mkdir(parents=True)
    (root / "result.json").write_text(finished.model_dump_json())
    lines = []
    for n in range(clips):
        frames = np.random.default_rng(n).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
        request = Request(
            prompt=Prompt(id=f"p{n}", text=f"clip {n}"),
            seed=0,
            geometry=Geometry(frames=8, height=32, width=32, fps=16),
        )
        path = f"clips/{request.key}.mp4"
        sha256 = video.write_clip(root / path, frames, 16)
        clip = ClipRef(path=path, frames=8, height=32, width=32, fps=16, sha256=sha256)
        lines.append(Record(key=request.key, request=request, clip=clip).model_dump_json() + "\n")
    (root / "records.jsonl").write_text("".join(lines))
    return root


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    store(root / "a", result("model-a", spread(0.1, 1), steps=4), clips=3)
    store(root / "b", result("model-b", spread(0.3, 2)), clips=1)
    store(root / "c", result("cheat:loop", spread(0.1, 3), kind="cheat", flags=("DEGENERATE",)))
    store(root / "d", result("oracle:truth", spread(0.0, 4), kind="reference-row"))
    return root


def test_every_format_is_written_and_repeatable(runs: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    written = report.write_report([runs], out, ["csv", "md", "png"])
    names = [
        "leaderboard.csv",
        "LEADERBOARD.md",
        "drift.png",
        "exposure.png",
        "survival.png",
        "strips.png",
    ]
    assert [path.name for path in written] == names
    assert all(p.read_bytes().startswith(PNG) for p in written if p.suffix == ".png")
    report.write_report([runs], again, ["csv", "md", "png"])
    assert all((again / name).read_bytes() == (out / name).read_bytes() for name in names)


def test_boards_that_differ_get_figures_of_their_own(runs: Path, tmp_path: Path) -> None:
    store(runs / "e", result("model-a", spread(0.1, 1), task={"tier": "smoke"}))
    written = report.write_report([runs], tmp_path, ["png"])
    drifts = [p.name for p in written if p.name.startswith("drift")]
    assert len(drifts) == 2 and any("smoke" in name for name in drifts)


def test_a_second_task_does_not_write_over_a_figure_of_the_first(
    runs: Path, tmp_path: Path
) -> None:
    alone = report.write_report([runs], tmp_path / "alone", ["png"])
    other = result("model-a", spread(0.2, 5), task={"name": "video-exposure"})
    store(runs / "e", other)
    written = report.write_report([runs], tmp_path / "out", ["png"])
    assert len({path.name for path in written}) == len(written)
    assert "exposure-video-exposure.png" in {path.name for path in written}
    for name in ("exposure.png", "drift.png"):
        (was,) = [path for path in alone if path.name == name]
        assert (tmp_path / "out" / name).read_bytes() == was.read_bytes()


def test_a_lost_clip_does_not_stop_the_report(runs: Path, tmp_path: Path) -> None:
    for path in runs.glob("*/clips/*"):
        path.write_bytes(b"broken")
    written = report.write_report([runs], tmp_path, ["png"])
    assert "strips.png" not in [path.name for path in written]


def test_refusals(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown format pdf"):
        report.write_report([runs], tmp_path, ["pdf"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        report.write_report([empty], tmp_path, ["md"])


def printed(results: list[Result]) -> str:
    console = Console(file=StringIO(), width=130, color_system=None)
    report.print_board(results, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_terminal_table() -> None:
    text = printed(
        [
            result("model-a", spread(0.1, 1), steps=4),
            result("[red]model-b", spread(0.3, 2)),
            result("cheat:loop:", spread(0.1, 3), kind="cheat", flags=("DEGENERATE (no motion)",)),
        ]
    )
    for expected in (
        "long-horizon v1 · full · shapes-1",
        "[red]model-b",
        "cheat:loop:",
        "cheat:loop:: DEGENERATE (no motion)",
        "0.0",
        "violation",
        "exposure gap",
        "model-a has less violation under its own context than [red]model-b",
        "95 % interval over prompts",
    ):
        assert expected in text
    lines = text.splitlines()
    assert next(n for n, line in enumerate(lines) if "model-a" in line) < next(
        n for n, line in enumerate(lines) if "model-b" in line
    )


def test_an_empty_board_prints_nothing() -> None:
    assert printed([]) == ""


def test_a_page_carries_the_brief_board(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- board -->\nstale\n<!-- /board -->\nafter\n")
    for _ in range(2):  # again changes nothing
        assert page in report.write_report([runs], tmp_path / "out", [], page)
    text = page.read_text()
    assert text.startswith("before\n<!-- board -->\n|") and text.endswith(
        "<!-- /board -->\nafter\n"
    )
    assert "stale" not in text and "95 % interval" in text


def test_a_page_without_a_place_is_left_alone(runs: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing here\n")
    with pytest.raises(Unmarked, match="<!-- board -->"):
        report.write_report([runs], tmp_path / "out", [], page)
    assert page.read_text() == "nothing here\n"


def test_the_headline_shows_the_rows_that_were_named(runs: Path, tmp_path: Path) -> None:
    rows = ["model-a", "model-b"]
    written = report.write_report([runs], tmp_path / "both", ["png"], headline=rows)
    assert "headline.png" in [path.name for path in written]
    report.write_report([runs], tmp_path / "one", ["png"], headline=rows[:1])
    pictures = [Image.open(tmp_path / name / "headline.png") for name in ("both", "one")]
    assert pictures[0].height > pictures[1].height  # a strip more


def test_a_headline_row_that_is_not_there_is_named(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(report.UnknownRow, match=r"'modl-a'.*model-a"):
        report.write_report([runs], tmp_path, ["png"], headline=["modl-a"])


@pytest.mark.parametrize("name", providers("boards"))
def test_a_terminal_of_80_characters_has_room_for_every_heading(name: str) -> None:
    columns = [column for column in board_of(name).columns if column.brief]
    estimates = {c.key: stats.mean(spread(0.5, 1)) for c in columns}
    row = result("diffusion-forcing@4", spread(0.1, 1), steps=16, task={"name": name})
    row = row.model_copy(update={"estimates": estimates})
    console = Console(file=StringIO(), width=80)
    report.print_board([row], console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "steps" in said and "…" not in said
    words = {word.strip(",") for c in columns for word in c.title.split()}
    assert words <= {word.strip(",") for word in said.split()}
