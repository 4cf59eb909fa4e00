"""The command for a step. A report contains no directories, so placeholders are in capitals."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from robustness_gate.records.trial import Role
from robustness_gate.report.advice.case import Case, source_of


def again(case: Case, *, more: str = "") -> str:
    """The run's own command again: its ledger already holds self-test and statement.

    Args:
        case: the case of the run.
        more: options to add. An option that names another model replaces the original one.
    """
    return _command(case, source_of(case, Role.CANDIDATE) or "CHECKPOINT", shlex.quote(case.out), more=more)


def on_a_new_checkpoint(case: Case) -> str:
    """A run of the whole suite on a newly unlearned checkpoint, which has no ledger yet."""
    return _command(case, "NEW_CHECKPOINT", "NEW_OUT", more=_on_record(case))


def with_new_ledgers(case: Case) -> str:
    """The same run with a new ledger."""
    same = source_of(case, Role.CANDIDATE) or "CHECKPOINT"
    return _command(case, same, "NEW_OUT", more=" ".join(["--ledgers NEW_LEDGERS", _on_record(case)]).strip())


def on_the_original(case: Case) -> str:
    """A run of the original as the candidate, without attacks and without other models."""
    place = source_of(case, Role.ORIGINAL) or "ORIGINAL"
    return f"robustness-gate run {place} --policy POLICY --suite SUITE --out ORIGINAL_OUT --only none"


def _command(case: Case, checkpoint: str, out: str, *, more: str) -> str:
    base, preregistered = source_of(case, Role.CANDIDATE, base=True), case.report.preregistration is not None
    parts = [f"robustness-gate run {checkpoint} --policy POLICY --suite SUITE --out {out}"]
    parts += [f"--base {base}"] if base else []
    parts += _other_models(case, more)
    parts += ["--preregistration PREREGISTRATION --preregistration-key KEY"] if preregistered else []
    return " ".join([*parts, *([more] if more else [])])


def _on_record(case: Case) -> str:
    """Options for records that the old ledger holds and a new one needs."""
    tested = ["--self-test self-test.json"] if case.report.self_tests else []
    return " ".join([*tested, *(["--statement FILE"] if case.report.producer_claims else [])])


def _other_models(case: Case, more: str) -> Iterator[str]:
    """Options for the other models of the run, which are needed again: the original is part of a trial's identity."""
    for other in case.report.comparators:
        name, place = other.control, source_of(case, other.role, other.control)
        control = case.policy.controls.get(name)
        if other.role == Role.ORIGINAL:
            option, value = "--original", f" {place or 'ORIGINAL'}"
        elif control is not None and control.kind == "earlier_release":
            option, value = f"--anchor {name}", "=REPORT"
        else:
            option, value = f"--control {name}", f"={place or 'DIR'}"
        if option + value[0] not in more:
            yield option + value
