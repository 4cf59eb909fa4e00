"""Items and texts from JSON lines: every line is checked, and every error names file and line."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from robustness_gate.errors import FileError
from robustness_gate.inputs.digest import opened, unreadable
from robustness_gate.inputs.filekinds import POINTER, PULL
from robustness_gate.inputs.validation import shown
from robustness_gate.inputs.yaml import kind_in_words
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.questions import Item, Question
from robustness_gate.system import utf8
from robustness_gate.system.sentences import nearest
from robustness_gate.system.utf8 import SURROGATE

MAX_LINE_BYTES = 1_000_000
MAX_CHOICES = 26  # one letter each
ONE_ITEM = "Correct the data: an item has id, question, choices and answer (index from 0); a text has text."
THEMSELVES = (
    "Write the words themselves (pandas makes None and NaN of words: read_csv(dtype=str, keep_default_na=False))."
)
PARQUET = b"PAR1"
"""First bytes of a Parquet file."""


def load_items(path: Path, also: Collection[str] = (), id_column: str = "id") -> tuple[Item, ...]:
    """Read multiple-choice items from JSON lines: `id`, `question`, `choices`, `answer` (index from 0).

    Args:
        path: the file.
        also: further fields that the suite uses, and that are no unknown ones.
        id_column: the field that identifies an item.

    Raises:
        FileError: with file:line, for a line that is not such an item, a repeated id, choices that are not distinct,
            or an item with another number of choices than the first.
    """
    items: list[Item] = []
    ids: set[str] = set()
    for line, record in json_lines(path):
        item = _item(record, f"{path}:{line}", also, id_column)
        if item.question.id in ids:
            raise FileError(
                f"the id '{item.question.id}' was used before",
                remedy="Ids are unique.",
                where=f"{path}:{line}",
                code="bad-item",
            )
        if items and len(item.question.choices) != len(items[0].question.choices):
            raise FileError(
                "has another number of choices than the first item",
                remedy=ONE_ITEM,
                where=f"{path}:{line}",
                code="bad-item",
            )
        ids.add(item.question.id)
        items.append(item)
    if not items:
        raise FileError("holds no items", remedy="Write one JSON object a line.", where=str(path), code="bad-item")
    return tuple(items)


def load_texts(path: Path) -> tuple[str, ...]:
    """Read training texts from JSON lines: the field `text` of each line. Raises FileError with file:line."""
    texts = []
    for line, record in json_lines(path):
        text = text_of(record, f"{path}:{line}")
        if not text.strip():
            raise FileError("'text' is empty", remedy="Take the line out.", where=f"{path}:{line}", code="bad-item")
        texts.append(text)
    if not texts:
        raise FileError("holds no texts", remedy='Write one {"text": "..."} a line.', where=str(path), code="bad-item")
    return tuple(texts)


def text_of(row: Mapping[str, Any], where: str) -> str:
    """The text of a corpus's row; its other columns are ignored. Raises FileError, with the columns found."""
    if "text" not in row:
        raise FileError(
            f"there is no column 'text': {columns_of(row)}",
            remedy="Name the one that is to be read 'text'.",
            where=where,
            code="bad-item",
        )
    if not isinstance(row["text"], str):
        raise FileError(
            f"'text' is {kind_of(row['text'])}", remedy="Write text, or take the row out.", where=where, code="bad-item"
        )
    return row["text"]


def columns_of(row: Mapping[str, Any]) -> str:
    """A row's columns for a message; quotes show a byte order mark or a space in a name."""
    names = ", ".join(repr(str(name)[:40]) for name in list(row)[:12])
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"its columns are {names}{more}" if row else "it has no columns"


def kind_of(value: Any) -> str:
    """The kind of a value that should be text, for a message. Without its content, except for numbers."""
    if value is None:
        return "null"
    if isinstance(value, (bytes, bytearray)):
        return "bytes"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    return {"dict": "a mapping", "list": "a list", "tuple": "a list", "str": "text"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )


def items_digest(items: Sequence[Item]) -> str:
    """SHA-256 over ids, questions, choices and key, in their order."""
    return digest_of([[i.question.id, i.question.stem, list(i.question.choices), i.answer] for i in items])


def _item(record: dict[str, Json], where: str, also: Collection[str], id_column: str) -> Item:
    fields = (id_column, "question", "choices", "answer")
    for key in (*also, *([id_column] if id_column != "id" else [])):  # what the suite names comes first
        if key not in record:
            words = f"there is no column '{key}': {columns_of(record)}"
            raise FileError(words, remedy="Correct the name in the suite.", where=where, code="bad-item")
    for key in record:
        if key not in fields and key not in also:
            raise FileError(f"unknown field '{key}'", remedy=nearest(key, fields), where=where, code="bad-item")
    for key in fields:
        if key not in record:
            raise FileError(f"the field '{key}' is missing", remedy=ONE_ITEM, where=where, code="bad-item")
    id_, stem, choices, key = (record[name] for name in fields)
    if id_column != "id" and isinstance(id_, int | str) and not isinstance(id_, bool):
        id_ = str(id_).strip()
    if not isinstance(id_, str) or not id_ or not isinstance(stem, str) or not stem.strip():
        raise FileError(
            f"'{id_column}' and 'question' must be text that is not empty",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(c, str) and c.strip() for c in choices)
    ):
        odd = next((c for c in choices if not isinstance(c, str)), "") if isinstance(choices, list) else choices
        missing = odd is None or (isinstance(odd, float) and math.isnan(odd))
        named = f"missing ({kind_of(odd)})" if missing else kind_of(odd)
        found = f", and one is {named}" if isinstance(choices, list) and odd != "" else ""
        number = isinstance(odd, (int, float)) and not isinstance(odd, bool) and math.isfinite(odd)
        quoted = 'Write numbers in quotes, as they are to be asked: "2.50".' if number else ONE_ITEM
        raise FileError(
            f"'choices' must be a list of two to {MAX_CHOICES} texts{found}",
            remedy=THEMSELVES if missing and isinstance(choices, list) else quoted,
            where=where,
            code="bad-item",
        )
    if len({" ".join(each.split()) for each in choices}) != len(choices):
        raise FileError("two choices are the same", remedy=ONE_ITEM, where=where, code="bad-item")
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(choices):
        raise FileError(
            f"'answer' must be an index from 0 to {len(choices) - 1}, found {shown(key)}",
            remedy=ONE_ITEM,
            where=where,
            code="bad-item",
        )
    return Item(Question(id_, stem, tuple(choices)), key)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Json]]]:
    """The objects of a JSON-lines file with their line numbers. Raises FileError with file:line."""
    try:
        with opened(path) as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if len(raw) > MAX_LINE_BYTES:
                    raise FileError(
                        f"the line is longer than {MAX_LINE_BYTES:,} bytes",
                        remedy=ONE_ITEM,
                        where=f"{path}:{number}",
                        code="bad-item",
                    )
                if raw.strip():
                    yield number, _json_object(raw, f"{path}:{number}", first=number == 1)
    except OSError as error:
        raise unreadable(path, error) from None


class _Twice(Exception):
    """A field is given twice."""


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


ONCE = json.JSONDecoder(object_pairs_hook=_once)
"""One decoder for all lines: to make one takes as long as to read a line."""


def _json_object(raw: bytes, where: str, *, first: bool) -> dict[str, Json]:
    try:
        text = raw.decode("utf-8")
        record = ONCE.decode(text)
    except _Twice:
        raise FileError("a field is given twice", remedy=ONE_ITEM, where=where, code="bad-item") from None
    except (ValueError, RecursionError) as error:
        if first and raw.startswith(PARQUET):
            raise FileError(
                "is a Parquet file, not JSON lines",
                remedy="Name the folder in which it lies, with no other rows in it: Parquet is read by the folder.",
                where=where,
                code="bad-item",
            ) from None
        if fault := utf8.fault(raw, first=first):
            raise FileError(fault.words, remedy=fault.remedy, where=where, code="not-utf8") from None
        if first and raw.startswith(POINTER):
            raise FileError("is a Git LFS pointer, not the file", remedy=PULL, where=where, code="bad-item") from None
        why = f" ({error.msg}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise FileError(
            f"is not a JSON object{why}", remedy="Write one JSON object a line.", where=where, code="bad-item"
        ) from None
    if not isinstance(record, dict):
        raise FileError(
            f"expected a JSON object, found {kind_in_words(record)}", remedy=ONE_ITEM, where=where, code="bad-item"
        )
    if "\\u" in text and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise FileError("the text holds a lone surrogate", remedy=ONE_ITEM, where=where, code="bad-item")
    return record
