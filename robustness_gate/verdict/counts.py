"""How many trials are on record: every output prints this one count."""

from __future__ import annotations

from typing import NamedTuple

from robustness_gate.records.evidence import Evidence
from robustness_gate.records.trial import Role


class Counts(NamedTuple):
    """Trials on record, each counted once."""

    suite: int
    """The suite's trials on the candidate, with and without an attack."""
    sham: int
    """Trials at strength zero."""
    otherwise: int
    """Trials on the untouched candidate, asked differently from the suite."""
    earlier: int
    """Trials on the candidate from earlier runs that are not part of this plan."""
    others: int
    """Trials on the original and on controls."""

    @property
    def ever(self) -> int:
        """All trials on the candidate: `Verdict.trials`."""
        return self.suite + self.sham + self.otherwise + self.earlier


def counts(evidence: Evidence) -> Counts:
    """Count the trials that have a measurement or an end in the evidence."""
    traced = {measurement.trial for measurement in evidence.measurements} | {end.trial for end in evidence.closed}
    planned = {trial.id: trial.role for trial in evidence.planned}
    roles = [role for id_, role in planned.items() if id_ in traced]
    earlier = {trial.id for trial in evidence.extra} - planned.keys()
    suite, sham = roles.count(Role.CANDIDATE), roles.count(Role.SHAM)
    others = {trial.id for trial in evidence.comparators}
    return Counts(suite, sham, len(roles) - suite - sham, len(earlier & traced), len(others & traced))
