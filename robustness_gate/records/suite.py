"""The suite: tasks, corpora and attacks, as a suite file declares them."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustness_gate.records.base import Digest, Dtype, Format, Name, Record, Registered
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import Kind

HUB = re.compile(
    r"^hf-dataset://(?P<name>[\w.-]+/[\w.-]+)@(?P<revision>[0-9a-f]{40})/(?P<config>[\w.-]+)/(?P<split>[\w.-]+)$"
)
"""A split of a dataset on the hub, by its commit."""
Pinned = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+@[0-9a-f]{40}$")]
"""A repository of the hub with one commit."""


class Roles(Record):
    """How a benchmark is divided into dev, training and verdict items."""

    dev: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of the items on which attacks select their settings."""
    train: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of other items on which attacks may train: a corpus takes them with `train_of`. The verdict is then about
    knowledge that no training example contains (Deeb & Roger, arXiv 2410.08827: train on T, judge on V)."""
    key: Name = "public"
    """Name of the secret that determines the division; see `robustness_gate.inputs.datasets`. Printed in the report."""


class Clusters(Record):
    """Which items depend on one another: exactly one of the three says it, for every item."""

    column: str | None = Field(default=None, min_length=1)
    """The column of the source with each question's cluster, such as its paper."""
    map: str | None = Field(default=None, min_length=1)
    """A file, relative to the suite, with the cluster of each id: JSON lines with `id` and `cluster`, or CSV with these
    two columns. It may name more ids than the task has."""

    every: int | None = Field(default=None, ge=2)
    """So many rows of the source in a row are a cluster, from the first on: TOFU has twenty questions for each author.
    The number of items must be a multiple of it."""

    @model_validator(mode="after")
    def _one_of_three(self) -> Clusters:
        if [self.column, self.map, self.every].count(None) != 2:
            raise ValueError("clusters come from 'column', from 'map' or from 'every', one of the three")
        return self


class Columns(Record):
    """The columns of a source that hold a question's parts, where they are not named so."""

    question: str | None = Field(default=None, min_length=1)
    choices: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """A column of lists, or several columns, of which each is a choice or a list of choices, in this order."""
    answer: str | None = Field(default=None, min_length=1)
    """The index of the right choice from 0, or its text, which must then be among the choices."""
    text: str | None = Field(default=None, min_length=1)
    """For texts: those of a corpus and of `membership`."""
    borrow: int | None = Field(default=None, ge=1, le=9)
    """For sources without wrong choices: that many answers of the next rows, which differ from the row's own and from
    one another, are its wrong choices, behind the right one. The last rows take them from the first ones."""

    @model_validator(mode="after")
    def _its_own_or_borrowed(self) -> Columns:
        if self.choices is not None and self.borrow is not None:
            raise ValueError("choices come from 'choices' or are borrowed ('borrow'), not both")
        return self

    @property
    def pairs(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each part that is given, with its columns."""
        given = ((name, getattr(self, name)) for name in ("question", "choices", "answer", "text"))
        return tuple((name, (each,) if isinstance(each, str) else each) for name, each in given if each is not None)


Refs = str | Annotated[tuple[str, ...], Field(min_length=1)]
"""One source, or several that are pooled in this order: see `robustness_gate.inputs.datasets`."""
Where = dict[str, Json]
"""Only rows with this value in this column are taken, or with one of a list of values."""


class SuiteTask(Record):
    """One task: its questions, their form and their source."""

    kind: Registered = "multiple_choice"
    """`multiple_choice`, `cloze`, `open_answer`, `refusal`, `membership`, or `lm_eval` for a task in
    lm-evaluation-harness's own YAML. Each is a file under `robustness_gate/tasks`; a plug-in's is
    `distribution/name`."""
    config: dict[str, Json] = Field(default={})
    """The settings of a kind that declares its own (`Settings`)."""
    yaml: str | None = None
    """For the kind `lm_eval` only: the path of its YAML, relative to the suite."""
    wording: str | None = Field(default=None, pattern=r"\{question\}")
    """For `cloze`, `open_answer` and `refusal`: the prompt, with `{question}` in place of the question."""
    tokens: int | None = Field(default=None, ge=1, le=256)
    """For `open_answer` and `refusal`: the maximum length of an answer, in tokens."""
    held_out: str | None = None
    """For `membership`: as many texts of the same kind that the model has never seen."""
    items: Refs
    """A JSON-lines file, a folder, or a hub dataset by its commit, or several of these that are pooled: see
    `robustness_gate.inputs.datasets`."""
    columns: Columns | None = None
    """The source's names for the parts of a question."""
    where: Where = Field(default={})
    """A filter of the source's rows."""
    id: str | None = Field(default=None, min_length=1)
    """The column that identifies a question, each value once: two tasks that ask the same questions in two ways are
    then joined by it. Without it an id is the column `id`, or is made from the text of question and choices."""
    clusters: Clusters | None = None
    """Which questions depend on one another. Without it each question is its own cluster."""
    count: int = Field(ge=1)
    """How many items the source must hold, so that a changed benchmark is noticed before it is used."""
    roles: Roles | None = None
    """How the items are divided; None: all are verdict items."""
    roles_of: Name | None = None
    """A task that asks some of the same questions, and has `roles`: what that one keeps for attackers is no verdict
    item here either. Questions are the same by their id, or by text and right answer."""
    subset: str | None = None
    """A file with one id per line: only these items are asked (for example a subset without shortcuts)."""
    hide_question: bool = False
    """Ask the untouched model with the choices only, without the question: this measures what can be guessed."""
    after_attacks: bool = False
    """For `refusal`: ask it after each attack too, and not of the untouched model alone. It shows whether an attack
    removes refusals; no rule of a policy reads it there."""
    topic: str = ""
    """Fills lm-evaluation-harness's header line; empty: no header."""
    sha256: Digest | None = None
    formats: tuple[Format, ...] = Field(default=("raw",), min_length=1)
    """Plain text, the tokenizer's chat template, or both: the worse result decides. In the formats of the hazard tasks
    attacks also train and select their settings."""

    @property
    def source(self) -> str:
        """The places of its items as one text: a policy pins them so."""
        return self.items if isinstance(self.items, str) else " ".join(self.items)

    @property
    def partly_asked(self) -> bool:
        """Whether fewer items are asked than the source has: which, only the files show."""
        return self.divided or self.subset is not None

    @property
    def divided(self) -> bool:
        """Whether it keeps items for attackers, by roles of its own or of another task."""
        return self.roles is not None or self.roles_of is not None

    def only_untouched(self, kind: Kind) -> bool:
        """Whether it is asked of the untouched model alone, given how its kind is judged."""
        return self.hide_question or not (kind.hazard or self.after_attacks)


class SuiteCorpus(Record):
    """Data on which an attacker may train."""

    items: Refs | None = None
    """A source like a task's items."""
    columns: Columns | None = None
    """As in a task."""
    where: Where = Field(default={})
    """As in a task."""
    count: int | None = Field(default=None, ge=1)
    """How many questions, or texts where it has no questions, the source must hold, before `first`."""
    first: int | None = Field(default=None, ge=1)
    """Use only this many questions, from the first on."""
    texts: Refs | None = None
    """A source of texts, in the column `text`."""
    topic: str = ""
    """Fills the header line of the questions, as in a task."""
    train_of: Name | None = None
    """Instead of `items`: the training items of this task, as its roles divide them."""


class SuiteAttack(Record):
    """One attack with its config; `plan` multiplies it by its seeds."""

    attack: Registered
    config: dict[str, Json] = Field(default={})
    seeds: int = Field(default=1, ge=1, le=1000)


class Suite(Record):
    """The tasks, corpora and attacks of a run."""

    schema_: Literal["robustness-gate/suite/v1"] = Field(alias="schema")
    id: Name
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    description: str
    hazard: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    """The task whose knowledge should be gone, or several: attacks train and select their settings in the form of
    each. Every task on which a policy sets a limit belongs here."""
    dev: str = ""
    """A source like a task's items, disjoint from them, for the hazard tasks that have no `roles`."""
    tasks: dict[Name, SuiteTask] = Field(min_length=1)
    corpora: dict[Name, SuiteCorpus] = Field(default={})
    attacks: tuple[SuiteAttack, ...] = Field(min_length=1)
    dtype: Dtype = "float32"
    checked: dict[Pinned, date | Literal["never"]] = Field(default={})
    """For each commit of a dataset on the hub, as OWNER/NAME@COMMIT: the day on which the hub was last seen to have
    it (`robustness-gate suites check-pins`), or `never`, where it was copied from a public source without asking."""

    @model_validator(mode="after")
    def _checks_its_own_commits(self) -> Suite:
        unused = sorted(
            self.checked.keys() - {f"{each['name']}@{each['revision']}" for each in map(HUB.match, self.refs) if each}
        )
        if unused:
            raise ValueError(f"'checked' has {unused[0]}, and no source of this suite is of that commit")
        return self

    @property
    def refs(self) -> tuple[str, ...]:
        """Every source that it names, in the order of the file, each once."""
        named = [each for task in self.tasks.values() for each in (task.items, task.held_out)]
        named += [each for corpus in self.corpora.values() for each in (corpus.items, corpus.texts)]
        flat = [one for each in (*named, self.dev) if each for one in ((each,) if isinstance(each, str) else each)]
        return tuple(dict.fromkeys(flat))

    @property
    def hazards(self) -> tuple[str, ...]:
        """The hazard tasks, the first first."""
        return (self.hazard,) if isinstance(self.hazard, str) else self.hazard
