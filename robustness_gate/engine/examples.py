"""Examples for training and calibration as token ids: solved questions and plain texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from robustness_gate.engine import prompting
from robustness_gate.engine.train import Example
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.inputs.prompts import rotated
from robustness_gate.records.attack import Hazard, Target
from robustness_gate.records.questions import Form, Item


class Way(NamedTuple):
    """A corpus's questions in the form of one of the hazard's tasks."""

    hazard: Hazard
    items: tuple[Item, ...]
    """In the order of the corpus: a question has the same index in every way."""
    form: Form
    """The hazard's form, with the corpus's own header where letters are asked for."""


def ways(target: Target, source: str) -> list[Way]:
    """The ways in which a corpus's questions are asked: one for each of the hazard's tasks and formats.

    Equal ways (of tasks that differ in their header, or in how answers are read, alone) are merged.

    Raises:
        NotApplicable: a task's prompts cannot be made for these questions.
    """
    every = each_way(target, source)
    return [way for number, way in enumerate(every) if _number(every, way) == number]


def numbers(target: Target, source: str) -> list[int]:
    """For each of the hazards, the index of its way in `ways`."""
    every = each_way(target, source)
    firsts = sorted({_number(every, way) for way in every})
    return [firsts.index(_number(every, way)) for way in every]


def each_way(target: Target, source: str) -> list[Way]:
    """A corpus's questions in the form of each of the hazards, without merging. Raises as `ways` does."""
    found = []
    for hazard in target.hazards:
        if source in hazard.missing:
            raise NotApplicable(f"'{hazard.name}': {hazard.missing[source]}")
        found.append(Way(hazard, hazard.questions[source], hazard.form_of(target.corpora[source])))
    return found


def _number(ways: Sequence[Way], way: Way) -> int:
    """The index of the first equal way."""
    asked = [(each.items, replace(each.form, by_margin=False)) for each in (*ways, way)]
    return asked.index(asked[-1])


def answered(
    tokenizer: Any,
    item: Item,
    shift: int,
    form: Form,
    *,
    choice: int | None = None,
    words: str | None = None,
    tail: int | None = None,
) -> Example:
    """The prompt with an answer; only the answer counts in the loss. The key moves with the choices.

    For written answers a line end follows, because any further text would be part of the answer.

    Args:
        tokenizer: the model's.
        item: the question with its key.
        shift: by how many places its choices are rotated to the left.
        form: the form of the prompt.
        choice: which choice is given as the answer, as numbered in the item; None is the key.
        words: the text of the answer, independent of the choices.
        tail: this many last tokens count, instead of the answer's alone.

    Raises:
        BrokenTrial: the tokenizer does not continue a prompt with its answer.
    """
    question = rotated(item.question, shift)
    asked = prompting.prompt_of(tokenizer, question, form)
    answer = asked.answers[((item.answer if choice is None else choice) - shift) % len(question.choices)]
    if words is not None:
        answer = form.delimiter + words
    if form.tokens:
        answer += "\n"
    before, ids = prompting.encode(tokenizer, [asked.text, asked.text + answer], special=asked.special)
    if len(ids) <= len(before) or ids[: len(before)] != before:
        raise BrokenTrial("the tokenizer does not continue a prompt with its answer: does it append EOS?")
    first = len(before) if tail is None else min(len(before), max(1, len(ids) - tail))
    return Example(ids, [position >= first for position in range(len(ids))])


def plain(tokenizer: Any, text: str, *, longest: int, tail: int | None = None) -> Example | None:
    """A text's first `longest` tokens, of which all but the first count, or the last `tail`; None for one token."""
    ids = prompting.encode(tokenizer, [text], special=True)[0][:longest]
    first = 1 if tail is None else max(1, len(ids) - tail)
    return Example(ids, [position >= first for position in range(len(ids))]) if len(ids) > 1 else None
