"""What a row starts from, and what it learns from; imports nothing heavy.

``methods.py`` knows the same of the methods' classes; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
KNOWN = ("codec", "teacher", "diffusion-forcing", "teacher-forcing", *USES)
"""All methods that are ours."""
CLIPLESS = ("ode", "self-forcing-dmd", "self-forcing-sid", "bidirectional-dmd")
"""Methods that learn from networks alone: of what is trained on, they read the prompts."""


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


def needs_clips(preset: Preset, row: str) -> bool:
    """Whether a row reads true clips; of a method that is not ours, it is thought to."""
    config = preset.method(row)
    beside = config.image or config.anchor or config.gan.weight
    return preset.kind(row) not in CLIPLESS or bool(beside)


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
