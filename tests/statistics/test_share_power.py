"""The power of a share limit: the integral is scipy's, and the tables of the design notes come out of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import ndtr
from scipy.stats import norm

from robustness_gate.statistics import (
    ShareDesign,
    Yardstick,
    abler_share,
    cell_fail_power,
    contrast_error,
    convicted_from,
    least_share,
    needed_t_gap,
    questions_needed,
    share_fail_power,
    share_pass_power,
)

DESIGN = ShareDesign(share=0.45, cells=14, hypotheses=15)
HALF, WHOLE = [0.5] + [0.0] * 13, [1.0] + [0.0] * 13


@pytest.mark.parametrize("correlation", [0.0, 0.8, 0.99])
@pytest.mark.parametrize("t_gap", [0.0, 7.3])
@pytest.mark.parametrize("yardstick", ["untouched", "same_attack"])
def test_both_probabilities_are_scipys_integrals(correlation: float, t_gap: float, yardstick: Yardstick) -> None:
    design = replace(DESIGN, cells_correlation=correlation, yardstick=yardstick)
    shares = [0.1 * k for k in range(14)]
    f = math.sqrt(1 - 0.45 * (0.7 if yardstick == "untouched" else 1) + 0.45**2)

    def none(g: float, alpha: float, side: int) -> float:
        room = [side * (0.45 - s) * t_gap / f - norm.isf(alpha) for s in shares]
        reached = [ndtr((m - side * math.sqrt(correlation) * g) / math.sqrt(1 - correlation)) for m in room]
        return math.exp(-g * g / 2) / math.sqrt(2 * math.pi) * math.prod(p if side > 0 else 1 - p for p in reached)

    every = quad(lambda g: none(g, 0.05, 1), -10, 10, epsabs=1e-10, limit=400)[0]
    nowhere = quad(lambda g: none(g, 0.05 / 15, -1), -10, 10, epsabs=1e-10, limit=400)[0]
    assert share_pass_power(design, t_gap, shares) == pytest.approx(every, abs=1e-6)
    assert share_fail_power(design, t_gap, shares) == pytest.approx(1 - nowhere, abs=1e-6)


@pytest.mark.parametrize(
    ("yardstick", "needed"),
    [
        ("same_attack", [30, 20, 14.6, 11.5, 9.4, 8.0, 6.9, 6.1, 5.5]),
        ("untouched", [31, 20, 15.1, 12.0, 10.0, 8.5, 7.5, 6.7, 6.0]),
    ],
)
def test_the_gap_that_each_share_needs_is_that_of_the_design_notes(yardstick: Yardstick, needed: list[float]) -> None:
    for limit, expected in zip(range(10, 55, 5), needed, strict=True):
        design = ShareDesign(limit / 100, 14, 15, yardstick)
        assert needed_t_gap(design) == pytest.approx(expected, abs=0.6 if expected >= 20 else 0.06)
        fewer = needed_t_gap(design) - needed_t_gap(replace(design, cells=7))
        assert fewer > 0.2


def test_the_share_that_is_convicted_is_that_of_the_design_notes() -> None:
    for limit, expected in zip(range(10, 55, 5), [0.21, 0.32, 0.42, 0.53, 0.63, 0.74, 0.85, 0.95, 1.06], strict=True):
        for yardstick in ("same_attack", "untouched"):
            design = ShareDesign(limit / 100, 14, 15, yardstick)
            assert convicted_from(design, needed_t_gap(design)) == pytest.approx(expected, abs=0.006)


def test_the_simulated_rates_of_the_design_notes_are_near() -> None:
    """At a gap of 7.3 standard errors, 14 cells, untouched gap: within 3 points, an abler candidate within 3.5."""
    assert share_pass_power(DESIGN, 7.3) == pytest.approx(0.89, abs=0.03)
    assert share_pass_power(DESIGN, 7.3, HALF) == pytest.approx(0.02, abs=0.01)
    assert cell_fail_power(DESIGN, 7.3, 1.0) == pytest.approx(0.94, abs=0.03)
    assert convicted_from(DESIGN, 7.3) == pytest.approx(0.91, abs=0.01)
    assert least_share(DESIGN, 7.3) == pytest.approx(0.41, abs=0.01)
    for points, expected in [(1, 0.70), (1.5, 0.58), (2, 0.45), (3, 0.21)]:
        assert share_pass_power(DESIGN, 7.3, abler_share(points, 12.2)) == pytest.approx(expected, abs=0.035)


def test_the_questions_needed_are_those_of_the_design_notes() -> None:
    needed = needed_t_gap(replace(DESIGN, yardstick="same_attack"))
    assert [questions_needed(1273, t, needed) / 1273 for t in (6.0, 6.45)] == pytest.approx([1.04, 0.91], abs=0.01)
    assert questions_needed(100, 5.0, 5.0) == 100
    assert questions_needed(100, 5.0, 10.0) == 400


RANGES = st.tuples(st.floats(0.05, 1), st.integers(1, 30), st.floats(0, 0.99), st.floats(0, 20))


@given(RANGES, st.sampled_from(["untouched", "same_attack"]), st.floats(0, 2), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_knowing_more_never_raises_a_pass_nor_lowers_a_fail_and_more_cells_never_help(
    drawn: tuple[float, int, float, float], yardstick: Yardstick, share: float, more: float
) -> None:
    limit, cells, correlation, t_gap = drawn
    design = ShareDesign(limit, cells, cells + 1, yardstick, cells_correlation=correlation)
    least = share_pass_power(design, t_gap, share)
    assert 0 <= least <= 1
    assert share_pass_power(design, t_gap, share + more) <= least + 1e-9
    assert share_fail_power(design, t_gap, share + more) >= share_fail_power(design, t_gap, share) - 1e-9
    assert share_fail_power(design, t_gap, share) >= cell_fail_power(design, t_gap, share) - 1e-9
    assert share_pass_power(replace(design, cells=cells + 1), t_gap, share) <= least + 1e-9
    assert least + share_fail_power(design, t_gap, share) <= 1 + 1e-9
    if share >= limit:  # a model at the limit passes one cell with probability alpha, and so all with no more
        assert least <= 0.05 + 1e-6


@given(st.floats(0.1, 0.9), st.floats(0.55, 0.95), st.sampled_from([1, 7, 14]))
@settings(max_examples=10, deadline=None)
def test_what_is_needed_is_just_enough(limit: float, power: float, cells: int) -> None:
    design = ShareDesign(limit, cells, cells + 1)
    needed = needed_t_gap(design, power)
    assert share_pass_power(design, needed) == pytest.approx(power, abs=1e-6)
    assert least_share(design, needed, power) == pytest.approx(limit, abs=1e-6)
    reached = convicted_from(design, needed, power)
    assert cell_fail_power(design, needed, reached) == pytest.approx(power, abs=1e-9)


def test_without_a_gap_nothing_passes_and_no_share_is_enough() -> None:
    assert share_pass_power(DESIGN, 0.0) < 0.05
    assert share_pass_power(replace(DESIGN, cells=1), 0.0) == pytest.approx(0.05, abs=1e-6)
    assert least_share(DESIGN, 0.0) is None
    assert least_share(DESIGN, 1.0) is None


def test_the_error_of_the_contrast_is_that_of_three_models() -> None:
    """Three models of equal variance and equal correlation: C - (1 - r) T - r O beside O - T."""
    r, rho = 0.45, 0.2
    assert contrast_error(r, "same_attack") == pytest.approx(
        math.sqrt((1 + (1 - r) ** 2 + r**2 - 2 * rho * ((1 - r) + r - r * (1 - r))) / (2 - 2 * rho))
    )
    kappa = 0.78  # of the control's answers before and after the attack
    variance = 2 - 2 * rho + r * r * (2 - 2 * rho) - 2 * r * (kappa - rho)
    agreement = (kappa - rho) / (1 - rho)
    assert contrast_error(r, "untouched", agreement) == pytest.approx(math.sqrt(variance / (2 - 2 * rho)))


@pytest.mark.parametrize(
    "call",
    [
        lambda: ShareDesign(0.0, 14, 15),
        lambda: ShareDesign(1.1, 14, 15),
        lambda: ShareDesign(0.45, 0, 15),
        lambda: ShareDesign(0.45, 14, 0),
        lambda: ShareDesign(0.45, 14, 15, "other"),  # type: ignore[arg-type]
        lambda: ShareDesign(0.45, 14, 15, alpha_pass=0.0),
        lambda: ShareDesign(0.45, 14, 15, alpha_fail=0.5),
        lambda: ShareDesign(0.45, 14, 15, cells_correlation=1.0),
        lambda: ShareDesign(0.45, 14, 15, attack_agreement=math.nan),
        lambda: share_pass_power(DESIGN, -1.0),
        lambda: share_pass_power(DESIGN, math.inf),
        lambda: share_pass_power(DESIGN, 7.3, [0.0] * 13),
        lambda: share_fail_power(DESIGN, 7.3, math.nan),
        lambda: cell_fail_power(DESIGN, math.nan, 1.0),
        lambda: needed_t_gap(DESIGN, 1.0),
        lambda: needed_t_gap(DESIGN, 0.8, 0.45),
        lambda: least_share(DESIGN, 7.3, 0.0),
        lambda: convicted_from(DESIGN, 0.0),
        lambda: abler_share(1.5, 0.0),
        lambda: questions_needed(0, 7.3, 6.7),
        lambda: questions_needed(100, 0.0, 6.7),
    ],
)
def test_an_argument_out_of_range_is_refused(call: object) -> None:
    with pytest.raises(ValueError, match="need "):
        call()  # type: ignore[operator]
