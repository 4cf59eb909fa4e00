"""Resident worker processes: a model is loaded once in each, and a crash cannot damage the ledger.

A worker sends each measurement and waits until the parent has written it. If it dies during its trial (a segmentation
fault, the out-of-memory killer), or exceeds a limit and is killed (`bounded`), the trial is closed as a failure and a
new worker runs the next one. A checkpoint that cannot be loaded is not loaded again for each of its trials: they are
closed as failures too. If an idle worker died, a new one runs the trial that it would have got. A worker that ran code
of others ends with that trial. The end of the parent ends the worker. What happens in an attempt is in
`running.attempt`.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from robustness_gate.errors import WriteError
from robustness_gate.records.cost import Spent
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.trial import Closed, Measurement, Trial
from robustness_gate.running import attempt
from robustness_gate.running.attempt import Load, failed, loads
from robustness_gate.running.executors import Event, Job, NotLoaded, devices
from robustness_gate.system import bounded
from robustness_gate.system.bounded import Gone

TAKEN = "taken"


@contextlib.contextmanager
def start(job: Job, workers: int) -> Iterator[Crew]:
    """Worker processes on this machine, `workers` trials side by side: an `Executor`."""
    crew = Crew(job, workers)
    try:
        yield crew
    finally:
        for worker in crew.idle:
            worker.stop()


class Crew:
    """Workers of one job; the one that compared tokenizers also runs trials."""

    def __init__(self, job: Job, workers: int) -> None:
        self.job, self.workers = job, workers
        self.idle: list[_Worker] = []

    def compare(self, subject: str) -> TokenizerCheck | str:
        """The comparison of the candidate's and the original's tokenizer, or why there is none."""
        worker = hire(self.job)
        self.idle.append(worker)
        return worker.compare(subject)

    def execute(
        self, trials: Sequence[tuple[Trial, int]], enough: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, None]:
        """As `Executor.execute`."""
        idle, self.idle = self.idle, []
        return execute(self.job, trials, self.workers, enough, idle)


def execute(
    job: Job,
    trials: Sequence[tuple[Trial, int]],
    workers: int = 1,
    enough: Callable[[], bool] = lambda: False,
    idle: Sequence[_Worker] = (),
) -> Generator[Event, None, None]:
    """Run (trial, attempt) pairs, begun in order, yielding every event as it happens.

    Args:
        job: the data that all trials share.
        trials: the trials to run.
        workers: how many trials run in parallel, each in a process with a model of its own.
        enough: called after every measurement. Once it returns true no trial begins, and running ones end at their next
        measurement, unclosed.
        idle: workers of the same job that have started already; they end with this call.

    Closing the iterator ends the workers at once; their trials are then left open and will be run again.
    """
    waiting = list(reversed(trials))
    idle = list(idle)
    busy: list[_Worker] = []
    hopeless = {load: why for worker in idle for load, why in worker.not_loaded.items()}
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                trial, number = waiting.pop()
                yield Event(trial, None)
                why = next((hopeless[each] for each in loads(job, trial) if each in hopeless), None)
                if why is not None:
                    yield Event(trial, failed(trial, number, why), why)
                    continue
                busy.append(_given(job, idle, busy, trial, number))
            for worker in _ready(busy):
                record = worker.take()
                if record is None:
                    continue
                hopeless |= worker.not_loaded
                yield Event(worker.trial, record, worker.stopped_by, worker.spent)
                if isinstance(record, Closed):
                    busy.remove(worker)
                    if _ran_code_of_others(worker.trial):  # it may have changed anything in that process
                        worker.stop()
                    else:
                        idle.append(worker)
                    continue
                if not enough():
                    worker.go_on()
                else:
                    waiting.clear()
                    busy.remove(worker)
                    worker.stop()
    finally:
        for worker in (*idle, *busy):
            worker.stop(patience=2.0 if worker in idle else 0.0)


def _ran_code_of_others(trial: Trial) -> bool:
    return any("/" in name for name in (trial.attack, *(task.kind for task in trial.tasks)))


def hire(job: Job) -> _Worker:
    """A worker that compares tokenizers before it is used in `execute`."""
    return _Worker(_placed(job, ()))


def _placed(job: Job, workers: Sequence[_Worker]) -> Job:
    """The job for a further worker: on the device that has the fewest so far."""
    taken = Counter(worker.device for worker in workers)
    return replace(job, device=min(devices(job.device), key=lambda each: taken[each]))


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Workers that sent a message or were killed; returns at once if there are none."""
    active = bounded.ready([worker.child for worker in workers]) if workers else []
    return [worker for worker in workers if worker.child in active]


def _given(job: Job, idle: list[_Worker], busy: Sequence[_Worker], trial: Trial, number: int) -> _Worker:
    """The worker that got the trial: a live idle one, removed from the list, or a new one."""
    while idle:
        worker = idle.pop(0)
        if worker.begin(trial, number):
            return worker
        worker.stop()
    worker = _Worker(_placed(job, busy))
    worker.begin(trial, number)
    return worker


class _Worker:
    """The parent's end of a worker process, which runs one trial at a time."""

    def __init__(self, job: Job) -> None:
        self.device = job.device
        paths = [each.path for place in job.places.values() for each in (place, place.base) if each is not None]
        size = bounded.weights_in(*paths)
        self.child = bounded.Child(_work, job, limits=job.limits, size=size, name="worker")
        self.not_loaded: dict[Load, NotLoaded] = {}
        """The checkpoint that it could not load, and why."""
        self.stopped_by: NotLoaded | None = None
        """The load error that ended its trial, if any."""
        self.spent: Spent | None = None
        """What its attempt took, once it has ended."""
        self._loading: Load | None = None
        self._fresh = True

    def compare(self, subject: str) -> TokenizerCheck | str:
        """The comparison of the candidate's and the original's tokenizer over the suite's data, or why there is none.

        Only as a worker's first task. An untrusted tokenizer may crash the worker but not this process.
        """
        self._fresh = False
        self.child.begins()
        try:
            self.child.pipe.send(subject)
            while True:
                found = self._receive()
                if not isinstance(found, Load | None):
                    break
        except (OSError, Gone) as error:
            return error.message if isinstance(error, Gone) else "the worker died"
        self.child.rests()
        if isinstance(found, NotLoaded):
            return found.words
        assert isinstance(found, TokenizerCheck | str)
        return found

    def begin(self, trial: Trial, number: int) -> bool:
        """Send a trial. False where the worker died after its last one, so that this one did not begin.

        A new worker is not checked: it takes seconds to start, and one that dies meanwhile would be replaced for ever.
        """
        self.trial, self._attempt, self.stopped_by, self.spent = trial, number, None, None
        fresh, self._fresh = self._fresh, False
        self.child.begins()
        try:
            self.child.pipe.send((trial, number))
            if fresh:
                return True
            bounded.ready([self.child])
            return bool(self._receive() == TAKEN)
        except (OSError, Gone):
            return fresh  # the next `take` detects its death

    def take(self) -> Measurement | Closed | None:
        """The next record; None for any other message. A dead worker closes its trial as failed.

        Raises WriteError where the disk is full.
        """
        try:
            message = self._receive()
        except Gone as gone:
            self.child.rests()
            return failed(self.trial, self._attempt, self.stopped_by or gone)
        if isinstance(message, WriteError):
            raise message
        if isinstance(message, Spent):
            self.spent = message
        if isinstance(message, NotLoaded):
            self.child.rests()
            return failed(self.trial, self._attempt, message)
        if isinstance(message, Closed):
            self.child.rests()
        return message if isinstance(message, Measurement | Closed) else None

    def go_on(self) -> None:
        """Confirm that the measurement is written, so the attack continues."""
        with contextlib.suppress(OSError):
            self.child.pipe.send(None)

    def stop(self, patience: float = 0.0) -> None:
        """End the process; an idle one reads the end of its pipe and ends by itself within `patience` seconds."""
        self.child.stop(patience)

    def _receive(self) -> Any:
        """The next message; records which checkpoint was being loaded at a failure. Raises Gone."""
        bounded.ready([self.child])
        try:
            message = self.child.receive()
        except Gone as gone:
            if self.child.at is bounded.Phase.LOADING:
                self._could_not_load(NotLoaded(gone.message, code=gone.code))
            raise
        if isinstance(message, Load | None):
            self._loading = message
        if isinstance(message, NotLoaded):
            self._could_not_load(message)
        return message

    def _could_not_load(self, why: NotLoaded) -> None:
        if self._loading is not None:  # otherwise an attack loaded something of its own
            self.stopped_by = self.not_loaded[self._loading] = why


def _work(pipe: Connection, job: Job) -> None:
    """The worker's main loop: get a trial, send its measurements, close it, until the pipe ends."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow down other processes on the CPU
    resident = attempt.Resident(job, pipe.send)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        first = pipe.recv()
        if isinstance(first, str):
            pipe.send(attempt.compared(resident, first))
            first = pipe.recv()
            pipe.send(TAKEN)
        trial, number = first
        while True:
            try:
                with contextlib.closing(resident.attempt(trial, number)) as events:
                    for event in events:
                        if event.spent is not None:
                            pipe.send(event.spent)
                        pipe.send(event.not_loaded or event.record)
                        if isinstance(event.record, Measurement):
                            pipe.recv()
            except WriteError as error:
                pipe.send(error)
                return
            trial, number = pipe.recv()
            pipe.send(TAKEN)  # from here on a crash counts for this trial
