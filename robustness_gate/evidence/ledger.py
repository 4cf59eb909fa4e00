"""Append-only evidence: JSON lines, one writer, each line with the hash of the previous one.

`lines` has the form of a line. Each is on the disk before the attack continues, so `kill -9` loses at most the running
trial. A kill can leave a last line without its newline; that line is removed. Any other mismatch is an error: evidence
is never repaired.

The chain has no secret: anyone who holds the whole file can compute it again. `CHAIN` says what follows from that.

Each checkpoint has one ledger, in a folder named by its digest, independent of a run's output folder: a later run finds
all earlier evidence, and the report counts it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robustness_gate.errors import LedgerError, UnknownWord
from robustness_gate.evidence import lines
from robustness_gate.evidence.lines import FIRST, NEVER_REPAIRED, Entry, Opening
from robustness_gate.records.calibration import Calibration, Spike, WeightsCheck
from robustness_gate.records.evidence import Evidence, Note, Planned, ProducerClaims, SelfTest, TokenizerCheck
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.trial import OWN_ROLES, Closed, Measurement, Trial
from robustness_gate.system.writing import as_write_error, refuse_what_is_no_file, unwritten

OWN = OWN_ROLES
"""Roles of trials that examine the candidate itself."""
CHAIN = (
    "The chain of a ledger shows accidents and partial edits. It does not show that nothing was rewritten: anyone who "
    "holds the whole file can compute the chain again. From this signature on, the head that it names shows that. For "
    "the time before, only evidence in other hands does: a preregistration given away before the run, an earlier copy "
    "or head of the ledger, a third party's timestamp, a log that the signer cannot edit."
)
NAME = "ledger.jsonl"
ROOM = "Every answer before it is kept: make room, or mend the disk, and give the same command again."


@dataclass
class Ledger:
    """The contents of a ledger. `append` works only while it is open for writing."""

    path: Path
    trials: dict[str, Trial] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    closed: list[Closed] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    statements: list[ProducerClaims] = field(default_factory=list)
    plans: list[Planned] = field(default_factory=list)
    self_tests: list[SelfTest] = field(default_factory=list)
    tokenizers: list[TokenizerCheck] = field(default_factory=list)
    spikes: list[Spike] = field(default_factory=list)
    """Only in the file of `calibrate`."""
    calibrations: list[Calibration] = field(default_factory=list)
    weights: list[WeightsCheck] = field(default_factory=list)
    questions: list[QuestionIds] = field(default_factory=list)
    head: str = FIRST
    _attempts: dict[str, int] = field(default_factory=dict)
    """The number of the last attempt at each trial."""
    _ends: dict[str, set[str]] = field(default_factory=dict)
    """With which status the attempts at each trial ended."""
    _file: Any = None
    """Open for appending, without a buffer: a write that fails on a full disk must not be repeated on close."""
    _end: int = 0
    """Length of the file in bytes, as far as this process has read or written it."""

    def append(self, record: Entry) -> None:
        """Write one record and wait until it is on the disk.

        Raises:
            WriteError: nothing of it was written; the ledger is closed, and its earlier lines are intact.
            LedgerError: another process has written to the ledger.
        """
        if self._file is None:
            raise LedgerError("the ledger was opened for reading only", where=str(self.path))
        id_ = record.id if isinstance(record, Trial) else ""  # a digest, made once
        if id_ in self.trials:
            return
        self._put(record)
        self._keep(record, id_)

    def _put(self, record: Entry | Opening) -> None:
        """Write one whole line or nothing: the next line would continue an incomplete one."""
        assert self._file is not None
        line = lines.written(self.head, record)
        end = self._file.seek(0, os.SEEK_END)
        if end != self._end:  # a network disk may grant a lock to two processes
            self._file = None
            raise LedgerError(
                "another process has written to this ledger meanwhile",
                remedy="Its file system keeps no locks: let one run at a time write there, or name another --ledgers.",
                where=str(self.path),
            )
        rest = memoryview(line + b"\n")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            file, self._file = self._file, None
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise unwritten(self.path, error, ROOM) from None
        self.head, self._end = lines.digest(line), end + len(line) + 1

    def attempts(self, trial: str) -> int:
        """How many attempts at a trial are on record."""
        return self._attempts.get(trial, 0)

    def is_settled(self, trial: str) -> bool:
        """Whether the trial has ended well or is not applicable: it is then never run again.

        A failed trial (a killed worker, exhausted memory) runs again as the next attempt when the same command is
        given again. Its measurements from before the failure still count against a PASS.
        """
        return not {"ok", "not_applicable"}.isdisjoint(self._ends.get(trial, ()))

    def has_ended(self, trial: str) -> bool:
        """Whether any attempt at the trial has ended, with any status."""
        return trial in self._ends

    def evidence(self, subject: str, planned: Iterable[Trial]) -> Evidence:
        """Everything recorded about a subject: its planned trials, its other trials, and the trials of comparators.

        Args:
            subject: digest of the candidate's manifest.
            planned: the trials of the current plan, of any role. The plan determines the comparators, because a ledger
                may hold several; their trials from earlier runs count too.
        """
        planned = tuple(planned)
        own = tuple(trial for trial in planned if trial.role in OWN)
        others = [trial for trial in planned if trial.role not in OWN]
        models = {(trial.role, trial.control, trial.subject) for trial in others}
        known = {trial.id for trial in others}
        others += [t for id_, t in self.trials.items() if (t.role, t.control, t.subject) in models and id_ not in known]
        ids = {trial.id for trial in own}
        extra = tuple(
            trial
            for id_, trial in self.trials.items()
            if id_ not in ids and trial.role in OWN and trial.subject == subject
        )
        known = ids | {trial.id for trial in (*extra, *others)}
        asked = {task.sha256 for trial in (*own, *extra, *others) for task in trial.tasks}
        last = next((plan for plan in reversed(self.plans) if plan.subject == subject), None)
        claims = [statement.claims for statement in self.statements if statement.subject == subject]
        return Evidence(
            subject=subject,
            planned=own,
            measurements=tuple(measurement for measurement in self.measurements if measurement.trial in known),
            closed=tuple(record for record in self.closed if record.trial in known),
            extra=extra,
            notes=tuple(note.what for note in self.notes if note.subject == subject),
            comparators=tuple(others),
            producer_claims=_merged_claims(claims),
            model_type=last.model_type if last is not None else "",
            unread=last.unread if last is not None else None,
            stored=last.stored if last is not None else None,
            left_out=last.left_out if last is not None else (),
            self_tests=tuple({each.digest: each for each in self.self_tests}.values()),
            calibrations=tuple({each.digest: each for each in self.calibrations}.values()),
            weights=tuple({each.digest: each for each in self.weights if each.subject == subject}.values()),
            devices=tuple(sorted({plan.device for plan in self.plans if plan.subject == subject})),
            bases={one: base for plan in self.plans if plan.subject == subject for one, base in plan.bases.items()},
            tokenizers=tuple({each.digest: each for each in self.tokenizers if each.subject == subject}.values()),
            questions=tuple({each.digest: each for each in self.questions if each.task in asked}.values()),
        )

    def latest_plan(self, subject: str | None = None) -> Planned:
        """The plan of the last run, on this subject if one is named.

        Raises:
            LedgerError: no run on it is recorded.
        """
        plans = [plan for plan in self.plans if subject is None or plan.subject.startswith(subject)]
        if not plans:
            known = sorted({plan.subject[:12] for plan in self.plans})
            what = f"on checkpoint {subject[:12]}" if subject else "at all"
            raise LedgerError(
                f"holds no run {what}",
                remedy=f"It has runs on: {', '.join(known)}." if known else "It was written by `run`, or not at all.",
                where=str(self.path),
            )
        return plans[-1]

    def planned(self, plan: Planned) -> list[Trial]:
        """The trials of a plan.

        Raises:
            LedgerError: a trial is not in the ledger, so its absence from the evidence would go unnoticed.
        """
        lost = [id_ for id_ in plan.trials if id_ not in self.trials]
        if lost:
            raise LedgerError(
                f"lacks {len(lost)} of the {len(plan.trials)} trials that were planned, {lost[0][:12]} among them",
                remedy=NEVER_REPAIRED,
                where=str(self.path),
            )
        return [self.trials[id_] for id_ in plan.trials]

    def _keep(self, record: Entry | Opening, id_: str = "") -> None:
        """Store a record that was just read or written; `id_` is a trial's digest, if it is known."""
        match record:
            case Trial():
                self.trials[id_ or record.id] = record
            case Measurement():
                self.measurements.append(record)
                self._begun(record)
            case Closed():
                self.closed.append(record)
                self._begun(record)
                self._ends.setdefault(record.trial, set()).add(record.status)
            case Note():
                self.notes.append(record)
            case ProducerClaims():
                self.statements.append(record)
            case SelfTest():
                self.self_tests.append(record)
            case TokenizerCheck():
                self.tokenizers.append(record)
            case Spike():
                self.spikes.append(record)
            case Calibration():
                self.calibrations.append(record)
            case WeightsCheck():
                self.weights.append(record)
            case QuestionIds():
                self.questions.append(record)
            case Planned():
                self.plans.append(record)
            case Opening():
                pass
            case _:
                raise UnknownWord("ledger record", type(record).__name__)

    def _begun(self, record: Measurement | Closed) -> None:
        self._attempts[record.trial] = max(self._attempts.get(record.trial, 0), record.attempt)


def _merged_claims(claims: Iterable[dict[str, str]]) -> dict[str, str]:
    """The latest text by name, followed by the earlier ones: a new claim does not delete an older one."""
    found: dict[str, list[str]] = {}
    for each in claims:
        for name, text in each.items():
            texts = found.setdefault(name, [])
            texts[:] = [text, *(earlier for earlier in texts if earlier != text)]
    return {
        name: texts[0] + "".join(f" (before: {each})" for each in texts[1:] if texts[0].strip() and each.strip())
        for name, texts in found.items()
    }


def read(path: Path) -> Ledger:
    """Read a ledger and check its chain. Raises LedgerError if a line does not follow from the previous one."""
    try:
        refuse_what_is_no_file(path)
        raw = path.read_bytes()
    except OSError as error:
        raise LedgerError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
    return replayed(raw, path)


def calibrations_in(path: Path) -> tuple[Calibration, ...]:
    """The calibrations in a file of `calibrate`.

    Raises:
        LedgerError: it cannot be read, was edited, or holds none because it was not run to its end.
    """
    found = read(path).calibrations
    if not found:
        raise LedgerError(
            "holds no calibration that was run to its end",
            remedy="Give the `calibrate` command again: it continues there.",
            where=str(path),
        )
    return tuple(found)


def replayed(raw: bytes, path: Path) -> Ledger:
    """A ledger from its lines; `path` is used in messages only. Raises LedgerError as `read` does."""
    ledger = Ledger(path)
    _replay(ledger, raw)
    return ledger


def home(ledgers: Path, subject: str) -> Path:
    """The folder of a checkpoint's ledger, by the digest of its manifest."""
    return ledgers / subject


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Ledger]:
    """Open a ledger for appending, exclusively; create it if needed.

    Raises:
        LedgerError: another process writes to it, its file system has no locks, or its chain is broken.
        WriteError: it cannot be opened or written, or is not a regular file.
    """
    with as_write_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        refuse_what_is_no_file(path)
        opened = path.open("a+b", buffering=0)
    with opened as file:
        _lock(file, path)
        file.seek(0)
        try:
            raw = file.read()
        except OSError as error:
            raise LedgerError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
        ledger = Ledger(path, _file=file)
        whole = _replay(ledger, raw)
        if whole < len(raw):
            with as_write_error(path):
                file.truncate(whole)
        ledger._end = whole
        if ledger.head == FIRST:
            ledger._put(Opening())
        try:
            yield ledger
        finally:
            ledger._file = None


def _lock(file: Any, path: Path) -> None:
    """Lock the file exclusively; the kernel releases the lock when the process ends, however it ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            message, remedy = "another run is writing to this ledger", "Wait for it to end."
        else:
            message = f"its file system has no locks, so two runs could write at once: {error.strerror or error}"
            remedy = "Keep ledgers on another disk: --ledgers."
        raise LedgerError(message, remedy=remedy, where=str(path)) from None


def _replay(ledger: Ledger, raw: bytes) -> int:
    """Read every whole line; returns their total length in bytes."""
    whole = raw.rfind(b"\n") + 1
    for number, line in enumerate(raw[:whole].splitlines(), start=1):
        where = f"{ledger.path}:{number}"
        record = lines.read(line, ledger.head, where)
        if isinstance(record, Measurement):
            lines.refuse_other_answers(record, ledger.trials, where)
        ledger._keep(record)
        ledger.head = lines.digest(line)
    return whole
