"""The fixed inputs of one judgement, with lookups: trials by role, measurements, ends, and comparators."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property

from robustness_gate.records.evidence import Evidence
from robustness_gate.records.policy import Policy
from robustness_gate.records.trial import Closed, Measurement, Role, Trial, by_trial
from robustness_gate.records.verdict import ValidityIssue
from robustness_gate.verdict.bounds import questions_of
from robustness_gate.verdict.hypotheses import OTHERWISE_ASKED
from robustness_gate.verdict.validity import destroyed, validity_issues

ALIKE = ("attack", "attack_version", "config", "budgets", "seed_index", "floors", "dtype", "aims", "plugins")
"""What two trials must have in common so that only the model differs."""


@dataclass(frozen=True)
class Evaluation:
    """Policy (spelled out), evidence and moment, with lookups."""

    policy: Policy
    evidence: Evidence
    at: datetime
    alpha_hypothesis: float
    """Error rate of the lower bound of one declared hypothesis."""
    _issues: dict[tuple[int, int], tuple[ValidityIssue, ...]] = field(default_factory=dict)

    @property
    def today(self) -> date:
        """The day of the judgement, UTC."""
        return self.at.astimezone(UTC).date()

    @cached_property
    def own_ids(self) -> set[str]:
        """Trials of the candidate, planned or not."""
        return {self.id_of(trial) for trial in (*self.evidence.planned, *self.evidence.extra)}

    @cached_property
    def _ids(self) -> dict[int, str]:
        """Ids by object: an id is a digest, and digests take time, so each is computed once."""
        evidence = self.evidence
        return {id(trial): trial.id for trial in (*evidence.planned, *evidence.extra, *evidence.comparators)}

    def id_of(self, trial: Trial) -> str:
        """A trial's id; only for trials that are in the evidence."""
        return self._ids[id(trial)]

    @cached_property
    def own(self) -> tuple[Trial, ...]:
        """The candidate's trials with the role `candidate`, planned or not."""
        return tuple(
            trial
            for trial in (*self.evidence.planned, *self.evidence.extra)
            if trial.role == Role.CANDIDATE and trial.subject == self.evidence.subject
        )

    @cached_property
    def asked_otherwise(self) -> tuple[Trial, ...]:
        """Trials of the untouched candidate, asked differently from the suite: they can establish only a breach."""
        return tuple(
            trial
            for trial in (*self.evidence.planned, *self.evidence.extra)
            if trial.role in OTHERWISE_ASKED and trial.subject == self.evidence.subject
        )

    @cached_property
    def own_planned(self) -> list[Trial]:
        """The trials of `own` that are part of the plan."""
        planned = {id(trial) for trial in self.evidence.planned}
        return [trial for trial in self.own if id(trial) in planned]

    @cached_property
    def ends(self) -> dict[tuple[str, int], list[Closed]]:
        """The recorded ends, by trial and attempt."""
        ends: dict[tuple[str, int], list[Closed]] = {}
        for record in self.evidence.closed:
            ends.setdefault((record.trial, record.attempt), []).append(record)
        return ends

    @cached_property
    def _measurements(self) -> dict[str, list[Measurement]]:
        return by_trial(self.evidence.measurements)

    def measurements(self, trial: Trial) -> list[Measurement]:
        """The measurements of a trial, in every attempt."""
        return self._measurements.get(self.id_of(trial), [])

    def issues(self, trial: Trial, measurement: Measurement) -> tuple[ValidityIssue, ...]:
        """Why this measurement cannot establish compliance, independent of its number."""
        key = id(trial), id(measurement)
        if key not in self._issues:
            ends = self.ends.get((measurement.trial, measurement.attempt), [])
            self._issues[key] = validity_issues(self.policy, trial, measurement, ends, self.measurements(trial))
        return self._issues[key]

    def destroyed(self, trial: Trial, measurement: Measurement) -> bool:
        """Whether an attack left another model unable to answer the utility questions, as the policy says it."""
        found = destroyed(self.policy, trial, measurement, self.measurements(trial))
        return any(issue.code == "destroyed" for issue in found)

    def sound(self, trial: Trial) -> list[Measurement]:
        """Measurements without validity issues, from the first attempt that has some."""
        sound = [measurement for measurement in self.measurements(trial) if not self.issues(trial, measurement)]
        first = min((measurement.attempt for measurement in sound), default=0)
        return [measurement for measurement in sound if measurement.attempt == first]

    def lost(self, trial: Trial, task: str, budget: int) -> bool:
        """Whether a trial asks a task at a budget, and no attempt has the answers."""
        asked = questions_of(trial, task) is not None
        return asked and not any((each.task, each.budget) == (task, budget) for each in self.measurements(trial))

    def partners(
        self, role: Role, control: str, trial: Trial, measurement: Measurement
    ) -> Iterator[tuple[Trial, Measurement]]:
        """Another model's valid answers to the same questions after the same attack.

        Every such measurement counts, not only the first: else a second run of a control with a better result could
        replace one that shows a breach.
        """
        pinned = self.policy.controls.get(control) if role == Role.CONTROL else None
        if role == Role.CONTROL and (pinned is None or (pinned.expires and pinned.expires < self.today)):
            return
        subject = self.policy.original if pinned is None else pinned.sha256
        asked = questions_of(trial, measurement.task)
        for other in self.evidence.comparators:
            if (other.role, other.control) != (role, control) or subject not in (None, other.subject):
                continue
            if subject is None and other.subject == self.evidence.subject:  # a run named the candidate as the original
                continue
            if asked is None or questions_of(other, measurement.task) != asked:
                continue
            if any(getattr(other, key) != getattr(trial, key) for key in ALIKE):
                continue
            if (pinned is not None or other.attack != "none") and other.data != trial.data:
                continue
            for each in self.measurements(other):
                same = (each.budget, each.task, each.items) == (measurement.budget, measurement.task, measurement.items)
                if same and not self.issues(other, each):
                    yield other, each
