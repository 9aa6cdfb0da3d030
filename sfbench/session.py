"""Several models on one task: what is to do, doing it, and the table at the end."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from . import runner
from .interfaces import Task, VideoModel
from .models import Cheat, resolve
from .progress import shown
from .registry import load, providers
from .schema import ModelCard, Request, Result
from .shards import Shard, everything
from .store import RESULT

PLAIN = {"dataset", "tier", "size", "scope", "seeds"}
"""Arguments of tasks that have a flag of their own; others are given with ``--set``."""
CHEATS = tuple(f"cheat:{name}" for name in Cheat.NAMES)


class UsageError(Exception):
    """A command that cannot be carried out; the text is one sentence."""


@dataclass(frozen=True)
class Plan:
    """One model's share of a session."""

    task: Task
    name: str
    card: ModelCard
    requests: tuple[Request, ...]
    out: Path
    model: VideoModel | None
    """Kept where the session has no other model, so that it is loaded once."""


def plan(
    task_name: str,
    given: Mapping[str, Any],
    names: Sequence[str],
    out: Path | None,
    limit: int | None,
) -> list[Plan]:
    """Check every name before an hour is spent on the first one.

    ``given``: arguments of the task. No ``names``: all models that ship, the cheats, and the task's
    reference rows.
    """
    task = _make_task(task_name, given)
    root = out or Path("runs") / _folder(task, given)
    wanted = dict.fromkeys(names or _default_names(task))
    plans: list[Plan] = []
    for name in wanted:
        model = resolve(name)
        requests = tuple(task.requests(model.card)[:limit])
        place = root / slug(model.card.name)
        taken = next((other.name for other in plans if other.out == place), None)
        if taken:
            raise UsageError(f"'{taken}' and '{name}' would both run in {place}; run them apart.")
        kept = model if len(wanted) == 1 else None
        plans.append(Plan(task, name, model.card, requests, place, kept))
    return plans


def plan_all(
    task_name: str,
    given: Mapping[str, Any],
    names: Sequence[str],
    out: Path | None,
    limit: int | None,
) -> list[list[Plan]]:
    """Plans by task; ``all`` is every task, each with those of the arguments that it takes."""
    if task_name != "all":
        return [plan(task_name, given, names, out, limit)]
    found = []
    for name in providers("tasks"):
        kind = load("tasks", name)
        if getattr(kind, "BY_NAME_ONLY", False):
            continue
        taken = signature(kind).parameters
        own = {key: value for key, value in given.items() if key in taken}
        found.append(plan(name, own, names, out / name if out else None, limit))
    return found


def show(plans: Sequence[Plan]) -> None:
    """What would be run."""
    table = Table("model", "requests", "by arm", "frames", "done", box=None)
    table.add_column("run directory", overflow="fold")
    for item in plans:
        done = {key for key, record in everything(item.out).items() if not record.failure}
        arms = Counter(request.arm for request in item.requests)
        table.add_row(
            item.name,
            str(len(item.requests)),
            ", ".join(f"{arm} {count}" for arm, count in arms.items()),
            str(sum(request.geometry.frames for request in item.requests)),
            str(sum(request.key in done for request in item.requests)),
            str(item.out),
        )
    _console().print(table)


def run(
    plans: Sequence[Plan], options: Mapping[str, Any], shard: Shard | None = None
) -> list[Result]:
    """Run what is not done, print the table, and name what was written.

    Where time is measured, several models take turns, each other one in reverse order: a machine
    whose speed wanders would else favour one of them, and one that slows down the first. Of a
    ``shard``, the results are those of the runs that it completed.
    """
    if shard is not None:
        return _run_shard(plans, options, shard)
    results: dict[Path, Result] = {}
    rounds = getattr(plans[0].task, "rounds", 1) if len(plans) > 1 else 1
    for turn in range(1, rounds + 1):
        title = "" if rounds == 1 else f", turn {turn} of {rounds}"
        for item in plans if turn % 2 else reversed(plans):
            with shown(_console(stderr=True), item.name + title) as progress:
                model = item.model or resolve(item.name)
                results[item.out] = runner.run(
                    item.task,
                    model,
                    item.out,
                    progress=progress,
                    name=item.name,
                    share=turn / rounds,
                    **options,
                )
                if hasattr(model, "close"):
                    model.close()
    found = [(item.out, results[item.out]) for item in plans]
    _tell(found)
    return [result for _, result in found]


def _run_shard(plans: Sequence[Plan], options: Mapping[str, Any], shard: Shard) -> list[Result]:
    """One shard of each model's run; for a run that others are to complete, what is missing."""
    whole: list[tuple[Path, Result]] = []
    console = _console()
    for item in plans:
        with shown(_console(stderr=True), f"{item.name}, shard {shard}") as progress:
            model = item.model or resolve(item.name)
            found = runner.run_shard(
                item.task, model, item.out, shard, progress=progress, name=item.name, **options
            )
            if hasattr(model, "close"):
                model.close()
        if isinstance(found, Result):
            whole.append((item.out, found))
        else:
            console.print(f"{item.out}: {found}", soft_wrap=True)
    if whole:
        _tell(whole)
    return [result for _, result in whole]


def _tell(found: Sequence[tuple[Path, Result]]) -> None:
    """The table, the files, and what failed."""
    from .report import print_board

    console = _console()
    print_board([result for _, result in found], console)
    for out, result in found:
        kinds = ", ".join(f"{count} {kind}" for kind, count in result.failures.items())
        failed = f"  failed: {kinds}; --retry-errors runs them again" if kinds else ""
        console.print(f"{out / RESULT}{failed}", soft_wrap=True)


def sides(text: str | None) -> int | tuple[int, int] | None:
    """``N``, or ``WIDTHxHEIGHT`` as height and width."""
    if text is None:
        return None
    numbers = [int(part) for part in text.lower().split("x") if part.isdecimal() and int(part)]
    if len(numbers) != text.lower().count("x") + 1 or len(numbers) > 2:
        raise UsageError(f"--size {text}: write pixels a side, or WIDTHxHEIGHT, e.g. 832x480.")
    return numbers[0] if len(numbers) == 1 else (numbers[1], numbers[0])


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Arguments of a task from ``KEY=VALUE``; a value is read as YAML reads it."""
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and key) or key in PLAIN:
            flag = f"use --{key}" if key in PLAIN else "write KEY=VALUE"
            raise UsageError(f"--set {pair}: {flag}.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[key] = value
    return found


def slug(name: str) -> str:
    """A name as the name of a folder."""
    return re.sub(r"[^a-z0-9.@_]+", "-", name.lower()).strip("-.") or "model"


def _make_task(name: str, given: Mapping[str, Any]) -> Task:
    kind = load("tasks", name)
    tier = given.get("tier")
    if tier is not None and tier not in kind.TIERS:
        raise UsageError(f"{name} has no tier '{tier}'; the tiers are {', '.join(kind.TIERS)}.")
    if refused := given.keys() - (taken := signature(kind).parameters).keys():
        first = sorted(refused)[0]
        said = f"--{first}" if first in PLAIN else f"'{first}'"
        raise UsageError(f"{name} takes no {said}; leave it out. It takes {', '.join(taken)}.")
    try:
        task: Task = kind(**given)
    except (ValueError, LookupError) as error:
        raise UsageError(f"The task {name} cannot be set up so: {error}") from error
    return task


def _folder(task: Task, given: Mapping[str, Any]) -> str:
    """``<task>-<tier>``, and whatever else was asked for, so that each has its own directory."""
    parts = [task.card.name, task.card.tier]
    if "dataset" in given:
        parts.append(Path(str(given["dataset"])).name)
    if "size" in given:
        sides = given["size"]
        parts.append(f"{sides}px" if isinstance(sides, int) else "{}x{}px".format(*sides))
    if "scope" in given:
        parts.append(str(given["scope"]))
    if "seeds" in given:
        parts.append(f"{len(given['seeds'])}seeds")
    parts += [f"{name}-{given[name]}" for name in sorted(given.keys() - PLAIN)]
    return slug("-".join(parts))


def _console(stderr: bool = False) -> Console:
    """Names stay as they are: `cheat:loop` holds no emoji."""
    return Console(stderr=stderr, emoji=False, markup=False, highlight=False)


def _default_names(task: Task) -> list[str]:
    rows: Sequence[str] = getattr(task, "reference_rows", ())
    return [*load("listings", "models")(), *CHEATS, *rows]
