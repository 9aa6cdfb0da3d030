"""How a request is played on a model: which past frames it is handed, and when.

``K`` frames a chunk, ``P`` true frames before the continuation; ``|`` separates context and answer:

    free        one call:          prompt | all frames
    streamed    one call:          true[:P] | all frames
    true        for each chunk k:  true[:P + kK] | K frames
    swapped     for each chunk k:  donor[:P + kK] | K frames
    noised      for each chunk k:  true[:P] + (true + noise)[P:P + kK] | K frames
    own         for each chunk k:  true[:P] + own frames so far | K frames
    corrupted   as own, the last K frames of the true prefix damaged
    twin        as own, half the values of the true prefix changed by one level

The model sees a request without ``context`` and so never learns which arm it is in. Arms that ask
for the same frames in the same calls share batches: how a sum is rounded depends on the size of the
batch, and clips that are to be compared should not differ by that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from .clock import Timed
from .interfaces import BatchedModel, Frames, Preparing, VideoModel
from .schema import Failure, Geometry, ModelCard, Request, SceneRef, Switch, Timing
from .video import VideoError

Truth = Callable[[SceneRef, int], Frames]
Ask = Callable[[list[Request], list[Frames | None]], Iterable[list[Frames]]]

REPLAYED = ("true", "swapped", "noised")  # arms whose context is a finished video
ONE_CALL = ("free", "streamed")

CORRUPTION_GAIN = 1.3
CORRUPTION_NOISE = 60.0  # standard deviation, in units of 1/255
# Of the ``noised`` arm: about as far as the shipped models' own frames are off. How far a level of
# noise moves them hardly depends on it (.26 of a level at 8, .22 at 48).
CONTEXT_NOISE = 24.0


@dataclass(frozen=True)
class Played:
    """A finished continuation and when its chunks arrived."""

    frames: Frames
    timing: Timing


class BadGeometry(ValueError):
    """A model gave frames other than those asked for; the text is one sentence."""


def play(model: VideoModel, requests: Sequence[Request], truth: Truth) -> list[Played | Failure]:
    """Generate requests that share :func:`batch_key`; one answer each, in order.

    A batch that fails is played again one by one, so that a request answers only for itself.
    """
    if reason := _unsupported(model.card, requests[0]):
        reason = f"{model.card.name} {reason}"
        return [Failure(kind="unsupported", reason=reason) for _ in requests]
    if len(requests) > 1 and isinstance(model, BatchedModel):
        try:
            pasts = [Past(request, truth) for request in requests]
            return list(_play_together(model.generate_batch, requests, pasts))
        except (Exception, SystemExit):
            pass  # who is to blame shows below
    return [_play_alone(model, request, truth) for request in requests]


def _unsupported(card: ModelCard, request: Request) -> str:
    """Why a model cannot be asked for this; else empty."""
    if request.context and not card.accepts_context:
        return "cannot continue a given video"
    if request.switch and not card.switches_prompt:
        return "cannot change its prompt while it streams"
    if request.scope not in card.scopes:
        return f"does not offer the scope '{request.scope}', only {', '.join(card.scopes)}"
    return ""


def batch_key(request: Request) -> tuple[object, ...]:
    """What requests of one batch must share."""
    context = request.context
    arm = (request.arm in ONE_CALL, context.prefix, context.chunk) if context else ()
    geometry = request.geometry
    how = (request.scope, request.split, request.switch.frame if request.switch else None)
    shape = (geometry.frames, geometry.height, geometry.width, geometry.fps)
    return (*arm, *shape, *how)


def corrupt(frames: Frames, seed: int) -> Frames:
    """Damage frames as no model should make them: a higher gain and strong noise, by seed."""
    noise = np.random.default_rng([seed, len(frames)]).normal(0, CORRUPTION_NOISE, frames.shape)
    return np.clip(np.round(frames * CORRUPTION_GAIN + noise), 0, 255).astype(np.uint8)


def noised(frames: Frames, request: Request) -> Frames:
    """White noise of :data:`CONTEXT_NOISE` on frames that stand in a context; the request's own."""
    noise = _generator(request).normal(0, CONTEXT_NOISE, frames.shape)
    return np.clip(np.round(frames + noise), 0, 255).astype(np.uint8)


def nudged(frames: Frames, request: Request) -> Frames:
    """Next to nothing: half of all values one level up or down, the request's own choice."""
    drawn = _generator(request).integers(4, size=frames.shape)
    step = np.array([-1, 1, 0, 0], np.int16)[drawn]
    moved: Frames = np.clip(frames.astype(np.int16) + step, 0, 255).astype(np.uint8)
    return moved


def _generator(request: Request) -> np.random.Generator:
    """By seed and prompt: what prompts share would not average out over them."""
    return np.random.default_rng([request.seed, zlib.crc32(request.prompt.id.encode())])


class Past:
    """The frames that a request hands to the model, call by call."""

    def __init__(self, request: Request, truth: Truth) -> None:
        self._request = request
        self._made: list[Frames] = []
        self._given = None if request.context is None else _given(request, truth)

    def context(self) -> Frames | None:
        """What the next call continues from: a copy, which a model may spoil."""
        if self._given is None or self._request.context is None:
            return None
        if self._request.arm in REPLAYED:
            done = sum(map(len, self._made))
            frames = self._given[: self._request.context.prefix + done].copy()
        else:
            frames = np.concatenate([self._given, *self._made])
        return frames if len(frames) else None

    def extend(self, made: Frames) -> None:
        """Add what a call gave."""
        self._made.append(made)

    def answer(self) -> Frames:
        """All that was generated."""
        return np.concatenate(self._made)


def _given(request: Request, truth: Truth) -> Frames:
    context = request.context
    assert context is not None
    scene = context.donor if request.arm == "swapped" else request.prompt.scene
    if scene is None:
        raise ValueError(f"request {request.key}: the arm '{request.arm}' needs a scene")
    if request.arm in REPLAYED:
        frames = truth(scene, context.prefix + request.geometry.frames)
        if request.arm == "noised":
            prefix, after = frames[: context.prefix], frames[context.prefix :]
            frames = np.concatenate([prefix, noised(after, request)])
        return frames
    frames = truth(scene, context.prefix)
    if request.arm == "corrupted" and len(frames):
        intact, last = frames[: -context.chunk], frames[-context.chunk :]
        frames = np.concatenate([intact, corrupt(last, request.seed)])
    return nudged(frames, request) if request.arm == "twin" else frames


# --- one request, or one batch --------------------------------------------------------------------


def _play_alone(model: VideoModel, request: Request, truth: Truth) -> Played | Failure:
    def ask(requests: list[Request], contexts: list[Frames | None]) -> Iterator[list[Frames]]:
        (one,), (context,) = requests, contexts
        chunks = model.generate(one) if context is None else model.generate(one, context)
        if one.switch:
            chunks = _switched(chunks, one.switch)
        return ([chunk] for chunk in chunks)

    try:
        past = Past(request, truth)
    except VideoError as error:
        return Failure(kind="video", reason=str(error))
    try:
        if request.scope != "e2e" and isinstance(model, Preparing):
            model.prepare(request)
        return _play_together(ask, [request], [past])[0]
    except BadGeometry as error:
        return Failure(kind="geometry", reason=str(error))
    except VideoError as error:
        return Failure(kind="video", reason=str(error))
    except (Exception, SystemExit) as error:
        return Failure(kind="model", reason=f"{type(error).__name__}: {error}")


def _switched(chunks: Iterator[Frames], switch: Switch) -> Iterator[Frames]:
    """The same stream, told of another prompt once ``switch.frame`` frames are there."""
    if not isinstance(chunks, Generator):
        raise TypeError("the card says switches_prompt, but generate() is not a generator")
    done, prompt = 0, None
    while True:
        try:
            chunk = chunks.send(prompt)
        except StopIteration:
            return
        yield chunk
        before, done = done, done + len(chunk)
        prompt = switch.prompt if before < switch.frame <= done else None


def _play_together(ask: Ask, requests: Sequence[Request], pasts: Sequence[Past]) -> list[Played]:
    clock: list[tuple[int, float]] = []
    spans: list[dict[str, float]] = []
    for frames in _calls(requests[0]):
        asked = [_anonymous(request, frames) for request in requests]
        contexts = [past.context() for past in pasts]
        chunks = Timed(partial(ask, asked, contexts), split=requests[0].split)
        lengths = _collect(chunks, asked[0].geometry, pasts)
        clock += zip(lengths, chunks.seconds, strict=True)
        spans += chunks.spans
    timing = Timing(chunks=tuple(clock), spans=tuple(spans), batch=len(requests))
    return [Played(past.answer(), timing) for past in pasts]


def _calls(request: Request) -> Iterator[int]:
    """Frames asked for in each call."""
    total = request.geometry.frames
    step = total if request.context is None or request.arm in ONE_CALL else request.context.chunk
    for done in range(0, total, step):
        yield min(step, total - done)


def _anonymous(request: Request, frames: int) -> Request:
    geometry = request.geometry.model_copy(update={"frames": frames})
    return request.model_copy(update={"context": None, "geometry": geometry})


def _collect(
    chunks: Iterable[list[Frames]], geometry: Geometry, pasts: Sequence[Past]
) -> list[int]:
    """Check the chunks of one call, add them to each past, and return their lengths."""
    lengths: list[int] = []
    for chunk in chunks:
        if len(chunk) != len(pasts):
            raise BadGeometry(f"gave {len(chunk)} chunks at once for {len(pasts)} requests")
        for past, piece in zip(pasts, chunk, strict=True):
            ensure_chunk(piece, geometry)
            past.extend(piece.copy())  # a model may reuse its buffer
        lengths.append(len(chunk[0]))
        if any(len(piece) != lengths[-1] for piece in chunk):
            raise BadGeometry("gave chunks of different lengths in one batch")
        if sum(lengths) > geometry.frames:
            raise BadGeometry(f"gave more than the {geometry.frames} frames asked for")
    if sum(lengths) != geometry.frames:
        raise BadGeometry(f"gave {sum(lengths)} of the {geometry.frames} frames asked for")
    return lengths


def ensure_chunk(chunk: Frames, geometry: Geometry) -> None:
    """Raise :class:`BadGeometry` for what is no chunk of that geometry."""
    wanted = f"uint8 [t, {geometry.height}, {geometry.width}, 3]"
    if not isinstance(chunk, np.ndarray):
        raise BadGeometry(f"gave a {type(chunk).__name__}; a chunk is a numpy array {wanted}")
    right = chunk.ndim == 4 and chunk.shape[1:] == (geometry.height, geometry.width, 3)
    if chunk.dtype != np.uint8 or not right or not len(chunk):
        raise BadGeometry(f"gave {chunk.dtype} {list(chunk.shape)}; a chunk is {wanted}, t > 0")
