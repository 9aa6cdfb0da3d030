"""What the demo's server refuses: other hosts and sites, and messages that it cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sfbench import demo_server

from demo_fixtures import Client, Film, Served, get, served


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Served]:
    with served(Film(), tmp_path) as found:
        yield found


# --- who may ask ----------------------------------------------------------------------------------


def test_the_page_loads_its_own_files_and_may_load_no_others(live: Served) -> None:
    status, headers, body = get(live, "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy and "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    files = re.findall(r'(?:src|href)="(/[^"]+)"', body.decode())
    assert len(files) == 3
    for file in files:
        assert get(live, file)[0] == 200
    assert not re.search(r"<script>|<style|style=|onclick", body.decode())


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_host_is_refused(live: Served, host: str) -> None:
    """A name that another site points at this machine (DNS rebinding)."""
    status, _, body = get(live, "/", host or "[::1]")
    assert status == 403 and body.startswith(b"This page is for this machine alone")


def test_a_tunnel_may_have_another_port(live: Served) -> None:
    assert get(live, "/", "localhost:9999")[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:1", "http://localhost:{port}", "null"]
)
def test_a_websocket_of_another_site_is_refused(live: Served, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        Client(live.port, origin.format(port=live.port))
    assert refusal.value.response.status_code == 403
    assert live.stage.pages == 0


def test_a_websocket_without_an_origin_is_refused(live: Served) -> None:
    with pytest.raises(InvalidStatus):
        Client(live.port, None)


def test_it_listens_on_this_machine_alone() -> None:
    own = demo_server.listening(0)
    assert own.getsockname()[0] == "127.0.0.1"
    own.close()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("", "Invalid JSON"),
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ("null", "should be an object"),
        ('{"type": "explode"}', "explode"),
        ('{"type": "%s"}' % ("x" * 60_000), "xxx"),
        ('{"type": "start", "prompt": "x"}', "seconds"),
        ('{"type": "start", "prompt": "x", "seconds": 1, "path": "/etc"}', "path"),
        ('{"type": "start", "prompt": "x", "seconds": NaN}', "seconds"),
        ('{"type": "start", "prompt": "x", "seconds": -1}', "greater than 0"),
        ('{"type": "start", "prompt": "x", "seconds": 61}', "60 s at the most"),
        ('{"type": "start", "prompt": "x", "seconds": 1e300}', "60 s at the most"),
        ('{"type": "start", "prompt": "x", "seconds": 1, "seed": -1}', "seed"),
        ('{"type": "start", "prompt": "x", "seconds": 1, "seed": 99999999999}', "seed"),
        ('{"type": "start", "prompt": " \\n ", "seconds": 1}', "prompt is empty"),
        ('{"type": "start", "prompt": ["x"], "seconds": 1}', "valid string"),
        ('{"type": "start", "prompt": "%s", "seconds": 1}' % ("x" * 2001), "at most 2000"),
        ('{"type": "switch", "prompt": "x"}', "No stream is running"),
        ('{"type": "record"}', "nothing to record"),
        ('{"type": "drawn", "frames": -1}', "greater than or equal to 0"),
        (b"\x00\x01", "Invalid JSON"),
    ],
)
def test_bad_messages_get_a_sentence_and_no_more(
    live: Served, message: str | bytes, said: str
) -> None:
    with live.client() as page:
        page.socket.send(message)
        text = page.hear("refused")["text"]
        assert said in text and "\n" not in text and len(text) < 600
        page.start(seconds=0.25)
        page.hear("ended", why="done")


def test_a_message_that_is_too_long_costs_that_page_alone(live: Served) -> None:
    with live.client() as page, live.client() as other:
        page.hear("hello")
        page.socket.send("x" * (demo_server.MESSAGE_BYTES + 1))
        with pytest.raises(ConnectionClosed) as closed:
            page.hear("refused")
        assert closed.value.rcvd and closed.value.rcvd.code == 1009
        other.start(seconds=0.25)
        other.hear("ended", why="done")
