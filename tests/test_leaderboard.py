"""Rows are ranked only with their like, by differences that are real, and always the same way."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfbench import leaderboard, tables
from sfbench.leaderboard import Incomparable
from sfbench.schema import Geometry, Result

from simulators import board_rows, result, spread


@pytest.fixture
def board() -> list[Result]:
    return board_rows()


def ranks(results: list[Result]) -> dict[str, str]:
    (group,) = leaderboard.groups(results)
    return {row.label: row.rank for row in group.rows}


def test_ties_share_a_rank_and_the_rest_is_not_ranked(board: list[Result]) -> None:
    assert ranks(board) == {
        "best": "1=",
        "near": "1=",
        "cheat:subtle": "3",
        "far": "4",
        "cheat:frozen": "-",
        "partial": "-",
        "oracle:truth": "-",
        "teacher": "-",
    }


def test_order_and_notes(board: list[Result]) -> None:
    (group,) = leaderboard.groups(board[::-1])
    labels = [row.label for row in group.rows]
    assert labels[:2] in (["best", "near"], ["near", "best"])
    assert labels[2:] == [
        "cheat:subtle",
        "far",
        "cheat:frozen",
        "partial",
        "oracle:truth",
        "teacher",
    ]
    notes = {row.label: row.note for row in group.rows}
    assert notes["cheat:frozen"] == "DEGENERATE (no motion)"
    assert "INVALID" in notes["partial"] and "cut short" in notes["partial"]
    assert "not caught" in notes["cheat:subtle"]


def test_what_was_not_measured_is_not_ranked() -> None:
    found = ranks([result("a", spread(0.1, 1)), result("b", {})])
    assert found == {"a": "1", "b": "-"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("tier", "lite"),
        ("dataset", "shapes-2"),
        ("prompts_sha256", "cd"),
        ("geometry", Geometry(frames=96, height=64, width=64, fps=16)),
        ("seeds", (0,)),
        ("metrics", {"luma": 2}),
    ],
)
def test_rows_that_differ_are_refused_by_the_name_of_the_field(field: str, value: object) -> None:
    a, b = result("a", spread(0.1, 1)), result("b", spread(0.1, 1), task={field: value})
    with pytest.raises(Incomparable, match=f"differ in {field} "):
        leaderboard.require_comparable([a, b])
    with pytest.raises(Incomparable):
        leaderboard.paired(a, b, "violation_own")
    assert len(leaderboard.groups([a, b])) == 2


def test_a_row_of_another_decoder_has_a_table_of_its_own() -> None:
    a, b = result("a", spread(0.1, 1)), result("b", spread(0.1, 1), decoder="small")
    with pytest.raises(Incomparable, match=r"differ in decoder \(- vs small\)"):
        leaderboard.require_comparable([a, b])
    titles = [tables.title(group) for group in leaderboard.groups([a, b])]
    assert sorted(title.endswith(" · small decoder") for title in titles) == [False, True]


def test_verdicts_say_which_and_also_when_none() -> None:
    low = result("low", spread(0.1, 1), gap=spread(0.02, 1))
    high = result("high", spread(0.3, 2), gap=spread(0.02, 3))
    (group,) = leaderboard.groups([high, low])
    own, gap, _ = leaderboard.verdicts(group)
    assert own.startswith("low has less violation under its own context than high, -0.")
    assert own.endswith("24 paired prompts. †")
    assert "No difference in exposure bias is shown between" in gap


def test_a_worse_leader_in_the_gap_is_told_so() -> None:
    a = result("a", spread(0.1, 1), gap=spread(0.3, 1))
    b = result("b", spread(0.3, 2), gap=spread(0.1, 2))
    (group,) = leaderboard.groups([a, b])
    assert any(s.startswith("b has less exposure bias than a") for s in leaderboard.verdicts(group))


def test_in_brief_each_estimate_is_told_from_its_own_best() -> None:
    levels = {"a": (0.1, 0.3), "b": (0.3, 0.1), "c": (0.5, 0.5)}  # own, gap
    rows = [
        result(k, spread(own, n), gap=spread(gap, n + 5))
        for n, (k, (own, gap)) in enumerate(levels.items())
    ]
    (group,) = leaderboard.groups(rows)
    *sentences, note = leaderboard.verdicts(group, leader_only=True)
    told = [sentence.split(",")[0] for sentence in sentences]
    assert told == [
        "a has less violation under its own context than b",
        "a has less violation under its own context than c",
        "b has less exposure bias than a",
        "b has less exposure bias than c",
    ]
    assert note.startswith("4 comparisons, 4 with a difference shown at 95 % each")


def test_the_latest_run_of_the_same_weights_counts(tmp_path: Path) -> None:
    for day, level in (("02", 0.2), ("01", 0.1)):
        folder = tmp_path / f"run-{day}"
        folder.mkdir()
        run = result("m", spread(level, 1), revision="r1", started=f"2026-01-{day}T00:00:00Z")
        (folder / "result.json").write_text(run.model_dump_json())
    (only,) = leaderboard.load([tmp_path])
    assert only.provenance.started.startswith("2026-01-02")


def test_results_are_found_wherever_they_lie(tmp_path: Path) -> None:
    tree = tmp_path / "runs" / "m" / "r1" / "long-horizon@1"
    tree.mkdir(parents=True)
    (tree / "abc.json").write_text(result("m", spread(0.1, 1)).model_dump_json())
    for place in (tmp_path, tree / "abc.json"):
        assert [r.model.name for r in leaderboard.load([place])] == ["m"]


def test_only_finished_runs_are_read(tmp_path: Path, board: list[Result]) -> None:
    """A name with an @ is no version, and a run that has no result yet is no result."""
    for name in ("model@4", "unfinished@4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text('{"sfbench": "0.1.0"}')
    (tmp_path / "model@4" / "result.json").write_text(board[0].model_dump_json())
    assert [r.model.name for r in leaderboard.load([tmp_path])] == ["best"]


@pytest.mark.parametrize("content", ["{}", "[]", "not json"])
def test_a_file_that_is_no_result_is_one_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(leaderboard.Unreadable, match="is not a result of sfbench") as error:
        leaderboard.load([tmp_path])
    assert "\n" not in str(error.value)


def test_a_newer_schema_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text('{"schema_version": 999, "unknown": 1}')
    with pytest.raises(ValueError, match="999, newer than this sfbench reads"):
        leaderboard.load([path])


def test_two_revisions_of_one_name_are_told_apart() -> None:
    both = [result("m", spread(0.1, n), revision=f"r{n}") for n in (1, 2)]
    assert set(ranks(both)) == {"m@r1", "m@r2"}


def test_a_task_without_a_board_is_listed() -> None:
    plain = result("m", spread(0.1, 1), task={"name": "another"})
    (group,) = leaderboard.groups([plain])
    assert [row.rank for row in group.rows] == ["-"]
    assert "violation_own" in tables.markdown([group])


# --- how sure a rank is ---------------------------------------------------------------------------


def intervals(results: list[Result]) -> dict[str, tuple[int | None, int | None]]:
    (group,) = leaderboard.groups(results)
    return {row.label: (row.rank_low, row.rank_high) for row in group.rows}


def test_a_rank_has_an_interval(board: list[Result]) -> None:
    found = intervals(board)
    assert found["best"] == found["near"] == (1, 2)
    assert (found["cheat:subtle"], found["far"]) == ((3, 3), (4, 4))
    for name in ("cheat:frozen", "partial", "oracle:truth", "teacher"):
        assert found[name] == (None, None)


def test_a_tie_with_both_neighbours_is_seen_in_the_interval() -> None:
    """Ranks are shared with a leader only; the interval also tells of the one behind."""
    levels = {"a": 0.1, "b": 0.104, "c": 0.108}
    rows = [result(k, spread(v, n + 20, noise=0.04)) for n, (k, v) in enumerate(levels.items())]
    assert intervals(rows)["b"] == (1, 3)


def test_a_rank_is_judged_by_the_prompts_that_all_have() -> None:
    whole = spread(0.1, 1)
    half = {p: v for p, v in spread(0.3, 2).items() if int(p.split("-")[1]) < 12}
    one = {"test-0": 0.5, "elsewhere": 0.5}
    assert intervals([result("a", whole), result("b", half)]) == {"a": (1, 1), "b": (2, 2)}
    assert set(intervals([result("a", whole), result("b", one)]).values()) == {(None, None)}


def test_equal_rows_are_not_told_apart_by_rounding() -> None:
    rows = [result(name, spread(0.1, 1)) for name in "abc"]
    assert set(intervals(rows).values()) == {(1, 1)}


# --- many sentences together ----------------------------------------------------------------------


def test_a_difference_that_may_be_one_of_many_is_not_marked() -> None:
    """Among 16 rows it takes more to hold: the pair shown at 95 % is no longer marked."""
    rows = [result("a", spread(0.1, 1)), result("b", spread(0.116, 2))]
    (pair,) = leaderboard.groups(rows)
    own, *_ = leaderboard.verdicts(pair)
    assert own.startswith("a has less violation") and own.endswith("†")
    many = rows + [result(f"m{n}", spread(1 + 0.3 * n, n + 5)) for n in range(14)]
    (group,) = leaderboard.groups(many)
    sentences = leaderboard.verdicts(group)
    again = next(s for s in sentences if s.startswith("a has less violation") and "than b" in s)
    assert again == own.removesuffix(" †")
    assert sentences[-1].startswith("240 comparisons,")
    marked = sum(s.endswith("†") for s in sentences)
    assert f"† marks the {marked} that also hold all together" in sentences[-1]
    assert "chance alone would show 12.0" in sentences[-1]
