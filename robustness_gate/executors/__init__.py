"""Who runs the trials, and where. The parent alone writes the ledger; workers hand it marks and wait.

An executor takes the trials that are still open and yields what happened, as `Event`s, in the order in which it
happened. `local` keeps one worker process with the model resident.
"""

from __future__ import annotations

from typing import NamedTuple

from robustness_gate.errors import GateError
from robustness_gate.nouns import Closed, Mark, Trial


class NotLoaded(GateError):
    """A checkpoint cannot be loaded, whatever was then to be done with it."""

    by_files = False
    """Whether its files were refused; else a limit was exceeded, or something of the machine was in the way."""

    @property
    def words(self) -> str:
        """What happened and what to do, without the place: it ends up in a record."""
        return f"{self.message} {self.remedy}".strip()


class Event(NamedTuple):
    """A trial began (record is None), reached a mark, or closed. It is on the disk before the next one is asked for."""

    trial: Trial
    record: Mark | Closed | None
    not_loaded: NotLoaded | None = None
    """Why it closed as a failure, where a checkpoint that it needs cannot be loaded: no other trial that does can."""
