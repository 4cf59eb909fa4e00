"""The one serialiser: from a record to bytes, from bytes to a record, and the digest that identifies it.

A record is validated when it is made or read, and never again: the output of `encode` is not parsed as a check.
The bytes are those of RFC 8785 (JCS), so equal values give equal bytes, and a SHA-256 identifies them.
Both directions refuse what two JSON readers could interpret differently: NaN and infinities, a whole number beyond
2^53, half a character (a lone surrogate), and, when reading, a duplicate key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel

from robustness_gate.records import canonical
from robustness_gate.records.canonical import LARGEST
from robustness_gate.system.utf8 import SURROGATE

Json = Any
"""Plain data as it comes out of JSON: None, bool, int, float, str, list, dict."""
R = TypeVar("R", bound=BaseModel)


class NotPlain(ValueError):
    """Bytes that are not JSON, or JSON that readers could interpret differently. `word` is the key or the number."""

    def __init__(self, what: Literal["syntax", "duplicate key", "number", "half a character"], word: str = "") -> None:
        super().__init__(f"{what}: {word}" if word else what)
        self.what, self.word = what, word


def plain(record: BaseModel) -> dict[str, Json]:
    """A record as plain data, with the keys (aliases included) under which it is read."""
    return record.model_dump(mode="json", by_alias=True)


def encode(value: BaseModel | Json) -> bytes:
    """The canonical bytes of a record or of plain data: the content of its file, which is signed and digested.

    Raises:
        ValueError: it holds a value that JSON cannot represent.
    """
    return canonical.dumps(plain(value) if isinstance(value, BaseModel) else value)


def digest_of(value: BaseModel | Json) -> str:
    """SHA-256 of `encode(value)`, in lower-case hexadecimal. Raises ValueError as `encode` does."""
    return hashlib.sha256(encode(value)).hexdigest()


def parse(raw: bytes) -> Json:
    """The plain data in bytes of JSON. Raises NotPlain."""
    try:
        text = raw.decode("utf-8")
        found = _STRICT.decode(text)
        halved = "\\u" in text and SURROGATE.search(json.dumps(found, ensure_ascii=False))
    except NotPlain:
        raise
    except (ValueError, RecursionError):
        raise NotPlain("syntax") from None
    if halved:
        raise NotPlain("half a character")
    return found


def decode(kind: type[R], raw: bytes) -> R:
    """The record in bytes of JSON, which need not be canonical.

    Only for bytes that `parse` has accepted: its checks are not repeated.

    Raises:
        pydantic.ValidationError: a ValueError; the bytes are not exactly such a record.
    """
    return kind.model_validate_json(raw)


def record_of(kind: type[R], value: Json) -> R:
    """The record in plain data that do not come from JSON (YAML). Raises ValueError as `decode` does."""
    return decode(kind, encode(value))


def printed(value: Json, *, in_order: bool = False) -> str:
    """Indented JSON of records, dataclasses and plain data: for a person or a pipe, never for a digest.

    Args:
        value: the data.
        in_order: whether to sort the keys.
    """
    return json.dumps(value, indent=1, sort_keys=in_order, default=_shown)


def _shown(value: object) -> Json:
    if isinstance(value, BaseModel):
        return plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    raise TypeError(f"a {type(value).__name__} is no plain data")


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise NotPlain("duplicate key", next(key for key in keys if keys.count(key) > 1))
    return found


def _whole(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > LARGEST:  # int() itself refuses thousands of digits
        raise NotPlain("number", text[:30])
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(found := float(text)):
        raise NotPlain("number", text[:30])
    return found


def _refuse(word: str) -> NoReturn:
    raise NotPlain("number", word)


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_int=_whole, parse_float=_finite, parse_constant=_refuse)
"""Shared: making one takes as long as reading a line of a ledger."""
