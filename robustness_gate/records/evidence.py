"""What is known about one candidate: its files, its self-tests, its tokenizer, its plan, and every record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from robustness_gate.records import codes
from robustness_gate.records.base import Coded, Difference, Digest, Dtype, Name, Record, Registered, Share
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.trial import Closed, Measurement, ModelRef, Trial


class SelfTestFault(Coded):
    """Why a self-test does not pass."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.SELF_TEST_FAULTS


class Stored(Record):
    """In which precision a checkpoint's weights lie on disk, by the headers of its safetensors files."""

    weights: dict[str, int]
    """How many by the name of their dtype (`bfloat16`); of an adapter its base's. Buffers of whole numbers are left out
    unless the weights are quantised."""
    adapter: dict[str, int] = Field(default_factory=dict)
    """The same of the adapter's own weights."""
    config_dtype: str = ""
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
            None
            if self.config_dtype in self.weights
            else next((each for each in get_args(Dtype) if each == self.config_dtype), None)
        )


class EvidenceIssue(Coded):
    """What happened to the evidence as a whole."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.NOTES


class Note(Record):
    """A fact about a subject that blocks a PASS whatever the numbers say."""

    kind: Literal["note"] = "note"
    subject: Digest
    what: EvidenceIssue


class ProducerClaims(Record):
    """What the producer says of a subject. Recorded as said; nothing here can check it."""

    kind: Literal["producer_claims"] = "producer_claims"
    subject: Digest
    claims: dict[Name, str]


ROUNDING = 1e-9
"""By so much may a bound lie beyond a difference of which it is a bound, by the last digits alone."""


class NegativeControl(Record):
    """What an attack did to a model that never knew, on the same items."""

    organism: str
    before: int = Field(ge=0)
    """Right answers, of as many questions as the record's `items`."""
    after: int = Field(ge=0)
    leak: Difference
    """One-sided 95 % lower bound of what it seems to bring back, paired. Never more than `after` less `before`."""


class SelfTest(Record):
    """What an attack did on organisms of known truth: see `robustness_gate.assurance.self_test`."""

    kind: Literal["self_test"] = "self_test"
    attack: Registered
    attack_version: int
    model_type: str
    """The architecture on which it was tested; it counts for no other."""
    seed: int = Field(default=0, ge=0)
    """Of the attack, by its number: several records of one attack are of several seeds, and each must pass."""
    config: dict[str, Json] = Field(default_factory=dict)
    """Every setting with which it was tried, its `marks` those that were; empty in a record that does not say so, which
    counts for no requirement."""
    budget: int = Field(default=-1, ge=-1)
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
    negative_controls: tuple[NegativeControl, ...] = Field(min_length=1)
    """What it did where there was nothing to bring back, each organism once."""
    sham_changed: int = Field(ge=0)
    """Answers that change at strength zero; never more than were asked."""
    faults: tuple[SelfTestFault, ...]
    """Why it did not pass, as `verdict.selftests.faults` finds it; empty where it did. Numbers that show a fault count
    whether or not it stands here."""
    at: date

    @model_validator(mode="after")
    def _can_be(self) -> SelfTest:
        """Counts that no test can give are no record: nobody need think about what follows from them."""
        counts = {
            "before": self.before, "after": self.after, "known": self.known, "sham_changed": self.sham_changed,
            **{f"{each.organism} before": each.before for each in self.negative_controls},
            **{f"{each.organism} after": each.after for each in self.negative_controls},
        }  # fmt: skip
        for name, count in counts.items():
            if count > self.items:
                raise ValueError(f"{name} is {count}, of {self.items} questions that were asked")
        told = [(self.organism, self.before, self.after, self.gain)]
        told += [(each.organism, each.before, each.after, each.leak) for each in self.negative_controls]
        for name, before, after, bound in told:
            if bound > (after - before) / self.items + ROUNDING:
                raise ValueError(f"on {name} at least {bound:.1%} is gained, from {before} to {after} of {self.items}")
        if len({each.organism for each in self.negative_controls}) < len(self.negative_controls):
            raise ValueError("an organism that never knew stands there twice")
        budgets = self.config.get("budgets")
        if isinstance(budgets, list) and self.budget not in (-1, *budgets):
            raise ValueError(f"what it did at a budget of {self.budget} was not tried, but {budgets}")
        return self


class SelfTests(Record):
    """What one `self-test` leaves behind, for `run --self-test`."""

    schema_: Literal["robustness-gate/self-test/v1"] = Field(alias="schema", default="robustness-gate/self-test/v1")
    tests: tuple[SelfTest, ...] = Field(min_length=1)


class Unread(Record):
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


class TokenizerPart(Record):
    """One part of a tokenizer that is not as the original's: kinds by their name in tokenizer.json, words by count."""

    part: Literal[
        "normalizer", "pre_tokenizer", "model", "vocabulary", "merges", "post_processor", "decoder", "added_tokens",
        "special_tokens", "chat_template", "settings",
    ]  # fmt: skip
    how: Literal["more", "fewer", "other"]
    count: int = Field(ge=1)
    names: tuple[Annotated[str, Field(max_length=40)], ...] = Field(default=(), max_length=3)
    """The first kinds, tokens or settings; never a pattern, nor a text that is put in."""


class TokenizerCheck(Record):
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


class LeftOut(ModelRef):
    """A trial that belongs to the plan of policy and suite, and that a run was told not to make."""

    attack: Registered
    config: dict[str, Json]
    seed_index: int = Field(ge=0)
    why: Literal["only"]
    """By what it was left out: `--only`."""


class Planned(Record):
    """What one run set out to do on a subject, written before it does anything: a trial that is missing is missed."""

    kind: Literal["planned"] = "planned"
    subject: Digest
    trials: tuple[Digest, ...]
    left_out: tuple[LeftOut, ...] = ()
    """What this run was told not to make; each blocks a PASS."""
    model_type: str = ""
    """The candidate's architecture, as its config.json names it."""
    unread: Unread | None = None
    """What lies beside the candidate; None in ledgers from before this was looked at."""
    stored: Stored | None = None
    """In which precision the candidate lies on disk; None in ledgers from before this was written down."""
    policy: Digest
    suite: Digest


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one candidate: every planned trial, and every record about any of them."""

    subject: str
    planned: tuple[Trial, ...]
    """Trials of the candidate, shams among them."""
    measurements: tuple[Measurement, ...] = ()
    closed: tuple[Closed, ...] = ()
    extra: tuple[Trial, ...] = ()
    """Trials found in the ledger that this plan does not ask for: they can convict, never acquit."""
    notes: tuple[EvidenceIssue, ...] = ()
    """Facts that block a PASS whatever the numbers say, e.g. a checkpoint that changed during the run."""
    comparators: tuple[Trial, ...] = ()
    """Trials of the original and of controls."""
    producer_claims: Mapping[str, str] = field(default_factory=dict)
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
    left_out: tuple[LeftOut, ...] = ()
    """What the last run was told not to make of the plan of policy and suite: it blocks a PASS, required or not."""
