"""The committed board is what the tool makes, the committed records what the weights make."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sfbench import report, stats
from sfbench.arms import Played, play
from sfbench.models import resolve
from sfbench.published import read
from sfbench.reference.catalogue import HEADLINE, SHIPPED, shipped
from sfbench.reference.checkpoint import load_weights
from sfbench.reference.recipes import load_preset, recipe_hash
from sfbench.registry import load, providers
from sfbench.schema import Record, Result

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
RUNS = sorted(path.parent for path in (RESULTS / "runs").glob("*/*/result.json"))
BOARD = RESULTS / "boards" / "ablation"
ABLATED = sorted(path.parent for path in (BOARD / "runs").glob("*/*/result.json"))
WEIGHTS = sorted(SHIPPED.glob("*.safetensors"))

# What float arithmetic of another machine may do to a graded violation. The requests regenerated
# are those under true context, where no error feeds on itself.
CLOSE = 0.02
# The same of a chunk's fingerprint, in levels of 255.
PRINT_CLOSE = 0.5


def records(run: Path) -> list[Record]:
    lines = (run / "records.jsonl").read_text().splitlines()
    return [Record.model_validate_json(line) for line in lines]


def result(run: Path) -> Result:
    return Result.model_validate_json((run / "result.json").read_text())


def task_of(committed: Result) -> Any:
    return load("tasks", committed.task.name)(committed.task.dataset, committed.task.tier)


@pytest.mark.parametrize("name", providers("tasks"))
def test_all_methods_and_cheats_are_on_each_board(name: str) -> None:
    kind, found = load("tasks", name), [result(run) for run in RUNS]
    by_name = getattr(kind, "BY_NAME_ONLY", False)
    tier = "lite" if by_name else "full"
    ran = {r.model.name for r in found if r.task.name == name and r.task.tier == tier}
    bidirectional = {r.model.name for r in found if not r.model.causal} if by_name else set()
    assert {model.partition(":")[2] for model in shipped()} - bidirectional <= ran
    assert {"cheat:frozen", "cheat:loop", "cheat:noise"} <= ran
    assert set((kind(tier=tier) if by_name else kind).reference_rows) <= ran


def test_committed_tables_are_what_the_tool_makes(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text((ROOT / "README.md").read_text())
    for name in ("published", "boards"):
        (tmp_path / name).symlink_to(RESULTS / name)
    report.write_report([RESULTS / "runs"], tmp_path, ["csv", "md"], page)
    for name in ("leaderboard.csv", "LEADERBOARD.md"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text(), (
            f"run `make board`: {name}"
        )
    assert page.read_text() == (ROOT / "README.md").read_text(), "run `make board`: README.md"


def test_committed_rows_are_valid_and_closed() -> None:
    """That each follows from its records is shown by `sfbench verify results`, in `make test`."""
    for run in RUNS + ABLATED:
        committed = result(run)
        assert committed.validity.ok, committed.validity.reasons
        assert committed.division == "closed" and committed.sha256


@pytest.mark.parametrize("name", shipped())
def test_two_requests_of_each_model_come_out_again(name: str) -> None:
    model = resolve(name)
    of_task = [run for run in RUNS if run.parent.name == "long-horizon"]
    run = next(run for run in of_task if result(run).model.name == model.card.name)
    committed = result(run)
    assert model.card == committed.model
    task = task_of(committed)
    arm = "true" if model.card.accepts_context else "free"
    chosen = [r for r in records(run) if r.request.arm == arm][:2]
    answers = play(model, [r.request for r in chosen], task.truth)
    for record, answer in zip(chosen, answers, strict=True):
        assert isinstance(answer, Played) and record.scores is not None
        scores = task.score(record.request, answer.frames)
        assert scores.series.keys() == record.scores.series.keys()
        for kind, values in record.scores.series.items():
            near = PRINT_CLOSE if kind.startswith("print") else CLOSE
            assert scores.series[kind] == pytest.approx(values, abs=near), kind


@pytest.mark.parametrize("path", sorted((BOARD / "cards").glob("*.json")), ids=lambda p: p.stem)
def test_weights_of_the_ablation_come_back_from_the_recipe_on_their_card(path: Path) -> None:
    card, preset = json.loads(path.read_text()), load_preset("tiny")
    row = path.stem.removeprefix("tiny-")
    assert card["name"] == row and card["recipe"] == recipe_hash(preset, row)
    for ancestor, sha256 in card["ancestors"].items():
        kept = [folder / f"tiny-{ancestor}.json" for folder in (SHIPPED, BOARD / "cards")]
        (of_ancestor,) = (json.loads(file.read_text()) for file in kept if file.exists())
        assert of_ancestor["sha256"] == sha256
    for task in ("long-horizon", "quality"):
        found = result(BOARD / "runs" / task / row)
        assert found.model.name == row and found.model.weights_sha256 == card["sha256"]
        assert found.provenance.dirty is False and "reference:" in (found.provenance.command or "")


def test_every_row_of_the_recipes_ships_or_is_on_the_board_of_the_ablation() -> None:
    cards = {path.stem.removeprefix("tiny-") for path in (BOARD / "cards").glob("*.json")}
    assert cards == set(load_preset("tiny").methods) - set(HEADLINE)
    for task in ("long-horizon", "quality"):
        assert {run.name for run in ABLATED if run.parent.name == task} == cards
    rows = {row["row"] for row in read(BOARD / "published" / "self-forcing-ablation.csv")}
    assert rows <= cards | set(HEADLINE) and len(rows) == 14


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda path: path.stem)
def test_shipped_weights_are_small_and_documented(path: Path) -> None:
    _, card = load_weights(path)  # checks the hash
    preset, _, method = path.stem.partition("-")
    assert path.stat().st_size <= 6 * 2**20
    assert card["recipe"] == recipe_hash(load_preset(preset), method), (
        "retrain, or restore the recipe"
    )
    for ancestor, sha256 in card["ancestors"].items():
        assert load_weights(SHIPPED / f"{preset}-{ancestor}.safetensors")[1]["sha256"] == sha256
    assert {"machine", "wall_s", "seed", "steps", "selection"} <= card.keys()
    assert card["expect"] == load_preset(preset).method(method).expect != ""


def test_the_folder_of_weights_stays_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= 32 * 2**20
    assert {p.stem for p in WEIGHTS} <= {f"tiny-{m}" for m in HEADLINE}


@pytest.mark.parametrize("run", RUNS + ABLATED, ids=lambda run: "/".join(run.parts[-2:]))
def test_no_interval_leaves_what_its_unit_allows(run: Path) -> None:
    """A share above 1 in a picture makes the rest of it hard to believe."""
    found = result(run)
    numbers = [*found.estimates.values(), *(e for c in found.curves.values() for e in c.y)]
    for estimate in numbers:
        low, high = stats.RANGES.get(estimate.unit, (-math.inf, math.inf))
        ends = [e for e in (estimate.low, estimate.value, estimate.high) if e is not None]
        assert all(low <= end <= high for end in ends), estimate
    if "drift" in found.curves:
        assert {e.unit for e in found.curves["drift"].y} <= {"share lost"}
