"""From files to nouns: YAML and JSON lines in, frozen records out, and every complaint with file:line:column.

YAML is a quiet forger. Its 1.1 dialect keeps the last of two equal keys without a word, reads `no` as false and `1e-5`
as text. The loader here speaks the 1.2 core schema (`true` and `false` are the only booleans, `1e-5` is a number),
refuses duplicate keys, anchors, merge keys and tags, and passes plain data through canonical JSON into strict models:
the same bytes that are validated are the bytes that are digested.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from robustness_gate.errors import FileError
from robustness_gate.nouns import Item, Json, Noun, Question, Suite, canonical
from robustness_gate.policy import Policy

MAX_YAML_BYTES = 1_000_000
MAX_LINE_BYTES = 1_000_000
MAX_CHOICES = 26  # one letter each
SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character: JSON and YAML can write one, UTF-8 cannot

Path_ = tuple[str | int, ...]
N = TypeVar("N", bound=Noun)


@dataclass(frozen=True)
class Loaded(Generic[N]):
    """A noun read from a file, with what is needed to name the file and to point into it."""

    noun: N
    path: Path
    sha256: str
    """Of the raw bytes: what a reviewer sees."""
    text: str
    """Those bytes, so that nobody need read the file again after it may have changed."""
    places: Mapping[Path_, tuple[int, int]]
    """Line and column, from 1, of every key and element."""

    def where(self, *path: str | int) -> str:
        """`file:line:column` of the nearest thing that exists on the way to `path`."""
        return _where(self.path, self.places, path)


def load_policy(path: Path) -> Loaded[Policy]:
    """Read a policy file. Raises FileError with a position for anything that is not exactly a policy."""
    return load_noun(path, Policy)


def load_suite(path: Path) -> Loaded[Suite]:
    """Read a suite file. Raises FileError with a position for anything that is not exactly a suite."""
    return load_noun(path, Suite)


def nearest(word: str, known: Sequence[str]) -> str:
    """`Did you mean 'x'?`, or the list of what there is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(sorted(known))}."


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(value: Json) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return hashlib.sha256(canonical(value)).hexdigest()


# --- YAML ------------------------------------------------------------------------------------------------------------


class _Yaml12(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2 in place of the implicit types of 1.1."""


_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
):
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))
_Yaml12.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


def load_noun(path: Path, kind: type[N]) -> Loaded[N]:
    """Read any noun from YAML. Raises FileError with a position for anything that is not exactly such a noun."""
    raw = _read(path)
    data, places = _parse(path, raw)
    if not isinstance(data, dict):
        raise FileError(f"expected a mapping of keys, found {_kind_of(data)}", where=f"{path}:1:1")
    try:
        noun = kind.model_validate_json(canonical(data))
    except ValidationError as error:
        raise _complaint(path, places, data, kind, error) from None
    return Loaded(noun, path, hashlib.sha256(raw).hexdigest(), raw.decode(), places)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(raw) > MAX_YAML_BYTES:
        raise FileError(f"is larger than {MAX_YAML_BYTES:,} bytes", where=str(path))
    return raw


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path))


def _parse(path: Path, raw: bytes) -> tuple[Json, dict[Path_, tuple[int, int]]]:
    try:
        text = raw.decode("utf-8")
        loader = _Yaml12(text)
        try:
            for event in _events(path, text):
                _refuse_indirection(path, event)
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise FileError(f"is not UTF-8 (byte {error.start})", where=str(path)) from None
    except yaml.YAMLError as error:
        raise FileError(_yaml_words(error), where=f"{path}:{_yaml_place(error)}") from None
    except (RecursionError, ValueError) as error:
        raise FileError(f"cannot be parsed as YAML: {type(error).__name__}", where=f"{path}:1:1") from None
    places: dict[Path_, tuple[int, int]] = {(): (1, 1)}
    return (None if root is None else _plain(path, root, (), places)), places


def _events(path: Path, text: str) -> Iterator[yaml.Event]:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > 40:  # no honest file nests so deep, and the composer recurses
            raise FileError("is nested more than 40 levels deep", where=f"{path}:{_mark(event.start_mark)}")
        yield event


def _refuse_indirection(path: Path, event: yaml.Event) -> None:
    place = f"{path}:{_mark(event.start_mark)}"
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise FileError("anchors and aliases are not allowed", remedy="Write the value out.", where=place)
    if getattr(event, "tag", None):
        raise FileError(f"the tag '{getattr(event, 'tag', '')}' is not allowed", remedy="Remove it.", where=place)


def _plain(path: Path, node: yaml.Node, at: Path_, places: dict[Path_, tuple[int, int]]) -> Json:
    """Node to plain data, noting every place and refusing duplicate keys."""
    places.setdefault(at, (node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Json] = {}
        for key_node, value_node in node.value:
            place = f"{path}:{_mark(key_node.start_mark)}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise FileError("a key must be a plain word", where=place)
            key = str(key_node.value)
            if SURROGATE.search(key):
                raise FileError("the key holds a lone surrogate", where=place)
            if key in found:
                raise FileError(f"duplicate key '{key}'", remedy="Keep one of the two.", where=place)
            places[(*at, key)] = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            found[key] = _plain(path, value_node, (*at, key), places)
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_plain(path, child, (*at, index), places) for index, child in enumerate(node.value)]
    return _scalar(path, node)


def _scalar(path: Path, node: yaml.Node) -> Json:
    text, kind = str(node.value), node.tag.rsplit(":", 1)[-1]
    place = f"{path}:{_mark(node.start_mark)}"
    if kind == "null":
        return None
    if kind == "bool":
        return text == "true"
    if kind == "int":
        if len(text) > 17 or abs(int(text)) > 2**53 - 1:  # int() itself refuses thousands of digits
            raise FileError(f"the number {text[:30]} is too large", where=place)
        return int(text)
    if kind == "float":
        if not math.isfinite(float(text)):
            raise FileError(f"the number {text[:30]} is not finite", where=place)
        return float(text)
    if SURROGATE.search(text):
        raise FileError("the text holds a lone surrogate", where=place)
    return text


def _mark(mark: Any) -> str:
    """`line:column` from 1; PyYAML has two mark classes and their stubs disagree."""
    return f"{mark.line + 1}:{mark.column + 1}"


def _yaml_place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return _mark(mark) if mark else "1:1"


def _yaml_words(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
    return f"{problem}".replace("\t", "\\t")


# --- pydantic's complaints in a person's words -----------------------------------------------------------------------


def _complaint(
    path: Path, places: Mapping[Path_, tuple[int, int]], data: Json, kind: type[Noun], error: ValidationError
) -> FileError:
    """The first complaint in the order of the file, with how many others there are."""
    found = []
    errors = error.errors(include_url=False)
    strangers = {one["loc"] for one in errors if one["type"] == "extra_forbidden"}
    for one in errors:
        at = _existing(one["loc"], data)
        if one["type"] == "too_short" and _get(data, at):  # pydantic does not count elements that are wrong themselves
            continue
        if one["type"] == "missing" and _misspelt(one["loc"], strangers):
            continue
        found.append((places.get(at, (1, 1)), _words(kind, at, one, data), at))
    (_, (message, remedy), at), more = min(found, key=lambda each: each[0]), len(found) - 1
    name = ".".join(str(part) for part in at)
    others = f" ({more} more to mend after this one.)" if more else ""
    return FileError(f"{name}: {message}" if name else message, remedy=remedy + others, where=_where(path, places, at))


def _misspelt(missing: Path_, strangers: set[Path_]) -> bool:
    """Whether a key is missing because an unknown one beside it was meant: one mistake, one complaint."""
    beside = [str(loc[-1]) for loc in strangers if loc[:-1] == missing[:-1]]
    return bool(difflib.get_close_matches(str(missing[-1]), beside, n=1, cutoff=0.5))


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


def _words(kind: type[Noun], at: Path_, error: typing.Any, data: Json) -> tuple[str, str]:
    what, loc, context = error["type"], error["loc"], error.get("ctx", {})
    got = _shown(_get(data, at))
    if what == "extra_forbidden":
        refused: Mapping[str, str] = getattr(kind, "REFUSED", {})  # known elsewhere, and not taken here
        if len(at) == 1 and at[0] in refused:
            return "this key is not supported", refused[str(at[0])]
        return "unknown key", nearest(str(loc[-1]), _keys_of(kind, at[:-1]))
    if what == "missing":
        return f"the key '{loc[-1]}' is missing", "Add it."
    if what in {"float_type", "int_type", "float_parsing", "int_parsing", "int_from_float"}:
        whole = "a whole number" if what.startswith("int") else "a number"
        return f"expected {whole}, found {got}", "Write it without quotes or a percent sign, e.g. 0.4."
    if what == "bool_type":
        return f"expected true or false, found {got}", ""
    if what == "string_type":
        return f"expected text, found {got}", "Put it in quotes."
    if what in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        sign = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}[what]
        limit = next(iter(context.values()))
        return f"must be {sign} {limit}, found {got}", ""
    if what == "literal_error":
        return f"must be {context['expected']}, found {got}", ""
    if what in {"too_short", "string_too_short"}:
        return "must not be empty", ""
    if what == "string_pattern_mismatch":
        return f"{got} does not have the form {context['pattern']}", ""
    if what in {"tuple_type", "list_type"}:
        return f"expected a list, found {got}", ""
    if what in {"dict_type", "model_type", "model_attributes_type"}:
        return f"expected a mapping of keys, found {got}", ""
    return str(error["msg"]), ""


def _keys_of(kind: Any, at: Sequence[str | int]) -> list[str]:
    """The keys that are known at a path, by walking the models' annotations."""
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


def _shown(value: Json) -> str:
    if isinstance(value, (dict, list)):
        return _kind_of(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _kind_of(value: Json) -> str:
    if value is None:
        return "nothing"
    return {"dict": "a mapping", "list": "a list", "str": "text"}.get(type(value).__name__, f"{value}")


def _where(path: Path, places: Mapping[Path_, tuple[int, int]], at: Path_) -> str:
    while at and at not in places:
        at = at[:-1]
    line, column = places.get(at, (1, 1))
    return f"{path}:{line}:{column}"


# --- items and texts -------------------------------------------------------------------------------------------------


def load_items(path: Path) -> tuple[Item, ...]:
    """Read multiple-choice items from JSON lines: `id`, `question`, `choices`, `answer` (index from 0).

    Raises:
        FileError: with file:line, for a line that is not such an item, a repeated id, choices that are not distinct,
            or an item with another number of choices than the first.
    """
    items: list[Item] = []
    ids: set[str] = set()
    for line, record in json_lines(path):
        item = _item(record, f"{path}:{line}")
        if item.question.id in ids:
            raise FileError(
                f"the id '{item.question.id}' was used before", remedy="Ids are unique.", where=f"{path}:{line}"
            )
        if items and len(item.question.choices) != len(items[0].question.choices):
            raise FileError("has another number of choices than the first item", where=f"{path}:{line}")
        ids.add(item.question.id)
        items.append(item)
    if not items:
        raise FileError("holds no items", remedy="Write one JSON object a line.", where=str(path))
    return tuple(items)


def load_texts(path: Path) -> tuple[str, ...]:
    """Read training texts from JSON lines with the one field `text`. Raises FileError with file:line."""
    texts = []
    for line, record in json_lines(path):
        if set(record) != {"text"} or not isinstance(record["text"], str) or not record["text"].strip():
            raise FileError("expected one field, 'text', that is not empty", where=f"{path}:{line}")
        texts.append(record["text"])
    if not texts:
        raise FileError("holds no texts", remedy='Write one {"text": "..."} a line.', where=str(path))
    return tuple(texts)


def items_digest(items: Sequence[Item]) -> str:
    """SHA-256 over ids, words, choices and key, in their order."""
    return digest_of([[i.question.id, i.question.stem, list(i.question.choices), i.answer] for i in items])


def _item(record: dict[str, Json], where: str) -> Item:
    fields = ("id", "question", "choices", "answer")
    for key in record:
        if key not in fields:
            raise FileError(f"unknown field '{key}'", remedy=nearest(key, fields), where=where)
    for key in fields:
        if key not in record:
            raise FileError(f"the field '{key}' is missing", where=where)
    id_, stem, choices, key = (record[name] for name in fields)
    if not isinstance(id_, str) or not id_ or not isinstance(stem, str) or not stem.strip():
        raise FileError("'id' and 'question' must be text that is not empty", where=where)
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(c, str) and c.strip() for c in choices)
    ):
        raise FileError(f"'choices' must be a list of two to {MAX_CHOICES} texts", where=where)
    if len(set(choices)) != len(choices):
        raise FileError("two choices are the same", where=where)
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(choices):
        raise FileError(f"'answer' must be an index from 0 to {len(choices) - 1}, found {_shown(key)}", where=where)
    return Item(Question(id_, stem, tuple(choices)), key)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Json]]]:
    """The objects of a JSON-lines file with their line numbers. Raises FileError with file:line."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), start=1):
                if len(raw) > MAX_LINE_BYTES:
                    raise FileError(f"the line is longer than {MAX_LINE_BYTES:,} bytes", where=f"{path}:{number}")
                if raw.strip():
                    yield number, _json_object(raw, f"{path}:{number}")
    except OSError as error:
        raise _unreadable(path, error) from None


def _json_object(raw: bytes, where: str) -> dict[str, Json]:
    def once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FileError("a field is given twice", where=where)
        return found

    try:
        text = raw.decode("utf-8")
        record = json.loads(text, object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise FileError("is not a JSON object", remedy="Write one JSON object a line.", where=where) from None
    if not isinstance(record, dict):
        raise FileError(f"expected a JSON object, found {_kind_of(record)}", where=where)
    if "\\u" in text and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise FileError("the text holds a lone surrogate", where=where)
    return record
