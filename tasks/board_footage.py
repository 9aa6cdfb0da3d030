"""Tables of finished videos: none is ranked, for without an oracle a proxy can be gamed."""

from __future__ import annotations

from dataclasses import replace

from sfbench.boards import Board, Column
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


DRIFT = Board(
    primary=None,
    parts={
        "Change along the video: proxies of our own": _renamed(
            "change",
            "change",
            "last whole window minus the first",
            {"motion_magnitude", "sharpness", "exposure", "saturation"},
        ),
        "Where it started": _renamed("start", "first", "in the first window", set()),
    },
)
