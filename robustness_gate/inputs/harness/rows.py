"""Rows under a task file: each becomes an item, with the stem, choices and answer that its templates give.

A row may have the same choice twice. lm-evaluation-harness then takes the first of the two as the model's answer, and
counts it as wrong where the key is the second; here either counts as the other (`Item.right`).
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from robustness_gate.errors import FileError
from robustness_gate.inputs import datasets
from robustness_gate.inputs.harness import templates
from robustness_gate.inputs.harness.task_file import HarnessTask
from robustness_gate.inputs.harness.templates import LIMITS, Limits
from robustness_gate.inputs.items import kind_of
from robustness_gate.inputs.rows import Place
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.questions import Item, Question
from robustness_gate.system.in_place import TooLong, in_place

CORRECT = "Correct the template or the data."


def read_items(loaded: Loaded[HarnessTask], place: Place, limits: Limits = LIMITS) -> tuple[Item, ...]:
    """Every row of a source as a question in the task's form.

    Raises:
        FileError: with the template's place and the row, where the two do not make a question, or where the templates
            exceed the limits.
    """
    return items_of(loaded, list(datasets.read_rows(place)), place, limits)


def items_of(
    loaded: Loaded[HarnessTask],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    place: Place,
    limits: Limits = LIMITS,
) -> tuple[Item, ...]:
    """Loaded rows, each as a question in the task's form. Raises as `read_items` does."""
    columns = frozenset(column for _, row in rows for column in row)
    items = list[Item]()
    try:
        with in_place(limits.seconds + limits.a_row * len(rows), limits.room):
            for where, row in rows:
                items.append(_Doc(loaded, row, where, columns).item())
    except (TooLong, MemoryError, RecursionError) as error:  # raised between two templates
        raise FileError(
            f"{rows[min(len(items), len(rows) - 1)][0]}: the templates fail: {templates.why(error)}.",
            remedy=CORRECT,
            where=loaded.where("doc_to_text"),
            code="bad-item",
        ) from None
    for item, (where, _) in zip(items, rows, strict=True):
        if len(item.question.choices) != len(items[0].question.choices):
            raise FileError(
                f"{where} has another number of choices than the first row.",
                remedy="Keep the rows with one number: chance must be the same for all.",
                code="bad-item",
                where=loaded.where("doc_to_choice"),
            )
    return datasets.distinct(items, place)


def items_like(
    loaded: Loaded[HarnessTask],
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    place: Place,
    own: Collection[str],
) -> tuple[Item, ...]:
    """The same for rows of attackers, which must have exactly the form of the task's own rows, with the columns `own`.

    A template may work without a column (`default`, `is defined`); then it makes another prompt of rows without it.

    Raises:
        FileError: as `read_items` does, or the template uses a column that is in the task's own rows and missing here.
    """
    here = frozenset(column for _, row in rows for column in row)
    if lacking := sorted((_read_by(loaded.record) & frozenset(own)) - here):
        raise FileError(
            f"its rows have no column '{lacking[0]}', which the template reads and the task's own rows have.",
            remedy="Add the column, so that attacks are made in the words in which the task asks.",
            code="bad-item",
            where=loaded.where("doc_to_text"),
        )
    return items_of(loaded, rows, place)


def _read_by(task: HarnessTask) -> frozenset[str]:
    """Every name that the task's templates use, and the plain columns among them."""
    choices = [task.doc_to_choice] if isinstance(task.doc_to_choice, str) else list(task.doc_to_choice)
    texts = [task.doc_to_text, task.description, *choices]
    texts += [task.doc_to_target] if isinstance(task.doc_to_target, str) else []
    return frozenset(texts).union(*map(templates.names_in, texts))


class _Doc:
    """One row under one task file."""

    def __init__(
        self, loaded: Loaded[HarnessTask], row: Mapping[str, Any], where: str, columns: frozenset[str]
    ) -> None:
        self.loaded, self.row, self.where, self.columns = loaded, row, where, columns
        self.shown = templates.with_holes(row)

    def item(self) -> Item:
        task = self.loaded.record
        choices = self._choices(task.doc_to_choice)
        asked = self._value("doc_to_text", task.doc_to_text)
        if not isinstance(asked, str):
            raise self._wrong("doc_to_text", f"gives {kind_of(asked)}, which is no text")
        if task.doc_to_text not in self.columns and asked.isdigit():
            raise self._wrong("doc_to_text", f"renders to the number {asked}, which lm-evaluation-harness takes apart")
        header = self._value("description", task.description) if task.description else ""
        stem = f"{header}{asked}"
        if not stem.strip():
            raise self._wrong("doc_to_text", "renders to nothing")
        name = self.row.get("id")
        id_ = datasets.id_of(stem, choices) if name is None or name == "" else datasets.words(name, "'id'", self.where)
        return Item(Question(id_, stem, choices), self._answer(task.doc_to_target, choices))

    def _choices(self, source: str | tuple[str, ...]) -> tuple[str, ...]:
        found: Any = source
        if isinstance(source, str):
            found = self._value("doc_to_choice", source)
            if source not in self.columns:
                try:
                    found = ast.literal_eval(found)
                except (ValueError, SyntaxError, MemoryError, RecursionError):
                    raise self._wrong("doc_to_choice", f"renders to no list: {found[:60]!r}") from None
        if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
            raise self._wrong("doc_to_choice", "gives no list of texts")
        for place, each in enumerate(found):
            if not isinstance(each, str):
                raise self._wrong("doc_to_choice", f"gives no list of texts: choice {place} is {kind_of(each)}")
        if not all(found) or len({" ".join(each.split()) for each in found}) < 2:
            raise self._wrong("doc_to_choice", "must give at least two different choices, none of them empty")
        return tuple(found)

    def _answer(self, source: int | str, choices: tuple[str, ...]) -> int:
        found: Any = source if isinstance(source, int) else self._value("doc_to_target", source)
        if isinstance(found, str):
            if source not in self.columns and found.isdecimal() and found.isascii():
                found = int(found)
            elif found in choices:
                found = choices.index(found)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(choices):
            raise self._wrong("doc_to_target", f"gives {found!r}: neither an index from 0 nor one of the choices")
        return found

    def _value(self, key: str, source: str) -> Any:
        if source in self.columns:
            if source not in self.row:
                raise self._wrong(key, f"the column '{source}' is missing")
            return self.row[source]
        try:
            return templates.compiled(source).render(self.shown)
        except templates.Unsaid as error:
            raise self._wrong(key, f"the template {error}") from None
        except templates.failures() as error:
            raise self._wrong(key, f"the template fails: {templates.why(error)}") from None

    def _wrong(self, key: str, words: str) -> FileError:
        return FileError(
            f"{key}, {self.where}: {words}.",
            remedy=CORRECT,
            where=self.loaded.where(key),
            code="bad-item",
        )
