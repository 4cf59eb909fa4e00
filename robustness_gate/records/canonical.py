"""Canonical JSON (RFC 8785) in a third of the time that the package rfc8785 takes, which writes token by token.

What occurs in records is written here: numbers, texts, lists, and dicts whose keys sort by characters as they do by
UTF-16. Anything else is left to the package, which writes or refuses it. So the bytes are its own, and there is a
ValueError where the package refuses; of a value with two faults another one may be named.
tests/records/test_canonical.py compares both on arbitrary values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any

import rfc8785

LARGEST = 2**53 - 1
"""The largest whole number that every JSON reader represents exactly."""
ONE_UNIT = "\ud7ff"
"""Texts of characters up to this one have the same order by characters and by UTF-16 code units."""


class _Unusual(Exception):
    """A value that is left to the package."""


def dumps(value: Any) -> bytes:
    """The canonical bytes of plain data.

    Raises:
        rfc8785.CanonicalizationError: a ValueError; JSON cannot represent it, or readers could differ about it.
        RecursionError: it is nested too deeply.
    """
    try:
        return _WRITERS[type(value)](value).encode()
    except (_Unusual, UnicodeEncodeError, RecursionError):  # half a character is half of a surrogate pair
        return rfc8785.dumps(value)


def _dict(value: dict[str, Any]) -> str:
    keys = _keys(tuple(value))
    return "{" + ",".join([start + _WRITERS[type(each := value[key])](each) for key, start in keys]) + "}"


def _list(value: list[Any] | tuple[Any, ...]) -> str:
    return "[" + ",".join([_WRITERS[type(each)](each) for each in value]) + "]"


@lru_cache(maxsize=4096)
def _keys(given: tuple[str, ...]) -> list[tuple[str, str]]:
    """The keys in their order, each with its text and a colon: records of a kind have the same ones."""
    if any(type(key) is not str or (not key.isascii() and max(key) > ONE_UNIT) for key in given):
        raise _Unusual
    return [(key, quoted(key) + ":") for key in sorted(given)]


def _int(value: int) -> str:
    if not -LARGEST <= value <= LARGEST:
        raise _Unusual
    return repr(value)


def _float(value: float) -> str:
    """Python and ECMAScript write the same digits, the shortest that are read back as this number.

    They differ about exponents, about the end of whole numbers, and about the sign of zero.
    """
    text = repr(value)
    if text.endswith(".0"):
        return "0" if value == 0 else text[:-2]
    if "e" in text:
        return _exponent(text)
    if "n" in text:  # nan or inf
        raise _Unusual
    return text


def _exponent(text: str) -> str:
    """What Python writes with an exponent, from 1e16 and below 1e-4, as ECMAScript does: from 1e21 and below 1e-6."""
    digits, _, power = text.partition("e")
    exponent, sign = int(power), "-" * digits.startswith("-")
    plain = digits.lstrip("-").replace(".", "")
    if -7 < exponent < 0:
        return f"{sign}0.{plain.rjust(len(plain) - exponent - 1, '0')}"
    return sign + plain.ljust(exponent + 1, "0") if 0 < exponent < 21 else f"{digits}e{exponent:+d}"


class _Writers(dict[type, Callable[[Any], str]]):
    def __missing__(self, kind: type) -> Callable[[Any], str]:
        raise _Unusual


_WRITERS = _Writers(
    {
        str: quoted,
        float: _float,
        int: _int,
        bool: lambda value: "true" if value else "false",
        type(None): lambda _: "null",
        dict: _dict,
        list: _list,
        tuple: _list,
    }
)
"""By exact type: what derives from one of these (an enum) may be written in another way."""
