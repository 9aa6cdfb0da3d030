"""Published figures stand apart, with their source, and a file that hides one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfbench.published import UnusablePublished, section

ROOT = Path(__file__).parents[1]


def test_each_figure_has_its_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("system,fps,source\nX | Y,17.0,A paper\nZ,,Another\n")
    text = "\n".join(section(tmp_path))
    assert text.startswith("## Published figures, not measured here")
    assert "| X \\| Y | 17.0 | [1] |" in text and "| Z | - | [2] |" in text
    assert "[1] A paper" in text and "[2] Another" in text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("system,fps\nX,1\n", "has no column 'source'"),
        ("system,fps,source\n", "holds no row"),
        ("system,fps,source\nX,1,\n", "line 2 names no system or no source"),
        ("system,fps,source\nX,1\n", "line 2 has not as many cells"),
        ("system,fps,source\nX,1,A,B\n", "line 2 has not as many cells"),
    ],
)
def test_a_figure_without_a_source_is_refused(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UnusablePublished, match=says):
        section(tmp_path)


def test_nothing_published_is_nothing_said(tmp_path: Path) -> None:
    assert section(tmp_path) == section(tmp_path / "absent") == []


def test_the_committed_figures_are_shown_and_not_ranked() -> None:
    page = (ROOT / "results/LEADERBOARD.md").read_text()
    ours, _, theirs = page.partition("## Published figures, not measured here")
    assert "Wan2.1" in theirs and "arXiv 2506.08009" in theirs
    assert "Wan2.1" not in ours
