"""What the README promises is there."""

from __future__ import annotations

from pathlib import Path

from sfbench.vbench import DIMENSIONS
from sfbench.vbench_files import WEIGHTS

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_each_vbench_dimension_and_file_is_named() -> None:
    (table,) = (part for part in README.split("\n\n") if part.startswith("| Dimension | Files |"))
    for name, dimension in DIMENSIONS.items():
        row = next(line for line in table.splitlines() if name in line.split("|")[1])
        assert (f"{name}*" in row) == (not dimension.custom), name
        for weight in WEIGHTS[name]:
            if weight.inside or "*" in weight.path or "hubconf" in weight.path:
                continue  # copied, or a folder of many
            assert weight.path.split("/")[-1] in row, weight.path
