"""What older versions of sfbench wrote, as this one reads it.

Manifests, records and results carry ``schema_version``. :func:`migrate` takes the content of such a
file, as JSON gives it, through every version since; it needs nothing but that content, so an old
file reads the same for ever, whatever becomes of the tasks. A newer file is refused.

======= ==========================================================================================
version what changed
======= ==========================================================================================
1       the first
2       a result says its division: ``closed`` or ``open``
======= ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .schema import SCHEMA_VERSION

Content = dict[str, Any]

# The tasks as they shipped while results had version 1: the seeds of each tier.
FOUR, TWO = [0, 1, 2, 3], [0, 1]
SHIPPED_1: dict[str, dict[str, list[int]]] = {
    "long-horizon": {"smoke": TWO, "lite": FOUR, "full": FOUR},
    "quality": {"smoke": TWO, "lite": FOUR, "full": FOUR},
    "latency": {"smoke": [0], "lite": [0], "full": [0]},
}
DATASET_1, SIDE_1 = "shapes-1", 32
PARTIAL_1 = "limit: "
"""How the reason began that a result of a part of the requests gave."""


class VersionError(ValueError):
    """A file of a newer version; the text ends a sentence that names the file."""


def migrate(content: Content) -> Content:
    """The same content in the form of :data:`.schema.SCHEMA_VERSION`; the argument is not changed.

    Raises :class:`VersionError` for a newer version, ``LookupError`` or ``TypeError`` for content
    that no version of sfbench has written.
    """
    version = content["schema_version"]
    if type(version) is not int or version < 1:
        raise TypeError(f"schema_version is {version!r}")
    if version > SCHEMA_VERSION:
        raise VersionError(
            f"has schema version {version}, newer than this sfbench reads ({SCHEMA_VERSION}); "
            "upgrade sfbench"
        )
    for number, step in enumerate(STEPS[version - 1 :], start=version + 1):
        content = step(content) | {"schema_version": number}
    return content


def migrate_1_to_2(content: Content) -> Content:
    """Results say their division; manifests and records are as they were."""
    if "estimates" not in content:
        return content
    return content | {"division": _division_1(content)}


STEPS: tuple[Callable[[Content], Content], ...] = (migrate_1_to_2,)


def _division_1(result: Content) -> str:
    """``closed`` for all requests of a tier with its seeds, scenes and size."""
    task = result["task"]
    geometry, shipped = task["geometry"], SHIPPED_1.get(task["name"], {})
    exactly = (
        task["dataset"] == DATASET_1
        and task["seeds"] == shipped.get(task["tier"])
        and (geometry["height"], geometry["width"]) == (SIDE_1, SIDE_1)
    )
    reasons = result["validity"].get("reasons", [])
    partial = any(str(reason).startswith(PARTIAL_1) for reason in reasons)
    return "closed" if exactly and not partial else "open"
