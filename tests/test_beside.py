"""Published figures beside ours: orders are compared, and reversals are named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sfbench import beside
from sfbench.marked_page import Unmarked, embed
from sfbench.schema import Result, Validity
from sfbench.store import as_bytes

from simulators import result

HEAD = "system,autoregression,vbench_total,row,source\n"


def row(name: str, level: float) -> Result:
    """A long-horizon row whose violation is ``level`` with little noise over eight prompts."""
    noise = np.random.default_rng(ord(name)).normal(0, 0.001, 8)
    return result(name, {f"p{i}": level + float(x) for i, x in enumerate(noise)})


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published" / "paper.csv"
    path.parent.mkdir()
    path.write_text(
        HEAD + "Best,chunk-wise,84.3,a,P\nMiddle,chunk-wise,83.5,b,P\nWorst,chunk-wise,82.3,c,P\n"
        "Unread,chunk-wise,,d,P\nNot run,chunk-wise,80.0,e,P\n"
    )
    return path


def test_an_equal_order_agrees_wholly(published: Path) -> None:
    rows = [row("a", 0.1), row("b", 0.2), row("c", 0.3)]
    (found,) = beside.agreements(beside.published.read(published), rows)
    assert (found.rows, found.tau, found.told_apart, found.reversed) == (3, 1.0, 3, ())


def test_a_reversal_is_named_and_a_tie_is_not(published: Path) -> None:
    rows = [row("a", 0.3), row("b", 0.1), row("c", 0.1001), row("d", 0.0)]
    (found,) = beside.agreements(beside.published.read(published), rows)
    assert found.rows == 3 and found.tau < 0  # d was not published, e was not run
    assert set(found.reversed) == {("b", "a"), ("c", "a")} and found.told_apart == 2
    assert (
        "0 as in the paper, 2 the other way (b better than a, c better than a)." in found.sentence
    )


def test_two_rows_have_no_order_to_speak_of(published: Path) -> None:
    assert beside.agreements(beside.published.read(published), [row("a", 0.1), row("b", 0.2)]) == []


def test_the_table_stands_between_its_marks(published: Path, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("x\n<!-- beside paper -->\nEARLIER\n<!-- /beside -->\ny\n")
    embed([row("a", 0.1), row("b", 0.2), row("c", 0.3)], page, tmp_path)
    text = page.read_text()
    assert "EARLIER" not in text and text.startswith("x\n") and text.endswith("y\n")
    assert (
        "| Best | chunk-wise | 84.3 | a | - | - | 0." in text
        and "| Unread | chunk-wise | - |" in text
    )
    assert "Kendall's tau +1.00" in text and "Published: P" in text
    embed([row("a", 0.1), row("b", 0.2), row("c", 0.3)], page, tmp_path)
    assert page.read_text() == text


def test_a_board_within_the_results_has_published_figures_of_its_own(
    published: Path, tmp_path: Path
) -> None:
    """Rows of the board above stand there too, where they can be compared."""
    board = tmp_path / "results" / "boards" / "paper-board"
    shutil.copytree(published.parent, board / "published")
    for name, level in (("a", 0.1), ("b", 0.2)):
        path = board / "runs" / name / "result.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(as_bytes(row(name, level).sealed().model_dump(mode="json")))
    page = tmp_path / "README.md"
    page.write_text("<!-- beside paper-board/paper -->\n<!-- /beside -->\n")
    embed([row("c", 0.3)], page, tmp_path / "results")
    assert "over 3 rows the order has Kendall's tau +1.00" in page.read_text()


def test_a_mark_may_choose_rows_of_a_board_within(tmp_path: Path) -> None:
    path = tmp_path / "boards" / "mine" / "runs" / "b" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(as_bytes(row("b", 0.2).sealed().model_dump(mode="json")))
    page, above = tmp_path / "README.md", [row("a", 0.1), row("c", 0.3)]
    mark = "<!-- board mine/long-horizon: b, c -->"
    page.write_text(f"{mark}\n<!-- /board -->\n<!-- board long-horizon -->\n<!-- /board -->\n")
    embed(above, page, tmp_path)
    within, main = page.read_text().split("<!-- board long-horizon -->")
    assert within.startswith(mark) and "| 1 | b |" in within and "| c |" in within
    assert "| a |" not in within and "| b |" not in main and "| 1 | a |" in main
    page.write_text("<!-- board mine/long-horizon: b, x -->\n<!-- /board -->\n")
    with pytest.raises(Unmarked, match="names 'x', which was not run"):
        embed(above, page, tmp_path)


def test_published_figures_that_are_not_there_are_missed(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("<!-- beside absent -->\n<!-- /beside -->\n")
    with pytest.raises(Unmarked, match=r"published/absent\.csv, which is not there"):
        embed([row("a", 0.1)], page, tmp_path)


def test_a_flagged_row_is_shown_and_has_no_place_in_the_order(published: Path) -> None:
    flagged = row("a", 0.05)
    flagged = flagged.model_copy(update={"validity": Validity(ok=True, flags=("DEGENERATE (x)",))})
    rows = [flagged, row("b", 0.3), row("c", 0.2), row("e", 0.1)]
    (found,) = beside.agreements(beside.published.read(published), rows)
    assert found.rows == 3 and not any("a" in pair for pair in found.reversed)
    text = "\n".join(beside.table(published, rows))
    assert "] † |" in text and "- † long-horizon does not rank a: DEGENERATE (x)." in text
    assert text.count("†") == 2
