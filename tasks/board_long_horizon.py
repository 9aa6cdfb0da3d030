"""The long-horizon table: exposure bias ranks it, drift stands beside it."""

from __future__ import annotations

from sfbench.boards import Board, Column

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
        "exposure_growth_class",
        "faster than linear",
        "lower",
        "evidence (BIC) that the gap bends upwards with the length of the own context. Above 0: it "
        "grows faster than linearly; else linearly, slower, or not at all.",
        style="{:.1f}",
    ),
    Column(
        "exposure_ratio",
        "exposure ratio",
        "lower",
        "violation under own context over that under true context: 1 is no bias. n/a: under true "
        "context there is no violation to speak of.",
        style="{:.2f}",
    ),
    Column(
        "exposure_ratio_area",
        "ratio area",
        "lower",
        "the logarithm of that ratio, averaged over the continuation: 0 is no bias, .69 twice the "
        "violation.",
    ),
    Column(
        "exposure_ratio_growth",
        "ratio growth",
        "lower",
        "slope of that logarithm over the continuation, per native horizon: 0 is a ratio that "
        "stays, .69 one that doubles with each horizon.",
    ),
    Column(
        "prefix_effect",
        "short prefix",
        None,
        "violation under own context after 6 true frames minus after 24, at equal distance from "
        "them: what a longer true past would help.",
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
        "excess_accumulated_error",
        "accumulated, %",
        "lower",
        "that error, added up over the continuation, in per cent above what the errors under true "
        "context add up to. 0: errors add up and no more.",
        style="{:.0f}",
    ),
    Column(
        "context_sensitivity",
        "own errors / noise",
        None,
        "how far its own errors in the context move the next frames, over how far white noise of "
        "equal size does. Above 1 it is their direction that matters; an ideal observer has 6.",
        style="{:.2f}",
    ),
    Column(
        "twin_divergence",
        "twins diverge",
        None,
        "growth rate of the distance between two rollouts from prefixes that differ by a level "
        "here and there, per native horizon. Below 0: it forgets a disturbance; an ideal observer, "
        "for whom a slightly wrong speed adds up, has .5.",
        style="{:.2f}",
    ),
    Column(
        "recovery_half_life",
        "recovery",
        "lower",
        "frames until half of the excess violation after a damaged context is gone; n/a: not "
        "within the clip. 0 without an interval: the damage had no effect to recover from.",
        style="{:.0f}",
    ),
)

DRIFT = (
    Column(
        "drift",
        "drift to 8x",
        "lower",
        "share of the video that is lost over eight native horizons of free generation. A panel: a "
        "window counts what its worst of seven violations counts as soon as any leaves its band, "
        "else 0; the mean over all windows.",
        brief=True,
    ),
    Column(
        "drift_slope",
        "drift slope",
        "lower",
        "change of that per native horizon.",
    ),
    Column(
        "worst_window",
        "worst window",
        "lower",
        "what the worst window of a free clip counts, mean over clips.",
    ),
    Column(
        "violation_1x",
        "violation at 1x",
        "lower",
        "mean violation (not the panel's worst) in the first native horizon.",
    ),
    Column(
        "violation_8x",
        "violation at 8x",
        "lower",
        "the same in the eighth.",
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
        "pace_1x",
        "pace at 1x",
        None,
        "mean length of a step in lawful steps; with little jitter, under .7 is slow motion.",
        style="{:.2f}",
    ),
    Column(
        "jitter_8x",
        "jitter at 8x",
        "lower",
        "change of the step between frames away from walls, in lawful steps.",
        style="{:.2f}",
    ),
)

BOARD = Board(
    primary="violation_own",
    horizon=True,
    parts={"Continuing its own frames: exposure bias": EXPOSURE, "Free generation: drift": DRIFT},
    verdicts={
        "violation_own": ("less violation under its own context", "violation under own context"),
        "exposure_gap": ("less exposure bias", "exposure bias"),
        "drift": ("less drift over eight horizons", "drift over eight horizons"),
    },
)
