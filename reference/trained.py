"""Where trained weights are found: a run's own folder first, then those that ship.

Rows that stand for weights made elsewhere are known by their hashes alone; ``given.py`` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from .catalogue import SHIPPED
from .checkpoint import CheckpointError, load_weights


@dataclass(frozen=True)
class Library:
    """The weights of a preset, by method."""

    preset: str
    folder: Path
    given: Mapping[str, str] = field(default_factory=dict)
    """The hash of each row that stands for weights made elsewhere; empty: they are not given."""

    def path(self, method: str) -> Path:
        """Where this run writes a method's weights."""
        return self.folder / f"{self.preset}-{method}.safetensors"

    def find(self, method: str) -> Path | None:
        """The run's own weights, else the shipped ones, else nothing."""
        for folder in (self.folder, SHIPPED):
            path = folder / f"{self.preset}-{method}.safetensors"
            if path.exists():
                return path
        return None

    def require(self, method: str, wanted_by: str) -> Path:
        """The weights of an ancestor, or a sentence that says how to get them."""
        path = self.find(method)
        if path is None:
            raise CheckpointError(
                f"'{wanted_by}' starts from '{method}', which is not trained yet: run "
                f"`sfbench train-reference --preset {self.preset} --method {method}` first, with "
                "the same --set and --out, or `--method all`."
            )
        return path

    def load(self, method: str, wanted_by: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and card."""
        return load_weights(self.require(method, wanted_by))

    def card(self, method: str) -> dict[str, Any]:
        """The card alone; of what was made elsewhere, what is known."""
        if method in self.given:
            return {"sha256": self.given[method], "needs": [], "core_hours": 0.0}
        path = self.require(method, method).with_suffix(".json")
        card: dict[str, Any] = json.loads(path.read_text())
        return card

    def lineage(self, methods: list[str]) -> list[str]:
        """The methods and all their ancestors, each once."""
        found: list[str] = []
        waiting = list(methods)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.append(name)
                waiting.extend(self.card(name)["needs"])
        return sorted(found)

    def has_fresh(self, method: str, recipe: str) -> bool:
        """True when this run's own folder holds weights of exactly this recipe."""
        path = self.path(method)
        return path.exists() and self.card(method)["recipe"] == recipe
