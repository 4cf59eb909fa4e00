"""What to do about a finding that is within its limit and may not acquit: too weak an attack, too rough, or another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from robustness_gate.advice.case import Case, Step, hazard, mark_of, record_of
from robustness_gate.advice.commands import again
from robustness_gate.advice.instruments import UNADVISED
from robustness_gate.advice.numbers import UNREAD, unread_answers
from robustness_gate.advice.words import named, short
from robustness_gate.nouns import Finding, Mark
from robustness_gate.report import Record
from robustness_gate.verdict import BELOW_CHANCE
from robustness_gate.verdict.court import NOT_AIMED

WIDER = 4
"""By how much a learning-rate grid is widened at either end: about the step of the default grid."""
TOLD_ELSEWHERE = ("strength floor", "the attempt", BELOW_CHANCE)
"""How doubts begin that have their step from `weak`, `trials` or `numbers`."""


NOT_THE_SAME = (
    "is not the one that the policy pins",
    "and the policy pins",
    "the policy does not pin",
    "the policy pins",
    "other questions of",
    "was not asked",
    "does not ask",
    "the trial names",
)
"""What stands in doubts about a policy and a suite that speak of two things."""


def weak(case: Case) -> Iterator[Step]:
    """A floor that was missed: the attack did too little for its silence to mean anything."""
    told: set[str] = set()
    for finding, record, mark in _doubted(case):
        missed = [f for f in record.trial.floors if not any(b.holds(mark.signs) for b in f.any_of)]
        if not missed or finding.attack in told:
            continue
        told.add(finding.attack)
        signs = {bound.sign for floor in missed for bound in floor.any_of}
        seen = ", ".join(f"{sign} {short(mark.signs.get(sign, 'missing'))}" for sign in sorted(signs))
        if "share_of_asked" in signs:
            do = (
                "It reaches too few of this architecture's weights. robustness-gate doctor CHECKPOINT --suite SUITE "
                "tells the share that each attack reaches; let the policy require one that reaches them."
            )
        elif rates := _learning_rates(record):
            wider = ", ".join(short(rate) for rate in (rates[0] / WIDER, *rates, rates[-1] * WIDER))
            do = (
                "Widen its grid in the suite, and raise `min_steps` if that is not enough: "
                f"learning_rates: [{wider}]. Only this attack runs again."
            )
        elif "--original" in missed[0].says:
            do = "Name the model before unlearning, `--original ORIGINAL`, or let the suite ask for fewer kinds."
        else:
            do = (
                "Raise its strength or budget in the suite; if that is not what it lacks, robustness-gate doctor "
                "CHECKPOINT --suite SUITE says how it fits this model. Only this attack runs again."
            )
        yield Step(
            f"{named(finding, capital=True)} was too weak to acquit: it is asked that {missed[0].says} ({seen}).",
            do,
            again(case),
        )


def doubtful(case: Case) -> Iterator[Step]:
    """Every other doubt, once an attack and kind."""
    told: set[tuple[str, str]] = set()
    for finding, record, _ in _doubted(case):
        for doubt in finding.doubts:
            kind = finding.attack, doubt.split(":", 1)[0]
            if kind not in told:
                told.add(kind)
                yield from _cure(case, finding, record, doubt)


def _cure(case: Case, finding: Finding, record: Record, doubt: str) -> Iterator[Step]:
    """At most one step. Doubts are known by their words (`verdict.court`)."""
    if doubt.startswith("the model is destroyed"):
        if any(f.unanswered and f"on '{f.task}'" in doubt for f in case.report.verdict.findings):
            return  # no gentler setting helps where nobody can answer: told first, by `numbers.cannot_answer`
        rates = _learning_rates(record)
        gentler = f", e.g. add the learning rate {short(rates[0] / WIDER)}" if rates and rates[0] else ""
        yield Step(
            f"After {named(finding)} {doubt}: a ruined model can convict, not acquit.",
            f"Give the attack a gentler setting to choose{gentler}. Only this attack runs again.",
            again(case),
        )
    elif doubt.endswith(UNREAD):
        yield unread_answers(case, finding, doubt)
    elif "were tried, the policy asks for" in doubt or "tried from" in doubt or "at the edge" in doubt:
        yield Step(
            f"{named(finding, capital=True)}: {doubt}.",
            "Widen its grid in the suite as far as the policy asks. Only this attack runs again.",
            again(case),
        )
    elif doubt.startswith("the seed is not") or doubt.startswith("the trial does not plan"):
        yield Step(
            f"{named(finding, capital=True)}: {doubt}.",
            "No plan of this gate makes such a trial, so it may convict and not acquit. Give the same command again: "
            "it plans the trial as it must be, and runs it.",
            again(case),
        )
    elif doubt.startswith(NOT_AIMED):
        yield Step(
            f"{named(finding, capital=True)} trained and chose in other forms than that of '{finding.task}', on which "
            f"the limit '{finding.rule}' is: what it did not bring back there may come back when it is asked this way.",
            f"Name {finding.task} under `hazard` in the suite. All attacks run again, in its form too.",
            again(case),
        )
    elif doubt.endswith("do not fit the context and lost what the attack adds"):
        yield Step(
            f"{named(finding, capital=True)}: {doubt}.",
            "Shorten what it puts before the question (fewer shots, a shorter prefix), leave the longest questions out "
            "(`subset`), or require an attack that adds nothing. Only this attack runs again.",
            again(case),
        )
    elif any(words in doubt for words in NOT_THE_SAME):
        yield Step(f"{named(finding, capital=True)}: {doubt}.", "Let policy and suite name the same.", again(case))
    elif not doubt.startswith(TOLD_ELSEWHERE):
        yield Step(f"{named(finding, capital=True)}: {doubt}.", UNADVISED)


def _doubted(case: Case) -> Iterator[tuple[Finding, Record, Mark]]:
    """Findings of planned trials that are within their limit and may not acquit."""
    for finding in hazard(case):
        record, mark = record_of(case, finding), mark_of(case, finding)
        if finding.state == "under" and finding.doubts and record and record.planned and mark:
            yield finding, record, mark


def _learning_rates(record: Record) -> list[Any]:
    """The attack's grid, rising; empty where it has none."""
    rates = record.trial.config.get("learning_rates")
    return rates if isinstance(rates, list) else []
