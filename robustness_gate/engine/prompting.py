"""A question becomes a prompt for a tokenizer, and the prompt becomes token ids: the same for all who ask or train."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple

from robustness_gate.engine import clock, ending, events
from robustness_gate.errors import NotApplicable
from robustness_gate.inputs.prompts import answers, render
from robustness_gate.records.questions import Form, Question
from robustness_gate.system.bounded import Panic

TEXTS_AT_ONCE = 32
"""Maximum number of texts in one call of a tokenizer: the time of a call is limited (`bounded`), and a corpus may be
long."""


MOST_RENDERED = 1_000_000
"""Maximum number of characters that a chat template may add to a prompt."""


def scored(question: Question, form: Form) -> list[str]:
    """The answers that are scored as text and not by letter: none of them may be encoded as a special token."""
    return answers(question, form) if form.verbatim and not form.tokens else []


class Prompt(NamedTuple):
    """A question as text for a model."""

    text: str
    """Everything before the answer."""
    answers: list[str]
    """The possible continuations, one text for each choice."""
    special: bool
    """Whether the tokenizer adds its special tokens (BOS): a chat template writes its own."""


def prompt_of(tokenizer: Any, question: Question, form: Form) -> Prompt:
    """The prompt of a question in a form for this tokenizer: the same for examination, training and directions.

    Raises:
        NotApplicable: the form asks for a chat template and the tokenizer has none.
    """
    text, options = render(question, form), answers(question, form)
    if form.chat:
        text = _in_template(tokenizer, text)
    if form.rewrite is not None:
        text = form.rewrite(text)
    if form.verbatim:
        text, options = _spaces_moved(text, options)
    elif form.chat:  # the assistant's turn begins with the letter itself
        options = [each.strip() for each in options]
    return Prompt(text, options, special=not form.chat)


def encode(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[list[int]]:
    """Token ids of each text; `special` as in its `Prompt`."""
    encoded: list[list[int]] = []
    for first in range(0, len(texts), TEXTS_AT_ONCE):
        some = list(texts[first : first + TEXTS_AT_ONCE])
        encoded += tokenizer(some, add_special_tokens=special)["input_ids"]
    if (look := events.WATCHED.get()) is not None:
        look(tokenizer, texts, encoded, special)
    return encoded


def letter_tokens(tokenizer: Any, prompt: str, answers: Sequence[str], *, special: bool = True) -> list[int] | None:
    """The single token that each answer adds to the prompt; None where one adds more, or two add the same."""
    base = tokenizer(prompt, add_special_tokens=special)["input_ids"]
    found = []
    for each in answers:
        ids = tokenizer(prompt + each, add_special_tokens=special)["input_ids"]
        if len(ids) != len(base) + 1 or ids[: len(base)] != base:
            return None
        found.append(int(ids[-1]))
    return found if len(set(found)) == len(found) else None


def _spaces_moved(prompt: str, answers: Sequence[str]) -> tuple[str, list[str]]:
    """Move white space from the prompt's end to its answers, as in lm-evaluation-harness, because tokens begin with
    it.
    """
    bare = prompt.rstrip()
    return bare, [prompt[len(bare) :] + each for each in answers]


def _in_template(tokenizer: Any, text: str) -> str:
    """The prompt as a user's turn with the beginning of the assistant's turn, at the date `clock.MOMENT`.

    Raises:
        NotApplicable: there is no template, or it fails, or its output is too long.
        Panic: it ran out of memory.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise NotApplicable("the tokenizer has no chat template")
    turns = [{"role": "user", "content": text}]
    try:
        with clock.stopped() as stopped:
            found = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except Panic:
        raise
    except Exception as error:  # noqa: BLE001 - an untrusted template may fail with any error
        words = next(iter(str(error).splitlines()), "")[:200] or type(error).__name__
        raise NotApplicable(f"the chat template cannot put a user's turn: {words}") from None
    if len(found) > len(text) + MOST_RENDERED:
        raise NotApplicable(f"the chat template makes {len(found):,} characters of a prompt of {len(text):,}")
    if stopped.asked and (notes := events.NOTES.get()) is not None:
        notes.clock = clock.MOMENT.timestamp()
    return str(found)


def end_marks(model: Any, tokenizer: Any, questions: Sequence[Question], form: Form) -> ending.EndMarks:
    """The end tokens that count for these questions in this form; the others are recorded in events.Notes."""
    prompts, options = [render(question, form) for question in questions], [answers(each, form) for each in questions]
    ends = ending.end_marks(model, tokenizer, prompts, {each for some in options for each in some})
    if (notes := events.NOTES.get()) is not None:
        notes.words |= ends.dropped
    return ends


def squeezed(text: str) -> str:
    """Without spaces and case, which ordinary tokenizers may change."""
    return "".join(text.split()).casefold()


def bare(text: str) -> str:
    """Squeezed, and in one of Unicode's forms for the same letters."""
    return squeezed(unicodedata.normalize("NFKC", text))
