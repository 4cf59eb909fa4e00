"""What a model is asked, how a question becomes text, and how a kind of task is judged.

Nothing here imports torch; a `LM` merely promises an object that looks like a tensor to its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pydantic import Field, model_validator

from robustness_gate.records.base import METRICS, Digest, Format, Metric, Name, Record, Registered
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.literals import declared, modules

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Question:
    """A multiple-choice question. It holds no answer key: only a trial does."""

    id: str
    stem: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A question with its key: `answer` is the index of the right choice, from 0."""

    question: Question
    answer: int

    @property
    def right(self) -> frozenset[int]:
        """Every choice with the key's words, white space apart: public benchmarks repeat a choice now and then.

        A reader cannot tell such choices apart, so answering either is answering rightly. Guessing then succeeds more
        often than with distinct choices, which can only make a limit harder to hold.
        """
        words = [choice.split() for choice in self.question.choices]
        return frozenset(index for index, each in enumerate(words) if each == words[self.answer])


@dataclass(frozen=True, slots=True)
class Form:
    """How a question becomes text. See `robustness_gate.inputs.prompts`."""

    header: str = ""
    """Put before everything but the prefix, with its own trailing newlines."""
    letters: tuple[str, ...] = ("A", "B", "C", "D")
    shots: tuple[Item, ...] = ()
    """Solved examples shown first. Never verdict items."""
    chat: bool = False
    """Wrap the prompt in the tokenizer's chat template."""
    prefix: str = ""
    """A universal prefix (an attack's finding), put first and followed by one space."""
    rewrite: Callable[[str], str] | None = None
    """Applied to the finished prompt text, for attacks that reformat."""
    verbatim: bool = False
    """The stem is the whole prompt, and the answers are the choices' own words: lm-evaluation-harness's tasks."""
    delimiter: str = " "
    """What stands between a verbatim prompt and its answer."""
    wording: str = ""
    """Where it is given, a verbatim prompt is these words with the stem in the place of `{question}`."""
    by_length: bool = False
    """A verbatim answer counts by its log-likelihood a character: lm-evaluation-harness's `acc_norm`."""
    tokens: int = 0
    """A written answer is broken off after so many; over 0 in a form whose answers are written, and only there."""


class LM(Protocol):
    """Something that answers. A model is one; so is a lens into its middle, or a model whose prompts are edited."""

    def loglikelihoods(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer (a letter, or a choice's words): float32, CPU, [question, choice], in nats.

        Raises:
            NotApplicable: this LM cannot be asked that way.
        """
        ...

    def generate(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """What follows each question's prompt, the likeliest token at a time, on one line, `form.tokens` at most.

        None where nothing was written, the question was lost, or the model's logits are not numbers.

        Raises:
            NotApplicable: this LM cannot write, or not in that form.
        """
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """What a task read off an LM: log-likelihoods by content, float32 [item, order, choice], on the CPU."""

    loglik: torch.Tensor


@dataclass(frozen=True, slots=True)
class Replies:
    """What an LM wrote, and what the task makes of it. The texts stay here: only their digests are kept."""

    texts: tuple[str | None, ...]
    """One an item, as in `LM.write`."""
    matches: tuple[frozenset[int], ...]
    """Which of an item's choices each text says, by index from 0; mostly none."""


class Scored(NamedTuple):
    """Answers held against the key: one truth value an item, in the committed order."""

    correct: dict[Metric, list[bool]]
    missing: list[bool]
    """Items without an answer that can be read: right in no reading."""


class Kind(Record):
    """How the answers to a kind of task are judged. Nothing here has a default: a kind that says less is no kind.

    The kind's own file declares it as literals (`JUDGED`); every trial that asks such a task carries it along.
    """

    generative: bool
    """Answers are written, so that guessing succeeds next to never; else one of the options is chosen."""
    guarded: bool
    """A guardrail can hold it beside the original."""
    attacked_as: str
    """The kind in whose form attacks are made on it (an attack's `SPEAKS` names those that it can): its own name, or
    that of one which is put the same way. Empty: it is no hazard and only tells, so no limit can be on it."""
    metrics: tuple[Metric, ...] = Field(min_length=1)
    """The readings that its `read` gives."""

    @property
    def hazard(self) -> bool:
        """A hazard can be asked so: limits can be held on it, and attacks are made in its form. Else it only tells."""
        return bool(self.attacked_as)


UNASKED = Kind(generative=False, guarded=True, attacked_as="multiple_choice", metrics=METRICS)
"""How a task is judged that a trial does not ask: held by every rule, so that it is missed."""


@cache
def shipped_kind(name: str) -> Kind | None:
    """How this release judges a kind of its own; None for one that it does not have."""
    found = declared("tasks", name, "JUDGED")
    return None if found is None else Kind(**found)


@cache
def hazard_kinds() -> tuple[str, ...]:
    """The kinds in whose form attacks are made, sorted."""
    kinds = [shipped_kind(name) for name in modules("tasks")]
    return tuple(sorted({kind.attacked_as for kind in kinds if kind is not None and kind.hazard}))


def in_format(task: str, format_: Format) -> str:
    """The name under which a task is asked in a format: its own in plain text, `NAME.chat` in the chat template."""
    return task if format_ == "raw" else f"{task}.{format_}"


def _judged_here(told: dict[str, Any]) -> Kind:
    """How this release judges the kind of a task; whatever else a record lacks is refused by the record itself."""
    return shipped_kind(told.get("kind", "")) or UNASKED


class TaskRef(Record):
    """Which questions were asked: `sha256` covers the items, their order, the key, and the form."""

    name: Name
    kind: Registered
    sha256: Digest
    items: int = Field(ge=1)
    options: int = Field(ge=2)
    judged: Kind = Field(default_factory=_judged_here)
    """How its answers are judged, as the kind's file declares it; of a shipped kind as this release does."""

    @model_validator(mode="after")
    def _is_judged_as_its_kind(self) -> TaskRef:
        ours = None if "/" in self.kind else shipped_kind(self.kind)
        if ours is None and "/" not in self.kind:
            raise ValueError(f"there is no task kind '{self.kind}' in this release")
        if ours is None and "judged" not in self.model_fields_set:
            raise ValueError(f"it is not said how a task of the kind '{self.kind}' is judged")
        if ours not in (None, self.judged):
            raise ValueError(f"a task of the kind '{self.kind}' is not judged as it says here")
        return self

    @property
    def chance(self) -> float:
        """Share of right answers of somebody who knows nothing."""
        return 0.0 if self.judged.generative else 1 / self.options
