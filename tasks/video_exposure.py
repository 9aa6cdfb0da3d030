"""Exposure bias on true videos of any kind: no oracle, only what other true videos show.

A true prefix is continued under the arms of the long-horizon task's part B, and the same measures
are made of it (:mod:`sfbench.exposure`). What differs is who judges (:mod:`.video_judge`): a
chunk's violation is how far it departs from the prefix beyond what other true videos do at that
distance, and its floor is that of the true continuation itself. Kernel distances on image features
hold the chunks of all videos against the true ones, which no single clip can (EB-M of He et al.,
with MMD for their divergence). The error, a feature distance from the continuation that was filmed,
says only whether the context helps: nobody knows what else could have happened, so it has no floor.

By default the videos are those of the embedded world, taken as if nothing were known of it: there
these measures can be held against the exact ones. ``--dataset folder:PATH`` takes videos of one's
own (:mod:`sfbench.video_folder`), or ``shards:PATTERN``, which the model must not have been trained
on; ``--set split=test`` leaves out those that training takes.

====== ====== ===== ===== ========== ======== ======== ======
tier   videos seeds whole diagnostic prefixes requests frames
====== ====== ===== ===== ========== ======== ======== ======
full       32     4 3x128       4x64     2x64      768  16896
lite       16     2  3x32       4x16     2x16      192   4224
smoke       8     1   3x8        4x8      2x8       72   1536
====== ====== ===== ===== ========== ======== ======== ======
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sfbench import exposure_prints, metrics, registry, stats
from sfbench.arms import REPLAYED, noised
from sfbench.departure import NAMES, apart
from sfbench.departure import VERSION as DEPARTURE
from sfbench.interfaces import Frames
from sfbench.schema import (
    Context,
    Geometry,
    ModelCard,
    Prompt,
    Record,
    Request,
    SceneRef,
    Scores,
    Series,
    TaskCard,
    Validity,
    digest,
)
from sfbench.video_folder import OWN, WHOLE

from .conclusion import Conclusion
from .continuations import ARMS, COMPARED, Plan, role
from .continuations import WHOLE as WITH_ALL_SEEDS
from .video_judge import VideoJudge, directed, quarters
from .video_measures import KERNELS, UNJUDGED, Continued, measured, not_measured

TIERS = {"smoke": (8, 1), "lite": (16, 2), "full": (32, 4)}  # videos, seeds
LEAST_VIDEOS = 4
SMALL, USUAL = (6, 24), (24, 48)
"""True frames before a continuation, and frames of it: in the embedded world, and elsewhere."""
LONGER = (2, 4)
"""Other true prefixes of the arm ``own``, in usual ones."""
MOST_PREFIX = 10_000  # frames, in a row that is somebody else's
CHUNKS = 12  # of a continuation, where a model does not say


class TooFewVideos(ValueError):
    """A folder in which too few videos are long enough; the text goes on from its name."""


class VideoExposure:
    """Implements :class:`sfbench.interfaces.Task`."""

    TIERS = tuple(TIERS)
    VERSION = 1
    BY_NAME_ONLY = True
    """Not part of ``--task all``: its subject is videos that a user chooses."""
    network = KERNELS

    def __init__(
        self,
        dataset: str = "shapes-1",
        tier: str = "full",
        size: int | tuple[int, int] | None = None,
        seeds: Sequence[int] | None = None,
        fps: float | None = None,
        prefix: int | None = None,
        frames: int | None = None,
        features: str = "effnet-lite0",
        split: str = WHOLE,
    ) -> None:
        """``seeds`` replaces the tier's; ``size``: pixels a side, or height and width.

        ``prefix``, ``frames``: true frames before a continuation, and frames of it. ``features``:
        the name of image features, or ``module:attribute``. ``split``: part of a folder.
        """
        if tier not in TIERS:
            raise ValueError(f"unknown tier '{tier}'; the tiers are {', '.join(TIERS)}")
        for name, count in (("prefix", prefix), ("frames", frames), ("fps", fps)):
            if count is not None and not (isinstance(count, int | float) and count > 0):
                raise ValueError(f"{name} is '{count}', and must be a number above 0")
        own_videos = dataset.startswith(OWN)
        given = {"size": size, "fps": fps}
        self.world = registry.load_dataset(dataset)(
            dataset, **{name: value for name, value in given.items() if value is not None}
        )
        if split != WHOLE and not own_videos:
            raise ValueError("split chooses a part of a folder; the embedded world has none")
        usual = USUAL if own_videos else SMALL
        self.prefix, self.frames = prefix or usual[0], frames or usual[1]
        count, default = TIERS[tier]
        self.seeds = tuple(range(default) if seeds is None else seeds)
        if not self.seeds:
            raise ValueError("video-exposure needs at least one seed")
        scenes = self._scenes(own_videos, split, count)
        self.scenes = {f"{ref.split}-{ref.index}": ref for ref in scenes}
        self.longer = self._longer(own_videos, split)
        self.reference_rows = (
            ("replay:truth",) if own_videos else ("oracle:truth", "oracle:observer", "truth:codec")
        )
        self.features = features
        embed = registry.load_features(features)
        self.judge = VideoJudge(self.world, self.scenes, embed, self.prefix)
        height, width = self.world.shape
        self.card = TaskCard(
            name="video-exposure",
            version=self.VERSION,
            tier=tier,
            dataset=self.world.level,
            prompts_sha256=digest([p.model_dump() for p in map(self._prompt, self.scenes)]),
            geometry=Geometry(frames=self.frames, height=height, width=width, fps=self.world.fps),
            seeds=self.seeds,
            metrics={"departure": DEPARTURE, "kernel": 1, f"features:{features}": 1},
            conditions={"prefix": str(self.prefix), "features": features, "split": split},
        )

    @staticmethod
    def settings_of(card: TaskCard) -> dict[str, Any]:
        """What a card, which may be anyone's, says of the arguments that it was made with."""
        told = {name: card.conditions.get(name, "") for name in ("prefix", "features", "split")}
        if not (told["prefix"].isdecimal() and int(told["prefix"]) <= MOST_PREFIX):
            raise ValueError(f"its prefix is '{told['prefix']}'")
        if told["features"] not in registry.providers("features"):
            raise ValueError(f"its features are '{told['features']}', which are not here")
        asked = {"fps": card.geometry.fps, "frames": card.geometry.frames}
        return asked | told | {"prefix": int(told["prefix"])}

    # --- what is asked ----------------------------------------------------------------------------

    def requests(self, model: ModelCard) -> list[Request]:
        """The continuations, arm by arm, if the model takes context."""
        if not (model.causal and model.accepts_context):
            return []
        chunk, asked = self._chunk(model), []
        for plan in self._plans(chunk):
            seeds = self.seeds if plan.whole else self.seeds[: -(-len(self.seeds) // 2)]
            asked += [
                self._continuation(plan, name, seed, chunk)
                for name in self.scenes
                for seed in seeds
            ]
        return asked

    def _plans(self, chunk: int) -> list[Plan]:
        usual = [Plan(arm, self.prefix, self.frames, arm in WITH_ALL_SEEDS) for arm in ARMS]
        after = max(chunk, self.frames // 2 // chunk * chunk)
        return usual + [Plan("own", prefix, after, whole=False) for prefix in self.longer]

    def _continuation(self, plan: Plan, name: str, seed: int, chunk: int) -> Request:
        names = list(self.scenes)
        other = names[(names.index(name) + len(names) // 2) % len(names)]
        return Request(
            prompt=self._prompt(name),
            geometry=self.card.geometry.model_copy(update={"frames": plan.frames}),
            seed=seed,
            context=Context(
                arm=plan.arm,
                prefix=plan.prefix,
                chunk=chunk,
                donor=self.scenes[other] if plan.arm == "swapped" else None,
            ),
        )

    def _prompt(self, name: str) -> Prompt:
        ref = self.scenes[name]
        return Prompt(id=name, text=self.world.prompt(ref), scene=ref)

    def _chunk(self, model: ModelCard) -> int:
        return min(model.chunk or max(1, self.frames // CHUNKS), self.frames)

    def _scenes(self, own_videos: bool, split: str, count: int) -> list[SceneRef]:
        if not own_videos:
            return [SceneRef(dataset=self.world.level, split="test", index=n) for n in range(count)]
        need = self.prefix + self.frames
        found: list[SceneRef] = self.world.of_split(split, need)[:count]
        if len(found) < LEAST_VIDEOS:
            raise TooFewVideos(
                f"{len(found)} of its videos have the {need} frames at {self.world.fps:g} a second "
                f"that are needed, and {LEAST_VIDEOS} are the least; add videos, or ask for less "
                "with --set prefix=N --set frames=N"
            )
        return found

    def _longer(self, own_videos: bool, split: str) -> tuple[int, ...]:
        """The longer prefixes that all videos have the frames for."""
        wanted = [times * self.prefix for times in LONGER]
        if not own_videos:
            return tuple(wanted)
        has = {p: set(self.world.of_split(split, p + self.frames // 2)) for p in wanted}
        return tuple(p for p in wanted if has[p].issuperset(self.scenes.values()))

    # --- how it is judged -------------------------------------------------------------------------

    def truth(self, ref: SceneRef, frames: int, start: int = 0) -> Frames:
        """True frames of a video."""
        film: Frames = self.world.clip(ref, frames, start)
        return film

    def score(self, request: Request, frames: Frames) -> Scores:
        """Departures by chunk, and what distances between arms are made of."""
        context, ref = request.context, request.prompt.scene
        if context is None or ref is None:
            raise ValueError(f"prompt '{request.prompt.id}' names no video to continue")
        true = self.truth(ref, context.prefix + len(frames))
        prefix, film = true[: context.prefix], true[context.prefix :]
        chunk, part = context.chunk, role(request, self.prefix)
        series: dict[str, Series] = {}
        if request.arm not in UNJUDGED:
            series |= self._judged(ref, part, prefix, film, frames, chunk)
        if part in ("own", "noised"):
            shown = frames if part == "own" else noised(film, request)
            series["change"] = exposure_prints.rms(shown, film, chunk)
        if part in COMPARED:
            series["print"] = exposure_prints.fingerprint(frames, film, chunk, request.prompt.id)
        if part != "own":
            return Scores(series=series)
        played = _played(prefix, frames) | {
            f"true_{n}": v for n, v in _played(prefix, film).items()
        }
        return Scores(values=played, series=series)

    def _judged(
        self, ref: SceneRef, part: str, prefix: Frames, film: Frames, frames: Frames, chunk: int
    ) -> dict[str, Series]:
        """Departures of each chunk, features, and how far these are from the filmed ones."""
        looks = self.judge.looks(frames, chunk)
        leads = film if part in REPLAYED else frames
        gone = self.judge.departures(ref, prefix, frames, leads, looks, chunk)
        series = {name: _series(gone[:, m]) for m, name in enumerate(NAMES)}
        if part in ("true", "swapped"):
            film_looks = self.judge.film_looks(ref, len(prefix), len(frames), chunk)
            pairs = zip(directed(looks), directed(film_looks), strict=True)
            series["error"] = _series([apart(a, b) for a, b in pairs])
        if part in ("own", "true"):
            series["features"] = _series(quarters(looks).ravel())
        return series

    # --- what it amounts to -----------------------------------------------------------------------

    def conclude(self, model: ModelCard, records: Sequence[Record]) -> Conclusion:
        """Estimates, curves and validity from whatever records there are."""
        asked = self.requests(model)
        if not asked:
            why = "does not accept context" if model.causal else "makes the whole clip at once"
            return not_measured(f"n/a: the model {why}")
        continued = self.continued(model, records)
        found, flags = measured(continued)
        missing = len(asked) - len(continued.scored)
        reasons = [f"{missing} of {len(asked)} continuations were not scored"] if missing else []
        if model.kind == "reference-row":
            flags = ()
        found.validity = Validity(ok=not reasons, reasons=tuple(reasons), flags=flags)
        return found

    def continued(self, model: ModelCard, records: Sequence[Record]) -> Continued:
        """What the measures are made of."""
        return Continued(
            judge=self.judge,
            features=self.features,
            frames=self.frames,
            longer=self.longer,
            chunk=self._chunk(model),
            horizon=float(model.native_frames or self.frames),
            scored=[(r.request, r.scores) for r in records if r.scores],
        )


# --- helpers --------------------------------------------------------------------------------------


def _played(prefix: Frames, frames: Frames) -> dict[str, float | None]:
    """How long a continuation stands still, and how much of it copies what was before."""
    seen = np.concatenate([prefix, frames])
    return {
        "repeated": round(float(metrics.repeated(seen)[len(prefix) :].mean()), stats.DIGITS),
        "still_run": metrics.longest_run(metrics.still(seen)[len(prefix) :]) / len(frames),
    }


def _series(values: Sequence[float] | NDArray[np.float64]) -> Series:
    return tuple(round(float(v), stats.DIGITS) + 0.0 for v in values)
