"""What a task kind makes of its source is checked before anything is asked: its questions and their form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from robustness_gate.errors import PlanError
from robustness_gate.records.questions import Form, Item


def check_items(kind: str, items: Any, where: str) -> tuple[Item, ...]:
    """The questions as a tuple. Raises PlanError where they are not what `tasks` describes."""
    found: tuple[Any, ...] = tuple(items) if isinstance(items, list | tuple) else ()
    if not found or not all(isinstance(each, Item) for each in found):
        what = "none" if items in ((), []) else "something other than a tuple of Items"
        raise _odd(kind, f"its `questions` makes {what}", where)
    if fault := next(_faults_of(found), ""):
        raise _odd(kind, fault, where)
    return found


def check_form(kind: str, module: ModuleType, items: Sequence[Item], form: Any, where: str) -> Form:
    """The form in which the questions are asked. Raises PlanError where the two do not fit."""
    if not isinstance(form, Form):
        raise _odd(kind, "its `put` makes no Form", where)
    answers = len(items[0].question.choices)
    if not form.verbatim and len(form.letters) != answers:
        raise _odd(kind, f"its form has {len(form.letters)} letters, and its questions have {answers} answers", where)
    lettered = module.JUDGED.attacked_as == "multiple_choice"
    if module.JUDGED.hazard and lettered == form.verbatim:
        words = "has no letters" if form.verbatim else "has letters"
        raise _odd(kind, f"it is attacked as {module.JUDGED.attacked_as}, and its form {words}", where)
    if bool(form.tokens) != module.JUDGED.generative:
        what = "generates answers" if module.JUDGED.generative else "generates no answers"
        raise _odd(kind, f"it {what}, and its form allows {form.tokens} tokens of them", where)
    return form


def _faults_of(items: Sequence[Any]) -> Iterator[str]:
    seen, answers = set[str](), len(items[0].question.choices)
    for item in items:
        its = f"its item '{item.question.id}'"
        if item.question.id in seen:
            yield f"{its} is there twice"
        if answers < 2:
            yield f"{its} has {answers} choices, and at least two are needed, also where the answer is written"
        if len(item.question.choices) != answers:
            yield f"{its} has {len(item.question.choices)} answers, and the first one has {answers}"
        if not isinstance(item.answer, int) or not 0 <= item.answer < answers:
            yield f"the right answer of {its} is none of its answers"
        seen.add(item.question.id)


def _odd(kind: str, fault: str, where: str) -> PlanError:
    return PlanError(
        f"the task kind '{kind}' cannot be asked: {fault}.",
        remedy="Mend the kind's file; `tasks/cloze.py` is the shortest example.",
        where=where,
        code="unknown-kind",
    )
