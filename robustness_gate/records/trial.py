"""The trial, which is the full address of one experiment, its measurements and its end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, Self, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from robustness_gate.records import codes
from robustness_gate.records.attack import Floor
from robustness_gate.records.base import Digest, Metric, Name, Plugin, Record, Registered
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import TaskRef


def seed_of(subject: str, attack: str, index: int) -> int:
    """The first 31 bits of sha256 over subject, attack and index: a seed that cannot be chosen."""
    raw = hashlib.sha256(f"{subject}\n{attack}\n{index}".encode()).digest()
    return int.from_bytes(raw[:4], "big") >> 1


OWN_ROLES = (Role.CANDIDATE, Role.SHAM, Role.THROUGH_ORIGINAL, Role.IN_DECLARED_DTYPE)
"""Roles of trials that examine the candidate itself."""


class ModelRef(Record):
    """One of the models of a run: its role, and the name of a control."""

    role: Role
    control: Name | Literal[""] = ""
    """The control's name in the policy; empty in every other role."""

    @model_validator(mode="after")
    def _only_a_control_has_a_name(self) -> Self:
        if (self.role == Role.CONTROL) != bool(self.control):
            raise ValueError("a control has a name, and no other role has one")
        return self


class Trial(ModelRef):
    """The full address of one experiment. Its id is its digest, so equal trials are the same trial.

    `role` and `control` name the model that is examined.
    """

    subject: Digest
    """Digest of the manifest of the checkpoint under attack."""
    reference: Digest | None
    """Digest of the original's manifest, if the attack may use it, or if its tokenizer encodes the questions."""
    attack: Registered
    attack_version: int
    family: Name
    config: dict[str, Json]
    """Every field of the attack's Config, defaults included."""
    budgets: tuple[int, ...] = Field(min_length=1)
    """The budgets at which the attack yields an AttackedModel, rising."""
    seed_index: int = Field(ge=0)
    seed: int = Field(ge=0, lt=2**31)
    """First 31 bits of sha256(subject, attack, seed_index): it cannot be chosen."""
    tasks: tuple[TaskRef, ...] = Field(min_length=1)
    data: dict[str, Digest]
    """Digests of the dev items and corpora that the attack could see."""
    hazard: tuple[Name, ...] | None = None
    """The tasks, with their formats, in whose form the attack trained and selected its settings, in the suite's order.
    None in records from before this field existed: the first of `tasks`, if it is asked by letter, in its formats."""
    floors: tuple[Floor, ...]
    dtype: str
    plugins: tuple[Plugin, ...] = ()
    """Every plug-in that is part of the trial's identity: of its attack, its task kinds, and its executor."""

    @model_validator(mode="after")
    def _names_its_plugins(self) -> Trial:
        known = [each.distribution for each in self.plugins]
        if known != sorted(set(known)):
            raise ValueError("its plug-ins are not sorted by name, each once")
        for name in (self.attack, *(task.kind for task in self.tasks)):
            if "/" in name and name.partition("/")[0] not in known:
                raise ValueError(f"'{name}' belongs to a plug-in, and the trial does not name its version")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Omit `hazard` if it is None, so that the digest of an older trial does not change."""
        found: dict[str, Json] = whole(self)
        if self.hazard is None:
            found.pop("hazard", None)
        return found

    @property
    def aims(self) -> frozenset[str]:
        """The tasks in whose form the attack trained and selected; a negative result on any other means nothing."""
        if self.hazard is not None:
            return frozenset(self.hazard)
        first = self.tasks[0]
        named = first.name.removesuffix(".chat")
        formats = {each.name for each in self.tasks if each.name.removesuffix(".chat") == named}
        return frozenset(formats) if first.kind == "multiple_choice" else frozenset()

    @property
    def id(self) -> str:
        """The digest."""
        return self.digest


class Measurement(Record):
    """The answers of one AttackedModel to one task. Bits are in the committed item order, eight per byte, base64."""

    kind: Literal["measurement"] = "measurement"
    trial: Digest
    attempt: int = Field(ge=1)
    budget: int
    task: Name
    items: int = Field(ge=1, le=1_000_000)
    correct: dict[Metric, str]
    missing: str
    """Items without a finite answer: counted as right in the upper bound, as wrong in the lower."""
    cost: dict[str, float]
    signals: dict[str, float]
    selected: dict[str, Json]
    settings_tried: tuple[dict[str, Json], ...] = ()
    summary: dict[str, float]
    """Share of the commonest letter and similar numbers; context, never evidence."""
    special_tokens: tuple[int, ...] = Field(default=(), max_length=16)
    """Ids of the first special tokens that the tokenizer produces from the text of a question or an answer."""
    rows: Digest | None = None
    """SHA-256 of the sidecar with the log-likelihoods."""
    lost: tuple[str, ...] = Field(default=(), max_length=5)
    """Ids of the first items without an answer because the tokenizer or the context dropped part of the question."""


class Closed(Record):
    """The end of an attempt. Only an attempt closed as `ok` can establish compliance."""

    kind: Literal["closed"] = "closed"
    trial: Digest
    attempt: int = Field(ge=1)
    status: Literal["ok", "failure", "not_applicable"]
    code: codes.End = ""
    """The reason, where the program knows it."""
    reason: str = ""
    """The reason as a sentence, for people."""


T = TypeVar("T", Measurement, Closed)


def by_trial(records: Iterable[T]) -> dict[str, list[T]]:
    """The records of each trial, by its id, in their order."""
    found: dict[str, list[T]] = {}
    for record in records:
        found.setdefault(record.trial, []).append(record)
    return found
