"""A chat template is a program, and some ask for the date. Here it is always the same one.

A prompt that changes from day to day cannot be asked again, and one that waits for a day can be another prompt after
the examination than in it. So while a template is rendered its clock stands at MOMENT, and its lots are drawn alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from transformers.utils import chat_template_utils

MOMENT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Ours: a Thursday at noon."""


@dataclass
class Stopped:
    """A clock that stands, in the place of `datetime` in the module that offers a template `strftime_now`."""

    asked: bool = False
    """Whether the template looked at it."""

    def now(self) -> datetime:
        """The moment, whenever it is."""
        self.asked = True
        return MOMENT


@contextmanager
def stopped() -> Iterator[Stopped]:
    """Stop the clock, and draw lots alike, while a template is rendered; afterwards both are as before."""
    found, before, theirs = Stopped(), random.getstate(), chat_template_utils.datetime
    random.seed(0)  # Jinja's filter `random` and its `lipsum` draw from Python's own
    chat_template_utils.datetime = found
    try:
        yield found
    finally:
        chat_template_utils.datetime = theirs
        random.setstate(before)
