"""The quality task: what clips of native length show, whatever made them (DESIGN.md 6).

Every model makes clips of its native horizon (12 frames) from the prompt alone, so that causal and
bidirectional models stand in one table. The world's oracle says how far a clip does what its prompt
asks and obeys the law; several seeds a prompt say how far the clips of one prompt differ; and clips
are held, as samples, against true clips of *the same prompts* (other scenes than the model could
have seen: the law's own draws, given the words). Pixel measures that know nothing of this world
stand in a part of their own (:mod:`.proxies`).

====== ======= ===== =====
tier   prompts seeds clips
====== ======= ===== =====
full        32     4   128
lite        16     4    64
smoke        8     2    16
====== ======= ===== =====
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sfbench import kernel, metrics, metrics_video, stats
from sfbench.interfaces import Frames
from sfbench.paired import Run
from sfbench.schema import (
    Estimate,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    SceneRef,
    Scores,
    TaskCard,
    Validity,
    digest,
)

from . import drift, proxies
from .conclusion import Conclusion
from .judge import ATTRIBUTES, NATIVE, expected_scene, free_scores
from .oracle import State, decode, matched
from .rows import draw_consistent
from .shapes import Shapes, parse, render

Floats = NDArray[np.float64]
Vectors = dict[str, Floats]
"""Prompt -> one vector a clip, ``[clips, D]``."""

TIERS = {"smoke": (8, 2), "lite": (16, 4), "full": (32, 4)}  # prompts, seeds
NOT_FOR_SMALL = "temporal_flickering"  # VBench's: clips of 32 x 32 get no figure of that name
TRUE_CLIPS = 16  # a prompt
# Clips of one prompt nearer to each other than this share of what true clips are: one clip.
LEAST_DIVERSITY = 0.05
# Of twelve frames in a row without change: true clips have none.
STILL_RUN = 4
# Of twelve frames in a row that copy one two or more before, by bouncing in the middle of a step:
# of true clips on a straight line 4.8 % have four, at the least speed 5.0 %.
RETURNS = drift.Reach("copied_run", 4, 0.06)
STATE = "oracle state, Gaussian kernel"
SAME_CLIP = "DEGENERATE (the same clip for every seed)"


class Quality:
    """Implements :class:`sfbench.interfaces.Task`."""

    TIERS = tuple(TIERS)
    VERSION = 1
    reference_rows = ("oracle:truth", "oracle:observer", "truth:codec")
    network = ("kernel_features", "kernel_features_floor")
    """Estimates for which a network looks at true clips again, in this machine's arithmetic."""

    def __init__(
        self,
        dataset: str = "shapes-1",
        tier: str = "full",
        size: int = 32,
        seeds: Sequence[int] | None = None,
    ) -> None:
        """``seeds`` replaces the tier's; ``size`` is pixels a side."""
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        self.world = Shapes(dataset, size)
        self.count, clips = TIERS[tier]
        self.seeds = tuple(range(clips) if seeds is None else seeds)
        if not self.seeds:
            raise ValueError("quality needs at least one seed")
        self.measures = tuple(m for m in metrics_video.measures_known() if m.name != NOT_FOR_SMALL)
        self.card = TaskCard(
            name="quality",
            version=self.VERSION,
            tier=tier,
            dataset=dataset,
            prompts_sha256=digest([p.model_dump() for p in self._prompts()]),
            geometry=Geometry(frames=NATIVE, height=size, width=size, fps=self.world.fps),
            seeds=self.seeds,
            metrics={"oracle": 2, "kernel": 1, "diversity": 1}
            | {m.name: m.version for m in self.measures},
        )

    def requests(self, model: ModelCard) -> list[Request]:
        """One clip a prompt and seed."""
        return [
            Request(prompt=prompt, geometry=self.card.geometry, seed=seed)
            for prompt in self._prompts()
            for seed in self.seeds
        ]

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a scene."""
        return self.world.clip(ref, frames, start)

    def score(self, request: Request, frames: Frames) -> Scores:
        """The oracle's verdict, the pixel measures, and the vectors that stand for the clip."""
        text, judged = request.prompt.text, free_scores(frames, request.prompt.text)
        watched, _ = proxies.watch(frames, request.geometry.fps, self.measures)
        shown = {a: judged.values[f"adherence_{a}_1x"] for a in ATTRIBUTES}
        moved = {name: judged.values[f"{name}_1x"] for name in ("motion", "jitter", "pace")}
        moved["still_run"] = judged.values["still_run"]
        moved["copied_run"] = metrics.longest_run(metrics.repeated(frames, lag=2))
        broken = {
            name: round(float(np.mean([v for v in judged.series[name] if v is not None])), 5)
            for name in ("violation", "looks", "moves")
        }
        state = [round(float(v), proxies.DIGITS) for v in state_vector(frames, text)]
        return Scores(
            values=shown | moved | broken | watched.values,
            series={"state": tuple(state)} | watched.series,
        )

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates over whatever clips there are."""
        clips = [(r.request.prompt.id, r.scores) for r in records if r.scores]
        found = Conclusion()
        _adherence(found, clips)
        for name in ("violation", "looks", "moves"):
            found.add(name, proxies.by_prompt(clips, name), unit="0..1", better="lower")
        found.add("motion", proxies.by_prompt(clips, "motion"), unit="lawful speed squared")
        found.add("jitter", proxies.by_prompt(clips, "jitter"), unit="lawful steps", better="lower")
        found.add("pace", proxies.by_prompt(clips, "pace"), unit="lawful speed")
        states, true_states = proxies.vectors(clips, "state"), self.true_states()
        _diversity(found, states, true_states)
        _state_distance(found, states, true_states)
        seen = proxies.vectors(clips, proxies.VECTOR)
        true_seen = self.true_features() if seen else {}
        proxies.distance(found, "kernel_features", seen, true_seen)
        proxies.conclude(found, clips, self.measures)
        found.validity = self._validity(model, records, found.estimates)
        return found

    def true_states(self) -> Vectors:
        """What the oracle sees in true clips of the same prompts."""
        return _true_states(*self._world_and_prompts())

    def true_features(self) -> Vectors:
        """The image features of true clips of the same prompts."""
        return _true_features(*self._world_and_prompts(), len(self.seeds))

    def _world_and_prompts(self) -> tuple[str, int, Prompts]:
        return self.world.level, self.world.size, tuple((p.id, p.text) for p in self._prompts())

    def _validity(
        self, model: ModelCard, records: Sequence[Record], estimates: dict[str, Estimate]
    ) -> Validity:
        asked, scored = len(self.requests(model)), sum(r.scores is not None for r in records)
        reasons = [f"{asked - scored} of {asked} clips were not scored"] if scored < asked else []
        clips = [r.scores for r in records if r.scores]
        flags = [] if model.kind == "reference-row" else _flags(estimates, clips)
        return Validity(ok=not reasons, reasons=tuple(reasons), flags=tuple(flags))

    def _prompts(self) -> list[Prompt]:
        refs = [
            SceneRef(dataset=self.world.level, split="test", index=i) for i in range(self.count)
        ]
        return [
            Prompt(id=f"test-{ref.index}", text=self.world.prompt(ref), scene=ref) for ref in refs
        ]


# --- clips as vectors -----------------------------------------------------------------------------


def state_vector(frames: Frames, text: str) -> Floats:
    """A clip as the oracle sees it, ``[12 N]`` for one body, ``[9 N + 3]`` in general.

    Of each body: share of frames it is seen in, place at first, step a frame, radius, colour; then
    the background's colour. A body that is never seen is all zeros: far from any true clip.
    """
    wanted, _ = parse(text)
    seen = decode(frames, bodies=len(wanted))
    state = matched(seen, expected_scene(seen, text))
    bodies = [_body_vector(state, n) for n in range(len(wanted))]
    return np.concatenate([*bodies, np.median(state.background_rgb, axis=0)])


def _body_vector(state: State, n: int) -> Floats:
    found = np.flatnonzero(state.found[:, n])
    if not len(found):
        return np.zeros(9)
    place, colour = state.centre[found, n], state.rgb[found, n]
    steps = np.diff(place, axis=0)[np.diff(found) == 1]
    step = np.median(steps, axis=0) if len(steps) else np.zeros(2)
    radius = np.median(state.radius[found, n])
    return np.array(
        [len(found) / len(state.found), *place[0], *step, radius, *np.median(colour, axis=0)]
    )


Prompts = tuple[tuple[str, str], ...]
"""Id and text."""


@lru_cache(maxsize=2)
def _true_states(level: str, size: int, prompts: Prompts) -> Vectors:
    """What the oracle says of true clips: more than a model makes, to be a quiet yardstick."""
    return {
        prompt: np.stack([state_vector(clip, text) for clip in _true_clips(text, size, TRUE_CLIPS)])
        for prompt, text in prompts
    }


@lru_cache(maxsize=2)
def _true_features(level: str, size: int, prompts: Prompts, count: int) -> Vectors:
    """Features, which cost more, of as many true clips a prompt as a model makes."""
    fps = Shapes(level, size).fps
    seen = [
        (prompt, proxies.glance(clip, fps))
        for prompt, text in prompts
        for clip in _true_clips(text, size, min(count, TRUE_CLIPS))
    ]
    return proxies.vectors(seen, proxies.VECTOR)


def _true_clips(text: str, size: int, count: int) -> list[Frames]:
    """The first true clips of a prompt; always the same."""
    rng = np.random.default_rng([stats.RNG_SEED, int(digest(text), 16)])
    return [render(draw_consistent(text, rng), NATIVE, size) for _ in range(count)]


# --- what is concluded ----------------------------------------------------------------------------


def _adherence(found: Conclusion, clips: Sequence[tuple[str, Scores]]) -> None:
    """Each attribute, and their mean."""
    for attribute in ATTRIBUTES:
        sample = proxies.by_prompt(clips, attribute)
        found.add(f"adherence_{attribute}", sample, unit="share", better="higher")
    whole: dict[str, list[float]] = {}
    for prompt, scores in clips:
        known = [v for a in ATTRIBUTES if (v := scores.values[a]) is not None]
        if known:
            whole.setdefault(prompt, []).append(float(np.mean(known)))
    found.add("adherence", whole, unit="share", better="higher")


def _diversity(found: Conclusion, model: Vectors, truth: Vectors) -> None:
    """Mean distance between the clips of one prompt, in units of the same among true clips."""
    if min(map(len, truth.values())) < 2:
        found.estimates["diversity"] = stats.missing("n/a: needs two seeds a prompt")
        return
    scale = np.concatenate(list(truth.values())).std(axis=0)
    scale[scale == 0] = 1
    true = float(np.mean([_apart(rows / scale) for rows in truth.values()]))
    ratios = {p: _apart(rows / scale) / true for p, rows in model.items() if len(rows) > 1}
    found.add("diversity", ratios, unit="of the true clips'")


def _flags(estimates: Mapping[str, Estimate], clips: Sequence[Scores]) -> list[str]:
    """Words for clips that look right and are not generated, or that show nothing."""
    whole = {f"{name}_1x": estimates[name] for name in ("violation", "motion", "jitter", "pace")}
    repeats = drift.beyond_truth(clips, RETURNS, estimates["violation"].clusters)
    found = drift.not_played(whole, clips, STILL_RUN, repeats=repeats, jitter="jitter")
    diversity, looks = estimates["diversity"].value, estimates["looks"].value
    right = looks is not None and looks < drift.LOST
    if right and diversity is not None and diversity < LEAST_DIVERSITY:
        found.append(SAME_CLIP)
    return found


def _apart(rows: Floats) -> float:
    """Mean Euclidean distance of two different rows."""
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    return float(distance[~np.eye(len(rows), dtype=bool)].mean())


def _state_distance(found: Conclusion, model: Vectors, truth: Vectors) -> None:
    """Kernel distance of the model's states from the true ones, and the floor of two true samples.

    The Gaussian kernel, because a state has few dimensions, each of its own unit.
    """
    shape = kernel.gaussian(truth)
    found.estimates["kernel_state"] = (
        kernel.distance(model, truth, shape, of=STATE) if model else stats.missing("no clip")
    )
    found.estimates["kernel_state_floor"] = kernel.floor(truth, shape, of=STATE)


# --- two runs, paired -----------------------------------------------------------------------------


def _state_difference(task: Quality, first: Run, second: Run, confidence: float) -> Estimate:
    one, other = _vectors(first, "state"), _vectors(second, "state")
    truth = task.true_states()
    shape = kernel.gaussian(truth)
    return kernel.difference(one, other, truth, shape, of=STATE, confidence=confidence)


def _features_difference(task: Quality, first: Run, second: Run, confidence: float) -> Estimate:
    if not proxies.has_features():
        return stats.missing(proxies.MISSING, better="lower")
    one, other = _vectors(first, proxies.VECTOR), _vectors(second, proxies.VECTOR)
    truth = task.true_features()
    return kernel.difference(one, other, truth, of=proxies.VECTOR_WORDS, confidence=confidence)


def _vectors(run: Run, name: str) -> Vectors:
    return proxies.vectors([(r.request.prompt.id, r.scores) for r in run.records if r.scores], name)


STATISTICS = {"kernel_state": _state_difference, "kernel_features": _features_difference}
