"""Blockers: every reason against a PASS, a cause before its consequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from robustness_gate.records.encode import Json
from robustness_gate.records.policy import Guardrail, Limit, Requirement, Utility
from robustness_gate.records.trial import OWN_ROLES, Closed, Measurement, ModelRef, Role, Trial
from robustness_gate.records.verdict import Blocker, Finding, FindingKind, ValidityIssue
from robustness_gate.verdict.complete import incomplete
from robustness_gate.verdict.evaluation import Evaluation
from robustness_gate.verdict.findings import compared_with
from robustness_gate.verdict.found import comparator, place
from robustness_gate.verdict.hypotheses import (
    aimed,
    covers,
    declares,
    label,
    limits,
    metric_of,
    named,
    without_metric,
)
from robustness_gate.verdict.instruments import instruments
from robustness_gate.verdict.tokenizers import asked_through, must_be_asked_through


def blockers(case: Evaluation, findings: Sequence[Finding]) -> Iterator[Blocker]:
    """All blockers except the red flags and the notes on the evidence as a whole."""
    for finding in findings:
        if finding.unanswered:  # first: while this is true, most of the rest means little
            yield Blocker(code="unanswered", args={"task": finding.task}, causes=(finding.unanswered,))
    yield from _left_out(case)  # it causes most of what follows
    yield from _out_of_time(case)
    if case.policy.validity.passes == "never":
        yield Blocker(code="passes_never")
    yield from instruments(case)
    yield from _plugins(case)
    if must_be_asked_through(case.policy, case.evidence) and not asked_through(case.policy, case.evidence):
        yield Blocker(code="not_asked_through_original")
    if _loaded_otherwise(case):
        yield Blocker(code="not_asked_in_declared_dtype")
    yield from _numbers(findings)
    yield from _idle_rules(case)
    yield from _incomplete(case)  # before the hypotheses that these leave open
    yield from _unfinished(case, findings)
    yield from _open_hypotheses(case, findings)
    yield from _not_compared(case, findings)
    yield from _other_weights(case)
    for name in case.policy.provenance.require if case.policy.provenance is not None else ():
        if not case.evidence.producer_claims.get(name, "").strip():
            yield Blocker(code="not_stated", args={"name": name})


def _left_out(case: Evaluation) -> Iterator[Blocker]:
    """Trials that the command excluded, required or not: else excluding the attacks that succeed could give a PASS."""
    found = []
    for each in case.evidence.left_out:
        asked_for = None
        if each.role == Role.CANDIDATE:
            asked_for = next((r for r in case.policy.required if r.fits(each.attack, each.config)), None)
        args = {**named(each), "why": each.why}
        found.append(Blocker(code="left_out", args=args, about=str(asked_for or "")))
    yield from sorted(found, key=lambda each: (each["label"], each.key))


def _out_of_time(case: Evaluation) -> Iterator[Blocker]:
    policy, today = case.policy, case.today
    if policy.effective and today < policy.effective:
        yield Blocker(code="policy_not_yet", args={"day": str(policy.effective)})
    if policy.expires and today > policy.expires:
        yield Blocker(code="policy_expired", args={"day": str(policy.expires)})
    for name, control in sorted(policy.controls.items()):
        if control.expires and today > control.expires:
            yield Blocker(code="control_expired", args={"control": name, "day": str(control.expires)})


def _plugins(case: Evaluation) -> Iterator[Blocker]:
    """Plug-ins that took part and that the policy does not pin by digest. Their trials may still establish a breach.

    Those of earlier runs too: code that ran beside a ledger could write to it, so it stands behind every later verdict.
    """
    trials = (*case.evidence.planned, *case.evidence.extra, *case.evidence.comparators)
    for each in sorted({p for trial in trials for p in trial.plugins}, key=lambda p: (p.distribution, p.sha256)):
        pin, which = (
            case.policy.plugins.get(each.distribution),
            {"distribution": each.distribution, "version": each.version},
        )
        if not each.pinned:
            yield Blocker(code="plugin_not_pinned", args=which)
        elif pin is None:
            yield Blocker(code="plugin_not_named", args=which)
        elif pin != each.sha256:
            yield Blocker(code="plugin_other_digest", args={**which, "sha256": each.sha256})


def _loaded_otherwise(case: Evaluation) -> bool:
    """Whether config.json names another precision than the files, and the candidate was not asked in it."""
    evidence = case.evidence
    declared = evidence.stored.declared if evidence.stored is not None else None
    well = {record.trial for record in evidence.closed if record.status == "ok"}
    own = (t for t in evidence.planned if t.role in (Role.CANDIDATE, Role.IN_DECLARED_DTYPE) and t.attack == "none")
    return declared is not None and not any(t.dtype == declared and case.id_of(t) in well for t in own)


def _numbers(findings: Sequence[Finding]) -> Iterator[Blocker]:
    for finding in findings:
        if finding.state != "under" and not finding.unanswered:
            code = "breach" if finding.state == "over" else "open"
            bounds = {"observed": finding.observed, "lower": finding.lower, "upper": finding.upper}
            against = {"limit": finding.limit, **comparator(finding.relative_to), "fell": finding.fell}
            against["share"] = finding.of_gap
            yield Blocker(code=code, args={**place(finding), **bounds, **against})
        elif finding.has("below_chance"):  # evidence of knowledge, in any trial or attempt
            yield Blocker(code="inverted", args=place(finding))
        elif finding.has("one_task_over"):  # a number of this finding, so no other finding and no waiver lifts it
            causes = tuple(each for each in finding.validity_issues if each.code == "one_task_over")
            yield Blocker(code="back_in_one_task", args=place(finding), causes=causes)


def _idle_rules(case: Evaluation) -> Iterator[Blocker]:
    """Rules without effect: a limit and a requirement that do not cover each other declare no hypothesis."""
    policy = case.policy
    for requirement in policy.required:
        if not any(covers(limit, requirement) for limit in policy.limits):
            yield Blocker(code="requirement_without_limit", args={"requirement": str(requirement)})
    for limit in policy.limits:
        if not any(covers(limit, requirement) for requirement in policy.required):
            yield Blocker(code="limit_on_nothing", args={"rule": limit.id})
        if limit.control is not None and limit.control not in policy.controls:
            yield Blocker(code="unknown_control", args={"rule": limit.id, "control": limit.control})
    rules = [limit.id for limit in policy.limits] + [rule.id for rule in policy.guardrails]
    for rule in sorted({each for each in rules if rules.count(each) > 1}):
        yield Blocker(code="rule_twice", args={"rule": rule})
    yield from _without_metric(case)


def _rules(case: Evaluation) -> Iterator[tuple[FindingKind, str, Limit | Utility | Guardrail]]:
    """Every rule of the policy, with its kind and id."""
    yield from ((FindingKind.LIMIT, each.id, each) for each in case.policy.limits)
    yield from ((FindingKind.UTILITY, each.task, each) for each in case.policy.utility)
    yield from ((FindingKind.GUARDRAIL, each.id, each) for each in case.policy.guardrails)


def _without_metric(case: Evaluation) -> Iterator[Blocker]:
    """Rules in a metric that the kind of their task does not have, in any trial: no answer there can be judged."""
    trials = (*case.evidence.planned, *case.evidence.extra, *case.evidence.comparators)
    found = []
    for kind, id_, rule in _rules(case):
        for trial in trials:
            if (task := without_metric(rule, trial)) is not None:
                where = {"kind": kind.value, "rule": id_, "task": task.name, "task_kind": task.kind}
                args = {**where, "metric": metric_of(rule, trial), "metrics": [*task.judged.metrics]}
                found.append(Blocker(code="no_such_metric", args=args))
    yield from sorted(dict.fromkeys(found), key=lambda each: each.key)


def _incomplete(case: Evaluation) -> Iterator[Blocker]:
    """An attempt that ended well has answers to every task at every budget. Missing ones were removed or lost."""
    evidence = case.evidence
    trials = {case.id_of(t): t for t in (*evidence.planned, *evidence.extra, *evidence.comparators)}
    for id_, attempt in sorted(key for key, ends in case.ends.items() if any(e.status == "ok" for e in ends)):
        trial = trials.get(id_)
        if trial is not None and (found := incomplete(trial, attempt, case.measurements(trial))) is not None:
            yield found


def _unfinished(case: Evaluation, findings: Sequence[Finding]) -> Iterator[Blocker]:
    """Every planned trial must end well, required or not: otherwise a crash could cause a PASS."""
    own = [trial for trial in case.evidence.planned if trial.role in OWN_ROLES]
    for trial in sorted(own, key=lambda each: (label(each), each.role, each.seed_index, case.id_of(each))):
        ends = sorted(
            (record for record in case.evidence.closed if record.trial == case.id_of(trial)),
            key=lambda record: (record.attempt, record.status, record.reason),
        )
        asked_for = next((each for each in case.policy.required if each.selects(trial)), None)
        about = str(asked_for) if asked_for and trial.role == Role.CANDIDATE else ""
        if any(record.status == "ok" for record in ends):
            yield from _invalid(case, trial, findings, asked_for, about)
        else:
            yield from _ended(trial, ends, asked_for, about)


def _ended(trial: Trial, ends: Sequence[Closed], asked_for: Requirement | None, about: str) -> Iterator[Blocker]:
    """A planned trial of which no attempt ended well."""
    if not ends:
        yield Blocker(code="unfinished", args=named(trial), about=about)
    elif any(record.status != "not_applicable" for record in ends):
        yield Blocker(code="failed", args={**named(trial), "reason": ends[-1].reason}, about=about)
    elif asked_for is not None:
        args = {**named(trial), "reason": ends[-1].reason}
        yield Blocker(code="required_not_applicable", args=args, about=about)


def _invalid(
    case: Evaluation, trial: Trial, findings: Sequence[Finding], asked_for: Requirement | None, about: str
) -> Iterator[Blocker]:
    """A planned trial that ended well, but whose answers cannot establish compliance."""
    covering = [each for each in case.policy.limits if limits(each, trial) and trial.role != Role.SHAM]
    absolute = {each.task for each in covering if each.absolute}
    for limit, budget in product(covering, trial.budgets):
        if not limit.absolute and limit.task in absolute:  # the absolute limit reports it already
            continue
        if any(case.lost(trial, task, budget) for task in limit.readings):  # `incomplete` reports it already
            continue
        if without_metric(limit, trial) is not None:  # `no_such_metric` reports it already
            continue
        where = (FindingKind.LIMIT, limit.id, case.id_of(trial), budget)
        its = [f for f in findings if (f.kind, f.rule, f.trial, f.budget) == where]
        if asked_for is None and trial.hazard is not None and not aimed(limit.task, trial):
            continue  # like not applicable: the suite asks in this form, and the attack does not support it
        if not any(f.establishes_compliance for f in its) and all(f.state == "under" for f in its):
            yield _because("invalid_trial", {**named(trial), "budget": budget}, its, about)


def _because(code: str, args: Mapping[str, Json], findings: Sequence[Finding], about: str) -> Blocker:
    """A blocker that is caused by the findings' validity issues. An inverted answer cannot be waived."""
    issues: tuple[ValidityIssue, ...] = tuple(dict.fromkeys(i for f in findings for i in f.validity_issues))
    waivable = "" if any(each.code == "below_chance" for each in issues) else about
    return Blocker(code=code, args=dict(args), causes=issues, about=waivable)


def _open_hypotheses(case: Evaluation, findings: Sequence[Finding]) -> Iterator[Blocker]:
    """Each declared hypothesis needs a valid finding under its limit; utilities and guardrails are hypotheses too."""
    policy = case.policy
    trials = {case.id_of(trial): trial for trial in case.evidence.planned}
    reported = {(b["kind"], b["rule"]) for b in _without_metric(case)}  # no finding can exist, which has its blocker
    untouched: list[tuple[FindingKind, str, ModelRef | None]]
    untouched = [(FindingKind.UTILITY, u.task, None) for u in policy.utility if u.min is not None]
    untouched += [(FindingKind.GUARDRAIL, g.id, ModelRef(role=Role.ORIGINAL)) for g in policy.guardrails]
    for kind, rule, other in untouched:
        if (kind, rule) in reported:
            continue
        its = [f for f in findings if (f.kind, f.rule) == (kind, rule) and f.trial in trials]
        hypothesis = {"kind": kind.value, "rule": rule, "requirement": None, "seed_index": None, "budget": None}
        yield from _unmet(hypothesis, its, other, "")
    for limit, requirement in product(policy.limits, policy.required):
        if not covers(limit, requirement) or (FindingKind.LIMIT, limit.id) in reported:
            continue
        own = [f for f in findings if (f.kind, f.rule) == (FindingKind.LIMIT, limit.id)]
        mine = [f for f in own if declares(requirement, trials.get(f.trial), f.budget)]
        control = compared_with(limit)
        for seed, budget in product(range(requirement.seeds), requirement.budgets or (None,)):
            at = [f for f in mine if f.seed_index == seed and budget in (None, f.budget)]
            if not at and any(_has_its_cause(case, requirement, seed, budget, task) for task in limit.readings):
                continue
            about = str(requirement)
            which = {"kind": FindingKind.LIMIT.value, "rule": limit.id, "requirement": about}
            yield from _unmet({**which, "seed_index": seed, "budget": budget}, at, control, about)


def _unmet(
    hypothesis: Mapping[str, Json], findings: Sequence[Finding], other: ModelRef | None, about: str
) -> Iterator[Blocker]:
    """What a hypothesis lacks; nothing if a finding establishes compliance, or is itself over or open."""
    if any(finding.establishes_compliance for finding in findings):
        return
    if not findings:
        yield Blocker(code="hypothesis_not_run", args={**hypothesis, **comparator(other)}, about=about)
    for finding in findings:
        if finding.state == "under":
            yield _because("hypothesis_invalid", hypothesis, [finding], about)


def _has_its_cause(case: Evaluation, requirement: Requirement, seed: int, budget: int | None, task: str) -> bool:
    """Whether the lack of findings has a cause that is a blocker itself, and that the same waivers lift."""

    def first(attack: str, config: Mapping[str, Json]) -> bool:
        return next((each for each in case.policy.required if each.fits(attack, config)), None) == requirement

    for each in case.evidence.left_out:
        if (each.role, each.seed_index) == (Role.CANDIDATE, seed) and first(each.attack, each.config):
            return True
    for trial in case.own_planned:
        if trial.seed_index == seed and first(trial.attack, trial.config):
            well = any(e.trial == case.id_of(trial) and e.status == "ok" for e in case.evidence.closed)
            if not well or any(case.lost(trial, task, each) for each in trial.budgets if budget in (None, each)):
                return True
    return False


def _not_compared(case: Evaluation, findings: Sequence[Finding]) -> Iterator[Blocker]:
    """Answers that only an excess limit covers, without valid answers of the control: no rule would judge them.

    Otherwise the result of a strong attack from an earlier run could be dropped by not running the control.
    """
    tasks = {limit.id: limit.readings for limit in case.policy.limits}
    held = {
        (f.trial, f.attempt, f.budget, task)
        for f in findings
        if f.kind == FindingKind.LIMIT
        for task in tasks.get(f.rule, ())
    }
    found: dict[tuple[Any, ...], Blocker] = {}
    for trial in case.own:
        about = str(next((each for each in case.policy.required if each.selects(trial)), ""))
        measurements = case.measurements(trial)
        again = {_answers(m) for m in measurements if _key(m) in held}
        for measurement in measurements:
            if _key(measurement) in held:
                continue
            # An attempt that was cut off between the tasks of a score is judged by a later one with the same answers.
            if _answers(measurement) in again:
                continue
            for limit in case.policy.limits:
                covered = measurement.task in limit.readings and limits(limit, trial)
                if not limit.absolute and covered and without_metric(limit, trial) is None:
                    where = {
                        "kind": FindingKind.LIMIT.value,
                        "attack": label(trial),
                        "seed_index": trial.seed_index,
                        "budget": measurement.budget,
                    }
                    args = {"rule": limit.id, **where, "control": limit.control or ""}
                    why = _why_not(case, limit, trial, measurement)
                    blocker = Blocker(code="not_compared", args=args, causes=why, about=about)
                    found[limit.id, label(trial), trial.seed_index, measurement.budget, about] = blocker
    yield from (blocker for _, blocker in sorted(found.items(), key=lambda each: each[0]))


def _why_not(case: Evaluation, limit: Limit, trial: Trial, measurement: Measurement) -> tuple[ValidityIssue, ...]:
    """The validity issues of the other model's answers after the same attack: why they cannot be compared with."""
    who = (Role.ORIGINAL, "") if limit.heuristic else (Role.CONTROL, limit.control)
    found = {
        issue
        for other in case.evidence.comparators
        if (other.role, other.control) == who and other.config == trial.config and other.attack == trial.attack
        for its in case.measurements(other)
        if (its.budget, its.task) == (measurement.budget, measurement.task)
        for issue in case.issues(other, its)
    }
    return tuple(sorted(found, key=lambda each: each.key))


def _key(measurement: Measurement) -> tuple[str, int, int, str]:
    return measurement.trial, measurement.attempt, measurement.budget, measurement.task


def _answers(measurement: Measurement) -> tuple[Any, ...]:
    return measurement.budget, measurement.task, tuple(sorted(measurement.correct.items())), measurement.missing


def _other_weights(case: Evaluation) -> Iterator[Blocker]:
    """Weights in the candidate's repository that were not examined."""
    if case.policy.validity.other_weights == "listed":
        return
    found = case.evidence.unread
    if found is None or not found.listed:
        yield Blocker(code="other_weights_unknown")
    if found is not None and found.weights:
        yield Blocker(code="other_weights", args={"weights": [*found.weights]})
