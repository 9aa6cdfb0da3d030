"""Certify the metrics: inject failures of known size, and hold each metric to what it declares.

A *take* is a true clip to damage and another true clip of the same kind (in the embedded world: of
the same prompt; of a folder: the next piece of the same video). The difference of a metric between
the two is what truth alone does; its spread over calibration takes is the yardstick. What is
damaged are other takes, of the test split. The rules stand in :mod:`.certify_judge`.

Declarations are made from damaged takes of the *calibration* split (:func:`propose`; other takes
than the yardstick's), and held on those of the test split. Where the two disagree the declaration
is ``partly``, which promises least.

Declarations speak of the embedded world, where the panel is that for any video and the oracle's
violations together. A folder's videos differ more among themselves than doses can be fixed for:
there a metric that declares to see a failure must tell its *largest* dose, and the table says what
is seen from where.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Protocol

from . import failures, metrics
from .certification import Certification, Declared, Film
from .certify_judge import Examined, Values, judge, label, world_metrics
from .failures import NUISANCES
from .interfaces import Frames
from .metrics import Metric
from .metrics_video import VideoMeasure, measures_known
from .panel import PANEL, Clip
from .registry import load, unknown

Progress = Callable[[int, int], None]
Job = tuple[str, int, bool]
"""A take's split and index, and whether it is damaged."""

CALIBRATION, TEST, QUIET = 24, 8, 16
"""Takes: for the yardstick, to be damaged, and (with the latter) for false alarms."""


class CertifyError(ValueError):
    """What cannot be certified; the text is one sentence."""


class Take(Protocol):
    """A true clip that can be damaged, and another true one."""

    frames: Frames
    other: Frames
    fps: float
    text: str

    def damaged(self, failure: str, dose: float) -> Frames:
        """The clip with a failure of that dose."""
        ...


class Source(Protocol):
    """Where true clips come from."""

    name: str
    """Of the doses: ``world`` or ``videos``."""
    words: str
    films: tuple[Film, ...]
    """The videos, where they are files."""
    unjudged: str
    """Why no declaration can be judged by them; else empty."""

    def take(self, split: str, index: int) -> Take:
        """``split``: ``selection`` (calibration) or ``test``."""
        ...

    def takes(self, split: str) -> int:
        """How many there are, each of another video."""
        ...


def certify(
    names: Sequence[str] = (),
    source: Source | None = None,
    *,
    tests: int = TEST,
    jobs: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Certification:
    """Certify the named metrics, or all, on a source of true clips (default: the embedded world).

    ``tests``: takes that are damaged; ``jobs``: processes, one a core unless said.
    """
    source = load("sources", "world")() if source is None else source
    count = min(tests, source.takes("test"))
    clean = min(tests + QUIET, source.takes("test"))
    test = [("test", i, i < count) for i in range(clean)]
    return _certify(names, source, test, jobs, progress)


def propose(
    names: Sequence[str] = (),
    *,
    clips: int = TEST,
    jobs: int | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, dict[str, Declared]]:
    """What each metric should declare of each failure of the embedded world, by calibration takes.

    They follow those of the yardstick; no test take is looked at.
    """
    source: Source = load("sources", "world")()
    damaged = [("selection", CALIBRATION + i, True) for i in range(clips)]
    found = _certify(names, source, damaged, jobs, progress)
    labels: dict[str, dict[str, Declared]] = {}
    for response in found.responses:
        labels.setdefault(response.metric, {})[response.failure] = label(response)
    return labels


def _certify(
    names: Sequence[str],
    source: Source,
    looked_at: Sequence[Job],
    jobs: int | None,
    progress: Progress,
) -> Certification:
    wanted = chosen(names, source.name)
    work = partial(_examine, source, tuple(wanted), _needed(wanted))
    count = min(CALIBRATION, source.takes("selection"))
    jobs_of: list[Job] = [*(("selection", i, False) for i in range(count)), *looked_at]
    # The damaged ones first: they take longest.
    order = sorted(range(len(jobs_of)), key=lambda n: not jobs_of[n][2])
    found: dict[int, Examined] = {}
    for n, examined in zip(order, _spread(work, [jobs_of[n] for n in order], jobs), strict=True):
        found[n] = examined
        progress(len(found), len(order))
    results = [found[n] for n in range(len(jobs_of))]
    return judge(wanted, source, results[:count], results[count:])


def chosen(names: Sequence[str], source: str) -> list[Metric]:
    """The metrics behind names (all without any), as far as the source has what they need."""
    known, of_world = known_metrics(), {metric.name for metric in world_metrics()}
    for name in names:
        if name not in known:
            raise CertifyError(unknown("metric", name, known))
    fitting = [
        m
        for m in (known[name] for name in names or known)
        if source == "world" or m.name not in of_world
    ]
    if not fitting:
        raise CertifyError(f"{', '.join(names)} can be certified in the embedded world alone.")
    return fitting


def known_metrics() -> dict[str, Metric]:
    """All that ship, and the measures of installed packages."""
    all_of = (*metrics.MEASURES, *measures_known(), *PANEL, *world_metrics())
    return {metric.name: metric for metric in all_of}


# --- looking at clips -----------------------------------------------------------------------------


def _needed(wanted: Sequence[Metric]) -> tuple[VideoMeasure, ...]:
    """The measures of frames that these metrics are or read; asked once, not once a clip."""
    names = {name for m in wanted for name in (m.name, *getattr(m, "reads", ()))}
    return tuple(m for m in measures_known() if m.name in names)


def _examine(
    source: Source,
    wanted: Sequence[Metric],
    needed: Sequence[VideoMeasure],
    job: Job,
) -> Examined:
    import cv2

    cv2.setNumThreads(1)
    split, index, damage = job
    take = source.take(split, index)
    look = partial(_values, wanted, needed, take.fps, take.text)
    found = Examined({("clean", 0): look(take.frames), ("other", 0): look(take.other)})
    if not damage:
        return found
    for nuisance, change in NUISANCES.items():
        found[nuisance, 0] = look(change(take.frames, take.fps))
    for failure, doses in failures.doses().items():
        for dose in getattr(doses, source.name):
            found[failure, dose] = look(take.damaged(failure, dose))
    return found


def _values(
    wanted: Sequence[Metric],
    needed: Sequence[VideoMeasure],
    fps: float,
    text: str,
    frames: Frames,
) -> Values:
    clip = Clip.of(frames, fps, text, needed)
    return {metric.name: metric.value(clip) for metric in wanted}


def _spread(
    work: Callable[[Job], Examined],
    jobs_of: Sequence[Job],
    jobs: int | None,
) -> Iterator[Examined]:
    """Over processes, in order; one process is this one."""
    count = jobs or os.cpu_count() or 1
    if count == 1:
        yield from map(work, jobs_of)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        yield from pool.map(work, jobs_of)
