"""How the page writes a value: shares, lengths, costs, and characters that hide."""

from __future__ import annotations

import unicodedata
from typing import Any

from robustness_gate.records.encode import Json, encode

NBSP = "\u00a0"


def percent(share: float | None) -> str:
    """A share that was measured, 0 to 1, to a tenth of a point: 40.0 %. A dash where there is none."""
    return "–" if share is None else f"{100 * share:.1f}{NBSP}%"


def share(chosen: float) -> str:
    """A share that somebody chose, 0 to 1: 40 %, 32.5 %, not 40.0 %."""
    return f"{100 * chosen:.1f}".removesuffix(".0") + f"{NBSP}%"


def pixels(length: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{length:.1f}".removesuffix(".0")


def number(value: float) -> str:
    """A sign or a cost. 60 and 60.0 are equal, so they are written alike."""
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def plain(value: Json) -> str:
    """A value that an attack recorded: words bare, numbers short, the rest as JSON."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else encode(value).decode()


def visible(value: Any) -> Any:
    """Characters that hide or turn text around are shown by their code: an auditor must see what is there.

    Jinja calls this on everything that it writes, before it escapes; what a macro of ours returns has been through it.
    """
    if not isinstance(value, str) or hasattr(value, "__html__") or (value.isascii() and value.isprintable()):
        return value
    return "".join(
        f"⟨U+{ord(c):04X}⟩" if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") else c
        for c in value.replace("\r\n", "\n")
    )
