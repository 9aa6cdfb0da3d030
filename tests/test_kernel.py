"""The kernel distance: zero between equals, the known value where there is one, larger if worse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sfbench.kernel import Kernel, Sample, cubic, difference, distance, floor, gaussian


def normal(
    prompts: int, dimensions: int, seed: int, *, shift: float = 0, each: int = 1, side: str = ""
) -> Sample:
    """One draw a prompt, ``each`` vectors about it; ``shift`` moves every dimension."""
    rng = np.random.default_rng(seed)
    return {
        f"{side}{n}": shift
        + rng.normal(size=dimensions)
        + (0.1 * rng.normal(size=(each, dimensions)) if each > 1 else np.zeros((1, dimensions)))
        for n in range(prompts)
    }


def value(*arguments: object, **options: object) -> float:
    found = distance(*arguments, **options).value  # type: ignore[arg-type]
    assert found is not None
    return found


def test_it_is_the_u_statistic() -> None:
    """Against the sums written out, one vector a prompt and no prompt in common."""
    x, y = normal(5, 3, 0, side="x"), normal(4, 3, 1, side="y", shift=0.5)

    def k(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a[0] @ b[0] / 3 + 1) ** 3)

    own_x = np.mean([k(a, b) for p, a in x.items() for q, b in x.items() if p != q])
    own_y = np.mean([k(a, b) for p, a in y.items() for q, b in y.items() if p != q])
    cross = np.mean([k(a, b) for a in x.values() for b in y.values()])
    assert value(x, y) == pytest.approx(own_x + own_y - 2 * cross, rel=1e-5)


@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("sides", [("x", "y"), ("", "")])
def test_it_is_0_on_average_between_equals(each: int, sides: tuple[str, str]) -> None:
    """Also where vectors of a prompt are alike, and where both sides have the same prompts."""
    found = []
    for seed in range(200):
        x = normal(12, 4, 2 * seed, each=each, side=sides[0])
        y = normal(12, 4, 2 * seed + 1, each=each, side=sides[1])
        found.append(_quick(x, y))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_what_pairs_within_a_prompt_would_do() -> None:
    """The reason why they are left out: as if each vector were a prompt, equals are apart."""
    found = []
    for seed in range(50):
        x, y = (normal(12, 4, 2 * seed + n, each=3, side=f"{n}-") for n in (0, 1))
        split_x, split_y = (
            {f"{p}/{n}": v[None] for p, vs in side.items() for n, v in enumerate(vs)}
            for side in (x, y)
        )
        found.append(_quick(split_x, split_y))
    assert np.mean(found) > 3 * np.std(found) / np.sqrt(len(found))


def _quick(x: Sample, y: Sample) -> float:
    from sfbench.kernel import _Sums

    sums = _Sums.of(x, y, cubic)
    ones = np.ones((1, sums.prompts))
    return float(sums.mmd2(ones, ones)[0])


@pytest.mark.parametrize("shift", [0.5, 1.0])
def test_the_cubic_kernel_compares_three_moments(shift: float) -> None:
    """(xy + 1)^3 = 1 + 3xy + 3x^2y^2 + x^3y^3, so the distance is of the first three moments."""
    grid = stats.norm.ppf((np.arange(600) + 0.5) / 600)  # a sample without chance in its moments
    x = {f"x{n}": np.full((1, 1), v + shift) for n, v in enumerate(grid)}
    y = {f"y{n}": np.full((1, 1), v) for n, v in enumerate(grid)}
    exact = 3 * shift**2 + 3 * (shift**2) ** 2 + (3 * shift + shift**3) ** 2
    assert _quick(x, y) == pytest.approx(exact, rel=0.05)


def test_the_gaussian_kernel_has_its_closed_form() -> None:
    shift, count = 1.0, 500
    x, y = normal(count, 2, 0, side="x", shift=shift), normal(count, 2, 1, side="y")
    found = value(x, y, gaussian(y))
    median = 2 * np.log(2) * 2  # of |a - b|^2: twice a chi-square of two degrees of freedom
    within = median / (median + 2)  # to the power dimensions / 2 = 1
    exact = 2 * within * (1 - np.exp(-(2 * shift**2) / (2 * (median + 2))))
    assert found == pytest.approx(exact, rel=0.15)


def test_the_gaussian_kernel_is_set_by_the_truth_alone() -> None:
    truth = normal(20, 3, 0)
    scaled = {p: v * [1, 10, 100] + 5 for p, v in truth.items()}
    model = normal(20, 3, 1, shift=0.3)
    moved = {p: v * [1, 10, 100] + 5 for p, v in model.items()}
    assert value(model, truth, gaussian(truth)) == pytest.approx(
        value(moved, scaled, gaussian(scaled)), rel=1e-4
    )


@pytest.mark.parametrize("name", ["cubic", "gaussian"])
def test_farther_is_farther(name: str) -> None:
    truth = normal(40, 6, 0, side="t")
    kernel = cubic if name == "cubic" else gaussian(truth)
    found = [value(normal(40, 6, 1, side="m", shift=s), truth, kernel) for s in (0, 0.3, 0.6, 1, 2)]
    assert found == sorted(found)
    assert found[-1] > 10 * abs(found[0])


def test_the_interval_holds_what_it_should() -> None:
    """At least 95 % of intervals between equals hold 0, and none far apart does."""
    held = 0
    for seed in range(60):
        found = distance(normal(20, 4, 2 * seed), normal(20, 4, 2 * seed + 1))
        assert found.low is not None and found.high is not None
        held += found.low <= 0 <= found.high
    assert held >= 54
    far = distance(normal(20, 4, 0, shift=1.5), normal(20, 4, 1))
    assert far.low is not None and far.low > 0


@pytest.mark.parametrize("prompts", [8, 16])
def test_the_interval_of_a_known_distance_covers(prompts: int) -> None:
    """With a linear kernel it is D shift^2; the percentile bootstrap holds 84 to 89 % of these."""
    trials, hits = 300, 0
    for trial in range(trials):
        model, truth = sampled(trial, (0.8, 0), prompts=prompts)
        found = distance(model, truth, kernel_named("linear", truth))
        assert found.low is not None and found.high is not None
        hits += found.low <= 6 * 0.8**2 <= found.high
    assert 0.93 <= hits / trials <= 0.98, hits / trials


def test_a_distance_that_rests_on_two_prompts_has_no_interval() -> None:
    found = distance(normal(2, 3, 0, side="x"), normal(9, 3, 1, side="y"))
    assert found.value is not None and found.low is None and found.high is None
    assert found.method.endswith("rests on two prompts of a side")


def test_the_estimate_says_what_was_compared() -> None:
    found = distance(normal(6, 3, 0, each=4), normal(9, 3, 1, each=2))
    assert (found.n, found.clusters, found.better) == (42, 9, "lower")
    assert "24 vectors of 6 prompts against 18 of 9" in found.method
    again = distance(normal(6, 3, 0, each=4), normal(9, 3, 1, each=2))
    assert again == found


def test_too_few_prompts_give_no_number() -> None:
    found = distance(normal(1, 3, 0, each=9), normal(9, 3, 1))
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "needs two prompts a side" in found.method
    assert "needs four prompts" in floor(normal(3, 3, 0)).method


def test_the_floor_is_the_truth_against_itself() -> None:
    truth = normal(40, 6, 0, each=2)
    found = floor(truth)
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < 0 < found.high
    assert abs(found.value) < 0.2 * found.high
    assert "20 prompts each" in found.method
    assert value(normal(20, 6, 5, shift=1), truth) > found.high
    fewer = floor(dict(list(truth.items())[:12]))
    assert fewer.high is not None and fewer.high > found.high


# --- two models against one truth -----------------------------------------------------------------

TRIALS, PROMPTS = 400, 16
ERROR = float(np.sqrt(0.05 * 0.95 / TRIALS))  # one Monte Carlo standard deviation
Law = tuple[float, float]
"""How far a sampler is off in every dimension, and the share of its clips that are broken."""
LAWS: dict[str, Law] = {"perfect": (0, 0), "off": (0.6, 0), "broken": (0.1, 0.08)}


def sampled(trial: int, *laws: Law, prompts: int = PROMPTS, d: int = 6) -> list[Sample]:
    """Samplers and, last, the truth: four vectors about each prompt's own, which all share."""
    rng = np.random.default_rng([trial, prompts, d])
    level = rng.normal(size=(prompts, 1, d))
    sides = []
    for shift, broken in (*laws, (0, 0)):
        rows = level + shift + 0.7 * rng.normal(size=(prompts, 4, d))
        rows = np.where(rng.random((prompts, 4, 1)) < broken, -3, rows)
        sides.append({f"p{n}": rows[n] for n in range(prompts)})
    return sides


def kernel_named(name: str, truth: Sample) -> Kernel:
    return {"cubic": cubic, "gaussian": gaussian(truth), "linear": lambda x, y: x @ y.T}[name]


def sign(first: Sample, second: Sample, truth: Sample, kernel: Kernel) -> int:
    """Of the difference that is shown; 0: none is."""
    found = difference(first, second, truth, kernel)
    assert found.low is not None and found.high is not None
    return int(found.low > 0) - int(found.high < 0)


@pytest.mark.parametrize("name", ["cubic", "gaussian"])
def test_the_difference_is_that_of_the_distances(name: str) -> None:
    """Also where prompts have unequal numbers of clips."""
    first, second, truth = sampled(0, (0.5, 0), (0.2, 0.1))
    first = {p: rows[: 1 + n % 4] for n, (p, rows) in enumerate(first.items())}
    kernel = kernel_named(name, truth)
    found = difference(first, second, truth, kernel, of="here")
    exact = value(first, truth, kernel) - value(second, truth, kernel)
    assert found.value == pytest.approx(exact, rel=1e-4)
    assert (found.n, found.clusters, found.better) == (40 + 64 + 64, PROMPTS, "lower")
    assert found.method.startswith("here: paired difference") and "bootstrap-t" in found.method
    back = difference(second, first, truth, kernel)
    assert found.low is not None and found.high is not None and found.value is not None
    assert (back.value, back.low, back.high) == (-found.value, -found.high, -found.low)
    wider = difference(first, second, truth, kernel, confidence=0.999)
    assert wider.low is not None and wider.low < found.low and wider.confidence == 0.999


@pytest.mark.parametrize("name", ["cubic", "gaussian"])
@pytest.mark.parametrize("law", LAWS)
def test_equal_samplers_are_seldom_told_apart(law: str, name: str) -> None:
    told = []
    for trial in range(TRIALS):
        first, second, truth = sampled(trial, LAWS[law], LAWS[law])
        told.append(sign(first, second, truth, kernel_named(name, truth)))
    assert np.mean(np.abs(told)) <= 0.05 + 2 * ERROR


def test_what_the_percentile_bootstrap_would_do() -> None:
    """The reason why it is not used: of equal samplers it tells apart far more than 5 %."""
    from sfbench.kernel import _Sums

    weights = np.random.default_rng(0).multinomial(PROMPTS, np.full(PROMPTS, 1 / PROMPTS), 1000)
    told = []
    for trial in range(TRIALS):
        *models, truth = sampled(trial, LAWS["broken"], LAWS["broken"])
        one, other = (_Sums.of(side, truth, cubic).mmd2(*2 * (weights * 1.0,)) for side in models)
        low, high = np.quantile(one - other, [0.025, 0.975])
        told.append(not low <= 0 <= high)
    assert np.mean(told) > 0.05 + 2 * ERROR


@pytest.mark.parametrize("name", ["cubic", "gaussian"])
def test_a_real_difference_is_found_on_its_side(name: str) -> None:
    found = []
    for trial in range(50):
        far, near, truth = sampled(trial, (0.8, 0), (0.2, 0))
        kernel = kernel_named(name, truth)
        found.append(sign(far, near, truth, kernel))
        assert sign(near, far, truth, kernel) == -found[-1]
    assert min(found) >= 0 and np.mean(found) > 0.9


def test_the_interval_of_a_known_difference_covers() -> None:
    """With a linear kernel the distance is the squared distance of the means: D shift^2."""
    exact, hits = 6 * (0.8**2 - 0.3**2), 0
    for trial in range(TRIALS):
        first, second, truth = sampled(trial, (0.8, 0), (0.3, 0))
        found = difference(first, second, truth, kernel_named("linear", truth))
        assert found.low is not None and found.high is not None
        hits += found.low <= exact <= found.high
    assert hits / TRIALS >= 0.95 - 2 * ERROR


def test_the_scale_of_a_difference_does_not_matter() -> None:
    """Rounding is to significant digits: features may be small numbers."""
    sides = sampled(0, (0.8, 0), (0.3, 0))
    small = [{p: rows * 1e-4 for p, rows in side.items()} for side in sides]
    linear = kernel_named("linear", sides[2])
    usual, tiny = (difference(*three, linear) for three in (sides, small))
    for end in ("value", "low", "high"):
        assert getattr(tiny, end) == pytest.approx(1e-8 * getattr(usual, end), rel=1e-3)


def test_a_model_does_not_differ_from_itself() -> None:
    first, _, truth = sampled(0, (0.8, 0), (0.3, 0))
    found = difference(first, first, truth)
    assert (found.value, found.low, found.high) == (0, 0, 0)
    assert "nothing tells" in found.method


def test_prompts_that_not_all_have_are_left_out() -> None:
    first, second, truth = sampled(0, (0.8, 0), (0.3, 0))
    fewer = {p: rows for p, rows in first.items() if p not in ("p0", "p1")}
    kept = [{p: rows for p, rows in side.items() if p in fewer} for side in (second, truth)]
    found, same = difference(fewer, second, truth), difference(fewer, *kept)
    assert "(2 unmatched prompts left out)" in found.method
    assert (found.value, found.low, found.high) == (same.value, same.low, same.high)
    few = {p: first[p] for p in ("p0", "p1")}
    none = difference(few, second, truth)
    assert (none.value, none.low, none.high, none.clusters) == (None, None, None, 0)
    assert none.method.startswith("n/a: ") and none.method.endswith("has 2")
