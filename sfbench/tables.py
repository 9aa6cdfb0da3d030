"""Boards as files: pandas, CSV and Markdown. Equal results give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from . import beside
from .boards import Column
from .effects import Effect, effect
from .leaderboard import Group, Row, comparisons, groups, verdicts
from .published import section
from .schema import Estimate, Result, TaskCard
from .verdicts import noted

ARROWS = {"higher": "^", "lower": "v", None: ""}
FACTS = ("steps", "parameters", "core-hours")
SIZE = Column("d_z", "d_z from best", None, "", style="{:+.2f}")
WINS = Column("wins", "wins against best", None, "", style="{:.0%}")


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """One row a result, ranked within its group, with every estimate and its interval."""
    records = []
    for group in groups(results):
        sizes = effects(group)
        for row in group.rows:
            model, task = row.result.model, row.result.task
            record: dict[str, object] = {
                "task": task.name,
                "version": task.version,
                "tier": task.tier,
                "dataset": task.dataset,
                "comparison_key": row.result.comparison_key,
                "rank": row.rank,
                "rank_low": row.rank_low,
                "rank_high": row.rank_high,
                **_effect_fields(sizes.get(row.label)),
                "model": model.name,
                "revision": model.revision,
                "kind": model.kind,
                "note": row.note,
                "steps": model.steps,
                "parameters": model.parameters,
                "train_core_hours": model.train_core_hours,
            }
            for name, estimate in sorted(row.result.estimates.items()):
                record |= {
                    name: estimate.value,
                    f"{name}_low": estimate.low,
                    f"{name}_high": estimate.high,
                    f"{name}_n": estimate.n,
                }
            records.append(record)
    counts = [key for key in _keys(records) if key.endswith("_n")]
    whole = ["rank_low", "rank_high", "steps", "parameters", *counts]
    table = pd.DataFrame.from_records(records, columns=_keys(records))
    return table.astype({c: "Int64" for c in whole if c in table})


def write_csv(results: Iterable[Result], path: Path) -> Path:
    """Write :func:`frame` as CSV."""
    path.write_text(frame(results).to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    return path


def write_markdown(results: Iterable[Result], path: Path) -> Path:
    """Write the boards as Markdown: tables, verdicts, legend, provenance.

    The folder ``published`` beside the page, if there is one, becomes its last section.
    """
    results = list(results)
    folder = path.parent / "published"
    text = markdown(groups(results), [*section(folder), *beside.section(folder, results)])
    path.write_text(text, encoding="utf-8")
    return path


def markdown(found: Sequence[Group], published: Sequence[str] = ()) -> str:
    """The leaderboard page."""
    parts = [
        "# Leaderboard",
        "",
        "Made by `sfbench report`; do not edit. Rows of different tables were run under "
        "different settings and must not be compared.",
        "",
    ]
    for group in found:
        parts += _section(group)
    parts += published
    return "\n".join(parts).rstrip() + "\n"


def caution(task: TaskCard) -> str:
    """What must be said of a tier that is too small to rank models; else empty."""
    if task.tier != "smoke":
        return ""
    return "The smoke tier shows that everything works; it is too small to rank models by."


def title(group: Group) -> str:
    """What a board was run on, in one line."""
    task, g, over = group.task, group.task.geometry, group.board.over
    shown = {column.key for column in group.board.columns}
    found = [row.result.estimates for row in group.rows]
    count = max(
        (e.clusters for row in found for name, e in row.items() if name in shown or not shown),
        default=0,
    )
    seeds = f" x {len(task.seeds)} seeds" if over == "prompt" else ""
    shape = f"{g.width}x{g.height}, {g.frames} frames at {g.fps:g} fps"
    decoder = group.rows[0].result.model.decoder
    return (
        f"{task.name} v{task.version} · {task.tier} · {task.dataset} · {count} {over}s{seeds} · "
        f"{task.conditions.get('sizes', shape)}{f' · {decoder} decoder' if decoder else ''}"
    )


def effects(group: Group) -> dict[str, Effect]:
    """Of each ranked row but the best: how far it is from the best in what ranks, paired.

    ``first`` is the row, ``second`` the best: above 0 it is higher.
    """
    primary = group.board.primary
    if primary is None or not group.ranked:
        return {}
    best, *others = group.ranked
    better = best.result.estimates[primary].better
    leads = best.result.per_prompt.get(primary, {})
    return {
        row.label: effect(
            row.result.per_prompt.get(primary, {}), leads, better=better, over=group.board.over
        )
        for row in others
    }


def cells(row: Row, columns: Sequence[Column]) -> list[str]:
    """The text of a row's columns."""
    return [format_estimate(row.result.estimates.get(c.key), c) for c in columns]


def format_estimate(estimate: Estimate | None, column: Column) -> str:
    """``value [low, high]``, or ``n/a``; a censored median is shown as ``>= low``."""
    if estimate is None or (estimate.value is None and estimate.low is None):
        return "n/a"
    if estimate.value is None:
        return f">= {column.text(estimate.low)}"
    if estimate.low is None and estimate.high is None:
        return f"{column.text(estimate.value)} [n/a]"
    return (
        f"{column.text(estimate.value)} [{column.text(estimate.low)}, {column.text(estimate.high)}]"
    )


def provenance_line(group: Group) -> str:
    """Versions, commits and machines behind a board."""
    sources = [row.result.provenance for row in group.rows]
    commits = {(p.commit or "no commit")[:12] + ("+changes" if p.dirty else "") for p in sources}
    parts = (
        ("sfbench", {p.sfbench for p in sources}),
        ("commit", commits),
        ("machine", {p.machine for p in sources}),
        ("device", {p.device for p in sources}),
    )
    return "; ".join(f"{name} {', '.join(sorted(values))}" for name, values in parts)


# --- helpers --------------------------------------------------------------------------------------


def _section(group: Group) -> list[str]:
    lines = [f"## {title(group)}", ""]
    if text := caution(group.task):
        lines += [text, ""]
    parts = group.parts or {"Rows": ()}
    for heading, columns in parts.items():
        lines += [f"### {heading}", "", *_part(group, columns, facts=heading == next(iter(parts)))]
        lines += ["", *(f"- **{c.title}**: {c.meaning}" for c in columns), ""]
        lines += _open_ends(group, columns)
    over, found = group.board.over, comparisons(group)
    if sentences := [one.sentence for one in found if one.sentence]:
        lines += ["### In words", "", *(f"- {sentence}" for sentence in sentences), ""]
        lines += [text, ""] if (text := noted(found)) else []
        lines += [
            "These weights, not these methods: one training seed each. Differences are paired "
            f"by {over}.",
            "",
        ]
    return [
        *lines,
        f"Value [95 % interval over {over}s]; ^ higher is better, v lower is better. A rank with "
        f"an = is shared: no difference from the first of these is shown. [1-3] beside a rank: its "
        f"95 % interval when the {over}s are drawn anew.{_effect_words(group)}",
        "",
        provenance_line(group) + ".",
        "",
    ]


def brief(group: Group) -> list[str]:
    """One narrow table of a board and its leader's verdicts."""
    columns = [c for part in group.parts.values() for c in part if c.brief]
    head = ["", "model", "steps", *(f"{c.title} {ARROWS[c.better]}".strip() for c in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in group.rows:
        known = [row.rank, row.label, _count(row.result.model.steps)]
        lines.append(_line([*known, *cells(row, columns)]))
    lines += [
        "",
        f"{title(group)}. Value [95 % interval over {group.board.over}s]; ^ higher, v lower is "
        "better.",
    ]
    if notes := [f"{row.label}: {row.note}" for row in group.rows if row.note]:
        lines += ["Not ranked: " + "; ".join(notes) + "."]
    return [*lines, "", *(f"- {sentence}" for sentence in verdicts(group, leader_only=True))]


def _part(group: Group, columns: Sequence[Column], *, facts: bool) -> list[str]:
    """One table; ``facts``: with what is known of each model and why it is not ranked."""
    titles = [f"{c.title} {ARROWS[c.better]}".strip() for c in columns]
    sizes = effects(group) if facts else {}
    beside = (SIZE.title, WINS.title) if sizes else ()
    head = ["", "model", *(FACTS if facts else ()), *titles, *beside, *(["note"] if facts else ())]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in group.rows:
        model, texts = row.result.model, cells(row, columns)
        if facts:
            known = [_count(model.steps), _count(model.parameters), _hours(model.train_core_hours)]
            texts = [*known, *texts, *(_sizes(sizes.get(row.label)) if sizes else ()), _remark(row)]
        rank = _rank(row) if facts else row.rank
        lines.append(_line([rank, row.label, *texts]))
    return lines


def _sizes(one: Effect | None) -> tuple[str, str]:
    if one is None:
        return "-", "-"
    return format_estimate(one.standardised, SIZE), format_estimate(one.wins, WINS)


def _effect_fields(one: Effect | None) -> dict[str, float | None]:
    """The effect sizes of :func:`effects` as columns."""
    parts = {"d_z": one.standardised if one else None, "wins": one.wins if one else None}
    return {
        f"{name}_from_best{suffix}": getattr(estimate, end) if estimate else None
        for name, estimate in parts.items()
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def effect_meanings(group: Group) -> dict[str, str]:
    """What the columns of effect sizes mean, by title; none where there are none."""
    column = next((c for c in group.board.columns if c.key == group.board.primary), None)
    if column is None or len(group.ranked) < 2:
        return {}
    over, best = group.board.over, group.ranked[0].label
    return {
        SIZE.title: f"'{column.title}' less that of {best}, the first row, mean of the {over}s in "
        "standard deviations of these paired differences (Hedges' correction).",
        WINS.title: f"share of {over}s on which it is better than that row, a tie is half.",
    }


def _effect_words(group: Group) -> str:
    """The same in the legend."""
    return "".join(f" {title}: {words}" for title, words in effect_meanings(group).items())


def _open_ends(group: Group, columns: Sequence[Column]) -> list[str]:
    """Why an interval lacks an end, in the words of the estimates; none where all have both."""
    found: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for row in group.rows:
            e = row.result.estimates.get(column.key)
            if e is None or (e.value is None and e.low is None) or None not in (e.low, e.high):
                continue
            found.setdefault((column.title, e.method), []).append(row.label)
    lines = [f"- {t} of {', '.join(labels)}: {method}." for (t, method), labels in found.items()]
    return ["Intervals without an end:", "", *lines, ""] if lines else []


def _rank(row: Row) -> str:
    """The rank and, where there is one, its interval: ``1= [1-3]``."""
    if row.rank_low is None or row.rank_high is None:
        return row.rank
    return f"{row.rank} [{row.rank_low}-{row.rank_high}]"


def _remark(row: Row) -> str:
    model = row.result.model
    kind = "" if model.kind == "model" else model.kind
    length = "" if model.causal else "native length only"
    return "; ".join(part for part in (kind, length, row.note) if part)


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"


def _count(value: int | None) -> str:
    if value is None:
        return "-"
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return str(value)


def _hours(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _keys(records: Sequence[dict[str, object]]) -> list[str]:
    return list(dict.fromkeys(key for record in records for key in record))
