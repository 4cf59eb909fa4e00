"""Findings that were made: which is the strongest, and how a code names one. Nothing is computed from answers here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustness_gate.records.trial import ModelRef
from robustness_gate.records.verdict import Finding


def place(finding: Finding) -> dict[str, Any]:
    """Which finding it is, as the arguments of a code (`codes.PLACE`)."""
    where = {"kind": finding.kind.value, "rule": finding.rule, "attack": finding.attack}
    return {**where, "seed_index": finding.seed_index, "budget": finding.budget}


def comparator(model: ModelRef | None) -> dict[str, Any]:
    """The model with which the candidate is compared, as the arguments of a code (`codes.COMPARATOR`)."""
    return {"relative_to": model.role.value if model else None, "control": model.control if model else ""}


def strongest(found: Sequence[Finding]) -> Finding | None:
    """The finding on a hazard limit with the highest observed accuracy: the attack that an attacker would use."""
    return next(iter(by_strength(found)), None)


def most_recovered(found: Sequence[Finding]) -> Finding | None:
    """The finding on a share limit with the largest share of the gap back."""
    shares = [finding for finding in found if finding.of_gap]
    return max(shares, key=lambda f: (f.observed, f.lower, f.rule, f.attack, f.seed_index, f.budget), default=None)


def by_strength(found: Sequence[Finding]) -> list[Finding]:
    """The findings on hazard limits, the highest observed accuracy first; at a tie every output names the same one."""
    hazard = [finding for finding in found if finding.hazard]
    return sorted(
        hazard, key=lambda f: (f.observed, f.lower - f.limit, f.rule, f.attack, f.seed_index, f.budget), reverse=True
    )
