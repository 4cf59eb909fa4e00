"""A share of the gap: what turns right never helps, bounds and decisions agree, and without a gap nothing passes."""

from __future__ import annotations

import random

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness_gate.statistics import (
    LARGEST_SHARE,
    Yardstick,
    difference_over,
    share_evidence,
    share_lower,
    share_over,
    share_under,
    share_upper,
    t_quantile,
)

MANY = settings(max_examples=examples(200), deadline=None)
YARDSTICKS: st.SearchStrategy[Yardstick] = st.sampled_from(["untouched", "same_attack"])
ALPHAS = st.sampled_from([0.05, 0.05 / 15, 0.2])
SHARES = st.sampled_from([0.0, 0.2, 0.45, 0.5, 0.7, 1.0, 1.3])

Totals = tuple[list[float], list[float], list[float], list[float], list[int]]


@st.composite
def totals(draw: st.DrawFn) -> Totals:
    """For each cluster: candidate and control after the attack, original and control of the gap, questions.

    Scores are means of two readings, so totals come in halves. How much each model knows is drawn first, so that clear
    cases are as frequent as others.
    """
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=80))
    chance = draw(st.randoms(use_true_random=False))
    known = [draw(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.8, 1.0])) for _ in range(4)]
    rows = [[sum((chance.random() < p) + (chance.random() < p) for _ in range(n)) / 2 for n in sizes] for p in known]
    return rows[0], rows[1], rows[2], rows[3], sizes


def contrast(drawn: Totals, yardstick: Yardstick) -> tuple[list[float], list[float]]:
    candidate, control, original, before, _ = drawn
    before = before if yardstick == "untouched" else control
    return (
        [c - t for c, t in zip(candidate, control, strict=True)],
        [o - t for o, t in zip(original, before, strict=True)],
    )


@given(totals(), YARDSTICKS, SHARES, st.data())
@MANY
def test_a_candidates_answer_that_turns_right_never_helps_it_to_pass_and_never_hinders_a_fail(
    drawn: Totals, yardstick: Yardstick, share: float, data: st.DataObject
) -> None:
    excess, gap = contrast(drawn, yardstick)
    more = list(excess)
    for index in data.draw(st.sets(st.integers(0, len(excess) - 1), max_size=4)):
        more[index] += 0.5
    before, after = share_evidence(excess, gap, share, yardstick), share_evidence(more, gap, share, yardstick)
    assert after.under <= before.under + 1e-7
    assert after.over >= before.over - 1e-7


@given(totals(), SHARES, st.data())
@MANY
def test_a_controls_answer_that_turns_right_after_the_attack_never_hinders_a_pass_up_to_the_whole_gap(
    drawn: Totals, share: float, data: st.DataObject
) -> None:
    """With the gap after the same attack the control counts as -(1 - r): up to r = 1 it is never against it."""
    candidate, control, original, before, sizes = drawn
    better = list(control)
    for index in data.draw(st.sets(st.integers(0, len(sizes) - 1), max_size=4)):
        better[index] += 0.5
    for yardstick in ("untouched", "same_attack"):
        if yardstick == "untouched" or share <= 1:
            first = share_evidence(*contrast(drawn, yardstick), share, yardstick)
            second = share_evidence(
                *contrast((candidate, better, original, before, sizes), yardstick), share, yardstick
            )
            assert second.under >= first.under - 1e-7


@given(totals(), YARDSTICKS, SHARES, st.randoms(use_true_random=False))
@MANY
def test_the_order_of_clusters_does_not_matter(
    drawn: Totals, yardstick: Yardstick, share: float, chance: random.Random
) -> None:
    excess, gap = contrast(drawn, yardstick)
    order = chance.sample(range(len(excess)), len(excess))
    shuffled = [excess[i] for i in order], [gap[i] for i in order]
    assert share_evidence(*shuffled, share, yardstick) == share_evidence(excess, gap, share, yardstick)
    assert share_upper(*shuffled, yardstick, 0.05) == share_upper(excess, gap, yardstick, 0.05)


@given(totals(), YARDSTICKS, SHARES, ALPHAS)
@MANY
def test_at_most_one_side_is_established_and_bounds_agree_with_the_decisions(
    drawn: Totals, yardstick: Yardstick, share: float, alpha: float
) -> None:
    excess, gap = contrast(drawn, yardstick)
    evidence = share_evidence(excess, gap, share, yardstick)
    assert min(evidence.under, evidence.over) == 0
    needed = t_quantile(len(excess) - 1, alpha)
    assert share_under(excess, gap, share, yardstick, alpha) == (evidence.under >= needed)
    assert share_over(excess, gap, share, yardstick, alpha) == (evidence.over >= needed)

    upper, lower = share_upper(excess, gap, yardstick, alpha), share_lower(excess, gap, yardstick, alpha)
    assert 0 <= lower <= LARGEST_SHARE
    if lower > 0:
        assert share_over(excess, gap, lower, yardstick, alpha)
    if share_over(excess, gap, 0.0, yardstick, alpha) and abs(share - lower) > 1e-8:
        assert share_over(excess, gap, share, yardstick, alpha) == (share < lower)
    if upper is None:
        assert not any(share_under(excess, gap, r / 8, yardstick, alpha) for r in range(81))
        return
    assert lower <= upper
    assert share_under(excess, gap, upper, yardstick, alpha)
    assert upper < 1e-8 or not share_under(excess, gap, upper - 1e-8, yardstick, alpha)
    if share < upper - 1e-8:
        assert not share_under(excess, gap, share, yardstick, alpha)


@given(totals(), SHARES, st.sampled_from([0.0, 0.02, 0.05]))
@MANY
def test_with_an_established_gap_a_candidate_is_under_exactly_from_its_bound_on(
    drawn: Totals, share: float, min_gap: float
) -> None:
    excess, gap = contrast(drawn, "untouched")
    if not difference_over(gap, drawn[4], min_gap, 0.05):
        return
    upper = share_upper(excess, gap, "untouched", 0.05)
    if upper is None:
        assert not share_under(excess, gap, LARGEST_SHARE, "untouched", 0.05)
    elif abs(share - upper) > 1e-8:
        assert share_under(excess, gap, share, "untouched", 0.05) == (share > upper)


@pytest.mark.parametrize("yardstick", ["untouched", "same_attack"])
def test_without_a_gap_nothing_passes_that_equals_its_control(yardstick: Yardstick) -> None:
    chance = random.Random(3)
    excess = [chance.choice([-1.0, -0.5, 0.0, 0.0, 0.5, 1.0]) for _ in range(318)]
    assert share_upper(excess, [0.0] * 318, yardstick, 0.05) is None
    assert share_upper([0.0] * 318, [0.0] * 318, yardstick, 0.05) is None
    assert share_lower([0.0] * 318, [0.0] * 318, yardstick, 0.05) == 0.0
    assert not share_under([0.0] * 318, [0.0] * 318, LARGEST_SHARE, yardstick, 0.05)


@pytest.mark.parametrize("yardstick", ["untouched", "same_attack"])
def test_where_all_clusters_are_alike_the_side_is_clear(yardstick: Yardstick) -> None:
    ones, none = [1.0] * 200, [0.0] * 200
    assert share_under(none, ones, 0.45, yardstick, 0.05)  # the twin
    assert share_over(ones, ones, 0.45, yardstick, 0.05 / 15)  # the original
    assert share_over(ones, none, 0.45, yardstick, 0.05 / 15)  # no gap, yet the candidate knows all
    upper = share_upper(none, ones, yardstick, 0.05)
    assert upper is not None
    assert 0 < upper < 0.1
    assert share_lower(ones, none, yardstick, 0.05) == LARGEST_SHARE


def test_the_worst_question_is_one_that_an_untouched_gap_asks_twice() -> None:
    """35 clusters that each gain what one question can: with the smaller worst question the evidence would be more."""
    excess, gap = [-0.5] * 35, [0.5] * 35
    untouched = share_evidence(excess, gap, 0.45, "untouched")
    same = share_evidence(excess, gap, 0.45, "same_attack")
    assert 0 < untouched.under < same.under
    assert untouched.over == same.over == 0


def test_a_share_bound_is_fiellers_where_many_clusters_make_both_normal() -> None:
    """Fieller's limit from the same means and covariances: the larger root of the quadratic."""
    chance = random.Random(11)
    n = 4000
    gap = [chance.choice([1.0, 1.0, 0.0, 0.0, -0.5]) for _ in range(n)]
    excess = [0.2 * g + chance.choice([0.5, -0.5, 0.0]) for g in gap]
    d, g = sum(excess) / n, sum(gap) / n
    dd = sum((x - d) ** 2 for x in excess) / n / (n - 1)
    gg = sum((y - g) ** 2 for y in gap) / n / (n - 1)
    dg = sum((x - d) * (y - g) for x, y in zip(excess, gap, strict=True)) / n / (n - 1)
    t2 = t_quantile(n - 1, 0.05) ** 2
    a, b, c = g * g - t2 * gg, d * g - t2 * dg, d * d - t2 * dd
    upper, lower = (b + (b * b - a * c) ** 0.5) / a, (b - (b * b - a * c) ** 0.5) / a
    assert share_upper(excess, gap, "same_attack", 0.05) == pytest.approx(upper, abs=0.003)
    assert share_lower(excess, gap, "same_attack", 0.05) == pytest.approx(lower, abs=0.003)


@pytest.mark.parametrize(
    ("excess", "gap", "share", "message"),
    [
        ([0.0], [0.0], 0.4, "at least 2 clusters"),
        ([0.0, 0.0], [0.0], 0.4, "one excess and one gap"),
        ([0.0, float("nan")], [0.0, 0.0], 0.4, "finite totals"),
        ([0.0, 0.0], [0.0, float("inf")], 0.4, "finite totals"),
        ([0.0, 0.0], [0.0, 0.0], -0.1, "share"),
        ([0.0, 0.0], [0.0, 0.0], float("nan"), "share"),
    ],
)
def test_an_argument_out_of_range_is_refused(excess: list[float], gap: list[float], share: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        share_evidence(excess, gap, share, "untouched")


def test_a_yardstick_without_a_name_is_refused() -> None:
    with pytest.raises(KeyError):
        share_under([0.0, 0.0], [1.0, 1.0], 0.45, "other", 0.05)  # type: ignore[arg-type]
