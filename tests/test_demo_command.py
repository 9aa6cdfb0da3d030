"""The demo's command: what it shows, what it refuses in one sentence, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from sfbench import cli, demo, demo_page, demo_server
from sfbench.demo import DemoError, planned, warm
from sfbench.models import resolve

from demo_fixtures import (
    FIRST,
    HEIGHT,
    SECOND,
    WAIT,
    WIDTH,
    Client,
    Film,
)


def test_what_is_shown_unless_said(tmp_path: Path) -> None:
    found = planned(Film(), None, None, 120, (), tmp_path)
    shape = found.geometry
    assert (shape.height, shape.width, shape.fps, shape.frames) == (32, 32, 16, 1920)
    assert len(found.examples) == 5 and all("moving" in text for text in found.examples)
    said = warm(planned(Film(), (HEIGHT, WIDTH), 8, 10, (FIRST,), tmp_path))
    assert said.startswith("film: 32x24 pixels at 8 frames a second, first chunk (2 frames)")


def test_what_cannot_be_shown_is_one_sentence(tmp_path: Path) -> None:
    bidirectional = Film()
    bidirectional.card = Film.card.model_copy(update={"causal": False})
    with pytest.raises(DemoError, match="bidirectional: it makes a whole clip at once"):
        planned(bidirectional, None, None, 10, (), tmp_path)
    with pytest.raises(DemoError, match="beyond what a stream may be"):
        planned(Film(), 9000, None, 10, (), tmp_path)
    with pytest.raises(DemoError, match=r"--prompt has 0 characters"):
        planned(Film(), None, None, 10, (" ",), tmp_path)
    with pytest.raises(DemoError, match=r"^The word 'cat' is not"):
        warm(planned(Film(), (HEIGHT, WIDTH), None, 10, ("a cat",), tmp_path))
    with pytest.raises(DemoError, match=r"^'self-forcing-dmd' makes 32x32 pixels, not 64x64\.$"):
        warm(planned(resolve("reference:self-forcing-dmd"), 64, None, 10, (), tmp_path))


def test_the_first_chunk_is_made_before_anyone_waits_for_it(tmp_path: Path) -> None:
    film = Film()
    warm(planned(film, (HEIGHT, WIDTH), None, 10, (SECOND,), tmp_path))
    assert film.prompts == [SECOND] and film.closed.acquire(blocking=False)


@pytest.mark.parametrize("missing", demo.PACKAGES)
def test_a_missing_package_is_named(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(SystemExit) as stop:
        cli.main(["demo"])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said == f"sfbench: sfbench demo needs {missing}; run `pip install 'sfbench[demo]'`.\n"


def test_a_port_in_use_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as stop:
            cli.main(["demo", "--port", str(port)])
    assert stop.value.code == 2
    assert f"Port {port} cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_and_leaves_nothing(
    number: signal.Signals, environment: dict[str, str], tmp_path: Path
) -> None:
    """In the middle of a stream, with a recording written."""
    command = [sys.executable, "-m", "sfbench", "demo", "--model", "demo_fixtures:Film"]
    child = subprocess.Popen(
        [*command, "--port", "0", "--prompt", FIRST, "--size", f"{WIDTH}x{HEIGHT}"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment | {"TMPDIR": str(tmp_path)},
    )
    assert child.stderr
    try:
        found = None
        said = []
        while not found:
            said.append(line := child.stderr.readline())
            assert line, said
            found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        port = int(found[1])
        page = Client(port, f"http://127.0.0.1:{port}")
        page.start()
        page.hear("chunk", made=4)
        page.say("record")
        name = page.hear("recording")["name"]
        assert len(list(tmp_path.glob(f"sfbench-demo-*/{name}"))) == 1
        child.send_signal(number)
        with pytest.raises(ConnectionClosed):
            page.hear("ended", why="never")
        rest = child.communicate(timeout=WAIT)[1]
    finally:
        child.kill()
    assert child.returncode == 0, rest
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == []


def test_messages_have_docstrings_that_match() -> None:
    """Every message that the page may send is one the script sends, and the other way round."""
    script = (demo_server.TEMPLATES / "demo.js").read_text()
    sent = set(re.findall(r'send\(\{ type: "(\w+)"', script))
    schema = demo_page.ASKED.json_schema()
    assert sent == set(schema["discriminator"]["mapping"])
