"""The one renderer from a question to a prompt.

The layout is that of lm-evaluation-harness for WMDP and MMLU (`tasks/wmdp/_default_template_yaml`): a header line and a
blank line, the stripped question, one line for each choice, and `Answer:`. The scored answer is a space and a letter.
All code that shows a question to a model, in training or in examination, uses this module and then
`engine.prompting.prompt_of`, so that attacks and the examination use the same format.
"""

from __future__ import annotations

import re

from robustness_gate.records.questions import Form, Item, Question


def header_for(topic: str) -> str:
    """The header line of lm-evaluation-harness's multiple-choice tasks, for a topic such as "biology"."""
    return f"The following are multiple choice questions (with answers) about {topic}.\n\n"


def body(question: Question, form: Form) -> str:
    """The question with its lettered choices, ending in `Answer:` (no trailing space); for a verbatim form, the
    unchanged stem or the form's wording.

    Raises:
        ValueError: there are more choices than letters; items are checked on reading, so this is a bug.
    """
    if len(question.choices) > len(form.letters):
        raise ValueError(
            f"question {question.id} has {len(question.choices)} choices, the form {len(form.letters)} letters"
        )
    if form.verbatim:
        return form.wording.replace("{question}", question.stem.strip()) if form.wording else question.stem
    lines = [question.stem.strip()]
    lines += [f"{letter}. {choice}" for letter, choice in zip(form.letters, question.choices, strict=False)]
    return "\n".join(lines) + "\nAnswer:"


def answer(index: int, form: Form) -> str:
    """The answer after `Answer:` for the choice at `index` (from 0): a space and its letter."""
    return f" {form.letters[index]}"


def answers(question: Question, form: Form) -> list[str]:
    """The possible answers to a question's prompt, one text for each choice: its letter, or for a verbatim form its
    text.
    """
    if form.verbatim:
        return [form.delimiter + choice for choice in question.choices]
    return [answer(index, form) for index in range(len(question.choices))]


def render(question: Question, form: Form) -> str:
    """The whole prompt: universal prefix, header, solved examples, question. The model's next token is the answer."""
    shots = "".join(f"{solved(shot, form)}\n\n" for shot in form.shots)
    text = f"{form.header}{shots}{body(question, form)}"
    return f"{form.prefix} {text}" if form.prefix else text


def solved(item: Item, form: Form) -> str:
    """A question with its right answer filled in: a few-shot example, or one training text."""
    return body(item.question, form) + answers(item.question, form)[item.answer]


def rotated(question: Question, shift: int) -> Question:
    """The same question with its choices rotated `shift` places to the left: choice i moves to (i - shift) mod n."""
    choices = question.choices
    return Question(question.id, question.stem, choices[shift:] + choices[:shift])


def thinking(text: str) -> str:
    """A prompt whose response begins with an open thinking block, independent of the template's own block."""
    return re.sub(r"<think>\s*(</think>\s*)?$", "", text) + "<think>\n"


def thought(text: str, words: str) -> str:
    """A prompt whose response begins with these thoughts in a closed block."""
    return f"{thinking(text)}{words}\n</think>\n\n"
