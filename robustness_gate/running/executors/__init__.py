"""Executors run the trials. The parent alone writes the ledger; workers pass it measurements and wait.

An executor is a module with

    def start(job: Job, workers: int) -> AbstractContextManager[Executor]: ...

The executor gets the open trials and yields `Event`s in order of time; leaving the context ends all running trials. It
decides where trials run and in which order, and nothing else: `running.attempt.Resident(job).attempt(trial, number)`
runs one attempt on any machine and yields its events, its end included. Ours are the modules of this folder: `local`
keeps worker processes with the model in memory. A plug-in's is named `distribution/name`.

`running.checked.start` opens an executor and checks every event that it yields. An executor of others still has access
to everything, including the answer keys, and the verdict rests on the answers that it returns: so a trial that a
plug-in ran names it.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from robustness_gate.errors import GateError, PlanError, UsageError
from robustness_gate.inputs import imported, own_code, plugins
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.planning.plan import Subject
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.cost import Spent
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.system.bounded import Limits

SMALL_MODEL_BYTES = 50_000_000
"""Up to this size of its weights, trials of a model run in several processes by default."""


class NotLoaded(GateError):
    """A checkpoint cannot be loaded, for any trial."""

    by_files = False
    """Whether its files were refused; otherwise a limit was exceeded, or the machine had a fault."""

    @property
    def words(self) -> str:
        """Message and remedy without the place, for a record."""
        return f"{self.message} {self.remedy}".strip()


class Event(NamedTuple):
    """A trial began (record is None), made a measurement, or closed. It is on the disk before the next one is
    requested.
    """

    trial: Trial
    record: Measurement | Closed | None
    not_loaded: NotLoaded | None = None
    """Set where it failed because a checkpoint cannot be loaded; every other trial with that checkpoint fails too."""
    spent: Spent | None = None
    """With the attempt's end: what it took, where that is known."""


@dataclass(frozen=True)
class Job:
    """The data that a worker needs for any trial of a plan."""

    suite_data: SuiteData
    places: Mapping[str, CheckpointRef]
    """Locations of checkpoints by manifest digest."""
    device: str
    rows_in: Path | None
    """Folder for the log-likelihoods; None stores none."""
    original: str | None = None
    """The original's digest, where there is one, for the comparison of tokenizers."""
    limits: Limits = field(default_factory=Limits)
    """Time limits."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process holds the plug-ins by content before anything of theirs is unpickled, which imports it."""
        parts = tuple(getattr(self, each.name) for each in fields(self))
        return _unpickled, (tuple(sorted(imported.SERVED)), pickle.dumps(parts))


def _unpickled(distributions: tuple[str, ...], parts: bytes) -> Job:
    plugins.hold(distributions)
    with own_code.watched(bool(distributions)) as replaced:
        job = Job(*pickle.loads(parts))
        if name := replaced():
            raise PlanError(f"a plug-in ({', '.join(distributions)}) replaced '{name}' of this program in a worker.")
    return job


def workers(wanted: int, device: str, candidate: Subject) -> int:
    """The number of workers: the wanted one; for 0 one a GPU, several for a small model on the CPU, which gains little
    from threads, else one.

    Raises:
        UsageError: more than there are GPUs; each worker holds a model of its own, with all that training needs.
    """
    if (gpus := sum(each.startswith("cuda") for each in devices(device))) and wanted > gpus:
        raise UsageError(
            f"--workers {wanted}: every worker loads a model of its own, and there {'is' if gpus == 1 else 'are'} "
            f"{gpus} GPU{'s' * (gpus > 1)} for '{device}'.",
            remedy=f"Use at most {gpus}, or 0.",
        )
    if wanted or gpus:
        return wanted or gpus
    weights = sum(entry.size for entry in candidate.manifest.files if entry.path.endswith(".safetensors"))
    alone = candidate.place.base is None  # an adapter is small, its base is not
    small = alone and weights < SMALL_MODEL_BYTES and device in ("auto", "cpu")
    return min(4, os.cpu_count() or 1) if small else 1


def devices(wish: str) -> tuple[str, ...]:
    """The devices on which workers run, one each: every GPU for `auto` and `cuda`, else the one that is named."""
    if wish == "cpu":
        return (wish,)
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{number}" for number in range(gpus)) if wish in ("auto", "cuda") and gpus else (wish,)


class Executor(Protocol):
    """Something that runs trials."""

    def execute(
        self, trials: Sequence[tuple[Trial, int]], enough: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, None]:
        """Run (trial, attempt) pairs, begun in order, yielding every event as it happens.

        Each trial begins with an event without a record and ends with a `Closed`, also after a failure. `enough` is
        called after every measurement: once it returns true no trial begins, and running ones end at their next
        measurement, unclosed. Closing the iterator ends what runs at once; its trials are then left open and will be
        run again.
        """
        ...
