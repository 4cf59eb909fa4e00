"""The facts that every output prints besides the table, with the same text.

Comparisons, red flags, the corrected accuracy of the strongest attack, the number of trials, the decision.
Nothing here decides: it reads the results of `judge` and `decide` in the report.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import NamedTuple

from robustness_gate import attacks
from robustness_gate.evidence.ledger import OWN
from robustness_gate.records.literals import modules
from robustness_gate.records.trial import ModelRef, Role
from robustness_gate.records.verdict import Contrast, Finding, FindingKind
from robustness_gate.report.calibrated import calibrated as fixed_words
from robustness_gate.report.record import Report, evidence_in
from robustness_gate.report.table import NOT_ASKED, not_tried, other_weights
from robustness_gate.verdict import by_strength, strongest, tally
from robustness_gate.verdict.counts import counts
from robustness_gate.verdict.found import most_recovered
from robustness_gate.verdict.wording import flag_line, kept_line, model_name, state
from robustness_gate.verdict.wording import trials_line as line_of

DECIDED = {
    "RELEASE": "release",
    "RELEASE_WITH_WAIVER": "release with waivers",
    "ACCEPTED_RISK": "release, the risk accepted",
    "BLOCK": "no release",
}


class Comparison(NamedTuple):
    """The candidate compared with another model, on the same questions after the same attack: a paired bound."""

    finding: Finding
    rule: str
    where: str
    other_name: str
    own: float
    other: float

    @property
    def difference(self) -> str:
        """`drop 2.0 points`: the difference in the direction of the rule; a negative one is good."""
        what = "drop" if self.finding.fell else "rise" if self.finding.kind == FindingKind.GUARDRAIL else "excess"
        return f"{what} {_points(self.finding.observed)} points"

    @property
    def interval(self) -> str:
        """`0.2 to 4.5`: from the bound that establishes a breach to the one that establishes compliance, in points."""
        return f"{_points(self.finding.lower)} to {_points(self.finding.upper)}"

    @property
    def limit(self) -> str:
        """`5`: the largest allowed difference, in points."""
        return _points(self.finding.limit).removesuffix(".0")

    @property
    def line(self) -> str:
        """All of it in one line."""
        return (
            f"{self.rule}, {self.where}: {self.own:.1%} of '{self.finding.task}', {self.other_name} {self.other:.1%}: "
            f"{self.difference} ({self.interval}), at most {self.limit} allowed: {state(self.finding)}"
        )


def comparisons(report: Report) -> list[Comparison]:
    """Excess limits, guardrails and the ratchet, in the verdict's order."""
    return [
        Comparison(
            finding=each,
            rule=each.rule,
            where=_where(each, report),
            other_name=model_name(each.relative_to),
            own=each.correct / each.items,
            other=each.over_correct / each.items,
        )
        for each in report.verdict.findings
        if each.relative_to and not each.of_gap
    ]


class BackShare(NamedTuple):
    """The share of a gap that is back after one attack: a finding on a limit with `recovered`."""

    finding: Finding
    contrast: Contrast
    where: str
    control: str
    planned: bool
    """Whether it is of this plan; else of an earlier run."""

    @property
    def share(self) -> str:
        """`31 % (12 % to 42 %)`: the share, and its bounds from the one for a breach to the one for compliance."""
        observed, least, most = map(_at_most_all, (self.finding.observed, self.finding.lower, self.finding.upper))
        return f"{observed} ({least} to {most})"

    @property
    def share_alone(self) -> str:
        """The share without its bounds."""
        return _at_most_all(self.finding.observed)

    @property
    def gap(self) -> float:
        """What the original scores more than the control, at the yardstick."""
        return self.contrast.gap or 0.0

    @property
    def points(self) -> str:
        """The gap in points: `74.5`."""
        return f"{100 * self.gap:.1f}"

    @property
    def gap_when(self) -> str:
        """When the gap was measured."""
        return "before any attack" if self.contrast.yardstick == "untouched" else "after the same attack"

    @property
    def asked(self) -> str:
        """`1,273 questions in 310 clusters, the mean of 'a' and 'b'`."""
        tasks = " and ".join(f"'{task}'" for task in self.contrast.tasks)
        mean = f"the mean of {tasks}" if len(self.contrast.tasks) > 1 else f"in {tasks}"
        its = self.contrast
        grouped = f" in {its.clusters:,} clusters" if its.clusters < its.questions else ""
        wider = f", at a design effect of {its.design_effect:g}" if its.design_effect > 1 else ""
        return f"{its.questions:,} questions{grouped}{wider}: {mean}"

    @property
    def kept(self) -> list[str]:
        """What the models score on each utility task, so that one that an attack ruined is seen."""
        return [kept_line(each) for each in self.contrast.kept]

    @property
    def line(self) -> str:
        """All of it in one line."""
        its, where = self.contrast, self.where if self.planned else f"{self.where}, {NOT_ASKED}"
        return (
            f"{self.finding.rule}, {where}: {self.share} of the gap is back, at most {self.finding.limit:.0%} "
            f"allowed: {state(self.finding)}. The candidate scores {its.candidate:.1%}, the {self.control} "
            f"{its.control:.1%}; {self.gap_when} the original scores {its.original or 0:.1%}, {self.points} points "
            f"more than the {self.control}{''.join(f'; {each}' for each in self.kept)}"
        )


def shares(report: Report) -> list[BackShare]:
    """The findings on share limits, in the verdict's order."""
    planned = {record.id for record in report.trials if record.planned}
    return [
        BackShare(each, each.contrast, _where(each, report), _never(each.relative_to), each.trial in planned)
        for each in report.verdict.findings
        if each.contrast is not None and each.relative_to is not None and each.of_gap
    ]


def _at_most_all(share: float) -> str:
    return "100 % or more" if share >= 1 else "0 % or less" if share <= 0 else f"{100 * share:.0f} %"


def most_back(report: Report) -> BackShare | None:
    """The largest share of a gap that is back after any attack; None without a share limit."""
    top = most_recovered(report.verdict.findings)
    return next((each for each in shares(report) if each.finding is top), None)


def _never(model: ModelRef) -> str:
    return model_name(model) if model.control else "original with its questions hidden"


def calibrated(report: Report) -> dict[str, tuple[str, ...]]:
    """What each required attack brought back in the calibrations on record, by its label: fixed words."""
    return fixed_words(report.resolved, evidence_in(report))


def red_flags(report: Report) -> list[str]:
    """The red flags that block a PASS. The others are among the limitations."""
    return [flag_line(each) for each in report.verdict.flags if each.blocks]


class Corrected(NamedTuple):
    """The accuracy of the strongest attack, without the winner's curse."""

    share: float
    low: float
    high: float
    attack: str

    @property
    def line(self) -> str:
        """In one line."""
        return (
            f"strongest attack, chosen on one half of the questions and measured on the other: {self.share:.1%} "
            f"[{self.low:.1%}, {self.high:.1%}] ({self.attack})"
        )


def corrected(report: Report) -> Corrected | None:
    """The strongest attack, selected on one half of the items and measured on the other, with its 95 % interval."""
    top = report.verdict.strongest
    if top is None:
        return None
    attack = "no attack" if top.attack == "none" else top.attack
    attack += f" at budget {top.budget}" if top.budget else ""
    attack += f", seed {top.seed_index}" if top.seed_index else ""
    return Corrected(top.correct / top.items, top.lower, top.upper, attack)


def unasked(report: Report) -> list[str]:
    """Recorded trials on this checkpoint that are not part of this plan: they can only establish a breach."""
    return [
        f"{each.label}, seed {each.trial.seed_index}"
        for each in report.trials
        if not each.planned and each.trial.role in OWN and (each.measurements or each.closed)
    ]


def trials_line(report: Report) -> str:
    """The number of trials that the checkpoint's ledger holds."""
    return line_of(counts(evidence_in(report)))


class Ruling(NamedTuple):
    """The decision, for output."""

    words: str
    reason: str
    applied: tuple[str, ...]
    inert: tuple[str, ...]


def ruling(report: Report) -> Ruling | None:
    """The decision; None if it follows from the verdict alone and the policy has no waivers or accepted risks."""
    decided, outcome = report.decision, report.verdict.outcome
    plain = "RELEASE" if outcome == "PASS" else "BLOCK"
    if decided.outcome == plain and not report.resolved.waivers and not report.resolved.accepted_risks:
        return None
    return Ruling(DECIDED[decided.outcome], decided.reason, decided.applied, decided.inert)


def ruling_lines(report: Report) -> list[str]:
    """The decision, the waivers and risks that apply, and those without effect."""
    its = ruling(report)
    if its is None:
        return []
    first = f"{its.words}; the verdict stays {report.verdict.outcome}. {its.reason}"
    return [first, *(f"signed: {each}" for each in its.applied), *(f"without effect: {each}" for each in its.inert)]


def preregistration_line(report: Report) -> str:
    """The preregistration of the run; empty without one."""
    if report.preregistration is None:
        return ""
    its = report.preregistration
    return f"preregistered at {its.at}, as its signer says: statement {its.sha256}, key {its.key}"


class Ability(NamedTuple):
    """How much accuracy unlearning removed on one hazard task, and how much an attack recovered."""

    task: str
    original: float
    untouched: float
    strongest: float
    attack: str

    @property
    def line(self) -> str:
        """In one line. Recovered accuracy is called `suppressed`; the rest is never called `removed`."""
        taken, back = self.original - self.untouched, self.strongest - self.untouched
        begins = f"'{self.task}': the original {self.original:.1%}, this model {self.untouched:.1%} before any attack"
        if taken <= 0:
            return f"{begins}: unlearning took nothing away that this task can see"
        points = f"of {100 * taken:.1f} points taken away"
        if back <= 0:
            return f"{begins}; {points} no attack brought any back"
        share = min(1.0, back / taken)
        text = f"{begins}; {points} at most {100 * back:.1f} came back ({share:.0%}), after {self.attack}"
        return f"{text}: that much was suppressed, not removed" if share >= 0.5 else text


def abilities(report: Report) -> Iterator[Ability]:
    """For each hazard task that the original was asked too: how much accuracy was removed and how much recovered."""
    before = {
        (r.trial.role, m.task): m for r in report.trials if r.trial.attack == "none" for m in r.measurements
    }  # fmt: skip
    hazards = {f.task: f for f in reversed(by_strength(report.verdict.findings))}
    for task, top in hazards.items():
        original, own = before.get((Role.ORIGINAL, task)), before.get((Role.CANDIDATE, task))
        if original is not None and own is not None and top.metric in original.correct:
            yield Ability(
                task,
                tally(original, top.metric)[0] / original.items,
                tally(own, top.metric)[0] / own.items,
                top.observed,
                "no attack" if top.attack == "none" else top.attack,
            )


LOOK_AGAIN = (
    "Look again when the policy or its self-tests expire, when any file of the checkpoint changes, when the policy is "
    "changed, and when an attack of a new family is published."
)
PUBLIC = (
    "This report holds no question's words, no prompt that an attack found and no weights, only digests of them. The "
    "log-likelihoods (rows/) and the ledger are only for people who may see single answers."
)


def again(report: Report) -> str:
    """The command that runs the strongest attack again."""
    top = strongest(report.verdict.findings) or most_recovered(report.verdict.findings)
    only = f" --only {shlex.quote(top.attack)}" if top else ""
    others = " --original ORIGINAL" if any(each.role == Role.ORIGINAL for each in report.comparators) else ""
    others += "".join(f" --control {e.control}=CONTROL" for e in report.comparators if e.role == Role.CONTROL)
    rest = f"--out runs/again --ledgers runs/again{only}"
    return f"robustness-gate run CHECKPOINT --policy POLICY --suite SUITE{others} {rest}"


def coverage(report: Report) -> list[tuple[str, str]]:
    """What the evidence shows (attested), what is only claimed (asserted), and what was not examined (not covered)."""
    asked = sum(measurement.items for record in report.trials for measurement in record.measurements)
    rows = [
        ("attested", f"{asked:,} answers, each in this report: every bound and the verdict follow from them"),
        ("attested", "what each attack was: its settings, its seed, its strength floors, the questions by digest"),
        ("attested", "the checkpoint, file by file, by SHA-256"),
    ]
    rows.append(("asserted", "that a machine gave these answers, and that every run on this checkpoint is on record"))
    if report.provenance:
        rows.append(("asserted", f"where checkpoints came from: {', '.join(each.name for each in report.provenance)}"))
    rows += [("asserted", f"by the producer: {name}: {text}") for name, text in report.producer_claims.items()]
    rows.append(("asserted", "what was installed, and on which kind of machine"))
    scope = report.resolved.threat_model.out_of_scope
    rows += [("not covered", f"{each} (out of scope by the policy)") for each in scope]
    rows += [("not covered", f"{what}: {names}") for what, names in other_weights(report.unread)]
    rows += [("not covered", each) for each in not_tried(report)]
    rows.append(("not covered", "attacks that the suite does not have; knowledge given in the prompt"))
    return rows


def stated(report: Report) -> list[str]:
    """The producer's claims, one line each."""
    return [f"the producer states, unchecked: {name}: {text}" for name, text in report.producer_claims.items()]


def _where(finding: Finding, report: Report) -> str:
    if finding.attack == "none":
        return "before any attack"
    seed = f", seed {finding.seed_index}" if finding.seed_index else ""
    attempt = f", attempt {finding.attempt}" if finding.attempt > 1 else ""
    name = next((record.trial.attack for record in report.trials if record.id == finding.trial), "")
    at = f" at budget {finding.budget}{unit(name)}" if finding.budget else ""
    return f"after {finding.attack}{at}{seed}{attempt}"


def unit(attack: str) -> str:
    """What a budget of an attack counts, as ` (optimizer steps)`; empty for an attack that is none of this release."""
    budget = attacks.load(attack).BUDGET if attack in modules("attacks") else None
    return "" if budget is None else f" ({budget.unit})"


def _points(share: float) -> str:
    return f"{100 * share:.1f}".replace("-0.0", "0.0") if abs(share) < 0.0005 else f"{100 * share:.1f}"
