"""The process of a model behind ``cmd:``: its messages, its bytes, and how it may fail.

The protocol is that of :mod:`.programs`. Nothing that a program sends is trusted: lines and chunks
are bounded before they are read.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import tempfile
import weakref
from contextlib import suppress
from typing import IO, Any, NoReturn

import numpy as np
from pydantic import ValidationError

from .clock import mark_span
from .interfaces import Frames
from .models import ModelError
from .schema import ModelCard, Prompt, Request

PROTOCOL = 1
SPANS = ("text", "denoise", "cache", "decode")
TIMEOUT = "SFBENCH_CMD_TIMEOUT"
"""Environment variable: seconds that a program may be silent while it is waited for."""
MAX_LINE = 1 << 16  # bytes of one line of a program
MAX_WORDS = 300  # characters of a program's own words in an error
PIECE = 1 << 16  # bytes read at once
GRACE_S = 2.0  # for a program to end by itself
POLL_MS = 2**31 - 1  # the longest that can be waited for

Message = dict[str, Any]


class ProgramError(ModelError):
    """A request that a program does not serve; the text is one sentence."""


class ProgramFailed(ProgramError):
    """A program that broke the protocol or died: it is killed.

    The next request starts it again, and so its time to the first frame includes that.
    """


def short(text: str) -> str:
    """A program's own words, in one line of bounded length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_WORDS else line[:MAX_WORDS] + "..."


class Child:
    """A running program; every failure names it. Nothing here can block for ever."""

    def __init__(self, command: list[str], timeout: float) -> None:
        self._name, self._timeout = shlex.join(command), timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (an unread pipe would fill)
        try:
            self._child = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,  # a group of its own, which can be killed as one
            )
        except (OSError, ValueError) as error:
            self._errors.close()
            reason = getattr(error, "strerror", None) or error
            raise ProgramError(f"{self} cannot be started ({reason}); check its path.") from None
        # Also when this object is collected, and when the interpreter exits.
        self._finalizer = weakref.finalize(self, _end, self._child, self._errors, GRACE_S)
        assert self._child.stdin is not None and self._child.stdout is not None
        self._in, self._out = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._in, False)
        self._reading, self._both = select.poll(), select.poll()
        for poll in (self._reading, self._both):
            poll.register(self._out, select.POLLIN)
        self._both.register(self._in, select.POLLOUT)
        self._unread = bytearray()
        self._begun = self._open = 0  # generations; the number of the unfinished one

    def __str__(self) -> str:
        return f"The program '{short(self._name)}'"

    @property
    def ended(self) -> bool:
        """Whether :meth:`end` was called."""
        return not self._finalizer.alive

    def end(self, grace: float) -> None:
        """Close its input, wait ``grace`` seconds, kill what is left of it, and reap it."""
        if self._finalizer.detach():
            _end(self._child, self._errors, grace)

    # --- the protocol -----------------------------------------------------------------------------

    def read_card(self) -> ModelCard:
        """Its header."""
        header = self._read_line("its header line")
        version = header.get("sfbench")
        if type(version) is not int or version != PROTOCOL:
            self._fail(
                f"says protocol version {short(json.dumps(version))} in its first line; this "
                f'sfbench reads {{"sfbench": {PROTOCOL}, "card": {{...}}}}'
            )
        try:
            card = ModelCard.model_validate(header.get("card"))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(["card", *map(str, first["loc"])])
            self._fail(f"sent a card that is not a model card ({field}: {short(first['msg'])})")
        if card.scopes != ("e2e",):
            self._fail(f"sent a card with scopes {', '.join(card.scopes)}; a program has e2e only")
        return card

    def begin(self, request: Request, context: Frames | None) -> int:
        """Send a request; returns the number of its generation."""
        self.stop(self._open)
        self._begun += 1
        shape = request.geometry
        order = {
            "id": self._begun,
            "prompt": request.prompt.text,
            "prompt_id": request.prompt.id,
            "seed": request.seed,
            "frames": shape.frames,
            "height": shape.height,
            "width": shape.width,
            "fps": shape.fps,
            "context_frames": 0 if context is None else len(context),
            "options": request.options,
        }
        self._write({"generate": order}, context)
        self._open = self._begun
        return self._begun

    def next_chunk(
        self, number: int, request: Request, left: int, prompt: Prompt | None
    ) -> Frames | None:
        """Ask for a chunk ``[t, H, W, 3]``, ``t <= left``; ``None``: the program ended the clip."""
        if self._open != number:
            raise ProgramError(f"{self} makes one clip at a time, and another was begun.")
        self._write({"next": True} if prompt is None else {"next": True, "prompt": prompt.text})
        while True:
            answer = self._read_line("its answer to 'next'")
            match answer:
                case {"span": str(name), "at": "begin" | "end" as at} if name in SPANS:
                    mark_span(name, at)
                case {"frames": int(count)} if type(count) is int and 0 < count <= left:
                    return self._read_frames(
                        (count, request.geometry.height, request.geometry.width, 3)
                    )
                case {"frames": int(count)} if type(count) is int and count > left:
                    self._fail(
                        f"announced a chunk of {count} frames where {left} of the "
                        f"{request.geometry.frames} asked for are left"
                    )
                case {"end": True}:
                    self._open = 0
                    return None
                case {"error": str(reason)}:
                    self._open = 0
                    raise ProgramError(f"{self} says: {short(reason)}")
                case _:
                    self._fail(
                        f"answered 'next' with {short(json.dumps(answer))}; it must be frames "
                        f"(above 0), end, error, or a span of {', '.join(SPANS)}"
                    )

    def stop(self, number: int) -> None:
        """Want no more of a generation; nothing happens if it is over."""
        if number and self._open == number and not self.ended:
            self._open = 0
            self._write({"stop": True})

    # --- bytes ------------------------------------------------------------------------------------

    def _write(self, message: Message, frames: Frames | None = None) -> None:
        parts = [memoryview(json.dumps(message).encode() + b"\n")]
        if frames is not None and frames.size:
            parts.append(np.ascontiguousarray(frames).data.cast("B"))
        for part in parts:
            while part:
                ready = self._wait(self._both, "while a request was sent")
                if self._unread or self._out in ready:
                    self._fail_early()
                try:
                    part = part[os.write(self._in, part) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    if self._reading.poll(GRACE_S * 1000):
                        self._fail_early()
                    self._fail("closed its input while a request was sent")

    def _read_line(self, what: str) -> Message:
        """One line, which stands where ``what`` belongs."""
        while (length := self._unread.find(b"\n")) < 0 and len(self._unread) < MAX_LINE:
            self._wait(self._reading, f"where {what} belongs")
            piece = os.read(self._out, PIECE)
            if not piece:
                self._fail_ended(f"where {what} belongs")
            self._unread += piece
        if not 0 <= length < MAX_LINE:
            self._fail(f"wrote a line of more than {MAX_LINE} bytes where {what} belongs")
        line = bytes(self._unread[:length])
        del self._unread[: length + 1]
        with suppress(ValueError, RecursionError):
            message = json.loads(line.decode())
            if isinstance(message, dict):
                return message
        self._fail(
            f"wrote '{short(line.decode(errors='replace'))}' where {what} belongs; on stdout it "
            "must print nothing but the protocol"
        )

    def _read_frames(self, shape: tuple[int, int, int, int]) -> Frames:
        frames = np.empty(shape, np.uint8)
        pixels = frames.data.cast("B")
        done = min(len(self._unread), len(pixels))
        pixels[:done] = self._unread[:done]
        del self._unread[:done]
        while done < len(pixels):
            where = f"after {done} of the {len(pixels)} bytes of a chunk of {shape[0]} frames"
            self._wait(self._reading, where)
            got = os.readv(self._out, [pixels[done:]])
            if not got:
                self._fail_ended(where)
            done += got
        return frames

    def _wait(self, poll: select.poll, where: str) -> list[int]:
        ready = poll.poll(min(self._timeout * 1000, POLL_MS))
        if not ready:
            self._fail(
                f"was silent for {self._timeout:g} s {where}; raise {TIMEOUT} if it needs longer"
            )
        return [descriptor for descriptor, _ in ready]

    # --- failures ---------------------------------------------------------------------------------

    def _fail_early(self) -> NoReturn:
        said = bytes(self._unread) or os.read(self._out, PIECE)
        if not said:
            self._fail_ended("before it was asked for anything")
        text = short(said.decode(errors="replace"))
        self._fail(f"wrote '{text}' before it was asked; on stdout it may only answer")

    def _fail_ended(self, where: str) -> NoReturn:
        try:
            code = self._child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self._fail(f"closed its output {where}")
        if code >= 0:
            self._fail(f"ended with exit code {code} {where}")
        names = {member.value: member.name for member in signal.Signals}
        self._fail(f"was killed by {names.get(-code, f'signal {-code}')} {where}")

    def _fail(self, what: str) -> NoReturn:
        """``what`` goes on after the program's name; its last line on stderr is added."""
        words = self._last_words()
        raise ProgramFailed(f"{self} {what}" + (f" (on stderr: {words})." if words else "."))

    def _last_words(self) -> str:
        log = self._errors.fileno()
        size = os.fstat(log).st_size  # not seek: the program writes at the same offset
        tail = os.pread(log, MAX_LINE, max(0, size - MAX_LINE)).decode(errors="replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        return short(lines[-1]) if lines else ""


def _end(child: subprocess.Popen[bytes], errors: IO[bytes], grace: float) -> None:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    if grace:
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    with suppress(ProcessLookupError, PermissionError):  # nobody of the group is left
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    errors.close()
