"""Steps for an instrument that was not shown to work: without it a negative result means nothing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from robustness_gate.records.verdict import Blocker, RedFlag
from robustness_gate.report.advice.case import Case, Step
from robustness_gate.report.advice.commands import again, on_the_original
from robustness_gate.verdict.wording import capital, flag_line, sentence

_TEMPLATE = (
    "What is asked must not depend on the template that the vendor writes. Release the model with the original's "
    "chat template; or, where another is meant, let the policy's owner look at it and say "
    "`validity: {record_only: [template_differs]}`: the candidate is then still asked through the original's."
)
_TOKENIZER = (
    "Anyone with the weights can use the original's tokenizer. Release the model with that one; or, where another "
    "is meant, let the policy's owner look at what differs (robustness-gate doctor CHECKPOINT --original ORIGINAL) "
    "and say `validity: {record_only: [tokenizer_differs]}`: the candidate is then still asked through the "
    "original's, and has to hold every limit there."
)
_COMPARE = (
    "Name the model before unlearning with --original, or pin its tokenizer in the policy: robustness-gate policy "
    "pin POLICY --suite SUITE --original ORIGINAL prints the lines."
)
FLAGGED: Mapping[str, str] = {
    "avoids": (
        "A model that never knew scores more. Look at what it answers instead (`declines`, one letter), and rely on "
        "the attacks: what is only avoided comes back after some of them."
    ),
    "control_lost_utility": (
        "The attack leaves the control little of what it could do, so the comparison with it says less. It blocks "
        "nothing by itself. A control that is as able as the candidate and trained like it is ruined less easily; an "
        "attack with gentler settings, chosen before any candidate is seen, ruins fewer models."
    ),
    "choices_suffice": (
        "Guessing from the choices alone is nearly as accurate. Ask questions whose choices give nothing away, "
        "and pin them in the policy before any candidate is seen."
    ),
    "many_declined": (
        "A model that declines may still know. Try `refusal_direction`, `few_shot` and `relearn`, and let limits read "
        "multiple-choice questions, where nothing can be declined."
    ),
    "nothing_changed": (
        "The attack did not happen. Look at its settings and its strength floor, and whether it fits this kind of "
        "model (robustness-gate doctor CHECKPOINT --suite SUITE). After the fix, only this attack runs again."
    ),
    "falls": (
        "An attack that recovers less with more was not run well: an attacker would have stopped earlier or chosen "
        "better. Widen its grid and add seeds, so that it is at its best at every budget."
    ),
    "one_letter": (
        "Let the limit be on a `multiple_choice` task and its metric `acc_permuted`, which sums over all letter "
        "orders: the stricter metric for such a model."
    ),
    "hidden_states": (
        "The hidden states contain the knowledge, although the model does not answer with it. No limit covers this; "
        "try the attacks that work inside: `ablation`, `latent_prompt`, `refusal_direction`."
    ),
    "rises": "The ladder ends before the attack does. Add a larger budget to suite and policy.",
    "familiar": (
        "Anyone with the weights can recognise the forget texts. Check that the held-out texts are of the same kind; "
        "if they are, unlearning left a trace. No limit covers this."
    ),
    "original_within_limit": (
        "These questions do not show the knowledge even in the model before unlearning. Check that ORIGINAL is that "
        "model; else ask questions that it answers."
    ),
    "weaker_recovers_more": (
        "The attack that should be the stronger one was not run well. Widen its grid and add seeds until it is at "
        "least as good."
    ),
    "choices_not_asked": "Let the suite ask them, with `hide_question: true`, as many as the policy pins.",
    **dict.fromkeys(("other_prompts", "template_not_pinned_one"), _TEMPLATE),
    **dict.fromkeys(("other_ids", "tokenizer_not_pinned_one", "other_ids_under_attack"), _TOKENIZER),
    "weights_unrelated": (
        "Check that ORIGINAL is the model before unlearning. A candidate that was trained anew, or whose weights were "
        "permuted, cannot be judged by a calibration on it."
    ),
    "weights_not_compared": "Name the pinned original with --original: a run then compares the weights of the two.",
    **dict.fromkeys(("tokenizer_not_compared", "template_not_compared"), _COMPARE),
}
"""The step for a red flag, by its code."""


def flagged(_: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
    """Steps for blocking red flags: each is about the instrument, none about how to lower a number."""
    for blocker in blockers:
        for flag in blocker.causes:
            if isinstance(flag, RedFlag):
                yield Step(f"Red flag, {flag_line(flag)}.", FLAGGED[flag.code])


def _do(
    what: str, command: Callable[[Case], str] = lambda _: ""
) -> Callable[[Case, Sequence[Blocker]], Iterator[Step]]:
    """A step for each blocker, whose reason is the blocker's own sentence."""

    def steps(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
        return (Step(f"{capital(sentence(each))}.", what, command(case)) for each in blockers)

    return steps


def _with_self_test(case: Case) -> str:
    return again(case, more="--self-test self-test.json")


def _test(what: str, *, stands_in: bool = True) -> Callable[[Case, Sequence[Blocker]], Iterator[Step]]:
    """A step for each blocker: to make a self-test on this architecture, where the policy can have one.

    Args:
        what: what to do, with the place of the self-test's {command}.
        stands_in: whether a calibration under the policy's terms also removes the blocker.
    """

    def steps(case: Case, blockers: Sequence[Blocker]) -> Iterator[Step]:
        kind = case.report.model_type
        command = (
            f"`robustness-gate self-test --policy POLICY --suite SUITE --model-type {shlex.quote(kind)} "
            "--out self-test.json`"
        )
        for blocker in blockers:
            because = f"{capital(sentence(blocker))}."
            if not kind or case.untestable:
                yield Step(because, _none_possible(case))
            elif stands_in and case.policy.calibration is not None:
                made = what.format(command=command)
                yield Step(because, f"{_STANDS_IN} {_CALIBRATE} Or a self-test: {made}", _with_calibration(case))
            else:
                yield Step(because, what.format(command=command), _with_self_test(case))

    return steps


def _none_possible(case: Case) -> str:
    """What to do where no self-test can satisfy the policy; the self-test's command would be refused."""
    reasons = dict.fromkeys(case.untestable.values()) or ("config.json names no model_type",)
    owner = (
        "Let the policy's owner add terms for a calibration, which stands in for it on the original "
        "(docs/calibration.md), require other attacks"
        if case.report.model_type
        else "Save the model with save_pretrained, which writes it; or let the policy's owner require other attacks"
    )
    return (
        f"No self-test can satisfy this policy for this model ({'; '.join(reasons)}), so no PASS is possible. {owner}, "
        "or say `validity: {self_test: off}`, which the report then states on page one. A FAIL can be established as "
        "it is."
    )


def _with_calibration(case: Case) -> str:
    return again(case, more="--calibration calibration.jsonl")


_CALIBRATE = (
    "Make one, `robustness-gate calibrate ORIGINAL --policy POLICY --suite SUITE --out calibration.jsonl`, on the kind "
    "of device on which the candidate is examined. The same command with --calibration judges again without running "
    "anything twice."
)
_STANDS_IN = (
    "The policy has terms for a calibration on the original, which stands in for a self-test, also where no organism "
    "is of this architecture."
)
_BLIND = (
    "What this attack does not bring back on this original, it would not find in the candidate either. Give it more "
    "(a wider grid, a larger budget) in suite and policy, and calibrate again; or let the policy's owner take it out "
    "of 'required'. Nothing that it found before is lost: it still establishes a breach."
)


def _with_original(case: Case) -> str:
    return again(case, more="--original ORIGINAL")


_AGAIN = (
    "Give the same command again, without --only: the sham is planned with the attack, and compared with the untouched "
    "model. If it failed, the report has the reason."
)
SEEN: Mapping[str, Callable[[Case, Sequence[Blocker]], Iterator[Step]]] = {
    "self_test_missing": _test(
        "Make one, {command}; or let the policy say `validity: {{self_test: off}}`, which the report then states on "
        "page one. The same command with --self-test judges again without running anything twice."
    ),
    "self_test_does_not_count": _test(
        "Make one, {command}: it counts for this kind of the attack at a budget that is required, for its version, the "
        "checkpoint's architecture and the days that the policy says. The same command with --self-test judges "
        "again without running anything twice."
    ),
    "self_test_failed": _test(
        "On models of known truth the attack failed its test, so its negative result here means nothing. Make the "
        "record again on a machine that does nothing else, {command}, with as many --seeds as before: a seed that "
        "failed counts until that seed passes. If it fails again, report it as a fault of the gate, and do not judge "
        "by that attack until it is fixed.",
        stands_in=False,
    ),
    "calibration_missing": _do(_CALIBRATE, _with_calibration),
    "calibration_does_not_count": _do(_CALIBRATE, _with_calibration),
    "not_calibrated": _do(_CALIBRATE, _with_calibration),
    "spike_failed": _do(
        "Every attempt is in the calibration's record, with what it answered. Calibrate again with a later release "
        "whose recipe suits this model; or let the policy's owner name another method, or give the reason under "
        "`calibration: {explained: ...}`, which the report then states."
    ),
    "calibration_failed": _do(
        "The attack failed on the original, so its negative result on the candidate means nothing. Calibrate again on "
        "a machine that does nothing else; if it fails again, report it as a fault of the gate, and do not judge by "
        "that attack until it is fixed.",
        _with_calibration,
    ),
    "no_bite_shown": _do(_BLIND),
    "expected_bite_missing": _do(_BLIND),
    "expected_method_missing": _do(
        "Let the policy's calibration name a method of the kind on which this attack is expected to work: "
        "docs/calibration.md has the table."
    ),
    "nothing_recovers": _do(
        "Require an attack that recovers on this method: until one does, knowledge that is hidden so would not be "
        "found. docs/calibration.md says which attacks are expected to."
    ),
    "positive_control_missing": _do(
        "Name the model before unlearning; it is asked once, with no attack.", _with_original
    ),
    "positive_control_invalid": _do(
        "Look first whether the candidate's own trial without an attack ended well and has no validity issue: fix "
        "that first, and this blocker disappears too. Else the original's answers are not valid here: look at its "
        "digest and at the policy's `original`, and whether its trial ended well.",
        _with_original,
    ),
    "positive_control_within_limits": _do(
        "A model that knows would pass as well, so no verdict under these limits means anything. Check that ORIGINAL "
        "is the model before unlearning, and that the questions ask what it knew; then set limits that it exceeds, "
        "before any number of a candidate is seen.",
        on_the_original,
    ),
    "control_may_know": _do(
        "A share of a gap is measured from a model that never knew. Name one as `control` in the policy: a sister "
        "model that was trained without the domain, or an early checkpoint from before it."
    ),
    "hidden_not_bound": _do(
        "Give the suite's task with hidden questions the same items and roles, and `hide_question: true`; then run "
        "again, so that the record of its questions is made anew.",
        again,
    ),
    "gap_not_measured": _do(
        "Name both models: the one before unlearning, and the control that never knew. Each is asked without attack; "
        "the control is then put through the candidate's attacks too.",
        _with_original,
    ),
    "no_gap": _do(
        "On these questions the original hardly knows more than a model that was never taught, so nothing can be said "
        "about what is back. Ask questions that the original answers better, or more of them; choose a control of "
        "equal ability. Do it before any number of a candidate is seen.",
        on_the_original,
    ),
    "sham_missing": _do(_AGAIN, again),
    "sham_not_comparable": _do(_AGAIN, again),
    "sham_changes": _do(
        "An attack that does nothing must change nothing: the gate's own machinery moves the answers here, so nothing "
        "that it measures can be believed. Let robustness-gate doctor CHECKPOINT look, try `dtype: float32`, and "
        "report it as a fault of the gate."
    ),
}
"""The step for an instrument, by the blocker's code."""
