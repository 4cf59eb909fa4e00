"""A report as small statements, one a limit, attack and task: for policy engines that know nothing of us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from robustness_gate.attestation.predicate import MANIFEST
from robustness_gate.attestation.statement import statement
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.verdict import Finding, FindingKind
from robustness_gate.report.record import Report

CLAIM_TYPE = "urn:robustness-gate:claim:v1"


def claims(made: Report, statement_sha256: str) -> Iterator[tuple[str, bytes]]:
    """(name, payload) of one small statement a limit, attack and task: what a generic policy engine can read.

    `passed` is whether nothing under it is over or open and every seed and mark has a finding that acquits, never a
    point estimate under a threshold; and no set of claims says more than the verdict, which stands in each.
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
    """As the judge has it: an attempt that failed stands beside the one that ended well, and does not spoil it."""
    cells = {(f.seed_index, f.budget): False for f in found}
    for f in found:
        if f.state != "under" or f.has("below_chance"):
            return False
        cells[f.seed_index, f.budget] |= f.establishes_compliance
    return all(cells.values())
