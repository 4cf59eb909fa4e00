"""Checks of the conclusions: the verdict, the report's derived fields, the auditor's own policy."""

from __future__ import annotations

from datetime import datetime

from robustness_gate.attestation.verify.codes import Confirmed, Fault, Unchecked
from robustness_gate.attestation.verify.records import Context, Failed, Found, NotChecked
from robustness_gate.records.verdict import Verdict
from robustness_gate.report import build as report_build
from robustness_gate.report import record
from robustness_gate.report.limitations import limitations
from robustness_gate.system.sentences import Argument
from robustness_gate.verdict import judge
from robustness_gate.verdict.wording import reason, rule_name

TOLD = ("verdict", "manifest", "provenance", "preregistration", "environment")
"""Fields that earlier checks compare, or that a report can only state. `report.build.make` derives every other field,
and it is compared, so a new field needs no change here."""


def verdict(its: Context) -> Found:
    """9. Every bound, the verdict and all other derived fields are recomputed, and are equal."""
    made = its.made
    if its.policy is None or its.suite is None:
        raise NotChecked(Unchecked.NO_TEXTS)
    again = report_build.make(
        its.policy,
        its.suite,
        made.manifest,
        its.evidence,
        datetime.fromisoformat(made.verdict.at),
        provenance=made.provenance,
        preregistration=made.preregistration,
    )
    if again.verdict != made.verdict:
        raise _difference(made.verdict, again.verdict)
    for name in sorted(set(record.Report.model_fields) - set(TOLD)):
        if getattr(again, name) != getattr(made, name):
            raise Failed(Fault.DOES_NOT_FOLLOW, field=name)
    its.outcome, its.limitations = again.verdict.outcome, again.limitations
    return Found(Confirmed.VERDICT, outcome=its.outcome, bounds=len(again.verdict.findings))


def _difference(stated: Verdict, again: Verdict) -> Failed:
    outcome = again.outcome
    if stated.outcome != outcome:
        return Failed(Fault.OTHER_OUTCOME, outcome=outcome, stated=stated.outcome, reason=reason(again))
    for was, now in zip(stated.findings, again.findings, strict=False):
        if was == now:
            continue
        where: dict[str, Argument] = {"rule": rule_name(now.kind, now.rule), "attack": now.attack, "budget": now.budget}
        if (was.kind, was.rule, was.trial, was.budget, was.lower, was.upper) == (
            now.kind, now.rule, now.trial, now.budget, now.lower, now.upper):  # fmt: skip
            return Failed(Fault.OTHER_FINDING, outcome=outcome, **where)
        return Failed(Fault.OTHER_BOUNDS, outcome=outcome, lower=now.lower, upper=now.upper, **where)
    if len(stated.findings) != len(again.findings):
        found, claimed = len(again.findings), len(stated.findings)
        return Failed(Fault.OTHER_FINDING_COUNT, outcome=outcome, found=found, stated=claimed)
    return Failed(Fault.OTHER_VERDICT, outcome=outcome)


def own_policy(its: Context) -> Found:
    """10. The evidence is judged again under the auditor's policy, at the present time; this outcome is the exit
    code.
    """
    made = its.made
    if its.asked.policy is None:
        raise NotChecked(Unchecked.NO_POLICY)
    policy, evidence = its.asked.policy.record, its.evidence
    again = judge(policy, evidence, its.at)
    its.outcome = again.outcome
    its.limitations = limitations(policy, evidence, again.flags, preregistered=made.preregistration is not None)
    return Found(
        Confirmed.OWN_POLICY, policy=f"{policy.id} {policy.version}", outcome=again.outcome, reason=reason(again)
    )
