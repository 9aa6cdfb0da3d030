"""A finished row, prepared for the pull request that adds it to ``results/``.

Three files travel: ``manifest.json``, ``records.jsonl`` and ``result.json``, into
``results/runs/TASK/MODEL/``. Clips stay with whoever made them. A row that would not pass the check
of the pull request is not prepared.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .board_rules import not_a_model, place, same_model
from .cli_common import INVALID
from .row_files import read_result
from .row_folders import FILES
from .schema import Result
from .session import slug
from .store import RESULT, replacing
from .verify_rows import check


class Refused(ValueError):
    """A row that is not submitted; the text is one sentence."""

    exit_code = INVALID


@dataclass(frozen=True)
class Submission:
    """What is added, and where."""

    run: Path
    target: Path
    result: Result

    def lines(self) -> list[str]:
        """The files, and what to type next."""
        model, task = self.result.model.name, self.result.task.name
        name = slug(f"{task}-{model}")
        sizes = [f"{(self.run / name).stat().st_size:>10,} bytes" for name in FILES]
        return [
            *(f"{self.target / file}  {size}" for file, size in zip(FILES, sizes, strict=True)),
            "",
            "Then, in a clone of the project:",
            f"  git switch --create {name}",
            f"  git add {self.target}",
            f"  git commit --message 'Row: {model} on {task}'",
            f"  git push --set-upstream origin {name}",
            "and open a pull request; the tables are made again when it is merged.",
        ]


def prepare(run: Path, results: Path) -> Submission:
    """Check a run directory, and say what it would add to ``results``."""
    found = check(run, strict=True)
    if not found.ok:
        more = "" if len(found.findings) == 1 else f" (and {len(found.findings) - 1} more)"
        raise Refused(f"{run}: {found.findings[0]}{more}; see `sfbench verify --strict`.")
    result = read_result(run / RESULT)
    if reason := not_a_model(result):
        raise Refused(f"{run} {reason}.")
    target = results / place(result)
    if (target / RESULT).exists() and not same_model(read_result(target / RESULT), result):
        raise Refused(
            f"{target} holds another model called {result.model.name}; give yours a name of its "
            "own in its card, and run it again."
        )
    return Submission(run, target, result)


def write(submission: Submission) -> list[Path]:
    """Copy the files, each whole or not at all."""
    submission.target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        with replacing(submission.target / name) as scratch:
            shutil.copyfile(submission.run / name, scratch)
    return [submission.target / name for name in FILES]
