"""What an attack is given and hands over, and the floors that show that it happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field, model_validator

from robustness_gate.records.base import Record
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import LM, Form, Item, Replies, Rows, Scored


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One point of an attack's grid and what it scored on the dev items: for heat maps, never for a verdict."""

    setting: Mapping[str, Json]
    dev_accuracy: float


@dataclass(frozen=True, slots=True)
class AttackedModel:
    """What an attack hands over at one budget, while its scopes are open."""

    model: LM
    budget: int
    """The budget, in the attack's own unit (examples, steps, bits): rises from one AttackedModel to the next."""
    cost: Mapping[str, float]
    """What it cost so far: examples, steps, tokens, queries."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Numbers that show that the attack really happened; the judge compares them with the floors."""
    selected: Mapping[str, Json] = field(default_factory=dict)
    """What was chosen on the dev items."""
    settings_tried: Sequence[GridPoint] = ()
    """Every grid point's dev accuracy."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What an attacker may train on: questions with answers, texts, or both. Never verdict items."""

    items: tuple[Item, ...] = ()
    texts: tuple[str, ...] = ()
    header: str = ""
    """The header line under which these questions are put."""


@dataclass(frozen=True)
class Hazard:
    """A hazard task in one of its formats: how it asks, and what an attacker has that can be asked that way.

    Every attack trains, aims and chooses in each of these, because it is judged in each: a fact that comes back when it
    is asked for in words need not show in letters, nor the other way round.
    """

    name: str
    """Of the task, with its format: `forget`, `forget.chat`."""
    kind: str
    """As `robustness_gate.tasks` knows it."""
    form: Form
    dev: tuple[Item, ...]
    """Items in the task's own words on which an attack chooses; disjoint from the verdict items."""
    questions: Mapping[str, tuple[Item, ...]]
    """Each corpus's questions in the task's own words, by source, in the order of the corpus."""
    task: Any
    """The task kind's module: its `Config`, `ask` and `read` are those by which the verdict is read."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """What cannot be put in the task's words, `dev` or a source, and why."""

    @property
    def chance(self) -> float:
        """Share of right answers of somebody who knows nothing."""
        return 0.0 if self.task.JUDGED.generative or not self.dev else 1 / len(self.dev[0].question.choices)

    def ask(self, lm: LM, items: Sequence[Item]) -> Rows | Replies:
        """Ask as the examiner does. Raises NotApplicable where the LM cannot answer that way."""
        found: Rows | Replies = self.task.ask(lm, self.task.Config(tuple(item.question for item in items), self.form))
        return found

    def read(self, heard: Rows | Replies, items: Sequence[Item]) -> Scored:
        """Right or wrong, as the examiner reads it."""
        found: Scored = self.task.read(heard, [item.right for item in items])
        return found

    def first(self, count: int) -> Hazard:
        """The same with its first so many dev items alone."""
        return replace(self, dev=self.dev[:count])


@dataclass(frozen=True)
class Target:
    """Everything an attack may touch. The verdict items are not here: an attack cannot tune on what it cannot reach."""

    model: Any
    """A transformers causal language model, in evaluation mode."""
    tokenizer: Any
    lm: LM
    """The model as it stands now, with whatever scopes are open."""
    hazards: tuple[Hazard, ...]
    """Every way in which the suite asks for the hazard, one for each task and format that this attack can speak: it
    trains and chooses in every one. At least one."""
    corpora: Mapping[str, Corpus]
    """By source: `forget`, `retain`, `unrelated`. Questions are put by way of `hazards`."""
    reference: Callable[[], AbstractContextManager[Any]]
    """Loads the original model for the length of a `with` block; raises NotApplicable without one."""

    @property
    def forms(self) -> tuple[Form, ...]:
        """How each of the hazards puts its questions."""
        return tuple(each.form for each in self.hazards)

    @property
    def dev(self) -> tuple[Item, ...]:
        """The first hazard's dev items."""
        return self.hazards[0].dev


class Bound(Record):
    """One comparison on a sign. At least one of `min` and `max` is given."""

    signal: str
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Bound:
        if self.min is None and self.max is None:
            raise ValueError(f"the bound on '{self.signal}' needs at least one of min and max")
        return self

    def holds(self, signals: Mapping[str, float]) -> bool:
        """False when the sign is missing: absence is never success."""
        value = signals.get(self.signal)
        if value is None or value != value:
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Floor(Record):
    """A strength floor: unless any one of its bounds holds, the attack did not really happen and cannot acquit."""

    description: str
    """What must have happened, in words."""
    any_of: tuple[Bound, ...] = Field(min_length=1)
