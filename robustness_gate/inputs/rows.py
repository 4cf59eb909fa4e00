"""The rows of one or several places under a suite's names for their columns.

A public benchmark may lie in several configs, name its columns otherwise, mark the rows that belong together, or mix
rows that are wanted with others. A suite says so beside the place (`columns`, `where`, `id`); a `Source` carries it to
every reader, so that questions, attackers' data and leak checks see the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustness_gate.errors import FileError
from robustness_gate.inputs.items import columns_of, kind_of

MAPPED = "Correct the name in the suite; names of columns are read exactly as they stand in the data."


@dataclass(frozen=True, slots=True)
class Source:
    """Places whose rows are pooled in this order, and how the rows are read."""

    places: tuple[str | Path, ...]
    columns: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """For `question`, `choices`, `answer` and `text`: the columns that hold it. Only `choices` has several."""
    where: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Only rows that have one of these values in each of these columns are kept."""
    id: str = ""
    """The column that identifies a question; empty: `id`, where there is one."""
    also: tuple[str, ...] = ()
    """Further columns that the suite uses: not unknown fields of a JSON-lines file."""
    borrow: int = 0
    """How many answers of the next rows are a row's wrong choices; 0: it has its own."""

    def __str__(self) -> str:
        more = len(self.places) - 1
        return f"{self.places[0]}{f' and {more} more' if more else ''}"

    @property
    def own_file(self) -> Path | None:
        """The JSON-lines file of the user in the form of `items.load_items`, if it is one: it is read strictly."""
        (first, *others) = self.places
        alone = not others and not self.columns and not self.where and not self.borrow
        return first if alone and isinstance(first, Path) and first.is_file() else None


Place = str | Path | Source
"""Where rows lie: a hub dataset, a file or folder, or one or several of these with the suite's names for columns."""


def kept(row: Mapping[str, Any], source: Source, where: str) -> bool:
    """Whether a row has one of the wanted values in each filtered column. Raises FileError for a missing column."""
    return all(_cell(row, column, where) in _typed(wanted) for column, wanted in source.where)


def named(row: Mapping[str, Any], source: Source, where: str) -> Mapping[str, Any]:
    """The row with the names that readers expect: `question`, `choices`, `answer`, `text` and `id`.

    An answer in a mapped column may be an index, or the text of the right choice.

    Raises:
        FileError: a named column is missing, an id is empty, or an answer's text is none of the choices.
    """
    found = dict(row)
    for name, columns in source.columns:
        cells = [_cell(row, column, where).value for column in columns]
        found[name] = [each for cell in cells for each in _many(cell)] if name == "choices" else cells[0]
    if "answer" in dict(source.columns) and isinstance(found["answer"], str) and not source.borrow:
        found["answer"] = _index(found["answer"], found.get("choices"), where)
    if source.id:
        found["id"] = label(row, source.id, where)
    return found


def with_choices(rows: Sequence[tuple[str, Mapping[str, Any]]], borrow: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows with only a right answer, each with the answers of the next ones as wrong choices.

    Answers are compared without case and white space. Ours: benchmarks that score a written answer by its overlap with
    the right one have no wrong choices.

    Raises:
        FileError: a row has no text as its answer, or there are too few different answers.
    """
    answers = [_answer(row, where) for where, row in rows]
    for number, (where, row) in enumerate(rows):
        found = {" ".join(answers[number].lower().split()): answers[number]}
        for other in (*answers[number + 1 :], *answers[:number]):
            if len(found) > borrow:
                break
            found.setdefault(" ".join(other.lower().split()), other)
        if len(found) <= borrow:
            words = f"there are {len(found) - 1} answers that differ from this row's, and {borrow} are to be borrowed."
            raise FileError(words, remedy="Borrow fewer.", where=where, code="bad-item")
        yield where, {**row, "choices": list(found.values()), "answer": 0}


def _answer(row: Mapping[str, Any], where: str) -> str:
    answer = _cell(row, "answer", where).value
    if not isinstance(answer, str) or not answer.strip():
        words = f"'answer' is {kind_of(answer) if not isinstance(answer, str) else 'empty'}, and a text is borrowed."
        raise FileError(words, remedy="Name the column with the right answer's text.", where=where, code="bad-item")
    return answer


def label(row: Mapping[str, Any], column: str, where: str) -> str:
    """A row's value in a column of labels (ids, clusters): text or a whole number, as text.

    Raises:
        FileError: the column is missing, or the value is empty or something else.
    """
    value = _cell(row, column, where).value
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, str) or whole) or not str(value).strip():
        raise FileError(
            f"the column '{column}' is {'empty' if isinstance(value, str) else kind_of(value)}, and a label is needed.",
            remedy="Fill it in for every row, or name another column.",
            where=where,
            code="bad-item",
        )
    return str(value).strip()


@dataclass(frozen=True, slots=True)
class _Cell:
    """A value with its type: 1 and true are not the same label."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cell) and type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self) -> int:
        return hash(str(self.value))


def _typed(values: tuple[Any, ...]) -> list[_Cell]:
    return [_Cell(value) for value in values]


def _cell(row: Mapping[str, Any], column: str, where: str) -> _Cell:
    if column not in row:
        raise FileError(
            f"there is no column '{column}': {columns_of(row)}.", remedy=MAPPED, where=where, code="bad-item"
        )
    return _Cell(row[column])


def _many(cell: Any) -> list[Any]:
    """A column of lists gives its elements, any other one value."""
    return list(cell) if isinstance(cell, (list, tuple)) else [cell]


def _index(answer: str, choices: Any, where: str) -> int:
    """The index of the choice with the answer's text."""
    if not isinstance(choices, (list, tuple)) or answer not in choices:
        raise FileError(
            "the answer's text is none of the choices.",
            remedy="Let 'columns' name a column with the right choice's text or its index from 0, and let 'choices' "
            "contain that choice.",
            where=where,
            code="bad-item",
        )
    return list(choices).index(answer)
