"""The templates of a task file: Jinja in a sandbox, with limited time and memory (`Limits`).

No single step is endless, because the time limit interrupts only between two of them. A template may test a null, NaN
or bytes, and must not write one: lm-evaluation-harness would ask the word `None`.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from robustness_gate.inputs.items import kind_of
from robustness_gate.system.in_place import TooLong

if TYPE_CHECKING:
    from jinja2 import Template


MAX_CHARACTERS = 1_000_000
"""Maximum size of a template's result in one step: characters, list entries, or bits of a number."""


class Limits(NamedTuple):
    """Limits for all templates of a task together."""

    seconds: float = 20.0
    """Seconds of processor time; a thousand rows take 0.1 s."""
    a_row: float = 0.01
    """Additional seconds for each row."""
    room: int = 1 << 30
    """Bytes of memory."""


LIMITS = Limits()


@functools.lru_cache(maxsize=64)
def compiled(source: str) -> Template:
    """A template, ready to render. Raises one of `failures`."""
    template: Template = _jinja().from_string(source)
    return template


def names_in(source: str) -> frozenset[str]:
    """Every name that a template takes from a row."""
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(_jinja().parse(source)))


@functools.cache
def failures() -> tuple[type[Exception], ...]:
    """All errors of a template."""
    from jinja2 import TemplateError

    return (
        TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, re.error,
        RuntimeError, MemoryError, SyntaxError, TooLong,
    )  # fmt: skip


def why(error: Exception) -> str:
    """A template's error as the end of a sentence."""
    if isinstance(error, RecursionError):
        return "calls itself, or is nested, too deeply"
    return "takes more memory than it is given" if isinstance(error, MemoryError) else str(error)[:200]


def with_holes(value: Any) -> Any:
    """The value with placeholders; the same object where nothing is replaced."""
    if (
        value is None
        or isinstance(value, (bytes, bytearray))
        or (isinstance(value, float) and not math.isfinite(value))
    ):
        return _Hole(value)
    if isinstance(value, (list, tuple)):
        return type(value)(map(with_holes, value))
    if isinstance(value, Mapping):
        return {key: with_holes(each) for key, each in value.items()}
    return value


class Unsaid(ValueError):
    """A template writes a value that is not text."""


class _Hole:
    """A placeholder for a null, NaN or bytes in templates: they may test it, and must not write it."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, _Hole) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        raise Unsaid(f"writes {kind_of(self.value)} where text belongs")

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return str(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsaid(f"finds {kind_of(self.value)} where text belongs")


@functools.cache
def _jinja() -> Any:
    """The sandbox; imported only where such a task is used, since every plan imports this file."""
    from jinja2 import StrictUndefined
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Sandbox(ImmutableSandboxedEnvironment):
        """A sandbox in which no single step is endless, since the time limit interrupts only between steps."""

        intercepted_binops = frozenset({"*", "**", "+"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if _size_of(operator, left, right) > MAX_CHARACTERS:
                raise SecurityError(f"'{operator}' would make more than {MAX_CHARACTERS:,} characters at once")
            return super().call_binop(context, operator, left, right)

    made = Sandbox(undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["regex_replace"] = _regex_replace
    made.filters["round"] = _round
    made.tests["none"] = _is_none
    return made


def _is_none(value: Any) -> bool:
    """Jinja's test `none`."""
    return value is None or (isinstance(value, _Hole) and value.value is None)


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """lm-evaluation-harness's only filter of its own."""
    return re.sub(pattern, replacement, text, count=count)


def _round(value: Any, precision: int = 0, method: Any = "common") -> Any:
    """Jinja's filter `round`, which computes ten to that power."""
    from jinja2.filters import do_round

    if abs(precision) > sys.float_info.max_10_exp:
        raise ValueError(f"no number has {abs(precision):,} digits")
    return do_round(value, precision, method)


def _size_of(operator: str, left: Any, right: Any) -> int:
    """Characters, entries or bits of an operation's result; 0 where the result is always small."""
    if operator == "**":
        return left.bit_length() * abs(right) if isinstance(left, int) and isinstance(right, int) else 0
    one, other = (
        each.bit_length() if isinstance(each, int) else len(each) if isinstance(each, Sequence) else 0
        for each in (left, right)
    )
    if operator == "*" and isinstance(left, int) != isinstance(right, int):  # repetition
        return one * abs(right) if isinstance(right, int) else other * abs(left)
    return one + other
