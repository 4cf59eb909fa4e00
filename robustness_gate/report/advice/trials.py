"""Steps for a trial that did not end well: left out, stopped, failed, not applicable; or on a changed model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustness_gate.records import codes
from robustness_gate.records.trial import Closed
from robustness_gate.records.verdict import Blocker
from robustness_gate.report.advice.case import Case, Step, own, with_shams
from robustness_gate.report.advice.commands import again, with_new_ledgers
from robustness_gate.report.advice.words import listed, record_name
from robustness_gate.report.record import TrialRecord
from robustness_gate.verdict.wording import capital, sentence, trial_name


def left_out(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Trials that the command excluded."""
    yield Step(
        f"--only left out {listed(sorted(map(trial_name, blockers)))}.",
        "Give the same command without --only, and the same --out: what the ledger holds is not run again.",
        again(case),
    )


def unfinished(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Trials that the same command would still run."""
    names = [record_name(record) for record in with_shams(case) if record.planned and not record.closed]
    yield stopped(case, names or sorted(map(trial_name, blockers)))


def stopped(case: Case, names: Sequence[str]) -> Step:
    """The step for trials without an end."""
    return Step(
        f"Not run to the end: {listed(names)}.",
        "Give the same command again: it continues where it stopped.",
        again(case),
    )


def incomplete(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Answers that are missing in an attempt that ended well: no run of this gate can produce this."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "An attempt is closed only after every answer is written down, so the ledger was edited or damaged since. "
            "Keep it as evidence of that, and run anew with other --ledgers.",
            with_new_ledgers(case),
        )


def changed(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """A checkpoint that was not the same at the end."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Run on a copy that nothing writes to, with new --ledgers.",
            with_new_ledgers(case),
        )


def made_up(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """An executor returned a result that cannot be true."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "Run without --executor, or mend the executor, with new --ledgers.",
            with_new_ledgers(case),
        )


def not_applicable(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """A required attack that is not applicable to this model, or not without the original."""
    for record in own(case):
        ends = {end.status for end in record.closed}
        if ends != {"not_applicable"} or not any(each.selects(record.trial) for each in case.policy.required):
            continue
        end = record.closed[-1]
        because = f"{record_name(record)} is required and was not applicable: {end.reason.rstrip('.')}."
        if end.code == "needs_original" and record.trial.reference is None:
            yield Step(
                because,
                "Name the model before unlearning. The attacks that may use it are run anew then.",
                again(case, more="--original ORIGINAL"),
            )
        else:
            yield Step(
                because,
                "This attack cannot be tried on this kind of model. A policy for it must require others in its place, "
                "and say so before they are run.",
            )


def failed(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """Trials that failed and never ended well."""
    for record in with_shams(case):
        failures = [end for end in record.closed if end.status == "failure"]
        if record.planned and failures and not any(end.status == "ok" for end in record.closed):
            yield retry(case, record, failures[-1])


def retry(case: Case, record: TrialRecord, end: Closed) -> Step:
    """The step for an attempt that did not end well."""
    return Step(
        f"{record_name(record)} failed: {end.reason.rstrip('.')}.",
        f"{REMEDIES[end.code]} Then give the same command again: a trial that failed gets another attempt, and only it "
        "runs. What it had shown before it failed stays on record.",
        again(case),
    )


REMEDIES: Mapping[codes.End, str] = {
    "": "Fix the cause; robustness-gate doctor CHECKPOINT --suite SUITE tries each attack at strength zero.",
    "data_changed": "Leave the suite's files alone while it runs.",
    "diverged": "Add smaller learning rates to its grid.",
    "limit": "Raise the limit that it names if this machine is slow; else the checkpoint's files are at fault.",
    "memory": "Give it more memory: a larger device, `dtype: bfloat16`, or `method: lora` in place of full.",
    "needs_original": "Name the model before unlearning with --original.",
    "not_finite": ("Let the suite compute in `dtype: float32`, and check the checkpoint with robustness-gate doctor."),
}
"""The first remedy, by the code of the end."""
