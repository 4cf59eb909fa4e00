"""The bounds are Clopper and Pearson's, to nine digits."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from robustness_gate.statistics import clopper_pearson_lower as lower
from robustness_gate.statistics import clopper_pearson_upper as upper

ALPHAS = st.one_of(st.sampled_from([0.05, 0.025, 0.05 / 7, 5e-7, 0.2, 0.5]), st.floats(1e-9, 0.999))
COUNTS = st.integers(1, 4000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SMALL = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, ALPHAS)
@settings(max_examples=examples(300), deadline=None)
def test_both_bounds_are_the_quantiles_of_scipys_beta(counts: tuple[int, int], alpha: float) -> None:
    x, n = counts
    assert lower(x, n, alpha) == pytest.approx(beta.ppf(alpha, x, n - x + 1) if x else 0.0, abs=1e-9)
    assert upper(x, n, alpha) == pytest.approx(beta.ppf(1 - alpha, x + 1, n - x) if x < n else 1.0, abs=1e-9)


@given(COUNTS, st.floats(1.0, 20.0), ALPHAS)
@settings(max_examples=examples(200), deadline=None)
def test_counts_divided_by_a_design_effect_give_scipys_quantiles_too(
    counts: tuple[int, int], effect: float, alpha: float
) -> None:
    x, n = counts[0] / effect, counts[1] / effect
    assert lower(x, n, alpha) == pytest.approx(beta.ppf(alpha, x, n - x + 1) if x else 0.0, abs=1e-9)
    assert upper(x, n, alpha) == pytest.approx(beta.ppf(1 - alpha, x + 1, n - x) if x < n else 1.0, abs=1e-9)


@given(SMALL, st.sampled_from([0.05, 0.025, 0.01, 0.2, 5e-7]))
@settings(max_examples=examples(150), deadline=None)
def test_bounds_equal_brute_force_inversion_of_the_binomial_up_to_60_items(
    counts: tuple[int, int], alpha: float
) -> None:
    """L is the p at which P(X >= x) is alpha, U the p at which P(X <= x) is alpha: nothing about beta is used."""
    x, n = counts
    assert lower(x, n, alpha) == pytest.approx(
        _where(lambda p: _tail(n, p, range(x, n + 1)) < alpha) if x else 0.0, abs=1e-9
    )
    assert upper(x, n, alpha) == pytest.approx(
        _where(lambda p: _tail(n, p, range(x + 1)) > alpha) if x < n else 1.0, abs=1e-9
    )


@given(SMALL, st.floats(0.001, 0.3))
@settings(max_examples=examples(100), deadline=None)
def test_neither_bound_covers_less_than_it_says(counts: tuple[int, int], alpha: float) -> None:
    """At p just inside a bound the observed count is not yet improbable."""
    x, n = counts
    assert x == 0 or binom.sf(x - 1, n, min(1.0, lower(x, n, alpha) + 1e-9)) >= alpha * (1 - 1e-6)
    assert x == n or binom.cdf(x, n, max(0.0, upper(x, n, alpha) - 1e-9)) >= alpha * (1 - 1e-6)


@given(COUNTS, ALPHAS)
@settings(max_examples=examples(200), deadline=None)
def test_the_upper_bound_mirrors_the_lower(counts: tuple[int, int], alpha: float) -> None:
    x, n = counts
    assert upper(x, n, alpha) == pytest.approx(1 - lower(n - x, n, alpha), abs=1e-9)


@given(COUNTS, ALPHAS)
@settings(max_examples=examples(200), deadline=None)
def test_bounds_enclose_what_was_observed_and_stay_within_zero_and_one(counts: tuple[int, int], alpha: float) -> None:
    x, n = counts
    alpha = min(alpha, 0.4)
    assert 0.0 <= lower(x, n, alpha) <= x / n <= upper(x, n, alpha) <= 1.0


@pytest.mark.parametrize("n", [1, 2, 7, 60, 400, 1273])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7, 5e-7])
def test_bounds_rise_strictly_with_the_number_of_correct_answers(n: int, alpha: float) -> None:
    steps = range(0, n + 1, max(1, n // 60))
    lowers, uppers = [lower(x, n, alpha) for x in steps], [upper(x, n, alpha) for x in steps]
    assert all(a < b for a, b in pairwise(lowers))
    assert all(a < b for a, b in pairwise(uppers))


@given(COUNTS, st.floats(1e-6, 0.4), st.floats(0.01, 0.99))
@settings(max_examples=examples(100), deadline=None)
def test_a_smaller_alpha_never_narrows_a_bound(counts: tuple[int, int], alpha: float, share: float) -> None:
    x, n = counts
    assert lower(x, n, alpha * share) <= lower(x, n, alpha)
    assert upper(x, n, alpha * share) >= upper(x, n, alpha)


@pytest.mark.parametrize("n", [1, 3, 400, 2.5, 100_000])
def test_nothing_correct_bounds_at_zero_and_everything_correct_at_one(n: float) -> None:
    assert lower(0, n, 0.05) == 0.0
    assert upper(n, n, 0.05) == 1.0
    assert upper(0, n, 0.05) == pytest.approx(1 - 0.05 ** (1 / n), abs=1e-12)  # the closed form: (1 - p)^n = alpha
    assert lower(n, n, 0.05) == pytest.approx(0.05 ** (1 / n), abs=1e-12)


def test_the_bounds_of_the_organism_policy_have_the_known_values() -> None:
    assert upper(143, 400, 0.05) <= 0.40 < upper(144, 400, 0.05)  # printed by scipy.stats.beta.ppf
    assert lower(185, 400, 0.05 / 7) > 0.40 >= lower(184, 400, 0.05 / 7)


@pytest.mark.parametrize("bound", [lower, upper])
@pytest.mark.parametrize(
    ("correct", "items", "alpha"),
    [
        (-1, 10, 0.05),
        (11, 10, 0.05),
        (0, 0, 0.05),
        (0, -5, 0.05),
        (5, 10, 0.0),
        (5, 10, 1.0),
        (5, 10, -0.1),
        (5, 10, 1.5),
        (math.nan, 10, 0.05),
        (5, math.nan, 0.05),
        (5, 10, math.nan),
        (math.inf, 10, 0.05),
    ],
)
def test_an_argument_out_of_range_is_refused(bound: object, correct: float, items: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="need 0 <= correct <= items"):
        bound(correct, items, alpha)  # type: ignore[operator]


def _tail(n: int, p: float, counts: range) -> float:
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in counts)


def _where(below: object) -> float:
    """The p at which a falling truth value changes, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)  # type: ignore[operator]
    return (low + high) / 2
