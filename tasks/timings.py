"""What the streams of one model come to: the latency task's estimates, each over turns.

Everything here takes ``(turn, ...)`` pairs in the order of play. Turns are the clusters: what is
played in one shares a moment of the machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from sfbench import stats
from sfbench.latency import Stream
from sfbench.schema import Better, Curve, Estimate, ModelCard, Startup, Timing

from .conclusion import Conclusion

NATIVE = 12  # frames, where a model does not say
PERCENTILES = (0.5, 0.95, 0.99)
RATES = (16, 24)  # frames a second that a viewer may want
PARTS = ("text", "denoise", "cache", "decode")
EXPLAINED = 0.05  # the parts must add up to the whole within this
TURN = "turn"

Value = TypeVar("Value")
Streams = Sequence[tuple[str, Stream]]


def measure(model: ModelCard, timings: Sequence[tuple[str, Timing]]) -> Conclusion:
    """Conclude from the plain streams."""
    found = Conclusion()
    streams = [(turn, Stream.of(timing)) for turn, timing in timings]
    first = by_turn((turn, 1000 * s.first_frame) for turn, s in streams)
    _add(found, "first_frame", first, unit="ms", better="lower")
    throughput = by_turn((turn, sum(s.frames) / sum(s.seconds)) for turn, s in streams)
    _add(found, "throughput", throughput, unit="frames a second", better="higher")
    speeds = [(turn, t.machine_s) for turn, t in timings]
    machine = by_turn((turn, 1000 * s) for turn, s in speeds if s is not None)
    _add(found, "machine", machine, unit="ms")
    if model.causal:
        _gaps(found, streams, model)
    else:
        _in_one_piece(found)
    return found


def starts(found: Conclusion, starts: Sequence[tuple[str, Startup]]) -> None:
    """What it takes to start, in processes of their own."""
    _add(
        found,
        "cold_start",
        by_turn((turn, s.ready_s) for turn, s in starts),
        unit="s",
        better="lower",
    )
    first = by_turn((turn, s.first_frame_s - s.ready_s) for turn, s in starts)
    _add(found, "first_call", first, unit="s", better="lower")
    memory = {
        "memory_peak": [(turn, s.peak_bytes) for turn, s in starts],
        "memory_steady": [(turn, s.steady_bytes) for turn, s in starts],
        "cuda_peak": [(turn, s.cuda_peak_bytes) for turn, s in starts],
    }
    for name, sizes in memory.items():
        sample = by_turn((turn, size / 2**20) for turn, size in sizes if size is not None)
        _add(found, name, sample, unit="MiB", better="lower")


def _gaps(found: Conclusion, streams: Streams, model: ModelCard) -> None:
    """Everything that needs more than one chunk."""
    native = model.native_frames or NATIVE
    for q in PERCENTILES:
        _percentile(found, f"gap_p{100 * q:.0f}", gaps(streams), q)
    jitter = by_turn((turn, 1000 * s.jitter) for turn, s in streams if s.jitter is not None)
    _add(found, "jitter", jitter, unit="ms", better="lower")
    for rate in RATES:
        late = by_turn((turn, miss) for turn, s in streams for miss in s.misses(rate))
        name = f"late_{rate}"
        found.estimates[name] = stats.share(late, unit="share", better="lower", over=TURN)
        found.per_prompt[name] = stats.by_prompt(late)
    pairs = [(turn, s.pace(after=native)) for turn, s in streams]
    full = by_turn((turn, pace) for turn, pace in pairs if pace is not None)
    _add(found, "fps_full", full, unit="frames a second", better="higher")
    latents = {turn: [p / model.frames_per_latent for p in paces] for turn, paces in full.items()}
    _add(found, "latents_full", latents, unit="latent frames a second", better="higher")
    _paces(found, [(turn, s) for turn, s in streams if len(s.gaps) > 1], native)


def gaps(streams: Streams) -> dict[str, list[float]]:
    """Milliseconds between two chunks, by turn."""
    return by_turn((turn, 1000 * gap) for turn, stream in streams for gap in stream.gaps)


def _percentile(found: Conclusion, name: str, sample: Mapping[str, list[float]], q: float) -> None:
    """Of all gaps and, where each turn has enough of them, of each turn."""
    found.estimates[name] = stats.percentile(sample, q, unit="ms", better="lower", over=TURN)
    own = _own(sample, q)
    if own and len(own) == len(sample):
        found.per_prompt[name] = own


def percentile_difference(
    first: Mapping[str, list[float]],
    second: Mapping[str, list[float]],
    q: float,
    confidence: float = stats.CONFIDENCE,
) -> Estimate:
    """Between the percentiles of the gaps of two models, turn by turn.

    Over the turns in which both have the gaps that a percentile needs. From fewer it is no more
    than nearly the largest gap of the turn, which is not what the published percentile is.
    """
    one, other = _own(first, q), _own(second, q)
    both = len(one.keys() & other.keys())
    if both < 2:
        of, turns = f"{100 * q:g} of a turn", len(first.keys() | second.keys())
        reason = f"percentile {of} takes {stats.least_for(q)} gaps: both have {both} such turns"
        return stats.missing(f"n/a: {reason} of {turns}", unit="ms", better="lower")
    return stats.difference(one, other, unit="ms", better="lower", over=TURN, confidence=confidence)


def _own(sample: Mapping[str, list[float]], q: float) -> dict[str, float]:
    """The percentile of each turn that has enough gaps."""
    return {
        turn: round(float(np.quantile(values, q, method="inverted_cdf")), stats.DIGITS)
        for turn, values in sample.items()
        if len(values) >= stats.least_for(q)
    }


def _paces(found: Conclusion, streams: Streams, native: int) -> None:
    """How the pace changes along the stream."""
    if len({s.frames for _, s in streams}) != 1:
        found.estimates["fps_slope"] = stats.missing("n/a: streams came in unequal chunks")
        return
    chunks = streams[0][1].frames
    ends = [float(sum(chunks[: k + 1])) for k in range(1, len(chunks))]
    rows = by_turn((turn, s.paces) for turn, s in streams)
    unit = "frames a second per native horizon"
    found.add_slope("fps_slope", rows, [end / native for end in ends], unit=unit, over=TURN)
    found.curves["pace"] = Curve(
        x=tuple(ends),
        x_label="frame",
        y=tuple(
            stats.mean(
                {turn: [row[k] for row in group] for turn, group in rows.items()},
                unit="frames a second",
                over=TURN,
            )
            for k in range(len(ends))
        ),
    )


def _in_one_piece(found: Conclusion) -> None:
    names = [f"gap_p{100 * q:.0f}" for q in PERCENTILES] + [f"late_{rate}" for rate in RATES]
    for name in (*names, "jitter", "fps_full", "latents_full", "fps_slope"):
        found.estimates[name] = stats.missing("n/a: makes the whole clip at once")


def switches(
    found: Conclusion, model: ModelCard, timings: Sequence[tuple[str, int, Timing]]
) -> None:
    """From saying another prompt to the first frame under it."""
    if not model.switches_prompt:
        found.estimates["switch"] = stats.missing("n/a: cannot change its prompt while it streams")
        return
    waits = by_turn((turn, 1000 * Stream.of(t).wait_at(frame)) for turn, frame, t in timings)
    _add(found, "switch", waits, unit="ms", better="lower")


def parts(found: Conclusion, timings: Sequence[tuple[str, Timing]]) -> None:
    """Where a chunk's time goes, if the model says and its parts add up to the whole.

    The text is embedded once, in the first chunk; the other parts are those of a later chunk, or of
    the only one.
    """
    named = [(turn, [{k: c.get(k, 0.0) for k in PARTS} for c in t.spans]) for turn, t in timings]
    whole = [sum(seconds for _, seconds in t.chunks) for _, t in timings]
    share = by_turn(
        (turn, sum(sum(c.values()) for c in chunks) / total)
        for (turn, chunks), total in zip(named, whole, strict=True)
    )
    if not any(any(group) for group in share.values()):
        for name in ("explained", *(f"part_{part}" for part in PARTS)):
            found.estimates[name] = stats.missing("n/a: names no part")
        return
    _add(found, "explained", share, unit="share")
    told = found.estimates["explained"].value
    if told is None or abs(told - 1) > EXPLAINED:
        reason = "n/a" if told is None else f"n/a: the parts it names are {told:.0%} of the time"
        for name in PARTS:
            found.estimates[f"part_{name}"] = stats.missing(reason)
        return
    for name in PARTS:
        times = by_turn(
            (turn, 1000 * c[name]) for turn, chunks in named for c in _told(name, chunks)
        )
        _add(found, f"part_{name}", times, unit="ms", better="lower")


def _told(part: str, chunks: list[dict[str, float]]) -> list[dict[str, float]]:
    """The chunks in which a part is as it always is."""
    return chunks[:1] if part == "text" else chunks[1:] or chunks


# --- by turn --------------------------------------------------------------------------------------


def by_turn(pairs: Iterable[tuple[str, Value]]) -> dict[str, list[Value]]:
    """Values of each turn, in the order of play."""
    found: dict[str, list[Value]] = defaultdict(list)
    for turn, value in pairs:
        found[turn].append(value)
    return dict(found)


def _add(
    found: Conclusion,
    name: str,
    sample: Mapping[str, Sequence[float]],
    *,
    unit: str,
    better: Better | None = None,
) -> None:
    """Publish a mean over turns, and the turns."""
    found.estimates[name] = stats.mean(sample, unit=unit, better=better, over=TURN)
    found.per_prompt[name] = {
        turn: round(value, stats.DIGITS) for turn, value in stats.by_prompt(sample).items()
    }
