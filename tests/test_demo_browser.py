"""The demo's page in a real browser, headless Chromium: frames arrive, a prompt switch shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from sfbench import video
from sfbench.models import resolve

from demo_fixtures import FIRST, SECOND, WAIT, Film, Served, Still, frames, played, served
from page_fixtures import Opened

EXAMPLE = "a red disc moving slowly and horizontally over a grey background"
OTHER = "a yellow square moving quickly and vertically over a dark background"
WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"

Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The default: the embedded model, 32 pixels a side."""
    model = resolve("reference:self-forcing-dmd")
    with served(model, tmp_path_factory.mktemp("recordings"), side=(32, 32)) as found:
        yield found


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Pages that in the end complained of nothing and asked for nothing elsewhere."""
    pages: list[tuple[Opened, str]] = []

    def call(live: Served, **options: object) -> Opened:
        found = Opened(browser, live.address + "/", **options)
        expect(found["#status"]).to_have_text("Ready.")
        pages.append((found, live.address))
        return found

    yield call
    for page, address in pages:
        page.context.close()
        assert page.complaints == []
        elsewhere = [url for url in page.asked if not url.startswith((address, "blob:", "data:"))]
        assert elsewhere == [] and len(page.asked) >= 4


def start(page: Opened, prompt: str, seconds: str = "60") -> None:
    page["#seconds"].select_option(seconds)
    page["#prompt"].fill(prompt)
    page["#go"].click()


def wait_until(page: Opened, condition: Callable[[], bool]) -> None:
    """In this process: the page's policy forbids what playwright evaluates."""
    for _ in range(400):
        if condition():
            return
        page.tab.wait_for_timeout(50)
    raise AssertionError("never true")


def number(page: Opened, selector: str) -> float:
    return float(page[selector].inner_text().split()[0].replace("n/a", "nan"))


def drawn(page: Opened) -> int:
    """Number of the frame on the screen."""
    found = re.match(r"frame (\d+)", page["#at"].inner_text())
    return int(found[1]) if found else -1


def pixels(page: Opened) -> str:
    return str(page["#screen"].evaluate("canvas => canvas.toDataURL()"))


# --- the default ----------------------------------------------------------------------------------


def test_frames_arrive_and_change_and_are_measured(world: Served, opened: Open) -> None:
    page = opened(world)
    assert page["#examples button"].count() == 2
    start(page, EXAMPLE)
    wait_until(page, lambda: drawn(page) >= 4)
    before = pixels(page)
    wait_until(page, lambda: drawn(page) >= 30)
    assert pixels(page) != before
    expect(page["#shown"]).to_have_text(EXAMPLE)
    assert number(page, "#fps") > 0 and number(page, "#first") > 0
    assert number(page, "#made") >= drawn(page)
    for name in ("sharpness", "exposure", "saturation", "violation"):
        assert re.fullmatch(r"[+\u2212]?\d\.\d{3}", page[f"#drift-{name}"].inner_text()), name
    assert all(re.match(r"M\d", d) for d in page["#charts path"].evaluate_all(
        "paths => paths.map(path => path.getAttribute('d'))"))  # fmt: skip
    page["#stop"].click()
    expect(page["#status"]).to_contain_text("Stopped after")
    expect(page["#go"]).to_have_text("Start")


def test_a_prompt_is_switched_while_it_streams(world: Served, opened: Open) -> None:
    page = opened(world)
    start(page, EXAMPLE)
    wait_until(page, lambda: drawn(page) >= 10)
    expect(page["#go"]).to_have_text("Switch prompt")
    page["#prompt"].fill(OTHER)
    page["#go"].click()
    expect(page["#shown"]).to_have_text(OTHER, timeout=1000 * WAIT)
    switched = int(page["#log li b"].nth(1).inner_text().removeprefix("from frame "))
    assert 10 < switched <= drawn(page)
    expect(page["#log li span"]).to_have_text([EXAMPLE, OTHER])
    wait_until(page, lambda: page["#charts .switchline"].count() == 4)
    page["#stop"].click()


def test_a_refusal_is_shown_and_the_stream_goes_on(world: Served, opened: Open) -> None:
    page = opened(world)
    start(page, EXAMPLE)
    wait_until(page, lambda: drawn(page) >= 4)
    page["#prompt"].fill("a red cat")
    page["#go"].click()
    expect(page["#refusal"]).to_contain_text("The word 'cat' of 'a red cat' is not in this model's")
    assert page["#prompt"].get_attribute("aria-invalid") == "true"
    now = drawn(page)
    wait_until(page, lambda: drawn(page) > now + 8)
    expect(page["#shown"]).to_have_text(EXAMPLE)
    page["#prompt"].fill(OTHER)
    page["#go"].click()
    expect(page["#refusal"]).to_be_hidden()
    page["#stop"].click()


def test_a_first_prompt_that_is_refused(world: Served, opened: Open) -> None:
    page = opened(world)
    start(page, "a cat")
    expect(page["#refusal"]).to_contain_text("The word 'cat'")
    expect(page["#go"]).to_have_text("Start")
    start(page, " ")
    expect(page["#refusal"]).to_have_text("The prompt is empty; write what the video should show.")


# --- what is drawn --------------------------------------------------------------------------------


def test_the_screen_shows_the_model_s_pixels(opened: Open, tmp_path: Path) -> None:
    with served(Film(), tmp_path, seconds=2) as live:
        page = opened(live)
        start(page, FIRST, "2")
        expect(page["#status"]).to_have_text("All 32 frames are made.", timeout=1000 * WAIT)
        wait_until(page, lambda: drawn(page) == 31)
        shown = page["#screen"].evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, 32, 24).data]"
        )
        last = frames(FIRST, 31)[0]
        assert shown[0::4] == last[..., 0].ravel().tolist()
        assert shown[2::4] == last[..., 2].ravel().tolist()
        assert page["#strip"].evaluate("canvas => canvas.width / canvas.height") == 12 * 32 / 24
        page.context.close()


def test_a_recording_is_downloaded(opened: Open, tmp_path: Path) -> None:
    with served(Film(), tmp_path) as live:
        page = opened(live)
        assert page["#record"].is_disabled()
        start(page, FIRST)
        wait_until(page, lambda: drawn(page) >= 8)
        with page.tab.expect_download() as told:
            page["#record"].click()
        file = tmp_path / "downloaded.mp4"
        told.value.save_as(file)
        expect(page["#saved"]).to_contain_text("001-a-first-prompt.mp4")
        page["#prompt"].fill("a cat")
        page["#go"].click()
        expect(page["#refusal"]).to_contain_text("The word 'cat'")
        expect(page["#saved"]).to_contain_text("001-a-first-prompt.mp4")  # stays
        made, fps = video.read_clip(file)
        assert fps == 16 and len(made) >= 8 and played(made, frames(FIRST, 0, len(made)))
        page.context.close()


# --- others ---------------------------------------------------------------------------------------


def test_a_page_that_is_closed_ends_its_stream(
    browser: Browser, opened: Open, tmp_path: Path
) -> None:
    film = Film()
    with served(film, tmp_path) as live:
        page = opened(live)
        start(page, FIRST)
        wait_until(page, lambda: drawn(page) >= 4)
        other = opened(live)
        start(other, SECOND, "10")
        expect(other["#status"]).to_have_text("Waiting: 1 stream before yours.")
        assert not film.closed.acquire(blocking=False)
        page.tab.close()
        assert film.closed.acquire(timeout=WAIT)
        wait_until(other, lambda: drawn(other) >= 2)
        expect(other["#shown"]).to_have_text(SECOND)
        other.context.close()


def test_a_model_that_cannot_switch_has_no_button_for_it(opened: Open, tmp_path: Path) -> None:
    with served(Still(), tmp_path) as live:
        page = opened(live)
        expect(page["#hint"]).to_contain_text("cannot change its prompt")
        start(page, FIRST)
        wait_until(page, lambda: drawn(page) >= 2)
        assert page["#go"].is_disabled() and page["#stop"].is_enabled()
        page["#prompt"].press("Control+Enter")
        page.tab.wait_for_timeout(200)
        assert page["#refusal"].is_hidden() and page["#log li"].count() == 1
        page.context.close()


def test_a_server_that_is_gone_is_said(opened: Open, tmp_path: Path) -> None:
    with served(Film(), tmp_path) as live:
        page = opened(live)
        start(page, FIRST)
        wait_until(page, lambda: drawn(page) >= 2)
    expect(page["#status"]).to_contain_text("The server is gone.")
    assert page["#go"].is_disabled() and page["#stop"].is_disabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_works_on_a_phone_with_the_keyboard_alone(
    world: Served, opened: Open, scheme: str
) -> None:
    page = opened(world, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    keys = page.tab.keyboard
    keys.press("Tab")
    assert page[".skip"].evaluate("link => link === document.activeElement")
    keys.press("Enter")
    keys.press("Tab")  # from the place that was skipped to
    page["#prompt"].focus()
    keys.press("Control+a")
    keys.type(EXAMPLE)
    keys.press("Control+Enter")
    wait_until(page, lambda: drawn(page) >= 20)
    assert page.tab.evaluate(WIDE) == 0
    for selector in ("#screen", "#go", "#stop", "#record", "#charts svg"):
        box = page[selector].first.bounding_box()
        assert box and box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["height"] > 20
    ground = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}[scheme]
    page["#stop"].focus()
    keys.press("Enter")
    expect(page["#status"]).to_contain_text("Stopped after")


def test_all_that_can_be_used_has_a_name(world: Served, opened: Open) -> None:
    page = opened(world)
    assert page.tab.get_by_label("Prompt", exact=True).count() == 1
    for label in ("Length", "Seed"):
        assert page.tab.get_by_label(label).count() == 1
    for name in ("Start", "Stop", "Record mp4", FIRST):
        assert page.tab.get_by_role("button", name=name).count() == 1
    assert page.tab.get_by_role("img").count() == 2 + 4
    page["#examples button"].nth(1).click()
    assert page["#prompt"].input_value() == SECOND
