"""The quality table: the share of the prompt that a clip shows ranks it."""

from __future__ import annotations

from sfbench.boards import Board, Column

WORLD = (
    Column(
        "adherence",
        "prompt",
        "higher",
        "share of the prompt's attributes (count, shape, colour, background, speed, direction) "
        "that the clip shows. Ranks the table.",
        brief=True,
    ),
    Column(
        "violation",
        "violation",
        "lower",
        "of the scene's appearance and of the law of motion, 0..1.",
        brief=True,
    ),
    Column("looks", "looks", "lower", "the half of it that concerns appearance."),
    Column("moves", "moves", "lower", "the half that concerns motion."),
    Column(
        "motion",
        "motion",
        None,
        "persistent speed in units of the lawful speed: 1 is true, 0 is frozen or noise.",
        style="{:.2f}",
        brief=True,
    ),
    Column(
        "jitter",
        "jitter",
        "lower",
        "change of the step between frames away from walls, in lawful steps.",
        style="{:.2f}",
    ),
    Column(
        "pace",
        "pace",
        None,
        "mean length of a step in lawful steps; with little jitter, under .7 is slow motion.",
        style="{:.2f}",
    ),
    Column(
        "diversity",
        "diversity",
        None,
        "mean distance between the clips of one prompt as the oracle sees them, in units of the "
        "same among true clips: 1 is the world's own, 0 is always the same clip.",
        style="{:.2f}",
        brief=True,
    ),
    Column(
        "kernel_state",
        "state MMD",
        "lower",
        "squared MMD (Gaussian kernel, unbiased) between the states of generated and of true clips "
        "of the same prompts; about 0 for a perfect sampler. Blind to prompts mixed up.",
        style="{:.3f}",
        brief=True,
    ),
    Column(
        "kernel_state_floor",
        "MMD floor",
        None,
        "the same between two halves of the true clips: a distance inside this range is not told "
        "from truth.",
        style="{:.3f}",
    ),
    Column(
        "kernel_features",
        "feature KID",
        "lower",
        "KID (cubic kernel) on 128 projections of EfficientNet-Lite0 features, same clips. Not "
        "FID, not FVD.",
        style="{:.3f}",
        brief=True,
    ),
    Column("kernel_features_floor", "KID floor", None, "as above.", style="{:.3f}"),
)

ATTRIBUTES = tuple(
    Column(f"adherence_{name}", name.replace("motion", "direction"), "higher", meaning, "{:.2f}")
    for name, meaning in (
        ("count", "share of clips with as many objects as the prompt names."),
        ("shape", "with the shape named."),
        ("colour", "with the colour named."),
        ("background", "with the background named."),
        ("speed", "with the speed named."),
        ("motion", "with the direction named (across, down, aslant)."),
    )
)

PROXIES = (
    Column(
        "temporal_flickering",
        "temporal flickering",
        "higher",
        "VBench's own formula: 1 minus the mean absolute difference of neighbouring frames. "
        "Freezing is its best value.",
        style="{:.4f}",
    ),
    Column(
        "motion_magnitude",
        "flow",
        None,
        "mean length of the optical flow (DIS), frame diagonals a second.",
        style="{:.3f}",
    ),
    Column(
        "motion_smoothness_flow",
        "flow smoothness",
        "higher",
        "share of the flow that continues from the pair before.",
        style="{:.2f}",
    ),
    Column(
        "warping_error",
        "warping error",
        "lower",
        "difference from the frame before, moved along the flow.",
        style="{:.3f}",
    ),
    Column(
        "repeated_frames",
        "repeated",
        "lower",
        "share of frames that repeat the one before.",
        style="{:.1%}",
    ),
    Column("sharpness", "sharpness", None, "log10 of the Laplacian's variance.", style="{:.2f}"),
    Column("exposure", "exposure", None, "mean luma.", style="{:.3f}"),
    Column("clipped", "clipped", "lower", "share of pixels at either end.", style="{:.1%}"),
    Column("saturation", "saturation", None, "mean HSV saturation.", style="{:.3f}"),
    Column(
        "blockiness",
        "blockiness",
        "lower",
        "excess of differences across an 8 x 8 grid, -1..1.",
        style="{:.3f}",
    ),
    Column(
        "consistency_adjacent_effnet",
        "consistency, adjacent",
        "higher",
        "cosine of EfficientNet-Lite0 features of neighbouring frames. VBench's formula, another "
        "network: not comparable with VBench.",
        style="{:.3f}",
    ),
    Column(
        "consistency_first_effnet",
        "consistency, first",
        "higher",
        "the same with the first frame.",
        style="{:.3f}",
    ),
    Column("cuts_per_minute", "cuts a minute", None, "shot cuts found.", style="{:.1f}"),
)

BOARD = Board(
    primary="adherence",
    parts={
        "Embedded world: prompt, law, diversity, fidelity": WORLD,
        "Embedded world: the prompt's attributes": ATTRIBUTES,
        "Any video: proxies of our own, not VBench's": PROXIES,
    },
    verdicts={
        "violation": ("less violation", "violation"),
    },
)
