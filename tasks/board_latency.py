"""The latency table: the pace with the context full ranks it."""

from __future__ import annotations

from sfbench.boards import Board, Column

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
        "switch",
        "prompt switch, ms",
        "lower",
        "from another prompt, said in mid-stream, to the first frame under it; n/a: the model "
        "cannot change its prompt.",
        style="{:.1f}",
    ),
    Column(
        "latents_full",
        "latents a second",
        "higher",
        "latent frames a second with the context full; pixel frames are counted above.",
        style="{:.1f}",
    ),
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

PARTS = (
    Column(
        "part_text",
        "text, ms",
        "lower",
        "embedding the prompt, once a clip. Parts are timed by the harness where the model names "
        "them, on streams of their own, and published if they add up to the whole within 5 %.",
        style="{:.2f}",
    ),
    Column(
        "part_denoise",
        "denoise, ms",
        "lower",
        "the denoising steps of a chunk; the first chunk is left out unless it is the only one.",
        style="{:.2f}",
    ),
    Column(
        "part_cache",
        "cache, ms",
        "lower",
        "writing a clean chunk's keys and values; none after the last chunk.",
        style="{:.2f}",
    ),
    Column("part_decode", "decode, ms", "lower", "latents to pixels.", style="{:.2f}"),
    Column("explained", "explained", None, "the parts' share of the time.", style="{:.1%}"),
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

BOARD = Board(
    primary="fps_full",
    horizon=True,
    over="turn",
    parts={
        "Streaming": STREAMING,
        "Where a chunk's time goes": PARTS,
        "Starting, in a process of its own": STARTING,
    },
    verdicts={
        "first_frame": ("a shorter wait for the first frame", "the wait for the first frame"),
        "fps_full": ("a higher pace with the context full", "the pace with the context full"),
    },
)
