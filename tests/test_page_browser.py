"""The page in a real browser, headless Chromium, opened from disk: that it works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from sfbench import page

from page_fixtures import (
    FRAMES,
    HOSTILE,
    Opened,
    finished,
    frames,
    read,
    store,
)

WIDTHS = (360, 768, 1280)
# Pixels of a canvas by way of a second one: Chromium complains of a canvas that is read often.
READ = """canvas => {
  const copy = new OffscreenCanvas(16, 16).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, 16, 16).data];
}"""


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    found = Opened(browser, file)
    found["[data-ready='0']"].wait_for()
    yield found
    found.context.close()
    assert found.complaints == []
    assert [url for url in found.asked if not url.startswith(("file:", "data:", "blob:"))] == []


def names(opened: Opened, section: int = 0) -> list[str]:
    """Rows of a section of the first table, as they stand."""
    rows = opened[".sortable"].first.locator("tbody").nth(section).locator("tr[data-kind]")
    return [row.get_attribute("data-name") or "" for row in rows.all() if row.is_visible()]


def wait_until(opened: Opened, condition: str) -> None:
    """Playwright's own waiting evaluates a string, which the page's policy forbids."""
    for _ in range(200):
        if opened.tab.evaluate(condition):
            return
        opened.tab.wait_for_timeout(50)
    raise AssertionError(f"never true: {condition}")


def pixels(opened: Opened, tile: int) -> str:
    return str(opened[".tile canvas"].nth(tile).evaluate("canvas => canvas.toDataURL()"))


# --- it is there ----------------------------------------------------------------------------------


def test_it_opens_without_complaint_or_network(opened: Opened) -> None:
    assert "has less violation under its own context" in opened[".headline"].inner_text()
    assert opened["svg"].count() > 20
    assert opened.asked[0].startswith("file:")
    assert all(url.startswith(("data:", "blob:")) for url in opened.asked[1:])


def test_a_hostile_name_is_text(opened: Opened) -> None:
    row = opened[".sortable th.name"].filter(has_text="alert(1)").first
    assert row.inner_text().startswith(HOSTILE)
    assert opened["script"].count() == 2 and opened["img[src='x']"].count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(
    browser: Browser, file: Path, width: int, scheme: str
) -> None:
    found = Opened(browser, file, viewport={"width": width, "height": 800}, color_scheme=scheme)
    found["[data-ready='0']"].wait_for()
    for summary in found["summary"].all():
        summary.evaluate("element => { element.parentElement.open = true; }")
    root = "document.documentElement"
    assert found.tab.evaluate(f"{root}.scrollWidth - {root}.clientWidth") == 0
    drawn = found[".picture:visible svg"].evaluate_all(
        "all => all.map(svg => [svg.getBoundingClientRect().width, innerWidth])"
    )
    assert drawn and all(0 < wide <= window for wide, window in drawn)
    found.context.close()


# --- tables ---------------------------------------------------------------------------------------


def test_a_head_sorts_and_says_so(opened: Opened) -> None:
    head = opened[".sortable"].first.locator("thead th").nth(2)
    before = names(opened)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and names(opened) == before
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending" and names(opened) == before[::-1]
    others = opened[".sortable"].first.locator("thead th[aria-sort='none']").count()
    assert others == opened[".sortable"].first.locator("thead th").count() - 1


def test_a_higher_value_is_first_where_higher_is_better(opened: Opened) -> None:
    table = opened["[id^='latency-'] .sortable"].first
    head = table.locator("thead th").nth(2)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    shown = [float(v or "nan") for v in table.locator("tbody td:nth-child(3)").evaluate_all(
        "cells => cells.map(cell => cell.dataset.v)")]  # fmt: skip
    assert shown == sorted(shown, reverse=True)


def test_what_was_not_measured_stays_below(opened: Opened) -> None:
    rows = opened[".sortable"].first.locator("tbody").first.locator("tr[data-kind]")
    rows.nth(0).locator("td").nth(1).evaluate("cell => { delete cell.dataset.v; }")
    missing = names(opened)[0]
    button = opened[".sortable"].first.locator("thead th").nth(2).locator("button")
    for _ in range(2):
        button.click()
        assert names(opened)[-1] == missing


def test_rows_are_filtered_by_name_and_kind(opened: Opened) -> None:
    filters = opened[".filter"].first
    filters.locator("input[type=search]").fill("MODEL-b")
    assert names(opened) == ["model-b"]
    assert filters.locator("[role=status]").inner_text() == "1 of 6 rows"
    assert not opened[".sortable"].first.locator("tbody").nth(1).is_visible()  # nothing is in it
    filters.locator("input[type=search]").fill("")
    filters.get_by_label("cheat").uncheck()
    assert filters.locator("[role=status]").inner_text() == "5 of 6 rows"
    assert not opened["tr[data-kind='cheat']"].first.is_visible()
    assert opened["tr[data-kind='model']"].first.is_visible()


# --- clips ----------------------------------------------------------------------------------------


def test_a_clip_plays_and_stops(opened: Opened) -> None:
    first = [pixels(opened, n) for n in range(3)]
    opened["#play"].press("Space")
    wait_until(opened, "+document.querySelector('#frame').value > 2")
    assert pixels(opened, 1) != first[1]
    assert pixels(opened, 0) == first[0]  # the true clip of this run stands still
    opened["#play"].press("Space")
    at = opened["#frame"].input_value()
    opened.tab.wait_for_timeout(300)
    assert opened["#frame"].input_value() == at and opened["#play"].inner_text() == "Play"


def test_every_frame_is_the_one_that_was_kept(opened: Opened) -> None:
    for frame in (0, 7, FRAMES - 1):
        opened["#frame"].evaluate(
            "(slider, n) => { slider.value = n; slider.dispatchEvent(new Event('input')); }", frame
        )
        shown = opened[".tile canvas"].nth(1).evaluate(READ)
        expected = frames(0)[frame]  # the first clip of model-a
        assert [shown[4 * n : 4 * n + 3] for n in range(256)] == expected.reshape(-1, 3).tolist()


def test_keys_move_the_frame(opened: Opened) -> None:
    opened["#frame"].focus()
    for _ in range(7):
        opened.tab.keyboard.press("ArrowRight")
    assert opened["#counter"].inner_text() == "frame 8 of 24, 1.3\u00d7 native"
    assert opened["#frame"].get_attribute("aria-valuetext") == "frame 8 of 24, 1.3\u00d7 native"
    opened["#back"].press("Enter")
    assert opened["#counter"].inner_text().startswith("frame 7 of 24")
    ended = opened[".tile"].filter(has_text="teacher").first
    assert "ended" in (ended.get_attribute("class") or "")  # it makes six frames
    assert opened[".horizons span"].all_inner_texts() == [f"{n}\u00d7" for n in (1, 2, 3, 4)]


def test_another_prompt_is_another_clip(opened: Opened) -> None:
    before = pixels(opened, 1)
    opened["#scene"].select_option(index=1)
    opened["[data-ready='1']"].wait_for()
    assert pixels(opened, 1) != before
    assert [scene.is_visible() for scene in opened[".scene"].all()] == [False, True]
    assert not opened[".tile"].filter(has_text="teacher").first.is_visible()  # it kept no such clip


def test_it_plays_by_itself_only_where_motion_is_welcome(browser: Browser, file: Path) -> None:
    for wish, moves in (("no-preference", True), ("reduce", False)):
        found = Opened(browser, file, reduced_motion=wish)
        found["[data-ready='0']"].wait_for()
        found[".tiles"].scroll_into_view_if_needed()
        found.tab.wait_for_timeout(500)
        assert (found["#play"].inner_text() == "Pause") is moves
        found.context.close()


def test_a_film_plays_too(browser: Browser, tmp_path: Path) -> None:
    for n, name in enumerate(("a", "b")):
        clip = frames(n, 12, (72, 96))
        store(tmp_path / "runs" / name, finished(name, 0.1 + 0.2 * n, n), [("a disc", clip)])
    found = Opened(browser, page.write(*read(tmp_path / "runs"), tmp_path))
    found["[data-ready='0']"].wait_for()
    wait_until(found, "!document.querySelector('.tile video')")
    drawn = set()
    for frame in (0, 6, 11):
        found["#frame"].evaluate(
            "(slider, n) => { slider.value = n; slider.dispatchEvent(new Event('input')); }", frame
        )
        found.tab.wait_for_timeout(300)
        drawn.add(pixels(found, 0))
    assert len(drawn) == 3 and found.complaints == []
    found.context.close()


# --- charts ---------------------------------------------------------------------------------------


def test_a_name_switches_its_line_in_all_charts_of_the_board(opened: Opened) -> None:
    drift = opened[".chart[id$='.drift']"]
    button = drift.locator(".legend button").first
    series = button.get_attribute("data-series")
    marks = f".picture.desk [data-series='{series}']"
    other = opened[".chart[id$='.alive']"]
    assert drift.locator(marks).first.is_visible() and other.locator(marks).first.is_visible()
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "false"
    assert not drift.locator(marks).first.is_visible()
    assert not other.locator(marks).first.is_visible()
    cheat = drift.locator(".legend button[aria-pressed='false']").last
    hidden = f".picture.desk [data-series='{cheat.get_attribute('data-series')}']"
    assert not drift.locator(hidden).first.is_visible()
    cheat.click()
    assert drift.locator(hidden).first.is_visible()


def test_the_numbers_are_read_out_by_pointer_and_keys(opened: Opened) -> None:
    drift = opened[".chart[id$='.drift']"]
    readout = drift.locator(".readout")
    box = drift.locator(".picture.desk svg").bounding_box()
    assert box is not None and not readout.is_visible()
    drift.locator(".picture.desk svg").hover(position={"x": 300, "y": 100})
    assert re.match(r"frame \d+\n", readout.inner_text()) and "model-a" in readout.inner_text()
    assert "cheat:loop" not in readout.inner_text()  # it is switched off
    drift.locator(".plot").focus()
    drift.locator(".plot").press("Escape")
    assert not readout.is_visible()
    for key in ("ArrowRight",) * 9:
        drift.locator(".plot").press(key)
    assert readout.inner_text().startswith("frame 24")
    spots = opened["#pareto .plot"]
    spots.press("ArrowRight")
    assert spots.locator(".readout").inner_text().startswith("model-a: fps, context full")


# --- looks ----------------------------------------------------------------------------------------


def ground(opened: Opened) -> str:
    return str(opened.tab.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_light_and_dark_follow_the_system_and_the_button(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, color_scheme="dark")
    dark, ink = ground(found), "getComputedStyle(document.querySelector('.desk svg text')).fill"
    inks = {found.tab.evaluate(ink)}
    found["#theme"].click()
    assert found["#theme"].inner_text() == "Theme: light" and ground(found) == "rgb(255, 255, 255)"
    inks.add(found.tab.evaluate(ink))
    assert len(inks) == 2  # the drawings turn with the theme
    found["#theme"].click()
    assert found["#theme"].inner_text() == "Theme: dark" and ground(found) == dark
    found.context.close()


def test_paper_shows_the_strips_in_light(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, color_scheme="dark")
    found["[data-ready='0']"].wait_for()
    found.tab.emulate_media(media="print")
    assert all(strip.is_visible() for strip in found[".strip img"].all())
    assert found[".strip img"].count() == 9  # both prompts, of which one is chosen on the screen
    assert not found[".player"].is_visible() and not found["#theme"].is_visible()
    assert found.tab.evaluate("getComputedStyle(document.body).color") == "rgb(22, 25, 29)"
    found.context.close()


def test_without_a_script_all_but_the_moving_clips_is_there(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, java_script_enabled=False)
    assert found[".chart .picture.desk svg"].first.is_visible()
    assert all(strip.is_visible() for strip in found[".strip img"].all())
    for hidden in (".player", ".filter", "#theme"):
        assert not found[hidden].first.is_visible()
    found.context.close()
