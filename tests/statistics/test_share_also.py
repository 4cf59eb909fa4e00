"""The power of a share limit with further conditions: against a simulation, and never more than without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from robustness_gate.statistics import (
    Condition,
    ShareDesign,
    contrast_error,
    room,
    share_pass_power,
    share_pass_power_with,
)
from robustness_gate.statistics.share_also import _below_both, _rule

DESIGN = ShareDesign(share=0.45, cells=14, hypotheses=15)
READING = 0.84
"""Correlation of one reading's contrast with that of the mean of two, at published standard errors."""


def each(t_gap: float) -> Condition:
    return Condition(room(0.70 * t_gap / contrast_error(0.70, "untouched"), 0.05), READING)


def simulated(t_gap: float, share: float, conditions: list[Condition], replicates: int = 6000) -> float:
    """Two readings and their standardised mean, with a part common to all cells."""
    rng = np.random.default_rng(3)
    q, between = DESIGN.cells_correlation, 2 * READING**2 - 1
    mixing = np.linalg.cholesky(np.array([[1, between], [between, 1]]))
    common, own = (rng.standard_normal((replicates, cells, 2)) @ mixing.T for cells in (1, DESIGN.cells))
    two = np.sqrt(q) * common + np.sqrt(1 - q) * own
    score = two.sum(axis=2) / np.sqrt(2 + 2 * between)
    at = room((DESIGN.share - share) * t_gap / contrast_error(DESIGN.share, "untouched"), DESIGN.alpha_pass)
    passed = (score <= at).all(axis=1)
    for number, condition in enumerate(conditions):
        passed &= (two[:, :, number] <= condition.room).all(axis=1)
    return float(passed.mean())


@pytest.mark.parametrize("gaps", [(6.3, 6.0), (5.8, 5.5), (6.3, 4.0), (6.3, 2.0), (6.3, 0.0)])
def test_it_is_what_a_simulation_gives_and_never_much_more(gaps: tuple[float, float]) -> None:
    conditions = [each(t_gap) for t_gap in gaps]
    found = share_pass_power_with(DESIGN, 7.3, 0.0, conditions)
    assert found == pytest.approx(simulated(7.3, 0.0, conditions), abs=0.015)


def test_a_reading_that_shows_no_gap_lets_hardly_any_twin_pass_although_the_score_would() -> None:
    assert share_pass_power(DESIGN, 7.3) > 0.85
    assert share_pass_power_with(DESIGN, 7.3, 0.0, [each(6.3), each(0.5)]) < 0.05
    assert share_pass_power(DESIGN, 7.3) - share_pass_power_with(DESIGN, 7.3, 0.0, [each(6.3), each(6.0)]) < 0.01


def test_without_a_condition_and_with_one_that_always_holds_it_is_the_share_limit_alone() -> None:
    alone = share_pass_power(DESIGN, 7.3, 0.1)
    assert share_pass_power_with(DESIGN, 7.3, 0.1, []) == alone
    assert share_pass_power_with(DESIGN, 7.3, 0.1, [Condition(60.0, 0.8)]) == pytest.approx(alone, abs=1e-5)
    assert share_pass_power_with(DESIGN, 7.3, 0.1, [Condition(-60.0, 0.8)]) == 0.0


def test_the_bivariate_normal_is_scipys() -> None:
    for a, b, c in [(0, 0, 0.5), (1.2, -0.3, 0.84), (2, 2.1, 0.95), (-1, 1, -0.6), (5, 0.3, 0.9), (1, 1, 0.0)]:
        exact = multivariate_normal.cdf([a, b], cov=[[1, c], [c, 1]])
        assert _below_both(a, b, _rule(c)) == pytest.approx(exact, abs=2e-6)


def test_an_argument_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="need "):
        Condition(float("nan"), 0.5)
    with pytest.raises(ValueError, match="need "):
        Condition(1.0, 1.1)
    with pytest.raises(ValueError, match="need "):
        share_pass_power_with(replace(DESIGN, cells_correlation=0.95), 7.3, 0.0, [])
