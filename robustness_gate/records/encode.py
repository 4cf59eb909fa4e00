"""The one serialiser: how a record becomes bytes, how bytes become a record, and by which digest it is named.

A record is validated when it is made or read, and never again: what `encode` has written is not parsed to see whether
it can be read. The bytes are RFC 8785's (JCS), so the same value always gives the same bytes and a SHA-256 names it.
Both directions refuse what two readers of JSON could read differently: NaN and infinities, a whole number beyond 2^53,
half a character, and, in reading, a key that stands twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from typing import Any, Literal, NoReturn, TypeVar

import rfc8785
from pydantic import BaseModel

from robustness_gate.system.utf8 import SURROGATE

Json = Any
"""Plain data as it comes out of JSON: None, bool, int, float, str, list, dict."""
R = TypeVar("R", bound=BaseModel)
LARGEST = 2**53 - 1
"""The largest whole number that every reader of JSON reads alike."""


class NotPlain(ValueError):
    """Bytes that are not JSON, or not JSON that every reader reads alike. `word` is the key or the number."""

    def __init__(self, what: Literal["syntax", "duplicate key", "number", "half a character"], word: str = "") -> None:
        super().__init__(f"{what}: {word}" if word else what)
        self.what, self.word = what, word


def plain(record: BaseModel) -> dict[str, Json]:
    """A record as plain data, under the names by which it is read again."""
    return record.model_dump(mode="json", by_alias=True)


def encode(value: BaseModel | Json) -> bytes:
    """The canonical bytes of a record or of plain data: what a file of it holds, and what is signed and digested.

    Raises:
        ValueError: it holds what JSON cannot.
    """
    return rfc8785.dumps(plain(value) if isinstance(value, BaseModel) else value)


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

    For bytes that `parse` has let in: what it refuses is not looked for again.

    Raises:
        pydantic.ValidationError: a ValueError; they are not exactly such a record.
    """
    return kind.model_validate_json(raw)


def record_of(kind: type[R], value: Json) -> R:
    """The record that plain data are, where they do not come from JSON (YAML). Raises ValueError as `decode` does."""
    return decode(kind, encode(value))


def printed(value: Json, *, in_order: bool = False) -> str:
    """For a person or a pipe, never for a digest: indented JSON of records, dataclasses and plain data.

    Args:
        value: what is shown.
        in_order: sort the keys.
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
"""One for all: making one takes as long as reading a line of a ledger."""
