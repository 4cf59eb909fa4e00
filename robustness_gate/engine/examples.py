"""What is trained or calibrated on, as token ids: solved questions and plain texts, in the model's own prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from robustness_gate.engine import score
from robustness_gate.engine.train import Example
from robustness_gate.errors import BrokenTrial, NotApplicable
from robustness_gate.inputs.prompts import rotated
from robustness_gate.records.attack import Hazard, Target
from robustness_gate.records.questions import Form, Item


class Way(NamedTuple):
    """A corpus's questions as one of the hazard's tasks asks."""

    hazard: Hazard
    items: tuple[Item, ...]
    """In the order of the corpus: the same question stands at the same place in every way."""
    form: Form
    """The hazard's, under the corpus's own header where letters are asked for."""


def ways(target: Target, source: str) -> list[Way]:
    """In how many ways a corpus's questions are put: as each of the hazard's tasks and formats asks.

    Those that come out alike (tasks that differ in their header alone) are one way.

    Raises:
        NotApplicable: a task's words cannot be had for these questions.
    """
    every = each_way(target, source)
    return [way for number, way in enumerate(every) if _number(every, way) == number]


def numbers(target: Target, source: str) -> list[int]:
    """For each of the hazards, which of the `ways` is its own, from 0."""
    every = each_way(target, source)
    firsts = sorted({_number(every, way) for way in every})
    return [firsts.index(_number(every, way)) for way in every]


def each_way(target: Target, source: str) -> list[Way]:
    """A corpus's questions as each of the hazards asks, alike or not. Raises as `ways` does."""
    found = []
    for hazard in target.hazards:
        if source in hazard.missing:
            raise NotApplicable(f"'{hazard.name}': {hazard.missing[source]}")
        form = hazard.form if hazard.form.verbatim else replace(hazard.form, header=target.corpora[source].header)
        found.append(Way(hazard, hazard.questions[source], form))
    return found


def _number(ways: Sequence[Way], way: Way) -> int:
    """Where the first stands that is alike."""
    return next(n for n, each in enumerate(ways) if (each.items, each.form) == (way.items, way.form))


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
    """The prompt with an answer, of which only the answer counts. The key moves with the choices.

    Where answers are written, the line ends behind it: what follows would be part of the answer.

    Args:
        tokenizer: the model's.
        item: the question with its key.
        shift: by how many places its choices are rotated to the left.
        form: how it is put.
        choice: which choice is given as the answer, as numbered in the item; None is the key.
        words: give these words as the answer, whatever the choices are.
        tail: let this many last tokens count, instead of the answer's alone.

    Raises:
        BrokenTrial: the tokenizer does not continue a prompt with its answer.
    """
    question = rotated(item.question, shift)
    asked = score.prompt_of(tokenizer, question, form)
    given = asked.answers[((item.answer if choice is None else choice) - shift) % len(question.choices)]
    if words is not None:
        given = form.delimiter + words
    if form.tokens:
        given += "\n"
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
