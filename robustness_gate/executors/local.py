"""Resident worker processes: a model is loaded once in each, and a crash cannot take the ledger along.

A worker hands over each mark and waits until the parent has written it down. If it dies at its trial (a segmentation
fault, the out-of-memory killer), the trial is closed as a failure and a fresh worker takes the next one. If it died
with nothing to do, the trial that it was to take is no worse for it: a fresh worker takes it. Ending the parent ends
the worker: its pipe breaks.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from robustness_gate import redaction
from robustness_gate.checkpoint import Place
from robustness_gate.errors import GateError, NotApplicable, UnknownWord, WriteError
from robustness_gate.executors import Event
from robustness_gate.materials import Materials
from robustness_gate.nouns import Closed, Mark, TokenizerCheck, Trial
from robustness_gate.verdict.tokenizers import OTHERWISE

SMALL_MODEL = 20_000_000  # parameters
TAKEN = "taken"
CONTEXT = multiprocessing.get_context("spawn")
"""How a worker process begins: CUDA does not survive a fork, so each imports for itself."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to run any trial of a plan."""

    materials: Materials
    places: Mapping[str, Place]
    """Where checkpoints lie, by manifest digest."""
    device: str
    rows_in: Path | None
    original: str | None = None
    """The original's digest, where there is one: what the candidate's tokenizer is compared with."""


def execute(
    job: Job,
    trials: Sequence[tuple[Trial, int]],
    workers: int = 1,
    enough: Callable[[], bool] = lambda: False,
    idle: Sequence[_Worker] = (),
) -> Generator[Event, None, None]:
    """Run (trial, attempt) pairs, begun in order, yielding every event as it happens.

    Args:
        job: what every trial shares.
        trials: what to run.
        workers: how many trials run side by side, each in a process with a model of its own.
        enough: asked after every mark. Once it says yes no trial begins, and those that run end at their next mark,
            unclosed.
        idle: workers of the same job that have started already, and end with this.

    Closing the iterator ends the workers at once; their trials are then left open and will be run again.
    """
    waiting = list(reversed(trials))
    idle = list(idle)
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                trial, attempt = waiting.pop()
                yield Event(trial, None)
                busy.append(_given(job, idle, trial, attempt))
            ready = wait([worker.pipe for worker in busy])
            for worker in [each for each in busy if each.pipe in ready]:
                record = worker.take()
                yield Event(worker.trial, record)
                if isinstance(record, Closed):
                    busy.remove(worker)
                    idle.append(worker)
                    continue
                if not enough():
                    worker.go_on()
                else:
                    waiting.clear()
                    busy.remove(worker)
                    worker.stop(patience=0.0)
    finally:
        for worker in (*idle, *busy):
            worker.stop(patience=2.0 if worker in idle else 0.0)


def hire(job: Job) -> _Worker:
    """A worker that is to compare tokenizers before it goes on to `execute`."""
    return _Worker(job)


def _given(job: Job, idle: list[_Worker], trial: Trial, attempt: int) -> _Worker:
    """The worker that has the trial now: an idle one that still lives, taken off the list, or a fresh one."""
    while idle:
        worker = idle.pop(0)
        if worker.begin(trial, attempt):
            return worker
        worker.stop(patience=0.0)
    worker = _Worker(job)
    worker.begin(trial, attempt)
    return worker


class _Worker:
    """The parent's end of a worker process, which runs one trial at a time."""

    def __init__(self, job: Job) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_work, args=(theirs, job), daemon=True, name="robustness-gate worker")
        self._process.start()
        theirs.close()
        self._fresh = True

    def compare(self, subject: str) -> TokenizerCheck | str:
        """The candidate's tokenizer beside the original's, over all of the suite; why there is no comparison, in words.

        Only as the first thing that a worker does. A stranger's tokenizer may kill its process, and not this one.
        """
        try:
            self.pipe.send(subject)
            found: TokenizerCheck | str = self.pipe.recv()
        except (EOFError, OSError):
            return "the worker died"
        self._fresh = False
        return found

    def begin(self, trial: Trial, attempt: int) -> bool:
        """Hand a trial over. False where the worker died after its last one: nothing of this one was begun.

        A fresh worker is believed: it takes seconds to start, and one that dies meanwhile would be replaced for ever.
        """
        self.trial, self._attempt = trial, attempt
        fresh, self._fresh = self._fresh, False
        try:
            self.pipe.send((trial, attempt))
            return fresh or bool(self.pipe.recv() == TAKEN)
        except (EOFError, OSError):
            return fresh  # its death is found out by the next take

    def take(self) -> Mark | Closed:
        """The next record. A dead worker closes its trial as a failure. Raises WriteError where the disk is full."""
        try:
            record: Mark | Closed | WriteError = self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            code = self._process.exitcode
            how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
            reason = f"the worker died ({how})"
            return Closed(trial=self.trial.id, attempt=self._attempt, status="failure", reason=reason)
        if isinstance(record, WriteError):
            raise record
        return record

    def go_on(self) -> None:
        """The mark is written down: the attack may go on."""
        with contextlib.suppress(OSError):
            self.pipe.send(None)

    def stop(self, patience: float) -> None:
        """End the process; an idle one sees the end of its pipe and goes by itself within `patience` seconds."""
        with contextlib.suppress(OSError):
            self.pipe.close()
        self._process.join(timeout=patience)
        self._process.terminate()
        self._process.join(timeout=10)


def _work(pipe: Connection, job: Job) -> None:
    """The worker's life: take a trial, hand over its marks, close it, until the pipe ends."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin starve whatever shares the CPU
    resident = _Resident(job)
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
            pipe.send(_restored(resident, end))
            trial, attempt = pipe.recv()
            pipe.send(TAKEN)  # from here on a death is this trial's


def _attempt(resident: _Resident, trial: Trial, attempt: int, pipe: Connection) -> Closed:
    """Run one trial to its end, good or bad; every error of the trial becomes a record, none is lost."""
    from robustness_gate import trial as trials

    def closed(status: Any, reason: str = "") -> Closed:
        return Closed(trial=trial.id, attempt=attempt, status=status, reason=reason)

    try:
        marks = trials.run(
            trial,
            resident.job.materials,
            resident.speaker(trial),
            attempt=attempt,
            rows_in=resident.job.rows_in,
            reference=resident.reference(trial),
        )
        with resident.watched(trial) as otherwise, contextlib.closing(marks):
            for mark in marks:
                pipe.send(_with_count(mark, otherwise()))
                pipe.recv()
    except NotApplicable as error:
        return closed("not_applicable", error.message)
    except WriteError:
        raise  # no room is no fault of the trial's: it stays open, and the run ends, with the model as it was
    except GateError as error:
        return closed("failure", redaction.message(f"{error.message} {error.remedy}".strip()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # noqa: BLE001 - a trial may break in any way, and each is a record, never a success
        redaction.tell_crash(type(error), error, error.__traceback__)
        resident.forget()  # whatever it left behind must not touch the next trial
        return closed("failure", f"{type(error).__name__}: {redaction.message(str(error))[:500]}")
    return closed("ok")


def _with_count(mark: Mark, otherwise: int) -> Mark:
    """The mark, with how many texts this trial has encoded otherwise than the original's tokenizer would, if any."""
    return mark.model_copy(update={"summary": {**mark.summary, OTHERWISE: float(otherwise)}}) if otherwise else mark


def _compared(resident: _Resident, subject: str) -> TokenizerCheck | str:
    from robustness_gate import tokenizer_check

    try:
        return tokenizer_check.make(resident.job.materials, resident.job.places, subject, resident.job.original)
    except GateError as error:
        return f"{error.message} {error.remedy}".strip()
    except Exception as error:  # noqa: BLE001 - a stranger's tokenizer may break in any way; then nothing was compared
        redaction.tell_crash(type(error), error, error.__traceback__)
        return f"{type(error).__name__}: {redaction.message(str(error))[:500]}"


def _restored(resident: _Resident, end: Closed) -> Closed:
    """The end of an attempt; a failure where the model's weights are not as they were loaded.

    Whoever writes an attack may forget to put something back. His own marks may then be right, but the next trial would
    attack another model.
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
    """The model in memory: loaded when first needed, kept until another subject is asked for."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._loaded: tuple[str, str] | None = None
        self._speaker: Any = None
        self._sums: dict[str, tuple[str, str]] = {}
        self._tokenizers: dict[str, Any] = {}
        self._alike: bool | None = None

    def speaker(self, trial: Trial) -> Any:
        from robustness_gate.engine.state import sums_of

        wanted = (trial.subject, trial.dtype)
        if self._loaded != wanted:
            self.forget()
            self._speaker = self._load(trial.subject, trial.dtype)
            self._loaded = wanted
            _spare_threads(self._speaker.model)
            self._sums = sums_of(self._speaker.model)
        match trial.role:
            case "through_original":
                from robustness_gate.engine.load import asked_through

                assert trial.reference is not None
                return asked_through(self._speaker, self._tokenizer(trial.reference))
            case "candidate" | "sham" | "in_declared_dtype" | "original":
                return self._speaker
            case role if role.startswith("control:"):
                return self._speaker
            case role:
                raise UnknownWord("role of a trial", role)

    @contextlib.contextmanager
    def watched(self, trial: Trial) -> Iterator[Callable[[], int]]:
        """Counts the texts of a block that the original's tokenizer would make other ids of.

        Nothing is watched where there is no original, or where the two tokenizers have one content.
        """
        original = self.job.original
        if trial.role not in ("candidate", "sham") or original in (None, trial.subject):
            yield lambda: 0
            return
        from robustness_gate.engine import tokenization

        assert original is not None
        ours, theirs = self._speaker.tokenizer, self._tokenizer(original)
        if self._alike is None:
            self._alike = tokenization.digest(ours) == tokenization.digest(theirs)
        if self._alike:
            yield lambda: 0
            return
        with tokenization.watched(ours, theirs) as counted:
            yield counted

    def _tokenizer(self, digest: str) -> Any:
        from robustness_gate.engine.load import tokenizer_of

        if digest not in self._tokenizers:
            place = self.job.places[digest]
            self._tokenizers[digest] = tokenizer_of(place.path, place.base.path if place.base is not None else None)
        return self._tokenizers[digest]

    def forget(self) -> None:
        self._speaker, self._loaded = None, None

    def moved(self) -> str:
        """The first weight that is not as it was loaded; empty where all are, or nothing is loaded."""
        from robustness_gate.engine.state import sums_of

        if self._speaker is None:
            return ""
        now = sums_of(self._speaker.model)
        return next((name for name in (*self._sums, *now) if self._sums.get(name) != now.get(name)), "")

    def reference(self, trial: Trial) -> Any:
        """Opens the original for the length of a block, or None where the trial has none."""
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
        return load(place.path, dtype=dtype, device=self.job.device, base=base)


def _spare_threads(model: Any) -> None:
    """One thread for a small model on the CPU: more wait for each other, and numbers would depend on their count."""
    import torch

    parameters = list(model.parameters())
    if parameters[0].device.type == "cpu" and sum(each.numel() for each in parameters) < SMALL_MODEL:
        torch.set_num_threads(1)
