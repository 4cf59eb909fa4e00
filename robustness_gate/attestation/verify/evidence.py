"""Checks of the records in the report against their trials, attacks and self-tests."""

from __future__ import annotations

from collections.abc import Set

from robustness_gate.attestation.verify import catalogue
from robustness_gate.attestation.verify.codes import Confirmed, Fault
from robustness_gate.attestation.verify.plan import hold_plugins
from robustness_gate.attestation.verify.records import Context, Failed, Found
from robustness_gate.evidence import ledger
from robustness_gate.evidence.answers import is_packed
from robustness_gate.planning import bench, calibrated
from robustness_gate.records.calibration import TAUGHT, Calibration
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.mechanisms import mechanism_of
from robustness_gate.records.policy import same
from robustness_gate.records.questions import TaskRef
from robustness_gate.records.trial import Closed, Measurement, Role, Trial, seed_of
from robustness_gate.report import record as report
from robustness_gate.report.record import TrialRecord
from robustness_gate.verdict.complete import incomplete
from robustness_gate.verdict.hypotheses import label_of, which
from robustness_gate.verdict.wording import lacking


def evidence(its: Context) -> Found:
    """8. Each trial is stored under its own digest, has the prescribed seed, and holds every answer once; no attempt is
    missing; floors, shams and self-tests are those of this release's attacks.
    """
    made = its.made
    for trial in (record.trial for record in made.trials):
        hold_plugins((trial.attack, *(task.kind for task in trial.tasks)), [trial.plugins])
    seen: set[str] = set()
    for record in made.trials:
        if record.id != record.trial.id or record.label != report.name_of(record.trial):
            raise Failed(Fault.TRIAL_MISNAMED, trial=record.label)
        if record.id in seen:
            raise Failed(Fault.TRIAL_TWICE, trial=record.label)
        seen.add(record.id)
        _hold_trial(made, record)
        _hold_records(record)
        _hold_answers(record)
        _hold_attack(record.trial, record.label)
    tried = {record.trial.attack for record in made.trials}
    for test in made.self_tests:
        if "/" not in test.attack or test.attack in tried:  # another plug-in's counts for nothing: it is not imported
            _hold_self_test(test)
    if len({each.digest for each in made.self_tests}) < len(made.self_tests):
        raise Failed(Fault.SELF_TEST_TWICE)
    for calibration in made.calibrations:
        _hold_calibration(calibration, tried)
    if len({each.digest for each in made.calibrations}) < len(made.calibrations):
        raise Failed(Fault.CALIBRATION_TWICE)
    others = any(each.subject != made.checkpoint for each in made.weights)
    if others or len({each.digest for each in made.weights}) < len(made.weights):
        raise Failed(Fault.WEIGHTS_OTHER_CHECKPOINT)
    if any(each.subject != made.checkpoint for each in made.tokenizers):
        raise Failed(Fault.TOKENIZERS_OTHER_CHECKPOINT)
    if len({each.digest for each in made.tokenizers}) < len(made.tokenizers):
        raise Failed(Fault.TOKENIZERS_TWICE)
    named = [each.task for each in made.questions]
    if len(set(named)) < len(named) or not set(named) <= {t.sha256 for r in made.trials for t in r.trial.tasks}:
        raise Failed(Fault.QUESTIONS_NOT_ASKED)
    _hold_tasks(made)
    own = sum(record.trial.role in ledger.OWN for record in made.trials)
    answers = sum(measurement.items for record in made.trials for measurement in record.measurements)
    return Found(Confirmed.EVIDENCE, own=own, others=len(made.trials) - own, answers=answers)


def _hold_trial(made: report.Report, record: TrialRecord) -> None:
    trial, name = record.trial, record.label
    if trial.role in ledger.OWN and trial.subject != made.checkpoint:
        raise Failed(Fault.TRIAL_OTHER_CHECKPOINT, trial=name)
    if trial.role == Role.THROUGH_ORIGINAL and trial.reference is None:
        raise Failed(Fault.NO_REFERENCE, trial=name)
    if trial.seed != seed_of(trial.subject, trial.attack, trial.seed_index):
        raise Failed(Fault.SEED_CHOSEN, trial=name)


def _hold_records(record: TrialRecord) -> None:
    """Every record belongs to this trial and occurs once, and every attempt before the last left a record."""
    name = record.label
    records: tuple[Measurement | Closed, ...] = (*record.measurements, *record.closed)
    if any(each.trial != record.id for each in records):
        raise Failed(Fault.RECORD_OF_OTHER_TRIAL, trial=name)
    attempts = {each.attempt for each in records}
    gone = next((n for n in range(1, len(attempts) + 1) if n not in attempts), None)  # not the report's own number
    if gone is not None:
        raise Failed(Fault.ATTEMPT_MISSING, trial=name, attempt=gone)
    answered = [(each.attempt, each.budget, each.task) for each in record.measurements]
    ends = {each.digest for each in record.closed}  # equal measurements answer the same questions
    if len(ends) < len(record.closed) or len(set(answered)) < len(answered):
        raise Failed(Fault.RECORD_TWICE, trial=name)


def _hold_answers(record: TrialRecord) -> None:
    """The answers belong to questions that were asked, one bit each; an attempt that ended well has all of them."""
    trial, name = record.trial, record.label
    items = {task.name: task.items for task in trial.tasks}
    metrics = {task.name: task.judged.metrics for task in trial.tasks}
    for measurement in record.measurements:
        if items.get(measurement.task) != measurement.items or measurement.budget not in trial.budgets:
            raise Failed(
                Fault.ANSWERS_NOT_ASKED,
                trial=name,
                task=measurement.task,
                items=measurement.items,
                budget=measurement.budget,
            )
        if measurement.correct.keys() != {*metrics[measurement.task]}:
            raise Failed(
                Fault.ANSWERS_IN_OTHER_METRICS,
                trial=name,
                task=measurement.task,
                found=", ".join(sorted(measurement.correct)) or "none",
                declared=", ".join(metrics[measurement.task]),
            )
        for bits in (*measurement.correct.values(), measurement.missing):
            if not is_packed(bits, measurement.items):
                raise Failed(Fault.ANSWERS_NOT_BITS, trial=name, task=measurement.task, items=measurement.items)
    for attempt in sorted({end.attempt for end in record.closed if end.status == "ok"}):
        if gap := incomplete(trial, attempt, record.measurements):
            raise Failed(Fault.ANSWERS_MISSING, trial=name, attempt=attempt, gap=lacking(gap))


def _hold_tasks(made: report.Report) -> None:
    """The same questions have one kind, judged in one way, one number of items and one of options, wherever asked."""
    known: dict[str, TaskRef] = {}
    for task in (task for record in made.trials for task in record.trial.tasks):
        first = known.setdefault(task.sha256, task)
        one, other = ((t.kind, t.judged, t.items, t.options) for t in (first, task))
        if one != other:
            raise Failed(Fault.TASK_TOLD_IN_TWO_WAYS, task=task.name)


def _hold_attack(trial: Trial, name: str) -> None:
    """A trial equals what this release's attack of that name prescribes for its settings.

    Floors and shams are stored in the trial, so a report could contain weaker ones.
    """
    try:
        known = catalogue.prescribed(trial.attack, trial.config)
    except catalogue.Unknown as error:
        raise Failed(Fault.ATTACK_UNKNOWN, trial=name, message=error.message) from None
    if trial.attack_version != known.version:
        raise Failed(Fault.OTHER_ATTACK_VERSION, trial=name, version=trial.attack_version, here=known.version)
    if trial.config != known.config:
        raise Failed(Fault.SETTINGS_INCOMPLETE, trial=name)
    if (trial.family, trial.budgets) != (known.family, known.budgets):
        raise Failed(Fault.OTHER_FAMILY_OR_BUDGETS, trial=name)
    _hold_kinds(trial, name)
    if mute := sorted({task.judged.attacked_as for task in trial.tasks if task.name in trial.aims} - {*known.kinds}):
        raise Failed(Fault.FORM_NOT_SUPPORTED, trial=name, kind=mute[0])
    if trial.role == Role.SHAM:
        if trial.floors or not catalogue.is_at_strength_zero(trial):
            raise Failed(Fault.SHAM_NOT_AT_ZERO, trial=name)
    elif not catalogue.has_its_floors(trial):
        raise Failed(Fault.OTHER_FLOORS, trial=name)


def _hold_kinds(trial: Trial, name: str) -> None:
    """Each kind of task is scored as that kind declares here."""
    for task in trial.tasks:
        try:
            judged = catalogue.judged(task.kind)
        except catalogue.Unknown as error:
            raise Failed(Fault.KIND_UNKNOWN, message=error.message) from None
        if task.judged != judged:
            raise Failed(Fault.KIND_JUDGED_OTHERWISE, trial=name, kind=task.kind)


def _hold_calibration(made: Calibration, tried: Set[str]) -> None:
    """Mechanisms and expectations are those of this release's files: the record stores them, and could hold others.

    A result of another version of an attack, or of a plug-in's that the run did not try, does not count and is not
    checked.
    """
    for spike in made.spikes:
        if spike.method != TAUGHT and spike.mechanism != mechanism_of(spike.method):
            raise Failed(Fault.OTHER_MECHANISM, method=spike.method, mechanism=f"{spike.mechanism}")
    for each in made.recoveries:
        test = each.test
        name = f"calibration of {label_of(test.attack, test.config)}"
        if ("/" in test.attack and test.attack not in tried) or not catalogue.has(test):
            continue
        try:
            whole = catalogue.prescribed(test.attack, test.config).config
        except catalogue.Unknown as error:
            raise Failed(Fault.ATTACK_UNKNOWN, trial=name, message=error.message) from None
        if test.config != whole:
            raise Failed(Fault.SETTINGS_INCOMPLETE, trial=name)
        wanted = calibrated.expected(test.attack, test.config, made.model_type)
        if each.expected != wanted:
            found, asked = (", ".join(kinds) or "none" for kinds in (each.expected, wanted))
            raise Failed(Fault.OTHER_EXPECTATION, trial=name, found=found, expected=asked)


def _hold_self_test(test: SelfTest) -> None:
    """A record equals what this release's self-test of that kind of attack writes.

    The required gain and the organism are stored in the record, so a record could contain weaker ones. A record of
    another version of the attack, or without its settings, does not count and is not checked.
    """
    name = f"self-test of {label_of(test.attack, test.config)}"
    if not catalogue.has(test) or not test.config:
        return
    try:
        whole = catalogue.prescribed(test.attack, test.config).config
    except catalogue.Unknown as error:
        raise Failed(Fault.ATTACK_UNKNOWN, trial=name, message=error.message) from None
    if test.config != whole:  # a record that lacks a setting would count for no requirement, and so hide its result
        raise Failed(Fault.SETTINGS_INCOMPLETE, trial=name)
    if test.model_type not in bench.BENCHES:
        raise Failed(Fault.NO_ORGANISM_OF_TYPE, trial=name, model_type=test.model_type)
    cases = bench.BENCHES[test.model_type]
    case = next((c for c in cases.of(test.attack) if same(which(c.config), which(test.config))), None)
    if case is None:
        raise Failed(Fault.NO_SELF_TEST_CASE, trial=name, model_type=test.model_type)
    if (test.organism, test.share) != (case.organism, case.share):
        raise Failed(Fault.OTHER_SELF_TEST_CASE, trial=name, organism=case.organism, share=case.share)
    if tuple(each.organism for each in test.negative_controls) != cases.negative_controls:
        raise Failed(Fault.OTHER_NEGATIVE_CONTROLS, trial=name, organisms=tuple(cases.negative_controls))
    if test.items != bench.ASKED:
        raise Failed(Fault.OTHER_SELF_TEST_SIZE, trial=name, expected=bench.ASKED, found=test.items)
    untouched = {
        cases.base: test.known,
        test.organism: test.before,
        **{n.organism: n.before for n in test.negative_controls},
    }
    for organism, right in untouched.items():
        if abs(right - bench.UNTOUCHED[organism]) > bench.NEAR:
            expected = bench.UNTOUCHED[organism]
            raise Failed(Fault.ORGANISM_DIFFERS, trial=name, organism=organism, expected=expected, found=right)
