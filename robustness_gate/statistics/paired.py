"""Bounds on the difference of two accuracies measured on the same items, in plain Python.

The bound inverts Tango's score test (Statistics in Medicine 17, 1998, 891-908). It is monotone: if an answer of the
first model changes from wrong to right, the bound cannot fall (the paired Wald bound can). It exists for every table,
also if the two models never differ.

Like every score bound it is approximate. Summed exactly over a grid of true tables, its mean coverage is the nominal
one, but if nearly all differences have one direction it can be lower: at 120 items and alpha .05 the worst coverage was
.921, and at alpha .001 the worst error was .0020 (.0027 at 400 items).
"""

from __future__ import annotations

from functools import lru_cache
from math import erfc, sqrt


@lru_cache(maxsize=1 << 16)  # a judgement asks for the same few counts over and over
def tango_lower(only_first: float, only_second: float, items: float, alpha: float) -> float:
    """One-sided lower bound on p_first - p_second, at confidence 1 - alpha.

    Args:
        only_first: items that the first has right and the second wrong; a fraction if divided by a design effect.
        only_second: items that the second has right and the first wrong.
        items: all items, > 0, agreements included.
        alpha: error rate, in (0, 1).

    Returns:
        A difference in [-1, 1]: the largest that the score test rejects at alpha.

    Raises:
        ValueError: a negative or non-finite count, more discordant items than items, or an alpha out of range.
    """
    known = 0 <= only_first <= items and 0 <= only_second <= items
    if not (known and 0 < items < float("inf") and only_first + only_second <= items * (1 + 1e-12) and 0 < alpha < 1):
        raise ValueError(
            "need only_first, only_second >= 0, only_first + only_second <= items, items > 0, 0 < alpha < 1; "
            f"got {only_first}, {only_second}, {items}, {alpha}"
        )
    # The score falls as the tested difference rises, so bisection cannot fail; `low` is always a rejected difference.
    low, high = -1.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if erfc(_score(only_first, only_second, items, middle) / sqrt(2)) / 2 < alpha:
            low = middle
        else:
            high = middle
    return low


def tango_upper(only_first: float, only_second: float, items: float, alpha: float) -> float:
    """One-sided upper bound on p_first - p_second, at confidence 1 - alpha; see `tango_lower`, which it mirrors."""
    return -tango_lower(only_second, only_first, items, alpha)


def _score(only_first: float, only_second: float, items: float, difference: float) -> float:
    """Tango's z: (observed difference - tested difference) / its standard error under the tested difference.

    The table's probabilities are the maximum likelihood estimates under the difference d = p_first - p_second. With
    q = P(only second right) the likelihood's derivative is a quadratic whose larger root is the maximum.
    """
    if difference < 0:  # mirrored, so that the quadratic's constant is never positive and no root is lost to rounding
        return -_score(only_second, only_first, items, -difference)
    a = 2 * items
    b = (2 * items - only_first + only_second) * difference - only_first - only_second
    c = -only_second * difference * (1 - difference)
    root = sqrt(b * b - 4 * a * c)
    q = -2 * c / (b + root) if b > 0 else (root - b) / (2 * a)
    variance = items * (2 * q + difference * (1 - difference))
    gap = only_first - only_second - items * difference
    if variance <= 0:
        return 0.0 if gap == 0 else float("inf") if gap > 0 else float("-inf")
    return gap / sqrt(variance)
