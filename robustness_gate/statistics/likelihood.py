"""How strongly clusters of questions show that a mean is above zero: an empirical likelihood ratio, in plain Python.

Questions about the same paper are not independent, so the unit is the cluster: one value for each, the sum over its
questions. `likelihood_ratio` is the signed root of Owen's statistic (Empirical Likelihood, 2001, section 2.9) for "the
mean of the values is not above zero", R = sqrt(2 max over l >= 0 of the sum of log(1 + l value)). `established`
compares it with a quantile of Student's t with one degree of freedom less than there are clusters, which is Owen's F
calibration. The sum is the logarithm of a gambler's wealth who bets l on every cluster, so R is about the best constant
bet, where `betting_wealth` takes the mean over several.

One value, the worst that one question can do, is added to those observed (as in Chen, Variyath and Abraham, Journal of
Computational and Graphical Statistics 17, 2008). Without it the error rate was up to twice the nominal one where nearly
all clusters differ in one direction. With it R is finite, and monotone: for every bet the sum rises with every value,
so a value that falls never raises R.

Like every likelihood ratio it is approximate; `benchmarks/limits.md` has its error rates. It needs about 30 clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import fsum, inf, isfinite, log1p, sqrt

from robustness_gate.statistics.binomial import incomplete_beta


def likelihood_ratio(values: Sequence[float], worst: float) -> float:
    """The evidence R that the mean of the values is above zero: about a standard normal deviate if the mean is zero.

    Args:
        values: one for each cluster, the sum over its questions, in any order, finite.
        worst: the size of the largest negative contribution that one question can make, > 0, in the unit of the values;
            one value of -worst is added to them.

    Returns:
        R >= 0; 0.0 if the mean of the values and -worst is not above zero. It is exact to about ten digits.

    Raises:
        ValueError: no value, one that is not finite, or a `worst` that is not positive and finite.
    """
    if not (values and all(map(isfinite, values)) and 0 < worst < inf):
        raise ValueError(f"need at least one value, finite values and 0 < worst < inf; got worst = {worst}")
    counts = sorted((Counter(values) + Counter([-worst])).items())
    return sqrt(2 * max(0.0, _log_wealth(counts, best_bet(counts))))


def established(values: Sequence[float], worst: float, alpha: float) -> bool:
    """Whether the clusters establish, at confidence 1 - alpha, that their mean is above zero.

    Args:
        values: as in `likelihood_ratio`, at least two.
        worst: as in `likelihood_ratio`.
        alpha: error rate, in (0, 0.5).

    Raises:
        ValueError: an argument out of range.
    """
    return likelihood_ratio(values, worst) >= t_quantile(len(values) - 1, alpha)


def difference_lower(differences: Sequence[float], questions: Sequence[int], alpha: float) -> float:
    """One-sided lower bound on the mean difference of two scores per question, at confidence 1 - alpha, by clusters.

    Args:
        differences: for each cluster the sum over its questions of first score - second score; scores are in [0, 1].
        questions: the number of questions in each cluster, >= 1; a difference is within +- this number.
        alpha: error rate, in (0, 0.5).

    Returns:
        A difference in [-1, 1]: the largest m for which `difference_over` holds, to 1e-9; -1.0 if there is none.

    Raises:
        ValueError: an argument out of range, or fewer than two clusters.
    """
    _check(differences, questions)
    low, high = -1.0, 1.0  # the evidence falls as m rises, so bisection cannot fail; `low` is always refuted
    for _ in range(32):
        middle = (low + high) / 2
        if _over(differences, questions, middle, alpha):
            low = middle
        else:
            high = middle
    return low


def difference_upper(differences: Sequence[float], questions: Sequence[int], alpha: float) -> float:
    """One-sided upper bound on the mean difference per question; see `difference_lower`, which it mirrors."""
    return -difference_lower([-difference for difference in differences], questions, alpha)


def difference_over(differences: Sequence[float], questions: Sequence[int], limit: float, alpha: float) -> bool:
    """Whether the clusters establish that the mean difference per question is over `limit`, at confidence 1 - alpha.

    This is the positive control of a share limit: differences are those of the original and the control, `limit` is
    `min_gap`, and alpha is not divided by the hypotheses, because the positive control never makes a candidate FAIL.
    Where an answer is missing, the caller counts it against the gap: the original wrong, the control right.

    Args:
        differences: as in `difference_lower`.
        questions: as in `difference_lower`.
        limit: a difference per question, in (-1, 1].
        alpha: error rate, in (0, 0.5).

    Raises:
        ValueError: an argument out of range, or fewer than two clusters.
    """
    _check(differences, questions)
    if not -1 < limit <= 1:
        raise ValueError(f"need -1 < limit <= 1, got {limit}")
    return _over(differences, questions, limit, alpha)


def _check(differences: Sequence[float], questions: Sequence[int]) -> None:
    if len(differences) != len(questions):
        raise ValueError(f"need one difference for each cluster; got {len(differences)} for {len(questions)} clusters")
    if any(not (size >= 1 and abs(d) <= size * (1 + 1e-9)) for d, size in zip(differences, questions, strict=True)):
        raise ValueError("need clusters of at least one question, and differences of at most 1 per question")


def _over(differences: Sequence[float], questions: Sequence[int], limit: float, alpha: float) -> bool:
    values = [d - limit * size for d, size in zip(differences, questions, strict=True)]
    return established(values, 1 + limit, alpha)


@lru_cache(maxsize=1 << 12)  # a judgement asks for the same few over and over
def t_quantile(df: float, alpha: float) -> float:
    """The value that Student's t with `df` degrees of freedom exceeds with probability alpha.

    From P(T > t) = I_x(df / 2, 1 / 2) / 2 with x = df / (df + t^2) (Abramowitz and Stegun 26.7.1), by bisection.

    Args:
        df: degrees of freedom, >= 1.
        alpha: in (0, 0.5).

    Raises:
        ValueError: an argument out of range.
    """
    if not (1 <= df < inf and 0 < alpha < 0.5):
        raise ValueError(f"need df >= 1 and 0 < alpha < 0.5 (so at least two clusters); got {df}, {alpha}")
    low, high = 0.0, 1.0
    while t_tail(high, df) > alpha:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        if t_tail(middle, df) > alpha:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def best_bet(counts: Sequence[tuple[float, int]]) -> float:
    """The l >= 0 at which the sum of times * log(1 + l value) is greatest.

    Newton's method, damped where the step is long. The sum is self-concordant, so no step leaves the domain, and the
    sum is within `decrement` of its maximum once `decrement` is below 0.4 (Boyd and Vandenberghe, Convex Optimization,
    2004, section 9.6).

    Args:
        counts: pairs of a value and how often it occurs; at least one value is negative, or there is no maximum.
    """
    bet = 0.0
    if fsum(times * value for value, times in counts) <= 0:
        return bet
    while True:
        slopes = [(times, value / (1 + bet * value)) for value, times in counts]
        slope = fsum(times * part for times, part in slopes)
        curvature = fsum(times * part * part for times, part in slopes)
        decrement = slope * slope / curvature
        if decrement < 1e-16:
            return bet
        bet += slope / curvature / (1 + sqrt(decrement) if decrement > 1 / 16 else 1)


def _log_wealth(counts: Sequence[tuple[float, int]], bet: float) -> float:
    return fsum(times * log1p(bet * value) for value, times in counts)


def t_tail(t: float, df: float) -> float:
    """P(T > t) of Student's t with `df` degrees of freedom, for t >= 0: the inverse of `t_quantile`."""
    return incomplete_beta(df / (df + t * t), df / 2, 0.5) / 2
