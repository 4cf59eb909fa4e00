"""Resident worker processes: a model is loaded once in each, and a crash cannot damage the ledger.

A worker sends each measurement and waits until the parent has written it. If it dies during its trial (a segmentation
fault, the out-of-memory killer), or exceeds a limit and is killed (`bounded`), the trial is closed as a failure and a
new worker runs the next one. A checkpoint that cannot be loaded is not loaded again for each of its trials: they are
closed as failures too. If an idle worker died, a new one runs the trial that it would have got. The end of the parent
ends the worker.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from robustness_gate.errors import CheckpointError, GateError, NotApplicable, UnknownWord, WriteError
from robustness_gate.records import codes
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running.executors import Event, Job, NotLoaded
from robustness_gate.system import bounded, redaction
from robustness_gate.system.bounded import Gone
from robustness_gate.verdict.tokenizers import OTHERWISE

SMALL_MODEL = 20_000_000  # parameters
TAKEN = "taken"
ITS_TOKENIZER = "its tokenizer"
"""In place of a dtype, where only a checkpoint's tokenizer is loaded."""
WATCHED = (Role.CANDIDATE, Role.SHAM)
"""Roles in which every text is also encoded by the original's tokenizer."""


class _Load(NamedTuple):
    """A checkpoint with its dtype, or with ITS_TOKENIZER. A worker reports it before loading, and None afterwards."""

    digest: str
    what: str


def _loads(job: Job, trial: Trial) -> set[_Load]:
    """The checkpoints that a trial needs."""
    digests = [trial.subject, *([trial.reference] if trial.reference is not None else [])]
    found = {_Load(each, what) for each in digests for what in (trial.dtype, ITS_TOKENIZER)}
    if trial.role in WATCHED and job.original is not None:
        found.add(_Load(job.original, ITS_TOKENIZER))
    return found


@contextlib.contextmanager
def start(job: Job, workers: int) -> Iterator[_Crew]:
    """Worker processes on this machine, `workers` trials side by side: an `Executor`."""
    crew = _Crew(job, workers)
    try:
        yield crew
    finally:
        for worker in crew.idle:
            worker.stop()


class _Crew:
    """Workers of one job; the one that compared tokenizers also runs trials."""

    def __init__(self, job: Job, workers: int) -> None:
        self.job, self.workers = job, workers
        self.idle: list[_Worker] = []

    def compare(self, subject: str) -> TokenizerCheck | str:
        worker = hire(self.job)
        self.idle.append(worker)
        return worker.compare(subject)

    def execute(
        self, trials: Sequence[tuple[Trial, int]], enough: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, None]:
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
                trial, attempt = waiting.pop()
                yield Event(trial, None)
                why = next((hopeless[each] for each in _loads(job, trial) if each in hopeless), None)
                if why is not None:
                    yield Event(trial, _failed(trial, attempt, why), why)
                    continue
                busy.append(_given(job, idle, trial, attempt))
            for worker in _ready(busy):
                record = worker.take()
                if record is None:
                    continue
                hopeless |= worker.not_loaded
                yield Event(worker.trial, record, worker.stopped_by)
                if isinstance(record, Closed):
                    busy.remove(worker)
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


def hire(job: Job) -> _Worker:
    """A worker that compares tokenizers before it is used in `execute`."""
    return _Worker(job)


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    """Workers that sent a message or were killed; returns at once if there are none."""
    active = bounded.ready([worker.child for worker in workers]) if workers else []
    return [worker for worker in workers if worker.child in active]


def _given(job: Job, idle: list[_Worker], trial: Trial, attempt: int) -> _Worker:
    """The worker that got the trial: a live idle one, removed from the list, or a new one."""
    while idle:
        worker = idle.pop(0)
        if worker.begin(trial, attempt):
            return worker
        worker.stop()
    worker = _Worker(job)
    worker.begin(trial, attempt)
    return worker


class _Worker:
    """The parent's end of a worker process, which runs one trial at a time."""

    def __init__(self, job: Job) -> None:
        paths = [each.path for place in job.places.values() for each in (place, place.base) if each is not None]
        size = bounded.weights_in(*paths)
        self.child = bounded.Child(_work, job, limits=job.limits, size=size, name="worker")
        self.not_loaded: dict[_Load, NotLoaded] = {}
        """The checkpoint that it could not load, and why."""
        self.stopped_by: NotLoaded | None = None
        """The load error that ended its trial, if any."""
        self._loading: _Load | None = None
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
                if not isinstance(found, _Load | None):
                    break
        except (OSError, Gone) as error:
            return error.message if isinstance(error, Gone) else "the worker died"
        self.child.rests()
        if isinstance(found, NotLoaded):
            return found.words
        assert isinstance(found, TokenizerCheck | str)
        return found

    def begin(self, trial: Trial, attempt: int) -> bool:
        """Send a trial. False where the worker died after its last one, so that this one did not begin.

        A new worker is not checked: it takes seconds to start, and one that dies meanwhile would be replaced for ever.
        """
        self.trial, self._attempt, self.stopped_by = trial, attempt, None
        fresh, self._fresh = self._fresh, False
        self.child.begins()
        try:
            self.child.pipe.send((trial, attempt))
            if fresh:
                return True
            bounded.ready([self.child])
            return bool(self._receive() == TAKEN)
        except (OSError, Gone):
            return fresh  # the next `take` detects its death

    def take(self) -> Measurement | Closed | None:
        """The next record; None for a message about loading. A dead worker closes its trial as failed.

        Raises WriteError where the disk is full.
        """
        try:
            message = self._receive()
        except Gone as gone:
            self.child.rests()
            return _failed(self.trial, self._attempt, self.stopped_by or gone)
        if isinstance(message, WriteError):
            raise message
        if isinstance(message, NotLoaded):
            self.child.rests()
            return _failed(self.trial, self._attempt, message)
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
        if isinstance(message, _Load | None):
            self._loading = message
        if isinstance(message, NotLoaded):
            self._could_not_load(message)
        return message

    def _could_not_load(self, why: NotLoaded) -> None:
        if self._loading is not None:  # otherwise an attack loaded something of its own
            self.stopped_by = self.not_loaded[self._loading] = why


def _failed(trial: Trial, attempt: int, error: GateError) -> Closed:
    reason = redaction.message(f"{error.message} {error.remedy}".strip())
    return Closed(trial=trial.id, attempt=attempt, status="failure", code=_code(error), reason=" ".join(reason.split()))


def _code(error: BaseException) -> codes.End:
    """The cause of an attempt's end; empty where the error does not show it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of any device
        return "memory"
    named = error.code if isinstance(error, GateError) else ""
    return next((code for code in codes.ENDS if code == named), "")


def _work(pipe: Connection, job: Job) -> None:
    """The worker's main loop: get a trial, send its measurements, close it, until the pipe ends."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads slow down other processes on the CPU
    resident = _Resident(job, pipe.send)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        first = pipe.recv()
        if isinstance(first, str):
            pipe.send(_compared(resident, first))
            first = pipe.recv()
            pipe.send(TAKEN)
        trial, attempt = first
        while True:
            try:
                end = _attempt(resident, trial, attempt, pipe)
            except WriteError as error:
                pipe.send(error)
                return
            pipe.send(_restored(resident, end) if isinstance(end, Closed) else end)
            trial, attempt = pipe.recv()
            pipe.send(TAKEN)  # from here on a crash counts for this trial


def _attempt(resident: _Resident, trial: Trial, attempt: int, pipe: Connection) -> Closed | NotLoaded:
    """Run one trial to its end; every error of the trial becomes a record."""
    from robustness_gate.running import trial as trials

    def closed(status: Any, reason: str = "", error: BaseException | None = None) -> Closed:
        code = _code(error) if error is not None else ""
        return Closed(trial=trial.id, attempt=attempt, status=status, code=code, reason=" ".join(reason.split()))

    try:
        measurements = trials.run(
            trial,
            resident.job.suite_data,
            resident.loaded_model(trial),
            attempt=attempt,
            rows_in=resident.job.rows_in,
            reference=resident.reference(trial),
        )
        with resident.watched(trial) as otherwise, contextlib.closing(measurements):
            for measurement in measurements:
                pipe.send(_with_count(measurement, otherwise()))
                pipe.recv()
    except NotLoaded as error:
        resident.forget()
        return error
    except NotApplicable as error:
        return closed("not_applicable", error.message, error)
    except WriteError:
        raise  # a full disk is not the trial's fault: it stays open, and the run ends
    except GateError as error:
        return _failed(trial, attempt, error)
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a trial may fail with any error (a library in Rust raises no Exception)
        redaction.tell_crash(type(error), error, error.__traceback__)
        resident.forget()  # a changed state must not affect the next trial
        return closed("failure", f"{type(error).__name__}: {redaction.message(str(error))[:500]}", error)
    return closed("ok")


def _with_count(measurement: Measurement, otherwise: int) -> Measurement:
    """The measurement with the number of this trial's texts that the original's tokenizer encodes differently, if
    any.
    """
    return (
        measurement.model_copy(update={"summary": {**measurement.summary, OTHERWISE: float(otherwise)}})
        if otherwise
        else measurement
    )


def _compared(resident: _Resident, subject: str) -> TokenizerCheck | NotLoaded | str:
    from robustness_gate.running import tokenizer_check

    try:
        return tokenizer_check.make(resident.job.suite_data, resident.tokenizer, subject, resident.job.original)
    except NotLoaded as error:
        return error
    except GateError as error:
        return f"{error.message} {error.remedy}".strip()
    except Exception as error:  # noqa: BLE001 - an untrusted tokenizer may fail with any error
        redaction.tell_crash(type(error), error, error.__traceback__)
        return f"{type(error).__name__}: {redaction.message(str(error))[:500]}"


def _restored(resident: _Resident, end: Closed) -> Closed:
    """The end of an attempt; a failure where the model's weights differ from the loaded ones.

    An attack may fail to restore something. Its own measurements may then be right, but the next trial would attack
    another model.
    """
    moved = resident.moved()
    if not moved:
        return end
    resident.forget()
    if end.status not in ("ok", "not_applicable"):
        return end
    reason = (
        f"the attack left other weights behind ({moved}), so it is not known what it attacked. Let it restore them."
    )
    return end.model_copy(update={"status": "failure", "reason": reason})


class _Resident:
    """The model in memory: loaded when first needed, kept until another subject is needed."""

    def __init__(self, job: Job, tell: Callable[[_Load | None], None] = lambda _: None) -> None:
        self.job = job
        self._tell = tell
        """Called with the checkpoint before loading, and with None afterwards."""
        self._loaded: tuple[str, str] | None = None
        self._speaker: Any = None
        self._sums: dict[str, tuple[str, str]] = {}
        self._tokenizers: dict[str, Any] = {}
        self._alike: bool | None = None

    def loaded_model(self, trial: Trial) -> Any:
        from robustness_gate.engine.state import sums_of

        wanted = (trial.subject, trial.dtype)
        if self._loaded != wanted:
            self.forget()
            self._speaker = self._load(trial.subject, trial.dtype)
            self._loaded = wanted
            _spare_threads(self._speaker.model)
            self._sums = sums_of(self._speaker.model)
        match trial.role:
            case Role.THROUGH_ORIGINAL:
                from robustness_gate.engine.load import asked_through

                assert trial.reference is not None
                return asked_through(self._speaker, self.tokenizer(trial.reference))
            case Role.CANDIDATE | Role.SHAM | Role.IN_DECLARED_DTYPE | Role.ORIGINAL | Role.CONTROL:
                return self._speaker
            case unknown:
                raise UnknownWord("role of a trial", unknown)

    @contextlib.contextmanager
    def watched(self, trial: Trial) -> Iterator[Callable[[], int]]:
        """Count the texts of a block for which the original's tokenizer gives other ids.

        Nothing is counted where there is no original, or where the two tokenizers have equal content.
        """
        original = self.job.original
        if trial.role not in WATCHED or original in (None, trial.subject):
            yield lambda: 0
            return
        from robustness_gate.engine import tokenization

        assert original is not None
        ours, theirs = self._speaker.tokenizer, self.tokenizer(original)
        if self._alike is None:
            self._alike = tokenization.digest(ours) == tokenization.digest(theirs)
        if self._alike:
            yield lambda: 0
            return
        with tokenization.watched(ours, theirs) as counted:
            yield counted

    def tokenizer(self, digest: str) -> Any:
        """A checkpoint's tokenizer, loaded once. Raises NotLoaded."""
        from robustness_gate.running import tokenizer_check

        if digest not in self._tokenizers:
            with self._loading(_Load(digest, ITS_TOKENIZER)):
                self._tokenizers[digest] = tokenizer_check.loaded(self.job.places[digest])
        return self._tokenizers[digest]

    @contextlib.contextmanager
    def _loading(self, what: _Load) -> Iterator[None]:
        """Report what is loaded, so that the parent knows it if this process crashes."""
        self._tell(what)
        try:
            yield
        except Exception as error:
            if isinstance(error, GateError):
                failed = NotLoaded(error.message, remedy=error.remedy, where=error.where, code=error.code)
            else:
                redaction.tell_crash(type(error), error, error.__traceback__)
                failed = NotLoaded(f"{type(error).__name__}: {redaction.message(str(error))[:500]}")
            failed.by_files = isinstance(error, CheckpointError)
            raise failed from error
        self._tell(None)

    def forget(self) -> None:
        self._speaker, self._loaded = None, None

    def moved(self) -> str:
        """The first weight that differs from the loaded one; empty where none does, or nothing is loaded."""
        from robustness_gate.engine.state import sums_of

        if self._speaker is None:
            return ""
        now = sums_of(self._speaker.model)
        return next((name for name in (*self._sums, *now) if self._sums.get(name) != now.get(name)), "")

    def reference(self, trial: Trial) -> Any:
        """A function that opens the original for a block, or None where the trial has none."""
        if trial.reference is None:
            return None

        @contextlib.contextmanager
        def opened() -> Iterator[Any]:
            assert trial.reference is not None
            yield self._load(trial.reference, trial.dtype)

        return opened

    def _load(self, digest: str, dtype: str) -> Any:
        from robustness_gate.engine.load import load

        place = self.job.places[digest]
        base = place.base.path if place.base is not None else None
        with self._loading(_Load(digest, dtype)):
            return load(place.path, dtype=dtype, device=self.job.device, base=base)


def _spare_threads(model: Any) -> None:
    """One thread for a small model on the CPU: more would be slower, and results would depend on their number."""
    import torch

    parameters = list(model.parameters())
    if parameters[0].device.type == "cpu" and sum(each.numel() for each in parameters) < SMALL_MODEL:
        torch.set_num_threads(1)
