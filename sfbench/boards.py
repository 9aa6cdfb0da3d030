"""What the table of each task shows: its primary estimate, its columns, and their meaning in words.

A task without an entry gets :data:`GENERIC`: its rows are listed with no rank. An estimate that a
run holds but no column names is in ``leaderboard.csv`` all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .schema import Better


@dataclass(frozen=True)
class Column:
    """One estimate as it is shown."""

    key: str
    """Name of the estimate."""
    title: str
    better: Better | None
    meaning: str
    style: str = "{:.3f}"
    brief: bool = False
    """Also in the narrow table of the terminal: 80 characters have room for six."""

    def text(self, value: float | None) -> str:
        """A number as text; ``n/a`` where there is none. Never ``-0.000``."""
        if value is None:
            return "n/a"
        text = self.style.format(value)
        return text.removeprefix("-") if text.strip("-0.% ") == "" else text


@dataclass(frozen=True)
class Board:
    """The table of one task."""

    primary: str | None
    """The estimate that ranks; ``None``: rows are not ranked."""
    parts: dict[str, tuple[Column, ...]] = field(default_factory=dict)
    """Heading -> columns; each part is a table of its own."""
    verdicts: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Estimate -> what the lower side has less of, and that quantity's name. Lower is better."""
    horizon: bool = False
    """Whether a model that makes the whole clip at once stands apart."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of all parts."""
        return tuple(column for part in self.parts.values() for column in part)


EXPOSURE = (
    Column(
        "violation_own",
        "violation, own context",
        "lower",
        "violation of the scene's appearance and of the law of motion, 0..1, while the model "
        "continues its own re-encoded frames after a true prefix. Ranks the table.",
        brief=True,
    ),
    Column(
        "exposure_gap",
        "exposure gap",
        "lower",
        "the same minus the violation under true context: what feeding on its own frames "
        "costs. 0 for a perfect sampler.",
        brief=True,
    ),
    Column(
        "exposure_gap_growth",
        "gap growth",
        "lower",
        "slope of the gap over the continuation, per native horizon; above 0, errors feed on "
        "themselves.",
    ),
    Column(
        "round_trip",
        "round trip",
        "lower",
        "violation streamed from the running cache minus re-encoded: what users get against "
        "the same path as true context.",
    ),
    Column(
        "context_help",
        "context helps",
        "higher",
        "error against the exact continuation under another clip's frames minus under the "
        "true ones, in sides of the frame. Not above 0: the model ignores its context.",
    ),
    Column(
        "excess_error",
        "excess error",
        "lower",
        "distance of the object from its exact place under own context, in sides of the "
        "frame, minus that of an ideal observer of the same prefix.",
    ),
    Column(
        "recovery_half_life",
        "recovery",
        "lower",
        "frames until half of the excess violation after a damaged context is gone; n/a: not "
        "within the clip.",
        style="{:.0f}",
    ),
)

DRIFT = (
    Column(
        "violation_1x",
        "violation at 1x",
        "lower",
        "free generation from the prompt, first native horizon.",
    ),
    Column(
        "violation_8x",
        "violation at 8x",
        "lower",
        "free generation from the prompt, eighth native horizon.",
    ),
    Column(
        "drift",
        "drift at 8x",
        "lower",
        "violation at 8x minus violation at 1x: what a clip loses as it goes on.",
        brief=True,
    ),
    Column(
        "worst_window",
        "worst window",
        "lower",
        "highest violation of any window of a free clip, mean over clips.",
    ),
    Column(
        "alive_8x",
        "alive at 8x",
        "higher",
        "share of free clips in which no measure has left its failure band by the eighth "
        "native horizon.",
        style="{:.0%}",
        brief=True,
    ),
    Column(
        "time_to_failure",
        "time to failure",
        "higher",
        "median frames until a free clip leaves the band.",
        style="{:.0f}",
    ),
    Column(
        "adherence_1x",
        "prompt at 1x",
        "higher",
        "share of the prompt's attributes that the first native horizon shows.",
        style="{:.2f}",
        brief=True,
    ),
    Column("adherence_8x", "prompt at 8x", "higher", "the same for the eighth.", style="{:.2f}"),
    Column(
        "motion_1x",
        "motion at 1x",
        None,
        "persistent speed in units of the lawful speed: 1 is true, 0 is frozen or noise.",
        style="{:.2f}",
        brief=True,
    ),
    Column("motion_8x", "motion at 8x", None, "the same for the eighth.", style="{:.2f}"),
    Column(
        "jitter_8x",
        "jitter at 8x",
        "lower",
        "change of the step between frames away from walls, in lawful steps.",
        style="{:.2f}",
    ),
)

LONG_HORIZON = Board(
    primary="violation_own",
    horizon=True,
    parts={"Continuing its own frames: exposure bias": EXPOSURE, "Free generation: drift": DRIFT},
    verdicts={
        "violation_own": ("less violation under its own context", "violation under own context"),
        "exposure_gap": ("less exposure bias", "exposure bias"),
        "violation_8x": ("less violation after eight horizons", "violation after eight horizons"),
    },
)

STREAMING = (
    Column(
        "fps_full",
        "fps, context full",
        "higher",
        "pixel frames a second after the first native horizon, when the context is full. Ranks "
        "the table.",
        style="{:.1f}",
        brief=True,
    ),
    Column(
        "first_frame",
        "first frame, ms",
        "lower",
        "from the call with the prompt's text to the first frame on the CPU.",
        style="{:.1f}",
        brief=True,
    ),
    Column(
        "gap_p50",
        "gap p50, ms",
        "lower",
        "time between two chunks, median over all chunks.",
        style="{:.1f}",
        brief=True,
    ),
    Column("gap_p95", "gap p95, ms", "lower", "the same, 95th percentile.", style="{:.1f}"),
    Column(
        "gap_p99",
        "gap p99, ms",
        "lower",
        "the same, 99th percentile; n/a: fewer than the 662 chunks it needs.",
        style="{:.1f}",
        brief=True,
    ),
    Column(
        "jitter",
        "jitter, ms",
        "lower",
        "spread of the gaps within a stream (scaled median absolute deviation).",
        style="{:.2f}",
    ),
    Column(
        "late_16",
        "late at 16 fps",
        "lower",
        "share of chunks that came after the one before had been played, at 16 frames a second "
        "and without a buffer.",
        style="{:.0%}",
        brief=True,
    ),
    Column("late_24", "late at 24 fps", "lower", "the same at 24.", style="{:.0%}"),
    Column(
        "fps_slope",
        "fps slope",
        None,
        "change of the pace per native horizon; below 0, a longer past is slower.",
        style="{:.2f}",
    ),
    Column(
        "throughput",
        "fps, whole clip",
        "higher",
        "frames a second of the whole clip, the first chunk included.",
        style="{:.1f}",
    ),
    Column(
        "machine",
        "machine, ms",
        None,
        "what a fixed piece of arithmetic took before each stream. Where rows differ in it, the "
        "machine did, and their times are not to be held against each other.",
        style="{:.1f}",
        brief=True,
    ),
)

STARTING = (
    Column(
        "cold_start",
        "cold start, s",
        "lower",
        "from starting a process to the model being loaded; the files are in the page cache.",
        style="{:.2f}",
    ),
    Column(
        "first_call",
        "first call, s",
        "lower",
        "from there to the first frame: what is set up lazily or compiled is in it.",
        style="{:.2f}",
    ),
    Column(
        "memory_peak",
        "peak memory, MiB",
        "lower",
        "largest resident set of that process, interpreter and libraries included.",
        style="{:.0f}",
    ),
    Column(
        "memory_steady",
        "steady memory, MiB",
        "lower",
        "resident set at the end of the stream.",
        style="{:.0f}",
    ),
    Column("cuda_peak", "CUDA peak, MiB", "lower", "largest allocation by torch.", style="{:.0f}"),
)

LATENCY = Board(
    primary="fps_full",
    horizon=True,
    parts={"Streaming": STREAMING, "Starting, in a process of its own": STARTING},
    verdicts={"first_frame": ("a shorter wait for the first frame", "the wait")},
)

BOARDS = {"long-horizon": LONG_HORIZON, "latency": LATENCY}
GENERIC = Board(primary=None)
