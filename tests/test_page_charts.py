"""The page's charts: curves, the planes of quality, speed and horizon, and waits."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import altair
import pytest

from sfbench import page_planes, page_svg, page_verdict, page_waits
from sfbench.page_charts import shown_first, the_rest
from sfbench.page_looks import figure, looks, rounded_out, ticks_of
from sfbench.schema import Curve, Result

from page_fixtures import NAMES, board, everything, finished, read, streamed, timed


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("runs"))


# --- charts ---------------------------------------------------------------------------------------


def test_a_board_has_the_charts_of_its_curves(runs: Path) -> None:
    found, _ = read(runs)
    long = next(g for g in found if g.task.name == "long-horizon")
    known = looks(found)
    names = [chart.id.rpartition(".")[2] for chart in shown_first(long, known)]
    assert names == ["drift", "exposure", "gap", "alive"]
    assert [chart.title for chart in the_rest(long, known)] == ["new"]
    drift = shown_first(long, known)[0]
    assert len(drift.rows) == 8 and len(drift.head) == 1 + 5
    panels = [plot.title for plot in shown_first(long, known)[1].plots]
    assert len(panels) == len(NAMES) + 1 and panels[-1] == "teacher"  # a panel a model


def test_cheats_are_drawn_but_off_and_names_are_escaped(runs: Path) -> None:
    found, _ = read(runs)
    known = looks(found)
    long = next(g for g in found if g.task.name == "long-horizon")
    picture = shown_first(long, known)[0].plots[0].pictures[0].svg
    cheat = next(look for look in known.values() if look.kind == "cheat")
    assert f'data-series="{cheat.series}" class="off"' in picture
    assert picture.count('class="off"') == picture.count(f'data-series="{cheat.series}"')
    assert "<script" not in picture and "&lt;script" in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


def test_rows_look_alike_on_all_boards_and_differ_from_each_other(runs: Path) -> None:
    found, _ = read(runs)
    known = looks(found)
    models = [look for look in known.values() if look.kind != "reference-row"]
    assert len({(look.colour, look.dash) for look in models}) == len(models)
    assert len({look.series for look in known.values()}) == len(known)
    assert looks(found[::-1]).keys() == known.keys()


def test_specifications_keep_to_vega_lites_schema(
    monkeypatch: pytest.MonkeyPatch, runs: Path
) -> None:
    made: list[dict[str, object]] = []
    monkeypatch.setattr("vl_convert.vegalite_to_svg", lambda spec, **_: made.append(spec) or "")
    found, sources = read(runs)
    main = page_verdict.main_board(found)
    known = looks(found)
    for group in found:
        shown_first(group, known)
        page_waits.waits(group, known, sources)
    page_planes.pareto(found, main, known)
    assert main is not None
    page_verdict.verdicts(main, known)
    assert len(made) > 10
    for spec in made:
        altair.Chart.from_dict(spec, validate=True)


def test_a_curve_with_gaps_is_drawn_from_what_is_known() -> None:
    row = finished("a", 0.2, 1)
    drift = row.curves["drift"]
    none = drift.y[0].model_copy(update={"value": None, "low": None, "high": None})
    holed = row.model_copy(
        update={"curves": {"drift": Curve(x=drift.x, x_label="frame", y=(none, *drift.y[1:]))}}
    )
    group = board(holed, finished("b", 0.3, 2))
    chart = shown_first(group, looks([group]))[0]
    assert chart.rows[0][1].text == "" and chart.rows[1][1].text.startswith("0.1")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (0.0, 96.0, (0.0, 20.0, 40.0, 60.0, 80.0)),
        (-0.1, 0.4, (-0.1, 0.0, 0.1, 0.2, 0.3, 0.4)),
    ],
)
def test_ticks_are_round(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert ticks_of(low, high) == ticks


def test_ranges_and_figures() -> None:
    assert rounded_out(0.03, 0.94) == (0.0, 1.0)
    low, high = rounded_out(3.0, 3.0)
    assert low < high
    assert [figure(v) for v in (0.1234, -0.0001, 12.34, 4567.8)] == [
        "0.123",
        "0.000",
        "12.3",
        "4568",
    ]


def test_names_at_the_ends_of_lines_do_not_overlap() -> None:
    placed = page_svg.apart([(10.0, 0), (11.0, 1), (199.0, 2), (199.5, 3)], 15, 200)
    ordered = sorted(placed.values())
    assert all(b - a >= 15 for a, b in pairwise(ordered))
    assert placed[0] < placed[1] and max(ordered) <= 200


# --- quality, speed and horizon -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, 1, 1)], [True]),
        ([(1, 2, 3), (3, 2, 1)], [True, True]),
        ([(1, 2, 3), (1, 2, 2)], [True, False]),
        ([(2, 2, 2), (2, 2, 2), (1, 3, 1)], [True, True, True]),
        ([(1, 1, 1), (2, 2, 2), (3, 3, 3)], [False, False, True]),
    ],
)
def test_the_front_is_what_nothing_dominates(
    points: list[tuple[int, ...]], expected: list[bool]
) -> None:
    assert page_planes.front(points) == expected


def test_the_plane_joins_boards_by_model(runs: Path) -> None:
    found, _ = read(runs)
    main = page_verdict.main_board(found)
    chart = page_planes.pareto(found, main, looks(found))
    assert chart is not None and [row[0].text for row in chart.rows] == list(NAMES)
    # quality rises and speed falls from the first to the last, so that none dominates another
    assert [row[-1].text for row in chart.rows] == ["yes"] * 3
    picture = chart.plots[0].pictures[0].svg
    assert "quality: prompt" in picture and "latency: fps, context full" in picture
    assert any("attributes" in note for note in chart.notes)  # what `prompt` is
    assert page_planes.pareto([g for g in found if g is main], main, looks(found)) is None


def test_a_row_that_is_not_ranked_cannot_beat_others(tmp_path: Path) -> None:
    everything(tmp_path)
    path = tmp_path / "late0" / "result.json"
    row = Result.model_validate_json(path.read_text())
    flagged = row.validity.model_copy(update={"flags": ("NOISY MACHINE",)})
    path.write_text(row.model_copy(update={"validity": flagged}).model_dump_json())
    found, _ = read(tmp_path)
    chart = page_planes.pareto(found, page_verdict.main_board(found), looks(found))
    assert chart is not None and chart.rows[0][-1].text == "not ranked"
    assert "model-a" in chart.notes[0]
    hollow = re.findall(r'<path[^>]*fill="var\(--ground\)"[^>]*>', chart.plots[0].pictures[0].svg)
    assert hollow and not any("opacity" in mark for mark in hollow)  # hollow, not too pale to see


# --- waits ----------------------------------------------------------------------------------------


def test_waits_are_drawn_if_they_are_those_the_estimate_counts(tmp_path: Path) -> None:
    waits = [float(w) for w in range(20, 120)]
    streamed(tmp_path / "a", timed("a", 40, waits), waits)
    streamed(tmp_path / "b", timed("b", 30, waits), waits[:-1])  # a record was lost
    (group,), sources = read(tmp_path)
    by_label = {row.label: row for row in group.rows}
    assert sorted(page_waits.gaps(by_label["a"], sources)) == pytest.approx(waits)
    assert page_waits.gaps(by_label["b"], sources) == []
    chart = page_waits.waits(group, looks([group]), sources)
    assert chart is not None and chart.notes == ("Only the quantiles are known of b.",)
    assert [c.text for c in chart.rows[0]] == ["a", "69.5", "114.0", "n/a", "125.0"]
