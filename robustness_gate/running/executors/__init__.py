"""Who runs the trials, and where. The parent alone writes the ledger; workers hand it marks and wait.

An executor is a module with

    def start(job: Job, workers: int) -> AbstractContextManager[Executor]: ...

What it opens takes the trials that are still open and yields what happened, as `Event`s, in the order in which it
happened; leaving it ends whatever still runs. `running.trial.run` does one trial with a loaded model, wherever
that is. `local`, ours, keeps worker processes with the model resident; a plug-in's is named `distribution/name`. An
executor sees everything, the answer keys among it, and what it says was answered is what is judged: so a trial that a
plug-in ran names it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from robustness_gate.errors import GateError
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.plugins import Door
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.system.bounded import Limits

DOOR = Door("running.executors", "executor", ("start",), "unknown-executor", group="executors")
OURS = "local"


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
    record: Measurement | Closed | None
    not_loaded: NotLoaded | None = None
    """Why it closed as a failure, where a checkpoint that it needs cannot be loaded: no other trial that does can."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to run any trial of a plan."""

    suite_data: SuiteData
    places: Mapping[str, CheckpointRef]
    """Where checkpoints lie, by manifest digest."""
    device: str
    rows_in: Path | None
    """Folder for the log-likelihoods; None keeps none."""
    original: str | None = None
    """The original's digest, where there is one: what the candidate's tokenizer is compared with."""
    limits: Limits = field(default_factory=Limits)
    """How long things may take."""


class Executor(Protocol):
    """Something that runs trials."""

    def compare(self, subject: str) -> TokenizerCheck | str:
        """The candidate's tokenizer beside the original's (`tokenizer_check.make`); why there is none, in words."""
        ...

    def execute(
        self, trials: Sequence[tuple[Trial, int]], enough: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, None]:
        """Run (trial, attempt) pairs, begun in order, yielding every event as it happens.

        Each trial begins with an event without a record and ends with a `Closed`, whatever befalls it. `enough` is
        asked after every mark: once it says yes no trial begins, and those that run end at their next mark, unclosed.
        Closing the iterator ends what runs at once; its trials are then left open and will be run again.
        """
        ...


def start(name: str, job: Job, workers: int = 1) -> AbstractContextManager[Executor]:
    """Open an executor by name, ours or a plug-in's. Raises PlanError where there is none, or it lacks its part."""
    opened: AbstractContextManager[Executor] = DOOR.load(name).start(job, workers)
    return opened
