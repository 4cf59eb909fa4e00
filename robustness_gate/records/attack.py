"""What an attack receives and what it yields, and the strength floors that show that it took effect."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import Field, model_validator

from robustness_gate.records.base import Metric, Record
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import LM, Form, Item, Replies, Rows, Scored, asked


@dataclass(frozen=True, slots=True)
class GridPoint:
    """One point of an attack's grid and its accuracy on the dev items: for heat maps, never for a verdict."""

    setting: Mapping[str, Json]
    dev_accuracy: float


@dataclass(frozen=True, slots=True)
class AttackedModel:
    """What an attack yields at one budget, while its scopes are open."""

    model: LM
    budget: int
    """The budget, in the attack's own unit (examples, steps, bits): rises from one AttackedModel to the next."""
    cost: Mapping[str, float]
    """What it cost so far: examples, steps, tokens, queries."""
    signals: Mapping[str, float] = field(default_factory=dict)
    """Numbers that show that the attack really happened; the judge compares them with the floors."""
    selected: Mapping[str, Json] = field(default_factory=dict)
    """The settings that were selected on the dev items."""
    settings_tried: Sequence[GridPoint] = ()
    """Every grid point with its dev accuracy."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """What an attacker may train on: questions with answers, texts, or both. Never verdict items."""

    items: tuple[Item, ...] = ()
    texts: tuple[str, ...] = ()
    header: str = ""
    """The header line under which these questions are put."""


@dataclass(frozen=True)
class Hazard:
    """A hazard task in one of its formats: its form, and the attacker's items in this form.

    Every attack trains, aims and selects its settings in each format, because it is judged in each: knowledge that is
    recovered in written answers may be absent from letter answers, and the reverse.
    """

    name: str
    """The task's name, with its format: `forget`, `forget.chat`."""
    kind: str
    """The task kind: a module of `robustness_gate.tasks`, or a plug-in's."""
    form: Form
    dev: tuple[Item, ...]
    """Items in the task's own form on which an attack selects its settings; disjoint from the verdict items."""
    questions: Mapping[str, tuple[Item, ...]]
    """Each corpus's questions in the task's own form, by source, in the order of the corpus."""
    task: Any
    """The task kind's module: its `Config`, `ask` and `read` also produce the answers on which the verdict rests."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """What cannot be asked in the task's form (`dev` or a source), with the reason."""

    @property
    def chance(self) -> float:
        """The expected accuracy of guessing."""
        return 0.0 if self.task.JUDGED.generative or not self.dev else 1 / len(self.dev[0].question.choices)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics in which the task's kind scores answers; the first one decides."""
        metrics: tuple[Metric, ...] = self.task.JUDGED.metrics
        return metrics

    def form_of(self, corpus: Corpus) -> Form:
        """The form of a corpus's questions: the hazard's, with the corpus's own header where letters are asked for."""
        return self.form if self.form.verbatim else replace(self.form, header=corpus.header)

    def ask(self, lm: LM, items: Sequence[Item]) -> Rows | Replies:
        """Ask exactly as a trial asks the verdict items. Raises NotApplicable if the LM cannot answer in this form."""
        return asked(self.task, lm, [item.question for item in items], self.form)

    def read(self, answers: Rows | Replies, items: Sequence[Item]) -> Scored:
        """Which answers are right, scored exactly as a trial scores the verdict items."""
        with_settings = replace(answers, settings=self.form.settings)  # an attack may have made them itself
        found: Scored = self.task.read(with_settings, [item.right for item in items])
        return found

    def first(self, count: int) -> Hazard:
        """The same hazard with its first `count` dev items only."""
        return replace(self, dev=self.dev[:count])


@dataclass(frozen=True)
class Target:
    """Everything an attack may touch. The verdict items are not here: an attack cannot tune on what it cannot reach."""

    model: Any
    """A transformers causal language model, in evaluation mode."""
    tokenizer: Any
    lm: LM
    """The model in its current state, including every open scope."""
    hazards: tuple[Hazard, ...]
    """The suite's hazard tasks, one for each task and format that this attack supports: it trains and selects its
    settings in every one. At least one."""
    corpora: Mapping[str, Corpus]
    """By source: `forget`, `retain`, `unrelated`. Questions are asked in the forms of `hazards`."""
    reference: Callable[[], AbstractContextManager[Any]]
    """Loads the original model for the duration of a `with` block; raises NotApplicable if there is none."""

    @property
    def forms(self) -> tuple[Form, ...]:
        """The form of each hazard."""
        return tuple(each.form for each in self.hazards)

    @property
    def dev(self) -> tuple[Item, ...]:
        """The first hazard's dev items."""
        return self.hazards[0].dev


class Bound(Record):
    """One comparison on a signal. At least one of `min` and `max` is given."""

    signal: str
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> Bound:
        if self.min is None and self.max is None:
            raise ValueError(f"the bound on '{self.signal}' needs at least one of min and max")
        return self

    def holds(self, signals: Mapping[str, float]) -> bool:
        """False if the signal is missing: absence is never success."""
        value = signals.get(self.signal)
        if value is None or value != value:
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Floor(Record):
    """A strength floor: unless one of its bounds holds, the attack had no effect and cannot establish compliance."""

    description: str
    """What must have happened and what that excludes: `the weights move: no frozen copy`."""
    any_of: tuple[Bound, ...] = Field(min_length=1)
