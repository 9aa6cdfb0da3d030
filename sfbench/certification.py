"""What certifying the metrics found, as it is written to ``certification.json`` and shown.

One :class:`Response` a metric and failure: how the metric answers to growing doses of an injected
failure, and whether that is what it declares. One :class:`Quiet` a metric and nuisance: how often
it raises an alarm where nothing is wrong. :mod:`sfbench.certify` makes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from .schema import Base

FILE = "certification.json"
SCHEMA_VERSION = 2

Declared = Literal["sees", "partly", "blind_to"]
Interval = tuple[float, float]
"""95 %."""


class Dose(Base):
    """A metric's answer to one dose."""

    dose: float
    z: float
    """Median shift of the clips' values from the same clips untouched, in robust standard
    deviations of untouched clips of other seeds."""
    z_interval: Interval | None = None
    """Bootstrap over clips, the damaged ones and those of the yardstick."""
    alarms: float
    """Share of clips outside the range of those untouched clips."""
    alarms_interval: Interval | None = None
    """Wilson's."""


class Response(Base):
    """A metric's answers to one failure, smallest dose first."""

    metric: str
    version: int
    failure: str
    unit: str
    """Of the dose, in words."""
    declared: Declared
    rho: float | None
    """Spearman's, dose against shift over all clips; ``None`` where no value ever changed."""
    rho_interval: Interval | None = None
    """Bootstrap over clips."""
    doses: tuple[Dose, ...]
    holds: bool | None
    """Whether this is what is declared; ``None`` where that is not judged."""


class Quiet(Base):
    """A metric's alarms under a nuisance, or on untouched clips of the test seeds."""

    metric: str
    nuisance: str
    alarms: float
    """Share of clips."""
    interval: Interval | None = None
    """Wilson's."""
    n: int | None = None
    """Clips."""
    holds: bool | None


class Film(Base):
    """A true video that clips were taken from."""

    name: str
    sha256: str
    """Of the file."""
    frames: tuple[int, int]
    """First, and one past the last."""
    split: Literal["selection", "test"]
    """``selection``: it calibrates."""


class Certification(Base):
    """All of one run of ``sfbench certify``."""

    schema_version: int = SCHEMA_VERSION
    source: str
    """The true videos, in words."""
    clips: int
    """Test clips behind each figure of a failure or nuisance, each of another video."""
    calibration: int | None = None
    """Pairs of untouched clips that the yardstick is made from."""
    doses_sha256: str = ""
    """Of the doses that were injected (:func:`sfbench.failures.doses_sha256`)."""
    films: tuple[Film, ...] = ()
    """Of a folder: where each clip comes from."""
    unjudged: str = ""
    """Why no declaration is judged, where none is."""
    responses: tuple[Response, ...]
    quiet: tuple[Quiet, ...]
    unseen: tuple[str, ...]
    """Failures that no metric of the panel is shown to see from the smallest dose on."""

    @property
    def ok(self) -> bool:
        """Whether no declaration is broken and the panel sees every failure."""
        claims = [r.holds for r in self.responses] + [q.holds for q in self.quiet]
        return False not in claims and not self.unseen


def read(path: Path) -> Certification:
    """The certification in a file."""
    return Certification.model_validate_json(path.read_text(encoding="utf-8"))


def text(certification: Certification) -> str:
    """As it is written: JSON, a line for each response, nuisance and film."""
    fields = []
    for name, value in certification.model_dump(mode="json").items():
        if isinstance(value, list) and value:
            lines = ",\n  ".join(json.dumps(item, allow_nan=False) for item in value)
            fields.append(f' "{name}": [\n  {lines}\n ]')
        else:
            fields.append(f' "{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n" + ",\n".join(fields) + "\n}\n"
