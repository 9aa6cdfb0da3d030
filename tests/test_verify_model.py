"""The check of the contract: good models pass, and each way to break it is told apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from sfbench import registry
from sfbench.interfaces import Frames
from sfbench.schema import ModelCard, Prompt, Request
from sfbench.tasks.shapes import Shapes
from sfbench.verify_model import Report, examine, verify

import fakes
from program_fixtures import EXAMPLE

SIZE = 32
WORLD = Shapes("shapes-1", SIZE, 8.0)


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def wrong(report: Report) -> dict[str, str]:
    assert report.ok == (not any(check.verdict == "wrong" for check in report.checks))
    return {check.name: check.reason for check in report.checks if check.verdict == "wrong"}


# --- good ones ------------------------------------------------------------------------------------


def test_a_shipped_model_keeps_every_clause() -> None:
    report = verify("reference:self-forcing-dmd")
    assert wrong(report) == {}
    found = verdicts(report)
    for name in ("card", "frames", "streaming", "equal seeds", "other seeds", "other requests"):
        assert found[name] == "ok"
    assert found["context"] == "ok" and found["batch"] == "ok"


def test_a_program_keeps_every_clause_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILTINS["models"], "cmd", "sfbench.programs:ProgramModel")
    report = verify(f"cmd:{EXAMPLE}", size=48)
    assert wrong(report) == {}
    assert [name for name, found in verdicts(report).items() if found != "ok"] == ["batch"]


def test_a_cheat_keeps_the_contract_too() -> None:
    report = verify("cheat:noise")
    assert report.ok
    assert verdicts(report)["context"] == "not checked"


# --- a good small one, and what breaks it ---------------------------------------------------------


class Good:
    """Brightens its context, or a grey; noise keyed by (seed, frame); the prompt sets the hue."""

    card = ModelCard(
        name="good", chunk=3, native_frames=6, accepts_context=True, switches_prompt=True
    )

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        size, prompt = request.geometry, request.prompt
        buffer = np.zeros((3, size.height, size.width, 3), np.uint8)  # reused on purpose
        start = 0 if context is None else len(context)
        base = np.full(buffer.shape[1:], 90.0) if context is None else context[-1].astype(float)
        for done in range(0, size.frames, 3):
            count = min(3, size.frames - done)
            for n in range(count):
                buffer[n] = self.frame(base, prompt, request.seed, start + done + n)
            prompt = (yield buffer[:count]) or prompt

    def frame(self, base: Any, prompt: Prompt, seed: int, index: int) -> Any:
        noise = np.random.default_rng([seed, index]).integers(0, 4, base.shape)
        return np.clip(base + noise + np.array([len(prompt.text) % 5, 0, 0]), 0, 255)


class GoodBatch(Good):
    offset = 1

    def generate_batch(
        self, requests: Sequence[Request], contexts: Sequence[Frames | None]
    ) -> Iterator[list[Frames]]:
        streams = [self.generate(r, c) for r, c in zip(requests, contexts, strict=True)]
        for pieces in zip(*streams, strict=True):
            yield [piece + np.uint8(self.offset) for piece in pieces]


class BadCard(Good):
    card = Good.card.model_copy(update={"chunk": -3})


class BadLength(Good):
    card = Good.card.model_copy(update={"native_frames": 0})


class BadHash(Good):
    card = Good.card.model_copy(update={"weights_sha256": "abc"})


class Unprepared(Good):
    card = Good.card.model_copy(update={"scopes": ("e2e", "dit")})


class Floats(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Any]:
        for chunk in super().generate(request, context):
            yield chunk / 255


class Short(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        yield next(super().generate(request, context))


class Dead(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        raise RuntimeError("no memory.\nno luck")


class NeedsContext(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        if context is None:
            raise ValueError("a context is required")
        return super().generate(request, context)


class AtOnce(Good):
    card = Good.card.model_copy(update={"switches_prompt": False})

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        yield np.concatenate([c.copy() for c in super().generate(request, context)])


class OtherChunk(Good):
    card = Good.card.model_copy(update={"chunk": 2})


class Random(Good):
    def frame(self, base: Any, prompt: Prompt, seed: int, index: int) -> Any:
        return super().frame(base, prompt, int(np.random.default_rng().integers(1 << 30)), index)


class Seedless(Good):
    def frame(self, base: Any, prompt: Prompt, seed: int, index: int) -> Any:
        return super().frame(base, prompt, 0, index)


class Leaky(Good):
    """Remembers the texts it has seen."""

    def __init__(self) -> None:
        self.texts: set[str] = set()

    def frame(self, base: Any, prompt: Prompt, seed: int, index: int) -> Any:
        self.texts.add(prompt.text)
        return np.clip(super().frame(base, prompt, seed, index) + len(self.texts), 0, 255)


class Forgetful(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        return super().generate(request, None if context is None else context * 0)


class Contrary(Good):
    """Goes on from the negative of its context."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        return super().generate(request, None if context is None else 255 - context)


class NoContext(Good):
    def generate(self, request: Request) -> Iterator[Frames]:  # type: ignore[override]
        return super().generate(request)


class Deaf(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        for chunk in super().generate(request, context):  # noqa: UP028 (nobody hears what is sent)
            yield chunk


class NoGenerator(Good):
    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        return map(np.copy, super().generate(request, context))


class Clairvoyant(Good):
    """Changes what came before the switch as well, if one is coming."""

    def generate(self, request: Request, context: Frames | None = None) -> Iterator[Frames]:
        seed = request.seed + (request.switch is not None)
        return super().generate(request.model_copy(update={"seed": seed}), context)


class OffBatch(GoodBatch):
    offset = 2


class DeadBatch(GoodBatch):
    def generate_batch(self, requests: Any, contexts: Any) -> Iterator[list[Frames]]:
        raise RuntimeError("one at a time")


class OddBatch(GoodBatch):
    def generate_batch(self, requests: Any, contexts: Any) -> Iterator[list[Frames]]:
        for pieces in super().generate_batch(requests, contexts):
            yield pieces[:1]


@pytest.mark.parametrize("kind", [Good, GoodBatch])
def test_a_small_model_keeps_every_clause(kind: type[Good]) -> None:
    report = examine(kind(), WORLD, "shapes-1", SIZE)
    assert wrong(report) == {}
    skipped = [name for name, found in verdicts(report).items() if found == "not checked"]
    assert skipped == ([] if kind is GoodBatch else ["batch"])


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        (BadCard, "card", "Its chunk is -3; it must be 1 or more, or be left out."),
        (BadLength, "card", "Its native_frames is 0; it must be 1 or more"),
        (BadHash, "card", "Its weights_sha256 is 'abc'; it must be 64 hex digits."),
        (Unprepared, "card", "the model has no prepare(request)"),
        (Floats, "frames", "A request fails: it gave float64 [3, 32, 32, 3]; a chunk is uint8"),
        (Short, "frames", "A request fails: it gave 3 of the 12 frames asked for."),
        (Dead, "frames", "A request fails: RuntimeError: no memory. no luck."),
        (NeedsContext, "frames", "A request fails: ValueError: a context is required."),
        (AtOnce, "streaming", "All 12 frames came in one piece"),
        (OtherChunk, "streaming", "A chunk has 3 frames; the card says 2."),
        (Random, "equal seeds", "The same request gave other pixels, from frame 0 on."),
        (Seedless, "other seeds", "Another seed gives the same pixels"),
        (Leaky, "other requests", "once another had run in between, from frame 0 on"),
        (Forgetful, "context", "Two different contexts are continued by the same pixels."),
        (Contrary, "context", "it must go on from its own"),
        (NoContext, "context", "A request with a context fails: TypeError"),
        (Deaf, "prompt switch", "Send(prompt) changes nothing"),
        (NoGenerator, "prompt switch", "generate() is not a generator"),
        (Clairvoyant, "prompt switch", "Frames before the switch differ"),
        (OffBatch, "batch", "differs by up to 2 levels from the same request alone"),
        (DeadBatch, "batch", "Generate_batch fails: RuntimeError: one at a time."),
        (OddBatch, "batch", "does not yield one chunk of the asked size for each request"),
    ],
)
def test_a_broken_clause_is_the_one_that_is_named(kind: type[Good], name: str, reason: str) -> None:
    report = examine(kind(), WORLD, "shapes-1", SIZE)
    found = wrong(report)
    assert reason in found.pop(name)
    # Pixels that nothing determines break the comparisons that rest on them as well.
    consequences = {Random: {"prompt switch"}, Leaky: {"prompt switch"}}
    assert found.keys() <= consequences.get(kind, set())
    if name == "frames":  # nothing else can be said
        rest = set(itertools.islice(verdicts(report).values(), 2, None))
        assert rest == {"not checked"}


def test_a_model_that_claims_little_is_checked_little(monkeypatch: pytest.MonkeyPatch) -> None:
    report = verify("fakes:Plain")
    found = verdicts(report)
    assert set(wrong(report)) == {"streaming"}  # its card does not say that it is bidirectional
    assert {name for name, verdict in found.items() if verdict == "not checked"} == {
        "context",
        "prompt switch",
        "batch",
    }
    monkeypatch.setattr(fakes.Plain, "card", {"causal": False}, raising=False)
    report = verify("fakes:Plain")
    assert report.ok and verdicts(report)["streaming"] == "not checked"


def test_a_name_or_a_card_that_is_none_is_a_report() -> None:
    report = verify("fakes:Statik")
    assert list(wrong(report)) == ["card"] and "did you mean Static" in wrong(report)["card"]


def test_the_lines_name_each_check_and_end_with_the_verdict() -> None:
    broken = examine(Seedless(), WORLD, "shapes-1", SIZE).lines()
    assert len(broken) == 10
    assert broken[4].startswith("wrong        other seeds     Another seed gives the same")
    assert broken[-1] == "good breaks the contract in 1 of 9 checks (1 not checked)."
    assert examine(Good(), WORLD, "shapes-1", SIZE).lines()[-1] == (
        "good can be run (1 not checked)."
    )
