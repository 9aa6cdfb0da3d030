"""The page: one file, safe, bounded and equal; its verdict, its tables and what lies beside it."""

from __future__ import annotations

import base64
import csv
import hashlib
import html.parser
import io
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from sfbench import leaderboard, page, page_boards, page_evidence, page_verdict, report
from sfbench.certification import FILE
from sfbench.leaderboard import Group
from sfbench.page_looks import looks
from sfbench.schema import Result

from page_fixtures import (
    HOSTILE,
    NAMES,
    board,
    certified,
    everything,
    finished,
    read,
    store,
    timed,
)
from simulators import result


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page shows if it lies beside it."""
    out = tmp_path_factory.mktemp("out")
    (out / FILE).write_text(certified().model_dump_json())
    (out / "published").mkdir()
    (out / "published" / "paper.csv").write_text(f'system,fps,source\nX,17.0,"{HOSTILE}"\nY,,b\n')
    return out


@pytest.fixture(scope="module")
def text(runs: Path, beside: Path) -> str:
    return page.render(*read(runs), beside)


class Parsed(html.parser.HTMLParser):
    """Elements, attributes and texts, as a browser would take them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open].append(data)
            self._open = ""
        else:
            self.texts.append(data.strip())


# --- the whole page -------------------------------------------------------------------------------


def test_the_page_loads_nothing(text: str) -> None:
    for tag, attributes in Parsed(text).tags:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "action", "poster", "srcset"):
            where = attributes.get(name)
            assert where is None or where.startswith(("data:", "#")), (tag, where)
    assert "url(http" not in text and "@import" not in text


def test_the_policy_names_the_script_and_the_style_by_hash(text: str) -> None:
    parsed = Parsed(text)
    policy = next(a["content"] for t, a in parsed.tags if a.get("http-equiv"))
    assert policy is not None and "default-src 'none'" in policy and "unsafe" not in policy
    own = {"style": parsed.inside["style"][0], "script": parsed.inside["script"][-1]}
    for kind, content in own.items():
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_what_a_user_wrote_stays_text(text: str) -> None:
    parsed = Parsed(text)
    scripts = [a for t, a in parsed.tags if t == "script"]
    assert scripts == [{"type": "application/json", "id": "clips"}, {}]
    assert not any(name.startswith("on") for _, a in parsed.tags for name in a)
    assert "<script>alert" not in text and "<img src=x" not in text
    assert HOSTILE in parsed.texts  # a row's name, whole
    assert any(f"“{HOSTILE}”" in said for said in parsed.texts)  # a prompt
    assert any(a.get("alt", "").startswith(HOSTILE) for t, a in parsed.tags if t == "img")  # type: ignore[union-attr]


def test_equal_inputs_give_equal_bytes(runs: Path, beside: Path, text: str) -> None:
    found, sources = read(runs)
    assert page.render(found, sources[::-1], beside) == text
    assert "2026-01-01" not in text  # when a run was started says nothing of what it found


def test_the_page_is_a_report_format(runs: Path, tmp_path: Path) -> None:
    (path,) = report.write_report([runs], tmp_path, ["html"])
    assert path == tmp_path / "leaderboard.html"
    assert path.read_text().startswith("<!DOCTYPE html>")


def test_a_number_is_not_parted_from_its_percent_sign(text: str) -> None:
    assert re.search(r'<p class="headline">[^<]* \(95\u00a0% interval', text)


def test_sections_come_in_order_with_their_headings(text: str) -> None:
    ids = re.findall(r'<section id="([a-z]+)"', text)
    assert ids == [
        "verdict", "watch", "boards", "charts", "certification", "published", "provenance",
    ]  # fmt: skip
    levels = [int(tag[1]) for tag, _ in Parsed(text).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_every_id_is_there_once_and_every_reference_leads_to_one(text: str) -> None:
    tags = Parsed(text).tags
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids


def test_pictures_and_regions_have_names(text: str) -> None:
    for tag, attributes in Parsed(text).tags:
        if tag == "img":
            assert attributes.get("alt")
        if attributes.get("role") in {"img", "region", "group"}:
            assert attributes.get("aria-label")


def test_without_any_extras_the_page_says_what_is_missing(tmp_path: Path) -> None:
    store(tmp_path / "runs", result("only", {}).model_copy(update={"curves": {}}))
    said = page.render(*read(tmp_path / "runs"), tmp_path)
    for words in (
        "No model is ranked yet",
        "No clip was kept",
        "hold no curves",
        "no <code>certification.json</code>",
    ):
        assert words in said
    assert "As published" not in said


def test_a_missing_package_is_named(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(page.MissingPackage, match="pip install jinja2 vl-convert-python"):
        page.write(*read(runs), tmp_path)
    assert not (tmp_path / "leaderboard.html").exists()


def test_a_certification_that_is_none_is_one_sentence(runs: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"clips": "many"}')
    with pytest.raises(page.UnusableCertification, match="sfbench certify --out"):
        page.render(*read(runs), tmp_path)


# --- the verdict ----------------------------------------------------------------------------------


def verdict(*rows: Result) -> page_verdict.Verdict:
    group = board(*rows)
    return page_verdict.verdicts(group, looks([group]))[0]


def test_a_clear_verdict_says_by_how_much_and_how_sure() -> None:
    found = verdict(finished("a", 0.1, 1), finished("b", 0.2, 2), finished("c", 0.4, 3))
    assert re.fullmatch(
        r"a has less violation under its own context than every other ranked model: 0\.\d+ less "
        r"than b, the next \(95 % interval 0\.\d+ to 0\.\d+, 24 paired prompts\)\.",
        found.sentence,
    )
    assert not found.even and found.compared == 2 and "taken together" in found.sure


def test_a_verdict_that_is_none_says_so() -> None:
    rows = finished("a", 0.1, 1), finished("b", 0.101, 2), finished("c", 0.4, 3)
    found = verdict(*rows)
    leader, other = found.best, {"a": "b", "b": "a"}[found.best]
    assert found.sentence.startswith(f"{leader} leads in violation under own context, but is not")
    assert f"told apart from {other}:" in found.sentence and found.even == (other,)
    assert found.sure == ""


def test_one_model_alone_is_not_better_than_another() -> None:
    assert "only ranked model" in verdict(finished("a", 0.1, 1)).sentence
    assert page_verdict.headline([]).startswith("No model is ranked")


def test_more_is_told_where_higher_is_better() -> None:
    rows = [timed(n, v, [40.0, 50.0]) for n, v in (("slow", 10.0), ("fast", 40.0))]
    found = next(v for v in verdicts_of(board(*rows)) if "pace" in v.what)
    assert found.best == "fast" and "30.0 more than slow" in found.sentence


def verdicts_of(group: Group) -> list[page_verdict.Verdict]:
    return page_verdict.verdicts(group, looks([group]))


def test_the_verdict_is_of_drift_not_of_time(runs: Path) -> None:
    found, _ = read(runs)
    main = page_verdict.main_board(found)
    assert main is not None and main.task.name == "long-horizon"
    said = " ".join(page_verdict.asides(found, main))
    assert "one training seed" in said and "all flagged: cheat:loop" in said
    assert "leads in latency (fps, context full" in said
    assert page_verdict.main_board([]) is None


def test_the_first_sentence_does_not_hide_where_another_model_is_best() -> None:
    first = finished("a", 0.1, 1)
    worse = first.estimates["drift"].model_copy(update={"value": 0.9, "low": 0.8, "high": 1.0})
    first = first.model_copy(update={"estimates": first.estimates | {"drift": worse}})
    found = verdicts_of(board(first, finished("b", 0.3, 2), finished("c", 0.4, 3)))
    assert found[0].best == "a"
    (line,) = page_verdict.but(found)
    assert line.startswith("But b ") and "drift over eight horizons" in line
    assert page_verdict.but(verdicts_of(board(finished("a", 0.1, 1), finished("b", 0.3, 2)))) == []


def test_a_loose_cheat_and_a_small_tier_are_told() -> None:
    rows = [finished("a", 0.1, 1), finished("cheat:sly", 0.2, 2, kind="cheat")]
    smoke = rows[0].task.model_copy(update={"tier": "smoke"})
    group = board(*(row.model_copy(update={"task": smoke}) for row in rows))
    said = " ".join(page_verdict.asides([group], group))
    assert "no flag caught is ranked: cheat:sly" in said and "too small to rank" in said


# --- boards ---------------------------------------------------------------------------------------


def test_cells_hold_value_interval_reason_and_order() -> None:
    row = finished("a", 0.25, 1)
    missed = row.estimates["violation_own"].model_copy(
        update={"value": None, "low": 96.0, "high": None, "method": "not reached"}
    )
    none = missed.model_copy(update={"low": None, "method": "n/a: whole clip at once"})
    column = leaderboard.board_of("long-horizon").columns[0]
    whole = page_boards.value_of(row.estimates["violation_own"], column)
    assert re.fullmatch(r"0\.\d{3} to 0\.\d{3}", whole.interval) and whole.sort is not None
    assert page_boards.value_of(missed, column) == page_boards.Value(
        "≥ 96.000", "", "not reached", 96.0
    )
    assert page_boards.value_of(none, column).reason == "n/a: whole clip at once"
    assert page_boards.value_of(None, column).sort is None


def test_rows_stand_in_sections_with_kinds_and_notes(runs: Path) -> None:
    found, _ = read(runs)
    long = next(g for g in found if g.task.name == "long-horizon")
    made = page_boards.board(long)
    sections = {name: rows for name, rows in made.parts[0].sections}
    assert [e.label for e in sections["Ranked"]] == list(NAMES)
    assert [e.kind for e in sections["Not ranked"]] == ["cheat"]
    assert sections["Not ranked"][0].notes == ("DEGENERATE (no motion)",)
    assert [e.label for e in sections["Native length only"]] == ["teacher"]
    assert made.kinds == ("model", "cheat", "reference", "native length")
    assert all(e.ranks for e in sections["Ranked"])
    assert [h.title for h in made.parts[0].headings[-2:]] == ["d_z from best", "wins against best"]
    best, second = sections["Ranked"][:2]
    assert [v.text for v in best.values[-2:]] == ["-", "-"]
    assert second.values[-2].text.startswith("+") and " to " in second.values[-2].interval


def test_why_there_is_no_value_is_said_once_with_all_its_rows() -> None:
    whole = finished("a", 0.1, 1)
    none = whole.estimates["violation_own"].model_copy(
        update={"value": None, "low": None, "high": None, "method": "n/a: too few frames"}
    )
    bound = none.model_copy(update={"low": 96.0, "method": "median, not reached"})
    lacks = {"a": {"exposure_gap": none}, "b": {"exposure_gap": none}}
    lacks["c"] = {"recovery_half_life": bound}
    rows = []
    for n, (name, some) in enumerate(lacks.items(), 1):
        row = finished(name, 0.1 * n, n)
        rows.append(row.model_copy(update={"estimates": row.estimates | some}))
    part = page_boards.board(board(*rows)).parts[0]
    assert part.reasons == {
        "too few frames": ["a", "b"],
        "not measured": ["a", "b"],  # c has a bound, and says of what
        "median, not reached": ["c"],
    }


def test_the_csv_of_a_board_is_its_table(runs: Path) -> None:
    found, _ = read(runs)
    made = page_boards.board(found[0])
    content = base64.b64decode(made.csv.partition("base64,")[2]).decode()
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [row["model"] for row in rows] == [row.label for row in found[0].rows]


# --- certification and published figures ----------------------------------------------------------


def test_the_matrix_says_who_sees_what() -> None:
    failures, rows = page_evidence.matrix(certified())
    assert failures == ("blur", "noise")
    states = {name: [cell.state for cell in cells if cell] for name, cells in rows}
    assert states == {"luma": ["blind", "strong"], "flow": ["seen", "blind"]}
    assert rows[0][1][1].z == "14"  # type: ignore[union-attr]
    _, broken = page_evidence.matrix(certified(ok=False))
    assert broken[0][1][1].state == "broken"  # type: ignore[union-attr]
    nuisances, alarms = page_evidence.alarms(certified(ok=False))
    assert nuisances == ("re-encoded",) and alarms[1] == ("flow", [("25%", False)])


def test_what_lies_beside_is_shown(text: str) -> None:
    assert "All 6 declarations hold" in text and ">14<small>" in text
    assert "As published" in text and "17.0" in text
