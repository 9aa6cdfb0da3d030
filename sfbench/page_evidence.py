"""What the page shows beside its own boards: the metrics' certification, and published figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from . import published
from .certification import Certification, Response

STEPS = ((12.0, "strong"), (6.0, "clear"), (0.0, "seen"))  # least z, and how a cell is shaded


@dataclass(frozen=True)
class Seen:
    """A metric's answer to one failure."""

    state: str
    """``strong``, ``clear`` or ``seen``, by z; ``partly``; ``blind``; ``broken``: not as
    declared."""
    z: str
    rho: str
    said: str


def matrix(
    certification: Certification,
) -> tuple[tuple[str, ...], list[tuple[str, list[Seen | None]]]]:
    """Failures, and for each metric its answer to every one of them."""
    failures = tuple(dict.fromkeys(r.failure for r in certification.responses))
    metrics = dict.fromkeys(r.metric for r in certification.responses)
    by = {(r.metric, r.failure): r for r in certification.responses}
    rows = [
        (metric, [_seen(r) if (r := by.get((metric, f))) else None for f in failures])
        for metric in metrics
    ]
    return failures, rows


def alarms(
    certification: Certification,
) -> tuple[tuple[str, ...], list[tuple[str, list[tuple[str, bool]]]]]:
    """Nuisances, and for each metric the share of clips in which it raises an alarm, and if it may.

    A pair a nuisance: text, whether it holds.
    """
    nuisances = tuple(dict.fromkeys(q.nuisance for q in certification.quiet))
    metrics = dict.fromkeys(q.metric for q in certification.quiet)
    by = {(q.metric, q.nuisance): q for q in certification.quiet}
    rows = []
    for metric in metrics:
        cells = [by.get((metric, nuisance)) for nuisance in nuisances]
        rows.append(
            (
                metric,
                [
                    ("", True) if q is None else (f"{q.alarms:.0%}", q.holds is not False)
                    for q in cells
                ],
            )
        )
    return nuisances, rows


def _seen(response: Response) -> Seen:
    z = abs(response.doses[0].z)
    rho = "n/a" if response.rho is None else f"{response.rho:.2f}"
    doses = "; ".join(f"z {d.z:.1f}, {d.alarms:.0%} alarms at {d.dose:g}" for d in response.doses)
    said = f"{response.failure}, {response.unit}: {doses}; rho {rho}"
    if response.holds is False:
        return Seen(
            "broken", f"{z:.0f}", rho, f"declared {response.declared}, does not hold. {said}"
        )
    if response.declared == "blind_to":
        return Seen("blind", "", "", said)
    if response.declared == "partly":
        return Seen("partly", f"{z:.0f}", rho, f"partly. {said}")
    state = next(name for least, name in STEPS if z >= least)
    return Seen(state, f"{z:.0f}", rho, said)


@dataclass(frozen=True)
class Published:
    """One file of published figures."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sources: tuple[str, ...]


def published_in(folder: Path) -> list[Published]:
    """The tables of a folder; figures as they stand, each with the number of its source."""
    found = []
    for path in sorted(folder.glob("*.csv")) if folder.is_dir() else []:
        rows = published.read(path)
        columns = [name for name in rows[0] if name != "source"]
        sources = list(dict.fromkeys(row["source"] for row in rows))
        found.append(
            Published(
                tuple(published.TITLES.get(name, name.replace("_", " ")) for name in columns),
                tuple(
                    (*(row[name] or "-" for name in columns), str(sources.index(row["source"]) + 1))
                    for row in rows
                ),
                tuple(sources),
            )
        )
    return found
