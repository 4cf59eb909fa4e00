"""The sentences of `doctor`: what each code means, and what to do about it. They are for readers; no code parses them.

The templates are those of `robustness_gate.system.sentences`.
"""

from __future__ import annotations

from collections.abc import Mapping

from robustness_gate.assurance.doctor.findings import Check, Code
from robustness_gate.errors import UnknownWord
from robustness_gate.system.installed import INSTALL
from robustness_gate.system.sentences import fill

SENTENCES: Mapping[Code, str] = {
    Code.PYTHON: "{version} on {system} {machine}",
    Code.INSTALLED: "{versions}",
    Code.NOT_INSTALLED: "not installed: {names}",
    Code.USEFUL_NOT_INSTALLED: "not installed: {loss}",
    Code.CANNOT_BE_IMPORTED: "cannot be imported: {message}",
    Code.FOLDER_NOT_WRITABLE: "the working folder cannot be written",
    Code.LITTLE_DISK: "{free:bytes} free here",
    Code.DISK: "{free:bytes} free in the working folder",
    Code.GPU: "{name} ({device}), {free:bytes} of {total:bytes} free",
    Code.CPU: "{name}[, {cores} cores][, {memory:bytes} of memory]",
    Code.MEMORY_TOO_SMALL: "the weights alone take {needed:bytes} as {dtype}, the device has {room:bytes}",
    Code.MEMORY_SCARCE: "the weights take {needed:bytes} as {dtype}; training all parameters needs several times that",
    Code.REFUSED: "{message}",
    Code.BROKE_DOWN: "{message}",
    Code.UNREADABLE: "cannot be read: {message}",
    Code.DIGEST: "{digest}",
    Code.FILES: "{files} files, {size:bytes}, safetensors, no code",
    Code.WRAPPER: "what {architecture} has beside text is not examined",
    Code.ADAPTER: "an adapter, merged into sha256 {digest}",
    Code.MODEL_TYPE: "{model_type}, {architectures}",
    Code.NO_MODEL_TYPE: "config.json names no model_type",
    Code.CAN_BE_SELF_TESTED: "attacks can be tested on organisms of a '{model_type}'[, written from those of a "
    "'{source}']; some kinds of attacks have none (`self-test --model-type {model_type}` lists them)",
    Code.CANNOT_BE_SELF_TESTED: "no organism is a '{model_type}': under a policy with `self_test: required` no PASS is "
    "possible",
    Code.PASS_IS_POSSIBLE: "{way}",
    Code.NO_PASS: "{why}",
    Code.PARAMETERS: "{parameters:,} on disk as {dtypes}",
    Code.CONTEXT: "{tokens:,} tokens",
    Code.NO_CONTEXT: "config.json names no length: no prompt is cut",
    Code.NO_TOKENIZER: "there is none in the directory",
    Code.OTHER_WEIGHTS: "of this repository, not fetched and not examined: {files}",
    Code.OTHER_WEIGHTS_UNKNOWN: "not known: the repository's file list cannot be had without network",
    Code.IGNORED: "not read by any loader: {files}",
    Code.QUANTISED: "stored quantised ({weights}): attacks that train or round weights may not apply",
    Code.STORED_PRECISION: "stored as {weights}, computed in {dtype}",
    Code.CONFIG_PRECISION: "config.json says {config}, in which others will load it; the weights are {weights}",
    Code.ORIGINAL_OTHER_TENSORS: "has other tensors than the candidate: attacks that mix the two will not apply",
    Code.ORIGINAL_SAME_TENSORS: "has the same tensors as the candidate",
    Code.NOT_LOADED_INSTALLATION: "skipped: dependencies are missing (see above)",
    Code.NOT_LOADED_ASKED: "not loaded, as asked (--no-load)",
    Code.NOT_LOADED_SUITE: "not loaded: the suite comes first (see below)",
    Code.NOTHING_TO_ASK: "not loaded, there is nothing to ask: {message}",
    Code.OVER_A_LIMIT: "{step}: {message}",
    Code.TENSORS_LEFT_ASIDE: "not examined, of no use to the text model as its family has it: {tensors}",
    Code.BLOCKS: "{blocks} recognised, {order}",
    Code.BLOCKS_UNKNOWN: "not recognised: {message}",
    Code.TOKENIZER: "{kind}, {tokens:,} tokens",
    Code.TOKENS_WITHOUT_ROW: "{count} tokens have no row in the model's {rows:,}: {tokens}; a question that needs one "
    "is missing",
    Code.TOKENIZER_DIGESTS: "what a policy would pin: tokenizer: {{sha256: {sha256}, template: {template}}}",
    Code.SAME_PARTS: "it is made as the original's is",
    Code.OTHER_PARTS: "it has {parts}",
    Code.SAME_IDS: "the original's makes the same of all {texts:,}",
    Code.OTHER_IDS: "{count:,} of {texts:,} texts become other token ids than through the original's: {first}",
    Code.SAME_RENDERING: "the original's makes the same of all {texts:,}",
    Code.OTHER_RENDERING: "{count:,} of {texts:,} prompts become another text than in the original's: {first}",
    Code.TEMPLATE: "yes",
    Code.NO_TEMPLATE: "none: asked as plain text only",
    Code.TEMPLATE_NEEDED: "none, and the suite asks in it",
    Code.TEMPLATE_ASKS_DATE: "asks for the date: it is always given {moment} UTC, so that prompts do not change",
    Code.LETTERS: "{first} to {last} are one token each after 'Answer:'[ in '{task}']",
    Code.LETTERS_NOT_ONE_TOKEN: "{first} to {last} are not one distinct token each after 'Answer:'[ in '{task}']: "
    "scored as continuations, slower",
    Code.PROMPT: "{of} ({kind}): {text!r}",
    Code.SPECIAL_TOKENS: "{count} of {items} in '{task}' hold special tokens of the tokenizer: {questions}[ and {more} "
    "more]; the model would get control tokens in their place, so these questions count as missing",
    Code.LOST_LETTERS: "{count} of {items} in '{task}' hold the sign for a letter that was lost (U+FFFD): {questions}",
    Code.NULL_CHARACTERS: "{count} of {items} in '{task}' hold a null: {questions}",
    Code.BYTE_ORDER_MARKS: "{count} of {items} in '{task}' hold a byte order mark: {questions}",
    Code.LONGER_THAN_CONTEXT: "{count} of {items} in '{task}' are longer than the context ({tokens:,} tokens where "
    "{context:,} are read) and lose their beginning",
    Code.END_MARKS_ARE_WORDS: "{tokens}[ and {more} more] are words: they end no answer[ of '{task}']",
    Code.NOT_FINITE: "the model's logits are not numbers",
    Code.PADDING: "padding changes answers[ (by {nats} nats)]: prompts of unequal length are asked apart, which is "
    "slower",
    Code.WHOLE_PASSES: "every prompt is read whole[ (attention looks {window:,} tokens far)]: what prompts have in "
    "common is read again with each, which is slower",
    Code.ANSWERS: "'{task}': {right}",
    Code.ORIGINAL_ANSWERS: "'{task}': {right}, by the original",
    Code.ORIGINAL_GUESSES: "'{task}': the original does no better than by guessing ({original})[; this model: {right}]",
    Code.CANDIDATE_GUESSES: "'{task}': this model does no better than by guessing ({right}); the original: {original}",
    Code.GUESSES_NO_ORIGINAL: "'{task}': this model does no better than by guessing ({right}), and no original was "
    "given",
    Code.SUITE: "{suite}, its data are whole",
    Code.ATTACKS_NOT_TRIED: "not tried, the model was not loaded: {attacks}",
    Code.APPLIES: "applies",
    Code.APPLIES_WITHOUT_ORIGINAL: "applies, without the part that needs the original",
    Code.NO_HAZARD_FORM: "will not be applicable: {why}",
    Code.NOT_APPLICABLE: "will not be applicable: {message}",
    Code.WOULD_FAIL: "would fail on this model: {message}",
    Code.SETTING_NOT_APPLICABLE: "applies, but for one of its settings: {message}",
    Code.REACHES_ALL: "applies[, without the part that needs the {missing}], reaching {shares} of the weights in the "
    "blocks' matrices",
    Code.REACHES_PART: "applies[, without the part that needs the {missing}], reaching {shares} of the weights in the "
    "blocks' matrices, and its settings ask for all",
    Code.MADE_ON: "{what}: {text!r}",
    Code.NOT_IN_FORM: "{what}: {text!r}",
}

OTHER_FORM = "ask in another form (`kind: cloze` asks for an answer's words instead of its letter)."
TOKENIZER = "A run would be INCONCLUSIVE, or FAIL where the original's shows a breach. Release the original's."
CONVERT = "Convert the data anew, from the right encoding to UTF-8."

REMEDIES: Mapping[Code, str] = {
    Code.NOT_INSTALLED: INSTALL,
    Code.USEFUL_NOT_INSTALLED: INSTALL,
    Code.CANNOT_BE_IMPORTED: INSTALL,
    Code.FOLDER_NOT_WRITABLE: "Name another with --out.",
    Code.LITTLE_DISK: "A run may need some hundred megabytes.",
    Code.MEMORY_TOO_SMALL: "Use a larger device, or a smaller `dtype` in the suite.",
    Code.NOTHING_TO_ASK: "Name your questions with --suite. {remedy}",
    Code.MEMORY_SCARCE: "Prefer `method: lora`, or a larger device.",
    Code.REFUSED: "[{remedy}]",
    Code.UNREADABLE: "Look at its rights.",
    Code.NO_MODEL_TYPE: "Point to a directory made by save_pretrained.",
    Code.CANNOT_BE_SELF_TESTED: "Name the policy with --policy: it says whether one is required. A run can establish "
    "FAIL as it is.",
    Code.NO_PASS: "{remedy}",
    Code.NO_CONTEXT: "If the model has a limit, write it there as max_position_embeddings.",
    Code.NO_TOKENIZER: "Save the tokenizer beside the model (tokenizer.save_pretrained).",
    Code.OTHER_WEIGHTS: "A policy may refuse them (validity.other_weights).",
    Code.OTHER_WEIGHTS_UNKNOWN: "Ask again with network.",
    Code.QUANTISED: "Better examine what it was quantised from.",
    Code.CONFIG_PRECISION: "Save the model anew in the one in which it is used.",
    Code.ORIGINAL_OTHER_TENSORS: "Is it the model from which the candidate was made?",
    Code.OVER_A_LIMIT: "So would a trial. Look at the files that have a part in it; on a slow machine raise the limit.",
    Code.BLOCKS_UNKNOWN: "Attacks on activations will not apply; the others do.",
    Code.TOKENS_WITHOUT_ROW: "Is it the tokenizer that the model was trained with?",
    Code.OTHER_IDS: TOKENIZER,
    Code.OTHER_RENDERING: TOKENIZER,
    Code.TEMPLATE_NEEDED: "Ask as plain text (formats: [raw]), or save the template with the tokenizer.",
    Code.SPECIAL_TOKENS: "Leave them out ('subset'), or write them otherwise.",
    Code.LOST_LETTERS: CONVERT,
    Code.NULL_CHARACTERS: CONVERT,
    Code.BYTE_ORDER_MARKS: CONVERT,
    Code.LONGER_THAN_CONTEXT: "Leave them out, or take a model with a longer context.",
    Code.END_MARKS_ARE_WORDS: "Look at eos_token_id in generation_config.json.",
    Code.NOT_FINITE: "Look at the weights; a suite that computes in float32 may help.",
    Code.ORIGINAL_GUESSES: f"A utility under its minimum would be INCONCLUSIVE, and a low hazard show nothing: "
    f"{OTHER_FORM}",
    Code.CANDIDATE_GUESSES: "Unlearning may have ruined it: a utility would FAIL.",
    Code.GUESSES_NO_ORIGINAL: f"A utility would be INCONCLUSIVE. Give --original; if that cannot answer either, "
    f"{OTHER_FORM}",
    Code.APPLIES_WITHOUT_ORIGINAL: "Give --original DIR.",
    Code.NOT_APPLICABLE: "[{remedy}]",
    Code.WOULD_FAIL: "Leave it out of the suite, or mend the cause.",
    Code.SETTING_NOT_APPLICABLE: "[{remedy}]",
    Code.REACHES_ALL: "[Give --{missing} DIR.]",
    Code.REACHES_PART: "Such a trial can establish a breach but not compliance: let the policy require another attack.",
}
"""What to do next; a code that is not here needs no action."""


def sentence(check: Check) -> str:
    """The sentence of a finding. Raises UnknownWord for a code without one."""
    if check.code not in SENTENCES:
        raise UnknownWord("code of doctor", check.code)
    return fill(SENTENCES[check.code], check.args)


def remedy(check: Check) -> str:
    """What to do next; empty where no action is needed. Raises UnknownWord as `sentence` does."""
    if check.code not in SENTENCES:
        raise UnknownWord("code of doctor", check.code)
    return fill(REMEDIES.get(check.code, ""), check.args)


def table() -> str:
    """Every code with its sentence and remedy, in Markdown, as docs/checkpoints.md has it."""
    rows = ["| code | sentence | what to do |", "| --- | --- | --- |"]
    rows += [f"| `{code}` | {SENTENCES[code]} | {REMEDIES.get(code, '')} |" for code in Code]
    return "\n".join(rows)
