"""The betting test errs as seldom as it says, wherever one stops, and knowing more never helps the accused."""

from __future__ import annotations

import math
import random
import time

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from robustness_gate.statistics import (
    BETS,
    betting_lower,
    betting_stop,
    betting_wealth,
    clopper_pearson_lower,
)

ANSWERS = st.one_of(
    st.lists(st.booleans(), max_size=120),
    st.tuples(st.integers(1, 120), st.floats(0, 1), st.randoms(use_true_random=False)).map(
        lambda t: [t[2].random() < t[1] for _ in range(t[0])]
    ),
)
MEANS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=60)
P0 = st.floats(0.01, 0.99)
ALPHAS = st.sampled_from([0.05, 0.05 / 7, 0.2, 5e-7])
MANY = settings(max_examples=examples(500), deadline=None)


@pytest.mark.parametrize("p0", [0.05, 0.25, 0.32, 0.4, 0.9])
def test_at_the_limit_the_wealth_is_a_fair_game_and_ever_reaching_one_over_alpha_has_at_most_probability_alpha(
    p0: float,
) -> None:
    """Exact, by counting paths: the wealth depends on items and right answers only. `alive` have not crossed yet."""
    n = 150
    by_counts = {
        (t, right): betting_wealth([1] * right + [0] * (t - right), p0)[-1] for t in (n,) for right in range(n + 1)
    }
    fair = math.fsum(math.comb(n, k) * p0**k * (1 - p0) ** (n - k) * by_counts[n, k] for k in range(n + 1))
    assert fair == pytest.approx(1, abs=1e-9)
    for alpha in (0.2, 0.05, 0.05 / 7):
        crossed, alive = 0.0, {0: 1.0}
        for t in range(1, n + 1):
            step: dict[int, float] = {}
            for right, chance in alive.items():
                step[right] = step.get(right, 0.0) + chance * (1 - p0)
                step[right + 1] = step.get(right + 1, 0.0) + chance * p0
            over = {r for r in step if _wealth(t, r, p0) >= 1 / alpha}
            crossed += math.fsum(step[r] for r in over)
            alive = {r: c for r, c in step.items() if r not in over}
        assert 0 < crossed <= alpha


def test_simulated_boundary_models_are_found_in_breach_at_most_as_often_as_alpha_says() -> None:
    chance, tries, alpha = random.Random(20261121), 400, 0.05
    wrong = sum(
        betting_stop([chance.random() < 0.32 for _ in range(300)], 0.32, alpha) is not None for _ in range(tries)
    )
    assert wrong / tries <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / tries)


def test_an_accuracy_far_over_the_limit_is_found_in_breach_early_every_time() -> None:
    chance = random.Random(7)
    stops = [betting_stop([chance.random() < 0.6 for _ in range(1273)], 0.32, 0.05) for _ in range(100)]
    assert all(stop is not None for stop in stops)
    assert sorted(stop for stop in stops if stop)[50] <= 40  # the design notes have a median of 22


@given(ANSWERS, P0)
@MANY
def test_the_wealth_is_the_mean_of_the_products_of_single_bets(answers: list[bool], p0: float) -> None:
    expected = []
    purses = [1.0] * len(BETS)
    for right in answers:
        purses = [w * (1 + b * (right / p0 - 1)) for w, b in zip(purses, BETS, strict=True)]
        expected.append(math.fsum(purses) / len(BETS))
    assert betting_wealth(answers, p0) == pytest.approx(expected, rel=1e-9)


@given(ANSWERS, P0, ALPHAS, st.data())
@MANY
def test_an_answer_that_turns_right_never_lowers_the_wealth_nor_delays_a_breach(
    answers: list[bool], p0: float, alpha: float, data: st.DataObject
) -> None:
    flipped = data.draw(st.sets(st.integers(0, max(0, len(answers) - 1))))
    better = [right or index in flipped for index, right in enumerate(answers)]
    before, after = betting_wealth(answers, p0), betting_wealth(better, p0)
    assert all(b >= a * (1 - 1e-12) for a, b in zip(before, after, strict=True))
    assert (betting_stop(better, p0, alpha) or math.inf) <= (betting_stop(answers, p0, alpha) or math.inf)
    assert betting_lower(better, alpha) >= betting_lower(answers, alpha) - 1e-12


@given(st.one_of(ANSWERS, MEANS), ALPHAS)
@MANY
def test_the_bound_is_where_the_running_maximum_reaches_one_over_alpha(answers: list[float], alpha: float) -> None:
    bound = betting_lower(answers, alpha)
    assert 0 <= bound < 1
    assert betting_stop(answers, min(1.0, bound + 1e-9), alpha) is None or bound == 0.0
    if bound > 1e-6:
        assert betting_stop(answers, bound - 1e-9, alpha) is not None
    if bound == 0.0:
        assert betting_stop(answers, 1e-9, alpha) is None or not any(answers)


@given(st.one_of(ANSWERS, MEANS), P0, ALPHAS)
@MANY
def test_it_stops_at_the_first_item_at_which_the_wealth_is_enough(
    answers: list[float], p0: float, alpha: float
) -> None:
    reached = [index + 1 for index, wealth in enumerate(betting_wealth(answers, p0)) if wealth >= 1 / alpha]
    assert betting_stop(answers, p0, alpha) == (reached[0] if reached else None)


@given(ANSWERS, st.lists(st.booleans(), max_size=30), ALPHAS)
@MANY
def test_more_items_never_lower_the_bound(answers: list[bool], more: list[bool], alpha: float) -> None:
    assert betting_lower([*answers, *more], alpha) >= betting_lower(answers, alpha) - 1e-12


@given(st.one_of(ANSWERS, MEANS), P0, st.floats(0.01, 0.99))
@MANY
def test_the_wealth_against_a_higher_accuracy_is_never_higher(answers: list[float], p0: float, share: float) -> None:
    higher = p0 + (1 - p0) * share
    pairs = zip(betting_wealth(answers, p0), betting_wealth(answers, higher), strict=True)
    assert all(b <= a * (1 + 1e-12) for a, b in pairs)


def test_the_price_of_looking_all_the_time_is_a_little_width() -> None:
    chance = random.Random(3)
    answers = [chance.random() < 0.45 for _ in range(1273)]
    fixed = clopper_pearson_lower(sum(answers), 1273, 0.05)
    assert fixed - 0.05 < betting_lower(answers, 0.05) < fixed + 0.02


def test_no_answer_and_no_right_answer_bound_nothing_and_one_right_answer_refutes_never() -> None:
    assert betting_lower([], 0.05) == betting_lower([False] * 50, 0.05) == 0.0
    assert betting_wealth([], 0.3) == []
    assert betting_stop([False, True], 0.0, 0.05) == 2
    assert betting_stop([False] * 9, 0.0, 0.05) is None
    assert betting_stop([True] * 99, 1.0, 0.05) is None
    assert betting_wealth([True] * 2000, 0.01)[-1] == math.inf


@pytest.mark.parametrize(("first", "last"), [(0.3, 0.3), (0.9, 0.9), (1.0, 0.0), (0.0, 1.0)])
def test_sixteen_hundred_items_take_well_under_fifty_milliseconds(first: float, last: float) -> None:
    chance = random.Random(5)
    answers = [chance.random() < first + (last - first) * i / 1600 for i in range(1600)]
    best = math.inf
    for _ in range(5):  # the least of several: what it costs when nothing else runs
        start = time.process_time()
        betting_lower(answers, 0.05)
        best = min(best, time.process_time() - start)
    assert best < 0.05


@pytest.mark.parametrize(
    ("values", "p0", "alpha"),
    [
        ([1.5], 0.3, 0.05),
        ([-0.1], 0.3, 0.05),
        ([math.nan], 0.3, 0.05),
        ([1], 1.1, 0.05),
        ([1], -0.1, 0.05),
        ([1], math.nan, 0.05),
        ([1], 0.3, 0.0),
        ([1], 0.3, 1.0),
    ],
)
def test_an_argument_out_of_range_is_refused(values: list[float], p0: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="need values and p0"):
        betting_stop(values, p0, alpha)


def _wealth(items: int, right: int, p0: float) -> float:
    up, down = [1 + b * (1 / p0 - 1) for b in BETS], [1 - b for b in BETS]
    return math.fsum(u**right * d ** (items - right) for u, d in zip(up, down, strict=True)) / len(BETS)
