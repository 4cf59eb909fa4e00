"""What a run took: one entry for each attempt at a trial. Kept beside the report; no verdict and no digest has it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from robustness_gate.records.base import Digest, Name, Record
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.trial import ModelRef

NAME = "cost.json"
"""Its file beside the report."""
LONGEST = 1e9
"""In seconds: thirty years. No attempt takes as long."""


class Machine(Record):
    """Where an attempt ran."""

    device: str
    """Kind of the model's device: cpu, cuda, mps."""
    name: str = Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$", max_length=200)
    """The GPU's name, or the processor's where the model was on the CPU; empty where the system does not give it."""
    device_bytes: int | None
    """The GPU's whole memory; None on the CPU and where it is not known."""
    host_bytes: int | None
    """The machine's whole memory."""
    threads: int = Field(ge=1)
    """Threads that torch used on the CPU."""
    versions: dict[str, str]
    """Of this program, torch and transformers."""


class Spent(Record):
    """What the process that ran an attempt measured in itself."""

    cpu_seconds: float = Field(ge=0, le=LONGEST)
    """Of all its threads."""
    loading_seconds: float = Field(ge=0, le=LONGEST)
    """Wall time of loading models and tokenizers within the attempt; 0 where the model was in memory already."""
    host_peak_bytes: int | None = Field(ge=0)
    """Most memory that the process had, libraries and weights on the CPU included; None where the system does not
    give it."""
    host_peak_since: Literal["attempt", "process"]
    """Since when it was watched: since the attempt began, or, where the system cannot start anew, since the process
    did."""
    device_peak_bytes: int | None = Field(ge=0)
    """Most memory that tensors had on the GPU within the attempt; None on the CPU."""
    parameters: int | None = Field(ge=1)
    """Of the model that was examined; None where none was loaded."""
    dtype: str
    """In which it computed."""
    tokens_read: int = Field(ge=0)
    """Token positions that went through a model without gradient, padding included."""
    tokens_learnt: int = Field(ge=0)
    """The same with a gradient: of the weights, of an adapter, or of vectors in the input."""
    machine: Machine | None
    """None where no model was loaded."""


class AttemptCost(ModelRef):
    """One attempt at one trial that came to an end."""

    trial: Digest
    label: str
    """The attack with its settings, as reports name it."""
    seed_index: int = Field(ge=0)
    attempt: int = Field(ge=1)
    status: Literal["ok", "failure", "not_applicable"]
    ended: str
    """UTC, ISO 8601."""
    seconds: float = Field(ge=0, le=LONGEST)
    """Wall time from its beginning to its end, loading and writing included."""
    spent: Spent | None
    """None where the process died, never began, or an executor of others did not return it."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What is the same for the same trial of another checkpoint: role, control, label, seed."""
        return self.role.value, self.control, self.label, self.seed_index


class Costs(Record):
    """The content of `cost.json`."""

    schema_: Literal["robustness-gate/cost/v1"] = Field(default="robustness-gate/cost/v1", alias="schema")
    suite: Name
    suite_sha256: Digest
    attempts: tuple[AttemptCost, ...]
    """In the order of their ends, those of earlier runs first."""
