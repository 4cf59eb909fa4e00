"""Bits are checked and counted without taking them apart, and mean the same as if they were."""

from __future__ import annotations

import base64

from hypothesis import example, given
from hypothesis import strategies as st

from robustness_gate.evidence.answers import count, is_packed, pack, unpack

BITS = st.binary(max_size=4).map(lambda raw: base64.b64encode(raw).decode()) | st.text("AQg=/+ \n", max_size=6)


@given(BITS, st.integers(1, 33))
@example("", 1)
@example("gA==", 1)
@example("gB==", 1)
@example("wA==", 1)
@example("/w==", 8)
def test_bits_are_packed_exactly_where_packing_them_again_gives_the_same(bits: str, items: int) -> None:
    values = unpack(bits, items)
    assert is_packed(bits, items) == (len(values) == items and pack(values) == bits)
    assert count(bits, items) == (sum(values) if values else None)


@given(st.lists(st.booleans(), max_size=40))
def test_what_is_packed_is_unpacked_and_counted(values: list[bool]) -> None:
    bits = pack(values)
    assert unpack(bits, len(values)) == values
    assert is_packed(bits, len(values))
    assert count(bits, len(values)) == sum(values)
