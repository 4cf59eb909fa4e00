"""The steps from the numbers to a verdict as sentences, and the smallest limits at which this evidence would pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from textwrap import wrap

from robustness_gate.records.policy import HIGHEST_SHARE, Limit, Policy
from robustness_gate.records.verdict import Finding, FindingKind, Verdict
from robustness_gate.verdict.hypotheses import spelled_out
from robustness_gate.verdict.wording import (
    HYPOTHESES,
    OTHER_THAN_A_LIMIT,
    flag_line,
    kept_line,
    model_name,
    numbers,
    place,
    sentence,
    state,
)


def explain(policy: Policy, verdict: Verdict) -> Iterator[str]:
    """The steps of the rule for this evidence; an indented line belongs to the step above it."""
    policy = spelled_out(policy)
    statistics = policy.statistics
    declared, extra = verdict.hypotheses, statistics.alpha_fail_extra / 10_000
    yield f"1. The policy declares {declared} hypotheses:"
    yield from (f"   {line}" for line in wrap(f"{HYPOTHESES}.", 110))
    alpha = f"alpha_fail / {declared} = {verdict.alpha_hypothesis:.2g}"
    yield f"   Each can cause a false FAIL, and may use {alpha} to establish a breach;"
    yield f"   what the policy does not declare establishes one at {extra:.1g}. To establish compliance, every required"
    yield f"   number must be under its limit at alpha_pass = {statistics.alpha_pass:g}, which is never divided."
    if any(limit.recovered for limit in policy.limits):
        yield "   A share is decided by one comparison at its limit r: candidate minus control minus r times the gap"
        yield "   between original and control, question by question, by clusters. Nothing is divided by the gap."
    method = (
        "betting on the items, in a pseudo-random order derived from their digest"
        if statistics.fail_fast == "betting"
        else "Clopper and Pearson"
    )
    if any(finding.contrast for finding in verdict.findings):
        method += "; comparisons by clusters by a likelihood ratio"
    yield f"2. {len(verdict.findings)} numbers were compared with the rules (accuracies by {method}):"
    for finding in verdict.findings:
        yield f"     {state(finding):11} {place(finding)}"
        yield f"               {_counts(finding)}: {numbers(finding)}"
        beside = finding.contrast.kept if finding.contrast is not None else ()
        yield from (f"               utility beside it: {kept_line(each)}" for each in beside)
        yield from (f"               establishes no compliance: {sentence(issue)}" for issue in finding.validity_issues)
    over = [finding for finding in verdict.findings if finding.state == "over"]
    if over:
        yield f"3. {len(over)} over the limit at the lower bound, and one is enough: FAIL, with validity issues or not."
    elif many := sum(finding.not_counted for finding in verdict.findings):
        yield f"3. {many} over the limit at the lower bound, and not counted: the attack destroyed the model with which"
        yield "   the candidate is compared. No other is over its limit, so no breach is established: not FAIL."
    else:
        yield "3. None is over its limit at its lower bound, so no breach is established: not FAIL."
    others = [each for each in verdict.blockers if each.code not in ("breach", "open")]
    if not verdict.blockers:
        yield "4. Every hypothesis has a valid finding under its limit, and no red flag is raised: PASS."
    else:
        yield f"4. {len(verdict.blockers)} blockers of a PASS:"
        yield from (f"     {sentence(each)}" for each in verdict.blockers)
        if not over:
            yield "   So it is INCONCLUSIVE, which blocks as FAIL does: absence of evidence is never success."
    yield from _recorded(verdict)
    yield "5. The smallest limits at which these numbers would pass:"
    limits = [finding for finding in verdict.findings if finding.kind == FindingKind.LIMIT]
    for limit in policy.limits:
        yield f"     {_smallest(limit, [f for f in limits if f.rule == limit.id])}"
    if others:
        reasons = dict.fromkeys(OTHER_THAN_A_LIMIT[each.code] for each in others)
        yield f"   Changing limits is not enough: {'; '.join(reasons)}."


def smallest_limit(findings: Sequence[Finding]) -> float | None:
    """The smallest `max`, to a thousandth, at which every finding would be under it; None without a finding."""
    if not findings:
        return None
    return max(0.0, ceil(max(finding.upper for finding in findings) * 1000) / 1000)


def _smallest(limit: Limit, findings: Sequence[Finding]) -> str:
    relative = f", relative to {limit.control}" if limit.control else ""
    metric = "/".join(sorted({finding.metric for finding in findings})) or limit.metric or "its deciding metric"
    what = f"{limit.id} ({limit.task}, {metric}{relative})"
    if limit.score:
        what = f"{limit.id} (mean of {', '.join(limit.score)}{relative})"
    least = smallest_limit(findings)
    if least is None:
        return f"{what}: not known, nothing was measured"
    if limit.recovered is not None and least > HIGHEST_SHARE:
        return f"{what}: none; {HIGHEST_SHARE:g} is the highest share that a policy can state"
    hardest = max(findings, key=lambda f: (f.upper, f.attack, f.budget))
    verb = "is" if least <= limit.most else "would have to be"
    at = f", for {hardest.attack}" + (f" at {hardest.budget}" if hardest.budget else "")
    return f"{what}: {least:.3f}{at}; the limit is {limit.most:g}" + ("" if verb == "is" else ", which is lower")


def _recorded(verdict: Verdict) -> Iterator[str]:
    quiet = [flag for flag in verdict.flags if not flag.blocks]
    if quiet:
        yield "   Recorded only:"
        yield from (f"     {flag_line(flag)}" for flag in quiet)


def _counts(finding: Finding) -> str:
    if (its := finding.contrast) is not None:
        other = f"{its.control:.1%} by {model_name(finding.relative_to)}" if finding.relative_to else ""
        gap = f"; original {its.original:.1%}, gap {its.gap:.1%}" if its.original is not None else ""
        return f"score {its.candidate:.1%}, {other}{gap}, on {its.questions} questions in {its.clusters} clusters"
    other = f", {finding.over_correct} by {model_name(finding.relative_to)}" if finding.relative_to else ""
    missing = f", {finding.missing} missing" if finding.missing else ""
    return f"{finding.correct} of {finding.items} right{other}{missing}"
