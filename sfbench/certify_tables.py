"""A certification as a page and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .certification import FILE, Certification, Quiet, Response
from .failures import FAILURES
from .metrics import Metric
from .store import write_atomic

PAGE = "CERTIFICATION.md"


def write(certification: Certification, metrics: Sequence[Metric], out: Path) -> list[Path]:
    """``certification.json`` and the page beside it."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / FILE, out / PAGE]
    write_atomic(paths[0], (certification.model_dump_json(indent=1) + "\n").encode())
    write_atomic(paths[1], page(certification, metrics).encode())
    return paths


def verdict(certification: Certification) -> str:
    """One sentence: whether the declarations hold."""
    claims = [r.holds for r in certification.responses] + [q.holds for q in certification.quiet]
    broken = len(claims) - sum(claims)
    unseen = certification.unseen
    blind = f" No metric of the panel sees {', '.join(unseen)}." if unseen else ""
    if not broken:
        return f"All {len(claims)} declarations hold on {certification.source}.{blind}"
    return f"{broken} of {len(claims)} declarations do not hold.{blind}"


def complaints(certification: Certification) -> list[str]:
    """What does not hold, a sentence each."""
    told = []
    for response in certification.responses:
        if not response.holds and response.declared == "sees":
            told.append(
                f"{response.metric} says that it sees {response.failure}: {_doses(response)}."
            )
        elif not response.holds:
            told.append(
                f"{response.metric} says that it is blind to {response.failure} and sees it: "
                f"{_doses(response)}."
            )
    told += [
        f"{quiet.metric} raises an alarm in {quiet.alarms:.0%} of clips under '{quiet.nuisance}'."
        for quiet in certification.quiet
        if not quiet.holds
    ]
    return told


def show(certification: Certification, console: Console) -> None:
    """Who sees each failure, what does not hold, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("failure", no_wrap=True)
    table.add_column("seen by (z at the smallest dose)", overflow="fold")
    for failure in FAILURES:
        answers = [r for r in certification.responses if r.failure == failure]
        seen = [f"{r.metric} {text}" for r in answers if (text := _short(r))]
        table.add_row(failure, ", ".join(seen) or "nothing")
    console.print(table)
    for line in [*complaints(certification), verdict(certification)]:
        console.print(line, soft_wrap=True)


def page(certification: Certification, metrics: Sequence[Metric]) -> str:
    """The page: who sees what, the dose-response table, false alarms, declarations in words."""
    known = {metric.name: metric for metric in metrics}
    names = _metrics(certification)
    lines = [
        "# Certification of the metrics",
        "",
        "Made by `sfbench certify`; do not edit. Failures of known size are injected into true "
        f"videos ({certification.source}; {certification.clips} damaged clips a figure), and each "
        "metric is held to what it declares. z: median shift in robust standard deviations of what "
        "truth alone does; alarms: share of clips outside the range of truth. The smallest dose of "
        "each failure is fixed in `sfbench/doses.yaml`; thresholds come from other scenes than the "
        "test.",
        "",
        verdict(certification),
        "",
        "## Who sees what",
        "",
        "z at the smallest dose where the failure is seen; empty: blind to it.",
        "",
        _line(["metric", *FAILURES]),
        _line(["---"] * (len(FAILURES) + 1)),
    ]
    for name in names:
        answers = {r.failure: r for r in certification.responses if r.metric == name}
        lines.append(_line([name, *(_short(answers[f]) for f in FAILURES)]))
    lines += [
        "",
        "## Dose and response",
        "",
        "What is declared as seen, and what moved a metric by 3 or more at the smallest dose; all "
        f"else is in `{FILE}`.",
        "",
        _line(["metric", "failure", "declared", "dose", "z", "alarms", "rho", "holds"]),
        _line(["---"] * 8),
    ]
    lines += [
        _row(r) for r in certification.responses if r.declared == "sees" or abs(r.doses[0].z) >= 3
    ]
    lines += ["", "## False alarms", "", *_quiet_table(certification, names), ""]
    lines += ["## What each metric is", ""]
    lines += [_said(known[name]) for name in names if name in known]
    return "\n".join(lines) + "\n"


# --- helpers --------------------------------------------------------------------------------------


def _metrics(certification: Certification) -> list[str]:
    return list(dict.fromkeys(response.metric for response in certification.responses))


def _short(response: Response) -> str:
    mark = "" if response.holds else "!"
    if response.declared == "sees" or mark:
        return f"{mark}{abs(response.doses[0].z):.0f}"
    return ""


def _doses(response: Response) -> str:
    told = (f"z {d.z:.1f} and {d.alarms:.0%} alarms at {d.dose:g}" for d in response.doses)
    return ", ".join(told)


def _row(response: Response) -> str:
    doses = response.doses
    return _line(
        [
            response.metric,
            response.failure,
            response.declared.replace("_", " "),
            f"{' / '.join(f'{d.dose:g}' for d in doses)} {response.unit}",
            " / ".join(f"{d.z:.1f}" for d in doses),
            " / ".join(f"{d.alarms:.0%}" for d in doses),
            "n/a" if response.rho is None else f"{response.rho:.2f}",
            "yes" if response.holds else "NO",
        ]
    )


def _quiet_table(certification: Certification, names: Sequence[str]) -> list[str]:
    by: dict[tuple[str, str], Quiet] = {(q.metric, q.nuisance): q for q in certification.quiet}
    kinds = list(dict.fromkeys(q.nuisance for q in certification.quiet))
    lines = [_line(["metric", *kinds]), _line(["---"] * (len(kinds) + 1))]
    for name in names:
        cells = [by[name, kind] for kind in kinds]
        lines.append(_line([name, *(f"{q.alarms:.0%}{'' if q.holds else ' NO'}" for q in cells)]))
    return lines


def _said(metric: Metric) -> str:
    low, high = ("" if end is None else f"{end:g}" for end in metric.bounds)
    better = {"higher": "higher is better", "lower": "lower is better", None: "no better end"}
    return (
        f"- **{metric.name}** v{metric.version}, {metric.unit} [{low}, {high}], "
        f"{better[metric.better]}: {metric.note}."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
