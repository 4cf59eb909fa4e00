"""The evidence by clusters is the likelihood's, by scipy; a value that falls never raises it."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import t as student

from robustness_gate.statistics import (
    design_effect,
    difference_lower,
    difference_over,
    difference_upper,
    established,
    likelihood_ratio,
    t_quantile,
)

ALPHAS = st.sampled_from([0.05, 0.05 / 15, 0.2, 1e-7])
MANY = settings(max_examples=examples(300), deadline=None)
FEW_AMOUNTS = st.lists(
    st.sampled_from([-1.45, -1.0, -0.5, -0.225, 0.0, 0.275, 0.5, 1.0, 1.45]), min_size=2, max_size=80
)
ANY_AMOUNTS = st.lists(st.floats(-20, 20).map(lambda value: round(value, 6)), min_size=2, max_size=60)
VALUES = st.one_of(FEW_AMOUNTS, ANY_AMOUNTS)
WORST = st.sampled_from([1.0, 1.05, 1.45, 1.5])


@given(VALUES, WORST)
@MANY
def test_the_ratio_is_the_one_that_scipy_finds(values: list[float], worst: float) -> None:
    everything = np.array([*values, -worst])
    if everything.sum() <= 1e-12:
        assert likelihood_ratio(values, worst) <= 1e-6
        return
    most = 1 / -everything.min()
    found = minimize_scalar(
        lambda share: -float(np.log1p(share * most * everything).sum()),
        bounds=(0, 1 - 1e-15),
        method="bounded",
        options={"xatol": 1e-12},
    )
    assert likelihood_ratio(values, worst) == pytest.approx(math.sqrt(max(0.0, -2 * found.fun)), abs=1e-5)


def test_it_is_owens_ratio_the_product_of_weights_that_make_the_mean_zero() -> None:
    """The primal problem, of which the sum of logarithms is the dual: weights of mean zero, as equal as possible."""
    values, worst = [0.5, -1.0, 1.0, 0.3, 0.8, -0.2, 1.4, 0.9], 1.45
    points = np.array([*values, -worst])
    n = len(points)
    found = minimize(
        lambda w: -float(np.log(n * w).sum()),
        np.full(n, 1 / n),
        bounds=[(1e-9, 1)] * n,
        constraints=[{"type": "eq", "fun": lambda w: w.sum() - 1}, {"type": "eq", "fun": lambda w: w @ points}],
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    assert found.success
    assert likelihood_ratio(values, worst) == pytest.approx(math.sqrt(2 * found.fun), abs=1e-5)


@given(VALUES, WORST, st.data())
@MANY
def test_a_value_that_falls_never_raises_the_evidence(values: list[float], worst: float, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(values) - 1))
    lower = list(values)
    lower[index] -= data.draw(st.sampled_from([0.275, 0.5, 1.0, 1.45, 7.3]))
    assert likelihood_ratio(lower, worst) <= likelihood_ratio(values, worst) + 1e-7


@given(VALUES, WORST, st.randoms(use_true_random=False))
@MANY
def test_order_does_not_matter_and_the_unit_does_not_either(
    values: list[float], worst: float, chance: random.Random
) -> None:
    expected = likelihood_ratio(values, worst)
    shuffled = chance.sample(values, len(values))
    assert likelihood_ratio(shuffled, worst) == expected
    assert likelihood_ratio([8 * value for value in values], 8 * worst) == pytest.approx(expected, abs=1e-7)


def test_what_shows_nothing_is_no_evidence() -> None:
    assert likelihood_ratio([0.0] * 50, 1.0) == 0.0
    assert likelihood_ratio([0.5, 0.5], 1.0) == 0.0  # the added question outweighs them exactly
    assert likelihood_ratio([-1.0] * 50, 1.0) == 0.0
    assert not established([0.0] * 1000, 1.0, 0.05)


def test_values_of_one_direction_are_strong_evidence_and_not_infinite() -> None:
    found = likelihood_ratio([1.0] * 100, 1.0)
    expected = 2 * (100 * math.log(200 / 101) + math.log(2 / 101))  # the best bet is 99 / 101
    assert found == pytest.approx(math.sqrt(expected), abs=1e-9)


def test_it_ends_with_very_many_clusters_that_gain_and_very_large_ones() -> None:
    assert likelihood_ratio([300.0] * 5000 + [-1.0], 1.0) > 80
    assert likelihood_ratio([1e-6] * 3 + [3e-6], 1.0) == 0.0


@pytest.mark.parametrize("df", [1, 2, 29, 30, 59, 119, 319, 1272, 5000])
@pytest.mark.parametrize("alpha", [0.4, 0.05, 0.05 / 15, 0.001, 1e-5, 1e-7])
def test_students_quantile_is_scipys(df: int, alpha: float) -> None:
    expected = student.isf(alpha, df)
    assert t_quantile(df, alpha) == pytest.approx(expected, abs=1e-9 if df >= 29 else 0, rel=1e-9)


def test_what_is_established_turns_where_students_tail_is_alpha() -> None:
    differences, sizes = [1.0, 0.5, 1.0, -0.5, 1.5, 0.0, 1.0, 0.5], [1, 2, 2, 1, 3, 1, 1, 2]
    ratio = likelihood_ratio(differences, 1.45)
    tail = student.sf(ratio, 7)
    assert established(differences, 1.45, tail * 1.0001)
    assert not established(differences, 1.45, tail * 0.9999)

    over = [d - 0.05 * n for d, n in zip(differences, sizes, strict=True)]
    tail = student.sf(likelihood_ratio(over, 1.05), 7)  # a question loses at most 1 + 0.05
    assert difference_over(differences, sizes, 0.05, tail * 1.0001)
    assert not difference_over(differences, sizes, 0.05, tail * 0.9999)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    """Differences by cluster, and the clusters' sizes."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=2, max_size=40))
    return [draw(st.integers(-2 * size, 2 * size)) / 2 for size in sizes], sizes


@given(clusters(), ALPHAS)
@MANY
def test_bounds_on_a_difference_are_what_is_just_established(
    drawn: tuple[list[float], list[int]], alpha: float
) -> None:
    differences, sizes = drawn
    low, high = difference_lower(differences, sizes, alpha), difference_upper(differences, sizes, alpha)
    assert -1 <= low <= sum(differences) / sum(sizes) <= high <= 1
    if low > -1:
        assert difference_over(differences, sizes, low, alpha)
    assert not difference_over(differences, sizes, min(1.0, low + 1e-6), alpha)


@given(clusters(), ALPHAS, st.data())
@MANY
def test_an_answer_of_the_original_that_turns_right_never_loses_the_gap(
    drawn: tuple[list[float], list[int]], alpha: float, data: st.DataObject
) -> None:
    differences, sizes = drawn
    index = data.draw(st.integers(0, len(sizes) - 1))
    more = list(differences)
    more[index] = min(float(sizes[index]), more[index] + 0.5)
    assert difference_lower(more, sizes, alpha) >= difference_lower(differences, sizes, alpha) - 1e-9
    assert difference_over(more, sizes, 0.05, alpha) or not difference_over(differences, sizes, 0.05, alpha)


def test_the_positive_control_sees_a_gap_of_twelve_points_and_none_of_none() -> None:
    chance = random.Random(17)
    sizes = [4] * 320
    gap = [sum(chance.choice([1] * 25 + [-1] * 13 + [0] * 62) for _ in range(4)) for _ in sizes]
    none = [sum(chance.choice([1, 0, 0, -1]) for _ in range(4)) for _ in sizes]
    assert difference_over(gap, sizes, 0.05, 0.05)
    assert not difference_over(none, sizes, 0.05, 0.05)
    assert not difference_over([0.0] * 320, sizes, 0.0, 0.05)


def test_a_design_effect_is_the_ratio_of_two_variances() -> None:
    values = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    assert design_effect(values, range(8)) == pytest.approx(1)
    pairs = [0, 0, 1, 1, 2, 2, 3, 3]
    assert design_effect(values, pairs) == pytest.approx((4 / 3 * 4 * 1 / 64) / (2 / 7 / 8))
    assert design_effect(values, [0, 1, 0, 1, 2, 3, 2, 3]) == pytest.approx(0)  # each cluster is alike


def test_a_design_effect_of_simulated_clusters_is_the_textbooks() -> None:
    chance = np.random.default_rng(4)
    common, own = chance.standard_normal((5000, 1)), chance.standard_normal((5000, 4))
    values = math.sqrt(0.3) * common + math.sqrt(0.7) * own
    measured = design_effect(values.ravel().tolist(), np.repeat(np.arange(5000), 4).tolist())
    assert measured == pytest.approx(1 + 3 * 0.3, abs=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: likelihood_ratio([], 1.0), "at least one value"),
        (lambda: likelihood_ratio([1.0, math.nan], 1.0), "finite values"),
        (lambda: likelihood_ratio([1.0, math.inf], 1.0), "finite values"),
        (lambda: likelihood_ratio([1.0], 0.0), "worst"),
        (lambda: likelihood_ratio([1.0], math.nan), "worst"),
        (lambda: established([1.0], 1.0, 0.05), "two clusters"),
        (lambda: established([1.0, 1.0], 1.0, 0.0), "alpha"),
        (lambda: established([1.0, 1.0], 1.0, 0.5), "alpha"),
        (lambda: t_quantile(math.inf, 0.05), "df"),
        (lambda: difference_over([1.0, 1.0], [1], 0.0, 0.05), "one difference for each"),
        (lambda: difference_over([1.5, 1.0], [1, 1], 0.0, 0.05), "at most 1 per question"),
        (lambda: difference_over([math.nan, 1.0], [1, 1], 0.0, 0.05), "at most 1 per question"),
        (lambda: difference_over([0.0, 1.0], [0, 1], 0.0, 0.05), "at least one question"),
        (lambda: difference_over([0.0, 1.0], [1, 1], -1.0, 0.05), "limit"),
        (lambda: design_effect([1.0, 0.0], [1]), "a cluster for each"),
        (lambda: design_effect([1.0, 0.0], [1, 1]), "two clusters"),
        (lambda: design_effect([1.0, 1.0], [1, 2]), "all 2 values are equal"),
        (lambda: design_effect([], []), "two clusters"),
    ],
)
def test_an_argument_out_of_range_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
