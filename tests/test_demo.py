"""The demo's server: streams, their end, the queue, limits, recordings."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sfbench import demo_server, demo_stage, video
from sfbench.demo_stage import WAITING
from sfbench.demo_stream import Stream
from sfbench.models import resolve

from demo_fixtures import (
    CHUNK,
    FIRST,
    FPS,
    HEIGHT,
    SECOND,
    WAIT,
    WIDTH,
    Client,
    Film,
    Served,
    Still,
    frames,
    get,
    played,
    served,
)


@pytest.fixture
def film() -> Film:
    return Film()


@pytest.fixture
def live(film: Film, tmp_path: Path) -> Iterator[Served]:
    with served(film, tmp_path) as found:
        yield found


@pytest.fixture
def gated() -> Film:
    return Film(gated=True)


@pytest.fixture
def held(gated: Film, tmp_path: Path) -> Iterator[Served]:
    """Its model makes a chunk when the test says so; at the end, all it is asked for."""
    with served(gated, tmp_path) as found:
        yield found
        assert gated.gate
        gated.gate.release(10_000)


@pytest.fixture
def stops(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Told of every stream that is asked to stop: only then may its model go on."""
    told, stop = threading.Semaphore(0), Stream.stop

    def stopped(stream: Stream) -> None:
        stop(stream)
        told.release()

    monkeypatch.setattr(Stream, "stop", stopped)
    return told


def refused(client: Client, *message: Any, **fields: Any) -> str:
    """What a message is answered with: one sentence."""
    client.say(*message, **fields)
    text = str(client.hear("refused")["text"])
    assert text.endswith(".") and "\n" not in text
    return text


# --- a stream -------------------------------------------------------------------------------------


def test_a_stream_from_start_to_end(live: Served, film: Film) -> None:
    with live.client() as page:
        hello = page.hear("hello")
        assert (hello["model"], hello["width"], hello["height"]) == ("film", WIDTH, HEIGHT)
        assert hello["switches"] and hello["examples"] == [FIRST, SECOND]
        assert hello["seconds"] == 60
        page.start(seconds=1)
        assert page.hear("started")["frames"] == FPS
        assert page.hear("ended")["why"] == "done"
    assert sorted(page.images) == list(range(16))
    assert all((page.images[n] == frames(FIRST, n)[0]).all() for n in page.images)
    assert film.closed.acquire(timeout=WAIT)


def test_a_second_stream_of_a_page_comes_after_its_first(live: Served) -> None:
    with live.client() as page:
        for prompt in (FIRST, SECOND):
            page.start(prompt, seconds=0.25)
            page.hear("ended", why="done")
            assert (page.images[3] == frames(prompt, 3)[0]).all()


def test_a_switch_reaches_the_model_at_the_next_chunk(held: Served, gated: Film) -> None:
    assert gated.gate
    with held.client() as page:
        page.start()
        gated.gate.release(2)
        page.hear("chunk", made=4)
        for _ in range(3):
            assert gated.begun.acquire(timeout=WAIT)  # the third chunk is being made
        page.say("switch", prompt=f"  a second\n{SECOND[2:].partition(' ')[2]} ")
        refused(page, "start", prompt="so that the switch is known to have arrived", seconds=1)
        gated.gate.release(2)
        assert page.hear("switched") == {"type": "switched", "prompt": SECOND, "frame": 6}
        page.hear("chunk", made=8)
    assert gated.prompts[:4] == [FIRST, FIRST, FIRST, SECOND]
    assert (page.images[5] == frames(FIRST, 5)[0]).all()
    assert (page.images[6] == frames(SECOND, 6)[0]).all()


def test_a_word_it_cannot_read_is_refused_in_the_model_s_own_words(live: Served) -> None:
    with live.client() as page:
        page.start("a cat")
        ended = page.hear("ended")
        assert ended["why"] == "failed"
        assert ended["text"] == "The word 'cat' is not in this model's vocabulary."
        page.start(seconds=0.25)
        page.hear("ended", why="done")


def test_a_model_that_cannot_switch_says_so(tmp_path: Path) -> None:
    with served(Still(), tmp_path) as live, live.client() as page:
        assert page.hear("hello")["switches"] is False
        page.start()
        page.hear("started")
        assert "cannot change its prompt" in refused(page, "switch", prompt=SECOND)


def test_a_wan_folder_is_streamed_and_switched(tmp_path: Path) -> None:
    """Chunks of eight frames, a frame alone before them, another shape, a prompt embedded twice."""
    import wan_fixtures

    for part in ("transformer", "vae", "text_encoder", "tokenizer"):
        getattr(wan_fixtures, part)().save_pretrained(tmp_path / part)
    model = resolve(f"wan:{tmp_path}?chunk=2&window=6&steps=2&device=cpu")
    with served(model, tmp_path, side=(32, 48)) as live, live.client() as page:
        page.start("a red disc")
        page.hear("chunk", made=5)
        page.say("switch", prompt="a blue square")
        at = page.hear("switched")["frame"]
        page.hear("chunk", made=at + 8)
        page.say("stop")
        page.hear("ended", why="stopped")
    assert (at - 5) % 8 == 0 and page.images[at].shape == (32, 48, 3)


# --- the end of the work --------------------------------------------------------------------------


def test_closing_the_page_closes_the_generator(
    held: Served, gated: Film, stops: threading.Semaphore
) -> None:
    assert gated.gate
    with held.client() as page:
        page.start()
        gated.gate.release(1)
        page.hear("chunk", made=CHUNK)
        assert gated.begun.acquire(timeout=WAIT) and gated.begun.acquire(timeout=WAIT)
    assert stops.acquire(timeout=WAIT)
    gated.gate.release(100)  # the chunk that was being made; no other is begun
    assert gated.closed.acquire(timeout=WAIT)
    assert len(gated.prompts) == 2


def test_stop_closes_the_generator(held: Served, gated: Film) -> None:
    assert gated.gate
    with held.client() as page:
        page.start()
        assert gated.begun.acquire(timeout=WAIT)
        page.say("stop")
        assert "running" in refused(page, "start", prompt=FIRST, seconds=1)  # to the next chunk
        gated.gate.release(1)
        assert page.hear("ended") == {
            "type": "ended",
            "why": "stopped",
            "text": f"Stopped after {CHUNK} frames.",
            "frames": CHUNK,
        }
        assert gated.closed.acquire(timeout=WAIT)
        page.start(seconds=0.25)
        gated.gate.release(2)
        page.hear("ended", why="done")


def test_a_page_that_draws_nothing_is_not_sent_more(live: Served, film: Film) -> None:
    with live.client() as page:
        page.draws = False
        page.start(seconds=60)
        page.hear("chunk", made=6)
        page.say("stop")
        made = page.hear("ended")["frames"]
    assert 6 <= made < 200 and film.closed.acquire(timeout=WAIT)


# --- the queue ------------------------------------------------------------------------------------


def test_others_wait_in_a_queue_that_has_an_end(
    held: Served, gated: Film, stops: threading.Semaphore
) -> None:
    assert gated.gate
    pages = [held.client() for _ in range(WAITING + 2)]
    first, second, third, *rest = pages
    first.start()
    first.hear("started")
    assert gated.begun.acquire(timeout=WAIT)
    for place, page in enumerate(pages[1:-1], start=1):
        page.start(SECOND, seconds=0.25)
        assert page.hear("queued")["before"] == place
    assert "4 others are waiting" in refused(rest[-1], "start", prompt=FIRST, seconds=1)

    second.say("stop")  # leaves the queue
    assert second.hear("ended")["frames"] == 0
    assert third.hear("queued")["before"] == 1 and rest[0].hear("queued")["before"] == 2
    third.close()  # so does a page that is closed
    assert rest[0].hear("queued")["before"] == 1
    rest[-1].start(seconds=0.25)
    assert rest[-1].hear("queued")["before"] == 3

    while stops.acquire(blocking=False):
        pass
    first.close()
    assert stops.acquire(timeout=WAIT)
    gated.gate.release(100)
    for page in rest:
        assert page.hear("ended")["why"] == "done"
    assert set(gated.prompts[1:5]) == {SECOND}  # nobody overtook
    for page in pages:
        page.close()


def test_only_one_stream_is_played_at_a_time(held: Served, gated: Film) -> None:
    assert gated.gate
    with held.client() as one, held.client() as two:
        one.start(seconds=0.25)
        one.hear("started")
        two.start(SECOND, seconds=0.25)
        two.hear("queued")
        assert gated.begun.acquire(timeout=WAIT)
        assert gated.prompts == [FIRST]
        gated.gate.release(4)
        two.hear("ended", why="done")
    assert gated.prompts == [FIRST] * 2 + [SECOND] * 2


def test_pages_have_a_limit(live: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "PAGES", 1)
    with live.client() as page:
        page.hear("hello")
        with live.client() as other:
            assert "pages are open already" in other.hear("refused")["text"]
            with pytest.raises(ConnectionClosed):
                other.hear("hello")
        page.start(seconds=0.25)
        page.hear("ended", why="done")
    assert other.heard[0]["type"] == "refused"


# --- recordings -----------------------------------------------------------------------------------


def test_a_recording_is_what_was_made_until_then(held: Served, gated: Film, tmp_path: Path) -> None:
    assert gated.gate
    with held.client() as page:
        page.start(f"../{FIRST}")
        gated.gate.release(3)
        page.hear("chunk", made=6)
        page.say("record")
        told = page.hear("recording")
        assert (told["name"], told["frames"], told["missing"]) == ("001-a-first-prompt.mp4", 6, 0)
        status, headers, body = get(held, f"/recordings/{told['name']}")
        assert status == 200 and headers["Content-Type"] == "video/mp4"
        assert headers["Content-Disposition"] == f'attachment; filename="{told["name"]}"'
        pixels, fps = video.read_clip(video.Held("clip.mp4", body))
        assert fps == FPS and played(pixels, frames(f"../{FIRST}", 0, 6))
        gated.gate.release(1)
        page.hear("chunk", made=8)
        page.say("record")  # the stream has gone on, and so does the next recording
        told = page.hear("recording")
        assert (told["name"], told["frames"]) == ("002-a-first-prompt.mp4", 8)
    assert {path.name for path in tmp_path.iterdir()} == {
        "001-a-first-prompt.mp4",
        "002-a-first-prompt.mp4",
    }


def test_a_stream_that_has_ended_can_be_recorded(live: Served) -> None:
    with live.client() as page:
        page.start(seconds=0.25)
        page.hear("ended")
        page.say("record")
        assert page.hear("recording")["frames"] == 4


def test_recordings_have_a_limit(live: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_stage, "RECORDINGS", 1)
    with live.client() as page:
        page.start(seconds=0.25)
        page.hear("ended")
        page.say("record")
        page.hear("recording")
        assert "1 recordings are written" in refused(page, "record")


def test_no_other_file_can_be_had(live: Served, tmp_path: Path) -> None:
    (tmp_path / "private.mp4").write_text("private")
    for path in ("/recordings/private.mp4", "/recordings/..%2Fprivate.mp4", "/recordings/", "/x"):
        assert get(live, path)[0] == 404, path
