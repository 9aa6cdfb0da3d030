"""The files that a row consists of, as documents: read without trust, and their JSON schema.

manifest.json   :class:`Manifest`, what the run is
records.jsonl   one :class:`.schema.Record` a line
result.json     :class:`.schema.Result`, what is concluded
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic.json_schema import models_json_schema

from .certification import Certification
from .migrations import VersionError, migrate
from .plain_files import FileError, read_json, shown
from .schema import Base, ModelCard, Record, Result, TaskCard, digest
from .store import MANIFEST, RECORDS

Document = TypeVar("Document", bound=Base)


class Requests(Base):
    """All requests of a run."""

    count: int
    sha256: str
    """Of their keys, in order."""


class Manifest(Base):
    """What makes two runs the same run."""

    schema_version: int
    sfbench: str
    task: TaskCard
    model: ModelCard
    requests: Requests


def read_manifest(root: Path) -> Manifest:
    """The manifest of a run directory; what is none is a :class:`.plain_files.FileError`."""
    return _read(root / MANIFEST, Manifest, "manifest")


def read_result(path: Path) -> Result:
    """The result in a file; what is none is a :class:`.plain_files.FileError`."""
    return _read(path, Result, "result")


def read_untouched(path: Path) -> Result:
    """The same, unless it was changed after it was written: its own hash tells.

    A result without one is read: version 1 had none, and who takes a hash away could as well make
    another. Only `sfbench verify` shows what follows from the records.
    """
    result = read_result(path)
    if result.sha256 and not is_untouched(path):
        raise FileError(
            path,
            "was changed after it was written: it has another hash than its own sha256 says; "
            "restore it, or remove it and run the same command again to conclude it from its "
            f"{RECORDS}",
        )
    return result


def is_untouched(path: Path) -> bool:
    """Whether the content of a file of a result, as it lies there, has the hash that it holds."""
    content = read_json(path)
    return bool(content.pop("sha256", "") == digest(content))


def schema() -> str:
    """The JSON schema of all that is written, as one document."""
    written: dict[str, type[Base]] = {
        "manifest": Manifest,
        "record": Record,
        "result": Result,
        "certification": Certification,
    }
    modes = [(model, "serialization") for model in written.values()]
    refs, definitions = models_json_schema(modes)  # type: ignore[arg-type]
    found = {name: refs[model, "serialization"] for name, model in written.items()}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Files of sfbench: manifest.json, a line of records.jsonl, result.json, "
        "certification.json",
        "properties": found,
        **definitions,
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _read(path: Path, kind: type[Document], what: str) -> Document:
    try:
        content = migrate(read_json(path))
        return kind.model_validate(content)
    except VersionError as error:
        raise FileError(path, str(error)) from None
    except FileError as error:
        reason = error.reason
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = f"is wrong in {shown(where)}: {first['msg']}"
    except (LookupError, TypeError, AttributeError) as error:  # of a migration
        reason = f"lacks what every {what} has ({shown(error)})"
    raise FileError(path, f"is not a {what} of sfbench: it {reason}")
