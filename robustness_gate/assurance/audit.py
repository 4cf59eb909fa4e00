"""Run a random sample of a report's trials again: a check that no signature can replace.

A signature shows who signed a report, not that a machine computed it. So an auditor who has the checkpoint and the
suite's data draws a random sample of trials, runs them, and compares each answer with the signed one. The result is a
statement that names the report and is signed with the auditor's own key.

The evaluator must not be able to foresee the sample: its seed comes from the operating system's random source unless
one is given, and the seed is recorded. Training differs between machines, so answers are not expected to be
bit-identical: an accuracy must lie in the exact interval of the signed one, at 95 % for all comparisons together
(Bonferroni). These intervals describe sampling of questions, which are the same here, so they are wide for this
purpose: an audit detects a report that is far off, and an audit of k trials says nothing about the others.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import Field

from robustness_gate.attestation.dsse import open_bundle, sign
from robustness_gate.attestation.keys import PrivateKey, PublicKey
from robustness_gate.attestation.predicate import MANIFEST, written
from robustness_gate.attestation.statement import Statement, read_statement, statement
from robustness_gate.errors import PlanError, UsageError
from robustness_gate.evidence.answers import changes
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning.prepare import USUAL
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.base import Digest, Record
from robustness_gate.records.suite import Suite
from robustness_gate.records.trial import Closed, Measurement, Role, Trial
from robustness_gate.report.record import Report, TrialRecord
from robustness_gate.running import checked, executors
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.system.bounded import Limits
from robustness_gate.verdict import tally
from robustness_gate.verdict.hypotheses import judged_in

PREDICATE_TYPE = "urn:robustness-gate:audit:v1"
ALPHA = 0.05


class Compared(Record):
    """One measurement of one trial: the signed result and the repeated one."""

    trial: Digest
    label: str
    budget: int
    task: str
    items: int
    signed: int
    """Right answers, in the metric that decides."""
    again: int
    changed: int
    """Questions whose answer differs in any metric."""
    lower: float
    upper: float
    """The interval in which the repeated accuracy should lie."""
    agrees: bool


DRAWN = (Role.CANDIDATE, Role.THROUGH_ORIGINAL, Role.IN_DECLARED_DTYPE)
"""Roles of the trials from which a sample is drawn."""


class Audit(Record):
    """The counter-statement: the predicate `urn:robustness-gate:audit:v1`."""

    at: str
    """The time that the auditor states. RFC 3339, UTC."""
    statement: Digest
    """The signed statement that was audited."""
    report: Digest
    """The digest of the report in it, as in its report.json."""
    sample_seed: int
    """Seed of the sample; the same seed draws the same sample."""
    drawn: int = Field(ge=1)
    of: int = Field(ge=1)
    found: tuple[Compared, ...]
    failed: tuple[str, ...]
    """Trials that did not end well when they were repeated, one sentence each."""
    agrees: bool


Watch = Callable[[str], None]


def draw(made: Report, count: int, sample_seed: int) -> list[TrialRecord]:
    """A random sample of the candidate's trials that ended well, `none` included.

    Raises:
        UsageError: there are fewer than `count`.
    """
    pool = [
        record
        for record in made.trials
        if record.trial.role in DRAWN and any(end.status == "ok" for end in record.closed)
    ]
    if count > len(pool):
        raise UsageError(f"{count} trials cannot be drawn: {len(pool)} ended well.", remedy="Give a smaller --sample.")
    return random.Random(sample_seed).sample(sorted(pool, key=lambda record: record.id), count)


def run(
    made: Report,
    statement_sha256: str,
    sample: Sequence[TrialRecord],
    sample_seed: int,
    suite: Loaded[Suite],
    suite_data: SuiteData,
    places: Mapping[str, CheckpointRef],
    at: datetime,
    *,
    device: str = "auto",
    workers: int = 1,
    executor: str = USUAL,
    limits: Limits | None = None,
    watch: Watch = lambda _: None,
) -> Audit:
    """Run a sample of trials again and compare.

    Args:
        made: the report, verified.
        statement_sha256: its name.
        sample: from `draw`, with this seed.
        sample_seed: the seed given to `draw`.
        suite: the suite that the report was made with; its data must be available here.
        suite_data: of that suite.
        places: checkpoints by the digest of their manifest: the candidate, and the original where a trial looks at it.
        at: now, with a time zone.
        device: auto, cpu, cuda ...
        workers: trials side by side.
        executor: who runs them, by name.
        limits: time limits; None: the defaults of a run.
        watch: called with a line for each trial that ends.

    Raises:
        PlanError: the data here differ from those of the report, or a checkpoint is missing.
    """
    trials = [record.trial for record in sample]
    for trial in trials:
        _refuse_other_data(trial, suite, suite_data)
        _refuse_missing_original(trial, places)
    with TemporaryDirectory() as rows:
        job = executors.Job(
            suite_data=suite_data, places=places, device=device, rows_in=Path(rows), limits=limits or Limits()
        )
        records = _run_again(trials, job, workers, executor, watch)
    cells = sum(len(_last(record)) for record in sample)
    found = [each for record in sample for each in _all_compared(record, records[record.id], cells)]
    ends = [(record, end) for record in sample for end in records[record.id] if isinstance(end, Closed)]
    failed = [f"{record.label}: {end.status}: {end.reason}" for record, end in ends if end.status != "ok"]
    return Audit(
        at=written(at),
        statement=statement_sha256,
        report=made.digest,
        sample_seed=sample_seed,
        drawn=len(sample),
        of=sum(record.trial.role in DRAWN for record in made.trials),
        found=tuple(found),
        failed=tuple(failed),
        agrees=not failed and len(found) == cells and all(each.agrees for each in found),
    )


def _all_compared(record: TrialRecord, again: Sequence[Measurement | Closed], cells: int) -> Iterator[Compared]:
    """What was signed of a trial beside the same numbers of the new attempt, where it has them."""
    others = {(m.budget, m.task): m for m in again if isinstance(m, Measurement)}
    for measurement in _last(record):
        if (other := others.get((measurement.budget, measurement.task))) is not None:
            yield _compared(record, measurement, other, cells)


def _run_again(
    trials: Sequence[Trial], job: executors.Job, workers: int, executor: str, watch: Watch
) -> dict[str, list[Measurement | Closed]]:
    """The records of each trial, by its id, from a first attempt of each."""
    records: dict[str, list[Measurement | Closed]] = {trial.id: [] for trial in trials}
    with (
        checked.start(executor, job, workers) as crew,
        contextlib.closing(crew.execute([(trial, 1) for trial in trials])) as events,
    ):
        for event in events:
            if event.record is not None:
                records[event.trial.id].append(event.record)
            if isinstance(event.record, Closed):
                watch(f"{event.trial.attack}, seed {event.trial.seed_index}: {event.record.status}")
    return records


def signed(audit: Audit, checkpoint: str, key: PrivateKey) -> bytes:
    """The counter-statement in a bundle, about the same checkpoint."""
    return sign(statement({MANIFEST: checkpoint}, PREDICATE_TYPE, audit), key)


def read(raw: bytes, keys: Sequence[PublicKey]) -> Audit:
    """An audit that one of `keys` has signed. Raises Unverified."""
    return read_statement(open_bundle(raw, keys).payload, PREDICATE_TYPE, Statement[Audit]).predicate


def _last(record: TrialRecord) -> list[Measurement]:
    """The measurements of the attempt that ended well."""
    attempt = max(end.attempt for end in record.closed if end.status == "ok")
    return [measurement for measurement in record.measurements if measurement.attempt == attempt]


def _compared(record: TrialRecord, measurement: Measurement, again: Measurement, cells: int) -> Compared:
    metric = judged_in(measurement.task, record.trial).deciding
    was, now = tally(measurement, metric)[0], tally(again, metric)[0]
    tail = ALPHA / 2 / cells
    lower, upper = (
        clopper_pearson_lower(was, measurement.items, tail),
        clopper_pearson_upper(was, measurement.items, tail),
    )
    return Compared(
        trial=record.id,
        label=record.label,
        budget=measurement.budget,
        task=measurement.task,
        items=measurement.items,
        signed=was,
        again=now,
        changed=changes(measurement, again),
        lower=lower,
        upper=upper,
        agrees=again.items == measurement.items and lower <= now / measurement.items <= upper,
    )


def _refuse_missing_original(trial: Trial, places: Mapping[str, CheckpointRef]) -> None:
    if trial.reference is not None and trial.reference not in places:
        raise PlanError(f"{trial.attack} looked at the original, {trial.reference}.", remedy="Name it with --original.")


def _refuse_other_data(trial: Trial, suite: Loaded[Suite], suite_data: SuiteData) -> None:
    if trial.tasks != suite_data.task_refs(trial.attack) or trial.data != suite_data.data_digests:
        raise PlanError(
            "the questions or data that this suite leads to are not those of the report.",
            remedy="Ask for the suite and the data that were used.",
            where=str(suite.path),
        )
