"""The fixed words of a calibration, beside each attack: what it brought back on the original, by method."""

from __future__ import annotations

from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Role
from robustness_gate.verdict import asked_by, label, spelled_out
from robustness_gate.verdict.calibrations import tried
from robustness_gate.verdict.wording import calibrated as words_of


def calibrated(policy: Policy, evidence: Evidence) -> dict[str, tuple[str, ...]]:
    """For each required attack of the plan, by its label, a sentence for each result in the calibrations on record.

    A calibration that does not count is shown too: the blockers say why it does not.
    """
    found: dict[str, dict[str, None]] = {}
    results = [each for one in sorted(evidence.calibrations, key=lambda c: (c.at, c.digest)) for each in one.recoveries]
    for trial in (each for each in evidence.planned if each.role == Role.CANDIDATE):
        for requirement in (each for each in spelled_out(policy).required if each.selects(trial)):
            asked = asked_by(requirement, trial)
            for each in (result for result in results if tried(result, asked)):
                found.setdefault(label(trial), {})[words_of(each.test, label(trial))] = None
    return {name: tuple(sentences) for name, sentences in sorted(found.items())}
