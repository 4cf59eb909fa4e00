"""How many trials left a trace: the one count, wherever it is printed."""

from __future__ import annotations

from typing import NamedTuple

from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Role


class Counts(NamedTuple):
    """Trials that left a trace, each counted once."""

    suite: int
    """Of the suite's attacks on the candidate, no attack among them."""
    sham: int
    """At strength zero."""
    otherwise: int
    """The candidate with no attack, asked otherwise than the suite asks."""
    earlier: int
    """On the candidate, in earlier runs, and not asked for by this plan."""
    comparators: int
    """On the original and on controls."""

    @property
    def ever(self) -> int:
        """All on the candidate: `Verdict.trials`."""
        return self.suite + self.sham + self.otherwise + self.earlier


def counts(evidence: Evidence) -> Counts:
    """Count the trials in the evidence that left a trace."""
    traced = {measurement.trial for measurement in evidence.measurements} | {end.trial for end in evidence.closed}
    planned = {trial.id: trial.role for trial in evidence.planned}
    roles = [role for id_, role in planned.items() if id_ in traced]
    earlier = {trial.id for trial in evidence.extra} - planned.keys()
    suite, sham = roles.count(Role.CANDIDATE), roles.count(Role.SHAM)
    comparators = {trial.id for trial in evidence.comparators}
    return Counts(suite, sham, len(roles) - suite - sham, len(earlier & traced), len(comparators & traced))
