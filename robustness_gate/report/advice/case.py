"""The case: one report, what is looked up in it, and the step that a piece of advice comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustness_gate.evidence.ledger import OWN
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Measurement, Role
from robustness_gate.records.verdict import Finding
from robustness_gate.report.record import Report, TrialRecord


@dataclass(frozen=True)
class Step:
    """One thing to do, and why it comes here."""

    because: str
    do: str
    command: str = ""


@dataclass(frozen=True)
class Case:
    """What every piece of advice is made from."""

    report: Report
    policy: Policy
    """The report's own, spelled out: each ratchet and each format as rules of their own."""
    out: str
    """The run's folder, for the commands."""
    attacks: Mapping[str, str]
    """Every attack that this gate has, with what it does in a sentence; empty where nobody told."""


def own(case: Case) -> list[TrialRecord]:
    """Trials of the candidate under attack, planned or not."""
    return [record for record in case.report.trials if record.trial.role == Role.CANDIDATE]


def with_shams(case: Case) -> list[TrialRecord]:
    """The same, and its trials at strength zero."""
    return [record for record in case.report.trials if record.trial.role in OWN]


def beside(case: Case) -> set[tuple[Role, str]]:
    """The models that were examined for comparison, each by its role and a control's name."""
    return {(each.role, each.control) for each in case.report.comparators}


def source_of(case: Case, role: Role, control: str = "", *, base: bool = False) -> str | None:
    """Where a model of the run came from, if the report says so."""
    told = (each for each in case.report.provenance if (each.role, each.control, each.base) == (role, control, base))
    return next((each.source for each in told), None)


def hazard(case: Case) -> list[Finding]:
    """Findings that bound the accuracy on a hazard task itself."""
    return [finding for finding in case.report.verdict.findings if finding.hazard]


def record_of(case: Case, finding: Finding) -> TrialRecord | None:
    """The trial that a finding is about; None in a report that was put together from pieces."""
    return next((record for record in case.report.trials if record.id == finding.trial), None)


def measurement_of(case: Case, finding: Finding) -> Measurement | None:
    """The measurement that a finding is about; None as above."""
    record = record_of(case, finding)
    address = (finding.attempt, finding.budget, finding.task)
    return next((m for m in record.measurements if (m.attempt, m.budget, m.task) == address), None) if record else None
