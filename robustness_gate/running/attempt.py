"""One attempt at one trial, from loading the model to the attempt's end: the same for every executor.

An executor decides where attempts run and in which order. Everything else is here: the model is loaded once and kept
from one trial to the next, the texts that the original's tokenizer encodes differently are counted, every error ends
the attempt with a record, and an attempt that leaves weights, tokenizer, torch's settings or this program's own code
changed has failed.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from robustness_gate.errors import CheckpointError, GateError, NotApplicable, UnknownWord, WriteError
from robustness_gate.records import codes
from robustness_gate.records.evidence import TokenizerCheck
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.running.beside import Beside
from robustness_gate.running.executors import Event, Job, NotLoaded
from robustness_gate.running.spending import Meter
from robustness_gate.system import redaction
from robustness_gate.verdict.tokenizers import OTHERWISE

SMALL_MODEL = 20_000_000  # parameters
ITS_TOKENIZER = "its tokenizer"
"""In place of a dtype, where only a checkpoint's tokenizer is loaded."""
WATCHED = (Role.CANDIDATE, Role.SHAM)
"""Roles in which every text is also encoded by the original's tokenizer."""


class Load(NamedTuple):
    """A checkpoint with its dtype, or with ITS_TOKENIZER. A worker reports it before loading, and None afterwards."""

    digest: str
    what: str


def loads(job: Job, trial: Trial) -> set[Load]:
    """The checkpoints that a trial needs."""
    digests = [trial.subject, *([trial.reference] if trial.reference is not None else [])]
    found = {Load(each, what) for each in digests for what in (trial.dtype, ITS_TOKENIZER)}
    if trial.role in WATCHED and job.original is not None:
        found.add(Load(job.original, ITS_TOKENIZER))
    return found


def failed(trial: Trial, attempt: int, error: GateError) -> Closed:
    """The end of an attempt that an error of ours ended."""
    reason = redaction.message(f"{error.message} {error.remedy}".strip())
    return _closed(trial, attempt, "failure", reason, error)


def _closed(trial: Trial, attempt: int, status: Any, reason: str = "", error: BaseException | None = None) -> Closed:
    code = _code(error) if error is not None else ""
    return Closed(trial=trial.id, attempt=attempt, status=status, code=code, reason=" ".join(reason.split()))


def _code(error: BaseException) -> codes.End:
    """The cause of an attempt's end; empty where the error does not show it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, of any device
        return "memory"
    named = error.code if isinstance(error, GateError) else ""
    return next((code for code in codes.ENDS if code == named), "")


def _with_count(measurement: Measurement, otherwise: int) -> Measurement:
    """The measurement with the number of this trial's texts that the original's tokenizer encodes differently, if
    any.
    """
    return (
        measurement.model_copy(update={"summary": {**measurement.summary, OTHERWISE: float(otherwise)}})
        if otherwise
        else measurement
    )


def compared(resident: Resident, subject: str) -> TokenizerCheck | NotLoaded | str:
    """The comparison of the candidate's and the original's tokenizer, or why there is none."""
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


class Resident:
    """The model in memory: loaded when first needed, kept until another subject is needed."""

    def __init__(self, job: Job, tell: Callable[[Load | None], None] = lambda _: None) -> None:
        self.job = job
        self._tell = tell
        """Called with the checkpoint before loading, and with None afterwards."""
        self._loaded: tuple[str, str] | None = None
        self._model: Any = None
        self._sums: dict[str, tuple[str, str]] = {}
        self._tokenizers: dict[str, Any] = {}
        self._alike: bool | None = None
        self._before: dict[str, Any] = {}
        """Hooks and modes of the model, tokenizer and torch's settings at the start; empty before it is loaded."""
        self._meter = Meter()
        self._beside = Beside(self._load)

    def attempt(self, trial: Trial, number: int) -> Generator[Event, None, None]:
        """Run one attempt: an `Event` for each measurement, and one with the attempt's end, whatever happens in it.

        Close the iterator to end the attempt early: the attack's scopes then end, and there is no record of its end.

        Args:
            trial: the trial.
            number: number of this attempt, from 1.

        Raises:
            WriteError: the log-likelihoods cannot be written; the attempt stays open.
        """
        waiting = False
        lost: NotLoaded | None = None
        self._before = {}
        self._meter.begin()
        try:
            if trial.reference is None:
                self._beside.make_room()
            loaded = self.loaded_model(trial)
            self._meter.examines(self._model)
            self._before = self._surroundings()
            with self._measured(trial, number, loaded) as measurements:
                for measurement in measurements:
                    waiting = True
                    yield Event(trial, measurement)
                    waiting = False
            end = _closed(trial, number, "ok")
        except NotLoaded as error:
            self.forget()
            end, lost = failed(trial, number, error), error
        except NotApplicable as error:
            end = _closed(trial, number, "not_applicable", error.message, error)
        except WriteError:
            raise  # a full disk is not the trial's fault: it stays open, and the run ends
        except GateError as error:
            end = failed(trial, number, error)
        except BaseException as error:  # a trial may fail with any error (a library in Rust raises no Exception)
            if waiting or isinstance(error, KeyboardInterrupt):  # the executor ends it, or a person
                raise
            redaction.tell_crash(type(error), error, error.__traceback__)
            self.forget()  # a changed state must not affect the next trial
            words = f"{type(error).__name__}: {redaction.message(str(error))[:500]}"
            end = _closed(trial, number, "failure", words, error)
        yield Event(trial, self._restored(end), lost, self._meter.spent())

    @contextlib.contextmanager
    def _measured(self, trial: Trial, number: int, loaded: Any) -> Iterator[Iterator[Measurement]]:
        """The trial's measurements, with the number of texts that the original's tokenizer encodes differently."""
        from robustness_gate.running import trial as trials

        measurements = trials.run(
            trial,
            self.job.suite_data,
            loaded,
            attempt=number,
            rows_in=self.job.rows_in,
            reference=self.reference(trial),
        )
        with self.watched(trial) as otherwise, contextlib.closing(measurements):
            yield (_with_count(each, otherwise()) for each in measurements)

    def _surroundings(self) -> dict[str, Any]:
        from robustness_gate.engine.state import of_process, of_structure, of_tokenizer

        return {**of_process(), **of_structure(self._model.model), "tokenizer": of_tokenizer(self._model.tokenizer)}

    def _restored(self, end: Closed) -> Closed:
        """The end of an attempt; a failure where weights, tokenizer or torch's settings differ from those before it.

        An attack may fail to restore something. Its own measurements may then be right, but the next trial would attack
        another model. Random states are put back and are no fault: every attack has a seed of its own.
        """
        from robustness_gate.engine import state

        found = []
        if self._before:
            if self._model is not None:
                found += [f"weights behind ({name})" for name in [self.moved()] if name]
                now = self._surroundings()
            else:
                now = {**self._before, **state.of_process()}
            left = [each for each in state.changes(self._before, now) if not each.endswith("random state")]
            found += [f"settings behind ({each})" for each in left]
            state.put_back(self._before)
        if not found:
            return end
        self.forget()
        if end.status not in ("ok", "not_applicable"):
            return end
        reason = f"the attack left other {found[0]}, so it is not known what it attacked. Let it restore them."
        return end.model_copy(update={"status": "failure", "reason": reason})

    def loaded_model(self, trial: Trial) -> Any:
        """The trial's subject in memory, as its role asks it. Raises NotLoaded."""
        from robustness_gate.engine.state import sums_of

        wanted = (trial.subject, trial.dtype)
        if self._loaded != wanted:
            self._model, self._loaded = None, None
            self._model = self._load(trial.subject, trial.dtype)
            self._loaded = wanted
            _spare_threads(self._model.model)
            self._sums = sums_of(self._model.model)
        match trial.role:
            case Role.THROUGH_ORIGINAL:
                from robustness_gate.engine.load import asked_through

                assert trial.reference is not None
                return asked_through(self._model, self.tokenizer(trial.reference))
            case Role.CANDIDATE | Role.SHAM | Role.IN_DECLARED_DTYPE | Role.ORIGINAL | Role.CONTROL:
                return self._model
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
        ours, theirs = self._model.tokenizer, self.tokenizer(original)
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
            with self._loading(Load(digest, ITS_TOKENIZER)):
                self._tokenizers[digest] = tokenizer_check.loaded(self.job.places[digest])
        return self._tokenizers[digest]

    @contextlib.contextmanager
    def _loading(self, what: Load) -> Iterator[None]:
        """Report what is loaded, so that the parent knows it if this process crashes."""
        self._tell(what)
        try:
            with self._meter.loading():
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
        """Load the model anew for the next trial, and the original."""
        self._model, self._loaded = None, None
        self._beside.forget()

    def moved(self) -> str:
        """The first weight that differs from the loaded one; empty where none does, or nothing is loaded."""
        from robustness_gate.engine.state import sums_of

        if self._model is None:
            return ""
        now = sums_of(self._model.model)
        return next((name for name in (*self._sums, *now) if self._sums.get(name) != now.get(name)), "")

    def reference(self, trial: Trial) -> Any:
        """A function that opens the original for a block, or None where the trial has none."""
        if trial.reference is None:
            return None

        return functools.partial(self._beside.opened, trial.reference, trial.dtype)

    def _load(self, digest: str, dtype: str) -> Any:
        from robustness_gate.engine.load import load

        place = self.job.places[digest]
        base = place.base.path if place.base is not None else None
        with self._loading(Load(digest, dtype)):
            loaded = load(place.path, dtype=dtype, device=self.job.device, base=base)
        self._meter.watch(loaded.model)
        return loaded


def _spare_threads(model: Any) -> None:
    """One thread for a small model on the CPU: more would be slower, and results would depend on their number."""
    import torch

    parameters = list(model.parameters())
    if parameters[0].device.type == "cpu" and sum(each.numel() for each in parameters) < SMALL_MODEL:
        torch.set_num_threads(1)
