"""Make a sentence from a template and the arguments of a code, for every `wording` module.

A template names the arguments. A part in square brackets is left out where one of its arguments is empty or 0. A tuple
is written as its first members, quoted. `{size:bytes}` is a number of bytes, `{age:minutes}` a length of time.
"""

from __future__ import annotations

import difflib
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

Argument = str | int | float | tuple[str, ...]
SHOWN = 5
"""Maximum number of a tuple's members that are named."""


def fill(template: str, args: Mapping[str, Argument]) -> str:
    """The sentence, in one printable line. Raises KeyError for an argument that is not given."""

    def part(found: re.Match[str]) -> str:
        return found[1] if all(args[name] for name in arguments(found[1])) else ""

    return printable(_FORMAT.vformat(re.sub(r"\[([^\[\]]*\{[^\[\]]*)\]", part, template), (), args))


def arguments(template: str) -> set[str]:
    """The names of the arguments that a template prints."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def printable(text: str) -> str:
    """Replace unprintable characters, so that untrusted text cannot control the terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def nearest(word: str, known: Sequence[str]) -> str:
    """`Did you mean 'x'?`, or the list of known names."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    listed = f"Known: {', '.join(sorted(known))}." if known else "There are none."
    return f"Did you mean '{close[0]}'?" if close else listed


def some(names: Sequence[str], shown: int = SHOWN) -> str:
    """The first of many names, and the number of others."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(f"'{name}'" for name in names[:shown]) + more


def size(count: float) -> str:
    """Bytes as they are usually written: 4.2 MB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def length(minutes: int) -> str:
    """A length in the largest unit of which there are more than two; rounded up, so that a value over a limit is never
    shown as equal to it.
    """
    for unit, name in ((24 * 60, "days"), (60, "hours")):
        if minutes > 2 * unit + 1:
            return f"{-(minutes // -unit)} {name}"
    return f"{minutes} minutes"


class _Format(string.Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, tuple):
            return some(value)
        if format_spec == "bytes":
            return size(value)
        if format_spec == "minutes":
            return length(value)
        return str(super().format_field(value, format_spec))


_FORMAT = _Format()
