"""The command to give next. A report tells no directory, so what it cannot name stands in capitals."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from robustness_gate.advice.case import Case


def again(case: Case, checkpoint: str = "", *, out: str = "", more: str = "") -> str:
    """The run's own command once more.

    Args:
        case: whose run it was.
        checkpoint: another one in the candidate's place.
        out: another folder than the run's.
        more: options to add. One that names a model beside the candidate replaces the one that was given.
    """
    same = case.report.provenance.get("candidate", "CHECKPOINT")
    place = out or shlex.quote(case.out)
    command = f"robustness-gate run {checkpoint or same} --policy POLICY --suite SUITE --out {place}"
    return " ".join([command, *_named_beside(case, more), *([more] if more else [])])


def on_a_new_checkpoint(case: Case) -> str:
    """The whole suite on what was unlearned anew."""
    return again(case, "NEW_CHECKPOINT", out="NEW_OUT")


def with_new_ledgers(case: Case) -> str:
    """The same on a record that knows nothing of what went before."""
    return again(case, out="NEW_OUT", more="--ledgers NEW_LEDGERS")


def _named_beside(case: Case, more: str) -> Iterator[str]:
    """What was named beside the candidate must be named again: an attack that may use the original is another."""
    for other in case.report.beside:
        name, place = other.role.removeprefix("control:"), case.report.provenance.get(other.role)
        control = case.policy.controls.get(name)
        if other.role == "original":
            option, value = "--original", f" {place or 'ORIGINAL'}"
        elif control is not None and control.kind == "earlier_release":
            option, value = f"--anchor {name}", "=REPORT"
        else:
            option, value = f"--control {name}", f"={place or 'DIR'}"
        if option not in more:
            yield option + value
