"""The case: one report, what is looked up in it, and the step that a piece of advice comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustness_gate.ledger import OWN
from robustness_gate.nouns import Block, Finding, Mark
from robustness_gate.policy import Policy
from robustness_gate.report import Record, Report


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


def own(case: Case) -> list[Record]:
    """Trials of the candidate under attack, planned or not."""
    return [record for record in case.report.trials if record.trial.role == "candidate"]


def with_shams(case: Case) -> list[Record]:
    """The same, and its trials at strength zero."""
    return [record for record in case.report.trials if record.trial.role in OWN]


def beside(case: Case) -> set[str]:
    """Roles of the models that were examined for comparison: `original`, `control:NAME`."""
    return {each.role for each in case.report.beside}


def hazard(case: Case) -> list[Finding]:
    """Findings that bound the accuracy on a hazard task itself."""
    return [finding for finding in case.report.verdict.findings if finding.hazard]


def blocks(case: Case, code: str) -> list[Block]:
    """What stands in the way of a PASS, of one kind."""
    return [block for block in case.report.verdict.blocks if block.code == code]


def record_of(case: Case, finding: Finding) -> Record | None:
    """The trial that a finding is about; None in a report that was put together from pieces."""
    return next((record for record in case.report.trials if record.id == finding.trial), None)


def mark_of(case: Case, finding: Finding) -> Mark | None:
    """The mark that a finding is about; None as above."""
    record = record_of(case, finding)
    address = (finding.attempt, finding.mark, finding.task)
    return next((m for m in record.marks if (m.attempt, m.mark, m.task) == address), None) if record else None
