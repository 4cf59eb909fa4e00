"""Who runs the trials, and where. The parent alone writes the ledger; workers hand it marks and wait.

An executor takes the trials that are still open and yields what happened, as `Event`s, in the order in which it
happened. `local` keeps one worker process with the model resident.
"""

from __future__ import annotations

from typing import NamedTuple

from robustness_gate.errors import GateError
from robustness_gate.nouns import Closed, Mark, Trial


class Event(NamedTuple):
    """A trial began (record is None), reached a mark, or closed. It is on the disk before the next one is asked for."""

    trial: Trial
    record: Mark | Closed | None
    refused: GateError | None = None
    """Why the trial closed without having begun, where a checkpoint's files were refused at loading."""
