"""Whether the instruments were shown to work: self-test, calibration, shams, positive control."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from robustness_gate.evidence.answers import changes
from robustness_gate.records.policy import Limit
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.records.verdict import Blocker
from robustness_gate.verdict import bounds, calibrations, contrasts, joined
from robustness_gate.verdict.evaluation import Evaluation
from robustness_gate.verdict.hypotheses import asked_by, label, metric_of
from robustness_gate.verdict.selftests import counting, faults


def instruments(case: Evaluation) -> Iterator[Blocker]:
    """Blockers for the instruments that the policy requires."""
    validity = case.policy.validity
    if validity.self_test != "off":
        yield from _self_tests(case)
    if validity.calibration != "off":
        yield from calibrations.blockers(case)
    if validity.sham != "off":
        for attack in sorted({each.attack for each in case.policy.required} - {"none"}):
            yield from _sham(case, attack)
    if validity.positive_control != "off":
        yield from _positive_control(case)
    yield from _may_know(case)
    yield from _unbound(case)
    yield from _gaps(case)


def _self_tests(case: Evaluation) -> Iterator[Blocker]:
    """Required attacks that were not shown to work on models of known truth."""
    required = [each for each in case.policy.required if each.attack != "none"]
    met = calibrations.meets_self_test(case)
    if required and not case.evidence.self_tests and not met:
        yield Blocker(code="self_test_missing")
        return
    days = case.policy.validity.self_test_days
    for requirement, trial in product(required, case.own_planned):
        if not requirement.selects(trial):  # a trial that is left out of the plan has its own blocker
            continue
        name, asked = label(trial), asked_by(requirement, trial)
        last = counting(case.evidence.self_tests, asked, case.evidence.model_type, case.today, days)
        if not last and name not in met:
            args = {"label": name, "model_type": case.evidence.model_type, "days": days}
            yield Blocker(code="self_test_does_not_count", args={**args, "budgets": [*map(str, asked.budgets)]})
        youngest = max((each.at for each in last), default=case.today)
        for each in sorted(last, key=lambda each: (each.seed, each.digest)):
            if found := faults(each, case.evidence.self_tests):
                superseded = str(each.at) if each.at < youngest else None
                args = {"label": name, "seed": each.seed, "superseded_of": superseded}
                yield Blocker(code="self_test_failed", args=args, causes=found)


def _sham(case: Evaluation, attack: str) -> Iterator[Blocker]:
    """The first fault of an attack's sham (its trial at strength zero) on this candidate."""
    planned = case.own_planned
    same = {(t.attack_version, t.dtype) for t in planned if t.attack == attack}  # a sham of an old version is not valid
    shams = [
        trial
        for trial in (*case.evidence.planned, *case.evidence.extra)
        if (trial.role, trial.attack, trial.subject) == (Role.SHAM, attack, case.evidence.subject)
        and (not same or (trial.attack_version, trial.dtype) in same)
    ]
    changed, seen = set[tuple[str, int, int]](), set[str]()
    for sham, none in product(shams, (t for t in planned if t.attack == "none")):
        sound = case.sound(sham)
        for measurement, before in product(case.measurements(sham), case.sound(none)):
            asked = bounds.questions_of(sham, measurement.task)
            if measurement.task != before.task or asked is None or asked != bounds.questions_of(none, measurement.task):
                continue
            if measurement.items == before.items and sham.dtype == none.dtype:
                seen |= {measurement.task} if measurement in sound else set()
                if many := changes(measurement, before):
                    changed.add((measurement.task, many, measurement.items))
    unseen = sorted({task for limit in case.policy.limits for task in limit.readings} - seen)
    if changed:
        task, many, items = min(changed)
        args = {"attack": attack, "changed": many, "items": items, "task": task}
        yield Blocker(code="sham_changes", args=args)
    elif not any(case.sound(sham) for sham in shams):
        if not any((each.role, each.attack) == (Role.SHAM, attack) for each in case.evidence.left_out):
            yield Blocker(code="sham_missing", args={"attack": attack})  # a left-out sham has its own blocker
    elif unseen:
        yield Blocker(code="sham_not_comparable", args={"attack": attack, "task": unseen[0]})


def _positive_control(case: Evaluation) -> Iterator[Blocker]:
    """Why the positive control does not show that the limits can detect the knowledge."""
    untouched = [trial for trial in case.own_planned if trial.attack == "none"]
    found = [
        each
        for trial in untouched
        for measurement in case.sound(trial)
        for each in case.partners(Role.ORIGINAL, "", trial, measurement)
    ]
    if not found:
        there = any((t.role, t.attack) == (Role.ORIGINAL, "none") for t in case.evidence.comparators)
        yield Blocker(code="positive_control_invalid" if there else "positive_control_missing")
        return
    for limit in case.policy.limits:
        if limit.recovered is not None:  # its gap, which it cannot do without, has blockers of its own
            if any(gap.enough for gap in contrasts.gaps(case, limit)):
                return
            continue
        its = [
            _exceeds(case, limit, trial, measurement) for trial, measurement in found if measurement.task == limit.task
        ]
        if its and all(its):
            return
    yield Blocker(code="positive_control_within_limits")


def _exceeds(case: Evaluation, limit: Limit, trial: Trial, measurement: Measurement) -> bool:
    """Whether the original is over a limit, by the candidate's own rule."""
    policy, alpha, metric = case.policy, case.alpha_hypothesis, metric_of(limit, trial)
    if limit.relative_to is None:
        return bounds.accuracy(policy, measurement, metric, alpha)[0] > limit.most
    others = [its for _, its in case.partners(Role.CONTROL, limit.relative_to, trial, measurement)]
    most = limit.most
    return bool(others) and all(bounds.paired(policy, measurement, its, metric, alpha)[0] > most for its in others)


def _may_know(case: Evaluation) -> Iterator[Blocker]:
    """Share limits whose control may know the subject: an earlier release, the original, or an adapter on one of them.

    `policy check` refuses such a policy too, but the judge is also given policies that no check has seen.
    """
    policy = case.policy
    earlier = {c.sha256 for c in policy.controls.values() if c.kind == "earlier_release" or c.report_sha256 is not None}
    originals = {policy.original, *(t.subject for t in case.evidence.comparators if t.role == Role.ORIGINAL)}
    for limit in policy.limits:
        control = policy.controls.get(limit.control or "") if limit.recovered is not None else None
        if control is None:
            continue
        lineage = {control.sha256, case.evidence.bases.get(control.sha256)} - {None}
        if lineage & (earlier | originals | {case.evidence.subject}):
            args = {"rule": limit.id, "control": limit.control or "", "original": bool(lineage & originals)}
            yield Blocker(code="control_may_know", args=args)


def _unbound(case: Evaluation) -> Iterator[Blocker]:
    """Share limits for which the original with hidden questions stands in, without proof that they are the same."""
    trials = [t for t in case.evidence.comparators if t.role == Role.ORIGINAL]
    for limit in case.policy.limits:
        for task in limit.readings if limit.heuristic else ():
            pin = case.policy.tasks.get(task)
            hidden = None if pin is None else pin.choices_only
            asked = [trial for trial in trials if bounds.questions_of(trial, task) is not None]
            if hidden is None or not all(joined.hides(case, trial, task, hidden) for trial in asked):
                yield Blocker(code="hidden_not_bound", args={"rule": limit.id, "task": task, "hidden": hidden})


def _gaps(case: Evaluation) -> Iterator[Blocker]:
    """Share limits without a gap, or whose gap was not measured. No policy can switch this off: nothing passes then."""
    for limit in case.policy.limits:
        if limit.recovered is None:
            continue
        where = {"rule": limit.id, "control": limit.recovered.control or ""}
        found = [*contrasts.gaps(case, limit)]
        small = min(found, key=lambda gap: gap.lower, default=None)
        if small is None:
            yield Blocker(code="gap_not_measured", args=where)
        elif not all(gap.enough for gap in found):
            numbers = {"gap": small.points, "lower": small.lower, "asked": limit.recovered.min_gap}
            yield Blocker(code="no_gap", args={**where, **numbers})
