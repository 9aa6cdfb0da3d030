"""Two models of the long-horizon task, paired in the time that they take to recover.

The half-life of the excess violation is read off the mean curve over prompts, so prompts have none
of their own: the records are what two models are compared by.
"""

from __future__ import annotations

from sfbench import exposure_recovery
from sfbench.exposure_rows import Cells, Grouped, paired
from sfbench.paired import Run
from sfbench.schema import Arm, Estimate

from .continuations import CONTINUATION, chunk_of, role
from .long_horizon import LongHorizon


def half_life_difference(task: LongHorizon, first: Run, second: Run, confidence: float) -> Estimate:
    """Half-life of the first less that of the second."""
    return exposure_recovery.difference(
        _excess(first),
        _excess(second),
        (_ends(first), _ends(second)),
        confidence=confidence,
    )


def _excess(run: Run) -> Grouped:
    """Violation after a damaged context less that after an intact one."""
    return paired(_violations(run, "corrupted"), _violations(run, "own"))


def _violations(run: Run, arm: Arm) -> Cells:
    return {
        (record.request.prompt.id, record.request.seed): [
            v for v in record.scores.series["violation"] if v is not None
        ]
        for record in run.records
        if record.scores is not None and role(record.request) == arm
    }


def _ends(run: Run) -> list[float]:
    """Frames at which the chunks of a continuation end."""
    chunk = chunk_of(run.result.model)
    return [float(min(done + chunk, CONTINUATION)) for done in range(0, CONTINUATION, chunk)]


STATISTICS = {"recovery_half_life": half_life_difference}
