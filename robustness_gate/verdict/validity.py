"""Validity issues: why a measurement cannot establish compliance, independent of its number. None weakens a breach.

A trial that did not end well, other questions or data than the policy pins, a missed strength floor, a grid that is too
narrow, too many missing items, a destroyed model. Issues that depend on a rule are found in `findings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from robustness_gate.evidence.answers import count, tally
from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Closed, Measurement, Role, Trial, seed_of
from robustness_gate.records.verdict import ValidityIssue
from robustness_gate.verdict.hypotheses import metric_of


def issue(code: str, **args: Json) -> ValidityIssue:
    """A validity issue with its arguments."""
    return ValidityIssue(code=code, args=args)


def validity_issues(
    policy: Policy, trial: Trial, measurement: Measurement, ends: Sequence[Closed], measurements: Sequence[Measurement]
) -> tuple[ValidityIssue, ...]:
    """The validity issues of one measurement.

    Args:
        policy: the policy, spelled out.
        trial: the measurement's trial.
        measurement: the answers.
        ends: the recorded ends of the measurement's attempt.
        measurements: all measurements of the trial.
    """
    found = [*_ending(ends)]
    if measurement.budget not in trial.budgets:
        found.append(issue("unplanned_budget", budget=measurement.budget))
    if trial.seed != seed_of(trial.subject, trial.attack, trial.seed_index):
        found.append(issue("chosen_seed"))
    found += [issue("other_data", name=n) for n, pin in sorted(policy.data.items()) if trial.data.get(n) != pin]
    if policy.dtype is not None and policy.dtype != trial.dtype and trial.role != Role.IN_DECLARED_DTYPE:
        found.append(issue("other_dtype", dtype=trial.dtype, pinned=policy.dtype))
    curtailed = measurement.summary.get("curtailed_items", 0.0)
    if curtailed > policy.statistics.max_missing * measurement.items:
        found.append(issue("curtailed", curtailed=round(curtailed), items=measurement.items))
    found += _misasked(policy, trial, measurement)
    counted = count(measurement.missing, measurement.items)
    missing = measurement.items if counted is None else counted
    if missing > policy.statistics.max_missing * measurement.items:
        found.append(issue("missing_answers", missing=missing, items=measurement.items))
    for floor in trial.floors:
        if not any(bound.holds(measurement.signals) for bound in floor.any_of):
            signals = sorted({bound.signal for bound in floor.any_of})
            found.append(issue("floor_missed", description=floor.description, signals=signals))
    found += _badly_tuned(policy, trial, measurement)
    if trial.role == Role.CANDIDATE:
        found += [each for each in destroyed(policy, trial, measurement, measurements) if each not in found]
    return tuple(found)


def _ending(ends: Sequence[Closed]) -> Iterator[ValidityIssue]:
    if not ends:
        yield issue("not_ended")
    for status, reason in sorted({(end.status, end.reason) for end in ends if end.status != "ok"}):
        yield issue("ended_badly", status=status, reason=reason)


def _misasked(policy: Policy, trial: Trial, measurement: Measurement) -> Iterator[ValidityIssue]:
    """Issues if a measurement's bits are not answers to the questions that trial and policy name."""
    named = next((task for task in trial.tasks if task.name == measurement.task), None)
    pin = policy.tasks.get(measurement.task)
    if pin is None:
        yield issue("unpinned_task", task=measurement.task)
    elif pin.items != measurement.items:
        yield issue("other_count", task=measurement.task, items=measurement.items, pinned=pin.items)
    elif named and pin.sha256 not in (None, named.sha256):
        yield issue("other_questions", task=measurement.task)
    if named is None:
        yield issue("task_not_in_trial", task=measurement.task)
    elif named.items != measurement.items:
        yield issue("other_count_in_trial", task=measurement.task, items=measurement.items, named=named.items)


def _badly_tuned(policy: Policy, trial: Trial, measurement: Measurement) -> Iterator[ValidityIssue]:
    """An issue if the attack selected its settings from a smaller grid than the policy requires."""
    if trial.role == Role.SHAM:  # at strength zero there is nothing to tune
        return
    for requirement in policy.required:
        tuning = requirement.tuning
        if tuning is None or not requirement.selects(trial):
            continue
        tried = sorted(
            {
                float(each[tuning.setting])
                for each in measurement.settings_tried
                if isinstance(each.get(tuning.setting), (int, float))
                and each.get("budget", measurement.budget) == measurement.budget
            }
        )
        if len(tried) < tuning.points:
            yield issue("narrow_grid", setting=tuning.setting, tried=len(tried), asked=tuning.points)
        elif tried[0] <= 0 or tried[-1] < tuning.span * tried[0]:
            yield issue("short_grid", setting=tuning.setting, lowest=tried[0], highest=tried[-1], asked=tuning.span)
        elif tuning.interior and measurement.selected.get(tuning.setting) not in tried[1:-1]:
            yield issue("best_at_edge", setting=tuning.setting)


def destroyed(
    policy: Policy, trial: Trial, measurement: Measurement, measurements: Sequence[Measurement]
) -> Iterator[ValidityIssue]:
    """Issues if an attack destroyed a model, so that it could not have answered; arguments as in `validity_issues`."""
    for utility in policy.utility:
        own = [
            m
            for m in measurements
            if (m.attempt, m.budget, m.task) == (measurement.attempt, measurement.budget, utility.task)
        ]
        metric = metric_of(utility, trial)
        accuracy = min((tally(each, metric)[0] / each.items for each in own), default=None)
        found = {each for m in own for each in _misasked(policy, trial, m)}
        yield from sorted(found, key=lambda each: each.key)
        if accuracy is None:
            yield issue("utility_not_asked", task=utility.task)
        elif accuracy < utility.min_attacked:
            yield issue("destroyed", task=utility.task, accuracy=accuracy, asked=utility.min_attacked)
