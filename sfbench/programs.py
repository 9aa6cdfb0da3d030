"""A model in another process, in any language: ``cmd:PROGRAM [ARGS]``, over its standard streams.

Lines are JSON objects, H W the pixels asked for. The harness pulls: a program works only between
``next`` and its answer, so it cannot run ahead of the clock.

    program   {"sfbench": 1, "card": {...}}         once, at the start: the fields of a ModelCard
    harness   {"generate": {"prompt": ..., ...}}    then ``context_frames`` frames of RGB bytes
    harness   {"next": true}                        with ``"prompt": "..."`` it changes the prompt
    program   {"span": "denoise", "at": "begin"}    any number of these; the harness times them
    program   {"frames": t}                         then t x H x W x 3 bytes; or, to finish,
              {"end": true} or {"error": "one sentence"}
    harness   {"stop": true}                        no more of this clip; has no answer

A generation ends with ``stop``, ``end`` or ``error``; closing the program's input ends the program.
It may print what it likes on stderr. Nothing it sends is trusted: lines and chunks are bounded
before they are read. ``examples/cmd_model.py`` is a whole program.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Generator
from contextlib import suppress

import numpy as np

from . import program_child
from .interfaces import Frames
from .program_child import TIMEOUT, Child, ProgramError, ProgramFailed, short
from .schema import ModelCard, Prompt, Request

TIMEOUT_S = 600.0


class ProgramModel:
    """A program behind the protocol; it makes one clip at a time."""

    def __init__(self, rest: str) -> None:
        """``rest``: the command, split into words as a shell would and run without one."""
        self._command, self._timeout = _words(rest), _timeout()
        self._process, self.card = self._start()

    def generate(
        self, request: Request, context: Frames | None = None
    ) -> Generator[Frames, Prompt | None, None]:
        """Yield chunks as the program gives them; ``send(prompt)`` asks for one under a new prompt.

        Raises :class:`ProgramError`.
        """
        process = self._running()
        self._ensure_context(request, context)
        left, prompt = request.geometry.frames, None
        try:
            number = process.begin(request, context)
            while left:
                if prompt is not None and not self.card.switches_prompt:
                    raise ProgramError(f"{process} cannot change its prompt; its card says so.")
                chunk = process.next_chunk(number, request, left, prompt)
                if chunk is None:
                    return
                left -= len(chunk)
                prompt = yield chunk
            process.stop(number)
        except ProgramFailed:
            process.end(0.0)
            raise
        except GeneratorExit:  # nobody is left to hear of a failure
            try:
                process.stop(number)
            except ProgramFailed:
                process.end(0.0)
            raise

    def close(self) -> None:
        """End the program; a later request starts it again."""
        self._process.end(program_child.GRACE_S)

    def _start(self) -> tuple[Child, ModelCard]:
        process = Child(self._command, self._timeout)
        try:
            return process, process.read_card()
        except ProgramFailed:
            process.end(0.0)
            raise

    def _running(self) -> Child:
        if self._process.ended:
            process, card = self._start()
            if card != self.card:
                process.end(0.0)
                raise ProgramError(f"{process} came back with another card; run it anew.")
            self._process = process
        return self._process

    def _ensure_context(self, request: Request, context: Frames | None) -> None:
        if context is None:
            return
        if not self.card.accepts_context:
            raise ProgramError(f"{self._process} cannot continue a given video; its card says so.")
        size = request.geometry
        if context.dtype != np.uint8 or context.shape[1:] != (size.height, size.width, 3):
            raise ProgramError(
                f"The context is {context.dtype} {list(context.shape)}; it must be "
                f"uint8 [T, {size.height}, {size.width}, 3]."
            )


def _words(rest: str) -> list[str]:
    try:
        words = shlex.split(rest)
    except ValueError as error:
        raise ProgramError(
            f"The command '{short(rest)}' cannot be split into words ({error})."
        ) from None
    if not words:
        raise ProgramError("There is no program after 'cmd:'; write 'cmd:PROGRAM [ARGS]'.")
    return words


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, str(TIMEOUT_S))
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise ProgramError(f"{TIMEOUT} is '{text}'; it must be a number of seconds above 0.")
