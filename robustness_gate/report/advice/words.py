"""Shared texts: names of findings and trials, shortened lists, numbers with a noun."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustness_gate.records.verdict import Finding, FindingKind
from robustness_gate.report.record import TrialRecord
from robustness_gate.verdict.wording import gap_name, model_name


def named(finding: Finding, *, capital: bool = False) -> str:
    """`relearn (forget, lora) at budget 50, seed 1`."""
    name = "no attack" if finding.attack == "none" else finding.attack
    name += f" at budget {finding.budget}" if finding.budget else ""
    name += f", seed {finding.seed_index}" if finding.seed_index else ""
    if finding.kind == FindingKind.UTILITY:
        name = "no attack"
    return name[:1].upper() + name[1:] if capital else name


def apart(finding: Finding) -> str:
    """The difference from another model, as a sentence."""
    more = "fewer" if finding.fell else "more"
    if finding.of_gap:
        assert finding.relative_to is not None
        return f"{finding.observed:.0%} of {gap_name(finding.relative_to.control)} is back"
    assert finding.relative_to is not None
    return f"{finding.observed:.1%} {more} of '{finding.task}' is right than by {model_name(finding.relative_to)}"


def record_name(record: TrialRecord) -> str:
    """`sham of relearn, seed 0`."""
    return f"{record.label}, seed {record.trial.seed_index}"


def others(findings: Sequence[Finding]) -> str:
    """The number of further findings."""
    more = len(findings) - 1
    return f" (and {more} more like it)" if more > 0 else ""


def listed(names: Sequence[str], most: int = 4) -> str:
    """Some names and how many more."""
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    comma = "; " if any("," in name for name in names) else ", "
    return comma.join(shown[:-1]) + (" and " if len(shown) > 1 else "") + (shown[-1] if shown else "")


def short(value: Any) -> str:
    """Three digits of a float; any other value unchanged."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def count(value: float, noun: str) -> str:
    """`5 examples`, `1 step`."""
    return f"{value:,.0f} {noun.removesuffix('s') if value == 1 else noun}"
