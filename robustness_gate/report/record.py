"""The Report: verdict, evidence and their basis, in one record that can be read, recomputed and published.

It is a function of (policy, evidence, at) and of the installed versions: no random id, no duration, no path. Every
number in it can be computed again from the bits in `trials`, so the printed bounds need no trust. `build` makes it,
`reading` reads it, `table` and `limitations` are what outputs print of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeVar

from pydantic import Field

from robustness_gate.evidence.ledger import OWN
from robustness_gate.inputs.checkpoint.manifest import Manifest
from robustness_gate.records.base import Digest, Record
from robustness_gate.records.calibration import Calibration, WeightsCheck
from robustness_gate.records.evidence import Evidence, EvidenceIssue, LeftOut, SelfTest, Stored, TokenizerCheck, Unread
from robustness_gate.records.policy import Policy
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.trial import Closed, Measurement, ModelRef, Role, Trial, by_trial
from robustness_gate.records.verdict import Verdict
from robustness_gate.verdict import Decision, label
from robustness_gate.verdict.wording import model_name

R = TypeVar("R", bound=Record)

SCHEMA = "robustness-gate/report/v1"


class Named(Record):
    """A policy or suite: its text and the digest of its file."""

    id: str
    version: str
    sha256: Digest
    """Digest of the file's bytes."""
    text: str


class Beside(ModelRef):
    """A checkpoint that was examined for comparison."""

    sha256: Digest


class Origin(ModelRef):
    """The source of a checkpoint, as the run recorded it; never its identity, which is the digest."""

    base: bool = False
    """Whether this is the source of the checkpoint's base, for an adapter."""
    source: str
    """`hf://owner/name@commit` or `organism:NAME`."""

    @property
    def name(self) -> str:
        """The checkpoint's name: `candidate`, `control clean's base`."""
        return f"{model_name(self)}'s base" if self.base else model_name(self)


class PreregisteredBefore(Record):
    """A signed statement from before the run, which fixed policy, suite, questions and attacks."""

    sha256: Digest
    """Digest of the signed statement."""
    key: Digest
    """Digest of the signer's public key."""
    at: str
    """The time, as the signer claims it: RFC 3339, UTC."""


class TrialRecord(Record):
    """One trial with all its records."""

    id: Digest
    label: str
    trial: Trial
    planned: bool
    """False for a trial from an earlier run that is not part of this plan."""
    measurements: tuple[Measurement, ...]
    closed: tuple[Closed, ...]


class Report(Record):
    """The result of a run. `reports/schema/report.v1.schema.json` is this class as JSON Schema."""

    schema_: Literal["robustness-gate/report/v1"] = Field(alias="schema", default="robustness-gate/report/v1")
    verdict: Verdict
    decision: Decision
    """The decision under the policy's waivers, which never change the verdict."""
    checkpoint: Digest
    """SHA-256 of the manifest below in canonical JSON: the identity of the examined checkpoint."""
    manifest: Manifest
    policy: Named
    extended: Named | None = None
    """The policy that this one extends, with its text."""
    resolved: Policy
    """The policy as it was read, merged with its parent, with all defaults."""
    suite: Named
    reason: str
    """Why the verdict is what it is, in one sentence that names the strongest attack."""
    meaning: str
    """The fixed sentence on what this outcome means and does not mean."""
    limitations: tuple[str, ...]
    """What weakens the outcome, printed on page one."""
    left_out: tuple[LeftOut, ...]
    """Trials of the plan that the command excluded; each blocks a PASS."""
    comparators: tuple[Beside, ...]
    provenance: tuple[Origin, ...] = ()
    """The sources of checkpoints; a local directory has none."""
    producer_claims: dict[str, str] = Field(default_factory=dict)
    """The producer's claims about the checkpoint: recorded, not checked."""
    notes: tuple[EvidenceIssue, ...] = ()
    """Notes on the evidence as a whole, each a reason against a PASS."""
    preregistration: PreregisteredBefore | None = None
    """The preregistration of the run, with a signature that was checked at its start."""
    model_type: str = ""
    """The candidate's architecture, from its config.json."""
    unread: Unread | None = None
    """Files of the candidate's repository that were not examined; None in older reports, which do not record it."""
    stored: Stored | None = None
    """The precision in which the candidate is stored; None if this is not recorded."""
    self_tests: tuple[SelfTest, ...] = ()
    """Results of the attacks on models of known truth."""
    calibrations: tuple[Calibration, ...] = ()
    """Results of the attacks on the candidate's own original, with knowledge that was taught and suppressed."""
    weights: tuple[WeightsCheck, ...] = ()
    """Comparisons of the candidate's weights with the original's."""
    devices: tuple[str, ...] = ()
    """The kinds of device of every run on the candidate."""
    bases: dict[Digest, Digest] = Field(default_factory=dict)
    """Of each adapter among the models, the digest of its base, by its own."""
    tokenizers: tuple[TokenizerCheck, ...] = ()
    """Comparisons of the candidate's tokenizer with the original's, sorted by digest."""
    questions: tuple[QuestionIds, ...] = ()
    """Ids and clusters of the questions, sorted by the digest of their task."""
    trials: tuple[TrialRecord, ...]
    environment: dict[str, str]


def evidence_in(report: Report) -> Evidence:
    """The evidence in a report: what `judge` needs to compute the verdict again."""
    own = [record for record in report.trials if record.trial.role in OWN]
    return Evidence(
        subject=report.checkpoint,
        planned=tuple(record.trial for record in own if record.planned),
        measurements=tuple(measurement for record in report.trials for measurement in record.measurements),
        closed=tuple(end for record in report.trials for end in record.closed),
        extra=tuple(record.trial for record in own if not record.planned),
        notes=report.notes,
        comparators=tuple(record.trial for record in report.trials if record.trial.role not in OWN),
        producer_claims=report.producer_claims,
        model_type=report.model_type,
        unread=report.unread,
        stored=report.stored,
        self_tests=report.self_tests,
        calibrations=report.calibrations,
        weights=report.weights,
        devices=report.devices,
        bases=report.bases,
        tokenizers=report.tokenizers,
        questions=report.questions,
        left_out=report.left_out,
    )


def as_control(earlier: Report, name: str) -> list[Trial | Measurement | Closed]:
    """The candidate's records in an earlier report, as records of a control: the same answers with another role."""
    found: list[Trial | Measurement | Closed] = []
    for record in earlier.trials:
        if record.trial.role != Role.CANDIDATE or not record.planned:
            continue
        trial = record.trial.model_copy(update={"role": Role.CONTROL, "control": name})
        found.append(trial)
        found += [measurement.model_copy(update={"trial": trial.id}) for measurement in record.measurements]
        found += [end.model_copy(update={"trial": trial.id}) for end in record.closed]
    return found


def records_of(
    trials: Iterable[tuple[Trial, bool]], measurements: Iterable[Measurement], closed: Iterable[Closed]
) -> list[TrialRecord]:
    """Each trial with its records in a fixed order. With a trial comes whether it is part of the plan."""
    measured, ended = by_trial(measurements), by_trial(closed)
    found = []
    for trial, planned in trials:
        id_ = trial.id  # a digest, computed once
        found.append(
            TrialRecord(
                id=id_,
                label=name_of(trial),
                trial=trial,
                planned=planned,
                measurements=_sorted(measured.get(id_, ()), key=lambda each: (each.attempt, each.budget, each.task)),
                closed=_sorted(ended.get(id_, ()), key=lambda each: each.attempt),
            )
        )
    return found


def _sorted(records: Sequence[R], key: Callable[[R], Any]) -> tuple[R, ...]:
    """Records in the order of a key, and by their digests where it is the same, which takes time and is rare."""
    if len({key(each) for each in records}) == len(records):
        return tuple(sorted(records, key=key))
    return tuple(sorted(records, key=lambda each: (key(each), each.digest)))


def name_of(trial: Trial) -> str:
    """The attack's label; for a sham `sham of ATTACK`."""
    return f"sham of {trial.attack}" if trial.role == Role.SHAM else label(trial)


def json_schema() -> dict[str, Any]:
    """The report as JSON Schema (2020-12)."""
    schema = Report.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:robustness-gate:report:v1",
        **schema,
    }
