"""A chat template is a program, and some ask for the date. Here it is always the same one.

A prompt that changes from day to day cannot be asked again, and one that waits for a day can be another prompt after
the examination than in it. So while a template is rendered its clock stands at MOMENT, and its lots are drawn alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MOMENT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Ours: a Thursday at noon."""


@dataclass
class Stopped:
    """What a template is given, and whether it asked."""

    words: dict[str, Callable[[str], str]] = field(default_factory=dict)
    """To be handed to `apply_chat_template`: what it is given goes before what transformers offers."""
    asked: bool = False


@contextmanager
def stopped(template: Any) -> Iterator[Stopped]:
    """Stop the clock, and draw lots alike, while a template is rendered.

    Args:
        template: its words, or several by name: one that does not speak of the clock is given none.
    """
    found = Stopped()

    def strftime_now(words: str) -> str:
        found.asked = True
        return MOMENT.strftime(words)

    if "strftime_now" in str(template):
        found.words["strftime_now"] = strftime_now
    before = random.getstate()
    random.seed(0)  # Jinja's filter `random` and its `lipsum` draw from Python's own
    try:
        yield found
    finally:
        random.setstate(before)
