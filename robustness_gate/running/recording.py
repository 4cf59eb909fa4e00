"""Trials run, and the ledger records them: what is known before, every measurement, and what went wrong.

Everything is on the disk before the next thing happens, so that a run that is killed continues where it stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from robustness_gate import verdict
from robustness_gate.evidence.ledger import Ledger
from robustness_gate.inputs import precision
from robustness_gate.inputs.checkpoint.place import model_type
from robustness_gate.inputs.checkpoint.survey import unread
from robustness_gate.planning import plan
from robustness_gate.planning.plan import Prepared
from robustness_gate.records.calibration import WeightsCheck
from robustness_gate.records.evidence import EvidenceIssue, Note, Planned
from robustness_gate.records.trial import Role
from robustness_gate.records.verdict import Verdict
from robustness_gate.running import checked
from robustness_gate.running.executors import Event

Watch = Callable[[Event, int, int], None]
"""Called for every event with the numbers of closed trials and of all trials; for progress only."""


def planned(prepared: Prepared, device: str) -> Planned:
    """The plan as the ledger records it; `device` is the one that was asked for."""
    return Planned(
        subject=prepared.plan.candidate.manifest.digest,
        trials=tuple(trial.id for trial in prepared.trials),
        left_out=prepared.plan.left_out,
        model_type=model_type(prepared.plan.candidate.place),
        unread=unread(prepared.plan.candidate.place),
        stored=precision.stored(prepared.plan.candidate.place),
        device=_kind(device),
        bases={its.digest: its.base for its in (s.manifest for s in prepared.plan.subjects) if its.base is not None},
        policy=prepared.policy.sha256,
        suite=prepared.suite.sha256,
    )


def _kind(wish: str) -> str:
    """The kind of device on which trials run."""
    from robustness_gate.engine.load import pick_device

    return pick_device(wish).type


def compared_weights(prepared: Prepared, ledger: Ledger) -> Iterator[WeightsCheck]:
    """The candidate's weights compared with the original's, where the policy requires a calibration on it."""
    candidate = prepared.plan.candidate
    original = next((each for each in prepared.plan.subjects if each.role == Role.ORIGINAL), None)
    if prepared.policy.record.validity.calibration == "off" or original is None:
        return
    its = candidate.manifest.digest, original.manifest.digest
    if any((each.subject, each.reference) == its for each in ledger.weights):
        return
    from robustness_gate.engine.kinship import compare

    found = compare(candidate.place.base or candidate.place, original.place.base or original.place)
    yield WeightsCheck(subject=its[0], reference=its[1], **found._asdict())


def compare_tokenizers(prepared: Prepared, ledger: Ledger, crew: checked.Checked) -> tuple[Prepared, tuple[str, ...]]:
    """Compare the candidate's tokenizer with the original's, unless the ledger has the comparison, and record it.

    Returns the plan, with one more trial if the two differ, and warnings. If nothing was compared, the judge finds no
    record, and that is no success.
    """
    subject, original, suite_data = prepared.plan.candidate.manifest.digest, prepared.original, prepared.suite_data
    if original is None and prepared.policy.record.tokenizer is None:  # nothing to compare with
        return prepared, ()
    tasks = {name: ref.sha256 for name, ref in suite_data.refs.items()}
    wanted = (subject, original, tasks, suite_data.data_digests)
    known = [c for c in ledger.tokenizers if (c.subject, c.reference, c.tasks, c.data) == wanted]
    if not known:
        found = crew.compare(subject)
        if isinstance(found, str):
            return prepared, (f"the candidate's tokenizer was compared with nothing: {found}",)
        ledger.append(found)
        known = [found]
    if original is None or not any(check.otherwise or check.templated for check in known):
        return prepared, ()
    more = plan.through_original(prepared.plan, suite_data, prepared.suite.record.dtype)
    first = sum(each.attack == "none" and each.role == Role.CANDIDATE for each in prepared.plan.trials)
    trials = (*prepared.plan.trials[:first], more, *prepared.plan.trials[first:])
    return replace(prepared, plan=replace(prepared.plan, trials=trials)), ()


def run_trials(prepared: Prepared, ledger: Ledger, crew: checked.Checked, watch: Watch) -> bool:
    """Run the trials that are not settled yet. Returns whether anything was run.

    A breach can end the run early, and a candidate that cannot be loaded always does, so that it is not tried again for
    every trial.

    Raises:
        NotLoaded: a checkpoint's files were refused, and there is no measurement that could be judged.
    """
    trials = prepared.plan.trials
    ids = {trial.id for trial in trials}
    fail_fast = prepared.policy.record.statistics.fail_fast != "off"

    def breached() -> bool:
        return fail_fast and judge(prepared, ledger).outcome == "FAIL"

    todo = [] if breached() else [(t, ledger.attempts(t.id) + 1) for t in trials if not ledger.is_settled(t.id)]
    open_ = {each for each in ids if not ledger.has_ended(each)}
    with _noted(prepared, ledger, crew), contextlib.closing(crew.execute(todo, breached)) as events:
        for event in events:
            lost = event.not_loaded
            if lost is not None and lost.by_files and not ledger.measurements:
                raise lost
            if event.record is not None:
                ledger.append(event.record)
            if ledger.has_ended(event.trial.id):
                open_.discard(event.trial.id)
            watch(event, len(ids) - len(open_), len(ids))
            if lost is not None and event.trial.subject == prepared.plan.candidate.manifest.digest:
                break
    return bool(todo)


def judge(prepared: Prepared, ledger: Ledger) -> Verdict:
    """The verdict over what the ledger holds, now."""
    evidence = ledger.evidence(prepared.plan.candidate.manifest.digest, prepared.trials)
    return verdict.judge(prepared.policy.record, evidence, datetime.now(UTC))


@contextlib.contextmanager
def _noted(prepared: Prepared, ledger: Ledger, crew: checked.Checked) -> Iterator[None]:
    """Note in the ledger that its executor returned what cannot be true: else the next run would judge the rest."""
    try:
        yield
    except checked.BrokenExecutor as error:
        args = {"executor": crew.name, "what": error.message}
        subject = prepared.plan.candidate.manifest.digest
        ledger.append(Note(subject=subject, what=EvidenceIssue(code="executor_broken", args=args)))
        raise
