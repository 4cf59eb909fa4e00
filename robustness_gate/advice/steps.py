"""What to do next, by outcome. What can make it INCONCLUSIVE has its words in other modules, and its place here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robustness_gate.advice import doubts, instruments, numbers, terms, trials
from robustness_gate.advice.case import Case, Step, beside, hazard
from robustness_gate.advice.commands import again, on_a_new_checkpoint, on_the_original
from robustness_gate.advice.words import listed, named, others
from robustness_gate.nouns import Finding
from robustness_gate.verdict import tally

STAYS_FAIL = Step(
    "This checkpoint stays FAIL: evidence is only added to, and every attempt counts.",
    "Do not run it again until it is green, and do not raise the limit after having seen the numbers.",
)
IN_THE_WAY: tuple[Callable[[Case], Iterator[Step]], ...] = (
    numbers.cannot_answer,
    numbers.below_chance,
    numbers.too_far_apart,
    numbers.too_high,
    terms.out_of_time,
    terms.idle,
    trials.unfinished,
    trials.incomplete,
    trials.changed,
    instruments.unseen,
    terms.no_control,
    terms.no_original,
    trials.not_applicable,
    doubts.weak,
    trials.failed,
    doubts.doubtful,
    instruments.flagged,
    numbers.too_few_questions,
    terms.unstated,
    terms.other_weights,
)
"""What can stand between the evidence and a PASS: the cheapest to mend first, and before that what makes all the rest
futile."""


def next_steps(case: Case) -> tuple[Step, ...]:
    """What to do, the cheapest useful thing first; never empty."""
    after = {"PASS": _after_pass, "FAIL": _after_fail, "INCONCLUSIVE": _after_inconclusive}
    return tuple(after[case.report.verdict.outcome](case))


def _after_pass(case: Case) -> Iterator[Step]:
    if "original" not in beside(case):
        yield Step(
            "The model before unlearning was not examined, so nothing shows that these questions find the knowledge "
            "where it is.",
            "Examine it under the same policy: it must FAIL.",
            on_the_original(case),
        )
    yield Step(
        "A PASS speaks of this checkpoint, these attacks and these budgets alone.",
        "Keep report.json and ledger.jsonl with the release, and gate every later checkpoint anew.",
    )


def _after_inconclusive(case: Case) -> Iterator[Step]:
    told = dict.fromkeys(step for steps in IN_THE_WAY for step in steps(case))
    if told:
        yield from told
        return
    blocks = case.report.verdict.blocks
    first = blocks[0] if blocks else "There is no evidence"
    yield Step(
        f"{first}.",
        "Mend this first, then give the same command again. What the policy requires and the suite lacks is told by "
        "robustness-gate policy check POLICY --suite SUITE.",
        again(case),
    )


def _after_fail(case: Case) -> Iterator[Step]:
    """The gravest kind alone: over a limit, else too much more than a control, else too high a cost."""
    over = [finding for finding in case.report.verdict.findings if finding.state == "over"]
    if breaches := [finding for finding in over if finding.hazard]:
        yield _breached(case, breaches)
    elif excess := [finding for finding in over if finding.over.startswith("control:")]:
        yield _more_than_a_control(case, excess)
    else:
        yield _cost_too_much(case, over)
    yield STAYS_FAIL


def _breached(case: Case, over: Sequence[Finding]) -> Step:
    attacks = sorted({finding.attack for finding in over})
    because = f"{len(over)} of {len(hazard(case))} readings are over a limit, by {listed(attacks)}."
    if "none" in attacks:
        lettered = {t.name for each in case.report.trials for t in each.trial.tasks if t.kind == "multiple_choice"}
        known = any(finding.attack == "none" and finding.task in lettered for finding in over)
        do = (
            f"No attack was needed: the knowledge is not even hidden{' from four letter orders' if known else ''}. "
            "Unlearn anew, then run the whole suite on the new checkpoint."
        )
    else:
        do = (
            "Unlearn anew, with a method that takes the knowledge out of the weights instead of hiding it, then run "
            "the whole suite on the new checkpoint. More training against this one attack is no cure: it moves the "
            "breach to the next."
        )
    return Step(because, do, on_a_new_checkpoint(case))


def _more_than_a_control(case: Case, over: Sequence[Finding]) -> Step:
    worst = max(over, key=lambda f: (f.observed - f.limit, f.attack, f.mark))
    return Step(
        f"After {named(worst)} the model answers {worst.observed:.1%} more of '{worst.task}' than "
        f"{worst.over.replace(':', ' ')}, where at most {worst.limit:.0%} more is allowed{others(over)}.",
        "Something is there that the other does not have. Unlearn anew, then run the whole suite on the new "
        "checkpoint.",
        on_a_new_checkpoint(case),
    )


def _cost_too_much(case: Case, over: Sequence[Finding]) -> Step:
    if lost := [finding for finding in over if finding.over]:
        worst = max(lost, key=lambda f: (f.observed - f.limit, f.rule))
        because = (
            f"On '{worst.task}' the untouched model lies {worst.observed:.1%} {'under' if worst.fell else 'over'} the "
            f"original, where at most {worst.limit:.0%} is allowed{others(lost)}: unlearning cost too much."
        )
    else:
        worst = min(over, key=lambda f: f.observed)
        because = (
            f"The untouched model answers {worst.observed:.1%} of '{worst.task}', where at least {worst.limit:.0%} is "
            "asked: unlearning ruined it."
        )
        if (original := _original(case, worst)) is not None and original < worst.limit:
            return Step(
                f"The untouched model answers {worst.observed:.1%} of '{worst.task}', where at least {worst.limit:.0%} "
                f"is asked, and the original answers {original:.1%} itself.",
                "No unlearning, however gentle, reaches a minimum that the original does not. Let the policy's owner "
                "ask for what the original can do, before any number of another candidate is seen.",
                on_the_original(case),
            )
    return Step(
        because,
        "Unlearn more gently from the original, then run the whole suite on the new checkpoint.",
        on_a_new_checkpoint(case),
    )


def _original(case: Case, finding: Finding) -> float | None:
    """What the original has right of the same questions, untouched; None where it was not asked."""
    marks = [
        mark
        for record in case.report.trials
        if (record.trial.role, record.trial.attack) == ("original", "none")
        for mark in record.marks
        if (mark.task, mark.items) == (finding.task, finding.items)
    ]
    return max((tally(mark, finding.reading)[0] / mark.items for mark in marks), default=None)
