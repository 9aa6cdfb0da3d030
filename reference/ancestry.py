"""What a row starts from, and which weights were made elsewhere; imports nothing heavy.

``methods.py`` knows the same of the methods' classes; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .catalogue import SHIPPED
from .config import Preset

DISTILLED = ("critic", "teacher")
USES = {
    "ode": ("teacher",),
    "causal-ode": ("teacher",),
    "consistency": ("teacher",),
    "causvid": DISTILLED,
    "tf-dmd": DISTILLED,
    "self-forcing-dmd": DISTILLED,
    "self-forcing-sid": DISTILLED,
    "self-forcing-gan": ("critic",),
    "bidirectional-dmd": DISTILLED,
}
"""The networks a method has beside its generator; what is not here has none."""


def role(preset: Preset, row: str, name: str) -> str:
    """The row whose weights a network of this row starts from; empty: random."""
    config = preset.method(row)
    return {"generator": config.init, "critic": config.critic_init, "teacher": config.teacher}[name]


def needs(preset: Preset, row: str, uses: Sequence[str] | None = None) -> list[str]:
    """The rows whose weights this one is built from; ``uses``: of a method that is not ours."""
    kind = preset.kind(row)
    if kind == "codec":
        return []
    names = ["codec"] if preset.codec.kind == "learned" else []
    others = USES.get(kind, ()) if uses is None else uses
    names += [role(preset, row, name) for name in ("generator", *others)]
    return [name for name in dict.fromkeys(names) if name]


def lineage(preset: Preset, rows: Iterable[str]) -> list[str]:
    """The rows and all that they start from, ancestors first."""
    found: list[str] = []
    seen: set[str] = set()  # rows that start from one another must not go round for ever

    def add(row: str) -> None:
        if row not in seen:
            seen.add(row)
            for ancestor in needs(preset, row):
                add(ancestor)
            found.append(row)

    for row in rows:
        add(row)
    return found


def at_hand(preset: Preset, row: str, weights: Path) -> bool:
    """Whether a row's weights are in the run's folder of weights, or ship."""
    name = f"{preset.name}-{row}.safetensors"
    return any((folder / name).is_file() for folder in (weights, SHIPPED))


def made_elsewhere(preset: Preset, rows: Iterable[str]) -> dict[str, str]:
    """What this version cannot make, and cannot read yet: part of a run -> whose weights."""
    parts = {
        f"row '{row}'": preset.method(row).given
        for row in lineage(preset, rows)
        if preset.method(row).given
    }
    if preset.codec.kind == "wan":
        parts["the codec"] = "Wan2.1's VAE"
    if preset.text.kind == "umt5":
        parts["the text encoder"] = "Wan2.1's UMT5"
    return parts


def refusal(preset: Preset, method: str) -> str:
    """One sentence where a row cannot be trained for want of others' weights; else nothing."""
    rows = [*preset.methods] if method == "all" else [method]
    absent = made_elsewhere(preset, rows)
    if not absent:
        return ""
    listed = ", ".join(f"{part} ({whose})" for part, whose in absent.items())
    return (
        f"Preset '{preset.name}' is built on reference weights that this version cannot read yet: "
        f"{listed}; `sfbench train-reference --dry-run --preset {preset.name} --method {method}` "
        "says what else the run takes."
    )
