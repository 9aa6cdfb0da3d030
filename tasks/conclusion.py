"""What the records of one model amount to, as every task here hands it to the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sfbench import stats
from sfbench.schema import Better, Curve, Estimate, Validity


@dataclass
class Conclusion:
    """Implements :class:`sfbench.interfaces.Conclusion`."""

    estimates: dict[str, Estimate] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    per_prompt: dict[str, dict[str, float]] = field(default_factory=dict)
    validity: Validity = field(default_factory=lambda: Validity(ok=True))

    def add(
        self, name: str, values: stats.Sample, *, unit: str = "", better: Better | None = None
    ) -> None:
        """Publish a mean over prompts, and its prompts."""
        self.estimates[name] = stats.mean(values, unit=unit, better=better)
        self.per_prompt[name] = {
            prompt: round(value, stats.DIGITS) for prompt, value in stats.by_prompt(values).items()
        }

    def add_slope(
        self,
        name: str,
        curves: Mapping[str, Sequence[Sequence[float]]],
        x: Sequence[float],
        *,
        unit: str,
        better: Better | None = None,
        over: str = "prompt",
    ) -> None:
        """Publish the mean slope over ``x`` of each prompt's mean curve, and those slopes."""
        self.estimates[name] = stats.slope(curves, x, unit=unit, better=better, over=over)
        self.per_prompt[name] = {
            prompt: round(value, stats.DIGITS) for prompt, value in stats.slopes(curves, x).items()
        }
