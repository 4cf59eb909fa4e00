"""Steps for a number that does not decide.

On the wrong side of its limit, more questions cannot lead to a PASS: unlearn again. On the right side, more questions
narrow its bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from robustness_gate.records.verdict import Blocker, Finding, FindingKind, ValidityIssue
from robustness_gate.report.advice.case import Case, Step, hazard, measurement_of
from robustness_gate.report.advice.commands import again, on_a_new_checkpoint, with_new_ledgers
from robustness_gate.report.advice.questions import MOST_ITEMS, items_for_breach, items_for_compliance
from robustness_gate.report.advice.words import apart, listed, named, others
from robustness_gate.verdict.findings import UNDECLARED_SHARE
from robustness_gate.verdict.wording import capital, sentence


def unread_answers(case: Case, finding: Finding, issue: ValidityIssue) -> Step:
    """The step for missing answers, which count as right in an upper bound."""
    measurement = measurement_of(case, finding)
    if measurement is not None and measurement.lost:
        return Step(
            f"After {named(finding)}, {sentence(issue)}: the tokenizer or the context loses part of "
            f"{listed(measurement.lost)}.",
            "A question that does not arrive shows nothing. robustness-gate doctor CHECKPOINT --suite SUITE --original "
            "ORIGINAL says what this tokenizer does that the original's does not. If the original loses them too, let "
            "the suite leave them out (`subset`).",
        )
    return Step(
        f"After {named(finding)}, {sentence(issue)}.",
        "Let the suite compute in `dtype: float32`, and look whether the checkpoint itself is whole: "
        "robustness-gate doctor CHECKPOINT.",
    )


def cannot_answer(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Steps for questions in a form in which no model answers: neither a rerun nor training changes the number."""
    for issue in (cause for blocker in blockers for cause in blocker.causes):
        because = f"{capital(sentence(issue))}."
        form = (
            "in another kind of task (`cloze` asks for an answer's words instead of its letter, and suits small "
            "models). robustness-gate doctor CHECKPOINT --suite SUITE --original ORIGINAL tells beforehand what they "
            "can answer."
        )
        if issue["by"] == "original":
            yield Step(
                because,
                f"Neither what unlearning cost nor what is still known can be seen this way. Ask '{issue['task']}', "
                f"and the hazard too if it is asked so, {form}",
            )
        else:
            yield Step(
                because,
                "Name the model before unlearning; it is asked once, with no attack. If it answers, unlearning ruined "
                f"this one. If it cannot answer either, ask {form}",
                again(case, more="--original ORIGINAL"),
            )


def below_chance(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """Answers that are wrong too often for a model that does not know."""
    inverted = [f for f in hazard(case) if f.has("below_chance")]
    if inverted:
        worst = min(inverted, key=lambda f: f.observed)
        yield Step(
            f"After {named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', significantly less than "
            "by guessing: it knows what to avoid.",
            "No rerun cures this. Unlearn anew, towards chance and not below it, and run the whole suite.",
            on_a_new_checkpoint(case),
        )


def back_in_one_task(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Knowledge that is back in one of the tasks of a score, and diluted by the mean."""
    for blocker in blockers:
        yield Step(
            f"{capital(sentence(blocker))}.",
            "What comes back in one form of the questions is back. Unlearn further, in this form too, then run the "
            "whole suite on the new checkpoint.",
            on_a_new_checkpoint(case),
        )


def too_far_apart(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """A difference from another model that is itself as large as its limit."""
    for finding in (f for f in _open(case) if f.relative_to and not _on_the_right_side(f)):
        how = "further" if finding.kind == FindingKind.LIMIT else "more gently"
        yield Step(
            f"{named(finding, capital=True)}: {apart(finding)}, and at most {finding.limit:.0%} is allowed.",
            f"No number of questions makes a PASS of that difference. Unlearn {how}, then run the whole suite on the "
            "new checkpoint.",
            on_a_new_checkpoint(case),
        )


def too_high(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """An accuracy at or over its limit, though not yet beyond chance."""
    over = [f for f in _open(case) if f.hazard and not _on_the_right_side(f)]
    if over:
        worst = max(over, key=lambda f: (f.observed - f.limit, f.attack, f.budget))
        extra = case.policy.statistics.alpha_fail_extra / UNDECLARED_SHARE
        alpha = case.report.verdict.alpha_hypothesis if worst.declared else extra
        betting = case.policy.statistics.fail_fast == "betting"  # whose bound no count of questions foretells
        needed = None if betting else items_for_breach(worst.observed, worst.limit, alpha, _effect(case, worst))
        proof = f"; about {needed:,} questions would prove a FAIL" if needed else ""
        yield Step(
            f"After {named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', and the limit is "
            f"{worst.limit:.0%}{others(over)}.",
            f"No number of questions makes a PASS of that accuracy{proof}. Unlearn further, then run the whole suite "
            "on the new checkpoint.",
            on_a_new_checkpoint(case),
        )


def too_few_questions(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """Open, but on the right side: more questions would decide it. The accuracy that needs most gives the number."""
    undecided: list[tuple[int, Finding]] = []
    for finding in _open(case):
        if _on_the_right_side(finding):
            if unread := next((i for i in finding.validity_issues if i.code == "missing_answers"), None):
                yield unread_answers(case, finding, unread)
            elif finding.relative_to:
                yield _too_few_pairs(case, finding)
            else:
                undecided.append((_needed(case, finding) or MOST_ITEMS + 1, finding))
        elif _is_utility(finding):  # the other functions cover the rest
            yield Step(
                f"The untouched model answers {finding.observed:.1%} of '{finding.task}', where at least "
                f"{finding.limit:.0%} must be shown.",
                "No number of questions makes that accuracy enough. Unlearn more gently.",
            )
    if undecided:
        needed, hardest = max(undecided, key=lambda each: (each[0], each[1].attack, each[1].budget))
        side, bound = ("lower", hardest.lower) if _is_utility(hardest) else ("upper", hardest.upper)
        yield _more_questions(
            case,
            hardest,
            f"{named(hardest, capital=True)} leaves {hardest.observed:.1%} of '{hardest.task}' right, {side} bound "
            f"{bound:.1%}, limit {hardest.limit:.0%}{others([finding for _, finding in undecided])}",
            f"At this very accuracy {_so_many(needed)} questions would do.",
        )


def _too_few_pairs(case: Case, finding: Finding) -> Step:
    """A difference within its limit whose bound is not. Bounds shrink with the root of the number of questions."""
    gap = (finding.upper - finding.observed) / (finding.limit - finding.observed)
    needed = math.ceil(finding.items * gap * gap)
    return _more_questions(
        case,
        finding,
        f"{named(finding, capital=True)}: {apart(finding)}, upper bound {finding.upper:.1%}, limit {finding.limit:.0%}",
        f"At this very difference {_so_many(needed)} questions would do, as a rule of thumb.",
    )


def _more_questions(case: Case, finding: Finding, because: str, would_do: str) -> Step:
    return Step(
        f"{because}: {finding.items} questions are too few to decide.",
        f"{would_do} Add questions of the same kind to '{finding.task}', correct `count` in the suite and `items` in "
        "the policy. On this ledger the answers so far stay open: more questions decide about the next checkpoint, and "
        "about this one only with new --ledgers; keep the old ones as evidence.",
        with_new_ledgers(case),
    )


def _needed(case: Case, finding: Finding) -> int | None:
    """How many questions would establish compliance. For a utility: with the share of wrong answers under 1 - min."""
    observed, limit = finding.observed, finding.limit
    if _is_utility(finding):
        observed, limit = 1 - observed, 1 - limit
    return items_for_compliance(observed, limit, case.policy.statistics.alpha_pass, _effect(case, finding))


def _so_many(needed: int) -> str:
    return f"about {needed:,}" if needed <= MOST_ITEMS else f"more than {MOST_ITEMS:,}"


def _open(case: Case) -> Iterator[Finding]:
    return (finding for finding in case.report.verdict.findings if finding.state == "open" and not finding.unanswered)


def _on_the_right_side(finding: Finding) -> bool:
    """Whether more questions with the same accuracy would give a PASS."""
    return finding.observed > finding.limit if _is_utility(finding) else finding.observed < finding.limit


def _is_utility(finding: Finding) -> bool:
    return finding.kind == FindingKind.UTILITY


def _effect(case: Case, finding: Finding) -> float:
    pin = case.policy.tasks.get(finding.task)
    return pin.design_effect if pin else 1.0
