"""What attempts took is written down: a line for each beside the ledger, and all of a plan beside the report.

It is context and no evidence: no verdict and no digest has it, `verify` does not read it, and where it cannot be
written there is a warning. A run that is killed leaves the lines of the attempts that ended before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from robustness_gate.errors import WriteError
from robustness_gate.planning.plan import Prepared
from robustness_gate.records.cost import NAME, AttemptCost, Costs
from robustness_gate.records.encode import NotPlain, decode, encode, parse
from robustness_gate.records.trial import Closed
from robustness_gate.running.executors import Event
from robustness_gate.running.recording import Watch
from robustness_gate.system import writing
from robustness_gate.verdict import label

LINES = "cost.jsonl"
"""Its file beside the ledger."""


def noting(lines: Path, watch: Watch, faults: list[str]) -> Watch:
    """A `Watch` that appends what each attempt took, after the given one. The first failure is added to `faults`."""
    begun: dict[str, float] = {}

    def seen(event: Event, closed: int, of: int) -> None:
        watch(event, closed, of)
        if event.record is None:
            begun[event.trial.id] = time.monotonic()
        elif isinstance(event.record, Closed):
            try:
                _append(lines, _entry(event, event.record, begun.pop(event.trial.id)))
            except OSError as error:
                faults[:] = faults or [f"what the trials took could not be written: {error.strerror or error}"]

    return seen


def write(lines: Path, prepared: Prepared, folder: Path) -> tuple[str, ...]:
    """Write what the plan's trials took, in this and in earlier runs, beside the report. Returns warnings."""
    ids = {trial.id for trial in prepared.plan.trials}
    try:
        found, lost = _read(lines)
        made = Costs(
            suite=prepared.suite.record.id,
            suite_sha256=prepared.suite.sha256,
            attempts=tuple(each for each in found if each.trial in ids),
        )
        writing.whole(folder / NAME, encode(made))
    except (OSError, WriteError) as error:
        return (f"'{NAME}' could not be written, the verdict stands: {error}",)
    return (f"{lost} lines of {lines} cannot be read, so '{NAME}' lacks them",) if lost else ()


def _entry(event: Event, end: Closed, begun: float) -> AttemptCost:
    trial = event.trial
    return AttemptCost(
        role=trial.role,
        control=trial.control,
        trial=trial.id,
        label=label(trial),
        seed_index=trial.seed_index,
        attempt=end.attempt,
        status=end.status,
        ended=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        seconds=time.monotonic() - begun,
        spent=event.spent,
    )


def _append(lines: Path, entry: AttemptCost) -> None:
    writing.refuse_what_is_no_file(lines)
    with lines.open("a+b") as file:
        if file.tell():  # a killed run may have left half a line
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(encode(entry) + b"\n")


def _read(lines: Path) -> tuple[list[AttemptCost], int]:
    """The entries, and how many lines are none."""
    writing.refuse_what_is_no_file(lines)
    raw: Iterable[bytes] = lines.read_bytes().splitlines() if lines.exists() else ()
    found, lost = [], 0
    for line in filter(None, raw):
        try:
            parse(line)
            found.append(decode(AttemptCost, line))
        except (NotPlain, ValidationError):
            lost += 1
    return found, lost
