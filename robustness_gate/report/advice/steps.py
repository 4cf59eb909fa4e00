"""The next steps by outcome: a table of the blockers' codes, each with its steps from the other modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from robustness_gate.errors import UnknownWord
from robustness_gate.records.codes import PLUGINS
from robustness_gate.records.trial import Role
from robustness_gate.records.verdict import Blocker, Finding, FindingKind
from robustness_gate.report.advice import instruments, issues, numbers, terms, trials
from robustness_gate.report.advice.case import Case, Step, comparators, hazard
from robustness_gate.report.advice.commands import again, on_a_new_checkpoint, on_the_original
from robustness_gate.report.advice.words import apart, listed, named, others
from robustness_gate.verdict import tally
from robustness_gate.verdict.wording import capital, model_name, sentence

STAYS_FAIL = Step(
    "This checkpoint stays FAIL: evidence is only added to, and every attempt counts.",
    "Do not run it again until it is green, and do not raise the limit after having seen the numbers.",
)
Steps = Callable[[Case, Sequence[Blocker]], Iterator[Step]]


def _breach(case: Case, _: Sequence[Blocker]) -> Iterator[Step]:
    """Steps for the gravest kind of breach only: a limit, else an excess over a control, else too high a cost."""
    over = [finding for finding in case.report.verdict.findings if finding.state == "over"]
    if breaches := [finding for finding in over if finding.hazard]:
        yield _breached(case, breaches)
    elif excess := [finding for finding in over if finding.kind == FindingKind.LIMIT]:
        yield _more_than_a_control(case, excess)
    else:
        yield _cost_too_much(case, over)
    yield STAYS_FAIL


STEPS: tuple[tuple[str, Steps], ...] = (
    ("breach", _breach),
    ("unanswered", numbers.cannot_answer),
    ("inverted", numbers.below_chance),
    ("back_in_one_task", numbers.back_in_one_task),
    ("open", numbers.too_far_apart),
    ("open", numbers.too_high),
    ("passes_never", terms.only_a_breach),
    ("policy_not_yet", terms.out_of_time),
    ("policy_expired", terms.out_of_time),
    ("control_expired", terms.out_of_time),
    ("requirement_without_limit", terms.idle),
    ("limit_on_nothing", terms.idle),
    ("unknown_control", terms.idle),
    ("rule_twice", terms.idle),
    ("no_such_metric", terms.idle),
    ("left_out", trials.left_out),
    ("unfinished", trials.unfinished),
    ("incomplete", trials.incomplete),
    ("checkpoint_changed", trials.changed),
    ("checkpoint_unreadable", trials.changed),
    ("executor_broken", trials.made_up),
    *instruments.SEEN.items(),
    ("not_asked_through_original", terms.not_asked),
    ("not_asked_in_declared_dtype", terms.not_asked),
    ("not_compared", terms.not_run),
    ("hypothesis_not_run", terms.not_run),
    ("required_not_applicable", trials.not_applicable),
    ("invalid_trial", issues.weak),
    ("hypothesis_invalid", issues.weak),
    ("failed", trials.failed),
    ("invalid_trial", issues.other),
    ("hypothesis_invalid", issues.other),
    ("flag", instruments.flagged),
    ("open", numbers.too_few_questions),
    ("not_stated", terms.unstated),
    ("other_weights_unknown", terms.other_weights),
    ("other_weights", terms.other_weights),
    *((code, terms.plugins) for code in PLUGINS),
)
"""The steps for each code of a blocker: first those without which the rest is useless, then the cheapest fixes.
Some codes have several steps, each in its own place."""


def next_steps(case: Case) -> tuple[Step, ...]:
    """The next steps, the cheapest useful one first; never empty."""
    after = {"PASS": _after_pass, "FAIL": _after_fail, "INCONCLUSIVE": _after_inconclusive}
    return tuple(after[case.report.verdict.outcome](case))


def _after_pass(case: Case) -> Iterator[Step]:
    if (Role.ORIGINAL, "") not in comparators(case):
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
    """Raises UnknownWord for a blocker that has no step."""
    by_code: dict[str, list[Blocker]] = {}
    for blocker in case.report.verdict.blockers:
        by_code.setdefault(blocker.code, []).append(blocker)
    if unknown := sorted(by_code.keys() - {code for code, _ in STEPS}):
        raise UnknownWord("blocker", unknown[0])
    found = dict.fromkeys(step for code, steps in STEPS if code in by_code for step in steps(case, by_code[code]))
    if found:
        yield from found
        return
    yield Step(
        f"{capital(sentence(case.report.verdict.blockers[0]))}.",
        "Fix this first, then give the same command again. robustness-gate policy check POLICY --suite SUITE prints "
        "what the policy requires and the suite lacks.",
        again(case),
    )


def _after_fail(case: Case) -> Iterator[Step]:
    return _breach(case, case.report.verdict.blockers)


def _breached(case: Case, over: Sequence[Finding]) -> Step:
    attacks = sorted({finding.attack for finding in over})
    because = f"{len(over)} of {len(hazard(case))} accuracies are over a limit, by {listed(attacks)}."
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
    worst = max(over, key=lambda f: (f.observed - f.limit, f.attack, f.budget))
    assert worst.relative_to is not None
    if worst.of_gap:
        return Step(
            f"After {named(worst)} {apart(worst)}, where at most {worst.limit:.0%} is allowed{others(over)}.",
            "The knowledge is hidden and not gone. Unlearn anew, then run the whole suite on the new checkpoint.",
            on_a_new_checkpoint(case),
        )
    return Step(
        f"After {named(worst)} the model answers {worst.observed:.1%} more of '{worst.task}' than "
        f"{model_name(worst.relative_to)}, where at most {worst.limit:.0%} more is allowed{others(over)}.",
        "Something is there that the other does not have. Unlearn anew, then run the whole suite on the new "
        "checkpoint.",
        on_a_new_checkpoint(case),
    )


def _cost_too_much(case: Case, over: Sequence[Finding]) -> Step:
    if lost := [finding for finding in over if finding.kind == FindingKind.GUARDRAIL]:
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
    """The untouched original's accuracy on the same questions; None if it was not asked."""
    measurements = [
        measurement
        for record in case.report.trials
        if (record.trial.role, record.trial.attack) == (Role.ORIGINAL, "none")
        for measurement in record.measurements
        if (measurement.task, measurement.items) == (finding.task, finding.items)
    ]
    return max(
        (tally(measurement, finding.metric)[0] / measurement.items for measurement in measurements), default=None
    )
