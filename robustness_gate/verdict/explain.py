"""The road from numbers to a verdict in plain words, and the smallest limits at which this evidence would pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from robustness_gate.nouns import Finding, Verdict
from robustness_gate.policy import Limit, Policy
from robustness_gate.verdict.cells import spelled_out
from robustness_gate.verdict.words import bound_words, place

OTHER_THAN_A_LIMIT = {
    "unanswered": "what cannot be answered in this form at all shows nothing",
    "inverted": "answers significantly worse than chance are known answers",
    "idle_rule": "the policy's own rules do not meet",
    "left_out": "what a run leaves out of its suite, nobody has tried",
    "incomplete": "an attempt that ended well holds every answer that it was asked for",
    "unfinished": "what was planned must end well",
    "doubt": "what is in doubt cannot acquit",
    "not_run": "what is required must have been tried",
    "instrument": "an instrument that was not seen to work shows nothing by finding nothing",
    "flag": "a red flag is up",
    "expired": "a policy or control out of its time says nothing",
    "provenance": "the producer has to state something",
    "other_weights": "other weights lie beside the examined ones",
    "note": "something happened to the evidence",
}


def explain(policy: Policy, verdict: Verdict) -> Iterator[str]:
    """The steps of the rule as this evidence went through them; an indented line belongs to the step above it."""
    policy = spelled_out(policy)
    statistics = policy.statistics
    cells, extra = verdict.cells, statistics.alpha_fail_extra / 10_000
    yield f"1. The policy declares {cells} chances of a false FAIL: limit x format x requirement x seed x mark, and"
    yield f"   each comparison. Each may use alpha_fail / {cells} = {verdict.alpha_cell:.2g} to convict; what the"
    yield f"   policy does not declare convicts at {extra:.1g}. To acquit, every required number must be under"
    yield f"   its limit at alpha_pass = {statistics.alpha_pass:g}, which is never divided."
    route = (
        "a bet on the items, in an order drawn by lot from their digest"
        if statistics.fail_fast == "betting"
        else "Clopper and Pearson"
    )
    yield f"2. {len(verdict.findings)} numbers were held against the rules (lower bounds by {route}):"
    for finding in verdict.findings:
        yield f"     {_state(finding):9} {place(finding)}"
        yield f"               {_counts(finding)}: {bound_words(finding)}"
        yield from (f"               in doubt: {doubt}" for doubt in finding.doubts)
    over = [finding for finding in verdict.findings if finding.state == "over"]
    if over:
        yield f"3. {len(over)} over the limit at the lower bound, and one is enough: FAIL. Doubts do not help."
    else:
        yield "3. None is over its limit at its lower bound, so nothing is proved against the model: not FAIL."
    others = [block for block in verdict.blocks if block.code not in ("breach", "open")]
    if not verdict.blocks:
        yield "4. Every cell is filled, nothing is in doubt, no red flag is up: PASS."
    else:
        yield f"4. {len(verdict.blocks)} things stand between this evidence and a PASS:"
        yield from (f"     {block}" for block in verdict.blocks)
        if not over:
            yield "   So it is INCONCLUSIVE, which blocks as FAIL does: absence of evidence is never success."
    yield from _recorded(verdict)
    yield "5. The smallest limits at which these numbers would pass:"
    for limit in policy.limits:
        yield f"     {_smallest(limit, [f for f in verdict.findings if f.rule == limit.id])}"
    if others:
        reasons = dict.fromkeys(OTHER_THAN_A_LIMIT[block.code] for block in others)
        yield f"   No limit would be enough alone: {'; '.join(reasons)}."


def smallest_limit(findings: Sequence[Finding]) -> float | None:
    """The smallest `max`, to a thousandth, at which every finding would be under it; None without a finding."""
    if not findings:
        return None
    return max(0.0, ceil(max(finding.upper for finding in findings) * 1000) / 1000)


def _smallest(limit: Limit, findings: Sequence[Finding]) -> str:
    what = f"{limit.id} ({limit.task}, {limit.reading}{f', over {limit.over}' if limit.over else ''})"
    least = smallest_limit(findings)
    if least is None:
        return f"{what}: not known, nothing was measured"
    hardest = max(findings, key=lambda f: (f.upper, f.attack, f.mark))
    verb = "is" if least <= limit.max else "would have to be"
    at = f", for {hardest.attack}" + (f" at {hardest.mark}" if hardest.mark else "")
    return f"{what}: {least:.3f}{at}; the limit is {limit.max:g}" + ("" if verb == "is" else ", which is lower")


def _recorded(verdict: Verdict) -> Iterator[str]:
    quiet = [flag for flag in verdict.flags if not flag.blocks]
    if quiet:
        yield "   Recorded, and not in the way:"
        yield from (f"     {flag.flag}: {flag.words}" for flag in quiet)


def _state(finding: Finding) -> str:
    if finding.state == "under" and finding.doubts:
        return "in doubt"
    return {"over": "OVER", "open": "open", "under": "within"}[finding.state]


def _counts(finding: Finding) -> str:
    beside = f", {finding.over_correct} by {finding.over.replace(':', ' ')}" if finding.over else ""
    missing = f", {finding.missing} missing" if finding.missing else ""
    return f"{finding.correct} of {finding.items} right{beside}{missing}"
