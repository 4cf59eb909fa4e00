"""One-sided bounds on an accuracy, or on a paired difference of two accuracies, as a policy requires them.

Counts are divided by the task's pinned design effect. Missing items widen both bounds: they count as wrong in the lower
bound and as right in the upper one.
"""

from __future__ import annotations

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.answers import answers, differences, shuffled, tally
from robustness_gate.records.base import Metric
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Measurement, Trial
from robustness_gate.statistics import (
    betting_lower,
    clopper_pearson_lower,
    clopper_pearson_upper,
    tango_lower,
    tango_upper,
)


def effect_of(policy: Policy, task: str) -> float:
    """The design effect that the policy pins for a task, >= 1; 1 for a task that it does not pin."""
    pin = policy.tasks.get(task)
    return pin.design_effect if pin else 1.0


def chance_of(trial: Trial, task: str) -> float:
    """The expected accuracy of guessing; 0 for a task that the trial does not ask."""
    return next((each.chance for each in trial.tasks if each.name == task), 0.0)


def questions_of(trial: Trial, task: str) -> str | None:
    """Digest of the questions of a trial's task; None for a task that it does not ask."""
    return next((each.sha256 for each in trial.tasks if each.name == task), None)


def accuracy(
    policy: Policy, measurement: Measurement, metric: Metric, alpha: float, upper_alpha: float | None = None
) -> tuple[float, float]:
    """Clopper and Pearson's bounds on an accuracy.

    Args:
        policy: its design effects, and alpha_pass.
        measurement: the answers.
        metric: the metric of which the accuracy is taken.
        alpha: error rate of the lower bound, with missing items counted as wrong.
        upper_alpha: error rate of the upper bound, with missing items counted as right; None: alpha_pass.
    """
    correct, missing = tally(measurement, metric)
    effect = effect_of(policy, measurement.task)
    items = measurement.items / effect
    above = policy.statistics.alpha_pass if upper_alpha is None else upper_alpha
    return (
        clopper_pearson_lower(correct / effect, items, alpha),
        clopper_pearson_upper(min((correct + missing) / effect, items), items, above),
    )


def limited(
    policy: Policy, trial: Trial, measurement: Measurement, metric: Metric, alpha: float
) -> tuple[float, float]:
    """The same bounds, the lower one by the test that `fail_fast` names. Raises UnknownWord for an unknown test."""
    lower, upper = accuracy(policy, measurement, metric, alpha)
    if policy.statistics.fail_fast not in ("off", "betting"):
        raise UnknownWord("test for a FAIL", policy.statistics.fail_fast)
    if policy.statistics.fail_fast == "betting":
        order = questions_of(trial, measurement.task) or measurement.task
        bet = betting_lower(shuffled(answers(measurement, metric)[0], order), alpha)
        # Betting item by item assumes independent items; if they are clustered, the fixed bound must agree.
        lower = bet if effect_of(policy, measurement.task) == 1.0 else min(bet, lower)
    return lower, upper


def paired(
    policy: Policy,
    measurement: Measurement,
    its: Measurement,
    metric: Metric,
    alpha: float,
    *,
    fell: bool = False,
) -> tuple[float, float]:
    """Tango's bounds on the candidate's accuracy minus that of another model; with `fell`, on the reverse."""
    effect = effect_of(policy, measurement.task)
    items = measurement.items / effect
    one, other = (its, measurement) if fell else (measurement, its)
    least, most = (differences(one, other, metric, favour=favour) for favour in (False, True))
    return (
        tango_lower(least[0] / effect, least[1] / effect, items, alpha),
        tango_upper(most[0] / effect, most[1] / effect, items, policy.statistics.alpha_pass),
    )


GUESSING = 0.05
"""Error rate at which answers differ from guessing. No policy sets it: at a stricter alpha_pass questions would more
often seem to be such that no model answers them, and the FAIL of a missed utility would become INCONCLUSIVE."""


def no_better_than_guessing(policy: Policy, trial: Trial, measurement: Measurement, metric: Metric) -> bool:
    """Whether answers are not significantly better than guessing, with missing items counted as wrong."""
    return accuracy(policy, measurement, metric, GUESSING)[0] <= chance_of(trial, measurement.task)


def worse_than_guessing(policy: Policy, trial: Trial, measurement: Measurement, metric: Metric) -> bool:
    """Whether answers are significantly worse than guessing: a model that avoids right answers knows them."""
    return accuracy(policy, measurement, metric, GUESSING, GUESSING)[1] < chance_of(trial, measurement.task)
