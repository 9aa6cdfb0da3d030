"""Tables of finished videos: none is ranked, for without an oracle a proxy can be gamed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sfbench.boards import Board, Column
from sfbench.compat import SCORERS
from sfbench.schema import Better
from sfbench.vbench import DIMENSIONS

from .board_quality import PROXIES, WORLD

BRIEF = {
    "temporal_flickering",
    "motion_magnitude",
    "warping_error",
    "consistency_first_effnet",
}

VBENCH = (
    Column(
        "vbench_total",
        "VBench total",
        "higher",
        "per cent; given only where all 16 dimensions were scored on VBench's own prompts, five "
        "videos each, with the published weights.",
        style="{:.2f}",
        brief=True,
    ),
    Column("vbench_quality", "VBench quality", "higher", "per cent.", style="{:.2f}"),
    Column("vbench_semantic", "VBench semantic", "higher", "per cent.", style="{:.2f}"),
    *(
        Column(
            f"vbench_{name}",
            name.replace("_", " "),
            "higher",
            "VBench's own score, 0..1, by the package itself.",
            style="{:.4f}",
        )
        for name in DIMENSIONS
    ),
)

QUALITY = Board(
    primary=None,
    parts={
        "Proxies of our own; temporal flickering is VBench's formula": tuple(
            replace(column, brief=column.key in BRIEF) for column in PROXIES
        ),
        "Distance from the true videos of --against": tuple(
            replace(column, brief=False) for column in WORLD if "kernel_features" in column.key
        ),
        "VBench, by the package itself": VBENCH,
    },
)


def _renamed(suffix: str, words: str, meaning: str, brief: set[str]) -> tuple[Column, ...]:
    """The proxies under ``<name>_<suffix>``; a whole video's own measures are left out."""
    return tuple(
        replace(
            column,
            key=f"{column.key}_{suffix}",
            title=f"{column.title}, {words}",
            better=None,
            meaning=f"{meaning}: {column.meaning}",
            brief=column.key in brief,
        )
        for column in PROXIES
        if not column.key.startswith(("cuts", "consistency"))
    )


PANEL = (
    Column(
        "lost",
        "lost",
        "lower",
        "share of videos that leave, in any measure of the panel, what the true videos of "
        "--against show; n/a without them.",
        style="{:.0%}",
        brief=True,
    ),
    Column(
        "lost_floor",
        "lost, truth",
        None,
        "the same of true videos, each half by the limits of the other.",
        style="{:.0%}",
    ),
    Column(
        "motion_ratio",
        "motion, of truth's",
        None,
        "how fast the frames that move do so, in units of the true videos of --against; under .7, "
        "and slower by a rank-sum test at .001, is flagged as slow motion.",
        style="{:.2f}",
    ),
    Column(
        "disorder",
        "disorder",
        "lower",
        "share of random orders of a video's frames whose neighbours differ no more than its own: "
        "0 for any video that plays, .5 for frames in no order.",
        style="{:.2f}",
    ),
    *(
        Column(f"panel_{name}", name.replace("_", " "), "lower", meaning, style="{:.3f}")
        for name, meaning in (
            ("exposure_change", "largest departure of a window's luma from the first window's."),
            ("saturation_change", "the same of saturation."),
            ("sharpness_change", "the same of sharpness: blur and noise."),
            ("colour_change", "the same of mean chroma."),
            ("motion_change", "the same of the flow, in octaves."),
            ("still_share", "share of frames that repeat the one before."),
            ("return_share", "share of moving frames that look like an earlier one: loops."),
            ("jump_peak", "largest change between two frames over the median, in octaves."),
        )
    ),
)
_PAPERS: tuple[tuple[str, str, str, Better | None, str], ...] = (
    ("contrast", "start-end", "contrast", "lower", ""),
    ("contrast_signed", "start-end, signed", "contrast", None, " with its sign, end - start"),
    ("delta_drift", "delta-drift", "delta_drift", "lower", ", then the mean over videos"),
    (
        "delta_drift_means",
        "delta-drift of means",
        "delta_drift",
        "lower",
        " of the means over videos: the paper does not say which",
    ),
    ("vde", "VDE", "vde", "lower", " as published"),
    ("vde_corrected", "VDE corrected", "vde_corrected", "lower", " with a fixed s"),
)
"""Estimate, title, scorer, direction, and what is to be added to the scorer's formula."""


def _papers(proxies: tuple[str, ...]) -> Iterator[Column]:
    """One column a score and proxy; the first proxy's says all, the others' what differs."""
    for key, title, scorer, better, more in _PAPERS:
        of = SCORERS[scorer]
        meaning = f"{of.formula}{more} ({of.source}). Blind to {of.blind_to}. Here M is our "
        for proxy in proxies:
            words = proxy.split("_")[0]
            yield Column(f"{proxy}_{key}", f"{title}, {words}", better, f"{meaning}{words}.")
            meaning = "the same of our "


PAPERS = tuple(_papers(("sharpness", "exposure", "saturation", "motion_magnitude")))

DRIFT = Board(
    primary=None,
    parts={
        "Panel: held against true videos": PANEL,
        "Change along the video: proxies of our own": _renamed(
            "change",
            "change",
            "last whole window minus the first",
            {"motion_magnitude", "sharpness", "exposure", "saturation"},
        ),
        "Where it started": _renamed("start", "first", "in the first window", set()),
        "As other papers compute it, on our proxies: not comparable with their own figures": PAPERS,
    },
)
