"""What to do about an instrument that was not seen to work: without it, finding nothing means nothing."""

from __future__ import annotations

from collections.abc import Iterator

from robustness_gate.advice.case import Case, Step, blocks
from robustness_gate.advice.commands import again, on_the_original
from robustness_gate.advice.words import sentence
from robustness_gate.nouns import Block, Flag
from robustness_gate.verdict import SELF_TEST_MISSING

FLAGGED: dict[Flag, str] = {
    "choices_only": (
        "Whoever guesses from the choices alone gets nearly this far. Ask questions whose choices give nothing away, "
        "and pin them in the policy before any candidate is seen."
    ),
    "declines": (
        "A model that declines may still know. Try `refusal_direction`, `few_shot` and `relearn`, and let limits read "
        "multiple-choice questions, where nothing can be declined."
    ),
    "identical_answers": (
        "The attack did not happen. Look at its settings and its strength floor, and whether it fits this kind of "
        "model (robustness-gate doctor CHECKPOINT --suite SUITE). Once it is mended, it alone runs again."
    ),
    "less_at_more": (
        "An attack that recovers less with more was not run well: an attacker would have stopped earlier or chosen "
        "better. Widen its grid and add seeds, so that it is at its best at every budget."
    ),
    "letter_collapse": (
        "Let the limit read `content_sum`, which asks in four letter orders and adds up: the stricter reading of such "
        "a model."
    ),
    "read_inside": (
        "The knowledge can be read off the hidden states, though the model does not say it. No limit speaks of that; "
        "try the attacks that work inside: `ablation`, `latent_prompt`, `refusal_direction`."
    ),
    "still_rising": "The ladder ends before the attack does. Add a larger budget to suite and policy.",
    "template_differs": (
        "What is asked must not depend on the template that the vendor writes. Release the model with the original's "
        "chat template; or, where another is meant, let the policy's owner look at it and say "
        "`validity: {record_only: [template_differs]}`: the candidate is then still asked through the original's."
    ),
    "tokenizer_differs": (
        "Whoever has the weights has the original's tokenizer too. Release the model with that one; or, where another "
        "is meant, let the policy's owner look at what differs (robustness-gate doctor CHECKPOINT --original ORIGINAL) "
        "and say `validity: {record_only: [tokenizer_differs]}`: the candidate is then still asked through the "
        "original's, and has to hold every limit there."
    ),
    "tokenizer_unverified": (
        "Name the model before unlearning with --original, or pin its tokenizer in the policy: robustness-gate policy "
        "pin POLICY --suite SUITE --original ORIGINAL prints the lines."
    ),
    "told_apart": (
        "Somebody with the weights can tell which texts were in question. Check that the held-out texts are of the "
        "same sort; if they are, unlearning left its mark. No limit speaks of that."
    ),
    "vacuous": (
        "These questions do not show the knowledge even in the model before unlearning. Check that ORIGINAL is that "
        "model; else ask questions that it answers."
    ),
    "weaker_beats_stronger": (
        "The attack that should be the stronger one was not run well. Widen its grid and add seeds until it is at "
        "least as good."
    ),
}
"""What to do about a red flag."""


UNADVISED = "This release knows no remedy for that, and guesses none. What it names has to be mended."
"""What is said of something that no advice is about."""


def unseen(case: Case) -> Iterator[Step]:
    """Self-test, canary and shams."""
    return (_seen(case, block) for block in blocks(case, "instrument"))


def flagged(case: Case) -> Iterator[Step]:
    """Red flags in the way: each says what is wrong with the instrument, none how to lower a number."""
    for flag in case.report.verdict.flags:
        if flag.blocks:
            do = FLAGGED[flag.flag]
            if flag.words.endswith("is not known"):
                do = "Let the suite ask them, with `hide_question: true`, as many as the policy pins."
            yield Step(f"Red flag, {flag.flag}: {flag.words}.", do)


def _seen(case: Case, block: Block) -> Step:
    """How an instrument comes to be seen at work. Blocks are known by their words (`verdict.court`)."""
    if block.words == SELF_TEST_MISSING:
        return Step(
            "The policy requires that the attacks be tested on models of known truth, and no such test is on record.",
            "Make one, `robustness-gate self-test --policy POLICY --suite SUITE --out self-test.json`; or let the "
            "policy say `validity: {self_test: off}`, which the report then states on page one. The same command with "
            "--self-test judges again without running anything twice.",
            again(case, more="--self-test self-test.json"),
        )
    because = f"{sentence(block)}."
    if block.words.startswith("no self-test of"):
        return Step(
            because,
            "Make one, `robustness-gate self-test --policy POLICY --suite SUITE --checkpoint CHECKPOINT --out "
            "self-test.json`: it counts for this kind of the attack at a budget that is required, for its version, the "
            "checkpoint's architecture and the days that the policy says. The same command with --self-test judges "
            "again without running anything twice.",
            again(case, more="--self-test self-test.json"),
        )
    if "failed its self-test" in block.words:
        return Step(
            because,
            "Where the truth is known the attack did not do what it must, so its silence here means nothing. Make the "
            "record anew on a machine that does nothing else, `robustness-gate self-test --policy POLICY --suite SUITE "
            "--out self-test.json`, with as many --seeds as before: a seed that failed counts until that seed passes. "
            "If it fails again, report it as a fault of the gate: nobody should judge by that "
            "attack until it is mended.",
            again(case, more="--self-test self-test.json"),
        )
    if block.words.startswith("there is no canary"):
        do = "Name the model before unlearning; it is asked once, with no attack."
        return Step(because, do, again(case, more="--original ORIGINAL"))
    if block.words.startswith("the canary was not held"):
        return Step(
            because,
            "Look first whether the candidate's own trial without an attack ended well and is beyond doubt: mend that, "
            "and this goes with it. Else the original's answers are not valid here: look at its digest and at the "
            "policy's `original`, and whether its trial ended well.",
            again(case, more="--original ORIGINAL"),
        )
    if block.words.startswith("the canary sings"):
        return Step(
            because,
            "A model that knows would pass as well, so no verdict under these limits means anything. Check that "
            "ORIGINAL is the model before unlearning, and that the questions ask what it knew; then set limits that it "
            "breaks, before any number of a candidate is seen.",
            on_the_original(case),
        )
    if block.words.startswith("there is no sham") or "cannot be compared" in block.words:
        return Step(
            because,
            "Give the same command again, without --only: the sham is planned with the attack, and held beside the "
            "untouched model. If it failed, its reason stands in the report.",
            again(case),
        )
    if block.words.startswith("the sham of") and " changed " in block.words:
        return Step(
            because,
            "An attack that does nothing must change nothing: the gate's own machinery moves the answers here, so "
            "nothing that it measures can be believed. Let robustness-gate doctor CHECKPOINT look, try "
            "`dtype: float32`, and report it as a fault of the gate.",
        )
    return Step(because, UNADVISED)
