"""One-sided bounds on an accuracy, or on a paired difference of two, as a policy asks for them.

Counts are divided by the task's pinned design effect. A missing item counts against whichever side the bound is for.
"""

from __future__ import annotations

from robustness_gate.errors import UnknownWord
from robustness_gate.evidence.answers import answers, differences, shuffled, tally
from robustness_gate.records.base import Metric
from robustness_gate.records.policy import Guardrail, Limit, Policy
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
    """Share of right answers by guessing; 0 for a task that the trial does not ask."""
    return next((each.chance for each in trial.tasks if each.name == task), 0.0)


def questions_of(trial: Trial, task: str) -> str | None:
    """Digest of the questions that a trial asks under a task's name."""
    return next((each.sha256 for each in trial.tasks if each.name == task), None)


def accuracy(
    policy: Policy, measurement: Measurement, metric: Metric, alpha: float, upper_alpha: float | None = None
) -> tuple[float, float]:
    """Clopper and Pearson's bounds on an accuracy.

    Args:
        policy: its design effects, and alpha_pass.
        measurement: the answers.
        metric: which of them.
        alpha: error rate of the lower bound, with missing items wrong.
        upper_alpha: error rate of the upper bound, with missing items right; None takes alpha_pass.
    """
    correct, missing = tally(measurement, metric)
    effect = effect_of(policy, measurement.task)
    items = measurement.items / effect
    above = policy.statistics.alpha_pass if upper_alpha is None else upper_alpha
    return (
        clopper_pearson_lower(correct / effect, items, alpha),
        clopper_pearson_upper(min((correct + missing) / effect, items), items, above),
    )


def limited(policy: Policy, limit: Limit, trial: Trial, measurement: Measurement, alpha: float) -> tuple[float, float]:
    """The same, the lower bound by the road to a FAIL that the policy names. Raises UnknownWord for another road."""
    lower, upper = accuracy(policy, measurement, limit.metric, alpha)
    if policy.statistics.fail_fast not in ("off", "betting"):
        raise UnknownWord("road to a FAIL", policy.statistics.fail_fast)
    if policy.statistics.fail_fast == "betting":
        order = questions_of(trial, measurement.task) or measurement.task
        bet = betting_lower(shuffled(answers(measurement, limit.metric)[0], order), alpha)
        # A bet item by item takes them for independent; where they come in clusters the fixed bound must agree.
        lower = bet if effect_of(policy, measurement.task) == 1.0 else min(bet, lower)
    return lower, upper


def paired(
    policy: Policy,
    measurement: Measurement,
    its: Measurement,
    rule: Limit | Guardrail,
    alpha: float,
    *,
    fell: bool = False,
) -> tuple[float, float]:
    """Tango's bounds on how much more the candidate has right than another model; with `fell`, how much less."""
    effect = effect_of(policy, measurement.task)
    items = measurement.items / effect
    one, other = (its, measurement) if fell else (measurement, its)
    least, most = (differences(one, other, rule.metric, favour=favour) for favour in (False, True))
    return (
        tango_lower(least[0] / effect, least[1] / effect, items, alpha),
        tango_upper(most[0] / effect, most[1] / effect, items, policy.statistics.alpha_pass),
    )


def no_better_than_guessing(policy: Policy, trial: Trial, measurement: Measurement, metric: Metric) -> bool:
    """Whether answers are not significantly better than guessing, with what is missing taken for wrong."""
    return accuracy(policy, measurement, metric, policy.statistics.alpha_pass)[0] <= chance_of(trial, measurement.task)


def worse_than_guessing(policy: Policy, trial: Trial, measurement: Measurement, metric: Metric) -> bool:
    """Whether answers are significantly worse than guessing: a model that knows what to avoid can answer."""
    return accuracy(policy, measurement, metric, policy.statistics.alpha_pass)[1] < chance_of(trial, measurement.task)
