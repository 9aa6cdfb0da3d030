"""Results -> comparable groups -> ranked boards and verdicts (:mod:`.tables` writes them).

Rows are ranked together only where their comparison keys agree. Models are sorted by the task's
primary estimate; a model whose paired difference from the leader of its group includes 0 shares the
leader's rank (``2=``). Flagged and invalid rows are listed, not ranked; a cheat that no flag caught
is ranked, so that a measure that can be gamed is seen to be. Output depends on the results alone:
equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from . import stats
from .boards import Board, Column, board_of
from .cli_common import INCOMPARABLE
from .plain_files import FileError
from .row_files import read_untouched
from .schema import Estimate, Result, TaskCard
from .store import MANIFEST, RESULT
from .verdicts import Comparison, Side, comparison, excludes_zero, noted, together

BOARDS = "boards"
"""A folder of results may have boards of their own in it, one a subject. What lies there is not on
the board above, and is read by whoever names it."""


class Incomparable(ValueError):
    """Rows that must not be compared; the text names the fields that differ."""

    exit_code = INCOMPARABLE


class Unreadable(ValueError):
    """A file that is no result, was changed, or is of a newer version; the text is one sentence."""


@dataclass(frozen=True)
class Row:
    """One line of a board."""

    rank: str
    """``1``, ``2=``, or ``-`` where the row is not ranked."""
    result: Result
    label: str
    note: str
    """Why it is not ranked, or what kind of row it is."""
    rank_low: int | None = None
    """Best rank of its 95 % interval; ``None`` where it is not ranked or fewer than two prompts
    are common to the ranked rows."""
    rank_high: int | None = None
    """Worst rank of that interval."""


@dataclass(frozen=True)
class Group:
    """Results that may be compared, in the order in which they are shown."""

    task: TaskCard
    board: Board
    ranked: tuple[Row, ...]
    unranked: tuple[Row, ...]
    reference: tuple[Row, ...]
    native: tuple[Row, ...]
    """Models without a horizon: the whole clip at once."""

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, best first."""
        return self.ranked + self.unranked + self.reference + self.native

    @property
    def parts(self) -> dict[str, tuple[Column, ...]]:
        """The board's tables, with the columns that any row has a value for."""
        parts = self.board.parts or {"Estimates": self._all_columns()}
        found = {
            heading: tuple(filter(self._measured, columns)) for heading, columns in parts.items()
        }
        return {heading: columns for heading, columns in found.items() if columns}

    def _all_columns(self) -> tuple[Column, ...]:
        """One column an estimate, for a task without a board."""
        estimates = {name: e for row in self.rows for name, e in row.result.estimates.items()}
        return tuple(
            Column(name, name, e.better, e.unit or "no unit", brief=True)
            for name, e in sorted(estimates.items())
        )

    def _measured(self, column: Column) -> bool:
        estimates = [row.result.estimates.get(column.key) for row in self.rows]
        return any(e is not None and not (e.value is None and e.low is None) for e in estimates)


# --- reading and grouping -------------------------------------------------------------------------


def load(paths: Iterable[Path]) -> list[Result]:
    """Read results: files, run directories, or trees such as ``results/runs``.

    Of several runs of the same weights under the same conditions the latest is kept.
    """
    return _latest(result for _, result in sources(paths))


def joined(own: Sequence[Result], others: Iterable[Result]) -> list[Result]:
    """Results, and those of the others that they can be compared with."""
    keys = {result.comparison_key for result in own}
    return _latest([*own, *(result for result in others if result.comparison_key in keys)])


def _latest(results: Iterable[Result]) -> list[Result]:
    latest: dict[tuple[str, ...], Result] = {}
    for result in results:
        weights = result.model.weights_sha256 or ""
        key = (result.comparison_key, result.model.name, result.model.revision, weights)
        if key not in latest or latest[key].provenance.started <= result.provenance.started:
            latest[key] = result
    return [latest[key] for key in sorted(latest)]


def sources(paths: Iterable[Path]) -> list[tuple[Path, Result]]:
    """Every result at or below the paths, with the folder it lies in."""
    files = sorted({file for path in paths for file in _files(path)})
    return [(file.parent, _read(file)) for file in files]


def collected(path: Path) -> list[Path]:
    """Results below a path that were taken out of their run directories and have no records beside
    them: ``<task>@<version>/<run id>.json``.
    """
    folders = {file.parent for file in path.rglob("*@*/*.json")}
    apart = [f for f in folders if not (f / MANIFEST).exists()]  # `model@4` is a run directory
    return sorted(f for folder in apart for f in folder.glob("*.json") if f.name != RESULT)


def groups(results: Iterable[Result]) -> list[Group]:
    """Results by comparison key, each group ranked; task, then tier, then key give the order."""
    by_key: dict[str, list[Result]] = {}
    for result in results:
        by_key.setdefault(result.comparison_key, []).append(result)
    tiers = {"full": 0, "lite": 1, "smoke": 2}
    found = [_group(members) for members in by_key.values()]
    return sorted(
        found,
        key=lambda g: (
            g.task.name,
            -g.task.version,
            tiers.get(g.task.tier, 3),
            sorted(g.rows[0].result.comparison.items()),
        ),
    )


def require_comparable(results: Sequence[Result]) -> None:
    """Raise :class:`Incomparable`, naming each field that differs, unless all keys agree."""
    for other in results[1:]:
        if differing := differences(results[0], other):
            fields = "; ".join(
                f"{name} ({_short(a)} vs {_short(b)})" for name, (a, b) in differing.items()
            )
            raise Incomparable(
                f"Cannot compare {results[0].model.name} with {other.model.name}: "
                f"they differ in {fields}. Run both under one setting."
            )


def differences(first: Result, second: Result) -> dict[str, tuple[str, str]]:
    """Field -> both values, where two results were not got under the same conditions."""
    a, b = first.comparison, second.comparison
    return {
        name: (a.get(name, "-"), b.get(name, "-"))
        for name in sorted(a.keys() | b.keys())
        if a.get(name) != b.get(name)
    }


def paired(first: Result, second: Result, estimate: str) -> Estimate:
    """``first - second`` over the prompts both have; refuses incomparable rows."""
    require_comparable([first, second])
    known = [r.estimates[estimate] for r in (first, second) if estimate in r.estimates]
    return stats.difference(
        first.per_prompt.get(estimate, {}),
        second.per_prompt.get(estimate, {}),
        unit=known[0].unit if known else "",
        better=known[0].better if known else None,
        over=board_of(first.task.name).over,
    )


# --- ranking --------------------------------------------------------------------------------------


def _group(members: Sequence[Result]) -> Group:
    require_comparable(members)
    board = board_of(members[0].task.name)
    label = _labels(members)
    ranked, unranked, reference, native = [], [], [], []
    for result in sorted(members, key=lambda r: (r.model.name, r.model.revision)):
        row = Row("-", result, label(result), _note(result, board))
        if result.model.kind == "reference-row":
            reference.append(row)
        elif not result.model.causal and board.horizon:
            native.append(row)
        elif row.note:
            unranked.append(row)
        else:
            ranked.append(row)
    return Group(
        members[0].task,
        board,
        tuple(_rank(ranked, board)),
        tuple(unranked),
        tuple(reference),
        tuple(native),
    )


def _rank(rows: Sequence[Row], board: Board) -> list[Row]:
    """Sort by the primary estimate and give shared ranks to what is tied with a group's leader."""
    if board.primary is None:
        return list(rows)
    primary = board.primary

    def value(row: Row) -> float:
        estimate = row.result.estimates[primary]
        assert estimate.value is not None  # _note keeps such rows out
        return -estimate.value if estimate.better == "higher" else estimate.value

    tied: list[list[Row]] = []
    for row in sorted(rows, key=value):
        if tied and _tie(tied[-1][0].result, row.result, primary):
            tied[-1].append(row)
        else:
            tied.append([row])
    ends = _rank_intervals([row.result for members in tied for row in members], primary)
    ranked: list[Row] = []
    for members in tied:
        place = len(ranked) + 1
        rank = f"{place}=" if len(members) > 1 else str(place)
        for row in members:
            kind = "cheat, not caught by any flag" if row.result.model.kind == "cheat" else ""
            ranked.append(Row(rank, row.result, row.label, kind, *ends[len(ranked)]))
    return ranked


def _rank_intervals(
    results: Sequence[Result], estimate: str
) -> Sequence[tuple[int | None, int | None]]:
    """``(best, worst)`` rank of each; ``None`` where fewer than two prompts are common to all."""
    if not results:
        return []
    better = results[0].estimates[estimate].better
    found = stats.rank_intervals([r.per_prompt.get(estimate, {}) for r in results], better)
    return found or [(None, None)] * len(results)


def _tie(first: Result, second: Result, estimate: str) -> bool:
    """Whether the paired difference may be 0; without an interval it may."""
    return not excludes_zero(paired(first, second, estimate))


def _note(result: Result, board: Board) -> str:
    """Why a row cannot be ranked; empty where it can."""
    validity = result.validity
    reasons = list(validity.flags) + ([] if validity.ok else ["INVALID", *validity.reasons])
    apart = board.horizon and not result.model.causal
    if board.primary is not None and not reasons and not apart:
        primary = result.estimates.get(board.primary)
        if primary is None or primary.value is None:
            reasons.append(primary.method if primary else f"no {board.primary}")
    return "; ".join(dict.fromkeys(reasons))


def _labels(members: Sequence[Result]) -> Callable[[Result], str]:
    """A model's name, with its revision where the name alone is not unique."""
    names = [m.model.name for m in members]

    def label(result: Result) -> str:
        model = result.model
        return model.name if names.count(model.name) == 1 else f"{model.name}@{model.revision}"

    return label


# --- verdicts -------------------------------------------------------------------------------------


def verdicts(group: Group, *, leader_only: bool = False) -> list[str]:
    """Sentences on each pair of ranked models, and what so many of them amount to.

    ``leader_only``: for each estimate, only the pairs of the model that is best in it.
    """
    found = comparisons(group, leader_only=leader_only)
    sentences = [one.sentence for one in found] + [noted(found)]
    return [sentence for sentence in sentences if sentence]


def comparisons(group: Group, *, leader_only: bool = False) -> list[Comparison]:
    """What :func:`verdicts` puts in words: the pairs, in each estimate that the board names."""
    columns = {column.key: column for column in group.board.columns}
    return together(
        [
            comparison(group.board, columns[name], Side(a.label, a.result), Side(b.label, b.result))
            for name in group.board.verdicts
            for a, b in _pairs(group.ranked, columns[name], leader_only)
        ]
    )


def _pairs(rows: Sequence[Row], column: Column, leader_only: bool) -> list[tuple[Row, Row]]:
    found = [(row, row.result.estimates.get(column.key)) for row in rows]
    values = [(e.value, row) for row, e in found if e is not None and e.value is not None]
    measured = [row for _, row in values]
    if not leader_only or not values:
        return list(combinations(measured, 2))
    sign = -1 if column.better == "higher" else 1
    best = min(values, key=lambda pair: sign * pair[0])[1]
    return [(best, row) for row in measured if row is not best]


# --- helpers --------------------------------------------------------------------------------------


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _files(path: Path) -> list[Path]:
    """Result files at or below a path, those of the boards within it left out."""
    if path.is_file():
        return [path]
    found = {*path.rglob(RESULT), *collected(path)}
    return sorted(file for file in found if BOARDS not in file.relative_to(path).parts)


def _read(path: Path) -> Result:
    try:
        return read_untouched(path)
    except FileError as error:
        raise Unreadable(str(error)) from None
