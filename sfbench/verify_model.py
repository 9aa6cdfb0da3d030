"""Does a model keep the contract of :class:`.interfaces.VideoModel`? In words, check by check.

A handful of short clips on a dataset of true videos, each played as a run would play it
(:mod:`sfbench.arms`). What cannot be checked is listed with the reason. Nothing here is a
measurement of quality or time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from .arms import Played, play
from .interfaces import BatchedModel, Dataset, Frames, Preparing, VideoModel
from .models import ModelError, bind, resolve
from .registry import load_dataset
from .schema import SCOPES, Context, Failure, Geometry, Prompt, Request, SceneRef, Switch

Verdict = Literal["ok", "wrong", "not checked"]

NATIVE = 12  # frames, where a card does not say
PREFIX = 6  # least frames of context: enough to read a velocity
SCENES = 100  # among which a pair for the check of contexts is looked for
SEEDS = (0, 1)
TOLERANCE = 1  # levels of 255 by which a batch may differ from one request


@dataclass(frozen=True)
class Check:
    """One clause of the contract."""

    name: str
    verdict: Verdict
    reason: str
    """One sentence."""


@dataclass(frozen=True)
class Report:
    """All checks of one model."""

    model: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; what was not checked does not count."""
        return all(check.verdict != "wrong" for check in self.checks)

    def lines(self) -> list[str]:
        """For a terminal: one line a check, then the verdict."""
        name = max(len(check.name) for check in self.checks)
        verdict = max(len(check.verdict) for check in self.checks)
        lines = [f"{c.verdict:<{verdict}}  {c.name:<{name}}  {c.reason}" for c in self.checks]
        wrong = sum(check.verdict == "wrong" for check in self.checks)
        skipped = sum(check.verdict == "not checked" for check in self.checks)
        end = f"breaks the contract in {wrong} of {len(lines)} checks" if wrong else "can be run"
        return [*lines, f"{self.model} {end} ({skipped} not checked)."]


def verify(name: str, *, dataset: str = "shapes-1", size: int = 32, fps: float = 8.0) -> Report:
    """Check the model behind a name on ``size`` x ``size`` clips of a dataset.

    A model that cannot be had is a report with one wrong check. Raises ``LookupError`` and
    ``ValueError`` for a dataset or size that does not exist.
    """
    world = load_dataset(dataset)(dataset, size, fps)
    try:
        model = resolve(name)
    except (ModelError, LookupError) as error:
        return Report(name, (Check("card", "wrong", _sentence(error)),))
    try:
        return examine(model, world, dataset, size)
    finally:
        getattr(model, "close", lambda: None)()


def examine(model: VideoModel, world: Dataset, dataset: str, size: int) -> Report:
    """The same for a model and a dataset that are there; ``dataset`` is the name of ``world``."""
    bind(model, world.clip)
    examination = _Examination(model, world, dataset, size)
    checks = []
    for name, check in examination.checks():
        try:
            reason = check()
            checks.append(Check(name, "ok", reason))
        except _Skip as skip:
            checks.append(Check(name, "not checked", _sentence(skip)))
        except _Wrong as wrong:
            checks.append(Check(name, "wrong", _sentence(wrong)))
    return Report(model.card.name, tuple(checks))


class _Wrong(Exception):
    """A clause that is broken; the text says how."""


class _Skip(Exception):
    """A clause that cannot be checked; the text says why."""


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."


@dataclass
class _Examination:
    """The checks, in order, and the clips that they share."""

    model: VideoModel
    world: Dataset
    dataset: str
    size: int
    clips: dict[str, Played] = field(default_factory=dict)

    def checks(self) -> Iterator[tuple[str, Callable[[], str]]]:
        """Names and functions that return a sentence or raise."""
        yield "card", self.card
        yield "frames", self.frames
        yield "streaming", self.streaming
        yield "equal seeds", self.equal_seeds
        yield "other seeds", self.other_seeds
        yield "other requests", self.other_requests
        yield "context", self.context
        yield "prompt switch", self.prompt_switch
        yield "batch", self.batch

    # --- the clauses ------------------------------------------------------------------------------

    def card(self) -> str:
        card = self.model.card
        for name in ("chunk", "native_frames", "steps", "parameters", "frames_per_latent"):
            value = getattr(card, name)
            if value is not None and value < 1:
                raise _Wrong(f"its {name} is {value}; it must be 1 or more, or be left out")
        if card.weights_sha256 and not re.fullmatch("[0-9a-f]{64}", card.weights_sha256):
            raise _Wrong(f"its weights_sha256 is '{card.weights_sha256}'; it must be 64 hex digits")
        if not card.name.strip():
            raise _Wrong("its name is empty")
        unknown = sorted(set(card.scopes) - set(SCOPES))
        if unknown:
            raise _Wrong(f"its scope '{unknown[0]}' is not one of {', '.join(SCOPES)}")
        if set(card.scopes) != {"e2e"} and not isinstance(self.model, Preparing):
            raise _Wrong("it names scopes beyond e2e, but the model has no prepare(request)")
        silent = [name for name in ("chunk", "native_frames") if getattr(card, name) is None]
        if card.causal and silent:
            return f"It is a model card, which leaves out {' and '.join(silent)}."
        return "It is a model card."

    def frames(self) -> str:
        played = self.clips["first"] = self._play(self._request(self._prompt, SEEDS[0]))
        return f"{len(played.frames)} frames of uint8 {self.size}x{self.size} pixels, as asked."

    def streaming(self) -> str:
        card, lengths = self.model.card, [n for n, _ in self._clip("first").timing.chunks]
        if not card.causal:
            raise _Skip("its card says causal: false, so the clip may come in one piece")
        if len(lengths) == 1:
            self._ensure_model("come in one piece")
            raise _Wrong(
                f"all {lengths[0]} frames came in one piece; a causal model yields each chunk as "
                "soon as it is decoded"
            )
        if self._chunk is None:
            raise _Skip(f"{len(lengths)} chunks came, but the card names no chunk to compare with")
        # The first may be shorter (a codec of 4k+1 frames), and the last.
        broken = [n for n in lengths[1:-1] if n != self._chunk]
        broken += [n for n in (lengths[0], lengths[-1]) if n > self._chunk]
        if broken:
            raise _Wrong(f"a chunk has {broken[0]} frames; the card says {self._chunk}")
        return f"{len(lengths)} chunks of {self._chunk} frames, one after the other."

    def equal_seeds(self) -> str:
        self._ensure_equal("again", "the same request gave other pixels")
        return "The same request gives the same pixels."

    def other_seeds(self) -> str:
        self._ensure_model("ignore its seed")
        if np.array_equal(self._clip("first").frames, self._clip("other seed").frames):
            raise _Wrong("another seed gives the same pixels; noise must be keyed by request.seed")
        return "Another seed gives another clip."

    def other_requests(self) -> str:
        self._clip("first")
        if not np.array_equal(self._clip("first").frames, self._clip("again").frames):
            raise _Skip("equal seeds differ already")
        self._play(self._request(self._other_prompt, SEEDS[1]))
        self._ensure_equal(
            "after another", "the same request gave other pixels once another had run in between"
        )
        return "A clip does not depend on the requests before it."

    def context(self) -> str:
        card = self.model.card
        if not card.accepts_context:
            raise _Skip("its card says accepts_context: false")
        self._clip("first")
        scenes, frames = self._pair, self._chunk or self._native
        ends = [self.world.clip(scene, 1, self._prefix - 1)[0] for scene in scenes]
        made = [self._continuation(scene, frames) for scene in scenes]
        self._ensure_model("ignore its context")
        if np.array_equal(made[0], made[1]):
            raise _Wrong("two different contexts are continued by the same pixels")
        for own, other, new in ((0, 1, made[0]), (1, 0, made[1])):
            jump = _distance(new[0], ends[own])
            away = _distance(new[0], ends[other])
            if jump >= away:
                raise _Wrong(
                    f"the first new frame is {jump:.1f} levels from the last frame of its own "
                    f"context and {away:.1f} from another's; it must go on from its own"
                )
        return f"It continues the {self._prefix} frames that it is given."

    def prompt_switch(self) -> str:
        card = self.model.card
        if not card.switches_prompt:
            raise _Skip("its card says switches_prompt: false")
        plain = self._clip("first")
        at = sum(n for n, _ in plain.timing.chunks[: (len(plain.timing.chunks) + 1) // 2])
        if at == len(plain.frames):
            raise _Skip("the clip came in one piece, so there is no moment to switch at")
        switch = Switch(frame=at, prompt=self._other_prompt)
        request = self._request(self._prompt, SEEDS[0]).model_copy(update={"switch": switch})
        switched = self._play(request).frames
        if not np.array_equal(switched[:at], plain.frames[:at]):
            raise _Wrong("frames before the switch differ from those of the clip without one")
        if np.array_equal(switched[at:], plain.frames[at:]):
            raise _Wrong("send(prompt) changes nothing: the frames after it are the same")
        return f"After frame {at} the other prompt shows, and not before."

    def batch(self) -> str:
        if not isinstance(self.model, BatchedModel):
            raise _Skip("it has no generate_batch, which is optional")
        self._clip("first")
        # Of a causal model one chunk: what follows amplifies the rounding of another batch size.
        frames = (self._chunk or self._native) if self.model.card.causal else self._native
        prompts = zip((self._prompt, self._other_prompt), SEEDS, strict=True)
        requests = [self._request(prompt, seed, frames) for prompt, seed in prompts]
        together = play(self.model, requests, self.world.clip)
        for request, batched in zip(requests, together, strict=True):
            if isinstance(batched, Failure) or batched.timing.batch != len(requests):
                raise _Wrong(f"generate_batch fails: {_why_batch_fails(self.model, requests)}")
            alone = self._play(request).frames
            worst = int(np.abs(batched.frames.astype(int) - alone.astype(int)).max())
            if worst > TOLERANCE:
                raise _Wrong(
                    f"a clip of a batch differs by up to {worst} levels from the same request "
                    f"alone; at most {TOLERANCE} is rounding"
                )
        return f"Two requests at once agree with one by one to {TOLERANCE} level."

    # --- what the clauses share -------------------------------------------------------------------

    @cached_property
    def _native(self) -> int:
        frames = self.model.card.native_frames
        return frames if frames and frames > 0 else NATIVE

    @cached_property
    def _chunk(self) -> int | None:
        chunk = self.model.card.chunk
        return chunk if chunk and chunk > 0 else None

    @cached_property
    def _prefix(self) -> int:
        """Frames of context: at least half a native length, in whole chunks."""
        chunk = self._chunk or 1
        return math.ceil(max(PREFIX, self._native // 2) / chunk) * chunk

    def _ref(self, index: int) -> SceneRef:
        return SceneRef(dataset=self.dataset, split="test", index=index)

    @cached_property
    def _prompt(self) -> Prompt:
        ref = self._ref(0)
        return Prompt(id="verify-0", text=self.world.prompt(ref), scene=ref)

    @cached_property
    def _other_prompt(self) -> Prompt:
        """The first that reads differently."""
        refs = (self._ref(index) for index in range(1, SCENES))
        ref = next((r for r in refs if self.world.prompt(r) != self._prompt.text), None)
        if ref is None:
            raise _Skip(f"the first {SCENES} scenes of {self.dataset} have one text")
        return Prompt(id=f"verify-{ref.index}", text=self.world.prompt(ref), scene=ref)

    @cached_property
    def _pair(self) -> tuple[SceneRef, SceneRef]:
        """Two scenes of one text, whose contexts end as differently as can be found."""
        refs = [self._ref(index) for index in range(SCENES)]
        first = self._ref(0)
        same = [r for r in refs[1:] if self.world.prompt(r) == self.world.prompt(first)]
        last = self.world.clip(first, 1, self._prefix - 1)[0]
        others = same or [refs[1]]
        ends = [self.world.clip(ref, 1, self._prefix - 1)[0] for ref in others]
        return first, others[int(np.argmax([_distance(last, end) for end in ends]))]

    def _request(self, prompt: Prompt, seed: int, frames: int | None = None) -> Request:
        if frames is None:  # one native length may be all that a bidirectional model makes
            frames = self._native * (2 if self.model.card.causal else 1)
        geometry = Geometry(frames=frames, height=self.size, width=self.size, fps=self.world.fps)
        return Request(prompt=prompt, geometry=geometry, seed=seed)

    def _continuation(self, scene: SceneRef, frames: int) -> Frames:
        """What follows on a scene's true start, under one text whatever the scene."""
        request = self._request(self._prompt.model_copy(update={"scene": scene}), SEEDS[0], frames)
        past = Context(arm="streamed", prefix=self._prefix, chunk=frames)
        return self._play(request.model_copy(update={"context": past})).frames

    def _play(self, request: Request) -> Played:
        (played,) = play(self.model, [request], self.world.clip)
        if isinstance(played, Failure):
            what = "a request with a context" if request.context else "a request"
            said = f"it {played.reason}" if played.kind == "geometry" else played.reason
            raise _Wrong(f"{what} fails: {said}")
        return played

    def _clip(self, name: str) -> Played:
        """A clip that several clauses look at; made when it is first asked for."""
        if name not in self.clips:
            if "first" not in self.clips:
                raise _Skip("no clip could be made")
            seed = SEEDS[name == "other seed"]
            self.clips[name] = self._play(self._request(self._prompt, seed))
        return self.clips[name]

    def _ensure_equal(self, name: str, complaint: str) -> None:
        first, found = self._clip("first").frames, self._clip(name).frames
        if not np.array_equal(first, found):
            frame = int(np.argmax((first != found).any(axis=(1, 2, 3))))
            raise _Wrong(f"{complaint}, from frame {frame} on")

    def _ensure_model(self, may: str) -> None:
        kind = self.model.card.kind
        if kind != "model":
            raise _Skip(f"its card says {kind}, which may {may}")


def _why_batch_fails(model: BatchedModel, requests: list[Request]) -> str:
    try:
        for _ in model.generate_batch(requests, [None] * len(requests)):
            pass
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "it does not yield one chunk of the asked size for each request"


def _distance(a: Frames, b: Frames) -> float:
    """Mean absolute difference, in levels of 255."""
    return float(np.abs(a.astype(float) - b.astype(float)).mean())
