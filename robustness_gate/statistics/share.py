"""Which share of a gap is back: three models on the same questions, bounded by clusters, in plain Python.

The gap is what the original knows more than a control that was never taught. A share limit r says: after attack k the
candidate exceeds the control by at most r times the gap. Per cluster of questions, from sums of scores in [0, 1],

    untouched      x_c = C_k - T_k - r (O_0 - T_0)    the gap of the untouched original and the untouched control
    same_attack    x_c = C_k - T_k - r (O_k - T_k)    the gap of both after the attack that the candidate had

with candidate C, control T and original O. The candidate is under the limit if the clusters establish that the mean of
-x is above zero, and over it if they establish that the mean of x is (`likelihood.established`). One question moves x
by at most 1 + r with the untouched gap, where the control is asked twice, and by at most 1 with the other (r up to 1).

The statement at the fixed r of the policy decides. It divides nothing, so it stays valid where the gap is small: with
no gap x is C - T, and a candidate that equals its control is not under any limit. The estimated share (C - T) / (O - T)
has no such guarantee: a small gap makes it arbitrary. `share_upper` and `share_lower` invert the statement over r
(Fieller's limits) and are for printing. The positive control is `difference_over` of the untouched gap, over `min_gap`;
where it fails, no verdict should be read from here.

Missing answers: the caller passes the worst case for each side. For PASS the candidate is right and the control after
the attack wrong; in the gap the original is wrong and the untouched control right. For FAIL the reverse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, isfinite
from typing import Literal

from robustness_gate.statistics.likelihood import best_bet, likelihood_ratio, t_quantile

Yardstick = Literal["untouched", "same_attack"]

LARGEST_SHARE = 10.0
"""Shares are stated up to here: a share above it means a gap that is hardly there."""

_WORST_QUESTION: dict[Yardstick, tuple[float, float]] = {"untouched": (1.0, -1.0), "same_attack": (1.0, 0.0)}
"""The worst that one question can do to a PASS, as (C - T, O - T); with the signs reversed, to a FAIL."""


@dataclass(frozen=True, slots=True)
class ShareEvidence:
    """How strongly the clusters show on which side of a share limit a candidate is; at most one of the two is above 0.

    Both are values of `likelihood_ratio`; compare with `t_quantile(clusters - 1, alpha)`.
    """

    under: float
    over: float


def share_evidence(excess: Sequence[float], gap: Sequence[float], share: float, yardstick: Yardstick) -> ShareEvidence:
    """The evidence that the candidate is under a share limit, and that it is over it.

    Args:
        excess: for each cluster the candidate's total minus the control's, both after the attack.
        gap: for each cluster the original's total minus the control's: both untouched, or both after the attack.
        share: the limit r, in [0, LARGEST_SHARE].
        yardstick: whose gap it is.

    Raises:
        ValueError: an argument out of range, not one pair for each cluster, or fewer than two clusters.
    """
    _check(excess, gap, share)
    x = [e - share * g for e, g in zip(excess, gap, strict=True)]
    most, opposite = _WORST_QUESTION[yardstick]
    worst = most - share * opposite
    return ShareEvidence(likelihood_ratio([-value for value in x], worst), likelihood_ratio(x, worst))


def share_under(
    excess: Sequence[float], gap: Sequence[float], share: float, yardstick: Yardstick, alpha: float
) -> bool:
    """Whether the clusters establish, at confidence 1 - alpha, that less than `share` of the gap is back.

    Arguments and errors as in `share_evidence`; alpha is in (0, 0.5).
    """
    return share_evidence(excess, gap, share, yardstick).under >= t_quantile(len(excess) - 1, alpha)


def share_over(excess: Sequence[float], gap: Sequence[float], share: float, yardstick: Yardstick, alpha: float) -> bool:
    """Whether the clusters establish, at confidence 1 - alpha, that more than `share` of the gap is back.

    Arguments and errors as in `share_evidence`; alpha is in (0, 0.5), the hypothesis' part of the error rate for FAIL.
    """
    return share_evidence(excess, gap, share, yardstick).over >= t_quantile(len(excess) - 1, alpha)


def share_upper(excess: Sequence[float], gap: Sequence[float], yardstick: Yardstick, alpha: float) -> float | None:
    """The least share r >= 0 for which `share_under` holds: an upper bound on the share that is back.

    The pairs of mean excess and mean gap that the clusters do not refute are a convex set, whatever r is. `share_under`
    holds at r if the whole set has excess < r gap. So it holds on an interval of r, and where it does not, one pair of
    the set with excess = r gap shows on which side of r the interval can be. With an established gap the interval has
    no upper end, and `share_under` holds exactly from the bound on.

    Args:
        excess: as in `share_evidence`.
        gap: as in `share_evidence`.
        yardstick: as in `share_evidence`.
        alpha: error rate, in (0, 0.5).

    Returns:
        A share in [0, LARGEST_SHARE], to 1e-9, for which `share_under` holds; None if it holds for none, as where there
        is no gap.

    Raises:
        ValueError: as `share_evidence`.
    """
    _check(excess, gap, 0.0)
    pairs = sorted((Counter(zip(excess, gap, strict=True)) + Counter([_WORST_QUESTION[yardstick]])).items())
    if share_under(excess, gap, 0.0, yardstick, alpha):
        return 0.0
    low, high, middle, found = 0.0, LARGEST_SHARE, LARGEST_SHARE, None
    while high - low > 1e-10:
        if share_under(excess, gap, middle, yardstick, alpha):
            high = found = middle
        elif _unrefuted_gap(pairs, middle) > 0:
            low = middle
        else:
            high = middle
        middle = (low + high) / 2
    return found


def share_lower(excess: Sequence[float], gap: Sequence[float], yardstick: Yardstick, alpha: float) -> float:
    """The largest share r for which `share_over` holds: a lower bound on the share that is back.

    For the set of `share_upper`, with the signs of the added question reversed: if `share_over` holds at 0, all its
    pairs have a positive excess, so it holds from 0 up to the bound.

    Args:
        excess: as in `share_evidence`.
        gap: as in `share_evidence`.
        yardstick: as in `share_evidence`.
        alpha: error rate, in (0, 0.5): the hypothesis' part of the error rate for FAIL.

    Returns:
        A share in [0, LARGEST_SHARE], to 1e-9; 0.0 if `share_over` does not hold at 0.

    Raises:
        ValueError: as `share_evidence`.
    """
    if not share_over(excess, gap, 0.0, yardstick, alpha):
        return 0.0
    if share_over(excess, gap, LARGEST_SHARE, yardstick, alpha):
        return LARGEST_SHARE
    low, high = 0.0, LARGEST_SHARE
    for _ in range(36):
        middle = (low + high) / 2
        if share_over(excess, gap, middle, yardstick, alpha):
            low = middle
        else:
            high = middle
    return low


def _check(excess: Sequence[float], gap: Sequence[float], share: float) -> None:
    if len(excess) != len(gap) or len(excess) < 2:
        raise ValueError(f"need one excess and one gap for each of at least 2 clusters; got {len(excess)}, {len(gap)}")
    if not (all(map(isfinite, excess)) and all(map(isfinite, gap)) and 0 <= share <= LARGEST_SHARE):
        raise ValueError(f"need finite totals and a share in [0, {LARGEST_SHARE}], got a share of {share}")


def _unrefuted_gap(pairs: Sequence[tuple[tuple[float, float], int]], share: float) -> float:
    """The sum of the gap under the weights that fit "the excess is share times the gap" best, or the observed one.

    `pairs` are (excess, gap) with the added question, and how often each occurs.
    """
    y = [(share * gap - excess, times) for (excess, gap), times in pairs]
    bet = best_bet(y)
    return fsum(times * gap / (1 + bet * value) for (value, times), ((_, gap), _) in zip(y, pairs, strict=True))
