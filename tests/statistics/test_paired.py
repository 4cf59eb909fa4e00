"""Tango's bound is the score test's, by brute force, and no answer that turns right can lower it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, xlogy
from scipy.stats import norm

from robustness_gate.statistics import tango_lower as lower
from robustness_gate.statistics import tango_upper as upper

ALPHAS = st.one_of(st.sampled_from([0.05, 0.025, 0.05 / 7, 5e-7, 0.2, 0.5]), st.floats(1e-9, 0.5))
MANY = settings(max_examples=examples(500), deadline=None)


@st.composite
def tables(draw: st.DrawFn, most: int = 2000) -> tuple[int, int, int]:
    """Only first, only second, items: edges as often as not."""
    n = draw(st.integers(1, most))
    first = draw(st.one_of(st.integers(0, n), st.sampled_from([0, n])))
    second = draw(st.one_of(st.integers(0, n - first), st.sampled_from([0, n - first])))
    return first, second, n


@given(tables(), ALPHAS)
@MANY
def test_at_its_bound_the_score_with_numerically_maximised_likelihood_is_the_normal_quantile(
    table: tuple[int, int, int], alpha: float
) -> None:
    """Nothing of the closed form is used: the likelihood under the difference is maximised by scipy."""
    first, second, n = table
    found = lower(*table, alpha)
    if found == -1.0:  # the first was never right alone: even a difference of -1 is not improbable
        assert _score(first, second, n, -1 + 1e-9) <= norm.isf(alpha) + 1e-3
        return
    before, after = max(-1 + 1e-12, found - 1e-6), min(1 - 1e-12, found + 1e-6)
    assert _score(first, second, n, before) >= norm.isf(alpha) - 1e-4
    assert _score(first, second, n, after) <= norm.isf(alpha) + 1e-4


@pytest.mark.parametrize("n", [20, 40])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7, 0.05 / 50, 5e-7])
@pytest.mark.parametrize("effect", [1.0, 1.3])
def test_over_every_table_no_answer_that_turns_right_lowers_a_bound(n: int, alpha: float, effect: float) -> None:
    """The first's answer turns right where the second was wrong (one more `only_first`) or right (one less of its)."""
    tables = [(first, second) for first in range(n + 1) for second in range(n + 1 - first)]
    for bound in (lower, upper):
        at = {t: bound(t[0] / effect, t[1] / effect, n / effect, alpha) for t in tables}
        steps = [(t, up) for t in tables for up in ((t[0] + 1, t[1]), (t[0], t[1] - 1)) if up in at]
        assert len(steps) > len(tables)
        assert not [(t, up) for t, up in steps if at[up] < at[t]]


def test_the_paired_wald_bound_is_not_monotone_which_is_why_it_does_not_decide() -> None:
    n, z = 20, norm.isf(0.05)

    def wald(first: int, second: int) -> float:
        d = (first - second) / n
        return float(d + z * math.sqrt(max(0.0, (first + second) / n - d * d) / n))

    tables = [(first, second) for first in range(n + 1) for second in range(n + 1 - first)]
    worse = [(f, s) for f, s in tables if f + s < n and wald(f + 1, s) < wald(f, s)]
    assert worse
    assert all(upper(f + 1, s, n, 0.05) >= upper(f, s, n, 0.05) for f, s in worse)


@given(tables(), st.floats(1.0, 20.0), ALPHAS)
@MANY
def test_the_upper_bound_mirrors_the_lower_also_on_fractions(
    table: tuple[int, int, int], effect: float, alpha: float
) -> None:
    first, second, n = (count / effect for count in table)
    assert upper(first, second, n, alpha) == -lower(second, first, n, alpha)
    assert -1 <= lower(first, second, n, alpha) <= 1


@given(tables(), st.floats(1.0, 20.0), st.floats(1e-9, 0.4), st.floats(0.01, 0.99))
@MANY
def test_bounds_enclose_what_was_observed_and_widen_with_confidence_and_design_effect(
    table: tuple[int, int, int], effect: float, alpha: float, share: float
) -> None:
    observed = (table[0] - table[1]) / table[2]
    low, high = lower(*table, alpha), upper(*table, alpha)
    assert low <= observed <= high
    assert lower(*table, alpha * share) <= low
    first, second, n = (count / effect for count in table)
    assert lower(first, second, n, alpha) <= low + 1e-9
    assert upper(first, second, n, alpha) >= high - 1e-9


@given(tables(), ALPHAS, st.booleans(), st.floats(0.0, 1.0))
@MANY
def test_a_part_of_an_answer_that_turns_right_never_lowers_a_bound_either(
    table: tuple[int, int, int], alpha: float, taken: bool, part: float
) -> None:
    first, second, n = table
    more = (first, second - min(part, second), n) if taken else (first + min(part, n - first - second), second, n)
    assert lower(*more, alpha) >= lower(*table, alpha) - 1e-12
    assert upper(*more, alpha) >= upper(*table, alpha) - 1e-12


@pytest.mark.parametrize("n", [1, 7, 400, 307.7])
@pytest.mark.parametrize("alpha", [0.05, 5e-7])
def test_edge_tables_have_the_closed_forms(n: float, alpha: float) -> None:
    z2 = norm.isf(alpha) ** 2
    assert upper(0, 0, n, alpha) == pytest.approx(z2 / (n + z2), abs=1e-9)  # no two answers differ
    assert lower(n, 0, n, alpha) == pytest.approx((n - z2) / (n + z2), abs=1e-9)  # all differ, one way
    assert upper(n, 0, n, alpha) == 1.0
    assert lower(0, n, n, alpha) == -1.0


# min over true tables of P(lower <= truth), as summed exactly here; the mean over the grid is close to nominal
@pytest.mark.parametrize(("n", "alpha", "least"), [(40, 0.05, 0.92), (120, 0.05, 0.92), (120, 0.05 / 7, 0.98)])
def test_exact_coverage_over_a_grid_is_nominal_on_average_and_misses_by_little_at_worst(
    n: int, alpha: float, least: float
) -> None:
    first, second = np.array([(b, c) for b in range(n + 1) for c in range(n + 1 - b)]).T
    bounds = np.array([lower(int(b), int(c), n, alpha) for b, c in zip(first, second, strict=True)])
    ways = gammaln(n + 1) - gammaln(first + 1) - gammaln(second + 1) - gammaln(n - first - second + 1)
    covered = []
    for q in (0.0005, 0.002, 0.01, 0.04, 0.1, 0.2, 0.3, 0.45):
        for d in (-0.4, -0.2, -0.1, -0.05, -0.01, 0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3):
            p = q + d
            if p > 0 and p + q < 1:
                rest = n - first - second
                chance = np.exp(ways + xlogy(first, p) + xlogy(second, q) + xlogy(rest, 1 - p - q))
                assert chance.sum() == pytest.approx(1, abs=1e-9)
                covered.append(chance[bounds <= d + 1e-12].sum())
    assert len(covered) > 50
    assert min(covered) >= least
    assert np.mean(covered) == pytest.approx(1 - alpha, abs=0.005)


@pytest.mark.parametrize("bound", [lower, upper])
@pytest.mark.parametrize(
    "arguments",
    [
        (-1, 0, 10, 0.05),
        (0, -1, 10, 0.05),
        (6, 5, 10, 0.05),
        (0, 0, 0, 0.05),
        (0, 0, math.inf, 0.05),
        (math.nan, 0, 10, 0.05),
        (0, 0, math.nan, 0.05),
        (1, 1, 10, 0.0),
        (1, 1, 10, 1.0),
        (1, 1, 10, math.nan),
    ],
)
def test_an_argument_out_of_range_is_refused(bound: object, arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="need only_first, only_second >= 0"):
        bound(*arguments)  # type: ignore[operator]


def _score(first: int, second: int, n: int, d: float) -> float:
    """The score with P(only second) found by maximising the trinomial likelihood under P(only first) = it + d."""
    least, most = max(0.0, -d), (1 - d) / 2

    def loss(q: float) -> float:
        return -float(xlogy(first, q + d) + xlogy(second, q) + xlogy(n - first - second, max(0.0, 1 - 2 * q - d)))

    q = minimize_scalar(loss, bounds=(least, most), method="bounded", options={"xatol": 1e-13}).x
    q = min((q, least, most), key=loss)
    variance = n * (2 * q + d - d * d)
    gap = first - second - n * d
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0
