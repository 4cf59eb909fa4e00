"""Refuse verdict questions in the attackers' data: by id, and by their text, however a kind rewords its rows.

A task kind may put its rows in other words and under other ids. So each question is compared as it is asked and as its
row states it, and each row of the attackers as it stands and as every kind of the suite rewords it. Texts are compared
without case, white space and punctuation marks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from robustness_gate.errors import FileError, PlanError
from robustness_gate.inputs import datasets, same_question
from robustness_gate.inputs.rows import Place
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.corpora import Rows, columns
from robustness_gate.planning.sources import locate, readable
from robustness_gate.planning.task_data import Asked, TaskData
from robustness_gate.records.attack import Corpus, Hazard
from robustness_gate.records.questions import Item
from robustness_gate.records.suite import Suite


class Side(NamedTuple):
    """Questions in one form."""

    items: tuple[Item, ...]
    whole: bool = False
    """Whether a stem is a prompt that a kind made, which contains the question."""
    plain: tuple[Item, ...] = ()
    """The same questions as their rows state them, where that differs."""


At = tuple[str, ...]
Words = tuple[str, str]
"""A question's stem and its right answer."""


def refuse_leaks(
    suite: Loaded[Suite],
    asked_of: Mapping[str, TaskData],
    hazards: Sequence[Hazard],
    corpora: Mapping[str, Corpus],
    read: Mapping[str, Asked],
    rows: Mapping[str, Rows],
) -> None:
    """Refuse a verdict question in the attackers' data, as it is asked, as it stands, and as any kind rewords it.

    Args:
        suite: the suite, for the place of an error.
        asked_of: all tasks, with their verdict items.
        hazards: with the dev items that attackers select on.
        corpora: what attackers train on.
        read: each task as its kind reads it.
        rows: the rows of each corpus's questions.

    Raises:
        PlanError: an item is on both sides.
    """
    record, seen = suite.record, list[tuple[At, Side]]()
    for name, corpus in corpora.items():
        plain = readable(rows[name].rows, rows[name].place) if rows[name].odd else ()
        seen.append((("corpora", name), Side(corpus.items, plain=plain)))
        seen += _as_reworded(("corpora", name), rows[name].rows, rows[name].place, read)
    for each in hazards:
        task = each.name.removesuffix(".chat")
        asked = read[task]
        theirs = _division(record, task) if record.tasks[task].divided else ("dev",)
        plain = _plain(suite, task, asked, asked.dev) if record.tasks[task].divided else ()
        seen.append((theirs, Side(each.dev, asked.whole(each.form), plain)))
    if record.dev:
        place = locate(record.dev, suite, "dev")
        found = tuple(datasets.read_rows(place))
        seen.append((("dev",), Side(readable(found, place))))
        seen += _as_reworded(("dev",), found, place, read)
    judged = {}
    for name, task_data in asked_of.items():
        asked = read[name.removesuffix(".chat")]
        if not task_data.bare:  # an attacker may have the texts that were to be forgotten
            plain = _plain(suite, name.removesuffix(".chat"), asked, asked.judged)
            judged[name] = Side(task_data.items, asked.whole(task_data.form), plain)
    _refuse(suite, judged, seen, {name: corpus.texts for name, corpus in corpora.items()})


def _division(record: Suite, task: str) -> At:
    """The place in the suite that divides a task's items."""
    return ("tasks", task, "roles" if record.tasks[task].roles else "roles_of")


def _as_reworded(
    at: At, rows: Sequence[tuple[str, Mapping[str, Any]]], place: Place, read: Mapping[str, Asked]
) -> Iterator[tuple[At, Side]]:
    """The attackers' rows as each kind of the suite rewords them."""
    for asked in read.values() if rows else ():
        if asked.rewords:
            with contextlib.suppress(FileError):  # rows of another shape than this kind reads
                yield at, Side(asked.reworded(rows, place, columns(asked.given.place)), whole=True)


def _plain(suite: Loaded[Suite], name: str, asked: Asked, items: tuple[Item, ...]) -> tuple[Item, ...]:
    """Some of a task's questions as their rows state them. Raises PlanError where their rows are not known."""
    if not asked.rewords:
        return items
    rows = tuple(datasets.read_rows(asked.given.place))
    if len(rows) == len(asked.items):
        ids = {item.question.id for item in items}
        rows = tuple(row for item, row in zip(asked.items, rows, strict=True) if item.question.id in ids)
    elif asked.given.task.divided:
        raise PlanError(
            f"'{name}' makes {len(asked.items)} items of {len(rows)} rows, so its rows cannot be divided.",
            remedy="Do not divide it, or let the kind make one item of each row.",
            where=suite.where(*_division(suite.record, name)),
            code="roles",
        )
    return readable(rows, asked.given.place)


def _refuse(
    suite: Loaded[Suite],
    judged: Mapping[str, Side],
    seen: Sequence[tuple[At, Side]],
    texts: Mapping[str, Sequence[str]],
) -> None:
    """Check that no attacker sees a verdict question.

    Args:
        suite: the suite, for the place of an error.
        judged: the verdict questions by task.
        seen: the attackers' questions with their place in the suite.
        texts: the attackers' texts by corpus.

    Raises:
        PlanError: a verdict question, by id or by its text, is in the attackers' data, or is in a text with its answer.
    """
    for name, side in judged.items():
        questions = tuple(dict.fromkeys((*side.items, *side.plain)))
        ids, asked = (
            {item.question.id for item in side.items},
            {same_question.bare_words_of(item) for item in questions},
        )
        for at, other in seen:
            for item in (*other.items, *other.plain):
                mine = same_question.bare_words_of(item)
                inside = side.whole != other.whole and any(_within(mine, each) for each in asked)
                if item.question.id in ids or mine in asked or inside:
                    raise _found(suite, at, f"'{item.question.id}' of '{name}' is also in '{'.'.join(at)}'")
        for source, its in texts.items():
            if (quoted := same_question.quoted(its, questions)) is not None:
                number, item = quoted
                words = (
                    f"'{item.question.id}' of '{name}' stands with its answer in text {number} of 'corpora.{source}'"
                )
                raise _found(suite, ("corpora", source, "texts"), words)


def _found(suite: Loaded[Suite], at: At, words: str) -> PlanError:
    return PlanError(
        f"the verdict item {words}.",
        remedy="The attacker's data and the verdict items must be disjoint.",
        where=suite.where(*at),
        code="leak",
    )


def _within(one: Words, other: Words) -> bool:
    """Whether a prompt that a kind made contains a question and its answer."""
    return any(a[0] in b[0] and a[1] in f"{b[0]} {b[1]}" for a, b in ((one, other), (other, one)))
