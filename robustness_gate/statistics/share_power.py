"""The power of a share limit before a candidate exists, in closed form and plain Python.

All follows from t_gap, the gap between original and control divided by its standard error by clusters: both models
exist before the candidate. With limit r and true share s, the contrast of `share` has the mean (s - r) gap and about f
times the standard error of the gap, so its standardised mean is (s - r) t_gap / f, with

    same_attack    f = sqrt(1 - r + r^2)
    untouched      f = sqrt(1 - r h + r^2)    h: how strongly the control's answers before and after an attack agree

Contrasts of different attacks on the same questions have a common part of correlation q. Given that part they are
independent, so a probability over all attacks is an integral over one normal deviate.

This is an approximation: normal quantiles, no added question, and the same f for every candidate.
`benchmarks/limits.md` compares it with the simulated rule: where the original knows some questions for certain, the
closed form is some points too low for the PASS of a twin and for the FAIL of what knows the same questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, pi, prod, sqrt
from statistics import NormalDist

from robustness_gate.statistics.share import Yardstick

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class ShareDesign:
    """A share limit and the battery on which it is judged.

    Raises:
        ValueError: a number out of range.
    """

    share: float
    """The limit r (`max_share`), in (0, 1]."""
    cells: int
    """Required cells (attack, budget, seed) that the limit judges, >= 1: all must be under it for PASS."""
    hypotheses: int
    """What alpha_fail is divided by, >= 1: all declared hypotheses, utility among them."""
    yardstick: Yardstick = "untouched"
    alpha_pass: float = 0.05
    """In (0, 0.5)."""
    alpha_fail: float = 0.05
    """In (0, 0.5)."""
    cells_correlation: float = 0.8
    """q, in [0, 0.99]: correlation of the contrasts of two cells; 0.8 unless it is measured."""
    attack_agreement: float = 0.7
    """h, in [0, 1]: (kappa - rho) / (1 - rho), with kappa the correlation of one model's answers before and after an
    attack and rho that of two sister models' answers; for the untouched gap only."""

    def __post_init__(self) -> None:
        ranges = (
            0 < self.share <= 1
            and self.cells >= 1
            and self.hypotheses >= 1
            and 0 < self.alpha_pass < 0.5
            and 0 < self.alpha_fail < 0.5
            and 0 <= self.cells_correlation <= 0.99
            and 0 <= self.attack_agreement <= 1
        )
        if not ranges:
            raise ValueError(
                "need share in (0, 1], cells and hypotheses >= 1, alphas in (0, 0.5), cells_correlation in [0, 0.99] "
                f"and attack_agreement in [0, 1]; got {self}"
            )
        contrast_error(self.share, self.yardstick, self.attack_agreement)


def contrast_error(share: float, yardstick: Yardstick, attack_agreement: float = 0.7) -> float:
    """f: the standard error of the contrast at limit `share`, as a multiple of the standard error of the gap.

    Raises:
        ValueError: a yardstick that does not exist.
    """
    if yardstick == "same_attack":
        return sqrt(1 - share + share * share)
    if yardstick == "untouched":
        return sqrt(1 - share * attack_agreement + share * share)
    raise ValueError(f"need the yardstick untouched or same_attack, got {yardstick}")


def share_pass_power(design: ShareDesign, t_gap: float, shares: Sequence[float] | float = 0.0) -> float:
    """Probability that every cell is under the limit.

    Args:
        design: the limit and its battery.
        t_gap: the gap in its standard errors, >= 0.
        shares: the candidate's true share of the gap in each cell, or one share for all: 0 for a twin of the control,
            `abler_share` for one that is abler, 1 for the original.

    Returns:
        A probability, to 1e-6.

    Raises:
        ValueError: a number out of range, or not one share for each cell.
    """
    return _all_cells(design, t_gap, shares, -_quantile(design.alpha_pass))


def share_fail_power(design: ShareDesign, t_gap: float, shares: Sequence[float] | float) -> float:
    """Probability that at least one cell is over the limit; arguments and errors as in `share_pass_power`."""
    return 1 - _all_cells(design, t_gap, shares, _quantile(design.alpha_fail / design.hypotheses))


def cell_fail_power(design: ShareDesign, t_gap: float, share: float) -> float:
    """Probability that one given cell with this true share is over the limit; errors as in `share_pass_power`."""
    _check(t_gap, [share])
    f = contrast_error(design.share, design.yardstick, design.attack_agreement)
    return _NORMAL.cdf((share - design.share) * t_gap / f - _quantile(design.alpha_fail / design.hypotheses))


def abler_share(points: float, gap: float) -> float:
    """The share at which a clean candidate appears that is better than its control everywhere by some points.

    Args:
        points: how much better, in the unit of the gap.
        gap: original minus control, > 0.

    Raises:
        ValueError: a gap that is not positive.
    """
    if not gap > 0:
        raise ValueError(f"need a gap above 0, got {gap}")
    return points / gap


def needed_t_gap(design: ShareDesign, power: float = 0.8, share: float = 0.0) -> float:
    """The least t_gap at which a candidate with this share in every cell passes with this probability.

    Args:
        design: the limit and its battery.
        power: in (0, 1).
        share: the candidate's share in every cell, under the limit: 0 for a twin of the control.

    Raises:
        ValueError: an argument out of range.
    """
    if not (0 < power < 1 and share < design.share):
        raise ValueError(f"need 0 < power < 1 and a share under the limit {design.share}; got {power}, {share}")
    return _least(lambda t_gap: share_pass_power(design, t_gap, share) >= power)


def least_share(design: ShareDesign, t_gap: float, power: float = 0.8) -> float | None:
    """The least limit r in (0, 1] at which a twin of the control passes with this probability; None if there is none.

    `design.share` is not used; other arguments and errors as in `needed_t_gap`.
    """
    if not 0 < power < 1:
        raise ValueError(f"need 0 < power < 1, got {power}")

    def enough(limit: float) -> bool:
        return share_pass_power(replace(design, share=limit), t_gap) >= power

    if not enough(1.0):
        return None
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def convicted_from(design: ShareDesign, t_gap: float, power: float = 0.8) -> float:
    """The least share that makes one given cell over the limit with this probability.

    Raises:
        ValueError: a power outside (0, 1), or a t_gap that is not positive.
    """
    if not (0 < power < 1 and 0 < t_gap < inf):
        raise ValueError(f"need 0 < power < 1 and t_gap > 0; got {power}, {t_gap}")
    f = contrast_error(design.share, design.yardstick, design.attack_agreement)
    distance = _quantile(design.alpha_fail / design.hypotheses) + _NORMAL.inv_cdf(power)
    return design.share + distance * f / t_gap


def questions_needed(questions: int, t_gap: float, needed: float) -> int:
    """How many questions like these would make t_gap what is needed: questions * (needed / t_gap)^2, rounded up.

    Args:
        questions: how many gave `t_gap`, >= 1.
        t_gap: the gap in its standard errors with these questions, > 0.
        needed: the t_gap that a limit needs, > 0.

    Raises:
        ValueError: an argument out of range.
    """
    if not (questions >= 1 and 0 < t_gap < inf and 0 < needed < inf):
        raise ValueError(f"need questions >= 1, t_gap > 0, needed > 0; got {questions}, {t_gap}, {needed}")
    return ceil(questions * (needed / t_gap) ** 2 - 1e-9)


def _all_cells(design: ShareDesign, t_gap: float, shares: Sequence[float] | float, distance: float) -> float:
    """Probability that every cell's standardised contrast is below `distance`."""
    truths = [float(shares)] * design.cells if isinstance(shares, (int, float)) else list(shares)
    _check(t_gap, truths)
    if len(truths) != design.cells:
        raise ValueError(f"need one share for each of {design.cells} cells, got {len(truths)}")
    f = contrast_error(design.share, design.yardstick, design.attack_agreement)
    common, own = sqrt(design.cells_correlation), sqrt(1 - design.cells_correlation)
    room = [(distance - (truth - design.share) * t_gap / f, times) for truth, times in Counter(truths).items()]
    return _expected(lambda g: prod(_NORMAL.cdf((most - common * g) / own) ** times for most, times in room))


def _expected(value: Callable[[float], float]) -> float:
    """The mean of a smooth function of a standard normal deviate; the trapezoidal rule converges fast here."""
    step = 1 / 32
    nodes = [step * k for k in range(-8 * 32, 8 * 32 + 1)]
    return min(1.0, step / sqrt(2 * pi) * sum(exp(-g * g / 2) * value(g) for g in nodes))


def _least(enough: Callable[[float], bool]) -> float:
    """The least t_gap > 0 for which something holds that holds from there on."""
    low, high = 0.0, 1.0
    while not enough(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def _quantile(alpha: float) -> float:
    return -_NORMAL.inv_cdf(alpha)


def _check(t_gap: float, shares: Sequence[float]) -> None:
    if not (0 <= t_gap < inf and all(-inf < share < inf for share in shares)):
        raise ValueError(f"need a finite t_gap >= 0 and finite shares; got {t_gap}, {list(shares)}")
