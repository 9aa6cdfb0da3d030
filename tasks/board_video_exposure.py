"""The table of the video-exposure task: exposure bias where other true videos are the judge."""

from __future__ import annotations

from dataclasses import replace

from sfbench.boards import Board, Column

from .board_long_horizon import EXPOSURE as EXACT

MEANINGS = {
    "violation_own": "how far its continuation departs from the true prefix beyond what 95 % of "
    "other true videos do at that distance, 0..1, while it continues its own re-encoded frames. "
    "Mean of eight measures. Ranks the table.",
    "exposure_gap": "the same minus that under true context: what feeding on its own frames costs. "
    "0 for a perfect sampler, whatever the future holds.",
    "exposure_ratio": "violation under own context over that under true context, each less that of "
    "the true continuation: 1 is no bias. n/a: under true context there is none to speak of.",
    "prefix_effect": "violation under own context after the shortest true prefix minus after the "
    "longest, at equal distance from them.",
    "context_help": "feature distance from the filmed continuation under another video's frames "
    "minus under the true ones, 1 - cosine. Not above 0: the model ignores its context.",
}
LEFT_OUT = {"excess_error", "excess_accumulated_error"}
MEASURES = {
    "exposure": "brightness",
    "saturation": "saturation",
    "colour": "mean chroma",
    "sharpness": "sharpness: blur and noise",
    "motion": "the flow, in octaves",
    "smoothness": "motion from its own course: what is lost of its smoothness",
    "jump": "the largest change from one frame to the next, in octaves above the usual",
    "look": "image features",
}

EXPOSURE = tuple(
    replace(column, meaning=MEANINGS.get(column.key, column.meaning))
    for column in EXACT
    if column.key not in LEFT_OUT
)
FLOOR = Column(
    "violation_floor",
    "violation, truth",
    None,
    "of the filmed continuations themselves, each by what the others show.",
)
KERNELS = (
    Column(
        "kernel_gap",
        "kernel gap",
        "lower",
        "kernel distance (KID on image features) of its chunks from the true ones under own "
        "context minus under true context, in the last quarter of the continuation.",
        brief=True,
    ),
    Column("kernel_own", "kernel, own", "lower", "that distance under own context."),
    Column("kernel_true", "kernel, true", "lower", "the same under true context."),
    Column(
        "kernel_floor", "kernel, truth", None, "between two halves of the true videos themselves."
    ),
)
DEPARTURES = tuple(
    Column(f"own_{name}", name, "lower", f"departure of {words}, graded 0..1, under own context.")
    for name, words in MEASURES.items()
)

BOARD = Board(
    primary="violation_own",
    parts={
        "Continuing its own frames: exposure bias": (EXPOSURE[0], FLOOR, *EXPOSURE[1:]),
        "As samples: all videos together": KERNELS,
        "What departs under own context": DEPARTURES,
    },
    verdicts={
        "violation_own": ("less violation under its own context", "violation under own context"),
        "exposure_gap": ("less exposure bias", "exposure bias"),
    },
)
