"""What to do about a number that does not decide.

On the wrong side of its limit no more of the same makes a PASS of it: unlearn anew. On the right side more questions
narrow its bounds, and leave it where it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from robustness_gate.advice.case import Case, Step, hazard, mark_of
from robustness_gate.advice.commands import again, on_a_new_checkpoint, with_new_ledgers
from robustness_gate.advice.questions import MOST_ITEMS, items_to_acquit, items_to_convict
from robustness_gate.advice.words import apart, listed, named, others
from robustness_gate.nouns import Finding
from robustness_gate.verdict import BELOW_CHANCE
from robustness_gate.verdict.court import NOTHING_TO_LOSE, UNDECLARED_SHARE

UNREAD = "have no finite answer"
"""How a doubt ends where more answers are missing than the policy lets pass (`verdict.court`)."""


def unread_answers(case: Case, finding: Finding, doubt: str) -> Step:
    """Answers that are not numbers, or questions that never arrived: each counts as right where a hazard is bounded."""
    mark = mark_of(case, finding)
    if mark is not None and mark.lost:
        return Step(
            f"After {named(finding)}, {doubt}: the tokenizer or the context loses part of {listed(mark.lost)}.",
            "A question that does not arrive shows nothing. robustness-gate doctor CHECKPOINT --suite SUITE --original "
            "ORIGINAL says what this tokenizer does that the original's does not. If the original loses them too, let "
            "the suite leave them out (`subset`).",
        )
    return Step(
        f"After {named(finding)}, {doubt}.",
        "Let the suite compute in `dtype: float32`, and look whether the checkpoint itself is whole: "
        "robustness-gate doctor CHECKPOINT.",
    )


def cannot_answer(case: Case) -> Iterator[Step]:
    """Questions put in a form in which nobody answers: there is no number to mend, neither by rerun nor by training."""
    for finding in (f for f in case.report.verdict.findings if f.unanswered):
        because = f"{finding.doubts[-1][:1].upper()}{finding.doubts[-1][1:]}."
        form = (
            "in another kind of task (`cloze` asks for an answer's words instead of its letter, and suits small "
            "models). robustness-gate doctor CHECKPOINT --suite SUITE --original ORIGINAL tells beforehand what they "
            "can answer."
        )
        if finding.unanswered == "by_original":
            yield Step(
                because,
                f"Neither what unlearning cost nor what is still known can be seen this way. Ask '{finding.task}', and "
                f"the hazard too if it is asked so, {form}",
            )
        else:
            yield Step(
                because,
                "Name the model before unlearning; it is asked once, with no attack. If it answers, unlearning ruined "
                f"this one. If it cannot answer either, ask {form}",
                again(case, more="--original ORIGINAL"),
            )
    for finding in (f for f in case.report.verdict.findings if NOTHING_TO_LOSE in f.doubts):
        yield Step(
            f"'{finding.rule.removeprefix('guardrail:')}' holds the model beside the original on '{finding.task}', and "
            f"{NOTHING_TO_LOSE}.",
            "Let the guardrail be on a task, or a form, that the original can answer.",
        )


def below_chance(case: Case) -> Iterator[Step]:
    """Answers that are wrong too often for somebody who does not know."""
    inverted = [f for f in hazard(case) if BELOW_CHANCE in f.doubts]
    if inverted:
        worst = min(inverted, key=lambda f: f.observed)
        yield Step(
            f"After {named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', significantly less than "
            "by guessing: it knows what to avoid.",
            "No rerun cures this. Unlearn anew, towards chance and not below it, and run the whole suite.",
            on_a_new_checkpoint(case),
        )


def too_far_apart(case: Case) -> Iterator[Step]:
    """A difference from another model that is itself as large as its limit."""
    for finding in (f for f in _open(case) if f.over and not _on_the_right_side(f)):
        how = "further" if finding.over.startswith("control:") else "more gently"
        yield Step(
            f"{named(finding, capital=True)}: {apart(finding)}, and at most {finding.limit:.0%} is allowed.",
            f"No number of questions makes a PASS of that difference. Unlearn {how}, then run the whole suite on the "
            "new checkpoint.",
            on_a_new_checkpoint(case),
        )


def too_high(case: Case) -> Iterator[Step]:
    """An accuracy at or over its limit, though not yet beyond chance."""
    over = [f for f in _open(case) if f.hazard and not _on_the_right_side(f)]
    if over:
        worst = max(over, key=lambda f: (f.observed - f.limit, f.attack, f.mark))
        extra = case.policy.statistics.alpha_fail_extra / UNDECLARED_SHARE
        alpha = case.report.verdict.alpha_cell if worst.declared else extra
        betting = case.policy.statistics.fail_fast == "betting"  # whose bound no count of questions foretells
        needed = None if betting else items_to_convict(worst.observed, worst.limit, alpha, _effect(case, worst))
        proof = f"; about {needed:,} questions would prove a FAIL" if needed else ""
        yield Step(
            f"After {named(worst)} the model answers {worst.observed:.1%} of '{worst.task}', and the limit is "
            f"{worst.limit:.0%}{others(over)}.",
            f"No number of questions makes a PASS of that accuracy{proof}. Unlearn further, then run the whole suite "
            "on the new checkpoint.",
            on_a_new_checkpoint(case),
        )


def too_few_questions(case: Case) -> Iterator[Step]:
    """Open, though on the right side: more questions would decide it. The hardest accuracy says how many."""
    cells: list[tuple[int, Finding]] = []
    for finding in _open(case):
        if _on_the_right_side(finding):
            if unread := next((each for each in finding.doubts if each.endswith(UNREAD)), None):
                yield unread_answers(case, finding, unread)
            elif finding.over:
                yield _too_few_pairs(case, finding)
            else:
                cells.append((_needed(case, finding) or MOST_ITEMS + 1, finding))
        elif _is_utility(finding):  # the others were told above
            yield Step(
                f"The untouched model answers {finding.observed:.1%} of '{finding.task}', where at least "
                f"{finding.limit:.0%} must be shown.",
                "No number of questions makes that accuracy enough. Unlearn more gently.",
            )
    if cells:
        needed, hardest = max(cells, key=lambda each: (each[0], each[1].attack, each[1].mark))
        side, bound = ("lower", hardest.lower) if _is_utility(hardest) else ("upper", hardest.upper)
        yield _more_questions(
            case,
            hardest,
            f"{named(hardest, capital=True)} leaves {hardest.observed:.1%} of '{hardest.task}' right, {side} bound "
            f"{bound:.1%}, limit {hardest.limit:.0%}{others([finding for _, finding in cells])}",
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
        "the policy. On this ledger the answers so far stay open, whatever comes after them: more questions decide "
        "about the next checkpoint, and about this one on new --ledgers alone, with these kept for whoever asks.",
        with_new_ledgers(case),
    )


def _needed(case: Case, finding: Finding) -> int | None:
    """How many questions would acquit. A utility is shown from the other side: share wrong under 1 - min."""
    observed, limit = finding.observed, finding.limit
    if _is_utility(finding):
        observed, limit = 1 - observed, 1 - limit
    return items_to_acquit(observed, limit, case.policy.statistics.alpha_pass, _effect(case, finding))


def _so_many(needed: int) -> str:
    return f"about {needed:,}" if needed <= MOST_ITEMS else f"more than {MOST_ITEMS:,}"


def _open(case: Case) -> Iterator[Finding]:
    return (finding for finding in case.report.verdict.findings if finding.state == "open" and not finding.unanswered)


def _on_the_right_side(finding: Finding) -> bool:
    """Whether more of the same answers would make a PASS of it."""
    return finding.observed > finding.limit if _is_utility(finding) else finding.observed < finding.limit


def _is_utility(finding: Finding) -> bool:
    return finding.rule.startswith("utility:")


def _effect(case: Case, finding: Finding) -> float:
    pin = case.policy.tasks.get(finding.task)
    return pin.design_effect if pin else 1.0
