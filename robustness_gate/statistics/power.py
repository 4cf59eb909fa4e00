"""The power of a design before anything is run, in plain Python: probabilities of a true PASS and of a true FAIL.

Each function applies the judge's own rule (a Clopper-Pearson bound and a limit) to a binomial number of right answers.
At design effect 1 this is exact. Above 1 it is an approximation: items/design_effect independent items replace the
clustered ones, with a continuity correction for the finer steps of the counts that the judge then uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from robustness_gate.statistics.binomial import clopper_pearson_lower, clopper_pearson_upper, incomplete_beta


@dataclass(frozen=True, slots=True)
class JointPower:
    """The probability that several trials all pass."""

    at_least: float
    """A guaranteed lower bound for any dependence between the trials (Frechet's bound, 1 - sum of the misses)."""
    if_independent: float
    """The product: the probability if the trials are independent. Trials on the same items are not independent."""


def pass_power(items: int, limit: float, alpha: float, accuracy: float, design_effect: float = 1.0) -> float:
    """Probability that one trial's upper bound is at or under its limit.

    Args:
        items: number of items, >= 1.
        limit: the highest allowed accuracy, in [0, 1].
        alpha: error rate of the bound, in (0, 1): the policy's alpha_pass.
        accuracy: the model's true accuracy, in [0, 1].
        design_effect: >= 1; the judge divides counts by it.

    Raises:
        ValueError: an argument out of range.
    """
    _check(items, limit, alpha, accuracy, design_effect)
    most = _most_that_passes(items, limit, alpha, design_effect)
    return 0.0 if most < 0 else _at_most(most, items, accuracy, design_effect)


def fail_power(items: int, limit: float, alpha: float, accuracy: float, design_effect: float = 1.0) -> float:
    """Probability that one trial's lower bound is over its limit; alpha is the hypothesis' share of alpha_fail.

    Arguments and errors as in `pass_power`.
    """
    _check(items, limit, alpha, accuracy, design_effect)
    least = _least_that_fails(items, limit, alpha, design_effect)
    return 0.0 if least > items else _at_most(items - least, items, 1 - accuracy, design_effect)


def false_fail_rate(items: int, limit: float, alpha_hypothesis: float, design_effect: float = 1.0) -> float:
    """Probability that one trial is over its limit if the true accuracy is the limit: at most `alpha_hypothesis`.

    Multiplied by the number of declared hypotheses it bounds the policy's false-FAIL rate. Arguments and errors as in
    `pass_power`.
    """
    return fail_power(items, limit, alpha_hypothesis, limit, design_effect)


def joint_pass_power(powers: Sequence[float]) -> JointPower:
    """The probability that all of several trials pass, from each one's `pass_power`; 1 for none.

    Raises:
        ValueError: a power outside [0, 1].
    """
    if not all(0 <= power <= 1 for power in powers):
        raise ValueError(f"need powers in [0, 1], got {list(powers)}")
    return JointPower(max(0.0, 1 - sum(1 - power for power in powers)), prod(powers))


def items_needed(limit: float, alpha: float, accuracy: float, power: float, design_effect: float = 1.0) -> int:
    """The smallest number of items from which on a trial has the right outcome with at least this probability.

    The right outcome is PASS if `accuracy` is under the limit and FAIL if it is over. Counts are whole numbers, so the
    power rises in a saw-tooth, and some smaller numbers of items can reach it too.

    Args:
        limit: the highest allowed accuracy, in (0, 1).
        alpha: error rate of the deciding bound, in (0, 1).
        accuracy: the true accuracy, not equal to the limit.
        power: the required probability, in (0, 1).
        design_effect: >= 1.

    Raises:
        ValueError: an argument out of range, or more than ten million items.
    """
    if not (0 < power < 1 and 0 < limit < 1 and accuracy != limit):
        raise ValueError(f"need 0 < power < 1, 0 < limit < 1, accuracy != limit; got {power}, {limit}, {accuracy}")
    decided = pass_power if accuracy < limit else fail_power
    enough = 1
    while _floor(enough, limit, alpha, accuracy, design_effect) < power:
        enough *= 2
        if enough > 10_000_000:
            raise ValueError(f"more than ten million items would be needed to tell {accuracy} from {limit}")
    short = enough // 2
    while enough - short > 1:
        middle = (enough + short) // 2
        if _floor(middle, limit, alpha, accuracy, design_effect) < power:
            short = middle
        else:
            enough = middle
    while enough > 1 and decided(enough - 1, limit, alpha, accuracy, design_effect) >= power:
        enough -= 1
    return enough


def _check(items: int, limit: float, alpha: float, accuracy: float, design_effect: float) -> None:
    if not (items >= 1 and 0 <= limit <= 1 and 0 < alpha < 1 and 0 <= accuracy <= 1 and design_effect >= 1):
        raise ValueError(
            "need items >= 1, limit and accuracy in [0, 1], 0 < alpha < 1, design_effect >= 1; "
            f"got {items}, {limit}, {accuracy}, {alpha}, {design_effect}"
        )


def _at_most(count: int, items: int, accuracy: float, design_effect: float) -> float:
    """P(right answers <= count), counted in effective items; the binomial's own at design effect 1."""
    effective = items / design_effect
    # The judge's counts have steps of 1/design_effect effective items: the correction is half a step, not half an item.
    reached = count / design_effect - (1 - 1 / design_effect) / 2
    return 1.0 if count >= items else _tail(reached, effective, accuracy)


def _tail(count: float, items: float, accuracy: float) -> float:
    """P(X <= count) of a binomial, continued between whole numbers by the beta function that the bound inverts."""
    return incomplete_beta(1 - accuracy, items - count, count + 1)


def _most_that_passes(items: int, limit: float, alpha: float, design_effect: float) -> int:
    """The greatest number of right answers whose upper bound is at or under the limit; -1 if none is."""
    effective = items / design_effect

    def passes(correct: int) -> bool:
        if correct == items:
            return limit >= 1
        tail = _tail(correct / design_effect, effective, limit)
        if abs(tail - alpha) > 1e-9:
            return tail < alpha
        return clopper_pearson_upper(correct / design_effect, effective, alpha) <= limit  # near a tie: the judge's rule

    return _last(items, passes)


def _least_that_fails(items: int, limit: float, alpha: float, design_effect: float) -> int:
    """The least number of right answers whose lower bound is over the limit; items + 1 if none is."""
    effective = items / design_effect

    def fails(wrong: int) -> bool:
        if wrong == items:
            return False  # nothing right: the bound is 0, and no limit is below 0
        tail = _tail(wrong / design_effect, effective, 1 - limit)
        if abs(tail - alpha) > 1e-9:
            return tail < alpha
        return clopper_pearson_lower((items - wrong) / design_effect, effective, alpha) > limit

    return items - _last(items, fails)


def _last(items: int, holds: Callable[[int], bool]) -> int:
    """The largest count in 0..items with a property that holds up to some count; -1 if it never holds."""
    low, high = -1, items + 1
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _floor(items: int, limit: float, alpha: float, accuracy: float, design_effect: float) -> float:
    """A smooth lower bound of the power: one right answer fewer, as if rounding always lost it."""
    if accuracy > limit:
        limit, accuracy = 1 - limit, 1 - accuracy
    effective = items / design_effect
    low, high = -1.0, effective
    for _ in range(60):
        middle = (low + high) / 2
        if _tail(middle, effective, limit) < alpha:
            low = middle
        else:
            high = middle
    if low < 0:
        return 0.0  # not even a trial with nothing right would pass
    reached = low - 1 / design_effect - (1 - 1 / design_effect) / 2
    return _tail(reached, effective, accuracy) if reached > -1 else 0.0
