"""The command to give next. A report tells no directory, so what it cannot name stands in capitals."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from robustness_gate.records.trial import Role
from robustness_gate.report.advice.case import Case, source_of


def again(case: Case, *, more: str = "") -> str:
    """The run's own command once more: its ledger knows of self-test and statement already.

    Args:
        case: whose run it was.
        more: options to add. One that names a model beside the candidate replaces the one that was given.
    """
    return _command(case, source_of(case, Role.CANDIDATE) or "CHECKPOINT", shlex.quote(case.out), more=more)


def on_a_new_checkpoint(case: Case) -> str:
    """The whole suite on what was unlearned anew, of which nothing is on record yet."""
    return _command(case, "NEW_CHECKPOINT", "NEW_OUT", more=_on_record(case))


def with_new_ledgers(case: Case) -> str:
    """The same on a record that knows nothing of what went before."""
    same = source_of(case, Role.CANDIDATE) or "CHECKPOINT"
    return _command(case, same, "NEW_OUT", more=" ".join(["--ledgers NEW_LEDGERS", _on_record(case)]).strip())


def on_the_original(case: Case) -> str:
    """The model from before unlearning in the candidate's place, with no attack and nobody beside it."""
    place = source_of(case, Role.ORIGINAL) or "ORIGINAL"
    return f"robustness-gate run {place} --policy POLICY --suite SUITE --out ORIGINAL_OUT --only none"


def _command(case: Case, checkpoint: str, out: str, *, more: str) -> str:
    base, preregistered = source_of(case, Role.CANDIDATE, base=True), case.report.preregistration is not None
    words = [f"robustness-gate run {checkpoint} --policy POLICY --suite SUITE --out {out}"]
    words += [f"--base {base}"] if base else []
    words += _named_beside(case, more)
    words += ["--preregistration PREREGISTRATION --preregistration-key KEY"] if preregistered else []
    return " ".join([*words, *([more] if more else [])])


def _on_record(case: Case) -> str:
    """What a ledger knows and a new one must be told."""
    tested = ["--self-test self-test.json"] if case.report.self_tests else []
    return " ".join([*tested, *(["--statement FILE"] if case.report.producer_claims else [])])


def _named_beside(case: Case, more: str) -> Iterator[str]:
    """What was named beside the candidate must be named again: an attack that may use the original is another."""
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
