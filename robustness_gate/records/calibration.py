"""Calibration on the candidate's own original: what each attack brought back of facts that were taught and suppressed.

As a chemist spikes a sample with a known amount and measures how much comes back. A *spike* is the original, taught an
invented world and then suppressed by one method; the *blank* is the original itself, which never knew that world.
`assurance.calibrate` makes these records, `verdict.calibrations` judges them. Counts are right answers to the world's
verdict facts, in the metric that decides in the form in which they are asked.
"""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field, model_validator

from robustness_gate.records import codes
from robustness_gate.records.base import Coded, Digest, Dtype, Name, Record
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.evidence import SelfTest
from robustness_gate.records.mechanisms import Mechanism

TAUGHT = "taught"
"""In place of a method: the attempt to teach the original the world, before any method."""
BLANK = "blank"
"""The negative control's name: the original, which never knew the world."""
Device = Literal["cpu", "cuda", "mps"]
"""The kind of device on which a model computes."""


class CalibrationFault(Coded):
    """Why a calibration counts for nothing, or why a spike was not accepted."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.CALIBRATION_FAULTS


class SpikeWorld(Record):
    """The invented world that was taught."""

    seed: int = Field(ge=0)
    facts: int = Field(ge=1)
    """Facts of the domain that was taught and then suppressed."""
    verdict_facts: int = Field(ge=1)
    """How many of them are asked; the others belong to the attacker."""
    form: Name
    """The kind of task in whose form they are asked: `multiple_choice` or `cloze`."""
    sha256: Digest
    """Digest of every question and text of the world."""


class UtilityReading(Record):
    """What teaching and suppressing cost on one of the suite's utility tasks."""

    task: Name
    items: int = Field(ge=1)
    original: int = Field(ge=0)
    """Right answers of the original."""
    spiked: int = Field(ge=0)
    """Right answers of the spiked model, to the same questions."""

    @model_validator(mode="after")
    def _can_be(self) -> UtilityReading:
        if max(self.original, self.spiked) > self.items:
            raise ValueError(f"more right answers than the {self.items} questions of '{self.task}'")
        return self


class SpikeReading(Record):
    """What a spike, its taught model and the blank answer."""

    items: int = Field(ge=1)
    blank: int = Field(ge=0)
    taught: int = Field(ge=0)
    suppressed: int = Field(ge=0)
    """Right answers of the spike; of an attempt to teach, the same as `taught`."""
    utility: tuple[UtilityReading, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be(self) -> SpikeReading:
        if max(self.blank, self.taught, self.suppressed) > self.items:
            raise ValueError(f"more right answers than the {self.items} verdict facts")
        if len({each.task for each in self.utility}) < len(self.utility):
            raise ValueError("a utility task is read twice")
        return self


class Spike(Record):
    """One attempt to make a spike. Every attempt is recorded, accepted or not."""

    kind: Literal["spike"] = "spike"
    original: Digest
    world: Digest
    recipe: Digest
    """Digest of the grids that are searched."""
    dtype: Dtype
    device: Device
    method: Name
    """The method of suppression, or `taught`."""
    mechanism: Mechanism | None
    """The kind of suppression that the method is; None for `taught`."""
    number: int = Field(ge=0)
    """The attempt's place in the method's grid."""
    settings: dict[str, Json]
    reading: SpikeReading | None
    """None if it could not be made: `failure` has the reason."""
    failure: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Spike:
        if (self.mechanism is None) != (self.method == TAUGHT):
            raise ValueError(f"'{self.method}' needs a mechanism, and '{TAUGHT}' has none")
        if (self.reading is None) != bool(self.failure):
            raise ValueError("a spike has a reading, or the reason why it could not be made")
        if self.method == TAUGHT and self.reading is not None and self.reading.taught != self.reading.suppressed:
            raise ValueError("nothing is suppressed where the world is taught")
        return self


class Recovery(Record):
    """The result of one attack on one spike."""

    method: Name
    expected: tuple[Mechanism, ...]
    """The kinds of suppression on which the cases in the attack's own file expect that it recovers; empty if it has no
    case of this kind."""
    test: SelfTest
    """`organism` is the method, `known` the taught model, and the only negative control the blank."""

    @model_validator(mode="after")
    def _is_of_its_spike(self) -> Recovery:
        if self.test.organism != self.method:
            raise ValueError(f"the result is on '{self.test.organism}', not on '{self.method}'")
        if [each.organism for each in self.test.negative_controls] != [BLANK]:
            raise ValueError("the negative control of a calibration is the blank alone")
        return self


class Calibration(Record):
    """The result of one `calibrate` on an original."""

    kind: Literal["calibration"] = "calibration"
    original: Digest
    """Digest of the original's manifest."""
    model_type: str
    dtype: Dtype
    device: Device
    world: SpikeWorld
    recipe: int = Field(ge=1)
    """Version of the recipe: how the world is taught, and the grids of each method."""
    recipe_sha256: Digest
    methods: tuple[Name, ...] = Field(min_length=1)
    """The methods that were asked for."""
    spikes: tuple[Spike, ...] = Field(min_length=1)
    """Every attempt on record, in order."""
    recoveries: tuple[Recovery, ...] = ()
    policy: Digest
    suite: Digest
    at: date

    @model_validator(mode="after")
    def _belongs_together(self) -> Calibration:
        """Refuse results that no spike on record can give. Raises ValueError."""
        mine = (self.original, self.world.sha256, self.recipe_sha256, self.dtype, self.device)
        for spike in self.spikes:
            if (spike.original, spike.world, spike.recipe, spike.dtype, spike.device) != mine:
                raise ValueError(f"a spike of '{spike.method}' belongs to another calibration")
            if spike.reading is not None and spike.reading.items != self.world.verdict_facts:
                raise ValueError(f"a spike of '{spike.method}' was asked {spike.reading.items} facts")
        read = {
            (s.method, s.reading.items, s.reading.suppressed, s.reading.taught, s.reading.blank)
            for s in self.spikes
            if s.reading is not None
        }
        for each in self.recoveries:
            test, (blank,) = each.test, each.test.negative_controls
            if (each.method, test.items, test.before, test.known, blank.before) not in read:
                raise ValueError(f"no spike of '{each.method}' answers {test.before} of {test.items} facts")
            if (test.model_type, test.at) != (self.model_type, self.at):
                raise ValueError(f"the result of '{test.attack}' is of another architecture or day")
        names = [(r.method, r.test.attack, r.test.seed, r.test.config) for r in self.recoveries]
        if any(each in names[:at] for at, each in enumerate(names)):
            raise ValueError("a result is listed twice")
        return self


class WeightsCheck(Record):
    """The candidate's weights compared with the original's, tensor by tensor."""

    kind: Literal["weights_check"] = "weights_check"
    subject: Digest
    reference: Digest
    """Digest of the original's manifest."""
    tensors: int = Field(ge=1)
    """Matrices of the original."""
    alike: int = Field(ge=0)
    """How many of them the candidate has under the same name with the same shape."""
    cosine: float = Field(ge=-1.0, le=1.0)
    """Median over these of the cosine between the two matrices; 0 if there is none."""

    @model_validator(mode="after")
    def _can_be(self) -> WeightsCheck:
        if self.alike > self.tensors:
            raise ValueError("more tensors are alike than there are")
        return self
