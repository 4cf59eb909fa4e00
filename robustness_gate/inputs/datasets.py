"""Sources of questions and texts: their rows become items, or texts for attackers.

A suite names a source in one of four ways:

    organism:forget.verdict.jsonl                                  shipped with the package
    data/items.jsonl                                               JSON lines, relative to the suite
    data/wmdp-bio                                                  a folder of *.jsonl or *.parquet, one benchmark
    hf-dataset://cais/wmdp@7125…0ff8/wmdp-bio/test                 a hub dataset: owner/name@revision/config/split

`tables.py` finds the rows of a folder and of a hub dataset. The rows have the shape of WMDP and MMLU: `question`,
`choices`, `answer` (index from 0); other columns are ignored and a missing `id` is made from the text. Two choices of a
row may be the same, and either then counts as the other (`Item.right`); in a single JSON-lines file, which is the
user's own, that is refused. A task of the kind `lm_eval` reads the same four with rows of any shape: its YAML makes the
questions (`harness/`). Several places pooled, other names of columns and a filter are a `rows.Source`.

*Words.* Questions and choices are text. Numbers are converted to text, as many tables contain them; in a single
JSON-lines file they are refused, because there the user can write `2.50` in quotes and JSON would read `2.5`. A null,
NaN, a truth value and bytes are refused with their row: they are conversion errors of text (`None`, `nan`, `no`).
Training texts have one column, `text`, in any of the four; other columns are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from robustness_gate.errors import FileError
from robustness_gate.inputs import tables
from robustness_gate.inputs.digest import opened
from robustness_gate.inputs.filekinds import POINTER, PULL
from robustness_gate.inputs.items import (
    MAX_CHOICES,
    ONE_ITEM,
    THEMSELVES,
    columns_of,
    items_digest,
    json_lines,
    kind_of,
    load_items,
    load_texts,
    text_of,
)
from robustness_gate.inputs.rows import Place, Source, kept, named, with_choices
from robustness_gate.records.questions import Item, Question
from robustness_gate.system import utf8


def read_items(place: Place) -> tuple[Item, ...]:
    """Items from a JSON-lines file, a folder, a hub dataset, or a `Source` of these.

    Raises:
        FileError: the source does not contain such items.
        UsageError: a hub reference that is not pinned by its commit.
        SetupError: huggingface_hub or pyarrow is needed and not installed.
    """
    if isinstance(place, Path) and place.is_file():
        return load_items(place)
    if isinstance(place, Source) and place.own_file is not None:
        return load_items(place.own_file, place.also, place.id or "id")
    return of_rows(read_rows(place), place)


def read_rows(place: Place) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a source, each with its place for messages. Raises as `read_items` does."""
    if isinstance(place, Source):
        found = (each for one in place.places for each in read_rows(one))
        mine = ((where, named(row, place, where)) for where, row in found if kept(row, place, where))
        yield from with_choices(tuple(mine), place.borrow) if place.borrow else mine
    elif isinstance(place, Path) and place.is_file():
        yield from ((f"{place}:{line}", row) for line, row in json_lines(place))
    else:
        rows = tables.of_folder(place) if isinstance(place, Path) else tables.of_hub(place)
        yield from ((f"{place}, row {number}", row) for number, row in enumerate(rows, start=1))


def of_rows(rows: Iterable[tuple[str, Mapping[str, Any]]], place: Place) -> tuple[Item, ...]:
    """Items from rows of the shape of WMDP and MMLU. Raises FileError for other rows."""
    return distinct((_item(row, where) for where, row in rows), place)


def distinct(found: Iterable[Item], place: Place) -> tuple[Item, ...]:
    """The items; repeated ids become ID-2 and so on. Raises FileError where there is none."""
    items: dict[str, Item] = {}
    for item in found:
        options = len(item.question.choices)
        if items and options != len(next(iter(items.values())).question.choices):
            raise FileError(
                f"the item '{item.question.id}' has another number of choices than the first one.",
                remedy=ONE_ITEM,
                where=str(place),
                code="bad-item",
            )
        id_, copies = item.question.id, 1
        while id_ in items:  # public benchmarks repeat rows; each counts, as in other evaluations
            copies += 1
            id_ = f"{item.question.id}-{copies}"
        items[id_] = replace(item, question=replace(item.question, id=id_))
    if not items:
        raise FileError("holds no items.", remedy=ONE_ITEM, where=str(place), code="bad-item")
    return tuple(items.values())


def read_texts(place: Place) -> tuple[str, ...]:
    """Training texts from a JSON-lines file, a folder, or a hub dataset: the column `text`.

    In a folder or a dataset a text of white space alone is left out; in a single file, which is the user's own, it is
    refused.

    Raises:
        FileError: there is no such column, or it contains something other than text.
        UsageError, SetupError: as `read_items` does.
    """
    if isinstance(place, Path) and place.is_file():
        return load_texts(place)
    texts = tuple(text for where, row in read_rows(place) if (text := text_of(row, where)).strip())
    if not texts:
        raise FileError("holds no texts.", remedy="Name the column 'text'.", where=str(place), code="bad-item")
    return texts


def read_ids(place: str | Path) -> tuple[str, ...]:
    """One id in each line; blank lines and lines that start with # are ignored. Raises FileError if there is none."""
    try:
        with opened(Path(place)) as file:
            raw = file.read()
    except OSError as error:
        raise FileError(f"cannot be read: {error}.", remedy=ONE_ITEM, where=str(place), code="bad-item") from None
    if fault := utf8.fault(raw):
        raise FileError(fault.words, remedy=fault.remedy, where=str(place), code="not-utf8")
    if raw.startswith(POINTER):
        raise FileError("is a Git LFS pointer, not the file", remedy=PULL, where=str(place), code="bad-item")
    ids = tuple(line.strip() for line in raw.decode().splitlines() if line.strip() and not line.startswith("#"))
    if not ids:
        raise FileError("names no items.", remedy="Write one id a line.", where=str(place), code="bad-item")
    return ids


def id_of(stem: str, choices: Sequence[str]) -> str:
    """An id for an item without one: 16 hex digits of the SHA-256 of its text, key left out."""
    return items_digest([Item(Question("", stem, tuple(choices)), 0)])[:16]


def _item(row: Mapping[str, Any], where: str) -> Item:
    for name in ("question", "choices", "answer"):
        if name not in row:
            raise FileError(
                f"the column '{name}' is missing: {columns_of(row)}.",
                remedy="WMDP's and MMLU's have it; rows of another shape are read by a task of the kind 'lm_eval'.",
                where=where,
                code="bad-item",
            )
        if row[name] is None:
            raise FileError(f"'{name}' is null.", remedy=ONE_ITEM, where=where, code="bad-item")
    if not isinstance(row["choices"], (list, tuple)):
        raise FileError("'choices' must be a list.", remedy=ONE_ITEM, where=where, code="bad-item")
    stem, answer = words(row["question"], "'question'", where), row["answer"]
    choices = [words(each, f"'choices[{number}]'", where) for number, each in enumerate(row["choices"])]
    if not stem.strip() or not 2 <= len(choices) <= MAX_CHOICES or not all(each.strip() for each in choices):
        raise FileError(
            f"a question and two to {MAX_CHOICES} choices are needed, none empty.",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    if isinstance(answer, bool) or not isinstance(answer, int) or not 0 <= answer < len(choices):
        raise FileError(
            f"'answer' must be an index from 0 to {len(choices) - 1}, found {answer!r}.",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    id_ = row.get("id")
    return Item(Question(words(id_, "'id'", where) if id_ else id_of(stem, choices), stem, tuple(choices)), answer)


def words(value: Any, name: str, where: str) -> str:
    """A text, or a finite number as text. Raises FileError for everything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, str) or whole or (isinstance(value, float) and math.isfinite(value))):
        remedy = "Decode them." if isinstance(value, bytes) else THEMSELVES
        raise FileError(f"{name} is {kind_of(value)}, not text.", remedy=remedy, where=where, code="bad-item")
    return str(value)
