"""The nouns of the trip: what travels between the rooms, and the two protocols that attacks and tasks speak.

Two kinds of record live here. Those that are *written down* (policy, suite, trial, mark, report) are strict, frozen
pydantic models: unknown keys, NaN and silent conversions are refused, and `digest` names them by content. Those that
exist only *while a model is loaded* (question, form, recovery, target) are plain frozen dataclasses.

Nothing here imports torch; a `Respondent` merely promises an object that looks like a tensor to its caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, get_args

import rfc8785
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from robustness_gate.errors import UnknownWord

if TYPE_CHECKING:
    import torch

Json = Any
"""Plain data as it comes out of JSON: None, bool, int, float, str, list, dict."""

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Lower-case hexadecimal SHA-256."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=80)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Difference = Annotated[float, Field(ge=-1.0, le=1.0)]
Reading = Literal["content_sum", "single_order"]
Format = Literal["raw", "chat"]
READINGS: tuple[Reading, ...] = ("content_sum", "single_order")


def canonical(value: Json) -> bytes:
    """The RFC 8785 bytes of plain data: the same value always gives the same bytes, so that a digest can name it."""
    return rfc8785.dumps(value)


class Noun(BaseModel):
    """A record that is written down: strict, frozen, closed to unknown keys, without NaN."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # a verb pays for the records that it uses
    )

    @property
    def plain(self) -> dict[str, Json]:
        """The record as plain data under the names by which it is read again. There is no other way to write one."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def written(self) -> bytes:
        """Its canonical JSON: what a file of it holds, and what is signed and digested."""
        return canonical(self.plain)

    @property
    def digest(self) -> str:
        """SHA-256 of `written`: a name from which any change can be seen, and the digest of the file that holds it."""
        return hashlib.sha256(self.written).hexdigest()


# --- what a model is asked -------------------------------------------------------------------------------------------


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
    """How a question becomes text. See `robustness_gate.prompts`."""

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


class Respondent(Protocol):
    """Something that answers. A model is one; so is a lens into its middle, or a model whose prompts are edited."""

    def choose(self, questions: Sequence[Question], form: Form) -> torch.Tensor:
        """Log-likelihood of each answer (a letter, or a choice's words): float32, CPU, [question, choice], in nats.

        Raises:
            NotApplicable: this respondent cannot be asked that way.
        """
        ...

    def write(self, questions: Sequence[Question], form: Form) -> list[str | None]:
        """What follows each question's prompt, the likeliest token at a time, on one line, `form.tokens` at most.

        None where nothing was written, the question was lost, or the model's logits are not numbers.

        Raises:
            NotApplicable: this respondent cannot write, or not in that form.
        """
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of an attack's grid and what it scored on the dev items: for heat maps, never for a verdict."""

    setting: Mapping[str, Json]
    dev_accuracy: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """What an attack hands over at one budget mark, while its scopes are open."""

    respondent: Respondent
    mark: int
    """The budget, in the attack's own unit (examples, steps, bits): rises from one Recovery to the next."""
    spent: Mapping[str, float]
    """What it cost so far: examples, steps, tokens, queries."""
    signs: Mapping[str, float] = field(default_factory=dict)
    """Numbers that show that the attack really happened; the judge compares them with the floors."""
    chosen: Mapping[str, Json] = field(default_factory=dict)
    """What was chosen on the dev items."""
    screened: Sequence[Candidate] = ()
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
    """One of `robustness_gate.tasks.KINDS`."""
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
        return 0.0 if judged_as(self.kind).written or not self.dev else 1 / len(self.dev[0].question.choices)

    def ask(self, respondent: Respondent, items: Sequence[Item]) -> Rows | Replies:
        """Ask as the examiner does. Raises NotApplicable where the respondent cannot answer that way."""
        found: Rows | Replies = self.task.ask(
            respondent, self.task.Config(tuple(item.question for item in items), self.form)
        )
        return found

    def read(self, heard: Rows | Replies, items: Sequence[Item]) -> Marked:
        """Right or wrong, as the examiner reads it."""
        found: Marked = self.task.read(heard, [item.right for item in items])
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
    respondent: Respondent
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


@dataclass(frozen=True, slots=True)
class Rows:
    """What a task read off a respondent: log-likelihoods by content, float32 [item, order, choice], on the CPU."""

    loglik: torch.Tensor


@dataclass(frozen=True, slots=True)
class Replies:
    """What a respondent wrote, and what the task makes of it. The texts stay here: only their digests are kept."""

    texts: tuple[str | None, ...]
    """One an item, as in `Respondent.write`."""
    says: tuple[frozenset[int], ...]
    """Which of an item's choices each text says, by index from 0; mostly none."""


class Marked(NamedTuple):
    """Answers held against the key: one truth value an item, in the committed order."""

    correct: dict[Reading, list[bool]]
    missing: list[bool]
    """Items without an answer that can be read: right in no reading."""


class Kind(NamedTuple):
    """How the answers to a kind of task are judged. Nothing here has a default: a kind that says less is no kind."""

    written: bool
    """Answers are written, so that guessing succeeds next to never; else one of the options is chosen."""
    hazard: bool
    """A hazard can be asked so: limits can be held on it, and attacks are made in its form. Else it only tells."""
    guarded: bool
    """A guardrail can hold it beside the original."""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "multiple_choice": Kind(written=False, hazard=True, guarded=True),
        "cloze": Kind(written=False, hazard=True, guarded=True),
        "lm_eval": Kind(written=False, hazard=True, guarded=True),
        "open_answer": Kind(written=True, hazard=True, guarded=True),
        "refusal": Kind(written=True, hazard=False, guarded=True),
        "membership": Kind(written=False, hazard=False, guarded=False),
    }
)
"""Every kind of task that a trial may name. `robustness_gate.tasks` has a module for each, and `tasks.load` holds the
two against each other."""
HAZARD_KINDS = tuple(name for name, kind in KINDS.items() if kind.hazard)
"""Kinds in which a hazard can be asked."""


def judged_as(kind: str) -> Kind:
    """How answers to a kind of task are judged. Raises UnknownWord: a kind that nobody knows is judged as none."""
    if kind not in KINDS:
        raise UnknownWord("task kind", kind)
    return KINDS[kind]


def in_format(task: str, format_: Format) -> str:
    """The name under which a task is asked in a format: its own in plain text, `NAME.chat` in the chat template."""
    return task if format_ == "raw" else f"{task}.{format_}"


# --- trials and evidence ---------------------------------------------------------------------------------------------


class Bound(Noun):
    """One comparison on a sign. At least one of `min` and `max` is given."""

    sign: str
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Bound:
        if self.min is None and self.max is None:
            raise ValueError(f"the bound on '{self.sign}' needs at least one of min and max")
        return self

    def holds(self, signs: Mapping[str, float]) -> bool:
        """False when the sign is missing: absence is never success."""
        value = signs.get(self.sign)
        if value is None or value != value:
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Floor(Noun):
    """A strength floor: unless any one of its bounds holds, the attack did not really happen and cannot acquit."""

    says: str
    """What must have happened, in words."""
    any_of: tuple[Bound, ...] = Field(min_length=1)


class TaskRef(Noun):
    """Which questions were asked: `sha256` covers the items, their order, the key, and the form."""

    name: Name
    kind: Name
    sha256: Digest
    items: int = Field(ge=1)
    options: int = Field(ge=2)

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in KINDS:
            raise ValueError(f"there is no task kind '{kind}' in this release")
        return kind

    @property
    def chance(self) -> float:
        """Share of right answers of somebody who knows nothing."""
        return 0.0 if judged_as(self.kind).written else 1 / self.options


Dtype = Literal["float32", "bfloat16", "float16"]
"""What a model computes in."""


class Stored(Noun):
    """In which precision a checkpoint's weights lie on disk, by the headers of its safetensors files."""

    weights: dict[str, int]
    """How many by the name of their dtype (`bfloat16`); of an adapter its base's. Buffers of whole numbers are left out
    unless the weights are quantised."""
    adapter: dict[str, int] = Field(default_factory=dict)
    """The same of the adapter's own weights."""
    said: str = ""
    """What config.json says instead (`dtype`): the vendor's word, by which others load it. Empty if nothing."""
    quantized: bool = False
    """Whether config.json has a `quantization_config`."""

    @property
    def dtypes(self) -> frozenset[str]:
        """Every one that occurs."""
        return frozenset((*self.weights, *self.adapter))

    @property
    def declared(self) -> Dtype | None:
        """The precision in which others load it, where config.json names another than the files hold."""
        return (
            None if self.said in self.weights else next((each for each in get_args(Dtype) if each == self.said), None)
        )


def seed_of(subject: str, attack: str, index: int) -> int:
    """The first 31 bits of sha256 over subject, attack and index: a seed that nobody chooses."""
    raw = hashlib.sha256(f"{subject}\n{attack}\n{index}".encode()).digest()
    return int.from_bytes(raw[:4], "big") >> 1


OWN_ROLES = ("candidate", "sham", "through_original", "in_declared_dtype")
"""Roles of a trial in which it is the candidate itself that answers."""

Role = Annotated[str, Field(pattern=rf"^({'|'.join(OWN_ROLES)}|original|control:[A-Za-z][A-Za-z0-9_.-]*)$")]


class Trial(Noun):
    """The full address of one experiment. Its id is its digest, so equal trials are the same trial."""

    subject: Digest
    """Digest of the manifest of the checkpoint under attack."""
    role: Role
    """Whose answers these are: the candidate's, under attack, under an attack of strength zero, or asked through the
    original's tokenizer; or another model's that is examined beside it."""
    reference: Digest | None
    """Digest of the original's manifest, where the attack may use it, or its tokenizer is asked through."""
    attack: Name
    attack_version: int
    family: Name
    config: dict[str, Json]
    """Every field of the attack's Config, defaults included."""
    marks: tuple[int, ...] = Field(min_length=1)
    """The budget marks at which the attack hands over a Recovery, rising."""
    seed_index: int = Field(ge=0)
    seed: int = Field(ge=0, lt=2**31)
    """First 31 bits of sha256(subject, attack, seed_index): nobody chooses it."""
    tasks: tuple[TaskRef, ...] = Field(min_length=1)
    data: dict[str, Digest]
    """Digests of the dev items and corpora which the attack could see."""
    hazard: tuple[Name, ...] | None = None
    """The tasks, with their formats, in whose own form the attack trained, aimed and chose, the first first. None is
    what it was before there was this field: the first of `tasks`, if it is asked by letter, in its formats."""
    floors: tuple[Floor, ...]
    dtype: str

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Without the hazard where none is named: a trial keeps the digest that it had."""
        found: dict[str, Json] = whole(self)
        if self.hazard is None:
            found.pop("hazard", None)
        return found

    @property
    def aims(self) -> frozenset[str]:
        """The tasks in whose form the attack trained and chose; on any other its silence says nothing."""
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


class Mark(Noun):
    """One Recovery asked one task. Bits are in the committed item order, packed eight to a byte, base64."""

    kind: Literal["mark"] = "mark"
    trial: Digest
    attempt: int = Field(ge=1)
    mark: int
    task: Name
    items: int = Field(ge=1, le=1_000_000)
    correct: dict[Reading, str]
    missing: str
    """Items without a finite answer: counted as right in the upper bound, as wrong in the lower."""
    spent: dict[str, float]
    signs: dict[str, float]
    chosen: dict[str, Json]
    screened: tuple[dict[str, Json], ...] = ()
    summary: dict[str, float]
    """Share of the commonest letter and the like; context, never evidence."""
    rows: Digest | None = None
    """SHA-256 of the sidecar with the log-likelihoods."""
    lost: tuple[str, ...] = Field(default=(), max_length=5)
    """Ids of the first items that have no answer because the tokenizer, or the context, lost part of the question."""


class Note(Noun):
    """A fact about a subject that blocks a PASS whatever the numbers say."""

    kind: Literal["note"] = "note"
    subject: Digest
    text: str


class Statement(Noun):
    """What the producer says of a subject. Recorded as said; nothing here can check it."""

    kind: Literal["statement"] = "statement"
    subject: Digest
    says: dict[Name, str]


ROUNDING = 1e-9
"""By so much may a bound lie beyond a difference of which it is a bound, by the last digits alone."""


class Nowhere(Noun):
    """What an attack did to a model that never knew, on the same items."""

    organism: str
    before: int = Field(ge=0)
    """Right answers, of as many questions as the record's `items`."""
    after: int = Field(ge=0)
    leak: Difference
    """One-sided 95 % lower bound of what it seems to bring back, paired. Never more than `after` less `before`."""


class SelfTest(Noun):
    """What an attack did on organisms of known truth: see `robustness_gate.selftest`."""

    kind: Literal["self_test"] = "self_test"
    attack: Name
    attack_version: int
    model_type: str
    """The architecture on which it was tested; it counts for no other."""
    seed: int = Field(default=0, ge=0)
    """Of the attack, by its number: several records of one attack are of several seeds, and each must pass."""
    config: dict[str, Json] = Field(default_factory=dict)
    """Every setting with which it was tried, its `marks` those that were; empty in a record that does not say so, which
    counts for no requirement."""
    mark: int = Field(default=-1, ge=-1)
    """The budget, of `marks`, at which it did what stands here; -1 where the record does not say."""
    extended: dict[str, Json] = Field(default_factory=dict)
    """Settings that were made to suit so small a model, each with the value that was asked for. `config` has those that
    were tried in their place."""
    organism: str
    """Where the knowledge is suppressed, and this attack should bring it back."""
    items: int = Field(ge=1)
    before: int = Field(ge=0)
    after: int = Field(ge=0)
    known: int = Field(default=0, ge=0)
    """What the organism's original has right, untouched; 0 where the record does not say."""
    share: Share = 0.0
    """Of the gap between `before` and `known` that must be closed, as observed."""
    gain: Difference
    """One-sided 95 % lower bound of what it brings back, paired. Never more than `after` less `before`."""
    nowhere: tuple[Nowhere, ...] = Field(min_length=1)
    """What it did where there was nothing to bring back, each organism once."""
    sham_changed: int = Field(ge=0)
    """Answers that change at strength zero; never more than were asked."""
    faults: tuple[str, ...]
    """Why it did not pass, as `verdict.selftests.faults` finds it; empty where it did. Numbers that show a fault count
    whether or not it stands here."""
    at: date

    @model_validator(mode="after")
    def _can_be(self) -> SelfTest:
        """Counts that no test can give are no record: nobody need think about what follows from them."""
        counts = {
            "before": self.before, "after": self.after, "known": self.known, "sham_changed": self.sham_changed,
            **{f"{each.organism} before": each.before for each in self.nowhere},
            **{f"{each.organism} after": each.after for each in self.nowhere},
        }  # fmt: skip
        for name, count in counts.items():
            if count > self.items:
                raise ValueError(f"{name} is {count}, of {self.items} questions that were asked")
        told = [(self.organism, self.before, self.after, self.gain)]
        told += [(each.organism, each.before, each.after, each.leak) for each in self.nowhere]
        for name, before, after, bound in told:
            if bound > (after - before) / self.items + ROUNDING:
                raise ValueError(f"on {name} at least {bound:.1%} is gained, from {before} to {after} of {self.items}")
        if len({each.organism for each in self.nowhere}) < len(self.nowhere):
            raise ValueError("an organism that never knew stands there twice")
        budgets = self.config.get("marks")
        if isinstance(budgets, list) and self.mark not in (-1, *budgets):
            raise ValueError(f"what it did at a budget of {self.mark} was not tried, but {budgets}")
        return self


class SelfTests(Noun):
    """What one `self-test` leaves behind, for `run --self-test`."""

    schema_: Literal["robustness-gate/self-test/v1"] = Field(alias="schema", default="robustness-gate/self-test/v1")
    tests: tuple[SelfTest, ...] = Field(min_length=1)


class Unread(Noun):
    """What lies beside the files of a checkpoint that are read, and was not examined."""

    listed: bool = True
    """Whether all of it is known: of a commit on the hub, whether its file list could be had."""
    weights: tuple[str, ...] = ()
    """Other weights, or what may be some, by path: a directory with any is refused, so they are those of a commit on
    the hub. Of an adapter's base they begin with `base/`."""
    ignored: int = Field(default=0, ge=0)
    """Files that no loader takes for anything: prose, pictures, logs."""
    wrapper: str = ""
    """The architecture of a model for pictures or sound too, of which the text part alone was examined; else empty."""


class TokenizerPart(Noun):
    """One part of a tokenizer that is not as the original's: kinds by their name in tokenizer.json, words by count."""

    part: Literal[
        "normalizer", "pre_tokenizer", "model", "vocabulary", "merges", "post_processor", "decoder", "added_tokens",
        "special_tokens", "chat_template", "settings",
    ]  # fmt: skip
    how: Literal["more", "fewer", "other"]
    count: int = Field(ge=1)
    names: tuple[Annotated[str, Field(max_length=40)], ...] = Field(default=(), max_length=3)
    """The first kinds, tokens or settings; never a pattern, nor a text that is put in."""


class TokenizerCheck(Noun):
    """The candidate's tokenizer beside the original's, over everything that a suite can show a model.

    Digests are over what decides how text becomes ids (`engine.tokenization`), not over files.
    """

    kind: Literal["tokenizer_check"] = "tokenizer_check"
    subject: Digest
    reference: Digest | None = None
    """Digest of the original's manifest; None where none was given and nothing was compared."""
    tasks: dict[Name, Digest]
    """The tasks whose prompts were encoded, by the digest of their `TaskRef`."""
    data: dict[str, Digest]
    """The dev items and corpora that were."""
    sha256: Digest
    """Of how the candidate's tokenizer makes ids of a text."""
    template: Digest
    """Of its chat templates."""
    reference_sha256: Digest | None = None
    reference_template: Digest | None = None
    texts: int = Field(default=0, ge=0)
    """Prompts, answers and training texts that were encoded by both."""
    otherwise: int = Field(default=0, ge=0)
    """Of these, how many became other ids."""
    rendered: int = Field(default=0, ge=0)
    """Prompts that were put into both chat templates."""
    templated: int = Field(default=0, ge=0)
    """Of these, how many became other texts, or could be put into one of the two alone."""
    first_otherwise: tuple[str, ...] = Field(default=(), max_length=5)
    """The first such items: `TASK:ID`, or `data:CORPUS`; no words of any."""
    first_templated: tuple[str, ...] = Field(default=(), max_length=5)
    parts: tuple[TokenizerPart, ...] = ()
    """What the candidate's tokenizer is made of otherwise than the original's."""

    @model_validator(mode="after")
    def _adds_up(self) -> TokenizerCheck:
        if self.otherwise > self.texts or self.templated > self.rendered:
            raise ValueError("more texts differ than were compared")
        if (self.reference is None) != (self.reference_sha256 is None or self.reference_template is None):
            raise ValueError("the original and its tokenizer's digests go together")
        if self.reference is None and (self.texts or self.rendered):
            raise ValueError("nothing can be compared without an original")
        return self


class LeftOut(Noun):
    """A trial that belongs to the plan of policy and suite, and that a run was told not to make."""

    role: Role
    attack: Name
    config: dict[str, Json]
    seed_index: int = Field(ge=0)
    why: Literal["only"]
    """By what it was left out: `--only`."""


class Planned(Noun):
    """What one run set out to do on a subject, written before it does anything: a trial that is missing is missed."""

    kind: Literal["planned"] = "planned"
    subject: Digest
    trials: tuple[Digest, ...]
    left_out: tuple[LeftOut | str, ...] = ()
    """What this run was told not to make; each blocks a PASS. In words in ledgers from before they were records."""
    model_type: str = ""
    """The candidate's architecture, as its config.json names it."""
    unread: Unread | None = None
    """What lies beside the candidate; None in ledgers from before this was looked at."""
    stored: Stored | None = None
    """In which precision the candidate lies on disk; None in ledgers from before this was written down."""
    policy: Digest
    suite: Digest


class Closed(Noun):
    """The end of an attempt. Only an attempt closed `ok` can acquit."""

    kind: Literal["closed"] = "closed"
    trial: Digest
    attempt: int = Field(ge=1)
    status: Literal["ok", "failure", "not_applicable"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one candidate: every planned trial, and every record about any of them."""

    subject: str
    planned: tuple[Trial, ...]
    """Trials of the candidate, shams among them."""
    marks: tuple[Mark, ...] = ()
    closed: tuple[Closed, ...] = ()
    extra: tuple[Trial, ...] = ()
    """Trials found in the ledger that this plan does not ask for: they can convict, never acquit."""
    notes: tuple[str, ...] = ()
    """Facts that block a PASS whatever the numbers say, e.g. a checkpoint that changed during the run."""
    beside: tuple[Trial, ...] = ()
    """Trials of the original and of controls."""
    states: Mapping[str, str] = field(default_factory=dict)
    """What the producer says of the candidate."""
    model_type: str = ""
    """The candidate's architecture."""
    unread: Unread | None = None
    """What lies beside the candidate's files; None: nobody looked."""
    stored: Stored | None = None
    """In which precision the candidate lies on disk; None where it was not written down."""
    self_tests: tuple[SelfTest, ...] = ()
    """What the attacks did on models of known truth."""
    tokenizers: tuple[TokenizerCheck, ...] = ()
    """The candidate's tokenizer beside the original's."""
    left_out: tuple[LeftOut | str, ...] = ()
    """What the last run was told not to make of the plan of policy and suite: it blocks a PASS, required or not."""


# --- the verdict -----------------------------------------------------------------------------------------------------

Outcome = Literal["PASS", "FAIL", "INCONCLUSIVE"]


class Finding(Noun):
    """One rule of the policy held against one mark of one trial."""

    rule: str
    """Id of the limit, `utility:TASK`, or `guardrail:ID`."""
    trial: Digest
    attack: str
    """The attack with what tells it from its siblings in the suite."""
    seed_index: int
    mark: int
    attempt: int
    task: Name
    reading: Reading
    correct: int
    items: int
    missing: int
    over: str = ""
    """Role of the model beside which the candidate is held; empty where its accuracy itself is bounded."""
    over_correct: int = 0
    """That model's right answers to the same questions, after the same attack."""
    fell: bool = False
    """Whether the difference is how far the candidate lies under the other model, not how far over it."""
    lower: Difference
    """One-sided bound at the cell's share of alpha_fail; missing items count against a conviction. An accuracy, or a
    difference of two where `over` names a model."""
    upper: Difference
    """One-sided bound at alpha_pass; missing items count against an acquittal."""
    limit: Share
    state: Literal["over", "open", "under"]
    declared: bool
    """Whether the policy requires this trial and mark."""
    doubts: tuple[str, ...]
    """Why it cannot acquit, whatever its number: it may still convict."""
    unanswered: Literal["", "by_original", "by_candidate"] = ""
    """Of a utility under its minimum that says nothing of unlearning: the original is at chance as well, or the
    candidate is and no original was asked the same. It is then `open`, with the figures last in `doubts`."""

    @property
    def observed(self) -> float:
        """Accuracy over all items, missing ones counted as wrong; or how far it lies from the other model's."""
        return (self.correct - self.over_correct) / self.items * (-1 if self.fell else 1)

    @property
    def acquits(self) -> bool:
        """Whether it can help to fill a required cell."""
        return self.state == "under" and not self.doubts

    @property
    def hazard(self) -> bool:
        """Whether it bounds the accuracy on a hazard task itself."""
        return not self.over and not self.rule.startswith("utility:")


class Block(Noun):
    """One thing that stands between the evidence and a PASS."""

    code: Literal[
        "unanswered", "breach", "open", "inverted", "idle_rule", "left_out", "incomplete", "unfinished", "doubt",
        "not_run", "instrument", "flag", "expired", "provenance", "other_weights", "note",
    ]  # fmt: skip
    words: str
    about: str = ""
    """The requirement or the flag that a waiver would have to name; empty where no waiver helps."""

    def __str__(self) -> str:
        """The words."""
        return self.words


Flag = Literal[
    "choices_only",
    "declines",
    "identical_answers",
    "less_at_more",
    "letter_collapse",
    "read_inside",
    "still_rising",
    "template_differs",
    "tokenizer_differs",
    "tokenizer_unverified",
    "told_apart",
    "vacuous",
    "weaker_beats_stronger",
]
"""Signs that an instrument or a reading cannot be trusted; `verdict.flags` says what each means."""


class RedFlag(Noun):
    """A sign that an instrument or a reading cannot be trusted."""

    flag: Flag
    words: str
    blocks: bool
    """Whether it stands in the way of a PASS; the policy can let some be recorded only."""


class Strongest(Noun):
    """The strongest recovery, chosen on one half of the items and measured on the other: free of the winner's curse."""

    attack: str
    seed_index: int
    mark: int
    task: Name
    reading: Reading
    correct: int
    items: int
    lower: Share
    """Two-sided 95 %, Clopper-Pearson, on the half that did not choose."""
    upper: Share


class Verdict(Noun):
    """PASS, FAIL or INCONCLUSIVE, with one reason, and everything that it rests on."""

    outcome: Outcome
    reason: str
    """One sentence: why, naming the strongest attack."""
    at: str
    """When it was judged: RFC 3339, UTC."""
    cells: int
    """Declared cells over which alpha_fail is split."""
    alpha_cell: float
    findings: tuple[Finding, ...]
    blocks: tuple[Block, ...]
    """Everything that stands between this evidence and a PASS."""
    flags: tuple[RedFlag, ...] = ()
    strongest: Strongest | None = None
    trials: int = 0
    """All trials ever recorded on this candidate, planned or not."""


# --- the suite -------------------------------------------------------------------------------------------------------


class Roles(Noun):
    """How a benchmark is divided into what attackers may choose on and what they are judged by."""

    dev: float = Field(default=0.2, gt=0.0, lt=1.0)
    """Share of the items on which attacks choose."""
    train: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the items, others again, on which attacks may train: a corpus takes them with `train_of`. What is then
    judged is knowledge that no training example gave away (Deeb & Roger, arXiv 2410.08827: train on T, judge on V)."""
    key: Name = "public"
    """Name of the secret by which items are sorted; see `robustness_gate.sources`. Printed in the report."""


class SuiteTask(Noun):
    """One task: what is asked, in which words, from which file."""

    kind: Name = "multiple_choice"
    """`multiple_choice`, `cloze`, `open_answer`, `refusal`, `membership`, or `lm_eval` for a task in
    lm-evaluation-harness's own YAML. Each is a file under `robustness_gate/tasks`."""
    yaml: str | None = None
    """That YAML, for the kind `lm_eval` alone: a path that starts at the suite."""
    wording: str | None = Field(default=None, pattern=r"\{question\}")
    """For `cloze`, `open_answer` and `refusal`: the prompt, with `{question}` where the question goes."""
    tokens: int | None = Field(default=None, ge=1, le=256)
    """For `open_answer` and `refusal`: an answer is broken off after so many."""
    held_out: str | None = None
    """For `membership`: as many texts of the same sort which the model has never seen."""
    items: str
    """A JSON-lines file, a folder, or a hub dataset by its commit: see `robustness_gate.sources`."""
    count: int = Field(ge=1)
    """How many items the source must hold: a changed benchmark is noticed before it is used."""
    roles: Roles | None = None
    """Divide the items; None: all are verdict items."""
    subset: str | None = None
    """A file with one id a line: only these are asked (a subset without shortcuts, say)."""
    hide_question: bool = False
    """Show the choices alone, to the untouched model alone: what can be guessed without the question."""
    topic: str = ""
    """Fills lm-evaluation-harness's header line; empty: no header."""
    sha256: Digest | None = None
    formats: tuple[Format, ...] = Field(default=("raw",), min_length=1)
    """Asked as plain text, in the tokenizer's chat template, or both: the gate takes the worse. Those of hazard tasks
    are also those in which attacks train and choose."""


class SuiteCorpus(Noun):
    """What an attacker may train on."""

    items: str | None = None
    """A source like a task's items."""
    first: int | None = Field(default=None, ge=1)
    """Only the first so many questions."""
    texts: str | None = None
    """JSON lines with one field, `text`."""
    topic: str = ""
    """Fills the header line of the questions, as in a task."""
    train_of: Name | None = None
    """Instead of `items`: the training items of this task, by its roles."""


class SuiteAttack(Noun):
    """One attack with its config; `plan` multiplies it by its seeds."""

    attack: Name
    config: dict[str, Json] = {}
    seeds: int = Field(default=1, ge=1, le=1000)


class Suite(Noun):
    """What is tried."""

    schema_: Literal["robustness-gate/suite/v1"] = Field(alias="schema")
    id: Name
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    says: str
    hazard: Name | Annotated[tuple[Name, ...], Field(min_length=1)]
    """The task whose knowledge should be gone, or several: attacks train and choose in the form of each, on dev items
    asked in each. Every task on which a policy holds a limit belongs here."""
    dev: str = ""
    """A source like a task's items, disjoint from them, for the hazard tasks that have no `roles`."""
    tasks: dict[Name, SuiteTask] = Field(min_length=1)
    corpora: dict[Name, SuiteCorpus] = {}
    attacks: tuple[SuiteAttack, ...] = Field(min_length=1)
    dtype: Dtype = "float32"

    @property
    def hazards(self) -> tuple[str, ...]:
        """The hazard tasks, the first first."""
        return (self.hazard,) if isinstance(self.hazard, str) else self.hazard
