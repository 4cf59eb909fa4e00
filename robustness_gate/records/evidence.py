"""All evidence about one candidate: its files, self-tests, tokenizer, plan, and every record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from robustness_gate.records import codes
from robustness_gate.records.base import Coded, Difference, Digest, Dtype, Name, Plugin, Record, Registered, Share
from robustness_gate.records.codes import FindingKind as FindingKind
from robustness_gate.records.codes import Role as Role
from robustness_gate.records.encode import Json
from robustness_gate.records.questions import QuestionIds
from robustness_gate.records.trial import Closed, Measurement, ModelRef, Trial

if TYPE_CHECKING:  # a calibration holds self-tests, so its records are above these
    from robustness_gate.records.calibration import Calibration, WeightsCheck


class SelfTestFault(Coded):
    """Why a self-test fails."""

    @classmethod
    def table(cls) -> codes.Table:
        """See `codes`."""
        return codes.SELF_TEST_FAULTS


class Stored(Record):
    """The precision in which a checkpoint's weights are stored, from the headers of its safetensors files."""

    weights: dict[str, int]
    """Number of weights by dtype (`bfloat16`); for an adapter those of its base. Integer buffers are not counted,
    unless the weights are quantised."""
    adapter: dict[str, int] = Field(default_factory=dict)
    """The same for the adapter's own weights."""
    config_dtype: str = ""
    """The `dtype` in config.json: the precision in which other programs load the model. Empty if there is none."""
    quantized: bool = False
    """Whether config.json has a `quantization_config`."""

    @property
    def dtypes(self) -> frozenset[str]:
        """Every dtype that occurs."""
        return frozenset((*self.weights, *self.adapter))

    @property
    def declared(self) -> Dtype | None:
        """The precision in config.json, if it differs from that of the files; else None."""
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
    """A fact about a subject that blocks a PASS, independent of the numbers."""

    kind: Literal["note"] = "note"
    subject: Digest
    what: EvidenceIssue


class ProducerClaims(Record):
    """The producer's claims about a subject. They are recorded and not checked."""

    kind: Literal["producer_claims"] = "producer_claims"
    subject: Digest
    claims: dict[Name, str]


ROUNDING = 1e-9
"""Rounding tolerance: a bound may exceed the observed difference by at most this."""


class NegativeControl(Record):
    """The result of an attack on a model that never had the knowledge, on the same items."""

    organism: str
    before: int = Field(ge=0)
    """Right answers to the record's `items` questions."""
    after: int = Field(ge=0)
    leak: Difference
    """One-sided 95 % lower bound of the apparent gain, paired. Never more than `after` minus `before`."""


class SelfTest(Record):
    """The result of an attack on organisms of known truth: see `robustness_gate.assurance.self_test`."""

    kind: Literal["self_test"] = "self_test"
    attack: Registered
    attack_version: int
    plugins: tuple[Plugin, ...] = ()
    """The plug-in of the attack, if it is one's: the record counts for this content of it alone."""
    model_type: str
    """The architecture on which it was tested; it counts for no other."""
    seed: int = Field(default=0, ge=0)
    """The index of the attack's seed: an attack can have records of several seeds, and each must pass."""
    config: dict[str, Json] = Field(default_factory=dict)
    """Every setting that was used, with the `budgets` that were tried. A record without it counts for no
    requirement."""
    budget: int = Field(default=-1, ge=-1)
    """The budget, one of `budgets`, at which this result was measured; -1 if it is not recorded."""
    extended: dict[str, Json] = Field(default_factory=dict)
    """Settings that were adapted to so small a model, each with the value that was asked for. `config` has the values
    that were used instead."""
    organism: str
    """The organism in which the knowledge is suppressed, and in which this attack should recover it."""
    items: int = Field(ge=1)
    before: int = Field(ge=0)
    after: int = Field(ge=0)
    known: int = Field(default=0, ge=0)
    """Right answers of the organism's original, untouched; 0 if it is not recorded."""
    share: Share = 0.0
    """Share of the gap between `before` and `known` that must be closed, as observed."""
    gain: Difference
    """One-sided 95 % lower bound of the gain, paired. Never more than `after` minus `before`."""
    negative_controls: tuple[NegativeControl, ...] = Field(min_length=1)
    """The results on organisms without the knowledge, each organism once."""
    sham_changed: int = Field(ge=0)
    """Number of answers that change at strength zero; never more than `items`."""
    faults: tuple[SelfTestFault, ...]
    """Why it failed, as `verdict.selftests.faults` finds it; empty if it passed. A fault that the numbers show counts
    even if it is not listed here."""
    at: date

    @model_validator(mode="after")
    def _names_its_plugin(self) -> SelfTest:
        """Refuse a record that does not say whose attack was tested. Raises ValueError."""
        wanted = [self.attack.partition("/")[0]] if "/" in self.attack else []
        if [each.distribution for each in self.plugins] != wanted:
            raise ValueError(f"'{self.attack}' is not the attack of the plug-in that it names")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, whole: SerializerFunctionWrapHandler) -> dict[str, Json]:
        """Omit `plugins` if there is none, so that the digest of an older record does not change."""
        found: dict[str, Json] = whole(self)
        if not self.plugins:
            found.pop("plugins", None)
        return found

    @model_validator(mode="after")
    def _can_be(self) -> SelfTest:
        """Refuse counts that no test can give. Raises ValueError."""
        counts = {
            "before": self.before, "after": self.after, "known": self.known, "sham_changed": self.sham_changed,
            **{f"{each.organism} before": each.before for each in self.negative_controls},
            **{f"{each.organism} after": each.after for each in self.negative_controls},
        }  # fmt: skip
        for name, count in counts.items():
            if count > self.items:
                raise ValueError(f"{name} is {count}, of {self.items} questions that were asked")
        results = [(self.organism, self.before, self.after, self.gain)]
        results += [(each.organism, each.before, each.after, each.leak) for each in self.negative_controls]
        for name, before, after, bound in results:
            if bound > (after - before) / self.items + ROUNDING:
                raise ValueError(f"on {name} at least {bound:.1%} is gained, from {before} to {after} of {self.items}")
        if len({each.organism for each in self.negative_controls}) < len(self.negative_controls):
            raise ValueError("a negative control is listed twice")
        budgets = self.config.get("budgets")
        if isinstance(budgets, list) and self.budget not in (-1, *budgets):
            raise ValueError(f"the result is at a budget of {self.budget}, but the budgets tried were {budgets}")
        return self


class SelfTests(Record):
    """The output of one `self-test`, for `run --self-test`."""

    schema_: Literal["robustness-gate/self-test/v1"] = Field(alias="schema", default="robustness-gate/self-test/v1")
    tests: tuple[SelfTest, ...] = Field(min_length=1)


class Unread(Record):
    """Files of a checkpoint's repository that were not examined."""

    listed: bool = True
    """Whether all such files are known: for a commit on the hub, whether its file list was available."""
    weights: tuple[str, ...] = ()
    """Paths of other weights, or of files that may be weights. A local directory with any is refused, so these belong
    to a commit on the hub. Those of an adapter's base begin with `base/`."""
    ignored: int = Field(default=0, ge=0)
    """Number of files that no loader reads: documents, pictures, logs."""
    wrapper: str = ""
    """The architecture of a multimodal model of which only the text part was examined; else empty."""


class TokenizerPart(Record):
    """A part in which a tokenizer differs from the original's."""

    part: Literal[
        "normalizer", "pre_tokenizer", "model", "vocabulary", "merges", "post_processor", "decoder", "added_tokens",
        "special_tokens", "chat_template", "settings",
    ]  # fmt: skip
    how: Literal["more", "fewer", "other"]
    count: int = Field(ge=1)
    names: tuple[Annotated[str, Field(max_length=40)], ...] = Field(default=(), max_length=3)
    """The first types, tokens or settings; never a pattern or an inserted text."""


class TokenizerCheck(Record):
    """The candidate's tokenizer compared with the original's, on every text of a suite.

    Digests cover what determines how text becomes ids (`engine.tokenization`), not files.
    """

    kind: Literal["tokenizer_check"] = "tokenizer_check"
    subject: Digest
    reference: Digest | None = None
    """Digest of the original's manifest; None if no original was given and nothing was compared."""
    tasks: dict[Name, Digest]
    """The tasks whose prompts were encoded, with the digest of their `TaskRef`."""
    data: dict[str, Digest]
    """The dev items and corpora that were encoded."""
    sha256: Digest
    """Digest of how the candidate's tokenizer encodes text."""
    template: Digest
    """Digest of its chat templates."""
    reference_sha256: Digest | None = None
    reference_template: Digest | None = None
    texts: int = Field(default=0, ge=0)
    """Prompts, answers and training texts that were encoded by both."""
    otherwise: int = Field(default=0, ge=0)
    """How many of these have different ids."""
    rendered: int = Field(default=0, ge=0)
    """Prompts that were rendered with both chat templates."""
    templated: int = Field(default=0, ge=0)
    """How many of these have different texts, or can be rendered with only one of the two."""
    first_otherwise: tuple[str, ...] = Field(default=(), max_length=5)
    """The first such items: `TASK:ID`, or `data:CORPUS`; never their text."""
    first_templated: tuple[str, ...] = Field(default=(), max_length=5)
    parts: tuple[TokenizerPart, ...] = ()
    """The parts in which the candidate's tokenizer differs from the original's."""

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
    """A trial that belongs to the plan of policy and suite, and that the command excluded."""

    attack: Registered
    config: dict[str, Json]
    seed_index: int = Field(ge=0)
    why: Literal["only"]
    """The option that excluded it: `--only`."""


class Planned(Record):
    """The plan of one run on a subject, written before anything runs, so that a missing trial is noticed."""

    kind: Literal["planned"] = "planned"
    subject: Digest
    trials: tuple[Digest, ...]
    left_out: tuple[LeftOut, ...] = ()
    """Trials that the command excluded; each blocks a PASS."""
    model_type: str = ""
    """The candidate's architecture, from its config.json."""
    unread: Unread | None = None
    """Files that were not examined; None in older ledgers, which do not record it."""
    stored: Stored | None = None
    """The precision in which the candidate is stored; None in older ledgers, which do not record it."""
    device: str = ""
    """The kind of device on which it runs: cpu, cuda or mps; empty in older ledgers, which do not record it."""
    bases: dict[Digest, Digest] = Field(default_factory=dict)
    """Of each adapter among the models of the run, the base's digest, by its own."""
    policy: Digest
    suite: Digest


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence about one candidate: every planned trial, and every record of a trial."""

    subject: str
    planned: tuple[Trial, ...]
    """Planned trials of the candidate, shams included."""
    measurements: tuple[Measurement, ...] = ()
    closed: tuple[Closed, ...] = ()
    extra: tuple[Trial, ...] = ()
    """Trials in the ledger that are not part of this plan: they can establish a breach, never compliance."""
    notes: tuple[EvidenceIssue, ...] = ()
    """Facts that block a PASS, independent of the numbers, e.g. a checkpoint that changed during the run."""
    comparators: tuple[Trial, ...] = ()
    """Trials of the original and of controls."""
    producer_claims: Mapping[str, str] = field(default_factory=dict)
    """The producer's claims about the candidate."""
    model_type: str = ""
    """The candidate's architecture."""
    unread: Unread | None = None
    """Files of its repository that were not examined; None if this is not recorded."""
    stored: Stored | None = None
    """The precision in which the candidate is stored; None if this is not recorded."""
    self_tests: tuple[SelfTest, ...] = ()
    """Results of the attacks on models of known truth."""
    calibrations: tuple[Calibration, ...] = ()
    """Results of the attacks on the candidate's own original, with knowledge that was taught and suppressed."""
    weights: tuple[WeightsCheck, ...] = ()
    """Comparisons of the candidate's weights with the original's."""
    devices: tuple[str, ...] = ()
    """The kinds of device of every run on the candidate, sorted."""
    bases: Mapping[str, str] = field(default_factory=dict)
    """Of each adapter among the models, the digest of its base, by its own."""
    tokenizers: tuple[TokenizerCheck, ...] = ()
    """Comparisons of the candidate's tokenizer with the original's."""
    questions: tuple[QuestionIds, ...] = ()
    """Ids and clusters of the questions of tasks whose suite names them."""
    left_out: tuple[LeftOut, ...] = ()
    """Trials that the last run's command excluded from the plan: each blocks a PASS, required or not."""
