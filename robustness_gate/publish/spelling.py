"""How the page formats a value: shares, lengths, costs, and invisible characters."""

from __future__ import annotations

import unicodedata
from typing import Any

from robustness_gate.records.encode import Json, encode

NBSP = "\u00a0"


def percent(share: float | None) -> str:
    """A measured share, 0 to 1, to a tenth of a point: 40.0 %. A dash if there is none."""
    return "–" if share is None else f"{100 * share:.1f}{NBSP}%"


def share(chosen: float) -> str:
    """A chosen share, such as a limit, 0 to 1: 40 %, 32.5 %, not 40.0 %."""
    return f"{100 * chosen:.1f}".removesuffix(".0") + f"{NBSP}%"


def pixels(length: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{length:.1f}".removesuffix(".0")


def number(value: float) -> str:
    """A signal or a cost. 60 and 60.0 are equal, so they have the same text."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def plain(value: Json) -> str:
    """A value that an attack recorded: strings without quotes, numbers short, the rest as JSON."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else encode(value).decode()


def visible(value: Any) -> Any:
    """The value, with invisible and direction-changing characters shown by their code: an auditor must see them.

    Jinja calls this on every value before it escapes it; the result of one of our macros has already been processed.
    """
    if not isinstance(value, str) or value.replace(NBSP, " ").isprintable() or hasattr(value, "__html__"):
        return value
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c
        for c in value.replace("\r\n", "\n")
    )
