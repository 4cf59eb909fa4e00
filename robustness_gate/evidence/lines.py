"""One line of a ledger: the canonical JSON of `{"prev": ..., "record": ...}`, written, and read and validated.

`prev` is the SHA-256 of the line before, so that no line can be taken out or changed alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from robustness_gate.errors import LedgerError
from robustness_gate.evidence.answers import in_metrics
from robustness_gate.records.base import Record
from robustness_gate.records.calibration import Calibration, Spike, WeightsCheck
from robustness_gate.records.encode import NotPlain, decode, encode, parse
from robustness_gate.records.evidence import Note, Planned, ProducerClaims, SelfTest, TokenizerCheck
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.trial import Closed, Measurement, Trial

SCHEMA: Literal["robustness-gate/ledger/v1"] = "robustness-gate/ledger/v1"
K = TypeVar("K", bound=Record)
FIRST = "0" * 64
NEVER_REPAIRED = "Evidence is never repaired: keep it, and start again with another --ledgers."
CANNOT_READ = "holds a record that this version cannot read"

Entry = (
    Trial | Measurement | Closed | Note | ProducerClaims | Planned | SelfTest | TokenizerCheck
    | Spike | Calibration | WeightsCheck | QuestionIds
)  # fmt: skip
"""A record that can be appended."""


class Opening(Record):
    """The first line."""

    kind: Literal["ledger"] = "ledger"
    schema_: Literal["robustness-gate/ledger/v1"] = Field(alias="schema", default=SCHEMA)


class TrialEntry(Record):
    """A trial, which has no `kind` field: its digest is its id, and covers only the trial itself."""

    kind: Literal["trial"] = "trial"
    trial: Trial


class Line(Record, Generic[K]):
    """One line. Its record is validated here, and nowhere else."""

    prev: str
    record: K


LINES: Mapping[str, type[Line[Any]]] = MappingProxyType(
    {
        "ledger": Line[Opening],
        "trial": Line[TrialEntry],
        "measurement": Line[Measurement],
        "closed": Line[Closed],
        "note": Line[Note],
        "producer_claims": Line[ProducerClaims],
        "planned": Line[Planned],
        "self_test": Line[SelfTest],
        "tokenizer_check": Line[TokenizerCheck],
        "spike": Line[Spike],
        "calibration": Line[Calibration],
        "weights_check": Line[WeightsCheck],
        "questions": Line[QuestionIds],
    }
)
"""The class of a line, by the kind of its record."""


def written(prev: str, record: Entry | Opening) -> bytes:
    """The line of a record, without its newline; `prev` is the digest of the line before."""
    held = TrialEntry(trial=record) if isinstance(record, Trial) else record
    return encode({"prev": prev, "record": held.plain})


def digest(line: bytes) -> str:
    """The SHA-256 of a line, which the next one names."""
    return hashlib.sha256(line).hexdigest()


def read(line: bytes, prev: str, where: str) -> Entry | Opening:
    """The record of a line.

    Args:
        line: without its newline.
        prev: the digest of the line before.
        where: the place of the line, for errors.

    Raises:
        LedgerError: it is no line, does not follow from the one before, or holds what this version does not know.
    """
    try:
        entry = parse(line)
        named, record = entry["prev"], entry["record"]
    except (NotPlain, TypeError, KeyError):
        raise LedgerError("is not a ledger line", remedy=NEVER_REPAIRED, where=where) from None
    if named != prev:
        raise LedgerError(
            "does not follow from the line before: the ledger was edited", remedy=NEVER_REPAIRED, where=where
        )
    if not isinstance(record, dict):
        raise LedgerError(CANNOT_READ, where=where)
    kind = f"{record.get('kind')}"
    if kind not in LINES or (kind == "ledger" and record.get("schema") != SCHEMA):
        raise LedgerError(f"unknown record '{kind[:60]}'", remedy="Use the version that wrote it.", where=where)
    try:
        held = decode(LINES[kind], line).record
    except ValueError:
        raise LedgerError(CANNOT_READ, where=where) from None
    found: Entry | Opening = held.trial if isinstance(held, TrialEntry) else held
    return found


def refuse_other_answers(measurement: Measurement, trials: Mapping[str, Trial], where: str) -> None:
    """Refuse answers to a task of a trial that are not to all its items, one bit each in the metrics of its kind."""
    trial = trials.get(measurement.trial)
    task = next((each for each in trial.tasks if each.name == measurement.task), None) if trial is not None else None
    if task is not None and measurement.items != task.items:
        raise LedgerError(
            f"it has answers to {measurement.items} items of '{task.name}', of which its trial has {task.items}",
            remedy=NEVER_REPAIRED,
            where=where,
        )
    if task is not None and not in_metrics(measurement, task.judged.metrics):
        raise LedgerError(
            f"its answers to '{task.name}' are not one bit per item in each metric of the kind '{task.kind}' "
            f"({', '.join(task.judged.metrics)})",
            remedy=NEVER_REPAIRED,
            where=where,
        )
