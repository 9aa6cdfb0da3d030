"""What values of metrics on true and damaged clips say of the metrics' declarations.

With ``v`` a metric, ``A`` a true clip, ``B`` another of its kind and ``F(A, d)`` the damaged one:

    scale   = max(1.4826 median |v(A) - v(B) - median|, the metric's resolution)     calibration
    band    = 5 % and 95 % quantile of v(A) - v(B), widened by the resolution        calibration
    z(d)    = median over test takes of (v(F(A, d)) - v(A)) / scale
    alarms  = share of test takes with v(F(A, d)) - v(B) outside the band
    rho     = Spearman's of d against v(F(A, d)) - v(A), over test takes and doses, d = 0 included;
              what is within the resolution is no shift

A dose *moves* a metric if ``|z| >= 3`` or more than half of the takes raise an alarm; it is *told*
if both. Every pair of metric and failure is one of three:

    sees      told at every dose, the smallest included, on one side, and not falling with the dose
              (rho >= 0.3 on that side: what is seen in full at the smallest dose cannot grow)
    blind_to  moved at no dose, and no monotone answer (|rho| < 0.8)
    partly    all else: moved, but not reliably told from the smallest dose on

``sees`` and ``blind_to`` hold if test takes put the pair there, by the figures themselves, without
a margin. ``partly`` promises least and is the label where calibration and test disagree: it fails
only if the test puts the pair elsewhere by the ends of the intervals too. A nuisance holds if at
most a quarter of the takes raise an alarm.

Intervals are of 95 %: of z and rho by bootstrap over clips with fixed seeds (for z those of the
yardstick are drawn anew as well; that of rho is moved until its median is the figure), of shares
Wilson's. No two clips are of one video.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from . import failures
from .certification import Certification, Declared, Dose, Film, Interval, Quiet, Response
from .failures import NUISANCES
from .metrics import Metric
from .panel import PANEL
from .registry import load, providers
from .stats import wilson

Floats = NDArray[np.float64]
Values = dict[str, float | None]

SEEN_Z, SEEN_RHO, SEEN_ALARMS, MONOTONE = 3.0, 0.3, 0.5, 0.8
BAND = (0.05, 0.95)
MAD = 1.4826
FALSE_ALARMS = 0.25
"""Share of takes in which a nuisance may raise an alarm. The band leaves out a tenth of what truth
does, and a little more of other truth; of eight takes two may."""
OTHER_SEEDS = "other seeds"
RESAMPLES, ENDS, SEED = 1000, (0.025, 0.975), 0


class Examined(dict[tuple[str, float], Values]):
    """Values of every metric by (what was done to the clip, dose)."""


class Judged(Protocol):
    """What is to be known of where the clips come from."""

    name: str
    words: str
    unjudged: str
    films: tuple[Film, ...]


def judge(
    wanted: Sequence[Metric],
    source: Judged,
    calibration: Sequence[Examined],
    test: Sequence[Examined],
) -> Certification:
    """What the values say of the declarations."""
    damaged = [take for take in test if len(take) > 2]
    responses: list[Response] = []
    quiet: list[Quiet] = []
    for metric in wanted:
        yard = Yardstick(metric, calibration)
        responses += [_response(metric, f, source, yard, damaged) for f in failures.doses()]
        quiet.append(_quiet(metric, OTHER_SEEDS, source, yard, "clean", test))
        quiet += [_quiet(metric, n, source, yard, n, damaged) for n in NUISANCES]
    world = {metric.name for metric in world_metrics()} if source.name == "world" else set()
    panel = {metric.name for metric in PANEL} | world
    covered = {
        r.failure for r in responses if r.metric in panel and r.declared == "sees" and r.holds
    }
    whole = panel <= {metric.name for metric in wanted} and not source.unjudged
    return Certification(
        source=source.words,
        clips=len(damaged),
        calibration=len(calibration),
        doses_sha256=failures.doses_sha256(),
        films=source.films,
        unjudged=source.unjudged,
        responses=tuple(responses),
        quiet=tuple(quiet),
        unseen=tuple(f for f in failures.doses() if f not in covered) if whole else (),
    )


def world_metrics() -> tuple[Metric, ...]:
    """Those that know the embedded world."""
    return tuple(m for name in providers("oracles") for m in load("oracles", name))


class Yardstick:
    """What truth alone does to a metric."""

    def __init__(self, metric: Metric, calibration: Sequence[Examined]) -> None:
        self.name, self.resolution = metric.name, metric.resolution
        self.worst = _worst(metric)
        apart = np.array([self._difference(take, "clean", 0) for take in calibration])
        self.scale = float(self._scales(apart[None])[0])
        self.scales = self._scales(apart[_drawn(len(apart), SEED + 1)])
        """Of resampled calibration, ``[RESAMPLES]``."""
        low, high = np.quantile(apart, BAND)
        self.low, self.high = float(low) - metric.resolution, float(high) + metric.resolution

    def _scales(self, apart: Floats) -> Floats:
        """Of samples in rows."""
        middle = np.median(apart, axis=1, keepdims=True)
        spread: Floats = MAD * np.median(np.abs(apart - middle), axis=1)
        return np.maximum(spread, self.resolution)

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


def label(response: Response) -> Declared:
    """Where the figures put a metric and a failure."""
    if _told(response.doses, response.rho):
        return "sees"
    moved = any(abs(d.z) >= SEEN_Z or d.alarms > SEEN_ALARMS for d in response.doses)
    monotone = response.rho is not None and abs(response.rho) >= MONOTONE
    return "partly" if moved or monotone else "blind_to"


# --- one metric and failure -----------------------------------------------------------------------


def _response(
    metric: Metric, failure: str, source: Judged, yard: Yardstick, test: Sequence[Examined]
) -> Response:
    line = failures.doses()[failure]
    doses: tuple[float, ...] = getattr(line, source.name)
    shifts = np.array([[yard.shift(take, failure, dose) for dose in doses] for take in test])
    alarms = [float(np.mean([yard.alarm(t, failure, dose) for t in test])) for dose in doses]
    drawn = _drawn(len(test), SEED)
    medians = np.median(shifts[drawn], axis=1)
    rho = _rho(doses, shifts, yard.resolution)
    found = Response(
        metric=metric.name,
        version=metric.version,
        failure=failure,
        unit=line.unit,
        declared=metric.declared(failure),
        rho=rho,
        rho_interval=_rho_interval(rho, doses, shifts[drawn], yard.resolution),
        doses=tuple(
            Dose(
                dose=dose,
                z=round(float(np.median(shifts[:, n])) / yard.scale, 3),
                z_interval=_ends(medians[:, n] / yard.scales, 3),
                alarms=round(alarms[n], 4),
                alarms_interval=_wilson(alarms[n], len(test)),
            )
            for n, dose in enumerate(doses)
        ),
        holds=None,
    )
    return found.model_copy(update={"holds": _holds(found, source)})


def _holds(found: Response, source: Judged) -> bool | None:
    """Of a folder only what is declared as seen is judged, at the largest dose."""
    if source.unjudged:
        return None
    if source.name != "world":
        return _told(found.doses[-1:], found.rho) if found.declared == "sees" else None
    if found.declared == "partly":
        return not _surely_told(found) and not _surely_nothing(found)
    return label(found) == found.declared


def _told(doses: Sequence[Dose], rho: float | None) -> bool:
    """Whether all of these doses are told, on one side, and the answer does not fall."""
    side = np.sign(doses[0].z)
    told = all(d.z * side >= SEEN_Z and d.alarms > SEEN_ALARMS for d in doses)
    return told and rho is not None and rho * side >= SEEN_RHO


def _surely_told(found: Response) -> bool:
    """Whether every dose is told at the lower ends of its intervals too."""
    return _told(found.doses, found.rho) and all(
        min(abs(end) for end in d.z_interval or (0.0,)) >= SEEN_Z
        and (d.alarms_interval or (0.0,))[0] > SEEN_ALARMS
        for d in found.doses
    )


def _surely_nothing(found: Response) -> bool:
    """Whether no dose moves the metric at the upper ends of its intervals either."""
    still = all(
        max(abs(end) for end in d.z_interval or (np.inf,)) < SEEN_Z
        and (d.alarms_interval or (1.0,))[-1] <= SEEN_ALARMS
        for d in found.doses
    )
    if found.rho is None:
        return still
    return still and max(abs(end) for end in found.rho_interval or (1.0,)) < MONOTONE


def _rho(doses: Sequence[float], shifts: Floats, resolution: float) -> float | None:
    """Spearman's, with no shift at no dose; by the size of the dose."""
    size, value = _paired(doses, shifts[None], resolution)
    if np.ptp(value) == 0:
        return None
    return round(float(stats.spearmanr(size[0], value[0]).statistic), 4)


def _rho_interval(
    rho: float | None, doses: Sequence[float], resampled: Floats, resolution: float
) -> Interval | None:
    """Of a :func:`_rho`, by shifts ``[RESAMPLES, clips, doses]``."""
    if rho is None:
        return None
    size, value = _paired(doses, resampled, resolution)
    ranks = [stats.rankdata(side, axis=1) for side in (size, value)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    spread = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    known = spread > 0  # else none of the clips that were drawn shifts
    drawn = np.where(known, (x * y).sum(axis=1) / np.where(known, spread, 1), 0.0)
    # Clips that are drawn twice tie, which alone moves a rank correlation.
    middle = rho - float(np.median(drawn))
    low, high = _ends(drawn + middle, 4)
    return max(-1.0, low), min(1.0, high)


def _paired(doses: Sequence[float], shifts: Floats, resolution: float) -> tuple[Floats, Floats]:
    """Sizes of doses and shifts ``[samples, clips * (1 + doses)]``."""
    samples, clips, _ = shifts.shape
    size = np.tile(np.abs([0.0, *doses]), (samples, clips))
    beyond = np.where(np.abs(shifts) > resolution, shifts, 0.0)
    none = np.zeros((samples, clips, 1))
    return size, np.concatenate([none, beyond], axis=2).reshape(samples, -1)


# --- one metric and nuisance ----------------------------------------------------------------------


def _quiet(
    metric: Metric,
    nuisance: str,
    source: Judged,
    yard: Yardstick,
    what: str,
    takes: Sequence[Examined],
) -> Quiet:
    share = float(np.mean([yard.alarm(take, what, 0) for take in takes]))
    return Quiet(
        metric=metric.name,
        nuisance=nuisance,
        alarms=round(share, 4),
        interval=_wilson(share, len(takes)),
        n=len(takes),
        holds=None if source.unjudged else share <= FALSE_ALARMS,
    )


# --- helpers --------------------------------------------------------------------------------------


def _worst(metric: Metric) -> float:
    """The end of its bounds that is worse; of a metric without a better end, the lower one."""
    low, high = metric.bounds
    end = high if metric.better == "lower" else low
    return 0.0 if end is None else float(end)


@cache
def _drawn(clips: int, seed: int) -> NDArray[np.int_]:
    """Which clips each resample holds, ``[RESAMPLES, clips]``; always the same."""
    return np.random.default_rng(seed).integers(clips, size=(RESAMPLES, clips))


def _ends(values: Floats, digits: int) -> Interval:
    low, high = np.quantile(values, ENDS)
    return round(float(low), digits), round(float(high), digits)


def _wilson(share: float, n: int) -> Interval:
    low, high = wilson(share * n, n)
    return round(low, 4), round(high, 4)
