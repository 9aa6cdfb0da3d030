"""Part B of the long-horizon task: what is continued, and what records keep of it and amount to.

A true prefix is continued under the arms of :class:`~sfbench.schema.Context`. Records keep, by
chunk, the violation and the error (:mod:`.judge`) and, where a measure needs them, the floor (the
error of an ideal observer who was shown the same true frames), how far the frames that stand in the
context are from the true ones, and fingerprints from which distances between arms can be had.
:mod:`sfbench.exposure` makes measures of these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sfbench import exposure, exposure_prints, exposure_rows, metrics, stats
from sfbench.arms import noised
from sfbench.interfaces import Frames
from sfbench.schema import Arm, ModelCard, Request, SceneRef, Scores, Series

from .judge import NATIVE, continuation_scores, place_error
from .oracle import decode, matched
from .rows import MEMORY, perceive
from .shapes import Shapes, render

PREFIX = 6  # true frames before a continuation: three chunks of two, so velocity can be read
CONTINUATION = 24  # frames; divisible by chunks of 1, 2, 3, 4, 6, 8 and 12
CHUNK = 2  # where a model does not say
LONGER = (12, 24)  # other true prefixes of the arm ``own``: one and two native horizons
AFTER_LONGER = 12  # frames that are asked for after those, in whole chunks

WHOLE: tuple[Arm, ...] = ("true", "own", "streamed")  # arms with all seeds
DIAGNOSTIC: tuple[Arm, ...] = ("swapped", "corrupted", "noised", "twin")  # with half of them
ARMS = (*WHOLE, *DIAGNOSTIC)
COMPARED = ("true", "own", "noised", "twin")  # arms whose clips are held against one another


@dataclass(frozen=True)
class Plan:
    """One kind of continuation."""

    arm: Arm
    prefix: int
    """True frames before it."""
    frames: int
    """Frames asked for."""
    whole: bool
    """Whether all seeds have it, or half of them."""


def plans(chunk: int) -> list[Plan]:
    """All kinds, in order."""
    usual = [Plan(arm, PREFIX, CONTINUATION, arm in WHOLE) for arm in ARMS]
    return usual + [Plan("own", prefix, _after_longer(chunk), whole=False) for prefix in LONGER]


def chunk_of(model: ModelCard) -> int:
    """Frames that a model is asked for at each context."""
    return min(model.chunk or CHUNK, CONTINUATION)


def role(request: Request, usual: int = PREFIX) -> str:
    """The arm, and the length of its true prefix where that is not the usual one: ``own@12``."""
    context = request.context
    if context is None or context.prefix == usual:
        return request.arm
    return f"{context.arm}@{context.prefix}"


# --- what a record keeps --------------------------------------------------------------------------


def scores_of(world: Shapes, request: Request, frames: Frames) -> Scores:
    """Measure one continuation; the past that it continues is made again from the scene's name."""
    context, ref = request.context, request.prompt.scene
    if context is None or ref is None:
        raise ValueError(f"prompt '{request.prompt.id}' names no scene to continue")
    past = world.clip(ref, context.prefix + len(frames))
    scores = continuation_scores(frames, past, world.scene(ref), context)
    series: dict[str, Series] = {}
    name, true, chunk = role(request), past[context.prefix :], context.chunk
    if name in ("own", "true"):
        renewed = name == "true"
        series["floor"] = _floor(world, ref, context.prefix, len(frames), chunk, renewed)
    if name in ("own", "noised"):
        shown = frames if name == "own" else noised(true, request)
        series["change"] = exposure_prints.rms(shown, true, chunk)
    if name in COMPARED:
        series["print"] = exposure_prints.fingerprint(frames, true, chunk, request.prompt.id)
    return scores.model_copy(update={"series": scores.series | series})


@lru_cache(maxsize=4096)
def _floor(
    world: Shapes, ref: SceneRef, prefix: int, frames: int, chunk: int, renewed: bool
) -> tuple[float, ...]:
    """Place error a chunk of the ideal observer of a true prefix, or of true frames to the chunk.

    ``renewed``: it is shown the true frames again before every chunk, as the arm ``true`` is.
    """
    scene = world.scene(ref)
    step, past = (chunk if renewed else frames), world.clip(ref, prefix + frames)
    pieces = []
    for done in range(0, frames, step):
        shown = past[: prefix + done][-MEMORY:]
        seen = perceive(shown, len(scene.bodies)) or scene
        pieces.append(render(seen, min(step, frames - done), world.size))
    state = matched(decode(np.concatenate(pieces), len(scene.bodies)), scene)
    errors = metrics.windows(place_error(state, scene, prefix), chunk)
    return tuple(round(float(e), stats.DIGITS) for e in errors)


# --- what the records add up to -------------------------------------------------------------------


def measure(model: ModelCard, scored: Sequence[tuple[Request, Scores]]) -> exposure.Exposure:
    """Exposure bias, or for each measure why there is none."""
    if not model.causal:
        return exposure.not_measured("n/a: makes the whole clip at once")
    if not model.accepts_context:
        return exposure.not_measured("n/a: the model does not accept context")
    return exposure.measure(episodes(model, scored))


def episodes(model: ModelCard, scored: Sequence[tuple[Request, Scores]]) -> exposure.Episodes:
    """What the records of a model's continuations hold, by arm."""
    chunk = chunk_of(model)
    ends = range(chunk, CONTINUATION + chunk, chunk)
    return exposure.Episodes(
        violation={arm: _cells(scored, arm, "violation") for arm in ARMS},
        error={arm: _cells(scored, arm, "error") for arm in ARMS},
        floor={arm: _cells(scored, arm, "floor") for arm in ("own", "true")},
        ends=tuple(float(min(end, CONTINUATION)) for end in ends),
        horizon=NATIVE,
        error_unit="sides of the frame",
        prints={arm: _cells(scored, arm, "print") for arm in COMPARED},
        change={arm: _cells(scored, arm, "change") for arm in ("own", "noised")},
        prefixes=_prefixes(scored),
    )


def _prefixes(
    scored: Sequence[tuple[Request, Scores]],
) -> dict[int, dict[tuple[str, int], Sequence[float]]]:
    """Violation under own context after each length of true prefix."""
    names = {PREFIX: "own"} | {prefix: f"own@{prefix}" for prefix in LONGER}
    return equal_distance({m: _cells(scored, name, "violation") for m, name in names.items()})


def equal_distance(
    after: Mapping[int, exposure_rows.Cells],
) -> dict[int, dict[tuple[str, int], Sequence[float]]]:
    """Of values after each length of true prefix, those clips and chunks that all lengths have."""
    found = {frames: rows for frames, rows in after.items() if rows}
    if len(found) < 2:
        return {}
    common = set.intersection(*(set(rows) for rows in found.values()))
    chunks = min(len(row) for rows in found.values() for row in rows.values())
    return {m: {cell: rows[cell][:chunks] for cell in common} for m, rows in found.items()}


def _cells(
    scored: Sequence[tuple[Request, Scores]], name: str, series: str
) -> dict[tuple[str, int], list[float]]:
    """One series of the clips of one role; records of before it was kept have none."""
    return {
        (r.prompt.id, r.seed): [v for v in s.series[series] if v is not None]
        for r, s in scored
        if role(r) == name and series in s.series
    }


def _after_longer(chunk: int) -> int:
    """Whole chunks, so that they compare with the first ones after the usual prefix."""
    return max(AFTER_LONGER // chunk, 1) * chunk
