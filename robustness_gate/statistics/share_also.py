"""The power of a share limit with further conditions of a PASS on the same answers, in closed form and plain Python.

A score of several readings must also be within a larger share in each reading alone, and a limit may have a `max` in
points. A twin that is within the share is nearly always within these too, unless one reading hardly shows a gap: then
it decides. Their contrasts are standardised as in `share_power`; each has a correlation with that of the share, in the
part that all cells have in common as in each cell's own.

For one condition the probability is an integral over two normal deviates. For several the result is a lower bound: the
probability of the share limit, minus that of missing a condition all the same, summed over the conditions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import asin, cos, exp, isfinite, pi, sin, sqrt
from statistics import NormalDist

from robustness_gate.statistics.share_power import ShareDesign, contrast_error, share_pass_power

_NORMAL = NormalDist()
REACH = 6
"""Deviates beyond it are left out."""
_NODES = [(k / 3, exp(-k * k / 18) / 3 / sqrt(2 * pi)) for k in range(-15, 16)]
STRONGEST = 0.95
"""Correlations above it are taken as it, which can only lower the result."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A further condition, in each cell.

    Raises:
        ValueError: a number out of range.
    """

    room: float
    """How far the bound lies above the mean of the contrast, in standard errors, minus the normal quantile of
    alpha_pass: one cell meets it with probability Phi(room)."""
    correlation: float
    """Of its contrast with that of the share limit, in [-1, 1]."""

    def __post_init__(self) -> None:
        if not (isfinite(self.room) and -1 <= self.correlation <= 1):
            raise ValueError(f"need a finite room and a correlation in [-1, 1], got {self}")


def room(distance: float, alpha: float) -> float:
    """The room of a condition: from the bound to the mean of its contrast, in standard errors; see `Condition`."""
    return distance + _NORMAL.inv_cdf(alpha)


def share_pass_power_with(design: ShareDesign, t_gap: float, share: float, conditions: Sequence[Condition]) -> float:
    """Probability that every cell is under the limit and meets every condition; a lower bound for two conditions.

    Args:
        design: the limit and its battery; `cells_correlation` up to 0.9.
        t_gap: the gap in its standard errors, >= 0.
        share: the candidate's true share of the gap, the same in every cell.
        conditions: further conditions.

    Returns:
        A probability, to 1e-4; `share_pass_power` without a condition.

    Raises:
        ValueError: a number out of range.
    """
    if design.cells_correlation > 0.9:
        raise ValueError(f"need a correlation of cells up to 0.9, got {design.cells_correlation}")
    alone = share_pass_power(design, t_gap, share)
    f = contrast_error(design.share, design.yardstick, design.attack_agreement)
    own = room((design.share - share) * t_gap / f, design.alpha_pass)
    missed = sum(max(0.0, alone - _both(design, own, each)) for each in conditions)
    return max(0.0, alone - missed)


def _both(design: ShareDesign, own: float, condition: Condition) -> float:
    """Probability that every cell has its share's contrast within `own` and meets one condition."""
    common, rest = sqrt(design.cells_correlation), sqrt(1 - design.cells_correlation)
    c = max(-STRONGEST, min(STRONGEST, condition.correlation))
    across, rule = sqrt(1 - c * c), _rule(c)
    total = 0.0
    for g, weight in _NODES:
        a = (own - common * g) / rest
        for w, its_weight in _NODES if a > -REACH else ():
            b = (condition.room - common * (c * g + across * w)) / rest
            if b > -REACH:
                total += weight * its_weight * _below_both(a, b, rule) ** design.cells
    return min(1.0, total)


def _rule(c: float) -> list[tuple[float, float, float]]:
    """Simpson's rule over the angle from 0 to that of a correlation c: weight, sine, and 1 / (2 cosine^2)."""
    steps = 8
    h = asin(c) / steps
    weights = [1 if k in (0, steps) else 4 if k % 2 else 2 for k in range(steps + 1)]
    return [(each * h / 6 / pi, sin(k * h), 0.5 / cos(k * h) ** 2) for k, each in enumerate(weights)]


def _below_both(a: float, b: float, rule: list[tuple[float, float, float]]) -> float:
    """P(X <= a, Y <= b) of two standard normal deviates (Abramowitz and Stegun 26.3.19); `rule` has the correlation."""
    independent = _NORMAL.cdf(a) * _NORMAL.cdf(b)
    if max(a, b) > 2 * REACH:
        return independent
    squares, twice = a * a + b * b, 2 * a * b
    joined = sum(weight * exp((twice * sine - squares) * scale) for weight, sine, scale in rule)
    return min(1.0, max(0.0, independent + joined))
