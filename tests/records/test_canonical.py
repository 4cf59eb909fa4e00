"""Canonical JSON is what the package rfc8785 writes and refuses, byte for byte, for any value."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from robustness_gate.records import canonical


class Word(StrEnum):
    ONE = "one"


class Number(IntEnum):
    TWO = 2


TEXTS = st.text(st.characters(), max_size=6)  # surrogates and astral characters included
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1e-7, 1e-6, 1e-5, 9.9e-5, 1e-4, 1e15, 1e16, 1e20, 1e21, 1e22, -1.5])
SCALARS = st.none() | st.booleans() | st.integers() | FLOATS | TEXTS | st.sampled_from([Word.ONE, Number.TWO])
KEYS = TEXTS | st.integers(0, 2) | st.sampled_from([Word.ONE, "\ue000", "\U00010000", "\ud7ff", "\ud800"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=12,
)


def written(dumps: Any, value: Any) -> bytes | str:
    try:
        return bytes(dumps(value))
    except ValueError:  # of a value with two faults either may be named
        return "refused"


@given(VALUES)
@example({"\ue000": 1, "\U00010000": 2})
@example({"a": float("nan")})
@example({"a": 2**53, "b": -(2**53) + 1})
@example({"a": {1, 2}})
@example({"a": {"half": "\ud800"}})
@example([1e-7, 1e21, 123456789012345680.0, -0.0, 5e-324, 1.7976931348623157e308])
@example({1: "a", "1": "b"})
@example({"\ud800": 0, "a": {1: float("nan")}})
@example([2**53, "\ud800"])
def test_bytes_and_refusals_are_those_of_the_package(value: Any) -> None:
    assert written(canonical.dumps, value) == written(rfc8785.dumps, value)


def test_every_character_is_escaped_alike() -> None:
    text = "".join(map(chr, (*range(0x300), 0x2028, 0x2029, 0xFEFF, 0xFFFF, 0x1F600)))
    assert canonical.dumps([text]) == rfc8785.dumps([text])


def test_what_records_hold_is_written_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the test above could compare the package with itself."""
    value = {"b": [1, 1.5, 2.0, -0.0, True, None, "ä"], "a": {"é": ("x",)}}
    monkeypatch.setattr(rfc8785, "dumps", None)
    assert canonical.dumps(value) == '{"a":{"é":["x"]},"b":[1,1.5,2,0,true,null,"ä"]}'.encode()


def test_the_depth_of_a_value_is_limited_as_by_the_package() -> None:
    deep: Any = 0
    for _ in range(600):
        deep = [deep]
    assert canonical.dumps(deep) == rfc8785.dumps(deep)


def test_every_exponent_is_written_as_the_package_writes_it() -> None:
    for power in range(-324, 308):
        for digits in ("1", "-1", "1.5", "-9.999999999999999", "1.7976931348623157"):
            value = float(f"{digits}e{power}")
            assert canonical.dumps(value) == rfc8785.dumps(value), value
