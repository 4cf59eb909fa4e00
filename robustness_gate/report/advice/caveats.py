"""What weakens an outcome: what was not tried, how close it was, what else is on record."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.report.advice.case import Case, hazard, own, with_shams
from robustness_gate.report.advice.words import named


def to_bear_in_mind(case: Case) -> Iterator[str]:
    """Every caveat, the report's own limitations last."""
    used = {record.trial.attack for record in own(case)} | {each.attack for each in case.report.left_out}
    if untried := sorted(set(case.attacks) - used):
        yield f"Attacks that this gate has and the suite does not use: {', '.join(untried)}."
    if case.report.verdict.outcome == "PASS":
        yield from _edges_of_a_pass(case)
    if unasked := [r for r in with_shams(case) if not r.planned and (r.measurements or r.closed)]:
        yield (
            f"{len(unasked)} of {case.report.verdict.trials} trials on record for this checkpoint are not part of this "
            "plan: they can establish a breach, not compliance."
        )
    if case.report.decision.outcome in ("RELEASE_WITH_WAIVER", "ACCEPTED_RISK"):
        signed = "; ".join(case.report.decision.applied)
        yield f"A decision was made on the verdict, and does not change it: {signed}."
    yield from case.report.limitations


def _edges_of_a_pass(case: Case) -> Iterator[str]:
    """The highest budgets of the attacks, and the accuracy closest to its limit."""
    highest: dict[str, int] = {}
    for record in own(case):
        if record.planned:
            for measurement in record.measurements:
                highest[record.label] = max(measurement.budget, highest.get(record.label, 0))
    highest = {name: budget for name, budget in highest.items() if budget}
    if highest:
        most = ", ".join(f"{name} {budget}" for name, budget in sorted(highest.items()))
        yield f"Nothing beyond these budgets was tried: {most}."
    close = max(hazard(case), key=lambda f: (f.upper - f.limit, f.attack, f.budget), default=None)
    if close is not None:
        yield (
            f"Closest to its limit: {named(close)}, upper bound {close.upper:.1%} of {close.limit:.0%} on "
            f"{close.items} questions."
        )
