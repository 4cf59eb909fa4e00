"""No attacker sees a verdict item: a suite whose data for attackers hold one is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustness_gate.errors import PlanError
from robustness_gate.inputs import same_question
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.task_data import TaskData
from robustness_gate.records.attack import Corpus, Hazard
from robustness_gate.records.questions import Form, Item
from robustness_gate.records.suite import Suite

DISJOINT = "The attacker's data and the verdict items must be disjoint."


def refuse_leaks(
    suite: Loaded[Suite], asked: Mapping[str, TaskData], hazards: Sequence[Hazard], corpora: Mapping[str, Corpus]
) -> None:
    """Refuse a verdict item, by id or by its text, in the attackers' data, or inside a text with its answer.

    Args:
        suite: for the places in messages.
        asked: all tasks, with their verdict items.
        hazards: with the dev items that attackers select on.
        corpora: what attackers train on.

    Raises:
        PlanError: an item is on both sides.
    """
    seen_by_attacker: list[tuple[tuple[str, ...], tuple[Item, ...], bool]] = [
        (("corpora", name), corpus.items, False) for name, corpus in corpora.items()
    ]
    for each in hazards:
        task = each.name.removesuffix(".chat")
        theirs = ("tasks", task, "roles") if suite.noun.tasks[task].roles else ("dev",)
        seen_by_attacker.append((theirs, each.dev, _whole(each.form)))
    for name, task_data in asked.items():
        if task_data.bare:  # an attacker may have the texts that were to be forgotten
            continue
        for at, items, whole in seen_by_attacker:
            if (leaked := _leaked(task_data, items, whole=whole)) is not None:
                raise PlanError(
                    f"the verdict item '{leaked.question.id}' of '{name}' is also in '{'.'.join(at)}'.",
                    remedy=DISJOINT,
                    where=suite.where(*at),
                    code="leak",
                )
        for source, corpus in corpora.items():
            if (found := same_question.quoted(corpus.texts, task_data.items)) is not None:
                number, item = found
                raise PlanError(
                    f"the verdict item '{item.question.id}' of '{name}' stands with its answer in text {number} of "
                    f"'corpora.{source}'.",
                    remedy=DISJOINT,
                    where=suite.where("corpora", source, "texts"),
                    code="leak",
                )


def _leaked(task_data: TaskData, items: Sequence[Item], *, whole: bool) -> Item | None:
    """The first of the attackers' items that is a verdict item too; `whole`: their stems are whole prompts."""
    ids = {item.question.id for item in task_data.items}
    words = {same_question.words_of(item) for item in task_data.items}
    alike = _whole(task_data.form) == whole
    for item in items:
        seen = same_question.words_of(item)
        if item.question.id in ids or seen in words or (not alike and any(_within(seen, each) for each in words)):
            return item
    return None


def _whole(form: Form) -> bool:
    """Whether a stem is the whole prompt."""
    return form.verbatim and not form.wording


def _within(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether a verbatim stem, which is a whole prompt, contains a question and its answer."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
