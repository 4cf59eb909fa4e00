"""What a report means for the person who has to act on it: why, what the attacker did, and the cheapest next thing.

    attacker     what the attacker did: the strongest attack, and the cheapest breach
    steps        what to do next, by outcome; after an INCONCLUSIVE by the codes of the blockers, in a fixed order
    numbers      about a number that does not decide
    questions    how many questions would
    trials       about a trial that did not end well
    issues       about a finding with a validity issue
    instruments  about self-test, shams, positive control and red flags
    terms        about the policy's dates, rules, controls and statements
    caveats      what was not tried, and what else weakens the outcome
    case         the report, and what is looked up in it
    commands     the command to give next
    words        how all of these call a thing

`advise` is pure: a report in, words and numbers out, and the same words every time. It reads the structured evidence
and the codes of the verdict, and it never says how a number could be made to look better: more questions, a
wider grid or a rerun are offered only where the rule itself would accept what comes of them. It believes the report;
whether the report is true is for others to check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustness_gate.report.advice.attacker import Tried, cheapest_breach, tried
from robustness_gate.report.advice.case import Case, Step
from robustness_gate.report.advice.caveats import to_bear_in_mind
from robustness_gate.report.advice.instruments import FLAGGED
from robustness_gate.report.advice.issues import WIDER
from robustness_gate.report.advice.questions import items_to_acquit, items_to_convict
from robustness_gate.report.advice.steps import next_steps
from robustness_gate.report.record import Report
from robustness_gate.verdict import spelled_out, strongest

__all__ = [
    "FLAGGED",
    "WIDER",
    "Advice",
    "Step",
    "Tried",
    "advise",
    "items_to_acquit",
    "items_to_convict",
]


@dataclass(frozen=True)
class Advice:
    """Everything that `why` says."""

    outcome: str
    why: str
    strongest: Tried | None
    cheapest_breach: Tried | None
    """The breach that cost the attacker least, where it is another than the strongest."""
    steps: tuple[Step, ...]
    """What to do, the cheapest useful thing first; never empty."""
    caveats: tuple[str, ...]
    """What was not tried, and what else weakens the outcome."""


def advise(report: Report, *, out: str = "OUT", attacks: Mapping[str, str] | None = None) -> Advice:
    """Say why the verdict is what it is and what to do next.

    Args:
        report: the gate's report.
        out: the run's folder, for the commands.
        attacks: every attack that this gate has, with what it does in a sentence; without them nothing is said of
            attacks that were not tried.
    """
    case = Case(report, spelled_out(report.resolved), out, attacks or {})
    top, breach = strongest(report.verdict.findings), cheapest_breach(case)
    return Advice(
        outcome=report.verdict.outcome,
        why=report.reason,
        strongest=tried(case, top) if top else None,
        cheapest_breach=tried(case, breach) if breach and breach != top else None,
        steps=next_steps(case),
        caveats=tuple(to_bear_in_mind(case)),
    )
