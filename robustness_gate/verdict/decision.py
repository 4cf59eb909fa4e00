"""The decision, which applies waivers to a verdict. It never changes the verdict or a number.

A waiver permits one unmet requirement, or one red flag, for one checkpoint and a limited time; it has an owner and
another person who approved it. A FAIL cannot be waived: it can be accepted as a risk, and is still printed as FAIL.
A waiver has no effect on a breach, an open bound, an inverted answer, the shams, the positive control and the utility.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

from robustness_gate.errors import UnknownWord
from robustness_gate.records.base import Record
from robustness_gate.records.policy import AcceptedRisk, Policy, Waiver
from robustness_gate.records.verdict import Blocker, Verdict


class Decision(Record):
    """What follows from a verdict under a policy's waivers."""

    outcome: Literal["RELEASE", "RELEASE_WITH_WAIVER", "ACCEPTED_RISK", "BLOCK"]
    reason: str
    applied: tuple[str, ...] = ()
    """Waivers and accepted risks that changed the decision, each with its owner, its approvers and its last day."""
    inert: tuple[str, ...] = ()
    """Those that changed nothing, each with the reason."""

    @property
    def releases(self) -> bool:
        """Whether the checkpoint may be released."""
        return self.outcome != "BLOCK"


def decide(policy: Policy, verdict: Verdict, checkpoint: str, at: datetime) -> Decision:
    """Apply the policy's waivers and accepted risks to a verdict.

    Args:
        policy: the policy that contains them.
        verdict: the verdict; it is not changed.
        checkpoint: digest of the examined checkpoint's manifest.
        at: the moment of the decision, with a time zone.
    """
    inert: dict[str, str] = {}
    live = [w for w in policy.waivers if not _refused(w, checkpoint, at, inert)]
    risks = [r for r in policy.accepted_risks if not _refused(r, checkpoint, at, inert)]
    lifting = {w.id: w for w in live if any(_lifts(w, each) for each in verdict.blockers)}
    left = [each for each in verdict.blockers if not any(_lifts(waiver, each) for waiver in live)]
    used = lifting if verdict.outcome == "INCONCLUSIVE" and not left else {}
    for signed in (*policy.waivers, *policy.accepted_risks):
        pointless = signed.id not in used and (signed in live or (signed in risks and verdict.outcome != "FAIL"))
        if pointless and signed.id not in inert:
            inert[signed.id] = (
                "it does not lift every blocker" if signed.id in lifting else "there is nothing that it would change"
            )
    unused = tuple(f"{id_}: {why}" for id_, why in sorted(inert.items()))
    if verdict.outcome == "PASS":
        return Decision(outcome="RELEASE", reason="The verdict is PASS.", inert=unused)
    if verdict.outcome == "FAIL":
        if not risks:
            return Decision(outcome="BLOCK", reason="The verdict is FAIL; no waiver can change that.", inert=unused)
        accepted = tuple(_described(risk) for risk in risks)
        reason = f"The verdict is FAIL; the risk was accepted by {', '.join(risks[0].approved_by)}."
        return Decision(outcome="ACCEPTED_RISK", reason=reason, applied=accepted, inert=unused)
    if verdict.outcome != "INCONCLUSIVE":
        raise UnknownWord("outcome", verdict.outcome)
    if left or not used:
        reason = f"{len(left)} of {len(verdict.blockers)} reasons are not waived."
        return Decision(outcome="BLOCK", reason=reason, inert=unused)
    reason = f"The verdict is INCONCLUSIVE; all {len(verdict.blockers)} reasons are waived."
    return Decision(
        outcome="RELEASE_WITH_WAIVER", reason=reason, applied=tuple(map(_described, used.values())), inert=unused
    )


def _refused(signed: Waiver | AcceptedRisk, checkpoint: str, at: datetime, inert: dict[str, str]) -> bool:
    """Whether it is not valid for this checkpoint at this time; adds the reason to `inert`."""
    for why in _faults(signed, checkpoint, at):
        inert[signed.id] = why
        return True
    return False


def _faults(signed: Waiver | AcceptedRisk, checkpoint: str, at: datetime) -> Iterator[str]:
    today = at.astimezone(UTC).date()
    if signed.checkpoint != checkpoint:
        yield "it is for another checkpoint"
    if today < signed.issued:
        yield f"it is valid only from {signed.issued}"
    if today > signed.expires:
        yield f"it expired on {signed.expires}"


def _lifts(waiver: Waiver, blocker: Blocker) -> bool:
    """Whether a waiver names the requirement or the flag of a blocker."""
    if blocker.code == "flag":
        return waiver.flag == blocker.about
    return bool(blocker.about) and waiver.requirement is not None and str(waiver.requirement) == blocker.about


def _described(signed: Waiver | AcceptedRisk) -> str:
    return (
        f"{signed.id}: {signed.reason} (owner {signed.owner}, approved by {', '.join(signed.approved_by)}, "
        f"until {signed.expires})"
    )
