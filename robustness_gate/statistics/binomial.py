"""Exact bounds on an accuracy, in plain Python.

An auditor can read this without knowing scipy; the tests compare it with scipy and with brute-force inversion of the
binomial. The bound is Clopper and Pearson's (Biometrika 26, 1934): its coverage is never below the nominal level, which
a gate needs; Wilson's interval is narrower, and its coverage can be 1.4 points too low.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, lgamma, log, log1p

_TINY = 1e-300
_STEPS = 300


@lru_cache(maxsize=1 << 16)  # a judgement asks for the same few counts over and over
def clopper_pearson_lower(correct: float, items: float, alpha: float) -> float:
    """One-sided lower bound on a success probability, at confidence 1 - alpha.

    Args:
        correct: successes, in [0, items]; a fraction where counts were divided by a design effect.
        items: trials, > 0.
        alpha: error rate, in (0, 1).

    Returns:
        A probability; 0.0 when nothing was correct.

    Raises:
        ValueError: an argument out of range.
    """
    _check(correct, items, alpha)
    return 0.0 if correct == 0 else _beta_quantile(alpha, correct, items - correct + 1)


@lru_cache(maxsize=1 << 16)  # a judgement asks for the same few counts over and over
def clopper_pearson_upper(correct: float, items: float, alpha: float) -> float:
    """One-sided upper bound on a success probability, at confidence 1 - alpha; 1.0 when everything was correct.

    See `clopper_pearson_lower` for arguments and errors. The two mirror each other: U(x, n) = 1 - L(n - x, n).
    """
    _check(correct, items, alpha)
    return 1.0 if correct == items else _beta_quantile(1 - alpha, correct + 1, items - correct)


def _check(correct: float, items: float, alpha: float) -> None:
    if not (items > 0 and 0 <= correct <= items and 0 < alpha < 1):
        raise ValueError(f"need 0 <= correct <= items, items > 0, 0 < alpha < 1; got {correct}, {items}, {alpha}")


def _beta_quantile(probability: float, a: float, b: float) -> float:
    """The x at which the regularised incomplete beta function I_x(a, b) reaches `probability`, by bisection.

    I_x rises with x, so bisection cannot fail; 80 halvings leave nothing of a double's 52 bits to decide.
    """
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        if incomplete_beta(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b) by its continued fraction (Abramowitz and Stegun 26.5.8), on the side that converges fast."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1.0 - front * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """The fraction of A&S 26.5.8, evaluated front to back by Lentz's method (Applied Optics 15, 1976)."""
    c, d = 1.0, 1.0 / _away_from_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for numerator in (even, odd):
            d = 1.0 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            value *= c * d
        if abs(c * d - 1) < 1e-16:
            return value
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
