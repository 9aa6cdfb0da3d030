"""Estimates without values by prompt are compared from the records, or it is said why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sfbench import exposure, kernel, stats
from sfbench.boards import Board, Column
from sfbench.exposure_prints import SIZE
from sfbench.exposure_recovery import half_life
from sfbench.exposure_rows import paired
from sfbench.paired import TIMES, Run
from sfbench.schema import Estimate, ModelCard, Record, Result, Scores, Series, TaskCard
from sfbench.tasks import proxies, quality, timings
from sfbench.tasks.exposure_pairs import episodes
from sfbench.tasks.long_horizon import LongHorizon
from sfbench.tasks.quality import Quality
from sfbench.verdicts import Comparison, Side, together

from simulators import card, result

Said = Callable[..., tuple[int, str, str]]
TASK = LongHorizon(tier="smoke")
NEVER = 1e9  # chunks
CLIP = 24  # frames


def line(said: Said, name: str, *models: str) -> dict[str, object]:
    code, out, _ = said(*models, "--json")
    assert code == 0
    (pair,) = json.loads(out)["pairs"]
    found: dict[str, object] = pair["estimates"][name]
    return found


def row(model: ModelCard, task: TaskCard, estimates: dict[str, Estimate]) -> Result:
    own = np.random.default_rng(len(model.name)).normal(0, 0.01, 8)
    values = {f"test-{n}": 0.1 * n + float(v) for n, v in enumerate(own)}
    made = result(model.name, values, task=task.model_dump())
    return made.model_copy(update={"model": model, "estimates": made.estimates | estimates})


def keep(made: Result, records: Sequence[Record]) -> Path:
    folder = Path("runs", made.model.name)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(made.model_dump_json())
    text = "".join(record.model_dump_json() + "\n" for record in records)
    (folder / "records.jsonl").write_text(text)
    return folder


# --- half-lives -----------------------------------------------------------------------------------


def recovering(name: str, chunks: float, **task: object) -> Path:
    """A model whose damage is halved in so many chunks of two frames."""
    model, records = card(name), []
    for request in TASK.requests(model):
        context = request.context
        if request.arm in ("own", "corrupted") and context is not None and context.prefix == 6:
            size = 0.4 + 0.02 * int(request.prompt.id.partition("-")[2]) + 0.01 * request.seed
            damage = size * 2 ** (-np.arange(12) / chunks) if request.arm == "corrupted" else 0
            series: dict[str, Series] = {
                "violation": tuple(float(v) for v in damage + np.full(12, 0.1))
            }
            record = Record(key=request.key, request=request, scores=Scores(series=series))
            records.append(record)
    made = row(model, TASK.card.model_copy(update=task), {})
    played = episodes(Run(made, records))
    excess = paired(played.violation["corrupted"], played.violation["own"])
    found = half_life(excess, played.ends)
    return keep(
        made.model_copy(update={"estimates": made.estimates | {"recovery_half_life": found}}),
        records,
    )


def test_half_lives_are_compared_from_the_records(said: Said) -> None:
    recovering("fast", 1.5), recovering("slow", 3.6)
    found = line(said, "recovery_half_life", "fast", "slow")
    gap = found["difference"]
    assert isinstance(gap, dict)
    assert (gap["value"], gap["low"], gap["high"], gap["clusters"]) == (4 - 8, -4, -4, 8)
    assert found["verdict"].startswith("fast has a lower 'recovery' than slow, -4 [-4, -4], 8 ")
    assert found["shown"] and found["log_rank_p"] is None
    for size in ("wins", "standardised"):
        assert found[size]["value"] is None
    out = said("slow", "fast")[1]
    assert "fast has a lower 'recovery' than slow, -4 [-4, -4], 8 paired prompts" in out


def test_a_half_life_that_is_never_reached_bounds_the_difference(said: Said) -> None:
    recovering("fast", 1.5), recovering("never", NEVER)
    found = line(said, "recovery_half_life", "fast", "never")
    gap = found["difference"]
    assert isinstance(gap, dict)
    assert (gap["value"], gap["low"], gap["high"]) == (None, None, 4 - CLIP)
    assert found["shown"] and found["together"]
    for pair in (("fast", "never"), ("never", "fast")):
        out = said(*pair)[1]
        assert "fast has a lower 'recovery' than never, n/a [n/a, -20], 8 paired prompts" in out
        assert "n/a at an end of an interval" in out
    assert "n/a [+20, n/a]" in said("never", "fast")[1], "in the table"


def test_it_counts_with_the_other_comparisons(said: Said) -> None:
    """The list is one longer than without records, and the mark holds with all of it."""
    recovering("fast", 1.5), recovering("never", NEVER)
    _, out, _ = said("fast", "never")
    assert "3 comparisons, 1 with a difference shown" in out
    assert "† marks the 1 that also hold all together" in out
    assert "8 paired prompts. †" in out
    Path("runs/never/records.jsonl").unlink()
    _, out, _ = said("fast", "never")
    assert "2 comparisons, 0 with a difference shown" in out
    assert "recovery: n/a, no records beside the result of never (runs/never)." in out


def test_why_half_lives_are_not_compared(said: Said) -> None:
    recovering("never", NEVER), recovering("hardly", 1e3)
    told = "recovery: n/a, half-life of the excess violation: reached by neither within the clip."
    assert told in said("never", "hardly")[1]


def test_rows_of_other_conditions_have_no_paired_statistic(said: Said) -> None:
    recovering("fast", 1.5), recovering("other", 4, tier="lite")
    out = said("fast", "other", "--allow-mismatch")[1]
    assert "recovery: n/a, rows that differ in tier have no paired statistic." in out


@pytest.mark.parametrize(
    "field",
    [
        {"version": 1},
        {"prompts_sha256": "ab"},
        {"metrics": TASK.card.metrics | {next(iter(TASK.card.metrics)): 99}},
    ],
)
def test_rows_of_another_version_are_not_held_against_this_one(
    said: Said, field: dict[str, object]
) -> None:
    recovering("fast", 1.5, **field), recovering("slow", 3.6, **field)
    told = "recovery: n/a, the rows are of another version of the task long-horizon than is here."
    assert told in said("fast", "slow")[1]


@pytest.mark.parametrize(("limit", "marked"), [(0.9974, False), (0.9976, True)])
def test_the_mark_asks_the_statistic_at_the_level_of_the_list(limit: float, marked: bool) -> None:
    """A difference that is shown alone need not hold with nineteen others, at 1 - .05 / 20."""

    def gap(confidence: float) -> Estimate:
        high = -1.0 if confidence < limit else 1.0
        return Estimate(value=-2, low=None, high=high, n=9, clusters=9, method="of a test")

    side, column = Side("a", result("a", {})), Column("k", "k", "lower", "")
    one = Comparison(Board(primary=None), column, side, side, gap=gap(0.95), again=gap)
    assert one.made and one.shown
    assert together([one], besides=19)[0].together is marked


# --- ratios, gains, twins -------------------------------------------------------------------------


def biased(name: str, times: float, rate: float) -> Path:
    """A model that is so many times worse on its own frames, and whose twins part at some rate."""
    model, records, rng = card(name), [], np.random.default_rng(len(name))
    k = np.arange(12)
    for request in TASK.requests(model):
        context = request.context
        if context is None or context.prefix != 6:
            continue
        number = int(request.prompt.id.partition("-")[2])
        size = 0.1 + 0.01 * number + 0.002 * float(rng.normal())
        own = 1 if request.arm == "true" else times * (1 + 0.1 * k)
        prints = rng.normal(0, 0.1, (12, SIZE))
        if request.arm == "own":
            prints = prints * 0 + 1.0
        elif request.arm == "twin":
            prints = 1 + np.exp(rate * k / 6)[:, None] + 0.1 * prints
        elif request.arm == "noised":
            prints = prints + 0.3
        series: dict[str, np.ndarray] = {
            "violation": size * own * np.ones(12),
            "error": size * own * np.ones(12),
            "floor": np.zeros(12),
            "change": np.full(12, 2.0 + 0.1 * number),
            "print": prints.ravel(),
        }
        kept: dict[str, Series] = {n: tuple(float(v) for v in row) for n, row in series.items()}
        records.append(Record(key=request.key, request=request, scores=Scores(series=kept)))
    made = row(model, TASK.card, {})
    found = exposure.measure(episodes(Run(made, records)))
    return keep(made.model_copy(update={"estimates": made.estimates | found.estimates}), records)


def test_ratios_gains_and_twins_are_compared_from_the_records(said: Said) -> None:
    biased("mild", 2, 0.5), biased("severely", 3, 1.5)
    code, out, err = said("mild", "severely", "--json")
    assert code == 0 and "differences made of records: 0/" in err
    (pair,) = json.loads(out)["pairs"]
    found = {name: line for name, line in pair["estimates"].items() if line["difference"]["n"]}
    for name in ("exposure_ratio", "excess_accumulated_error"):
        gap = found[name]["difference"]
        assert gap["low"] < np.log(2 / 3) < gap["high"] and gap["unit"] == TIMES
        assert gap["clusters"] == 8 and found[name]["shown"]
        assert "mild has a lower" in found[name]["verdict"] and ", x0.6" in found[name]["verdict"]
    area = found["exposure_ratio_area"]["difference"]
    assert area["low"] < np.log(2 / 3) < area["high"] and area["unit"] == "log"
    growth = found["exposure_ratio_growth"]["difference"]
    assert growth["low"] <= 0 <= growth["high"], "both grow alike"
    gains = found["context_sensitivity"]["difference"]
    assert gains["unit"] == TIMES and gains["low"] < 0 < gains["high"]
    twins = found["twin_divergence"]["difference"]
    assert twins["low"] < 0.5 - 1.5 < twins["high"] and twins["clusters"] == 8
    out = said("mild", "severely")[1]
    assert "faster than linear: n/a, a class, not a quantity" in out
    assert "x: A over B, the ratio of their ratios" in out


def test_nothing_is_said_to_be_made_of_records_where_nothing_is(said: Said) -> None:
    model = card("plain")
    for name in ("one", "two"):
        keep(row(model.model_copy(update={"name": name}), TASK.card, {}), [])
    assert said("one", "two")[2] == ""


# --- percentiles by turn --------------------------------------------------------------------------


def test_percentiles_are_paired_where_a_turn_has_enough_gaps() -> None:
    rng = np.random.default_rng(0)
    need = stats.least_for(0.95)
    machine = {f"turn-{t}": float(rng.normal(0, 5)) for t in range(8)}

    def streamed(level: float, count: int) -> dict[str, list[float]]:
        return {t: list(level + m + rng.exponential(2, count)) for t, m in machine.items()}

    fast, slow = streamed(30, need), streamed(33, need)
    gap = timings.percentile_difference(fast, slow, 0.95)
    assert gap.low is not None and gap.high is not None and gap.low < -3 < gap.high < 0
    assert (gap.clusters, gap.unit) == (8, "ms") and "over turns" in gap.method
    few = timings.percentile_difference(fast, streamed(33, need - 1), 0.95)
    assert few.value is None
    assert few.method == (
        f"n/a: percentile 95 of a turn takes {need} gaps: both have 0 such turns of 8"
    )


# --- kernel distances -----------------------------------------------------------------------------


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> dict[str, quality.Floats]:
    """True clips as vectors drawn at random: making real ones takes a minute."""
    drawn = np.random.default_rng(0).normal(size=(8, 4, 6))
    found = {f"test-{n}": rows for n, rows in enumerate(drawn)}
    monkeypatch.setattr(Quality, "true_states", lambda task: found)
    monkeypatch.setattr(Quality, "true_features", lambda task: found)
    monkeypatch.setattr(proxies, "has_features", lambda: True)
    return found


def sampler(name: str, shift: float, truth: dict[str, quality.Floats], *series: str) -> Result:
    """A model whose vectors are off by ``shift``."""
    task, model = Quality(tier="smoke"), card(name)
    rng, records = np.random.default_rng(len(name)), []
    for request in task.requests(model):
        vector = tuple(float(v) for v in shift + rng.normal(size=6))
        scores = Scores(series=dict.fromkeys(series, vector))
        records.append(Record(key=request.key, request=request, scores=scores))
    clips = [(r.request.prompt.id, r.scores) for r in records if r.scores]
    estimates = {
        "kernel_state": kernel.distance(
            proxies.vectors(clips, "state"), truth, kernel.gaussian(truth)
        )
    }
    if proxies.VECTOR in series:
        seen = proxies.vectors(clips, proxies.VECTOR)
        estimates["kernel_features"] = kernel.distance(seen, truth)
    made = row(model, task.card, estimates)
    keep(made, records)
    return made


def test_kernel_distances_are_compared_from_the_records(
    said: Said, truth: dict[str, quality.Floats]
) -> None:
    rows = [sampler(n, s, truth, "state", proxies.VECTOR) for n, s in (("far", 3), ("near", 0.1))]
    for name, title in (("kernel_state", "state MMD"), ("kernel_features", "feature KID")):
        found = line(said, name, "far", "near")
        values = [made.estimates[name].value for made in rows]
        gap = found["difference"]
        assert isinstance(gap, dict) and None not in values
        assert gap["value"] == pytest.approx(values[0] - values[1], rel=1e-4)
        assert gap["low"] > 0 and gap["n"] == 2 * 16 + 32 and gap["clusters"] == 8
        assert f"near has a lower '{title}' than far, -" in found["verdict"]
        assert found["wins"]["value"] is None


def test_a_row_and_itself_are_not_certainly_equal(
    said: Said, truth: dict[str, quality.Floats]
) -> None:
    """The names are as long, so the vectors are the same."""
    sampler("this", 1, truth, "state"), sampler("that", 1, truth, "state")
    out = said("this", "that")[1]
    assert "state MMD: n/a, equal on all 8 paired prompts, and nothing tells how far off" in out
    assert "[+0" not in out


def test_what_one_row_has_not_measured_is_not_compared(
    said: Said, truth: dict[str, quality.Floats]
) -> None:
    sampler("far", 3, truth, "state", proxies.VECTOR), sampler("near", 0.1, truth, "state")
    out = said("far", "near")[1]
    assert "near has a lower 'state MMD' than far" in out
    assert "feature KID: n/a, near: not measured." in out


def test_without_the_network_its_features_are_not_compared(
    said: Said, truth: dict[str, quality.Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, shift in (("far", 3), ("near", 0.1)):
        sampler(name, shift, truth, "state", proxies.VECTOR)
    monkeypatch.setattr(proxies, "has_features", lambda: False)
    told = proxies.MISSING.replace("n/a: ", "feature KID: n/a, ")
    assert f"{told}." in said("far", "near")[1]


def test_a_glance_is_the_vector_of_the_whole_look() -> None:
    """True clips are seen as the model's were."""
    frames = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3)).astype(np.uint8)
    whole, _ = proxies.watch(frames, 8, ())
    assert proxies.glance(frames, 8).series == {proxies.VECTOR: whole.series[proxies.VECTOR]}
