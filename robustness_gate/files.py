"""From files to nouns: YAML and JSON lines in, frozen records out, and every complaint with file:line:column.

YAML is a quiet forger. Its 1.1 dialect keeps the last of two equal keys without a word, reads `no` as false and `1e-5`
as text. The loader here speaks the 1.2 core schema (`true` and `false` are the only booleans, `1e-5` is a number),
refuses duplicate keys, anchors, merge keys and tags, and passes plain data through canonical JSON into strict models:
the same bytes that are validated are the bytes that are digested.
"""

from __future__ import annotations

import difflib
import errno
import hashlib
import json
import math
import os
import re
import stat
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from robustness_gate import utf8
from robustness_gate.errors import FileError
from robustness_gate.nouns import Item, Json, Noun, Question, Suite, canonical

BLOCK = 16 * 1024 * 1024
MAX_YAML_BYTES = 1_000_000
MAX_LINE_BYTES = 1_000_000
MAX_CHOICES = 26  # one letter each
ONE_ITEM = "Correct the data: an item has id, question, choices and answer (index from 0); a text has text."
POINTER = b"version https://git-lfs.github.com/spec/"
"""How what git leaves of a file begins where git-lfs is not installed."""
PULL = "Run `git lfs install` and then `git lfs pull` in the clone."
PARQUET = b"PAR1"
"""How a Parquet file begins."""
SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character: JSON and YAML can write one, UTF-8 cannot

Path_ = tuple[str | int, ...]
Spot = tuple[Path, int, int]
"""A file, and line and column in it, from 1."""
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
    places: Mapping[Path_, Spot] = field(repr=False)
    """Where every key and element stands: in this file, or in the one that it extends."""
    parent: Loaded[N] | None = None
    """What this file extends, with its own bytes: noun is then the two merged, sha256 and text are the child's."""

    def where(self, *path: str | int) -> str:
        """`file:line:column` of the nearest thing that exists on the way to `path`."""
        return where_in(self.places, path) or f"{self.path}:1:1"


def load_suite(path: Path) -> Loaded[Suite]:
    """Read a suite file. Raises FileError with a position for anything that is not exactly a suite."""
    return load_noun(path, Suite)


def nearest(word: str, known: Sequence[str]) -> str:
    """`Did you mean 'x'?`, or the list of what there is."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(sorted(known))}."


def opened(path: Path) -> IO[bytes]:
    """A file, to be read. Raises OSError, also for a pipe on the disk: nobody may ever write into it."""
    a_place = os.path.lexists(os.path.realpath(path))  # a shell's `<(...)` has none
    if a_place and stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a pipe and no file", str(path))
    return path.open("rb")


def sha256_file(path: Path, watch: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file's bytes, read in blocks; `watch` is told the bytes of each."""
    with path.open("rb") as file:
        if watch is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while block := file.read(BLOCK):
            digest.update(block)
            watch(len(block))
        return digest.hexdigest()


def digest_of(value: Json) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return hashlib.sha256(canonical(value)).hexdigest()


# --- YAML ------------------------------------------------------------------------------------------------------------


class _Yaml12(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2 in place of the implicit types of 1.1.

    Indirection and deep nesting are refused as the events come by, so that the text is parsed once.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.path = path
        self.depth = 0

    def get_event(self) -> yaml.Event:
        """The next event. Raises FileError for one that plain data do not have."""
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self.depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if self.depth > 40:  # no honest file nests so deep, and the composer recurses
            raise FileError(
                "is nested more than 40 levels deep",
                remedy="Write it flat.",
                where=f"{self.path}:{_mark(event.start_mark)}",
                code="too-deep",
            )
        _refuse_indirection(self.path, event)
        return event


CORE_SCHEMA = (
    ("bool", r"true|false", "tf"),
    ("null", r"null|~|", "n~"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("null", r"", ""),
)
"""What a bare word can be: tag, pattern, first characters (none: the empty word)."""
_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in CORE_SCHEMA:
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first) or [""])


def load_noun(path: Path, kind: type[N]) -> Loaded[N]:
    """Read any noun from YAML. Raises FileError with a position for anything that is not exactly such a noun."""
    return read_yaml(path).as_noun(kind)


class _Said(Noun):
    """Names and texts, whatever the names are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]


def load_said(path: Path) -> dict[str, str]:
    """What somebody says: a YAML mapping of names to texts. Raises FileError for anything else."""
    return dict(load_noun(path, _Said).noun.__pydantic_extra__)


@dataclass(frozen=True)
class Raw:
    """A YAML file as plain data, not yet held against any model."""

    path: Path
    sha256: str
    text: str
    data: dict[str, Json]
    places: Mapping[Path_, Spot]

    def as_noun(self, kind: type[N], parent: Loaded[N] | None = None) -> Loaded[N]:
        """The noun that the data are. Raises FileError with a position for anything that is not exactly such a noun."""
        try:
            noun = kind.model_validate_json(canonical(self.data))
        except ValidationError as error:
            raise _complaint(self, kind, error) from None
        return Loaded(noun, self.path, self.sha256, self.text, self.places, parent)


def read_yaml(path: Path) -> Raw:
    """The data of a YAML file and where each thing stands. Raises FileError where it is no mapping in plain YAML."""
    return parse_yaml(_read(path), path)


def parse_yaml(raw: bytes, path: Path) -> Raw:
    """The same of bytes that are already here; `path` is only what messages call them. Raises FileError."""
    data, places = _parse(path, raw)
    if not isinstance(data, dict):
        raise FileError(
            f"expected a mapping of keys, found {_kind_of(data)}",
            remedy="Write `key: value` lines.",
            where=f"{path}:1:1",
            code="not-a-mapping",
        )
    return Raw(path, hashlib.sha256(raw).hexdigest(), raw.decode(), data, places)


def _read(path: Path) -> bytes:
    try:
        with opened(path) as file:
            raw = file.read(MAX_YAML_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(raw) > MAX_YAML_BYTES:
        raise FileError(
            f"is larger than {MAX_YAML_BYTES:,} bytes",
            remedy="Keep data out of it.",
            where=str(path),
            code="too-large",
        )
    return raw


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(
        f"cannot be read: {error.strerror or error}.", remedy="Check the path.", where=str(path), code="unreadable"
    )


def _parse(path: Path, raw: bytes) -> tuple[Json, dict[Path_, Spot]]:
    try:
        text = raw.decode("utf-8")
        loader = _Yaml12(text, path)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeDecodeError:
        fault = utf8.fault(raw) or utf8.Fault("is not UTF-8", "Save it as UTF-8.")
        raise FileError(fault.words, remedy=fault.remedy, where=str(path), code="not-utf8") from None
    except yaml.YAMLError as error:
        if b"\x00" in raw and (other := utf8.fault(raw)):
            raise FileError(other.words, remedy=other.remedy, where=str(path), code="not-utf8") from None
        words, remedy, code = _yaml_words(error)
        raise FileError(words, remedy=remedy, where=f"{path}:{_yaml_place(error)}", code=code) from None
    except (RecursionError, ValueError) as error:
        raise FileError(
            f"cannot be parsed as YAML: {type(error).__name__}",
            remedy="Write plain YAML.",
            where=f"{path}:1:1",
            code="not-yaml",
        ) from None
    places: dict[Path_, Spot] = {(): (path, 1, 1)}
    return (None if root is None else _plain(path, root, (), places)), places


def _refuse_indirection(path: Path, event: yaml.Event) -> None:
    place = f"{path}:{_mark(event.start_mark)}"
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise FileError(
            "anchors and aliases are not allowed", remedy="Write the value out.", where=place, code="anchor"
        )
    if getattr(event, "tag", None):
        words = f"the tag '{getattr(event, 'tag', '')}' is not allowed"
        raise FileError(words, remedy="Remove it.", where=place, code="tag")


def _plain(path: Path, node: yaml.Node, at: Path_, places: dict[Path_, Spot]) -> Json:
    """Node to plain data, noting every place and refusing duplicate keys."""
    places.setdefault(at, (path, node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Json] = {}
        for key_node, value_node in node.value:
            place = f"{path}:{_mark(key_node.start_mark)}"
            if not isinstance(key_node, yaml.ScalarNode):
                raise FileError("a key must be a plain word", remedy="Write one word.", where=place, code="bad-key")
            key = str(key_node.value)
            if SURROGATE.search(key):
                raise FileError(
                    "the key holds a lone surrogate",
                    remedy="Write whole characters.",
                    where=place,
                    code="bad-character",
                )
            if key == "<<":  # YAML 1.1 would merge; 1.2 has a key of this name, which nobody means
                raise FileError(
                    "merge keys are not allowed", remedy="Write the values out.", where=place, code="merge-key"
                )
            if key in found:
                raise FileError(
                    f"duplicate key '{key}'", remedy="Keep one of the two.", where=place, code="duplicate-key"
                )
            places[(*at, key)] = (path, key_node.start_mark.line + 1, key_node.start_mark.column + 1)
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
            raise FileError(
                f"the number {text[:30]} is too large",
                remedy="Write one that a double holds exactly.",
                where=place,
                code="out-of-range",
            )
        return int(text)
    if kind == "float":
        if not math.isfinite(float(text)):
            raise FileError(
                f"the number {text[:30]} is not finite",
                remedy="Write a finite one.",
                where=place,
                code="not-finite",
            )
        return float(text)
    if SURROGATE.search(text):
        raise FileError(
            "the text holds a lone surrogate", remedy="Write whole characters.", where=place, code="bad-character"
        )
    return text


def _mark(mark: Any) -> str:
    """`line:column` from 1; PyYAML has two mark classes and their stubs disagree."""
    return f"{mark.line + 1}:{mark.column + 1}"


def _yaml_place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return _mark(mark) if mark else "1:1"


def _yaml_words(error: yaml.YAMLError) -> tuple[str, str, str]:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid YAML"
    words = f"{problem}".replace("\t", "\\t")
    if "\\t" in words:
        return words, "Indent with spaces.", "tab"
    return words, "Mend the YAML here or just before.", "not-yaml"


# --- pydantic's complaints in a person's words -----------------------------------------------------------------------


def _complaint(raw: Raw, kind: type[Noun], error: ValidationError) -> FileError:
    """The first complaint in the order of the file, with how many others there are."""
    found = []
    errors = error.errors(include_url=False)
    strangers = {one["loc"] for one in errors if one["type"] == "extra_forbidden"}
    for one in errors:
        at = _existing(one["loc"], raw.data)
        if one["type"] == "too_short" and _get(raw.data, at):  # pydantic does not count elements that are wrong
            continue
        if one["type"] == "missing" and _misspelt(one["loc"], strangers):
            continue
        words = _words(kind, at, one, raw.data)
        found.append(((words[0] != "unsupported-key", *_rank(raw, at)), words, at))  # it may be why others are missing
    (_, (code, message, remedy), at), more = min(found, key=lambda each: each[0]), len(found) - 1
    name = ".".join(str(part) for part in at)
    return FileError(
        f"{name}: {message}" if name else message,
        remedy=remedy + others(more),
        where=where_in(raw.places, at) or f"{raw.path}:1:1",
        code=code,
    )


def others(more: int) -> str:
    """How many more mistakes there are than the one that is told."""
    return f" ({more} more to mend after this one.)" if more else ""


def _rank(raw: Raw, at: Path_) -> tuple[bool, int, int]:
    """The file itself before the one that it extends, then by line and column."""
    path, line, column = raw.places.get(at, (raw.path, 1, 1))
    return path != raw.path, line, column


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


NUMBERS_TO_BE_REFUSED = frozenset([".nan", ".inf", "-.inf", "+.inf", "nan", "inf", "-inf", "infinity", "-infinity"])


def _words(kind: type[Noun], at: Path_, error: typing.Any, data: Json) -> tuple[str, str, str]:
    """Code, message and remedy of one of pydantic's errors."""
    what, loc, context = error["type"], error["loc"], error.get("ctx", {})
    value = _get(data, at)
    got = _shown(value)
    if what == "extra_forbidden":
        refused: Mapping[str, str] = getattr(kind, "REFUSED", {})  # known elsewhere, and not taken here
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
        return "not-text", f"expected text, found {got}", "Put it in quotes."
    if what.startswith("date"):
        return "not-a-date", f"expected a date, found {got}", "Write it as 2026-12-31."
    if what in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        sign = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}[what]
        limit = next(iter(context.values()))
        return "out-of-range", f"must be {sign} {limit}, found {got}", "Write a number in that range."
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


OWN_CODES = {
    "ladder": "Write the budgets in rising order, each once.",
    "guardrail": "Keep one of them.",
    "waiver-self-approved": "Have somebody else approve it.",
    "waiver-length": "Issue it anew when the time comes.",
    "waiver-target": "Name one requirement or one flag; nothing else can be waived.",
    "validity-window": "Exchange the two.",
}
"""Codes that records raise themselves, with what to do."""


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


def where_in(places: Mapping[Path_, Spot], at: Path_) -> str:
    """`file:line:column` of the nearest thing that exists on the way; empty where there are no places at all."""
    while at and at not in places:
        at = at[:-1]
    return "{}:{}:{}".format(*places[at]) if at in places else ""


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
    """Read training texts from JSON lines: of each line the field `text`. Raises FileError with file:line."""
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
    """What a row of a corpus has to read; its other columns are left. Raises FileError, with the columns found."""
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
    """What a row has, in words: a name with a byte order mark or a space in it is seen as such."""
    names = ", ".join(repr(str(name)[:40]) for name in list(row)[:12])
    more = f" and {len(row) - 12} more" if len(row) > 12 else ""
    return f"its columns are {names}{more}" if row else "it has no columns"


def kind_of(value: Any) -> str:
    """What stands where text belongs, in words. Without its content, but for numbers."""
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
    """SHA-256 over ids, words, choices and key, in their order."""
    return digest_of([[i.question.id, i.question.stem, list(i.question.choices), i.answer] for i in items])


def _item(record: dict[str, Json], where: str) -> Item:
    fields = ("id", "question", "choices", "answer")
    for key in record:
        if key not in fields:
            raise FileError(f"unknown field '{key}'", remedy=nearest(key, fields), where=where, code="bad-item")
    for key in fields:
        if key not in record:
            raise FileError(f"the field '{key}' is missing", remedy=ONE_ITEM, where=where, code="bad-item")
    id_, stem, choices, key = (record[name] for name in fields)
    if not isinstance(id_, str) or not id_ or not isinstance(stem, str) or not stem.strip():
        raise FileError(
            "'id' and 'question' must be text that is not empty", remedy=ONE_ITEM, where=where, code="bad-item"
        )
    if (
        not isinstance(choices, list)
        or not 2 <= len(choices) <= MAX_CHOICES
        or not all(isinstance(c, str) and c.strip() for c in choices)
    ):
        odd = next((c for c in choices if not isinstance(c, str)), "") if isinstance(choices, list) else choices
        found = f", and one is {kind_of(odd)}" if isinstance(choices, list) and odd != "" else ""
        number = isinstance(odd, (int, float)) and not isinstance(odd, bool)
        raise FileError(
            f"'choices' must be a list of two to {MAX_CHOICES} texts{found}",
            remedy='Write numbers in quotes, as they are to be asked: "2.50".' if number else ONE_ITEM,
            where=where,
            code="bad-item",
        )
    if len({" ".join(each.split()) for each in choices}) != len(choices):
        raise FileError("two choices are the same", remedy=ONE_ITEM, where=where, code="bad-item")
    if isinstance(key, bool) or not isinstance(key, int) or not 0 <= key < len(choices):
        raise FileError(
            f"'answer' must be an index from 0 to {len(choices) - 1}, found {_shown(key)}",
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
        raise _unreadable(path, error) from None


class _Twice(Exception):
    """A field is given twice."""


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Twice
    return found


ONCE = json.JSONDecoder(object_pairs_hook=_once)
"""One for all lines: a benchmark has thousands, and making one takes as long as reading a line."""


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
            f"expected a JSON object, found {_kind_of(record)}", remedy=ONE_ITEM, where=where, code="bad-item"
        )
    if "\\u" in text and SURROGATE.search(json.dumps(record, ensure_ascii=False)):
        raise FileError("the text holds a lone surrogate", remedy=ONE_ITEM, where=where, code="bad-item")
    return record
