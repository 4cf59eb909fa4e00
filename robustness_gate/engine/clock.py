"""A fixed date for chat templates, which are programs that may use the date.

A prompt that changes with the date cannot be reproduced, and a template could change its behaviour after a certain day.
So while a template is rendered the time is MOMENT, and its random numbers have a fixed seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from transformers.utils import chat_template_utils

MOMENT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
"""Our choice: a Thursday at noon."""


@dataclass
class Stopped:
    """A fixed clock that replaces `datetime` in the module that provides `strftime_now` to templates."""

    asked: bool = False
    """Whether the template used it."""

    def now(self) -> datetime:
        """MOMENT, independent of the present time."""
        self.asked = True
        return MOMENT


@contextmanager
def stopped() -> Iterator[Stopped]:
    """Fix the clock and the random seed while a template is rendered; both are restored afterwards."""
    found, before, theirs = Stopped(), random.getstate(), chat_template_utils.datetime
    random.seed(0)  # Jinja's filter `random` and its `lipsum` use Python's generator
    chat_template_utils.datetime = found
    try:
        yield found
    finally:
        chat_template_utils.datetime = theirs
        random.setstate(before)
