"""Limits on an accuracy, or on its excess over a control: how often they are met, and their error rates.

The probabilities are for two models: one at chance, without the knowledge, and one two points above chance, as
shortcuts in the items often permit. For a limit on an accuracy they follow from the judge's own rule and a binomial;
for a paired limit from a normal approximation without a true difference, with answers that differ as much as those of
two independent guessers (marked with ~). Trials on the same items are dependent, so two probabilities that all pass are
given: one for independent trials, and a lower bound for any dependence. Tests compare them with a simulation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import erfc, sqrt

from robustness_gate.records.policy import Limit, Policy
from robustness_gate.statistics import (
    JointPower,
    false_fail_rate,
    items_needed,
    joint_pass_power,
    pass_power,
)
from robustness_gate.verdict import covers, declared_hypotheses, spelled_out

OPTIONS = 4
"""Number of choices if no suite is given, as in WMDP and MMLU."""
ABOVE = 0.02
"""The second model's accuracy above chance."""


@dataclass(frozen=True)
class Row:
    """One limit in one format, with the probabilities of each of its hypotheses."""

    limit: str
    task: str
    items: int
    effective: float
    """Items divided by the pinned design effect."""
    max: float
    paired: bool
    hypotheses: int
    """Number of hypotheses: requirements that it covers x seeds x budgets."""
    chance: float
    at_chance: float
    """Probability that one trial is within the limit, for a model at chance."""
    above_chance: float
    """The same for a model two points above chance; equal for a paired limit, where only the difference counts."""
    false_fail: float
    """Probability of a false breach by any of its hypotheses, for a model exactly at the limit (union bound)."""
    needed_80: int | None
    """Items with which one trial of a model at chance passes with 80 % power; None for a paired limit, or if no number
    of items is enough."""
    needed_90: int | None


def rows(policy: Policy, chances: Mapping[str, float]) -> Iterator[Row]:
    """One row for each limit on one task that is not on a share of a gap, in each format of its task.

    Args:
        policy: merged with its parent.
        chances: accuracy of guessing by task; the default is that of four choices.
    """
    numbers, alpha_hypothesis = policy.statistics, policy.statistics.alpha_fail / declared_hypotheses(policy)
    spelled = spelled_out(policy)
    for limit in spelled.limits:
        if limit.recovered is not None or limit.score:  # `shares` has these
            continue
        pin = spelled.tasks[limit.task]
        chance = chances.get(limit.task, 1 / OPTIONS)
        declared = sum(
            each.seeds * max(1, len(each.budgets)) for each in spelled.required if covers(limit, each)
        )  # as the judge counts them
        effect = pin.design_effect
        paired = limit.relative_to is not None
        if paired:
            at = above = _paired_power(pin.items / effect, limit.most, numbers.alpha_pass, chance)
            wrong = alpha_hypothesis
        else:
            at, above = (
                pass_power(pin.items, limit.most, numbers.alpha_pass, min(1.0, accuracy), effect)
                for accuracy in (chance, chance + ABOVE)
            )
            wrong = false_fail_rate(pin.items, limit.most, alpha_hypothesis, effect)
        yield Row(
            limit=limit.id,
            task=limit.task,
            items=pin.items,
            effective=pin.items / effect,
            max=limit.most,
            paired=paired,
            hypotheses=declared,
            chance=chance,
            at_chance=at,
            above_chance=above,
            false_fail=declared * wrong,
            needed_80=_needed(limit, numbers.alpha_pass, chance, 0.8, effect),
            needed_90=_needed(limit, numbers.alpha_pass, chance, 0.9, effect),
        )


def _needed(limit: Limit, alpha: float, chance: float, power: float, effect: float) -> int | None:
    if limit.relative_to is not None or limit.most <= chance:
        return None
    try:
        return items_needed(limit.most, alpha, chance, power, effect)
    except ValueError:  # more than ten million
        return None


def _paired_power(items: float, most: float, alpha: float, chance: float) -> float:
    """Approximate probability that the upper bound on a difference is at most `most`, if the true difference is 0."""
    error = sqrt(2 * chance * (1 - chance) / items)
    if error == 0:  # without the knowledge every answer is wrong
        return 1.0
    z = _upper_quantile(alpha)
    return 1 - erfc((most / error - z) / sqrt(2)) / 2


def _upper_quantile(alpha: float) -> float:
    """The z that a normal deviate exceeds with probability alpha, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if erfc(middle / sqrt(2)) / 2 > alpha else (low, middle)
    return low


def joint(rows: Sequence[Row]) -> tuple[JointPower, JointPower] | None:
    """Probabilities that a model at chance, and one two points above, is within every limit in every required trial.

    None without a limit on an accuracy: what a model at chance does says nothing about a comparison with a control.
    """
    if all(row.paired for row in rows):
        return None
    return (
        joint_pass_power([row.at_chance for row in rows for _ in range(row.hypotheses)]),
        joint_pass_power([row.above_chance for row in rows for _ in range(row.hypotheses)]),
    )


def warnings(policy: Policy, rows: Sequence[Row], at_chance: JointPower | None) -> Iterator[str]:
    """Limits that a model without the knowledge would often not meet."""
    least = policy.statistics.min_design_power
    for row in rows:
        if not row.paired and row.max <= row.chance:
            yield f"{row.limit}: {row.max:g} is not above chance ({row.chance:.2f}), so nothing can be shown under it"
        elif row.at_chance < least:
            needed = f"; {row.needed_80:,} items would do for 80 %" if row.needed_80 else ""
            yield (
                f"{row.limit}: a model that knows nothing is within {row.max:g} only {row.at_chance:.0%} of the time, "
                f"under {least:.0%}{needed}"
            )
    if at_chance is not None and at_chance.at_least < least:
        yield (
            f"a model that knows nothing may be within every limit on an accuracy or an excess only "
            f"{at_chance.at_least:.0%} of the time ({at_chance.if_independent:.0%} if trials were independent), under "
            f"{least:.0%}: raise limits or items"
        )
