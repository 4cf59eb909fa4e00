"""What is trained or calibrated on, as token ids: solved questions and plain texts, in the model's own prompts."""

from __future__ import annotations

from typing import Any

from robustness_gate.engine import score
from robustness_gate.engine.train import Example
from robustness_gate.errors import BrokenTrial
from robustness_gate.nouns import Form, Item
from robustness_gate.prompts import rotated


def answered(
    tokenizer: Any, item: Item, shift: int, form: Form, *, choice: int | None = None, tail: int | None = None
) -> Example:
    """The prompt with an answer, of which only the answer counts. The key moves with the choices.

    Args:
        tokenizer: the model's.
        item: the question with its key.
        shift: by how many places its choices are rotated to the left.
        form: how it is put.
        choice: which choice is given as the answer, as numbered in the item; None is the key.
        tail: let this many last tokens count, instead of the answer's alone.

    Raises:
        BrokenTrial: the tokenizer does not continue a prompt with its answer.
    """
    question = rotated(item.question, shift)
    asked = score.prompt_of(tokenizer, question, form)
    given = asked.answers[((item.answer if choice is None else choice) - shift) % len(question.choices)]
    before, ids = score.encode(tokenizer, [asked.text, asked.text + given], special=asked.special)
    if len(ids) <= len(before) or ids[: len(before)] != before:
        raise BrokenTrial("the tokenizer does not continue a prompt with its answer: does it append EOS?")
    first = len(before) if tail is None else min(len(before), max(1, len(ids) - tail))
    return Example(ids, [position >= first for position in range(len(ids))])


def plain(tokenizer: Any, text: str, *, longest: int, tail: int | None = None) -> Example | None:
    """A text's first `longest` tokens, of which all but the first count, or the last `tail`; None for one token."""
    ids = score.encode(tokenizer, [text], special=True)[0][:longest]
    first = 1 if tail is None else max(1, len(ids) - tail)
    return Example(ids, [position >= first for position in range(len(ids))]) if len(ids) > 1 else None
