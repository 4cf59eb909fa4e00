"""Checks of the report's trials against the suite: the texts, every trial, and how each was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from robustness_gate.attestation.verify import catalogue
from robustness_gate.attestation.verify.codes import Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import (
    Context,
    Failed,
    Found,
    NotChecked,
    NotTried,
    RequiredSuite,
    message_of,
)
from robustness_gate.errors import GateError, PlanError
from robustness_gate.evidence import ledger
from robustness_gate.inputs import plugins
from robustness_gate.inputs.validation import Loaded, validate
from robustness_gate.inputs.yaml import parse_yaml
from robustness_gate.policy_language.load import policy_of
from robustness_gate.records.base import Plugin
from robustness_gate.records.encode import digest_of
from robustness_gate.records.evidence import LeftOut
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import Kind, in_format
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Role, Trial
from robustness_gate.report import record as report
from robustness_gate.report.record import TrialRecord
from robustness_gate.verdict.hypotheses import label_of
from robustness_gate.verdict.wording import trial_name


def texts(its: Context) -> Found:
    """6. Policy and suite, read again from their texts in the report, are those of the run and of the verdict."""
    made = its.made
    try:
        policy, suite = _read(made)
    except GateError as error:
        raise Failed(Fault.TEXT_UNREADABLE, message=message_of(error), remedy=error.remedy) from None
    _hold_name("policy", policy, made.policy)
    _hold_name("suite", suite, made.suite)
    if made.extended and policy.parent:
        _hold_name("extended policy", policy.parent, made.extended)
    if policy.record != made.resolved:
        raise Failed(Fault.RESOLVED_DIFFERS)
    its.policy, its.suite = policy, suite
    return Found(Confirmed.TEXTS, policy=_named(made.policy), suite=_named(made.suite))


def _read(made: report.Report) -> tuple[Loaded[Policy], Loaded[Suite]]:
    extended = made.extended
    base = parse_yaml(extended.text.encode(), Path("the policy that it extends")) if extended else None
    policy = policy_of(parse_yaml(made.policy.text.encode(), Path("the report's policy")), base)
    return policy, validate(parse_yaml(made.suite.text.encode(), Path("the report's suite")), Suite)


def _hold_name(which: str, loaded: Loaded[Policy] | Loaded[Suite], named: report.Named) -> None:
    if (loaded.sha256, loaded.record.id, loaded.record.version) != (named.sha256, named.id, named.version):
        raise Failed(Fault.TEXT_NOT_NAMED, which=which)


def _named(file: report.Named) -> str:
    return f"{file.id} {file.version}"


def nothing_left_out(its: Context) -> Found:
    """7. Every trial of the suite is in the report or recorded as left out; each was asked as the suite declares."""
    made = its.made
    if its.suite is None:
        raise NotChecked(Unchecked.NO_SUITE)
    suite = its.suite.record
    _hold_plugins(suite, made)
    there = {address(r.trial): r for r in made.trials if r.trial.role == Role.CANDIDATE and r.planned}
    asked = trials_of(suite)
    missing = Counter(trial for where, trial in asked.items() if where not in there)
    _hold_left_out(made.left_out, suite, asked, there)
    excused = Counter(asked[where] for where in _left_out(made.left_out) if where in asked)
    alike = {f"{r.label}, seed {r.trial.seed_index}" for where, r in there.items() if where not in asked}
    for trial, count in missing.items():
        if excused[trial] < count:
            raise Failed(Fault.TRIAL_OTHER_SETTINGS if trial in alike else Fault.TRIAL_MISSING, trial=trial)
    for where, record in there.items():
        if where not in asked:
            raise Failed(Fault.TRIAL_NOT_IN_SUITE, trial=record.label)
        hold_asked(suite, record.trial, record.label)
    _hold_the_rest(suite, made)
    unended = [(asked[where], record) for where, record in there.items() if not ended_well(record)]
    its.not_tried += [NotTried(trial) for trial in missing.elements()]
    its.not_tried += [
        NotTried(trial, record.closed[-1].status if record.closed else "not_run") for trial, record in unended
    ]
    return Found(Confirmed.COMPLETE, here=len(there), asked=len(asked), left_out=missing.total(), unended=len(unended))


def trials_of(suite: Suite) -> dict[str, str]:
    """The label of every trial of the candidate in a suite, by address. Raises Failed."""
    found = {}
    for entry in suite.attacks:
        try:
            config = catalogue.prescribed(entry.attack, entry.config).config
        except catalogue.Unknown as error:
            raise Failed(Fault.ATTACK_UNKNOWN, trial=f"the suite's {entry.attack}", message=error.message) from None
        for index in range(entry.seeds):
            found[digest_of([entry.attack, config, index])] = f"{label_of(entry.attack, config)}, seed {index}"
    return found


def _hold_plugins(suite: Suite, made: report.Report) -> None:
    """Raises Failed where a plug-in that the suite names differs between here and a trial of the run."""
    planned = [record.trial.plugins for record in made.trials if record.planned and record.trial.role in ledger.OWN]
    hold_plugins((*(each.attack for each in suite.attacks), *(task.kind for task in suite.tasks.values())), planned)


def hold_plugins(names: Iterable[str], stated: Iterable[Sequence[Plugin]]) -> None:
    """Nothing is imported before this: the installed plug-ins are those of every trial, by content.

    Args:
        names: attacks and kinds of task.
        stated: for each trial, the plug-ins that it names.

    Raises:
        Failed: one is not installed, its content is not known, it has other content here than in a trial, or no trial
            states its content.
    """
    try:
        here = plugins.of(names)
    except PlanError as error:
        raise Failed(Fault.PLUGIN_UNKNOWN, message=error.message) from None
    known = [{each.distribution: (each.version, each.sha256) for each in one} for one in stated]
    for each in here:
        if not each.pinned:
            uncovered = f"its digest does not cover all files of the plug-in {each.distribution} here"
            raise Failed(Fault.PLUGIN_UNKNOWN, message=uncovered)
        own = each.version, each.sha256
        if (others := {one.get(each.distribution) for one in known} - {own}) or not known:
            words = tuple(sorted(f"{one[0]} {one[1][:12]}" for one in others if one is not None))
            raise Failed(Fault.OTHER_PLUGIN, plugin=each.distribution, here=f"{own[0]} {own[1][:12]}", stated=words)


def address(trial: Trial | LeftOut) -> str:
    """The address of a trial in a suite, independent of the model."""
    return digest_of([trial.attack, trial.config, trial.seed_index])


def ended_well(record: TrialRecord) -> bool:
    """Whether an attempt at the trial ended well."""
    return any(end.status == "ok" for end in record.closed)


def _left_out(left_out: Iterable[LeftOut]) -> list[str]:
    """The addresses of the candidate's trials that a report records as not made."""
    return [address(each) for each in left_out if each.role == Role.CANDIDATE]


def _hold_left_out(
    left_out: Iterable[LeftOut], suite: Suite, asked: Mapping[str, str], there: Mapping[str, TrialRecord]
) -> None:
    """Raises Failed where a trial recorded as left out is not in the suite, or is in the report."""
    known, seen = {entry.attack for entry in suite.attacks}, set[str]()
    for each in left_out:
        if each.digest in seen:
            raise Failed(Fault.LEFT_OUT_TWICE, trial=trial_name(each))
        seen.add(each.digest)
        if each.attack not in known or (each.role == Role.CANDIDATE and address(each) not in asked):
            raise Failed(Fault.LEFT_OUT_NOT_IN_SUITE, trial=trial_name(each))
        if each.role == Role.CANDIDATE and address(each) in there:
            raise Failed(Fault.LEFT_OUT_BUT_PRESENT, trial=trial_name(each))


def _hold_the_rest(suite: Suite, made: report.Report) -> None:
    """Raises Failed where a sham, the candidate through another tokenizer or dtype, or the original was not asked as
    declared.

    Otherwise a measurement removed from a trial's tasks and from its answers would leave no gap. Of the original one
    such trial is enough: a ledger may hold it from runs of another suite.
    """
    for record in made.trials:
        if record.planned and record.trial.role in ledger.OWN and record.trial.role != Role.CANDIDATE:
            hold_asked(suite, record.trial, record.label)
    faults = []
    for trial in (r.trial for r in made.trials if (r.trial.role, r.trial.attack) == (Role.ORIGINAL, "none")):
        try:
            return hold_asked(suite, trial, "the original")
        except Failed as fault:
            faults.append(fault)
    if faults:
        raise faults[0]
    return None


def hold_asked(suite: Suite, trial: Trial, name: str) -> None:
    """Raises Failed where a trial was not asked as the suite declares. A policy pins the questions themselves."""
    if trial.dtype != suite.dtype and trial.role != Role.IN_DECLARED_DTYPE:
        raise Failed(Fault.OTHER_DTYPE, trial=name, dtype=trial.dtype, suite=suite.dtype)
    tasks = {
        in_format(name, each): task
        for name, task in suite.tasks.items()
        for each in task.formats
        if trial.attack == "none" or not task.only_untouched(_judged(task.kind))
    }
    known = (each for each in suite.hazards if each in suite.tasks)
    hazards = {in_format(each, one) for each in known for one in suite.tasks[each].formats}
    if beyond := sorted(trial.aims - hazards):
        raise Failed(Fault.FORM_NOT_HAZARD, trial=name, task=beyond[0])
    asked = {task.name: task.items for task in trial.tasks}
    if other := sorted(tasks.keys() ^ asked.keys()):
        raise Failed(Fault.TASK_NOT_ASKED if other[0] in tasks else Fault.TASK_NOT_IN_SUITE, trial=name, task=other[0])
    for each, task in tasks.items():
        if asked[each] > task.count or (asked[each] < task.count and not task.partly_asked):
            raise Failed(Fault.OTHER_ITEM_COUNT, trial=name, task=each, asked=asked[each], suite=task.count)


def _judged(kind: str) -> Kind:
    """The scoring of a kind of task here. Raises Failed."""
    try:
        return catalogue.judged(kind)
    except catalogue.Unknown as error:
        raise Failed(Fault.KIND_UNKNOWN, message=error.message) from None


def own_suite(its: Context) -> Found:
    """11. Every trial of the auditor's suite was run to its end, on the questions and data of its files."""
    made, wanted = its.made, its.asked.suite
    if wanted is None:
        raise NotChecked(Unchecked.NO_REQUIRED_SUITE)
    suite = wanted.suite
    there = {address(record.trial): record for record in made.trials if record.trial.role == Role.CANDIDATE}
    missing = []
    for where, trial in trials_of(suite.record).items():
        record = there.get(where)
        if record is None or not ended_well(record):
            missing.append(trial)
        else:
            hold_asked(suite.record, record.trial, trial)
    known = {each.trial for each in its.not_tried}
    its.not_tried += [NotTried(trial) for trial in missing if trial not in known]
    name = f"{suite.record.id} {suite.record.version}"
    if missing:
        raise Failed(Fault.SUITE_NOT_RUN, suite=name, trials=tuple(missing))
    same = suite.sha256[:16] if suite.sha256 == made.suite.sha256 else ""
    if wanted.files is None:
        return Found(Confirmed.OWN_SUITE_NO_DATA, suite=name, same=same, why=wanted.missing)
    _hold_data(wanted, made)
    return Found(Confirmed.OWN_SUITE, suite=name, same=same, tasks=len(wanted.files.tasks))


def _hold_data(wanted: RequiredSuite, made: report.Report) -> None:
    """Raises Failed where the candidate's questions or attack data differ from those in the suite's files."""
    assert wanted.files is not None
    for record in (each for each in made.trials if each.planned and each.trial.role in ledger.OWN):
        other = [task.name for task in record.trial.tasks if wanted.files.tasks.get(task.name) != task]
        if other:
            raise Failed(Fault.OTHER_QUESTIONS, trial=record.label, task=other[0])
        if record.trial.data != wanted.files.data:
            raise Failed(Fault.OTHER_DATA, trial=record.label)
