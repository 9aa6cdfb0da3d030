"""Whether a committed certification is what ``sfbench certify`` makes of this version.

Declarations, versions, doses, numbers of clips and verdicts are equal. Figures may differ between
machines (floating point, codecs): by :data:`Z_WITHIN` or, if that is more, :data:`Z_SHARE` of a z;
by :data:`RHO_WITHIN` of a rho; by one clip of a share of alarms; ends of intervals by twice that.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from .certification import Certification, Interval, Quiet, Response, read
from .certify import CertifyError

Z_WITHIN, Z_SHARE, RHO_WITHIN = 0.1, 0.02, 0.02
ROUNDED = 0.01
"""Of a clip: shares are written with four digits."""


def committed(path: Path) -> Certification:
    """The certification to compare with; what cannot be read is one sentence."""
    try:
        return read(path)
    except (OSError, ValidationError) as error:
        reason = str(error).splitlines()[0]
        raise CertifyError(f"{path} is not a certification ({reason}).") from None


def differences(made: Certification, kept: Certification, whole: bool = True) -> list[str]:
    """Where they differ, a sentence each; without ``whole`` of the metrics that were made alone."""
    found = [
        f"{what}: the file says {old!r}, the command {new!r}."
        for what, old, new in (
            ("schema version", kept.schema_version, made.schema_version),
            ("source", kept.source, made.source),
            ("damaged clips", kept.clips, made.clips),
            ("calibration clips", kept.calibration, made.calibration),
            ("hash of sfbench/doses.yaml", kept.doses_sha256, made.doses_sha256),
            ("films", kept.films, made.films),
            ("why nothing is judged", kept.unjudged, made.unjudged),
            *([("failures that nothing sees", kept.unseen, made.unseen)] if whole else []),
        )
        if old != new
    ]
    old = {(r.metric, r.failure): r for r in kept.responses}
    new = {(r.metric, r.failure): r for r in made.responses}
    quiet = {(q.metric, q.nuisance): q for q in kept.quiet}
    still = {(q.metric, q.nuisance): q for q in made.quiet}
    gone = [*(old.keys() - new.keys()), *(quiet.keys() - still.keys())] if whole else []
    found += [f"{m} and {f}: only in the file." for m, f in sorted(gone)]
    added = [*(new.keys() - old.keys()), *(still.keys() - quiet.keys())]
    found += [f"{m} and {f}: not in the file." for m, f in sorted(added)]
    for key in sorted(new.keys() & old.keys()):
        found += [
            f"{' and '.join(key)}: {text}." for text in _of_response(new[key], old[key], kept.clips)
        ]
    for key in sorted(still.keys() & quiet.keys()):
        found += [f"{' and '.join(key)}: {text}." for text in _of_quiet(still[key], quiet[key])]
    return found


def _of_response(made: Response, kept: Response, clips: int) -> Iterator[str]:
    for name in ("version", "unit", "declared", "holds"):
        if getattr(made, name) != getattr(kept, name):
            yield f"{name} {getattr(kept, name)!r} in the file, {getattr(made, name)!r} now"
    if [d.dose for d in made.doses] != [d.dose for d in kept.doses]:
        yield "other doses"
        return
    if _far(kept.rho, made.rho, RHO_WITHIN):
        yield f"rho {kept.rho} in the file, {made.rho} now"
    if _apart(kept.rho_interval, made.rho_interval, 2 * RHO_WITHIN):
        yield f"interval of rho {kept.rho_interval} in the file, {made.rho_interval} now"
    for old, new in zip(kept.doses, made.doses, strict=True):
        if _far(old.z, new.z, Z_WITHIN, Z_SHARE):
            yield f"z {old.z} in the file, {new.z} now at {old.dose:g}"
        if _apart(old.z_interval, new.z_interval, 2 * Z_WITHIN, 2 * Z_SHARE):
            yield f"interval of z {old.z_interval} in the file, {new.z_interval} now"
        if _far(old.alarms, new.alarms, (1 + ROUNDED) / clips):
            yield f"alarms {old.alarms} in the file, {new.alarms} now at {old.dose:g}"


def _of_quiet(made: Quiet, kept: Quiet) -> Iterator[str]:
    if (made.n, made.holds) != (kept.n, kept.holds):
        yield f"{kept.n} clips, holds {kept.holds} in the file, {made.n}, {made.holds} now"
    if _far(kept.alarms, made.alarms, (1 + ROUNDED) / (kept.n or 1)):
        yield f"alarms {kept.alarms} in the file, {made.alarms} now"


def _far(old: float | None, new: float | None, within: float, share: float = 0) -> bool:
    if old is None or new is None:
        return old is not new
    return abs(new - old) > max(within, share * abs(old))


def _apart(old: Interval | None, new: Interval | None, within: float, share: float = 0) -> bool:
    if old is None or new is None:
        return old is not new
    return any(_far(a, b, within, share) for a, b in zip(old, new, strict=True))
