"""A report is made: the evidence is judged, the decision is taken, and both are written down with their basis."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from types import MappingProxyType
from typing import Any

from robustness_gate.inputs.checkpoint.manifest import Manifest
from robustness_gate.inputs.validation import Loaded
from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.suite import Suite
from robustness_gate.report.limitations import limitations
from robustness_gate.report.record import Beside, Named, Origin, PreregisteredBefore, Report, records_of
from robustness_gate.verdict import decide, judge
from robustness_gate.verdict.wording import reason

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


PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numpy")


def make(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    manifest: Manifest,
    evidence: Evidence,
    at: datetime,
    *,
    provenance: Sequence[Origin] = (),
    preregistration: PreregisteredBefore | None = None,
    machine: Mapping[str, str] = MappingProxyType({}),
) -> Report:
    """Judge the evidence, decide, and build a report. `at` is the moment of all three, with a time zone."""
    verdict = judge(policy.record, evidence, at)
    shown = [(trial, True) for trial in (*evidence.planned, *evidence.comparators)]
    shown += [(trial, False) for trial in evidence.extra]
    records = records_of(shown, evidence.measurements, evidence.closed)
    others = sorted({(trial.role, trial.control, trial.subject) for trial in evidence.comparators})
    return Report(
        verdict=verdict,
        decision=decide(policy.record, verdict, manifest.digest, at),
        checkpoint=manifest.digest,
        manifest=manifest,
        policy=_named(policy, policy.record.id, policy.record.version),
        extended=_named(policy.parent, policy.parent.record.id, policy.parent.record.version)
        if policy.parent
        else None,
        resolved=policy.record,
        suite=_named(suite, suite.record.id, suite.record.version),
        reason=reason(verdict),
        meaning=MEANING[verdict.outcome],
        limitations=limitations(policy.record, evidence, verdict.flags, preregistered=preregistration is not None),
        left_out=evidence.left_out,
        comparators=tuple(Beside(role=role, control=name, sha256=digest) for role, name, digest in others),
        provenance=tuple(sorted(provenance, key=lambda each: (each.role, each.control, each.base))),
        producer_claims=dict(sorted(evidence.producer_claims.items())),
        notes=tuple(sorted(evidence.notes, key=lambda note: note.key)),
        model_type=evidence.model_type,
        unread=evidence.unread,
        stored=evidence.stored,
        self_tests=tuple(sorted(evidence.self_tests, key=lambda each: (each.attack, each.at, each.digest))),
        calibrations=tuple(sorted(evidence.calibrations, key=lambda each: (each.at, each.digest))),
        weights=tuple(sorted(evidence.weights, key=lambda each: each.digest)),
        devices=evidence.devices,
        bases=dict(sorted(evidence.bases.items())),
        tokenizers=tuple(sorted(evidence.tokenizers, key=lambda each: each.digest)),
        questions=tuple(sorted(evidence.questions, key=lambda each: (each.task, each.digest))),
        preregistration=preregistration,
        trials=tuple(sorted(records, key=lambda each: (each.trial.role, each.trial.control, each.label, each.id))),
        environment={**environment(), **machine},
    )


@cache
def environment() -> Mapping[str, str]:
    """The installed versions, without importing the packages. No paths, no host."""
    found = {"robustness-gate": _version("robustness-gate"), "python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found["platform"] = f"{sys.platform}-{platform.machine()}"
    return found


def _named(loaded: Loaded[Any], name: str, version: str) -> Named:
    return Named(id=name, version=version, sha256=loaded.sha256, text=loaded.text)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
