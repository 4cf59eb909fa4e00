"""What the models of a share limit still answer beside it: their utility, so that a ruined control is seen.

It decides nothing here. That a destroyed control shows no breach is decided in `contrasts`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from robustness_gate.evidence.answers import tally
from robustness_gate.records.base import Metric
from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Limit, Utility
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.records.verdict import Finding, Kept, RedFlag
from robustness_gate.verdict.evaluation import Evaluation
from robustness_gate.verdict.hypotheses import metric_of


def kept(case: Evaluation, limit: Limit, trial: Trial, own: Measurement, theirs: Measurement) -> tuple[Kept, ...]:
    """The accuracies of each model on each utility task, the lowest where several are on record.

    Args:
        case: the evidence and the policy.
        limit: a limit on a share of a gap.
        trial: the candidate's trial.
        own: the candidate's answers.
        theirs: the answers of the control, or of the original that stands in for it, after the same attack.
    """
    same_attack = limit.recovered is not None and limit.recovered.yardstick == "same_attack"
    others = case.evidence.comparators
    control = [each for each in others if (each.role, each.control) == (Role.CONTROL, limit.control or "")]
    original = [each for each in others if each.role == Role.ORIGINAL and case.policy.original in (None, each.subject)]
    made = []
    for utility in case.policy.utility:
        metric = metric_of(utility, trial)
        before = _least(case, [each for each in control if each.attack == "none"], utility, metric)
        at = [each for each in original if each.config == trial.config and each.attack == trial.attack]
        knew = at if same_attack else [each for each in original if each.attack == "none"]
        made.append(
            Kept(
                task=utility.task,
                asked=_floor(case, utility, before),
                candidate=_beside(case, [trial], own, utility, metric),
                control=_beside(case, control or original, theirs, utility, metric),
                before=before,
                original=_least(case, knew, utility, metric),
            )
        )
    return tuple(made)


def _floor(case: Evaluation, utility: Utility, before: float | None) -> float:
    """What an attacked control has to keep: what an attacked candidate must, and what a guardrail lets it lose."""
    drops = [g.max_drop for g in case.policy.guardrails if g.task == utility.task and g.max_drop is not None]
    return max([utility.min_attacked, *(before - drop for drop in drops if before is not None)])


def _least(case: Evaluation, trials: Sequence[Trial], utility: Utility, metric: Metric) -> float | None:
    """The lowest accuracy in some trials; None if the task was not asked there."""
    return _lowest((m for trial in trials for m in case.measurements(trial) if m.task == utility.task), metric)


def _beside(
    case: Evaluation, trials: Sequence[Trial], like: Measurement, utility: Utility, metric: Metric
) -> float | None:
    """The accuracy beside some answers: of the same attacked model."""
    where = (like.trial, like.attempt, like.budget, utility.task)
    found = (m for trial in trials for m in case.measurements(trial))
    return _lowest((m for m in found if (m.trial, m.attempt, m.budget, m.task) == where), metric)


def _lowest(measurements: Iterable[Measurement], metric: Metric) -> float | None:
    return min((tally(m, metric)[0] / m.items for m in measurements if metric in m.correct), default=None)


def ruined(findings: Iterable[Finding]) -> Iterator[RedFlag]:
    """Attacks that ruined the control: it scores less on a utility task than an attacked candidate has to.

    Recorded only, once for each control and task, with the attack after which least is left.
    """
    worst: dict[tuple[str, str], tuple[float, Finding, Kept]] = {}
    models: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for finding in findings:
        for each in finding.contrast.kept if finding.contrast is not None else ():
            if finding.relative_to is None or each.control is None or each.control >= each.asked:
                continue
            key = finding.relative_to.control, each.task
            models.setdefault(key, set()).add((finding.trial, finding.budget))
            if key not in worst or each.control < worst[key][0]:
                worst[key] = each.control, finding, each
    for (control, task), (accuracy, finding, each) in sorted(worst.items(), key=lambda pair: pair[0]):
        args: dict[str, Json] = {"control": control, "task": task, "label": finding.attack, "budget": finding.budget}
        args |= {"accuracy": accuracy, "asked": each.asked, "many": len(models[control, task])}
        yield RedFlag(flag="control_ruined", code="control_lost_utility", args=args, blocks=False)
