"""What to do about a trial that did not end well: left out, stopped, failed, not applicable; or on a changed model."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.advice.case import Case, Step, blocks, own, with_shams
from robustness_gate.advice.commands import again, with_new_ledgers
from robustness_gate.advice.words import listed, sentence, trial_name
from robustness_gate.verdict.cells import place_of


def unfinished(case: Case) -> Iterator[Step]:
    """What the same command would still run."""
    if case.report.left_out:
        yield Step(
            f"--only left out {listed(sorted({place_of(each) for each in case.report.left_out}))}.",
            "Give the same command without --only, and the same --out: what the ledger holds is not run again.",
            again(case),
        )
    stopped = [trial_name(record) for record in with_shams(case) if record.planned and not record.closed]
    if stopped:
        yield Step(
            f"Not run to the end: {listed(stopped)}.",
            "Give the same command again: it goes on where it stopped.",
            again(case),
        )


def incomplete(case: Case) -> Iterator[Step]:
    """Answers that are gone from an attempt that ended well: no run of this gate leaves that behind."""
    for block in blocks(case, "incomplete"):
        yield Step(
            f"{sentence(block)}.",
            "An attempt is closed only after every answer is written down, so the ledger was edited or damaged since. "
            "Keep it for whoever asks, and run anew with other --ledgers.",
            with_new_ledgers(case),
        )


def changed(case: Case) -> Iterator[Step]:
    """A checkpoint that was not the same at the end."""
    for block in case.report.verdict.blocks:
        if block.words.startswith(("the checkpoint changed", "the checkpoint cannot be read")):
            yield Step(
                f"{sentence(block)}.",
                "Run on a copy that nobody writes to, with new --ledgers.",
                with_new_ledgers(case),
            )


def not_applicable(case: Case) -> Iterator[Step]:
    """A required attack that this model does not admit, or not without the original."""
    for record in own(case):
        ends = {end.status for end in record.closed}
        if ends != {"not_applicable"} or not any(each.selects(record.trial) for each in case.policy.required):
            continue
        reason = record.closed[-1].reason
        because = f"{trial_name(record)} is required and was not applicable: {reason.rstrip('.')}."
        if "original" in reason and record.trial.reference is None:
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


def failed(case: Case) -> Iterator[Step]:
    """A trial that broke, and never ended well."""
    for record in with_shams(case):
        failures = [end.reason for end in record.closed if end.status == "failure"]
        if not record.planned or not failures or any(end.status == "ok" for end in record.closed):
            continue
        yield Step(
            f"{trial_name(record)} failed: {failures[-1].rstrip('.')}.",
            f"{_remedy(failures[-1])} Then give the same command again: a trial that failed gets another attempt, and "
            "only it runs. What it had shown before it failed stays on record.",
            again(case),
        )


def _remedy(reason: str) -> str:
    """A first thing to try for failures that are known by their words."""
    text = reason.lower()
    if "diverged at every learning rate" in text:
        return "Add smaller learning rates to its grid."
    if "(limit --" in text:
        return "Raise the limit that it names if this machine is slow; else the checkpoint's files are at fault."
    if "out of memory" in text or "signal 9" in text:
        return "Give it more memory: a larger device, `dtype: bfloat16`, or `method: lora` in place of full."
    if "not numbers" in text or "finite" in text:
        return "Let the suite compute in `dtype: float32`, and check the checkpoint with robustness-gate doctor."
    if "changed since the plan" in text:
        return "Leave the suite's files alone while it runs."
    return "Mend the cause; robustness-gate doctor CHECKPOINT --suite SUITE tries each attack at strength zero."
