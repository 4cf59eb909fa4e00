"""An anytime-valid test: betting against "the accuracy is at most p0", in plain Python.

A gambler stakes the share b of their wealth on each next item being right, at odds that are fair if it is right with
probability p0: a right answer multiplies the wealth by 1 + b(1/p0 - 1), a wrong one by 1 - b. If the accuracy is at
most p0, the expected gain is not positive, so the wealth ever reaches 1/alpha with probability at most alpha, at any
stopping time (Ville 1939; for bounded means Waudby-Smith and Ramdas, JRSS-B 86, 2024). A bet of b is the likelihood
ratio of the accuracy p0 + b(1 - p0) against p0.

The wealth here is the mean over BETS, which are fixed: with a bet that adapts to earlier answers, a right answer could
cause a later loss, so a model that knows more could get a lower bound.

The test is valid if each item, given the earlier ones, is right with probability at most p0, as for independent items.
For clustered items, use one mean per cluster. The test can only establish a breach; a PASS needs the fixed bound, once,
at the planned number of items.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf, log, log1p, sqrt

BETS = tuple(2 ** (-half / 2) for half in range(1, 11))
"""From 0.71 down to 1/32 in steps of a square root of two: against a limit of .32 the accuracies .80 down to .34."""

_LARGEST = 700.0
"""Slightly below the logarithm of the largest double."""


def betting_wealth(values: Sequence[float], p0: float) -> list[float]:
    """The mean wealth after each item, from 1 before the first; `inf` if it exceeds the largest double.

    Args:
        values: answers in committed order, each 0 or 1, or means of clusters in [0, 1].
        p0: the accuracy under test, in [0, 1].

    Raises:
        ValueError: a value or p0 out of range.
    """
    _check(values, p0)
    return [_mean_wealth(counts, p0) for counts in _counts(values)]


def betting_stop(values: Sequence[float], p0: float, alpha: float) -> int | None:
    """How many items a breach needs: the first number at which the wealth reaches 1/alpha, or None if it never does.

    Arguments and errors as in `betting_wealth`; alpha is in (0, 1).
    """
    _check(values, p0, alpha)
    return next(
        (index + 1 for index, counts in enumerate(_counts(values)) if _mean_wealth(counts, p0) >= 1 / alpha), None
    )


def betting_lower(values: Sequence[float], alpha: float) -> float:
    """The largest p0 that the test rejects at some item, or 0.0 if none: a lower bound at confidence 1 - alpha.

    It exceeds p0 exactly if `betting_stop(values, p0, alpha)` is a number, apart from rounding; and it never falls if
    an answer changes from wrong to right or a further item is added.

    Arguments and errors as in `betting_stop`.
    """
    _check(values, 0.5, alpha)
    goal = 1 / alpha
    # The wealth peaks just after a gain, and it falls as p0 rises. So the bound is the maximum over the peaks, and one
    # comparison with the best so far excludes most of them. The order changes only the run time.
    peaks = [counts for value, counts in zip(values, _counts(values), strict=True) if value > 0]
    best = 0.0
    for counts in sorted(peaks, key=_promise, reverse=True):
        if _mean_wealth(counts, best) < goal:
            continue
        low, high = best, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            if _mean_wealth(counts, middle) >= goal:
                low = middle
            else:
                high = middle
        best = low
    return best


def _check(values: Sequence[float], p0: float, alpha: float = 0.5) -> None:
    if not (0 <= p0 <= 1 and 0 < alpha < 1 and all(0 <= value <= 1 for value in values)):
        raise ValueError(f"need values and p0 in [0, 1], alpha in (0, 1); got p0 = {p0}, alpha = {alpha}")


def _counts(values: Sequence[float]) -> Iterator[dict[float, int]]:
    """After each item, how often each value has occurred: the wealth depends only on this, because BETS are fixed."""
    seen: dict[float, int] = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
        yield dict(seen)


def _mean_wealth(counts: dict[float, int], p0: float) -> float:
    if p0 <= 0:  # any right answer refutes "never"
        return inf if any(value > 0 for value in counts) else sum(_power(1 - b, counts) for b in BETS) / len(BETS)
    total = 0.0
    for bet in BETS:
        logarithm = sum(times * log1p(bet * (value / p0 - 1)) for value, times in counts.items())
        if logarithm > _LARGEST:
            return inf
        total += exp(logarithm)
    return total / len(BETS)


def _power(base: float, counts: dict[float, int]) -> float:
    return exp(sum(counts.values()) * log(base))


def _promise(counts: dict[float, int]) -> float:
    """A rough lower bound on the accuracy: only the order in which the peaks are tried depends on it."""
    items = sum(counts.values())
    mean = sum(value * times for value, times in counts.items()) / items
    return mean - 2 * sqrt((mean * (1 - mean) + 1 / items) / items)
