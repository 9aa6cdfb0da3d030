"""What a row must be to stand on the board, beyond that its numbers follow (``results/README.md``).

The rules that a row itself can break. `sfbench verify` tells of them and `sfbench verify --strict`
holds a row to them; so do `sfbench submit` and the job that checks a pull request
(:mod:`.pull_request`), which refuse more: what is no model, or has the name of another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .schema import ModelCard, Result
from .session import slug

COMMIT = re.compile(r"[0-9a-f]{7,64}")


def broken(result: Result) -> Iterator[str]:
    """Each rule that a row breaks, as the end of a sentence that begins with its name."""
    if not result.validity.ok:
        yield f"is INVALID: {'; '.join(result.validity.reasons)}"
    where = result.provenance
    if where.dirty is not False or not COMMIT.fullmatch(where.commit or ""):
        state = "with changes of its own" if where.dirty else "that is not known"
        yield (
            f"was run by code {state} (commit {where.commit}); run it again from a clean checkout "
            "of sfbench, so that the row can be made again"
        )
    if result.model.kind == "model" and (missing := _unsaid(result.model)):
        yield f"has a model card that does not say {' and '.join(missing)}"


def not_a_model(result: Result) -> str | None:
    """Why nobody but the project itself adds the row; as above."""
    kind = result.model.kind
    return None if kind == "model" else f"is a {kind}; only models are submitted"


def place(result: Result) -> Path:
    """Where a row lies under ``results/``."""
    return Path("runs", result.task.name, slug(result.model.name))


def same_model(there: Result, here: Result) -> bool:
    """Whether a newer run of the same model replaces an older one."""
    first, second = there.model, here.model
    return (first.name, first.revision, first.weights_sha256) == (
        second.name,
        second.revision,
        second.weights_sha256,
    )


def _unsaid(card: ModelCard) -> list[str]:
    """What a reader must know to find the model again."""
    said = {
        "its revision": card.revision.strip() not in ("", "unknown"),
        "in its notes where its weights can be had, or that they cannot": card.notes.strip() != "",
    }
    return [name for name, there in said.items() if not there]
