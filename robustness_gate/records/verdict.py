"""What follows from the evidence: findings, blockers, red flags, the verdict."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from robustness_gate.records import codes
from robustness_gate.records.base import Coded, Difference, Digest, Metric, Name, Record, Share
from robustness_gate.records.calibration import CalibrationFault
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Flag
from robustness_gate.records.evidence import SelfTestFault
from robustness_gate.records.trial import ModelRef, Role


class ValidityIssue(Coded):
    """Why a finding cannot establish compliance, independent of its number. It may still establish a breach."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.VALIDITY_ISSUES


Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Kept(Record):
    """What the models of a comparison score on a utility task; None where one was not asked it."""

    task: Name
    asked: Share
    """What an attacked model has to keep. A control with less was ruined by the attack."""
    candidate: Share | None = None
    """After the attack."""
    control: Share | None = None
    """After the same attack."""
    before: Share | None = None
    """The control before any attack."""
    original: Share | None = None
    """Before any attack, or after the same one where that is the yardstick."""


class Contrast(Record):
    """A comparison of several models on the same questions, in mean scores per question. Missing answers are wrong."""

    tasks: tuple[Name, ...] = Field(min_length=1)
    """The tasks of which a question's score is the mean."""
    questions: int = Field(ge=1)
    clusters: int = Field(ge=1)
    design_effect: float = Field(ge=1.0)
    """The pinned one, by which the bounds are wider; 1 where the policy pins the clusters themselves."""
    candidate: Share
    control: Share
    """After the same attack."""
    original: Share | None = None
    """The yardstick, before any attack or after the same one; None if the limit is no share of a gap."""
    never: Share | None = None
    """The control at the same point."""
    kept: tuple[Kept, ...] = ()
    """Their scores on each utility task, if the limit is on a share of a gap. They decide nothing."""
    yardstick: Literal["untouched", "same_attack"] | None = None
    excess_lower: Difference
    """One-sided bounds, each at alpha_pass, on the candidate's score minus the control's, in points."""
    excess_upper: Difference

    @property
    def gap(self) -> float | None:
        """What the original scores more than the model that never knew; None if the limit is no share of it."""
        return None if self.original is None or self.never is None else self.original - self.never

    @property
    def observed(self) -> float:
        """The share of the gap that is back, between -1 and 1; without a gap 1. Else the excess over the control."""
        excess, gap = self.candidate - self.control, self.gap
        if gap is None:
            return excess
        return max(-1.0, min(1.0, excess / gap)) if gap > 0 else 1.0


class Finding(Record):
    """One rule of the policy applied to one measurement."""

    kind: FindingKind
    rule: str
    """Id of the limit or of the guardrail; for a utility its task."""
    trial: Digest
    role: Role
    """The trial's role: how the candidate was asked."""
    attack: str
    """The label: the attack with the settings that distinguish it from similar ones in the suite."""
    seed_index: int
    budget: int
    attempt: int
    task: Name
    metric: Metric
    correct: int
    items: int
    missing: int
    relative_to: ModelRef | None = None
    """The model with which the candidate is compared; None if the bounds are on its accuracy itself."""
    over_correct: int = 0
    """That model's right answers to the same questions, after the same attack."""
    fell: bool = False
    """Whether the difference is the other model's accuracy minus the candidate's, instead of the reverse."""
    contrast: Contrast | None = None
    """How the models compare, if the limit is on a share of a gap, on a score, or on clustered questions. `correct` and
    `items` then count the answers in all its tasks, and both bounds are on the share or the excess."""
    lower: Difference
    """One-sided lower bound at the hypothesis' share of alpha_fail, with missing items counted as wrong. On an
    accuracy, or on a difference of two if `relative_to` names a model."""
    upper: Difference
    """One-sided upper bound at alpha_pass, with missing items counted as right."""
    limit: Share
    state: Literal["over", "open", "under"]
    declared: bool
    """Whether the policy requires this trial and budget."""
    validity_issues: tuple[ValidityIssue, ...]
    """Why it cannot establish compliance, independent of its number: it may still establish a breach."""

    def has(self, *wanted: str) -> bool:
        """Whether it has a validity issue with one of these codes."""
        return any(issue.code in wanted for issue in self.validity_issues)

    @property
    def unanswered(self) -> ValidityIssue | None:
        """The issue that no model can answer in this form, so a low utility shows no cost. The finding is `open`."""
        return next((issue for issue in self.validity_issues if issue.code == "unanswerable"), None)

    @property
    def observed(self) -> float:
        """Accuracy, with missing items counted as wrong; its difference from the other model's; or a share of a gap."""
        if self.contrast is not None:
            return self.contrast.observed * (-1 if self.fell else 1)
        return (self.correct - self.over_correct) / self.items * (-1 if self.fell else 1)

    @property
    def of_gap(self) -> bool:
        """Whether its numbers are shares of a gap."""
        return self.contrast is not None and self.contrast.gap is not None

    @property
    def not_counted(self) -> bool:
        """Whether it is over its limit at the lower bound and still no breach: the attack destroyed the other model."""
        return self.state == "open" and self.relative_to is not None and self.lower > self.limit

    @property
    def establishes_compliance(self) -> bool:
        """Whether it can fulfil a declared hypothesis."""
        return self.state == "under" and not self.validity_issues

    @property
    def hazard(self) -> bool:
        """Whether it bounds the accuracy on a hazard task, not a difference."""
        return self.kind == FindingKind.LIMIT and self.relative_to is None


class RedFlag(Coded):
    """A sign that an instrument or a measurement cannot be trusted. The code says what was observed."""

    flag: Flag
    blocks: bool
    """Whether it blocks a PASS; the policy can let some be recorded only."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return {code: args for table in codes.RED_FLAGS.values() for code, args in table.items()}

    @model_validator(mode="after")
    def _is_of_its_flag(self) -> Self:
        if self.code not in codes.RED_FLAGS[self.flag]:
            raise ValueError(f"'{self.code}' is not a code of the flag '{self.flag}'")
        return self

    __hash__ = Coded.__hash__


class Blocker(Coded):
    """One reason against a PASS."""

    causes: tuple[SelfTestFault | CalibrationFault | ValidityIssue | RedFlag, ...] = ()
    """Its causes, for a code that has some."""
    about: str = ""
    """The requirement or the flag that a waiver has to name; empty if it cannot be waived."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.BLOCKERS

    @model_validator(mode="after")
    def _has_its_causes(self) -> Self:
        for cause in self.causes:
            if cause.code not in codes.CAUSES.get(self.code, ()):
                raise ValueError(f"'{cause.code}' cannot be a cause of '{self.code}'")
        return self

    __hash__ = Coded.__hash__


class Strongest(Record):
    """The strongest attack, selected on one half of the items and measured on the other: no winner's curse."""

    attack: str
    seed_index: int
    budget: int
    task: Name
    metric: Metric
    correct: int
    items: int
    lower: Share
    """Two-sided 95 %, Clopper-Pearson, on the half that was not used for the selection."""
    upper: Share


class Verdict(Record):
    """PASS, FAIL or INCONCLUSIVE, with its reasons. `verdict.wording.reason` summarises them in one sentence."""

    outcome: Outcome
    at: str
    """The moment of judgement: RFC 3339, UTC."""
    hypotheses: int
    """Number of declared hypotheses, which share alpha_fail."""
    alpha_hypothesis: float
    findings: tuple[Finding, ...]
    blockers: tuple[Blocker, ...]
    """Every reason against a PASS."""
    flags: tuple[RedFlag, ...] = ()
    strongest: Strongest | None = None
    trials: int = 0
    """Number of trials that were ever recorded for this candidate, planned or not."""
