"""A pull request that touches ``results/``: does it add rows that hold, and nothing else?

    python -m sfbench.pull_request BASE HEAD        in a clone of the project that has both commits

What ``.github/workflows/results.yml`` runs, with the code of the base branch. Nothing of the pull
request is checked out or run: its files are read out of git, after it is known which they are. It
may add or replace the three files of rows, and the tables that are made again here; every row that
it touches must be one that ``sfbench submit`` would have prepared.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .board_rules import not_a_model, place, same_model
from .cli_common import INVALID, USAGE
from .plain_files import JSON_BYTES, LINES_BYTES, FileError, shown
from .row_files import read_result
from .row_folders import FILES
from .store import RECORDS, RESULT
from .verify_rows import check
from .verify_tables import MAKERS, check_tables

RESULTS = "results"
NAME = r"[a-z0-9@_][a-z0-9.@_-]*"
ROW = re.compile(rf"{RESULTS}/runs/{NAME}/{NAME}/(?:{'|'.join(map(re.escape, FILES))})")
TABLES = {f"{RESULTS}/{name}" for name in MAKERS}
PLAIN = "100644"
"""How git writes a plain file that is no program."""
KINDS = {"000000": "is removed", "100755": "is a program", "120000": "is a link"}
MOST_SHOWN = 10


class GitError(Exception):
    """A repository in which the two commits cannot be compared; the text is one sentence."""


@dataclass(frozen=True)
class Change:
    """A file that a pull request changes."""

    path: str
    mode: str
    blob: str

    def refused(self) -> str | None:
        """Why it may not be changed, or so; ``None`` where it may."""
        if self.mode != PLAIN:
            return f"{shown(self.path)} {KINDS.get(self.mode, 'is no plain file')}"
        if not ROW.fullmatch(self.path) and self.path not in TABLES:
            return f"{shown(self.path)} is changed"
        return None


def examine(repository: Path, base: str, head: str) -> list[str]:
    """What is wrong with a pull request; it starts at the last commit that both branches have."""
    found = changes(repository, base, head)
    if refused := [reason for change in found if (reason := change.refused())]:
        return [f"{reason}; {_only()}" for reason in refused]
    if too_large := list(_too_large(repository, found)):
        return too_large
    with TemporaryDirectory() as scratch:
        for commit, name in ((head, "head"), (base, "base")):
            _unpack(repository, commit, Path(scratch, name))
        rows = sorted({Path(change.path).parent for change in found if change.path not in TABLES})
        wrong = [reason for row in rows for reason in _row(repository, base, Path(scratch), row)]
        if any(change.path in TABLES for change in found):
            wrong += check_tables(Path(scratch, "head", RESULTS))
        return [reason.replace(f"{scratch}/head/", "") for reason in wrong]


def changes(repository: Path, base: str, head: str) -> list[Change]:
    """Every file that the branch of ``head`` adds, changes or removes."""
    start = _git(repository, "merge-base", base, head).decode().strip()
    told = _git(repository, "diff-tree", "-r", "-z", "--no-renames", "--full-index", start, head)
    fields = told.decode(errors="surrogateescape").split("\0")
    pairs = zip(fields[0:-1:2], fields[1::2], strict=True)
    return [Change(path, line.split(" ")[1], line.split(" ")[3]) for line, path in pairs]


def _only() -> str:
    return f"a pull request that touches {RESULTS}/ adds rows, and changes nothing else"


def _too_large(repository: Path, found: Sequence[Change]) -> Iterator[str]:
    """Files that are not even read out."""
    for change in found:
        size = int(_git(repository, "cat-file", "-s", change.blob))
        most = LINES_BYTES if change.path.endswith(RECORDS) else JSON_BYTES
        if size > most:
            yield f"{change.path} has {size} bytes, and at most {most} are read"


def _unpack(repository: Path, commit: str, to: Path) -> None:
    """The folder of results as a commit has it."""
    to.mkdir()
    data = _git(repository, "archive", "--format=tar", commit, RESULTS)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(to, filter="data")


def _row(repository: Path, base: str, scratch: Path, row: Path) -> Iterator[str]:
    """What is wrong with a row that is new or changed."""
    there = scratch / "head" / row
    if findings := check(there, strict=True).findings:
        yield from (f"{row}: {finding}" for finding in findings)
        return
    result = read_result(there / RESULT)
    if reason := not_a_model(result):
        yield f"{row} {reason}"
    if row != RESULTS / place(result):
        yield f"{row} holds the row that belongs in {shown(RESULTS / place(result))}"
    if not _is_in_history(repository, str(result.provenance.commit), base):
        yield (
            f"{row} was run by the code of commit {result.provenance.commit}, which the base "
            "branch does not have; run it again from a checkout of that branch"
        )
    before = scratch / "base" / row / RESULT
    if before.exists() and not same_model(read_result(before), result):
        yield f"{row} is of another model called {shown(result.model.name)}; rename yours"


def _is_in_history(repository: Path, commit: str, base: str) -> bool:
    try:
        _git(repository, "merge-base", "--is-ancestor", commit, base)
    except GitError:
        return False
    return True


def _git(repository: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(repository), *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout
    except subprocess.CalledProcessError as error:
        said = shown(error.stderr.decode(errors="replace").strip())
        reason = said or f"exit code {error.returncode}"
    except OSError as error:
        reason = str(error)
    raise GitError(f"git {arguments[0]} in {repository} failed: {reason}.")


def main(arguments: Sequence[str]) -> int:
    """Say what is wrong; the exit code is that of ``sfbench verify``."""
    if len(arguments) != 2 or any(commit.startswith("-") for commit in arguments):
        print("usage: python -m sfbench.pull_request BASE HEAD", file=sys.stderr)
        return USAGE
    base, head = arguments
    try:
        wrong = examine(Path(), base, head)
    except (GitError, FileError) as error:
        print(f"sfbench: {error}", file=sys.stderr)
        return USAGE
    for reason in wrong[:MOST_SHOWN]:
        print(f"wrong  {reason}")
    if len(wrong) > MOST_SHOWN:
        print(f"wrong  and {len(wrong) - MOST_SHOWN} more")
    print("refused" if wrong else f"ok     every row of {head} that is not in {base} holds")
    return INVALID if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
