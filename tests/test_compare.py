"""Two rows are compared by what they share, in words that the numbers bear, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sfbench import compare, leaderboard, stats
from sfbench.schema import Geometry, Prompt, Record, Request, Result, Scores
from sfbench.tasks.drift import BAND

from simulators import result, spread

Said = Callable[..., tuple[int, str, str]]


def keep(finished: Result, *place: str) -> Path:
    folder = Path("runs", *(place or (finished.model.name,)))
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(finished.model_dump_json())
    return folder


def full(name: str, level: float, seed: int, **fields: object) -> Result:
    """A row with estimates of each direction, of none, and of a time to failure."""
    row = result(name, spread(level, seed), gap=spread(0.05, seed + 9), **fields)
    more = {
        "adherence_1x": (spread(1 - level, seed), "higher"),
        "motion_1x": (spread(level, seed), None),
    }
    estimates = {n: stats.mean(v, better=better) for n, (v, better) in more.items()}  # type: ignore[arg-type]
    estimates["time_to_failure"] = stats.missing("Kaplan-Meier median, not reached")
    return row.model_copy(
        update={
            "estimates": row.estimates | estimates,
            "per_prompt": row.per_prompt | {n: v for n, (v, _) in more.items()},
        }
    )


def clips(folder: Path, failures: list[int | None]) -> None:
    """Records of free clips of 96 frames, each with the window in which it fails."""
    lines = []
    for n, window in enumerate(failures):
        request = Request(
            prompt=Prompt(id=f"test-{n}", text="a"),
            geometry=Geometry(frames=96, height=32, width=32, fps=16),
            seed=0,
        )
        row = tuple(float(window is not None and w >= window) for w in range(16))
        scores = Scores(series={f"v_{name}": row for name in BAND})
        record = Record(key=request.key, request=request, scores=scores)
        lines.append(record.model_dump_json() + "\n")
    (folder / "records.jsonl").write_text("".join(lines))


# --- verdicts -------------------------------------------------------------------------------------


def test_two_names_on_the_board(said: Said) -> None:
    keep(full("low", 0.1, 1))
    keep(full("high", 0.3, 2))
    code, out, err = said("low", "high")
    assert (code, err) == (0, "")
    assert "long-horizon v1 · full · shapes-1 · A = low, B = high" in out
    for sentence in (
        "low has less violation under its own context than high, -0.",
        "No difference in exposure bias is shown between",
        "low has a higher 'prompt at 1x' than high, +0.",
        "low is lower in 'motion at 1x' than high, which is neither better nor worse, -0.",
        "4 comparisons, 3 with a difference shown at 95 % each",
    ):
        assert sentence in out
    assert out.rstrip().endswith("(Bonferroni).")


def test_every_estimate_with_a_direction_has_a_sentence(said: Said) -> None:
    keep(full("low", 0.1, 1))
    keep(full("high", 0.3, 2))
    (pair,) = compare.compare(["low", "high"], Path("runs"))
    for line in pair.lines:
        one = line.comparison
        judged = " has " in line.sentence and one.column.better is None
        assert line.sentence and not judged
        assert one.column.key in one.first.result.estimates


def test_figures_are_those_of_the_pairs(said: Said) -> None:
    a, b = full("low", 0.1, 1), full("high", 0.3, 2)
    keep(a), keep(b)
    code, out, _ = said("high", "low", "--json")
    (pair,) = json.loads(out)["pairs"]
    found = pair["estimates"]["violation_own"]
    gap = leaderboard.paired(b, a, "violation_own")
    for end in ("value", "low", "high", "clusters"):
        assert found["difference"][end] == getattr(gap, end)
    assert found["first"]["value"] == b.estimates["violation_own"].value
    assert found["wins"]["value"] == 0 and found["standardised"]["value"] > 2
    assert found["shown"] and found["together"] and found["log_rank_p"] is None
    assert found["verdict"].startswith("low has less violation")
    assert pair["estimates"]["adherence_1x"]["wins"]["value"] == 0
    assert code == 0


def test_three_rows_are_three_pairs_that_count_together(said: Said) -> None:
    for n, name in enumerate("abc"):
        keep(full(name, 0.1 + 0.1 * n, n))
    pairs = json.loads(said("a", "b", "c", "--json")[1])
    labels = [(p["first"]["label"], p["second"]["label"]) for p in pairs["pairs"]]
    assert labels == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs["note"].startswith("12 comparisons")


def test_run_directories_and_result_files(said: Said) -> None:
    one = keep(full("m", 0.1, 1, revision="r1"), "here")
    two = keep(full("m", 0.3, 2, revision="r2"), "there")
    code, out, _ = said(str(one), str(two / "result.json"))
    assert code == 0 and f"A = {one}, B = {two / 'result.json'}" in out
    assert f"{one} has less violation" in out
    code, out, _ = said("m@r2", "m@r1")
    assert code == 0 and "A = m@r2, B = m@r1" in out


def test_what_is_equal_on_all_prompts_is_not_said_to_be_sure(said: Said) -> None:
    """Shares have Wilson's bound, other quantities no interval and no verdict."""
    for name in ("one", "other"):
        row = full(name, 0.1, 1)
        alive = dict.fromkeys(row.per_prompt["violation_own"], 0.0)
        more = {"alive_8x": stats.share(alive, unit="share", better="higher")}
        per_prompt = row.per_prompt | {"alive_8x": alive}
        kept = row.estimates | more
        keep(row.model_copy(update={"estimates": kept, "per_prompt": per_prompt}))
    out = said("one", "other")[1]
    assert "[+0%, +0%]" not in out and "[0.000, " not in out
    assert "shown between one and other, +0% [-14%, +14%], 24 paired prompts." in out
    assert "motion at 1x: n/a, equal on all 24 paired prompts, and nothing tells how far" in out
    assert out.count("No difference in") == 1
    row = full("apart", 0.3, 1)
    keep(row)
    told = (
        "apart less one is +0.200 on all 24 paired prompts, and nothing tells how far off this is"
    )
    assert f"violation, own context: n/a, {told}." in said("apart", "one")[1]


# --- time to failure ------------------------------------------------------------------------------


def test_time_to_failure_is_tested_from_the_records(said: Said) -> None:
    for name, windows in (("early", [1, 2, 3, 2] * 6), ("late", [None, 12, 14, 10] * 6)):
        clips(keep(full(name, 0.1, 1)), windows)
    code, out, _ = said("early", "late", "--json")
    (pair,) = json.loads(out)["pairs"]
    found = pair["estimates"]["time_to_failure"]
    assert code == 0 and found["log_rank_p"] < 1e-4 and found["together"]
    assert found["verdict"].startswith("late fails later than early, log-rank p = ")
    assert "24 and 24 clips" in found["verdict"]


def test_equal_times_to_failure_are_not_told_apart(said: Said) -> None:
    for name in ("one", "other"):
        clips(keep(full(name, 0.1, 1)), [1, None, 3, 9] * 6)
    _, out, _ = said("one", "other")
    assert (
        "No difference in 'time to failure' is shown between one and other, log-rank p = 1" in out
    )


def test_without_records_or_failures_there_is_no_test(said: Said) -> None:
    clips(keep(full("one", 0.1, 1)), [1, 2, 3])
    folder = keep(full("other", 0.1, 1))
    assert "time to failure: n/a, no records beside the result of other" in said("one", "other")[1]
    clips(folder, [None] * 3)
    clips(Path("runs/one"), [None] * 3)
    assert "time to failure: n/a, nobody failed" in said("one", "other")[1]


def test_what_has_no_values_by_prompt_says_why(said: Said) -> None:
    row = full("a", 0.1, 1)
    bare = {name: v for name, v in row.per_prompt.items() if name != "motion_1x"}
    keep(row.model_copy(update={"per_prompt": bare}))
    keep(result("b", spread(0.1, 1)))
    out = said("a", "b")[1]
    assert "motion at 1x: n/a, a has no values by prompt." in out
    assert "prompt at 1x: n/a, b: not measured." in out


# --- rows that must not be ranked together --------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("version", 2, "version (1 vs 2)"),
        ("tier", "lite", "tier (full vs lite)"),
        ("prompts_sha256", "cd", "prompts_sha256 (ab vs cd)"),
        ("seeds", (0,), "seeds ([0,1] vs [0])"),
    ],
)
def test_incomparable_rows_are_refused_by_field(
    said: Said, field: str, value: object, told: str
) -> None:
    keep(full("a", 0.1, 1))
    keep(full("b", 0.3, 2, task={field: value}))
    code, out, err = said("a", "b")
    assert (code, out) == (4, "") and err.count("\n") == 1
    assert told in err
    code, out, _ = said("a", "b", "--allow-mismatch")
    assert code == 0 and f"WARNING: these rows differ in {told}" in out
    assert "a has less violation under its own context than b, -0." in out
    (pair,) = json.loads(said("a", "b", "--allow-mismatch", "--json")[1])["pairs"]
    assert list(pair["mismatch"]) == [field]


def test_flags_and_invalidity_are_said(said: Said) -> None:
    keep(full("a", 0.1, 1, ok=False))
    keep(full("b", 0.3, 2, flags=("DEGENERATE (no motion)",)))
    out = said("a", "b")[1]
    assert "a is INVALID: cut short." in out and "b is flagged: DEGENERATE (no motion)." in out


def test_timings_of_different_commands_are_cautioned_about(said: Said) -> None:
    timed = {"conditions": {"device": "cpu"}}
    a, b = full("a", 0.1, 1, task=timed), full("b", 0.1, 2, task=timed)
    other = b.provenance.model_copy(update={"command": "run --model b"})
    keep(a), keep(b.model_copy(update={"provenance": other}))
    assert f"a and b were {compare.TIMED}." in said("a", "b")[1]


def test_what_is_not_timed_may_come_from_different_commands(said: Said) -> None:
    told = {"conditions": {"prefix": "6"}}
    a, b = full("a", 0.1, 1, task=told), full("b", 0.1, 2, task=told)
    other = b.provenance.model_copy(update={"command": "run --model b"})
    keep(a), keep(b.model_copy(update={"provenance": other}))
    assert compare.TIMED not in said("a", "b")[1]


# --- names ----------------------------------------------------------------------------------------


def test_an_unknown_name_is_told_the_nearest(said: Said) -> None:
    keep(full("teacher-forcing", 0.1, 1))
    code, _, err = said("teacher-forcing", "teacher-farcing")
    assert code == 2 and "did you mean teacher-forcing?" in err and err.count("\n") == 1


def test_a_name_of_several_rows_must_be_made_precise(said: Said) -> None:
    keep(full("m", 0.1, 1, revision="r1"), "1")
    keep(full("m", 0.1, 1, revision="r2"), "2")
    keep(full("m", 0.1, 1, revision="r2", task={"tier": "lite"}), "3")
    keep(full("b", 0.1, 2))
    code, _, err = said("m", "b")
    assert code == 2 and "'m' is 3 rows of long-horizon" in err
    for told in ("m@r1, full, in runs/1", "m@r2, full, in runs/2", "m@r2, lite, in runs/3"):
        assert told in err
    assert said("m@r1", "b")[0] == 0
    assert "'m@r2' is 2 rows" in said("m@r2", "b")[2]


def test_of_two_runs_of_one_row_the_latest_counts(said: Said) -> None:
    keep(full("m", 0.9, 1, started="2026-01-01T00:00:00Z"), "old")
    keep(full("m", 0.1, 1, started="2026-01-02T00:00:00Z"), "new")
    keep(full("b", 0.3, 2))
    code, out, _ = said("m", "b")
    assert code == 0 and "m has less violation" in out


def test_the_task_can_be_chosen(said: Said) -> None:
    for n, name in enumerate("ab"):
        keep(full(name, 0.1 + n / 5, n), name, "long")
        keep(full(name, 0.1 + n / 5, n, task={"name": "quality"}), name, "quality")
    assert len(json.loads(said("a", "b", "--json")[1])["pairs"]) == 2
    (pair,) = json.loads(said("a", "b", "--task", "quality", "--json")[1])["pairs"]
    assert pair["task"] == "quality"
    assert (
        "'a' has no result of latency; it has long-horizon, quality"
        in said("a", "b", "--task", "latency")[2]
    )


def test_rows_without_a_common_task(said: Said) -> None:
    keep(full("a", 0.1, 1))
    keep(full("b", 0.1, 1, task={"name": "quality"}))
    code, _, err = said("a", "b")
    assert code == 2
    assert "no task in common: 'a' has long-horizon; 'b' has quality" in err


def test_results_are_looked_up_where_they_are_kept(said: Said) -> None:
    keep(full("a", 0.1, 1)), keep(full("b", 0.3, 2))
    Path("runs").rename("elsewhere")
    assert said("a", "b")[0] == 2
    assert said("a", "b", "--results", "elsewhere")[0] == 0
    Path("results").mkdir()
    Path("elsewhere").rename("results/runs")
    assert said("a", "b")[0] == 0


def test_a_narrow_terminal_has_room(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    keep(full("a", 0.1, 1)), keep(full("b", 0.3, 2))
    table = [line for line in said("a", "b")[1].splitlines() if "violation, own" in line]
    assert len(table) == 1 and "…" not in table[0]


def test_comparing_needs_no_torch(sfbench: Callable[..., object], tmp_path: Path) -> None:
    import os

    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        keep(full("a", 0.1, 1)), keep(full("b", 0.3, 2))
    finally:
        os.chdir(here)
    (tmp_path / "torch.py").write_text("raise ImportError('torch was imported')\n")
    done = sfbench("compare", "a", "b")
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
