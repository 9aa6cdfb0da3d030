"""Models in other processes: what is said to them, and every way to misbehave."""

from __future__ import annotations

import gc
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sfbench import program_child
from sfbench.arms import Played, play
from sfbench.program_child import TIMEOUT, ProgramError, ProgramFailed
from sfbench.programs import ProgramModel
from sfbench.schema import Failure, ModelCard, Prompt

from program_fixtures import EXAMPLE, REQUEST, TASK

CHUNK_BYTES = 2 * 8 * 6 * 3

# A program that serves well, after `first` ran in the first of its processes.
PROGRAM = """
import json, os, signal, subprocess, sys, time
def say(message): print(json.dumps(message), flush=True)
def hear():
    line = sys.stdin.readline()
    if line:
        log(line)
        return json.loads(line)
def raw(data): sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
def header(**card): say({"sfbench": 1, "card": {"name": "p", **card}})
def log(text): open(sys.argv[1], "a").write(text.rstrip("\\n") + "\\n")
again = os.path.exists(sys.argv[1])
log(f"pid {os.getpid()}")
def first():
    %s
if not again:
    first()
header()
while message := hear():
    if "next" in message:
        say({"frames": 2})
        raw(bytes([7]) * 2 * 8 * 6 * 3)
"""

Make = Callable[[str], str]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """The command of :data:`PROGRAM` with the given body of ``first``."""

    def command(first: str = "pass") -> str:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM % first.replace("\n", "\n    "))
        return shlex.join([sys.executable, str(program), str(tmp_path / "log")])

    return command


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_child, "GRACE_S", 0.3)


def heard(tmp_path: Path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def pids(tmp_path: Path) -> list[int]:
    return [int(line.split()[1]) for line in heard(tmp_path) if line.startswith("pid ")]


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie of another parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_child(pid: int) -> bool:
    """Whether a process is left to be reaped here."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


# --- the protocol ---------------------------------------------------------------------------------


def test_the_program_is_asked_chunk_by_chunk_and_told_to_stop(make: Make, tmp_path: Path) -> None:
    model = ProgramModel(make("pass"))
    stream = model.generate(REQUEST)
    assert next(stream).shape == (2, 8, 6, 3)
    assert [line for line in heard(tmp_path) if "next" in line] == ['{"next": true}']
    stream.close()
    assert np.array_equal(np.concatenate(list(model.generate(REQUEST))), np.full((4, 8, 6, 3), 7))
    model.close()
    pid, order, *rest = heard(tmp_path)
    assert pid.startswith("pid ") and len(pids(tmp_path)) == 1
    assert '"context_frames": 0' in order and '"seed": 3' in order and '"frames": 4' in order
    assert "\\u00e9d disc\\nand" in order
    words = ["generate" if "generate" in line else line for line in rest]
    ask, stop = '{"next": true}', '{"stop": true}'
    assert words == [ask, stop, "generate", ask, ask, stop]


def test_one_clip_at_a_time(make: Make) -> None:
    model = ProgramModel(make("pass"))
    old, new = model.generate(REQUEST), model.generate(REQUEST)
    next(old)
    next(new)
    with pytest.raises(ProgramError, match="makes one clip at a time, and another was begun"):
        next(old)
    assert len(next(new)) == 2
    model.close()


def test_what_a_card_does_not_offer_is_refused(make: Make, tmp_path: Path) -> None:
    model = ProgramModel(make("pass"))
    with pytest.raises(ProgramError, match="cannot continue a given video"):
        next(model.generate(REQUEST, np.zeros((2, 8, 6, 3), np.uint8)))
    stream = model.generate(REQUEST)
    next(stream)
    with pytest.raises(ProgramError, match="cannot change its prompt"):
        stream.send(Prompt(id="q", text="blue"))
    assert len(list(model.generate(REQUEST))) == 2
    assert len(pids(tmp_path)) == 1  # the program did no wrong
    model.close()


def test_an_error_and_an_early_end_are_answers(make: Make, tmp_path: Path) -> None:
    body = """
global header
header()
hear(); hear(); say({"error": "Out of\\nmemory."})
hear(); hear(); say({"frames": 2}); raw(bytes(2 * 8 * 6 * 3)); hear(); say({"end": True})
header = bool"""
    model = ProgramModel(make(body))
    failure, ended, good = (play(model, [REQUEST], TASK.truth)[0] for _ in range(3))
    assert isinstance(failure, Failure) and failure.reason.endswith("says: Out of memory.")
    assert isinstance(ended, Failure) and ended.kind == "geometry"
    assert ended.reason == "gave 2 of the 4 frames asked for"
    assert isinstance(good, Played)
    assert len(pids(tmp_path)) == 1
    model.close()


# --- programs that misbehave ----------------------------------------------------------------------

HEADERS = [
    ("sys.exit('no weights')", r"ended with exit code 1 where its header .* \(on stderr: no wei"),
    ("sys.exit(0)", "ended with exit code 0 where its header line belongs"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL where its header line"),
    ("time.sleep(60)", f"was silent for 0.4 s where its header line belongs; raise {TIMEOUT}"),
    ("print('Loading weights', flush=True)", "wrote 'Loading weights' where its header line"),
    ("print('[1]', flush=True)", r"wrote '\[1\]' where its header line belongs"),
    ("raw(bytes([255, 254, 10]))", "where its header line belongs; on stdout it must print"),
    ("raw(b'[' * 60000 + bytes([10]))", "where its header line belongs; on stdout it must"),
    ("raw(b'x' * 100000)", "wrote a line of more than 65536 bytes where its header"),
    ("say({'sfbench': 2, 'card': {}})", "says protocol version 2 in its first line; this sfbench"),
    ("say({'card': {'name': 'p'}})", "says protocol version null"),
    ("say({'sfbench': True, 'card': {'name': 'p'}})", "says protocol version true"),
    ("say({'sfbench': 1})", r"a card that is not a model card \(card: "),
    ("say({'sfbench': 1, 'card': {}})", r"not a model card \(card.name: Field required"),
    ("header(colour='red')", r"not a model card \(card.colour: Extra inputs"),
    ("header(scopes=['dit'])", "scopes dit; a program has e2e only"),
]


@pytest.mark.parametrize(("body", "reason"), HEADERS)
def test_a_header_that_is_none(
    body: str, reason: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT, "0.4" if "sleep" in body else "20")
    with pytest.raises(ProgramFailed, match=reason) as caught:
        ProgramModel(make(f"{body}\ntime.sleep(30)"))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800
    assert not any(lives(pid) or is_child(pid) for pid in pids(tmp_path))


ANSWERS = [
    ("sys.exit('CUDA is gone')", r"ended with exit code 1 where its answer .*: CUDA is gone\)"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV where its answer to 'next'"),
    ("time.sleep(60)", "was silent for 0.4 s where its answer to 'next' belongs"),
    ("print('step 1/4', flush=True)", "wrote 'step 1/4' where its answer to 'next' belongs"),
    ("say({'frames': 5})", "announced a chunk of 5 frames where 4 of the 4 asked for are left"),
    ("say({'frames': 10**12})", "announced a chunk of 1000000000000 frames where 4 of the 4"),
    ("say({'frames': 0})", r"answered 'next' with \{\"frames\": 0\}; it must be frames \(above"),
    ("say({'frames': -1})", "answered 'next' with"),
    ("say({'frames': True})", "answered 'next' with"),
    ("say({'frames': 2.0})", "answered 'next' with"),
    ("say({'span': 'sleep', 'at': 'begin'})", "a span of text, denoise, cache, decode"),
    ("say({'frames': 2}); raw(b'x' * 100); sys.exit()", f"after 100 of the {CHUNK_BYTES} bytes"),
    (
        "say({'frames': 2}); raw(b'x' * 100); time.sleep(60)",
        f"was silent for 0.4 s after 100 of the {CHUNK_BYTES} bytes of a chunk of 2 frames",
    ),
    (
        f"raw(b'{{\"frames\": 4}}' + bytes([10]) + b'x' * {2 * CHUNK_BYTES + 3})",
        "wrote 'xxx' before it was asked; on stdout it may only answer",
    ),
    ("os.close(1); time.sleep(60)", "closed its output where its answer to 'next' belongs"),
]


@pytest.mark.parametrize(("body", "reason"), ANSWERS)
def test_a_bad_answer_fails_its_request_and_the_next_one_starts_the_program_again(
    body: str, reason: str, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TIMEOUT, "0.4" if "silent" in reason else "20")
    model = ProgramModel(make(f"header(); hear(); hear()\n{body}\ntime.sleep(30)"))
    with pytest.raises(ProgramFailed, match=reason) as caught:
        list(model.generate(REQUEST))
    assert "\n" not in str(caught.value)
    (pid,) = pids(tmp_path)
    assert not lives(pid) and not is_child(pid)
    monkeypatch.setattr(model, "_timeout", 20.0)
    assert len(list(model.generate(REQUEST))) == 2
    assert len(pids(tmp_path)) == 2
    model.close()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("header(accepts_context=True); sys.exit(4)", "ended with exit code 4"),
        (
            "os.close(0); header(accepts_context=True); time.sleep(30)",
            "closed its input while a request was sent",
        ),
        ("header(accepts_context=True); raw(b'y' * 10**6)", "wrote 'yyyy.* before it was asked"),
    ],
)
def test_a_program_that_does_not_take_a_request(body: str, reason: str, make: Make) -> None:
    model = ProgramModel(make(body))
    with pytest.raises(ProgramFailed, match=reason):
        # More than a pipe holds: the program must not stand in the way of what it does not read.
        list(model.generate(REQUEST, np.zeros((2000, 8, 6, 3), np.uint8)))


def test_another_card_after_a_restart_is_refused(make: Make) -> None:
    model = ProgramModel(make("header(revision='2'); hear(); sys.exit()"))
    assert model.card == ModelCard(name="p", revision="2")
    with pytest.raises(ProgramFailed):
        list(model.generate(REQUEST))
    with pytest.raises(ProgramError, match="came back with another card"):
        list(model.generate(REQUEST))


def test_a_noisy_program_does_not_block(make: Make) -> None:
    model = ProgramModel(make("sys.stderr.write('x' * 2**21)"))
    assert len(list(model.generate(REQUEST))) == 2
    model.close()


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "no program after 'cmd:'"),
        ("  ", "no program after 'cmd:'"),
        ("python 'x", r"cannot be split into words \(No closing quotation\)"),
        ("no-such-program --x", r"'no-such-program --x' cannot be started \(No such file"),
        ("/", r"cannot be started \(Permission denied\)"),
    ],
)
def test_a_command_that_is_none(command: str, reason: str) -> None:
    with pytest.raises(ProgramError, match=reason):
        ProgramModel(command)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_timeout_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, text)
    with pytest.raises(ProgramError, match=f"{TIMEOUT} is '{text}'; it must be a number"):
        ProgramModel(EXAMPLE)


# --- the end --------------------------------------------------------------------------------------

STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
log(f"pid {subprocess.Popen(['sleep', '60']).pid}")
header()
while True: time.sleep(1)"""


@pytest.mark.parametrize("how", ["closed", "collected"])
def test_nothing_is_left_of_it(how: str, make: Make, tmp_path: Path) -> None:
    model = ProgramModel(make(STUBBORN))
    program, helper = pids(tmp_path)
    assert lives(program) and lives(helper)
    if how == "closed":
        model.close()
        model.close()
    del model
    gc.collect()
    assert not lives(program) and not is_child(program) and not lives(helper)


def test_nothing_is_left_when_the_harness_exits(make: Make, tmp_path: Path) -> None:
    code = (
        "import sys; from sfbench import program_child, programs; program_child.GRACE_S = 0.1\n"
        "model = programs.ProgramModel(sys.argv[1]); raise RuntimeError('interrupted')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, make(STUBBORN)], capture_output=True, text=True, check=False
    )
    assert "RuntimeError: interrupted" in done.stderr
    assert len(pids(tmp_path)) == 2 and not any(map(lives, pids(tmp_path)))


def test_a_program_may_end_by_itself(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_child, "GRACE_S", 20.0)
    model = ProgramModel(make("header()\nwhile hear(): pass\nlog('tidied up'); sys.exit()"))
    model.close()
    assert heard(tmp_path)[-1] == "tidied up"
