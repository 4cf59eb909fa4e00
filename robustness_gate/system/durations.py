"""Lengths of time, as a command reads them and a message shows them."""

from __future__ import annotations

import math
import re


def seconds(text: str) -> float:
    """Parse a length of time: `90`, `90s`, `10m`, `2h`, or `none` for no limit.

    Raises:
        ValueError: anything else, or a value that is not above zero.
    """
    if text.strip().lower() == "none":
        return math.inf
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smh]?)", text.strip())
    length = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if length <= 0:
        raise ValueError(f"'{text}' is no length of time: write seconds (600), 10m, 2h, or none.")
    return length


def in_words(length: float) -> str:
    """Seconds for a message."""
    return f"{length:,.0f} s" if length >= 10 else f"{length:g} s"
