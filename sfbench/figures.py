"""Figures of a board, as PNG. Colours are Okabe and Ito's, which the colour-blind can tell apart.

Lines are means over prompts, bands their 95 % intervals. Each function writes one file, or returns
``None`` where the rows hold nothing to draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .interfaces import Frames
from .leaderboard import Group, Row
from .schema import Curve, Result
from .store import read_records
from .video import VideoError, read_clip

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F5539", "#5E4FA2")
REFERENCE = "#444444"
STYLE: Any = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "savefig.dpi": 160,
}
DRIFT_TITLE = "Drift: share of the video lost in free generation, by the worst of the panel"
LOST = "share lost (0 none, 1 all)"
VIOLATION = "violation (0 lawful, 1 worst)"
STRIP_PROMPTS = 2
STRIP_FRAMES = 9
GUTTER = 2  # pixels between the frames of a strip

Sources = Sequence[tuple[Path, Result]]  # finished results and the folders they lie in


def drift(group: Group, path: Path) -> Path | None:
    """Share lost over the horizon of free clips, one line a model."""
    return _lines(group, group.rows, "drift", DRIFT_TITLE, LOST, path)


def survival(group: Group, path: Path) -> Path | None:
    """Share of free clips that have not failed, one step line a model."""
    title = "Survival: free clips inside the failure band"
    return _lines(group, group.rows, "alive", title, "share of clips alive", path, step=True)


def pace(group: Group, path: Path) -> Path | None:
    """Frames a second over the horizon of a stream, one line a model; no cheats, which are free."""
    models = [row for row in group.rows if row.result.model.kind == "model"]
    title = "Pace: frames a second as the stream goes on"
    return _lines(group, models, "pace", title, "pixel frames a second", path)


def exposure(group: Group, path: Path) -> Path | None:
    """Violation under true and under own context, one panel a model."""
    rows = [r for r in group.rows if {"exposure_true", "exposure_own"} <= r.result.curves.keys()]
    rows = [r for r in rows if r.result.model.kind == "model"] or rows
    if not rows:
        return None
    across = min(len(rows), 4)
    down = -(-len(rows) // across)
    arms = (
        ("true", "true context", PALETTE[0], "-"),
        ("own", "own context", PALETTE[1], "-"),
        ("streamed", "own, streamed", PALETTE[4], "--"),
    )
    with _figure(path, (3.1 * across + 0.6, 2.7 * down + 0.7)) as figure:
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        for axes, row in zip(grid.flat, rows, strict=False):
            for arm, label, colour, line in arms:
                if curve := row.result.curves.get(f"exposure_{arm}"):
                    _draw(axes, curve, colour, line, label)
            gap = row.result.estimates["exposure_gap"].value
            axes.set_title(row.label if gap is None else f"{row.label}\ngap {gap:+.3f}")
        grid.flat[0].set_ylim(0, None)
        for axes in grid.flat[len(rows) :]:
            axes.set_visible(False)
        grid.flat[0].legend(frameon=False, fontsize=8.5, loc="upper left")
        figure.supxlabel("frames after the true prefix", fontsize=9.5)
        figure.supylabel(VIOLATION, fontsize=9.5)
    return path


def strips(group: Group, sources: Sources, path: Path) -> Path | None:
    """Frames over the horizon of the same prompts, one row a model, where clips were kept."""
    rows = sorted(group.rows, key=lambda row: row.result.model.kind != "reference-row")
    sheets = _sheets(rows, sources)
    if not sheets:
        return None
    inches = (STRIP_FRAMES + 1.8, sum(len(clips) + 0.7 for clips in sheets.values()))
    with _figure(path, inches) as figure:
        _draw_strips(figure.subplots(len(sheets), 1, squeeze=False)[:, 0], sheets)
    return path


def headline(group: Group, labels: Sequence[str], sources: Sources, path: Path) -> Path | None:
    """The picture that opens a page: chosen rows' frames, and their drift below."""
    rows = [row for label in labels for row in group.rows if row.label == label]
    sheets = _sheets(rows, sources)
    if not sheets or not any("drift" in row.result.curves for row in rows):
        return None
    heights = [*(len(clips) for clips in sheets.values()), 3.4]
    with _figure(path, (STRIP_FRAMES + 1.8, sum(heights) + 0.7 * len(heights))) as figure:
        *above, below = figure.subplots(
            len(heights), 1, gridspec_kw={"height_ratios": heights}, squeeze=False
        )[:, 0]
        _draw_strips(above, sheets)
        _draw_lines(below, rows, "drift")
        below.set_title(DRIFT_TITLE)
        curve = next(r.result.curves["drift"] for r in rows if "drift" in r.result.curves)
        below.set_xlabel(_frames_label(group, curve))
        below.set_ylabel(LOST)
    return path


def _sheets(rows: Sequence[Row], sources: Sources) -> dict[str, dict[str, Frames]]:
    """Clips by prompt, and of each prompt by row."""
    clips = {row.label: found for row in rows if (found := _clips(row, sources))}
    prompts = sorted({prompt for found in clips.values() for prompt in found})[:STRIP_PROMPTS]
    return {
        prompt: {label: found[prompt] for label, found in clips.items() if prompt in found}
        for prompt in prompts
    }


def _draw_strips(places: Sequence[Axes], sheets: dict[str, dict[str, Frames]]) -> None:
    for axes, (prompt, clips) in zip(places, sheets.items(), strict=True):
        _strip(axes, clips)
        axes.set_title(prompt)


def _strip(axes: Axes, clips: dict[str, Frames]) -> None:
    """Clips below each other, at the same times; white after the end of a shorter one."""
    length = max(map(len, clips.values()))
    at = [round(t) for t in np.linspace(0, length - 1, STRIP_FRAMES)]
    height, width = np.max([frames.shape[1:3] for frames in clips.values()], axis=0) + GUTTER
    sheet = np.full((height * len(clips), width * len(at), 3), 255, np.uint8)
    for row, frames in enumerate(clips.values()):
        for column, t in enumerate(at):
            if t < len(frames):
                y, x = row * height, column * width
                sheet[y : y + frames.shape[1], x : x + frames.shape[2]] = frames[t]
    axes.imshow(sheet, interpolation="nearest")
    axes.set_xticks([(n + 0.5) * width - GUTTER for n in range(len(at))], [f"{t}" for t in at])
    axes.set_yticks([(n + 0.5) * height - GUTTER for n in range(len(clips))], list(clips))
    axes.set_xlabel("frame")
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


# --- lines ----------------------------------------------------------------------------------------


def _lines(
    group: Group,
    rows: Sequence[Row],
    name: str,
    title: str,
    label: str,
    path: Path,
    *,
    step: bool = False,
) -> Path | None:
    """One curve of every row on one axes, labelled at its right end."""
    rows = [row for row in rows if name in row.result.curves]
    if not rows:
        return None
    with _figure(path, (7.6, 4.1)) as figure:
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_xlabel(_frames_label(group, rows[0].result.curves[name]))
        axes.set_ylabel(label)
        _draw_lines(axes, rows, name, step=step)
    return path


def _draw_lines(axes: Axes, rows: Sequence[Row], name: str, *, step: bool = False) -> None:
    ends = []
    drawn = [row for row in rows if name in row.result.curves]
    for row, (colour, line) in zip(drawn, _looks(drawn), strict=True):
        band = 0.12 if row.result.model.kind == "model" else 0.0
        curve = row.result.curves[name]
        end = _draw(axes, curve, colour, line, row.label, step=step, band=band)
        ends.append((end, row.label, colour))
    axes.set_ylim(0, 1.02 if step else None)
    axes.set_xlim(0, None)
    _label_ends(axes, ends)


def _frames_label(group: Group, curve: Curve) -> str:
    return f"{curve.x_label} ({group.task.geometry.fps:g} frames a second)"


def _looks(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Colour and line of each row: solid for models, dashes for cheats, grey for references."""
    used = 0
    for row in rows:
        if row.result.model.kind == "reference-row":
            yield REFERENCE, ":"
            continue
        line = "--" if row.result.model.kind == "cheat" else "-"
        yield PALETTE[used % len(PALETTE)], line if used < len(PALETTE) else "-."
        used += 1


def _draw(
    axes: Axes,
    curve: Curve,
    colour: str,
    line: str,
    label: str,
    *,
    step: bool = False,
    band: float = 0.14,
) -> float:
    """Draw a mean, and its interval with the opacity ``band``; returns the last value."""
    known = [(x, e) for x, e in zip(curve.x, curve.y, strict=True) if e.value is not None]
    x = [x for x, _ in known]
    value = np.array([e.value for _, e in known], float)
    low = np.array([e.value if e.low is None else e.low for _, e in known], float)
    high = np.array([e.value if e.high is None else e.high for _, e in known], float)
    axes.plot(
        x,
        value,
        color=colour,
        linestyle=line,
        linewidth=1.8,
        label=label,
        clip_on=False,
        drawstyle="steps-post" if step else "default",
    )
    if band:
        axes.fill_between(
            x, low, high, color=colour, alpha=band, linewidth=0, step="post" if step else None
        )
    return float(value[-1]) if len(value) else 0.0


def _label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right ends of lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    apart = (high - low) * 0.052
    ends = sorted(ends)
    places = np.array([value for value, _, _ in ends])
    for n in range(1, len(places)):
        places[n] = max(places[n], places[n - 1] + apart)
    ceiling = high - apart * np.arange(len(places))[::-1]
    for place, (_, label, colour) in zip(np.minimum(places, ceiling), ends, strict=True):
        axes.annotate(
            label,
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8.8,
            annotation_clip=False,
        )


# --- files ----------------------------------------------------------------------------------------


@contextmanager
def _figure(path: Path, inches: tuple[float, float]) -> Iterator[Any]:
    """A figure that is written to ``path`` at the end; equal figures give equal bytes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=inches, layout="constrained")
        yield figure
        figure.savefig(path, bbox_inches="tight", metadata={"Software": None})


def _clips(row: Row, sources: Sources) -> dict[str, Frames]:
    """Free clips of a row's first prompts, by the prompt's text; empty where none was kept."""
    root = next((root for root, result in sources if result == row.result), None)
    found: dict[str, Frames] = {}
    if root is None:
        return found
    for record in read_records(root):
        if record.clip is None or record.request.arm != "free" or len(found) == STRIP_PROMPTS:
            continue
        try:
            found.setdefault(record.request.prompt.text, read_clip(root / record.clip.path)[0])
        except VideoError:
            continue  # a clip that was moved or damaged is not shown; `sfbench verify` names it
    return found
