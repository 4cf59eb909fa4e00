"""The report of an earlier release, whose records the policy compares with as those of a control."""

from __future__ import annotations

from pathlib import Path

from robustness_gate.errors import PlanError
from robustness_gate.inputs.digest import sha256_file
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.report.reading import file_of, read
from robustness_gate.report.record import as_control
from robustness_gate.system.sentences import nearest


def anchor(policy: Loaded[Policy], name: str, path: Path) -> list[Trial | Measurement | Closed]:
    """The records of an earlier release, as records of a control.

    Raises:
        PlanError: the policy has no such control, or pins another report.
    """
    control = policy.record.controls.get(name)
    if control is None or control.kind != "earlier_release":
        known = [each for each, c in policy.record.controls.items() if c.kind == "earlier_release"]
        raise PlanError(
            f"the policy has no earlier release '{name}'.",
            remedy=nearest(name, known) if known else "Add it under 'controls'.",
            where=policy.where("controls"),
        )
    found = read(path)
    if sha256_file(file_of(path)) != control.report_sha256:
        raise PlanError(
            f"the policy pins another report of '{name}': this one has {sha256_file(file_of(path))}.",
            remedy="Name the report that the policy names.",
            where=policy.where("controls", name, "report_sha256"),
        )
    return as_control(found, name)
