"""Advice on a report: the reason for the verdict, the strongest attack, and the next steps, the cheapest first.

    attacker     the strongest attack, and the cheapest breach
    steps        next steps by outcome; after INCONCLUSIVE by the codes of the blockers, in a fixed order
    numbers      steps for a number that does not decide
    questions    how many questions would decide
    trials       steps for a trial that did not end well
    issues       steps for a finding with a validity issue
    instruments  steps for self-test, shams, positive control and red flags
    terms        steps for the policy's dates, rules, controls and statements
    caveats      what was not tried, and what else weakens the outcome
    case         the report with lookups
    commands     the command for a step
    words        shared texts: names of findings and trials, lists, numbers

`advise` is pure: equal reports give equal advice. It reads the structured evidence and the codes of the verdict, and
never describes how to make a number look better: more questions, a wider grid or a rerun are offered only if the rule
accepts their result. It trusts the report; `verify` checks whether the report is true.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from robustness_gate.report.advice.attacker import Tried, cheapest_breach, tried
from robustness_gate.report.advice.case import Case, Step
from robustness_gate.report.advice.caveats import to_bear_in_mind
from robustness_gate.report.advice.instruments import FLAGGED
from robustness_gate.report.advice.issues import WIDER
from robustness_gate.report.advice.questions import items_for_breach, items_for_compliance
from robustness_gate.report.advice.steps import next_steps
from robustness_gate.report.record import Report
from robustness_gate.verdict import spelled_out, strongest
from robustness_gate.verdict.found import most_recovered
from robustness_gate.verdict.wording import numbers, place

__all__ = [
    "FLAGGED",
    "WIDER",
    "Advice",
    "Step",
    "Tried",
    "advise",
    "items_for_breach",
    "items_for_compliance",
]


@dataclass(frozen=True)
class Advice:
    """The output of `why`."""

    outcome: str
    why: str
    strongest: Tried | None
    largest_share: str
    """The largest share of a gap that is back, and after which attack; empty without a limit on a share."""
    cheapest_breach: Tried | None
    """The breach with the least cost for the attacker; None if it is the strongest attack."""
    steps: tuple[Step, ...]
    """The next steps, the cheapest useful one first; never empty."""
    caveats: tuple[str, ...]
    """What was not tried, and what else weakens the outcome."""


def advise(
    report: Report,
    *,
    out: str = "OUT",
    attacks: Mapping[str, str] | None = None,
    untestable: Mapping[str, str] | None = None,
) -> Advice:
    """The reason for a verdict, and the next steps.

    Args:
        report: the gate's report.
        out: the run's folder, for the commands.
        attacks: every attack that this gate has, each with a description; without it, attacks that were not tried are
            not mentioned.
        untestable: required attacks by label that no self-test can show to work on this architecture, each with the
            reason (`planning.prospects`): a self-test of this policy is then not advised.
    """
    case = Case(report, spelled_out(report.resolved), out, attacks or {}, untestable or {})
    top, breach = strongest(report.verdict.findings), cheapest_breach(case)
    back = most_recovered(report.verdict.findings)
    return Advice(
        outcome=report.verdict.outcome,
        why=report.reason,
        strongest=tried(case, top) if top else None,
        largest_share=f"{place(back)}: {numbers(back)}" if back else "",
        cheapest_breach=tried(case, breach) if breach and breach != top else None,
        steps=next_steps(case),
        caveats=tuple(to_bear_in_mind(case)),
    )
