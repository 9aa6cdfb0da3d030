"""Tables as files: equal rows give equal bytes, and a page says what its numbers are."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfbench import leaderboard, tables
from sfbench.boards import board_of
from sfbench.effects import effect
from sfbench.schema import Estimate, Result

from simulators import board_rows, result, spread


@pytest.fixture
def board() -> list[Result]:
    return board_rows()


def test_files_are_equal_byte_for_byte(board: list[Result], tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for path, order in ((first, board), (second, board[::-1])):
        tables.write_csv(order, path.with_suffix(".csv"))
        tables.write_markdown(order, path.with_suffix(".md"))
    for suffix in (".csv", ".md"):
        a, b = first.with_suffix(suffix).read_bytes(), second.with_suffix(suffix).read_bytes()
        assert a == b and b"\r" not in a and b"2026-01-01" not in a


def test_the_frame_holds_every_estimate_with_its_interval(board: list[Result]) -> None:
    table = tables.frame(board)
    assert list(table["model"][:2]) in (["best", "near"], ["near", "best"])
    row = table[table["model"] == "far"].iloc[0]
    assert row["violation_own_low"] < row["violation_own"] < row["violation_own_high"]
    assert row["violation_own_n"] == 24 and row["comparison_key"] == board[0].comparison_key
    assert (row["rank_low"], row["rank_high"]) == (4, 4)
    assert table[table["model"] == "teacher"]["rank_low"].isna().all()


def test_ranked_rows_have_their_distance_from_the_best(board: list[Result]) -> None:
    """The paired effect size that `compare` prints, in both files; none where there is no rank."""
    (group,) = leaderboard.groups(board)
    best, *others = group.ranked
    table = tables.frame(board).set_index("model")
    page = tables.markdown([group])
    for row in others:
        sizes = effect(
            row.result.per_prompt["violation_own"],
            best.result.per_prompt["violation_own"],
            better="lower",
        )
        for name, one in (("d_z", sizes.standardised), ("wins", sizes.wins)):
            found = [
                table.loc[row.label, f"{name}_from_best{end}"] for end in ("", "_low", "_high")
            ]
            assert found == [one.value, one.low, one.high]
        assert f"{sizes.standardised.value:+.2f} [" in line_of(page, row.label)
        assert f"{sizes.wins.value:.0%} [" in line_of(page, row.label)
    assert table.loc["far", "d_z_from_best"] > 2 and table.loc["far", "wins_from_best"] == 0
    for name in (best.label, "cheat:frozen", "partial", "oracle:truth", "teacher"):
        assert table.loc[name, ["d_z_from_best", "wins_from_best"]].isna().all()
        assert "| - | - |" in line_of(page, name)
    assert f"d_z from best: 'violation, own context' less that of {best.label}" in page
    alone = tables.markdown(leaderboard.groups(board[:1]))
    assert "d_z" not in alone


def line_of(page: str, label: str) -> str:
    """The first row of a model."""
    return next(line for line in page.splitlines() if f"| {label} |" in line)


def test_an_interval_without_an_end_says_why() -> None:
    rows = []
    for name, value, low, high, why in (
        ("unhurt", 0.0, None, None, "no excess in the first chunk"),
        ("also", 0.0, None, None, "no excess in the first chunk"),
        ("slow", 6.0, 4.0, None, "not reached in 2.5 % of resamples"),
        ("never", None, 24.0, None, "never reached"),
        ("quick", 2.0, 2.0, 4.0, "nothing to say"),
        ("none", None, None, None, "n/a: no clip"),
    ):
        made = result(name, spread(0.1, len(rows)))
        one = Estimate(value=value, low=low, high=high, n=9, clusters=9, method=why)
        kept = made.estimates | {"recovery_half_life": one}
        rows.append(made.model_copy(update={"estimates": kept}))
    page = tables.markdown(leaderboard.groups(rows))
    assert "Intervals without an end:" in page
    assert "- recovery of slow: not reached in 2.5 % of resamples." in page
    (both,) = [text for text in page.splitlines() if "no excess in the first chunk" in text]
    assert "unhurt" in both and "also" in both
    assert "- recovery of never: never reached." in page
    assert "nothing to say" not in page and "no clip" not in page
    whole = tables.markdown(leaderboard.groups([result("m", spread(0.1, 1))]))
    assert "without an end" not in whole


def test_markdown_explains_itself(board: list[Result]) -> None:
    page = tables.markdown(leaderboard.groups(board))
    for text in (
        "## long-horizon v1 · full · shapes-1 · 24 prompts x 2 seeds",
        "| 1= [1-2] | best",
        "| 4 [4-4] | far",
        "| - | oracle:truth",
        "**exposure gap**",
        "v lower is better",
        "less exposure bias than",
        "native length only",
        "sfbench 0.1.0; commit cccccccccccc; machine a machine",
    ):
        assert text in page
    assert "too small" not in page


def test_the_smoke_tier_says_what_it_is() -> None:
    small = result("m", spread(0.1, 1), task={"tier": "smoke"})
    assert "too small to rank" in tables.markdown(leaderboard.groups([small]))


def test_a_name_cannot_break_the_table() -> None:
    page = tables.markdown(leaderboard.groups([result("a|b\n# c", spread(0.1, 1))]))
    assert "a\\|b # c" in page


def estimate(value: float | None, low: float | None, high: float | None) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=9, clusters=9, method="m")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (estimate(0.1234, 0.1, 0.2), "0.123 [0.100, 0.200]"),
        (estimate(-0.0001, -0.2, 0.0), "0.000 [-0.200, 0.000]"),
        (estimate(0.5, None, None), "0.500 [n/a]"),
        (estimate(None, 96.0, None), ">= 96.000"),
        (estimate(None, None, None), "n/a"),
        (None, "n/a"),
    ],
)
def test_cells(found: Estimate | None, text: str) -> None:
    column = board_of("long-horizon").columns[0]
    assert tables.format_estimate(found, column) == text
