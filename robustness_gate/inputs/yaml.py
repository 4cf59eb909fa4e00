"""YAML as plain data, with the position of every key, in the core schema of YAML 1.2.

YAML 1.1 silently keeps the last of two equal keys, and reads `no` as false and `1e-5` as text. The loader here uses the
1.2 core schema (`true` and `false` are the only booleans, `1e-5` is a number) and refuses duplicate keys, anchors,
merge keys and tags.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from robustness_gate.errors import FileError
from robustness_gate.inputs.digest import opened, unreadable
from robustness_gate.records.encode import Json
from robustness_gate.system import utf8
from robustness_gate.system.utf8 import SURROGATE

MAX_YAML_BYTES = 1_000_000

Path_ = tuple[str | int, ...]
Spot = tuple[Path, int, int]
"""A file with a line and a column, from 1."""


class _Yaml12(yaml.SafeLoader):
    """PyYAML's safe loader with the core schema of YAML 1.2 in place of the implicit types of 1.1.

    Indirection and deep nesting are refused during parsing, so that the text is parsed once.
    """

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.path = path
        self.depth = 0

    def get_event(self) -> yaml.Event:
        """The next event. Raises FileError for one that does not occur in plain data."""
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self.depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if self.depth > 40:  # no ordinary file is nested so deeply, and the composer recurses
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
"""Implicit types of a plain scalar: tag, pattern, first characters (none: the empty scalar)."""
_Yaml12.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in CORE_SCHEMA:
    _Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first) or [""])


@dataclass(frozen=True)
class Raw:
    """A YAML file as plain data, not yet validated against a model."""

    path: Path
    sha256: str
    text: str
    data: dict[str, Json]
    places: Mapping[Path_, Spot]


def read_yaml(path: Path) -> Raw:
    """The data of a YAML file and the position of each element. Raises FileError where it is not a mapping in plain
    YAML.
    """
    return parse_yaml(_read(path), path)


def parse_yaml(raw: bytes, path: Path) -> Raw:
    """The same for bytes in memory; `path` is only their name in messages. Raises FileError."""
    data, places = _parse(path, raw)
    if not isinstance(data, dict):
        raise FileError(
            f"expected a mapping of keys, found {kind_in_words(data)}",
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
        raise unreadable(path, error) from None
    if len(raw) > MAX_YAML_BYTES:
        raise FileError(
            f"is larger than {MAX_YAML_BYTES:,} bytes",
            remedy="Keep data out of it.",
            where=str(path),
            code="too-large",
        )
    return raw


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
    """Convert a node to plain data, recording every position and refusing duplicate keys."""
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
            if key == "<<":  # YAML 1.1 would merge; in 1.2 it is an ordinary key, which is never intended
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


def kind_in_words(value: Json) -> str:
    """The kind of a value for a message; a number or truth value is shown itself."""
    if value is None:
        return "nothing"
    return {"dict": "a mapping", "list": "a list", "str": "text"}.get(type(value).__name__, f"{value}")


def where_in(places: Mapping[Path_, Spot], at: Path_) -> str:
    """`file:line:column` of the nearest existing element on the way; empty where there are no positions at all."""
    while at and at not in places:
        at = at[:-1]
    return "{}:{}:{}".format(*places[at]) if at in places else ""
