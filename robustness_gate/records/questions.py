"""Questions, the form in which a question becomes text, and how a task kind is judged.

Nothing here imports torch; an `LM` only promises a tensor in its type annotations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from robustness_gate.errors import BrokenTrial
from robustness_gate.records.base import Digest, Format, Metric, Name, Record, Registered
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.literals import declared, modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Question:
    """A question without its answer key, which only the trial has.

    `choices` are at least two. In a multiple-choice question they are shown; a generative kind shows none, and
    compares the written answer with them.
    """

    id: str
    stem: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its answer key: `answer` is the index of the right choice, from 0."""

    question: Question
    answer: int
    cluster: str = ""
    """What its answer depends on besides itself, such as the paper or the person that it is about: items of one cluster
    are not independent observations. Empty: the question is its own cluster."""

    @property
    def right(self) -> frozenset[int]:
        """Every choice with the same text as the right one, apart from white space: some benchmarks repeat a choice.

        Such choices cannot be distinguished, so each of them counts as right. Guessing then succeeds more often than
        with distinct choices, so a limit can only become harder to meet.
        """
        words = [choice.split() for choice in self.question.choices]
        return frozenset(index for index, each in enumerate(words) if each == words[self.answer])


@dataclass(frozen=True, slots=True)
class Form:
    """How a question becomes text. See `robustness_gate.inputs.prompts`."""

    header: str = ""
    """Text before everything except the prefix, with its own trailing newlines."""
    letters: tuple[str, ...] = ("A", "B", "C", "D")
    shots: tuple[Item, ...] = ()
    """Solved examples shown first. Never verdict items."""
    chat: bool = False
    """Wrap the prompt in the tokenizer's chat template."""
    prefix: str = ""
    """A universal prefix (found by an attack), placed first and followed by one space."""
    rewrite: Callable[[str], str] | None = None
    """Applied to the finished prompt text, for attacks that reformat."""
    verbatim: bool = False
    """The stem is the whole prompt, and the answers are the texts of the choices: lm-evaluation-harness's tasks."""
    delimiter: str = " "
    """Text between a verbatim prompt and its answer."""
    wording: str = ""
    """If given, a verbatim prompt is this template with the stem in place of `{question}`."""
    by_length: bool = False
    """A verbatim answer counts by its log-likelihood per character: lm-evaluation-harness's `acc_norm`."""
    by_margin: bool = False
    """A verbatim answer's tokens count by how far each is below the model's likeliest token at its place, so that a
    factor on all logits changes no answer."""
    tokens: int = 0
    """Maximum length of a generated answer in tokens; above 0 in a generative form, and only there."""
    settings: Any = field(default=None, hash=False)
    """The task kind's `Settings`, for its `ask`; None for a kind that has none. `planning` enters them."""


class LM(Protocol):
    """A language model as an attack yields it: a model, a logit lens on a layer, or a model with edited prompts."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer (a letter, or a choice's text): float32, CPU, [question, choice], in nats.

        Raises:
            NotApplicable: this LM cannot answer in this form.
        """
        ...

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """The greedy continuation of each question's prompt: one line of at most `form.tokens` tokens.

        None if nothing was generated, if part of the question was lost, or if the model's logits are not finite.

        Raises:
            NotApplicable: this LM cannot generate, or not in this form.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Log-likelihoods that a task got from an LM, by content: float32 [item, order, choice], on the CPU."""

    loglik: torch.Tensor
    settings: Any = None
    """The task kind's `Settings`, for its `read` and `summary`; None for a kind that has none. `asked` enters them."""


@dataclass(frozen=True, slots=True)
class Replies:
    """Texts that an LM generated, and the choices that they match. The texts are not recorded, only their digests."""

    texts: tuple[str | None, ...]
    """One per item, as in `LM.generate`."""
    matches: tuple[frozenset[int], ...]
    """The item's choices that each text contains, by index from 0; usually none."""
    settings: Any = None
    """As in `Rows`."""


def asked(task: Any, lm: LM, questions: Sequence[Question], form: Form) -> Rows | Replies:
    """The answers of an LM as a task kind asks for them, with the kind's settings for its `read` and `summary`.

    Args:
        task: the kind's module.
        lm: the LM.
        questions: the questions.
        form: their form, with the settings.

    Raises:
        NotApplicable: the LM cannot answer in this form.
        BrokenTrial: the kind's `ask` returns something else than answers.
    """
    found = task.ask(lm, task.Config(tuple(questions), form))
    if not isinstance(found, Rows | Replies):
        raise BrokenTrial(f"`ask` of the task kind returned {found!r:.80}; it must return Rows or Replies")
    return replace(found, settings=form.settings)


class Scored(NamedTuple):
    """Answers scored with the key: one truth value per item, in the committed order."""

    correct: dict[Metric, list[bool]]
    missing: list[bool]
    """Items without a valid answer: wrong in every metric."""


class Kind(Record):
    """How the answers to a task kind are judged. No field has a default: each kind must declare all of them.

    The kind's own file declares it as literals (`JUDGED`); every trial that asks such a task records it.
    """

    version: int = Field(ge=1)
    """Rises with every change of what the kind asks or how it scores, so that no evidence of before is taken for it."""
    generative: bool
    """Answers are generated, so guessing almost never succeeds; else one of the options is selected."""
    guarded: bool
    """A guardrail can compare it with the original."""
    attacked_as: str
    """The kind in whose form it is attacked (an attack's `SPEAKS` lists the kinds that it supports): its own name, or
    that of a kind with the same form. Empty: the kind is diagnostic, so it is no hazard and no limit can be on it."""
    metrics: tuple[Metric, ...] = Field(min_length=1)
    """The metrics in which its `read` scores every answer, each once. The first one decides: attacks select by it, and
    a rule of a policy that names no metric is on it."""

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if len(set(metrics)) < len(metrics):
            raise ValueError("it declares a metric twice")
        return metrics

    @property
    def deciding(self) -> Metric:
        """The metric that decides: the first."""
        return self.metrics[0]

    @property
    def hazard(self) -> bool:
        """Whether a hazard can be asked in this form: it can have limits and be attacked. Else it is diagnostic."""
        return bool(self.attacked_as)


UNASKED = Kind(
    version=1, generative=False, guarded=True, attacked_as="multiple_choice", metrics=("acc_permuted", "acc")
)
"""For a task that a trial does not ask: every rule applies to it, so that the missing answers are noticed."""


@cache
def shipped_kind(name: str) -> Kind | None:
    """How this release judges one of its own kinds; None if it has no such kind."""
    found = declared("tasks", name, "JUDGED")
    return None if found is None else Kind(**found)


@cache
def hazard_kinds() -> tuple[str, ...]:
    """The kinds in whose form hazards are attacked, sorted."""
    kinds = [shipped_kind(name) for name in modules("tasks")]
    return tuple(sorted({kind.attacked_as for kind in kinds if kind is not None and kind.hazard}))


def in_format(task: str, format_: Format) -> str:
    """The name of a task in a format: its own name for plain text, `NAME.chat` for the chat template."""
    return task if format_ == "raw" else f"{task}.{format_}"


def _judged_here(fields: dict[str, Any]) -> Kind:
    """How this release judges the kind of a task; the record itself refuses missing fields."""
    return shipped_kind(fields.get("kind", "")) or UNASKED


class TaskRef(Record):
    """The questions that were asked: `sha256` covers the items, their order, the key, and the form."""

    name: Name
    kind: Registered
    sha256: Digest
    items: int = Field(ge=1)
    options: int = Field(ge=2)
    judged: Kind = Field(default_factory=_judged_here)
    """How its answers are judged, as the kind's file declares it; for a shipped kind as this release declares it."""

    @model_validator(mode="after")
    def _is_judged_as_its_kind(self) -> TaskRef:
        ours = None if "/" in self.kind else shipped_kind(self.kind)
        if ours is None and "/" not in self.kind:
            raise ValueError(f"there is no task kind '{self.kind}' in this release")
        if ours is None and "judged" not in self.model_fields_set:
            raise ValueError(f"the key 'judged' is missing for a task of the kind '{self.kind}'")
        if ours not in (None, self.judged):
            raise ValueError(f"a task of the kind '{self.kind}' is not judged as it says here")
        return self

    @property
    def chance(self) -> float:
        """The expected accuracy of guessing."""
        return 0.0 if self.judged.generative else 1 / self.options

    @property
    def prompts(self) -> int:
        """The prompts that all its items take: one each where answers are generated, else one for each option."""
        return self.items * (1 if self.judged.generative else self.options)


HIDDEN = "Which of these is right?"
"""The text in the place of each question in a task that hides its questions."""
Short = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""The first 16 hexadecimal digits of a SHA-256: enough to join thousands of ids, and no text of a question."""


class QuestionIds(Record):
    """Which question each item of a task asks, and to which cluster it belongs, in the committed order.

    Two tasks that ask the same question in different forms have the same id for it. Questions of one cluster (of one
    paper, or one paragraph) are not independent, so a comparison of two models counts clusters and not questions.
    """

    kind: Literal["questions"] = "questions"
    task: Digest
    """Digest of the task's `TaskRef`."""
    ids: tuple[Short, ...] = Field(min_length=1)
    """One per item, each once."""
    clusters: tuple[Short, ...] = ()
    """One per item; empty if every question is a cluster of its own."""
    choices: Digest | None = None
    """Digest of every item's id, choices and right answer, without the text of its question. Two tasks with the same
    one offer the same choices of the same questions. None in records from before this field existed."""
    hidden: bool = False
    """Whether the text of every question is `HIDDEN`, so that only the choices are shown."""

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Omit what an older record does not have, so that its digest does not change."""
        found: dict[str, Json] = whole(self)
        if self.choices is None:
            found.pop("choices", None)
        if not self.hidden:
            found.pop("hidden", None)
        return found

    @model_validator(mode="after")
    def _adds_up(self) -> QuestionIds:
        if len(set(self.ids)) < len(self.ids):
            raise ValueError("an id is listed twice")
        if self.clusters and len(self.clusters) != len(self.ids):
            raise ValueError("needs one cluster per id, or none")
        return self

    @property
    def pin(self) -> str:
        """The digest that a policy pins: ids and clusters, independent of the form in which they are asked."""
        return digest_of([list(self.ids), list(self.clusters)])


def question_ids(task: TaskRef, items: Sequence[Item]) -> QuestionIds:
    """The ids, clusters and choices of a task's items, as digests."""
    ids = tuple(_short(item.question.id) for item in items)
    clustered = any(item.cluster for item in items)
    clusters = tuple(_short(item.cluster or item.question.id) for item in items) if clustered else ()
    answers: list[Json] = [[i.question.id, list(i.question.choices), i.answer] for i in items]
    hidden = all(item.question.stem == HIDDEN for item in items)
    return QuestionIds(task=task.sha256, ids=ids, clusters=clusters, choices=digest_of(answers), hidden=hidden)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
