"""How many questions would decide: pure arithmetic on exact bounds."""

from __future__ import annotations

from collections.abc import Callable

from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper

MOST_ITEMS = 100_000
"""The largest number of questions that is considered."""


def items_for_compliance(accuracy: float, limit: float, alpha: float, effect: float = 1.0) -> int | None:
    """How many questions bring the upper bound of this accuracy to the limit; None if MOST_ITEMS are not enough.

    Args:
        accuracy: the observed accuracy; new questions will differ, so the number is only a guide.
        limit: the largest accuracy allowed.
        alpha: error rate of the one-sided bound.
        effect: design effect by which items are divided, >= 1.
    """
    if accuracy >= limit:
        return None
    return _smallest(lambda n: clopper_pearson_upper(accuracy * n / effect, n / effect, alpha) <= limit)


def items_for_breach(accuracy: float, limit: float, alpha: float, effect: float = 1.0) -> int | None:
    """How many questions bring the lower bound of this accuracy over the limit. See `items_for_compliance`."""
    if accuracy <= limit:
        return None
    return _smallest(lambda n: clopper_pearson_lower(accuracy * n / effect, n / effect, alpha) > limit)


def _smallest(enough: Callable[[int], bool]) -> int | None:
    """Bisection: with counts in proportion, a bound only tightens as questions are added."""
    high = 8
    while not enough(high):
        high *= 2
        if high > MOST_ITEMS:
            return None
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
