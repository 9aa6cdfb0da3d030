"""The page in a real browser: that it can be read, in light and dark, by phone, paper and ear."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from page_fixtures import Opened

CONTRAST = r"""
  const light = (colour) => {
    const [r, g, b] = colour.map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
"""
# Texts with less contrast to what is behind them than WCAG 2.1 (AA) asks of small text.
FAINT = r"""() => {
  const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const [r, g, b, opacity = 1] = numbers(getComputedStyle(element).backgroundColor);
      if (opacity === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement, text = node.textContent.trim();
    if (!text || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const own = numbers(element.ownerSVGElement ? style.fill : style.color).slice(0, 3);
    const ratio = contrast(own, behind(element));
    if (ratio < 4.5) found.push(`${element.className}, ${text.slice(0, 20)}: ${ratio.toFixed(2)}`);
  }
  return found;
}""".replace("{", "{" + CONTRAST, 1)
# Colours of rows in charts that stand out less from the ground than WCAG asks of graphics.
PALE = r"""() => {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => [1, 3, 5].map((n) =>
    parseInt(style.getPropertyValue(name).trim().slice(n, n + 2), 16));
  const names = ["--ref", ...[0, 1, 2, 3, 4, 5, 6, 7].map((n) => `--k${n}`)];
  return names.filter((name) => !(contrast(colour(name), colour("--ground")) >= 3));
}""".replace("{", "{" + CONTRAST, 1)
# Lines that an element's own text (not that of a note in it) is broken into.
LINES = """element => {
  const range = document.createRange();
  range.selectNode(element.firstChild);
  return range.getClientRects().length;
}"""
# As many columns as the widest board has: two dozen, and no room to spare.
WIDEN = """() => {
  for (const row of document.querySelectorAll(".board tr:not(.section)"))
    for (let n = row.cells.length; n < 24; n += 1) row.append(row.cells[2].cloneNode(true));
}"""
A4 = {"width": 717, "height": 1000}  # CSS pixels between the margins


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_their_ground(
    browser: Browser, file: Path, scheme: str
) -> None:
    found = Opened(browser, file, color_scheme=scheme)
    found["[data-ready='0']"].wait_for()
    for summary in found["summary"].all():
        summary.evaluate("element => { element.parentElement.open = true; }")
    assert found["td.strong"].count()  # the darkest ground that text stands on
    assert found.tab.evaluate(FAINT) == []
    assert found.tab.evaluate(PALE) == []
    found.context.close()


def test_on_a_phone_nothing_that_is_chosen_from_is_cut_off(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, viewport={"width": 390, "height": 844})
    found["[data-ready='0']"].wait_for()
    for selector in (".top ul", ".legend:visible"):
        over = found[selector].evaluate_all("all => all.map(e => e.scrollWidth - e.clientWidth)")
        assert over and set(over) == {0}, selector
    found.tab.evaluate(WIDEN)
    name = found[".sortable tr[data-name='model-a'] th.name"].first
    name.evaluate("element => { element.firstChild.data = 'oracle:observer'; }")
    assert name.evaluate(LINES) == 1  # not `oracle:observ`, `er`
    found.context.close()


def test_two_of_three_cards_leave_no_hole(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, viewport={"width": 820, "height": 900})
    cards = [card.bounding_box() for card in found[".card"].all()]
    whole = found[".cards"].bounding_box()
    assert whole is not None and len(cards) == 3 and all(cards)
    rows = {round(card["y"]) for card in cards if card}
    last = [card for card in cards if card and round(card["y"]) == max(rows)]
    assert len(rows) == 2 and sum(card["width"] for card in last) == pytest.approx(whole["width"])
    found.context.close()


def test_a_screen_reader_is_told_what_only_looks_say(browser: Browser, file: Path) -> None:
    found = Opened(browser, file)
    found["[data-ready='0']"].wait_for()
    matrix = found[".matrix"].first.aria_snapshot()
    assert matrix.count('"blind"') == 2 and "·" not in matrix.replace("· blind", "")
    legends = found[".legend"].evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert all(legends) and "Drift over the horizon: lines shown" in legends
    # The counter changes with every frame: read out, it would drown all else.
    assert found["#counter"].get_attribute("aria-live") == "off"
    found.context.close()


def test_why_a_value_is_missing_can_be_read_without_a_mouse(browser: Browser, file: Path) -> None:
    found = Opened(browser, file)
    summary = found["summary"].filter(has_text="Why a value is n/a").first
    summary.focus()
    found.tab.keyboard.press("Enter")
    assert "nothing was measured (teacher" in summary.locator("xpath=..").inner_text()
    found.context.close()


# --- paper ----------------------------------------------------------------------------------------


def test_names_are_whole_on_paper(browser: Browser, file: Path) -> None:
    found = Opened(browser, file, viewport=A4)
    found["[data-ready='0']"].wait_for()
    found.tab.evaluate(WIDEN)
    found.tab.emulate_media(media="print")
    names = found[".board th.name[data-v]"].filter(has_text=re.compile("^(model|oracle|teacher)"))
    assert names.count() > 9
    assert {name.evaluate(LINES) for name in names.all()} == {1}
    found.context.close()


def test_wide_tables_are_printed_across(browser: Browser, file: Path) -> None:
    found = Opened(browser, file)
    found["[data-ready='0']"].wait_for()
    printed = found.tab.pdf(format="A4")
    sizes = re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", printed)
    across = [float(width) > float(height) for width, height in sizes]
    assert across[0] is False and across[-1] is False and any(across)
    found.context.close()


def test_where_numbers_come_from_is_printed_and_then_as_it_was(
    browser: Browser, file: Path
) -> None:
    found = Opened(browser, file)
    found["[data-ready='0']"].wait_for()
    state = "all => all.map(part => part.open)"
    parts = found["#provenance details"]
    before = parts.evaluate_all(state)
    assert before.count(True) == 1 and len(before) == 3
    found.tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(parts.evaluate_all(state))
    found.tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert parts.evaluate_all(state) == before
    found.tab.emulate_media(media="print")
    assert found["#provenance summary"].first.is_visible()  # it names the board
    found.context.close()
