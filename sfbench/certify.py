"""Certify the metrics: inject failures of known size, and hold each metric to what it declares.

A *take* is a true clip to damage and another true clip of the same kind (in the embedded world: of
the same prompt; of a folder: the next piece of the same video). The difference of a metric between
the two is what truth alone does; its spread over calibration takes is the yardstick. Test takes are
others than those. With ``v`` a metric, ``A`` the clip, ``B`` the other and ``F(A, d)`` the damaged:

    scale   = max(1.4826 median |v(A) - v(B) - median|, the metric's resolution)     calibration
    band    = 5 % and 95 % quantile of v(A) - v(B), widened by the resolution        calibration
    z(d)    = median over test takes of (v(F(A, d)) - v(A)) / scale
    alarms  = share of test takes with v(F(A, d)) - v(B) outside the band
    rho     = Spearman's of d against v(F(A, d)) - v(A), over test takes and doses, d = 0 included

A metric *sees* a failure if at every dose of ``doses.yaml``, the smallest included, ``|z| >= 3``
on one side and more than half of the takes raise an alarm, and if it does not fall with the dose
(``|rho| >= 0.3``: what is seen in full at the smallest dose cannot grow). What it declares to see
it must see; what it declares itself blind to it must not see by a clear margin (``|z| >= 5`` with
all the rest): between the two either declaration may stand. Nuisances must raise few alarms.

Declarations speak of the embedded world, where the panel is that for any video and the oracle's
violations together. A folder's videos differ more among themselves than doses can be fixed for:
there a declaration holds if the *largest* dose is seen, and the table says what is seen from where.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from . import failures, metrics
from .certification import Certification, Dose, Quiet, Response
from .failures import NUISANCES
from .interfaces import Frames
from .metrics import Metric
from .metrics_video import VideoMeasure, measures_known
from .panel import PANEL, Clip
from .registry import load, providers, unknown

Floats = NDArray[np.float64]
Values = dict[str, float | None]
Progress = Callable[[int, int], None]

CALIBRATION, TEST, QUIET = 24, 8, 16
"""Takes: for the yardstick, to be damaged, and (with the latter) for false alarms."""
SEEN_Z, CLEAR_Z, SEEN_RHO, SEEN_ALARMS = 3.0, 5.0, 0.3, 0.5
BAND = (0.05, 0.95)
MAD = 1.4826
FALSE_ALARMS = 0.25
"""Share of takes in which a nuisance may raise an alarm. The band leaves out a tenth of what truth
does, and a little more of other truth; of eight takes two may."""
OTHER_SEEDS = "other seeds"


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

    def take(self, split: str, index: int) -> Take:
        """``split``: ``selection`` (calibration) or ``test``."""
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
    wanted = chosen(names, source.name)
    work = partial(_examine, source, tuple(wanted), _needed(wanted))
    quiet = tests + QUIET
    jobs_of = [("selection", i, False) for i in range(CALIBRATION)]
    jobs_of += [("test", i, i < tests) for i in range(quiet)]
    # The damaged ones first: they take longest.
    order = sorted(range(len(jobs_of)), key=lambda n: not jobs_of[n][2])
    found: dict[int, Examined] = {}
    for n, examined in zip(order, _spread(work, [jobs_of[n] for n in order], jobs), strict=True):
        found[n] = examined
        progress(len(found), len(order))
    results = [found[n] for n in range(len(jobs_of))]
    return judge(wanted, source, results[:CALIBRATION], results[CALIBRATION:])


def chosen(names: Sequence[str], source: str) -> list[Metric]:
    """The metrics behind names (all without any), as far as the source has what they need."""
    known = known_metrics()
    for name in names:
        if name not in known:
            raise CertifyError(unknown("metric", name, known))
    fitting = [
        m
        for m in (known[name] for name in names or known)
        if source == "world" or m.name not in _of_world()
    ]
    if not fitting:
        raise CertifyError(f"{', '.join(names)} can be certified in the embedded world alone.")
    return fitting


def known_metrics() -> dict[str, Metric]:
    """All that ship, and the measures of installed packages."""
    all_of = (*metrics.MEASURES, *measures_known(), *PANEL, *_world_metrics())
    return {metric.name: metric for metric in all_of}


def _world_metrics() -> tuple[Metric, ...]:
    return tuple(m for name in providers("oracles") for m in load("oracles", name))


def _of_world() -> set[str]:
    return {metric.name for metric in _world_metrics()}


# --- looking at clips -----------------------------------------------------------------------------


class Examined(dict[tuple[str, float], Values]):
    """Values of every metric by (what was done to the clip, dose)."""


def _needed(wanted: Sequence[Metric]) -> tuple[VideoMeasure, ...]:
    """The measures of frames that these metrics are or read; asked once, not once a clip."""
    names = {name for m in wanted for name in (m.name, *getattr(m, "reads", ()))}
    return tuple(m for m in measures_known() if m.name in names)


def _examine(
    source: Source,
    wanted: Sequence[Metric],
    needed: Sequence[VideoMeasure],
    job: tuple[str, int, bool],
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
    work: Callable[[tuple[str, int, bool]], Examined],
    jobs_of: Sequence[tuple[str, int, bool]],
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


# --- judging --------------------------------------------------------------------------------------


def judge(
    wanted: Sequence[Metric],
    source: Source,
    calibration: Sequence[Examined],
    test: Sequence[Examined],
) -> Certification:
    """What the values say of the declarations."""
    damaged = [take for take in test if len(take) > 2]
    responses: list[Response] = []
    quiet: list[Quiet] = []
    for metric in wanted:
        yard = Yardstick(metric, calibration)
        responses += [_response(metric, f, source.name, yard, damaged) for f in failures.doses()]
        alarms = [yard.alarm(take, "clean", 0) for take in test]
        quiet.append(_quiet(metric, OTHER_SEEDS, alarms))
        quiet += [
            _quiet(metric, nuisance, [yard.alarm(take, nuisance, 0) for take in damaged])
            for nuisance in NUISANCES
        ]
    panel = {metric.name for metric in PANEL} | (_of_world() if source.name == "world" else set())
    doses_that_count = slice(None) if source.name == "world" else slice(-1, None)
    covered = {
        r.failure
        for r in responses
        if r.metric in panel and _seen(r.doses[doses_that_count], r.rho, SEEN_Z)
    }
    whole = panel <= {metric.name for metric in wanted}
    return Certification(
        source=source.words,
        clips=len(damaged),
        responses=tuple(responses),
        quiet=tuple(quiet),
        unseen=tuple(f for f in failures.doses() if f not in covered) if whole else (),
    )


class Yardstick:
    """What truth alone does to a metric."""

    def __init__(self, metric: Metric, calibration: Iterable[Examined]) -> None:
        self.name = metric.name
        self.worst = _worst(metric)
        apart = np.array([self._difference(take, "clean", 0) for take in calibration])
        spread = MAD * float(np.median(np.abs(apart - np.median(apart))))
        self.scale = max(spread, metric.resolution)
        low, high = np.quantile(apart, BAND)
        self.low, self.high = float(low) - metric.resolution, float(high) + metric.resolution

    def value(self, take: Examined, what: str, dose: float) -> float:
        """A metric that a damaged clip has no value of (nothing moves) is at its worst."""
        value = take[what, dose][self.name]
        return self.worst if value is None else value

    def shift(self, take: Examined, what: str, dose: float) -> float:
        """From the untouched clip."""
        return self.value(take, what, dose) - self.value(take, "clean", 0)

    def alarm(self, take: Examined, what: str, dose: float) -> bool:
        """Whether the difference from the other true clip is one that truth does not make."""
        return not self.low <= self._difference(take, what, dose) <= self.high

    def _difference(self, take: Examined, what: str, dose: float) -> float:
        return self.value(take, what, dose) - self.value(take, "other", 0)


def _response(
    metric: Metric, failure: str, source: str, yard: Yardstick, test: Sequence[Examined]
) -> Response:
    line = failures.doses()[failure]
    doses: tuple[float, ...] = getattr(line, source)
    shifts = np.array([[yard.shift(take, failure, dose) for dose in doses] for take in test])
    response = Response(
        metric=metric.name,
        version=metric.version,
        failure=failure,
        unit=line.unit,
        declared="sees" if failure in metric.sees else "blind_to",
        rho=_rho(doses, shifts),
        doses=tuple(
            Dose(
                dose=dose,
                z=round(float(np.median(shifts[:, n])) / yard.scale, 3),
                alarms=round(float(np.mean([yard.alarm(t, failure, dose) for t in test])), 4),
            )
            for n, dose in enumerate(doses)
        ),
        holds=True,
    )
    if source != "world":
        holds = response.declared != "sees" or _seen(response.doses[-1:], response.rho, SEEN_Z)
    elif response.declared == "sees":
        holds = _seen(response.doses, response.rho, SEEN_Z)
    else:
        holds = not _seen(response.doses, response.rho, CLEAR_Z)
    return response.model_copy(update={"holds": holds})


def _seen(doses: Sequence[Dose], rho: float | None, z: float) -> bool:
    """Whether a metric answers to all of these doses, on one side."""
    side = np.sign(doses[0].z)
    told = all(dose.z * side >= z and dose.alarms > SEEN_ALARMS for dose in doses)
    return told and rho is not None and rho * side >= SEEN_RHO


def _rho(doses: Sequence[float], shifts: Floats) -> float | None:
    """Spearman's, with no shift at no dose; by the size of the dose."""
    size = np.tile(np.abs([0.0, *doses]), len(shifts))
    value = np.concatenate([np.zeros((len(shifts), 1)), shifts], axis=1).ravel()
    if np.ptp(value) == 0:
        return None
    return round(float(stats.spearmanr(size, value).statistic), 4)


def _quiet(metric: Metric, nuisance: str, alarms: Sequence[bool]) -> Quiet:
    share = float(np.mean(alarms))
    return Quiet(
        metric=metric.name,
        nuisance=nuisance,
        alarms=round(share, 4),
        holds=share <= FALSE_ALARMS,
    )


def _worst(metric: Metric) -> float:
    """The end of its bounds that is worse; of a metric without a better end, the lower one."""
    low, high = metric.bounds
    end = high if metric.better == "lower" else low
    return 0.0 if end is None else float(end)
