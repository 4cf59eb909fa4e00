"""What one calibration works with: the arguments, and everything that was read before the first model is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from robustness_gate.assurance.self_test import Place
from robustness_gate.evidence import ledger as ledgers
from robustness_gate.inputs.validation import Loaded
from robustness_gate.organisms import spikes
from robustness_gate.planning import plan
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.calibration import Device, Spike, SpikeWorld
from robustness_gate.records.policy import CalibrationTerms, Policy
from robustness_gate.records.suite import Suite
from robustness_gate.system.bounded import Limits

Watch = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """The arguments of a calibration."""

    original: str
    """A directory, `hf://OWNER/NAME@COMMIT` or `organism:NAME`."""
    policy: Path
    suite: Path
    out: Path
    """The file to which everything is appended."""
    base: str | None = None
    device: str = "auto"
    seeds: int = 1
    workers: int = 1
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Work:
    """What one calibration works with."""

    policy: Loaded[Policy]
    suite: Loaded[Suite]
    terms: CalibrationTerms
    original: plan.Subject
    world: spikes.World
    record: SpikeWorld
    data: SuiteData
    size: str
    device: Device
    request: Request
    ledger: ledgers.Ledger
    folder: Path
    """Where spiked models lie while they are needed."""
    watch: Watch

    @property
    def recipe(self) -> str:
        """Digest of the recipe for models of this size."""
        return spikes.digest(self.size)

    def place(self, **models: plan.Subject) -> Place:
        """Where trials on these models run, by name."""
        return Place(
            self.data,
            models,
            dtype=self.suite.record.dtype,
            device=self.request.device,
            workers=self.request.workers,
            limits=self.request.limits,
            watch=self.watch,
            ledger=self.ledger,
        )

    def has(self, spike: Spike) -> bool:
        """Whether an attempt on record is of this original, world, recipe, dtype and device."""
        mine = (self.original.manifest.digest, self.record.sha256, self.recipe, self.suite.record.dtype, self.device)
        return (spike.original, spike.world, spike.recipe, spike.dtype, spike.device) == mine
