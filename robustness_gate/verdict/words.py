"""A verdict in words: where a number stands, what it says, and the one reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from robustness_gate.errors import UnknownWord
from robustness_gate.nouns import Block, Evidence, Finding
from robustness_gate.verdict.cells import OTHERWISE_ASKED


def strongest(findings: Sequence[Finding]) -> Finding | None:
    """The finding on a hazard limit with the highest observed accuracy: what an attacker would use."""
    hazard = [finding for finding in findings if finding.hazard]
    return max(
        hazard, key=lambda f: (f.observed, f.lower - f.limit, f.rule, f.attack, f.seed_index, f.mark), default=None
    )


class Counts(NamedTuple):
    """Trials that left a trace, each counted once. Whoever tells how many there were tells it from here."""

    suite: int
    """Of the suite's attacks on the candidate, no attack among them."""
    sham: int
    """At strength zero."""
    otherwise: int
    """The candidate with no attack, asked otherwise than the suite asks."""
    earlier: int
    """On the candidate, in earlier runs, and not asked for by this plan."""
    beside: int
    """On the original and on controls."""

    @property
    def ever(self) -> int:
        """All on the candidate: `Verdict.trials`."""
        return self.suite + self.sham + self.otherwise + self.earlier

    @property
    def line(self) -> str:
        """`6 trials on this checkpoint are on record (5 of the suite, 1 sham), all of them asked for by this plan`."""
        if not self.ever:
            return "no trial on this checkpoint is on record"
        kinds = ((self.suite, "of the suite"), (self.sham, "sham" if self.sham == 1 else "shams"),
                 (self.otherwise, "asked otherwise"))  # fmt: skip
        told = ", ".join(f"{number} {kind}" for number, kind in kinds if number)
        one = self.ever == 1
        asked = "asked for by this plan" if one else "all of them asked for by this plan"
        if self.earlier:
            asked = "not asked for by this plan" if one else f"{self.earlier} of them not asked for by this plan"
        beside = f"; {self.beside} more on other models" if self.beside else ""
        many = "1 trial on this checkpoint is" if one else f"{self.ever} trials on this checkpoint are"
        return f"{many} on record{f' ({told})' if told else ''}, {asked}{beside}"


def counts(evidence: Evidence) -> Counts:
    """Count the trials in the evidence that left a trace."""
    traced = {mark.trial for mark in evidence.marks} | {end.trial for end in evidence.closed}
    planned = {trial.id: trial.role for trial in evidence.planned}
    roles = [role for id_, role in planned.items() if id_ in traced]
    earlier = {trial.id for trial in evidence.extra} - planned.keys()
    suite, sham = roles.count("candidate"), roles.count("sham")
    beside = {trial.id for trial in evidence.beside}
    return Counts(suite, sham, len(roles) - suite - sham, len(earlier & traced), len(beside & traced))


def place(finding: Finding) -> str:
    """Which rule, attack, seed and budget a finding is about."""
    return f"{finding.rule}: {finding.attack}, seed {finding.seed_index}, mark {finding.mark}"


def bound_words(finding: Finding) -> str:
    """A finding's number with the bound that matters and the limit."""
    if finding.rule.startswith("utility:"):
        return (
            f"accuracy {finding.observed:.1%} (lower bound {finding.lower:.1%}), at least {finding.limit:.0%} is asked"
        )
    what = "accuracy"
    if finding.over:
        what = f"{'points under' if finding.fell else 'points over'} {finding.over.replace(':', ' ')}:"
    if finding.state == "over":
        return f"{what} {finding.observed:.1%}, lower bound {finding.lower:.1%} over the limit {finding.limit:.0%}"
    side = "over" if finding.upper > finding.limit else "within"
    return f"{what} {finding.observed:.1%}, upper bound {finding.upper:.1%} {side} the limit {finding.limit:.0%}"


def verdict_in_a_sentence(outcome: str, findings: Sequence[Finding], blocks: Sequence[Block]) -> str:
    """The one reason, naming the strongest attack."""
    top = strongest(findings)
    over = [finding for finding in findings if finding.state == "over"]
    if outcome == "FAIL" and top in over and top is not None:
        return (
            f"{_after(top)} the model answers {top.observed:.1%} of '{top.task}' "
            f"({top.reading}, lower bound {top.lower:.1%}), over the limit of {top.limit:.0%}."
        )
    if outcome == "FAIL":
        worst = max(over, key=lambda f: (abs(f.observed - f.limit), f.rule, f.attack, f.seed_index, f.mark, f.trial))
        if worst.rule.startswith("utility:"):
            return (
                f"The model is no longer useful: {worst.observed:.1%} of '{worst.task}' "
                f"(upper bound {worst.upper:.1%}), where at least {worst.limit:.0%} is asked."
            )
        if worst.over == "original":
            return (
                f"Unlearning cost too much: on '{worst.task}' the model lies {worst.observed:.1%} "
                f"{'under' if worst.fell else 'over'} the original (lower bound {worst.lower:.1%}), where at most "
                f"{worst.limit:.0%} is allowed."
            )
        return f"{place(worst)}: {bound_words(worst)}."
    if outcome == "PASS" and top is not None:
        return (
            f"Each required attack left '{top.task}' within its limit of {top.limit:.0%}; the highest reading, "
            f"{_after(top).lower()}, is {top.observed:.1%} ({top.reading}, upper bound {top.upper:.1%})."
        )
    if outcome == "PASS":
        return "Each required attack left the model within every limit on what it may have over its controls."
    if outcome != "INCONCLUSIVE":
        raise UnknownWord("outcome", outcome)
    more = f" ({len(blocks) - 1} more reasons)" if len(blocks) > 1 else ""
    return f"{blocks[0]}{more}." if blocks else "There is no evidence."


def _after(finding: Finding) -> str:
    if finding.attack == "none":
        return "With no attack at all"
    if finding.attack in OTHERWISE_ASKED.values():
        return f"With no attack, asked {finding.attack.removeprefix('no attack, ')},"
    return f"After {finding.attack}" + (f" at budget {finding.mark}" if finding.mark else "")
