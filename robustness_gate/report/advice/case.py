"""The case: one report with lookups, and the step, which is one piece of advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robustness_gate.evidence.ledger import OWN
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import Finding
from robustness_gate.report.record import Report, TrialRecord


@dataclass(frozen=True)
class Step:
    """One thing to do, with its reason."""

    because: str
    do: str
    command: str = ""


@dataclass(frozen=True)
class Case:
    """The input of every piece of advice."""

    report: Report
    policy: Policy
    """The report's own policy, spelled out: the ratchet and each format as separate rules."""
    out: str
    """The run's folder, for the commands."""
    attacks: Mapping[str, str]
    """Every attack that this gate has, with a description; empty if they are not known."""
    untestable: Mapping[str, str] = field(default_factory=dict)
    """Required attacks, by label, that cannot have a self-test on this architecture, with the reason."""


def own(case: Case) -> list[TrialRecord]:
    """Trials with the role `candidate`, planned or not."""
    return [record for record in case.report.trials if record.trial.role == Role.CANDIDATE]


def with_shams(case: Case) -> list[TrialRecord]:
    """All trials of the candidate itself, shams included."""
    return [record for record in case.report.trials if record.trial.role in OWN]


def comparators(case: Case) -> set[tuple[Role, str]]:
    """The models that were examined for comparison, each by its role and a control's name."""
    return {(each.role, each.control) for each in case.report.comparators}


def source_of(case: Case, role: Role, control: str = "", *, base: bool = False) -> str | None:
    """The source of a model of the run, if the report has it."""
    found = (each for each in case.report.provenance if (each.role, each.control, each.base) == (role, control, base))
    return next((each.source for each in found), None)


def hazard(case: Case) -> list[Finding]:
    """Findings with bounds on the accuracy of a hazard task."""
    return [finding for finding in case.report.verdict.findings if finding.hazard]


def record_of(case: Case, finding: Finding) -> TrialRecord | None:
    """The trial of a finding; None in an incomplete report."""
    return next((record for record in case.report.trials if record.id == finding.trial), None)


def measurement_of(case: Case, finding: Finding) -> Measurement | None:
    """The measurement of a finding; None in an incomplete report."""
    record = record_of(case, finding)
    address = (finding.attempt, finding.budget, finding.task)
    return next((m for m in record.measurements if (m.attempt, m.budget, m.task) == address), None) if record else None
