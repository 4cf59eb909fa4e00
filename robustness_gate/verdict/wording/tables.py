"""What a table of sentences is, and how a sentence is looked up in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robustness_gate.errors import UnknownWord
from robustness_gate.records.base import Coded

Wording = Mapping[str, str | Callable[[Coded], str]]
"""For each code a template over the code's arguments, or a function of the record."""


def written(table: Wording, coded: Coded) -> str:
    """The sentence of a code with its arguments. Raises UnknownWord for a code without a sentence."""
    entry = table.get(coded.code)
    if entry is None:
        raise UnknownWord("code", coded.code)
    return entry.format(**coded.args) if isinstance(entry, str) else entry(coded)
