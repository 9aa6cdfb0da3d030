"""The kernel distance: zero between equals, the known value where there is one, larger if worse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from sfbench.kernel import Sample, cubic, distance, floor, gaussian


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
