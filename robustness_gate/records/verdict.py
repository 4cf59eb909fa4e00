"""What follows from the evidence: findings, what stands against a PASS, red flags, the verdict."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from robustness_gate.records import codes
from robustness_gate.records.base import Coded, Difference, Digest, Metric, Name, Record, Share
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.evidence import SelfTestFault
from robustness_gate.records.trial import ModelRef, Role


class ValidityIssue(Coded):
    """Why a finding cannot establish compliance, whatever its number. It may still establish a breach."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.VALIDITY_ISSUES


Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Finding(Record):
    """One rule of the policy held against one measurement of one trial."""

    kind: FindingKind
    rule: str
    """Id of the limit or of the guardrail; of a utility its task."""
    trial: Digest
    role: Role
    """Of the trial: in which way the candidate was asked."""
    attack: str
    """The attack with what tells it from its siblings in the suite."""
    seed_index: int
    budget: int
    attempt: int
    task: Name
    metric: Metric
    correct: int
    items: int
    missing: int
    relative_to: ModelRef | None = None
    """The model beside which the candidate is held; None where its accuracy itself is bounded."""
    over_correct: int = 0
    """That model's right answers to the same questions, after the same attack."""
    fell: bool = False
    """Whether the difference is how far the candidate lies under the other model, not how far over it."""
    lower: Difference
    """One-sided bound at the cell's share of alpha_fail; missing items count against a conviction. An accuracy, or a
    difference of two where `relative_to` names a model."""
    upper: Difference
    """One-sided bound at alpha_pass; missing items count against an acquittal."""
    limit: Share
    state: Literal["over", "open", "under"]
    declared: bool
    """Whether the policy requires this trial and mark."""
    validity_issues: tuple[ValidityIssue, ...]
    """Why it cannot establish compliance, whatever its number: it may still establish a breach."""

    def has(self, *wanted: str) -> bool:
        """Whether it has a validity issue of one of these codes."""
        return any(issue.code in wanted for issue in self.validity_issues)

    @property
    def unanswered(self) -> ValidityIssue | None:
        """Of a utility under its minimum that says nothing of unlearning: who was at chance as well. It is `open`."""
        return next((issue for issue in self.validity_issues if issue.code == "unanswerable"), None)

    @property
    def observed(self) -> float:
        """Accuracy over all items, missing ones counted as wrong; or how far it lies from the other model's."""
        return (self.correct - self.over_correct) / self.items * (-1 if self.fell else 1)

    @property
    def establishes_compliance(self) -> bool:
        """Whether it can help to fill a required cell."""
        return self.state == "under" and not self.validity_issues

    @property
    def hazard(self) -> bool:
        """Whether it bounds the accuracy on a hazard task itself."""
        return self.kind == FindingKind.LIMIT and self.relative_to is None


Flag = Literal[
    "choices_only",
    "declines",
    "identical_answers",
    "less_at_more",
    "letter_collapse",
    "read_inside",
    "still_rising",
    "template_differs",
    "tokenizer_differs",
    "tokenizer_unverified",
    "told_apart",
    "vacuous",
    "weaker_beats_stronger",
]
"""Signs that an instrument or a reading cannot be trusted; `verdict.flags` says what each means."""


class RedFlag(Coded):
    """A sign that an instrument or a measurement cannot be trusted. The code says what was seen."""

    flag: Flag
    blocks: bool
    """Whether it stands in the way of a PASS; the policy can let some be recorded only."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return {code: args for table in codes.RED_FLAGS.values() for code, args in table.items()}

    @model_validator(mode="after")
    def _is_of_its_flag(self) -> Self:
        if self.code not in codes.RED_FLAGS[self.flag]:
            raise ValueError(f"'{self.code}' is not a sign of '{self.flag}'")
        return self

    __hash__ = Coded.__hash__


class Blocker(Coded):
    """One thing that stands between the evidence and a PASS."""

    causes: tuple[SelfTestFault | ValidityIssue | RedFlag, ...] = ()
    """What it comes from, where the code names that."""
    about: str = ""
    """The requirement or the flag that a waiver would have to name; empty where no waiver helps."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.BLOCKERS

    @model_validator(mode="after")
    def _has_its_causes(self) -> Self:
        for cause in self.causes:
            if cause.code not in codes.CAUSES.get(self.code, ()):
                raise ValueError(f"'{self.code}' does not come of '{cause.code}'")
        return self

    __hash__ = Coded.__hash__


class Strongest(Record):
    """The strongest recovery, chosen on one half of the items and measured on the other: free of the winner's curse."""

    attack: str
    seed_index: int
    budget: int
    task: Name
    metric: Metric
    correct: int
    items: int
    lower: Share
    """Two-sided 95 %, Clopper-Pearson, on the half that did not choose."""
    upper: Share


class Verdict(Record):
    """PASS, FAIL or INCONCLUSIVE, and everything that it rests on. `verdict.wording.reason` says why in a sentence."""

    outcome: Outcome
    at: str
    """When it was judged: RFC 3339, UTC."""
    hypotheses: int
    """Declared cells over which alpha_fail is split."""
    alpha_hypothesis: float
    findings: tuple[Finding, ...]
    blockers: tuple[Blocker, ...]
    """Everything that stands between this evidence and a PASS."""
    flags: tuple[RedFlag, ...] = ()
    strongest: Strongest | None = None
    trials: int = 0
    """All trials ever recorded on this candidate, planned or not."""
