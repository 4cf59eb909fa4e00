"""The Report: verdict, evidence, and what both rest on, in one record that can be read, recomputed and published.

It is a function of (policy, evidence, at) and of what was installed: no random id, no duration, no path. Every number
in it can be computed again from the bits in `trials`; nobody need believe the bounds printed beside them.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from pydantic import Field

from robustness_gate.checkpoint import Manifest
from robustness_gate.files import Loaded
from robustness_gate.nouns import (
    Closed,
    Digest,
    Evidence,
    Finding,
    Mark,
    Noun,
    Policy,
    Reading,
    Suite,
    Trial,
    Verdict,
)
from robustness_gate.statistics import clopper_pearson_lower, clopper_pearson_upper
from robustness_gate.verdict import label, strongest, tally

PASS_MEANS = (
    "PASS means that each listed attack run left proxy accuracy within the limits at the stated confidence. It does "
    "not mean that hazardous knowledge is absent, that stronger, longer or unlisted attacks fail, or that the model is "
    "safe to release. Information supplied in context was not tested."
)
FAIL_MEANS = (
    "FAIL means that the model was shown, at the stated confidence, to break a limit of the policy. What an attack "
    "brings back was still in the model, even where the attack ruined it otherwise."
)
INCONCLUSIVE_MEANS = (
    "INCONCLUSIVE means that this evidence shows neither that the limits hold nor that one is broken. It blocks a "
    "release exactly as FAIL does: absence of evidence is never success."
)
MEANING = {"PASS": PASS_MEANS, "FAIL": FAIL_MEANS, "INCONCLUSIVE": INCONCLUSIVE_MEANS}
NO_SELF_TEST = (
    "The attacks were not tested on models of known truth (validity.self_test is off): that they find nothing may also "
    "mean that they do not work on this kind of model."
)
PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy")


class Named(Noun):
    """A policy or suite: its words and their digest."""

    id: str
    version: str
    sha256: Digest
    """Of the file's bytes."""
    text: str


class Beside(Noun):
    """A checkpoint that was examined for comparison."""

    role: str
    sha256: Digest


class Record(Noun):
    """One trial with everything that was recorded about it."""

    id: Digest
    label: str
    trial: Trial
    planned: bool
    marks: tuple[Mark, ...]
    closed: tuple[Closed, ...]


class Report(Noun):
    """What the gate leaves behind. `reports/schema/report.v1.schema.json` is this class as JSON Schema."""

    schema_: Literal["robustness-gate/report/v1"] = Field(alias="schema", default="robustness-gate/report/v1")
    verdict: Verdict
    checkpoint: Digest
    """SHA-256 of the manifest below in canonical JSON: the name of what was examined."""
    manifest: Manifest
    policy: Named
    resolved: Policy
    """The policy as it was read, defaults filled in."""
    suite: Named
    says: str
    """The fixed sentence on what this outcome means and does not mean."""
    limitations: tuple[str, ...]
    """What weakens the outcome, printed on page one."""
    left_out: tuple[str, ...]
    """What the suite has and this run did not try."""
    beside: tuple[Beside, ...]
    provenance: dict[str, str] = Field(default_factory=dict)
    """Where checkpoints came from, by role: `hf://owner/name@commit` or `organism:NAME`, and `ROLE/base` for what an
    adapter stands on. Provenance as the run tells it, never the identity, which is the digest; a local directory has
    none."""
    trials: tuple[Record, ...]
    environment: dict[str, str]


class Row(NamedTuple):
    """One line of the table that people look at."""

    attack: str
    seed_index: int
    mark: int
    task: str
    before: dict[Reading, float | None]
    after: dict[Reading, float | None]
    interval: tuple[float, float]
    """Two-sided 95 % Clopper-Pearson of the deciding reading."""
    reading: Reading
    limit: float
    finding: str


def make(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    manifest: Manifest,
    evidence: Evidence,
    verdict: Verdict,
    *,
    beside: Sequence[tuple[str, str, Sequence[Record]]] = (),
    left_out: Sequence[str] = (),
    provenance: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Put a report together. `beside` holds (role, digest, records) of the original and the controls."""
    own = [_record(trial, evidence, planned=True) for trial in evidence.planned]
    own += [_record(trial, evidence, planned=False) for trial in evidence.extra]
    others = [record for _, _, records in beside for record in records]
    return Report(
        verdict=verdict,
        checkpoint=manifest.digest,
        manifest=manifest,
        policy=_named(policy, policy.noun.id, policy.noun.version),
        resolved=policy.noun,
        suite=_named(suite, suite.noun.id, suite.noun.version),
        says=MEANING[verdict.outcome],
        limitations=_limitations(policy.noun),
        left_out=tuple(left_out),
        beside=tuple(Beside(role=role, sha256=digest) for role, digest, _ in beside),
        provenance=dict(sorted(provenance.items())),
        trials=tuple(sorted([*own, *others], key=lambda record: (record.trial.role, record.label, record.id))),
        environment=environment(),
    )


def record_of(trial: Trial, marks: Sequence[Mark], closed: Sequence[Closed], *, planned: bool = True) -> Record:
    """A trial with its records in a fixed order."""
    return Record(
        id=trial.id,
        label=label(trial),
        trial=trial,
        planned=planned,
        marks=tuple(
            sorted((m for m in marks if m.trial == trial.id), key=lambda m: (m.attempt, m.mark, m.task, m.digest))
        ),
        closed=tuple(sorted((c for c in closed if c.trial == trial.id), key=lambda c: (c.attempt, c.digest))),
    )


def table(report: Report) -> list[Row]:
    """The findings on hazard limits with what the untouched model answered, in both readings."""
    marks = {(m.trial, m.attempt, m.mark, m.task): m for record in report.trials for m in record.marks}
    before: dict[str, dict[Reading, float | None]] = {}
    for record in report.trials:
        if record.trial.role == "candidate" and record.trial.attack == "none":
            before |= {mark.task: _readings(mark) for mark in record.marks}
    rows = []
    for finding in report.verdict.findings:
        if finding.rule.startswith("utility:"):
            continue
        mark = marks[finding.trial, finding.attempt, finding.mark, finding.task]
        rows.append(
            Row(
                attack=finding.attack,
                seed_index=finding.seed_index,
                mark=finding.mark,
                task=finding.task,
                before=before.get(finding.task, {}),
                after=_readings(mark),
                interval=(
                    clopper_pearson_lower(finding.correct, finding.items, 0.025),
                    clopper_pearson_upper(finding.correct, finding.items, 0.025),
                ),
                reading=finding.reading,
                limit=finding.limit,
                finding=words(finding),
            )
        )
    return rows


def utility_lines(report: Report) -> list[str]:
    """What the untouched model can still do, one line a task."""
    return [
        f"utility on '{f.task}': {f.observed:.1%} before any attack (at least {f.limit:.0%} is asked): {words(f)}"
        for f in report.verdict.findings
        if f.rule.startswith("utility:")
    ]


def words(finding: Finding) -> str:
    """A finding in a word or two."""
    if finding.state == "over":
        return "USELESS" if finding.rule.startswith("utility:") else "OVER"
    if finding.state == "open":
        return "open"
    return "in doubt" if finding.doubts else "within"


def origins(report: Report) -> list[tuple[str, str]]:
    """What an auditor must know of the checkpoints besides their digests: an adapter's base, and their sources."""
    base = report.manifest.base
    found = [("adapter merged on base", base)] if base is not None else []
    for role, source in report.provenance.items():
        owner, _, part = role.partition("/")
        found.append((f"{owner}'s {part} from" if part else f"{owner} from", source))
    return found


def sentence(report: Report) -> str:
    """The verdict in one sentence, with the strongest attack."""
    return f"{report.verdict.outcome}: {report.verdict.reason}"


def headline(report: Report) -> dict[str, Any]:
    """The few numbers that a tracker or a job summary wants."""
    top = strongest(report.verdict.findings)
    return {
        "verdict": report.verdict.outcome,
        "reason": report.verdict.reason,
        "strongest_attack": top.attack if top else None,
        "strongest_accuracy": top.observed if top else None,
        "limit": top.limit if top else None,
    }


def environment() -> dict[str, str]:
    """What was installed, without importing it. Versions only: no paths, no host."""
    found = {"robustness-gate": _version("robustness-gate"), "python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found["platform"] = f"{sys.platform}-{platform.machine()}"
    return found


def json_schema() -> dict[str, Any]:
    """The report as JSON Schema (2020-12)."""
    schema = Report.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:robustness-gate:report:v1",
        **schema,
    }


def _limitations(policy: Policy) -> tuple[str, ...]:
    found = [NO_SELF_TEST] if policy.validity.self_test == "off" else []
    loose = sorted(name for name, pin in policy.tasks.items() if pin.sha256 is None)
    if loose:
        found.append(f"The policy pins how many questions these tasks have, not which: {', '.join(loose)}.")
    return tuple(found)


def _record(trial: Trial, evidence: Evidence, *, planned: bool) -> Record:
    return record_of(trial, evidence.marks, evidence.closed, planned=planned)


def _named(loaded: Loaded[Any], name: str, version: str) -> Named:
    return Named(id=name, version=version, sha256=loaded.sha256, text=loaded.text)


def _readings(mark: Mark) -> dict[Reading, float | None]:
    return {reading: tally(mark, reading)[0] / mark.items for reading in mark.correct}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
