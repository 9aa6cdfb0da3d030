"""What certifying the metrics found, as it is written to ``certification.json`` and shown.

One :class:`Response` a metric and failure: how the metric answers to growing doses of an injected
failure, and whether that is what it declares. One :class:`Quiet` a metric and nuisance: how often
it raises an alarm where nothing is wrong. :mod:`sfbench.certify` makes them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .schema import Base

FILE = "certification.json"
SCHEMA_VERSION = 1


class Dose(Base):
    """A metric's answer to one dose."""

    dose: float
    z: float
    """Median shift of the clips' values from the same clips untouched, in robust standard
    deviations of untouched clips of other seeds."""
    alarms: float
    """Share of clips outside the range of those untouched clips."""


class Response(Base):
    """A metric's answers to one failure, smallest dose first."""

    metric: str
    version: int
    failure: str
    unit: str
    """Of the dose, in words."""
    declared: Literal["sees", "blind_to"]
    rho: float | None
    """Spearman's, dose against value over all clips; ``None`` where no value ever changed."""
    doses: tuple[Dose, ...]
    holds: bool


class Quiet(Base):
    """A metric's alarms under a nuisance, or on untouched clips of the test seeds."""

    metric: str
    nuisance: str
    alarms: float
    """Share of clips."""
    holds: bool


class Certification(Base):
    """All of one run of ``sfbench certify``."""

    schema_version: int = SCHEMA_VERSION
    source: str
    """The true videos, in words."""
    clips: int
    """Test clips behind each figure."""
    responses: tuple[Response, ...]
    quiet: tuple[Quiet, ...]
    unseen: tuple[str, ...]
    """Failures that no metric of the panel sees at their smallest dose."""

    @property
    def ok(self) -> bool:
        """Whether every declaration holds and the panel sees every failure."""
        found = all(r.holds for r in self.responses) and all(q.holds for q in self.quiet)
        return found and not self.unseen


def read(path: Path) -> Certification:
    """The certification in a file."""
    return Certification.model_validate_json(path.read_text(encoding="utf-8"))
