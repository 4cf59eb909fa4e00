"""From plain data to frozen records, with file:line:column for every error.

The data pass through canonical JSON into strict models, so that the validated data are those of the digest.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from robustness_gate.errors import FileError
from robustness_gate.inputs import unpinned
from robustness_gate.inputs.yaml import Path_, Raw, Spot, kind_in_words, read_yaml, where_in
from robustness_gate.records.base import Record
from robustness_gate.records.encode import Json, record_of
from robustness_gate.records.suite import Suite
from robustness_gate.system.sentences import nearest

N = TypeVar("N", bound=Record)


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """A record read from a file, with the file's digest and its positions."""

    record: N
    path: Path
    sha256: str
    """Digest of the raw bytes, for a reviewer."""
    text: str
    """Those bytes, so that the file, which may change, need not be read again."""
    places: Mapping[Path_, Spot] = field(repr=False)
    """The position of every key and element: in this file, or in the one that it extends."""
    parent: Loaded[N] | None = None
    """The file that this one extends, with its own bytes: `record` is then the two merged, `sha256` and `text` are the
    child's."""

    def where(self, *path: str | int) -> str:
        """`file:line:column` of the nearest existing element on the way to `path`."""
        return where_in(self.places, path) or f"{self.path}:1:1"


def load_suite(path: Path) -> Loaded[Suite]:
    """Read a suite file. Raises FileError with a position for anything that is not exactly a suite, and for one with
    fields that are not pinned.
    """
    raw = read_yaml(path)
    unpinned.refuse(raw, f"`robustness-gate suites pin {path} --out FILE` asks the hub and writes the suite with them.")
    return validate(raw, Suite)


def load_record(path: Path, kind: type[N]) -> Loaded[N]:
    """Read any record from YAML. Raises FileError with a position for anything that is not exactly such a record."""
    return validate(read_yaml(path), kind)


def validate(raw: Raw, kind: type[N], parent: Loaded[N] | None = None) -> Loaded[N]:
    """The record from plain data. Raises FileError with a position for anything that is not exactly such a record."""
    try:
        record = record_of(kind, raw.data)
    except ValidationError as error:
        raise _complaint(raw, kind, error) from None
    return Loaded(record, raw.path, raw.sha256, raw.text, raw.places, parent)


class _Texts(Record):
    """A mapping of any names to texts."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]


def load_texts(path: Path) -> dict[str, str]:
    """A producer's claims: a YAML mapping of names to texts. Raises FileError for anything else."""
    return dict(load_record(path, _Texts).record.__pydantic_extra__)


def _complaint(raw: Raw, kind: type[Record], error: ValidationError) -> FileError:
    """The first error in the order of the file, with the number of others."""
    found = []
    errors = error.errors(include_url=False)
    strangers = {one["loc"] for one in errors if one["type"] == "extra_forbidden"}
    for one in errors:
        at = _existing(one["loc"], raw.data)
        if one["type"] == "too_short" and _get(raw.data, at):  # pydantic does not count elements that are wrong
            continue
        if one["type"] == "missing" and _misspelt(one["loc"], strangers):
            continue
        if one["type"] == "string_type" and isinstance(_get(raw.data, at), list) and _may_be_a_list(one["loc"], errors):
            continue
        words = _words(kind, at, one, raw.data)
        # an unsupported key comes first: it may be the reason for missing ones
        found.append(((words[0] != "unsupported-key", *_rank(raw, at)), words, at))
    (_, (code, message, remedy), at), more = min(found, key=lambda each: each[0]), len(found) - 1
    name = ".".join(str(part) for part in at)
    return FileError(
        f"{name}: {message}" if name else message,
        remedy=remedy + others(more),
        where=where_in(raw.places, at) or f"{raw.path}:1:1",
        code=code,
    )


def others(more: int) -> str:
    """A sentence with the number of further mistakes."""
    return f" ({more} more to mend after this one.)" if more else ""


def _rank(raw: Raw, at: Path_) -> tuple[bool, int, int]:
    """Sort key: the file itself before the one that it extends, then by line and column."""
    path, line, column = raw.places.get(at, (raw.path, 1, 1))
    return path != raw.path, line, column


def _misspelt(missing: Path_, strangers: set[Path_]) -> bool:
    """Whether a missing key is probably a misspelt unknown one next to it: then only one error is reported."""
    beside = [str(loc[-1]) for loc in strangers if loc[:-1] == missing[:-1]]
    return bool(difflib.get_close_matches(str(missing[-1]), beside, n=1, cutoff=0.5))


def _may_be_a_list(loc: Sequence[str | int], errors: Sequence[typing.Any]) -> bool:
    """Whether a text's key may also be a list, and elements of that list have errors of their own.

    `loc` ends with `str`, pydantic's tag of that branch; an element's ends with the other branch's tag and its index.
    """
    beside = (one["loc"] for one in errors if one["loc"][: len(loc) - 1] == loc[:-1])
    return loc[-1] == "str" and any(len(other) == len(loc) + 1 and isinstance(other[-1], int) for other in beside)


def _existing(loc: Sequence[str | int], data: Json) -> Path_:
    """The part of pydantic's location that exists in the file (it adds union tags and missing keys)."""
    at: list[str | int] = []
    for part in loc:
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif part == "[key]":
            break
        else:
            continue
        at.append(part)
    return tuple(at)


NUMBERS_TO_BE_REFUSED = frozenset([".nan", ".inf", "-.inf", "+.inf", "nan", "inf", "-inf", "infinity", "-infinity"])


def _words(kind: type[Record], at: Path_, error: typing.Any, data: Json) -> tuple[str, str, str]:
    """Code, message and remedy of one of pydantic's errors."""
    what, loc, context = error["type"], error["loc"], error.get("ctx", {})
    value = _get(data, at)
    got = shown(value)
    if what == "extra_forbidden":
        refused: Mapping[str, str] = getattr(kind, "REFUSED", {})  # known at another place, and not allowed here
        if len(at) == 1 and at[0] in refused:
            return "unsupported-key", "this key is not supported", refused[str(at[0])]
        return "unknown-key", "unknown key", nearest(str(loc[-1]), _keys_of(kind, at[:-1]))
    if what == "missing":
        return "missing-key", f"the key '{loc[-1]}' is missing", "Add it."
    if what in {"float_type", "int_type", "float_parsing", "int_parsing", "int_from_float"}:
        if str(value).lower() in NUMBERS_TO_BE_REFUSED:
            return "not-finite", f"expected a number, found {got}", "Write a finite one."
        whole = "a whole number" if what.startswith("int") else "a number"
        remedy = "Write it without quotes or a percent sign, e.g. 0.4."
        return "not-a-number", f"expected {whole}, found {got}", remedy
    if what == "bool_type":
        return "not-a-boolean", f"expected true or false, found {got}", "Write true or false without quotes."
    if what == "string_type":
        return "not-text", f"expected text, found {got}", _as_text(value, in_list=isinstance(at[-1], int))
    if what.startswith("date"):
        return "not-a-date", f"expected a date, found {got}", "Write it as 2026-12-31."
    if what in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        signal = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}[what]
        limit = next(iter(context.values()))
        return "out-of-range", f"must be {signal} {limit}, found {got}", "Write a number in that range."
    if what == "literal_error":
        if at == ("schema",):
            return "unknown-schema", f"must be {context['expected']}, found {got}", "Nothing else can be read here."
        return "unknown-value", f"must be {context['expected']}, found {got}", "Choose one of these."
    if what in {"too_short", "string_too_short"}:
        if (least := context.get("min_length", 1)) > 1:
            return "too-short", f"must be at least {least} long, found {got}", "Say more."
        return "empty", "must not be empty", "Name at least one, or take the key out where it may be left out."
    if what == "string_too_long":
        return "bad-form", f"must be at most {context['max_length']} characters long", "Shorten it."
    if what == "string_pattern_mismatch":
        if "{64}" in context["pattern"]:
            message = f"{got} does not have the form {context['pattern']}"
            return "bad-digest", message, "Write a SHA-256 as 64 lower-case hexadecimal digits."
        return "bad-form", f"{got} does not have the form {context['pattern']}", "Write it in that form."
    if what in {"tuple_type", "list_type"}:
        return "not-a-list", f"expected a list, found {got}", "Write it in square brackets or as lines with '-'."
    if what in {"dict_type", "model_type", "model_attributes_type"}:
        return "not-a-mapping", f"expected a mapping of keys, found {got}", "Write `key: value`."
    code = what if "-" in what or what in OWN_CODES else "contradiction"  # a record's own code, or a plain ValueError
    return code, str(error["msg"]), OWN_CODES.get(what, "Mend one of the two.")


def _as_text(value: Json, *, in_list: bool) -> str:
    """The remedy for a value in the place of a text."""
    if value is None:
        return "Write the text: nothing, null and ~ are none."
    if isinstance(value, (dict, list)):
        return "Write one text in its place."
    return "Put each element of the list in quotes." if in_list else "Put it in quotes."


OWN_CODES = {
    "ladder": "Write the budgets in rising order, each once.",
    "guardrail": "Keep one of them.",
    "limit": "docs/policy.md shows each kind of limit.",
    "waiver-self-approved": "Another person must approve it.",
    "waiver-length": "Issue it anew when the time comes.",
    "waiver-target": "Name one requirement or one flag; nothing else can be waived.",
    "validity-window": "Exchange the two.",
}
"""Remedies of the codes that records raise themselves."""


def _keys_of(kind: Any, at: Sequence[str | int]) -> list[str]:
    """The known keys at a path, from the models' annotations."""
    for part in at:
        kind = _inside(kind, part)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [info.alias or name for name, info in kind.model_fields.items()]
    return []


def _inside(kind: Any, part: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if part in (name, info.alias):
                return info.annotation
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _inside(next(each for each in arguments if each is not type(None)), part)
    if origin is typing.Annotated:
        return _inside(arguments[0], part)
    if origin is dict:
        return arguments[1]
    return arguments[0] if origin in (tuple, list) else None


def _get(data: Json, at: Path_) -> Json:
    for part in at:
        data = data[part]
    return data


def shown(value: Json) -> str:
    """A value in a message, cut short; a mapping or a list by its kind alone."""
    if isinstance(value, (dict, list)):
        return kind_in_words(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
