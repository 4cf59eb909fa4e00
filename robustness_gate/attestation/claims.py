"""A report as small statements, one for each limit, attack and task, for generic policy engines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustness_gate.attestation.predicate import MANIFEST
from robustness_gate.attestation.statement import statement
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.verdict import Finding, FindingKind
from robustness_gate.report.record import Report

CLAIM_TYPE = "urn:robustness-gate:claim:v1"


def claims(made: Report, statement_sha256: str) -> Iterator[tuple[str, bytes]]:
    """(name, payload) of one small statement for each limit, attack and task, for a generic policy engine.

    `passed` is true if nothing under it is over or open and every seed and budget has a finding that establishes
    compliance; it is never a point estimate under a threshold. Each claim holds the verdict, so no set of claims states
    more than it.
    """
    harness = digest_of(dict(made.environment))
    groups: dict[tuple[FindingKind, str, str, str], list[Finding]] = {}
    for finding in made.verdict.findings:
        groups.setdefault((finding.kind, finding.rule, finding.attack, finding.task), []).append(finding)
    for number, ((kind, rule, attack, task), found) in enumerate(sorted(groups.items())):
        ceiling = kind != FindingKind.UTILITY
        worst = max(found, key=lambda f: f.upper) if ceiling else min(found, key=lambda f: f.lower)
        predicate: Mapping[str, Json] = {
            "metric": f"{task}/{worst.metric}/{'upper' if ceiling else 'lower'}_bound",
            "kind": kind.value,
            "requirement": rule,
            "attack": attack,
            "comparator": "<=" if ceiling else ">=",
            "threshold": worst.limit,
            "value": worst.upper if ceiling else worst.lower,
            "passed": _acquitted(found),
            "sampleSize": worst.items,
            "harnessDigest": {"sha256": harness},
            "policyDigest": {"sha256": made.policy.sha256},
            "verdict": made.verdict.outcome,
            "statement": {"sha256": statement_sha256},
            "report": {"sha256": made.digest},
        }
        yield f"claim-{number + 1:03d}", statement({MANIFEST: made.checkpoint}, CLAIM_TYPE, predicate)


def _acquitted(found: Sequence[Finding]) -> bool:
    """The judge's rule: a failed attempt does not invalidate one that ended well."""
    cells = {(f.seed_index, f.budget): False for f in found}
    for f in found:
        if f.state != "under" or f.has("below_chance"):
            return False
        cells[f.seed_index, f.budget] |= f.establishes_compliance
    return all(cells.values())
