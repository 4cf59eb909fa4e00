"""A policy tested on synthetic evidence with the real judge: its verdict on a model at 25 %, on an attack at 60 %.

A case gives accuracies and the verdict that it should get. Evidence is made from it: every trial that the policy
requires ends well and has exactly this share of right answers, at positions that differ from trial to trial. The
instruments work (shams change nothing, the original exceeds the limits), unless the case says otherwise. What cannot be
simulated is assumed and listed in `assumed`: the self-test of the attacks, and pins of whole configurations.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from robustness_gate.errors import FileError
from robustness_gate.inputs.validation import Loaded, load_record
from robustness_gate.policy_language.load import load_policy, open_values
from robustness_gate.records.base import Digest, Name, Record, Share
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.evidence import Evidence, TokenizerCheck, Unread
from robustness_gate.records.literals import modules
from robustness_gate.records.policy import Guardrail, Limit, Policy, Requirement, Selector, Utility
from robustness_gate.records.questions import QuestionIds, TaskRef, in_format, shipped_kind
from robustness_gate.records.trial import Closed, Measurement, Role, Trial, seed_of
from robustness_gate.records.verdict import Outcome, Verdict
from robustness_gate.system.sentences import nearest
from robustness_gate.verdict import judge, pack, spelled_out, wording

CANDIDATE, ORIGINAL = "c" * 64, "0" * 64
NOON = 12
Accuracies = dict[Name, Share]


class After(Selector):
    """The accuracies after one attack, or after one of its kinds."""

    accuracy: Accuracies = Field(min_length=1)
    """By task; other tasks are as untouched."""
    at: tuple[int, ...] = ()
    """Only at these budgets."""


class Case(Record):
    """The accuracies of a synthetic run, and the expected verdict."""

    description: str = Field(min_length=1)
    expect: Outcome
    because: str = ""
    """The code of a blocker, or a text that the reason or a blocker's sentence must contain."""
    accuracy: Accuracies = Field(default_factory=dict)
    """By task, untouched and attacked; a task that is not named is at chance if a limit is on it, else all right."""
    after: tuple[After, ...] = ()
    missing: tuple[Selector, ...] = ()
    """Required attacks that were not run."""
    failed: tuple[Selector, ...] = ()
    """Attacks that ended in a failure."""
    original: Accuracies | None = Field(default_factory=dict)
    """The model before unlearning, over what the file says of it; a task that is named in neither is all right.
    `null`: no original was given."""
    controls: dict[Name, Accuracies | None] = Field(default_factory=dict)
    """By control, over what the file says of it; a task that is named in neither is at chance if a limit is on it.
    `null`: this control was not given."""
    sham: Literal["steady", "moved", "missing"] = "steady"
    """The answers of the shams: unchanged, changed or missing."""
    states: dict[Name, str] | None = None
    """The producer's claims about the model; by default everything that the policy requires."""
    day: date | None = None
    """The day of judgement; by default one on which the policy is valid."""


class Cases(Record):
    """Test cases of one policy."""

    schema_: Literal["robustness-gate/cases/v1"] = Field(alias="schema")
    options: dict[Name, int] = Field(default_factory=dict)
    """Number of choices by task; the default is four."""
    items: dict[Name, int] = Field(default_factory=dict)
    """Numbers of items, for tasks where the policy says `UNPINNED`."""
    original: Accuracies = Field(default_factory=dict)
    """The model before unlearning, in every case that gives one."""
    controls: dict[Name, Accuracies] = Field(default_factory=dict)
    """The controls, in every case."""
    cases: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Tried:
    """A case with its verdict."""

    case: Case
    verdict: Verdict
    assumed: tuple[str, ...]

    @property
    def as_expected(self) -> bool:
        """Whether the verdict is the expected one, for the expected reason."""
        sentences = [wording.reason(self.verdict), *map(wording.sentence, self.verdict.blockers)]
        codes = {each.code for each in self.verdict.blockers}
        expected = self.case.because in codes or any(self.case.because in each for each in sentences)
        return self.verdict.outcome == self.case.expect and expected


def load_cases(path: Any) -> Loaded[Cases]:
    """Read a file of cases. Raises FileError with a code and a position."""
    return load_record(path, Cases)


def load_tested(path: Path, cases: Loaded[Cases]) -> tuple[Policy, tuple[str, ...]]:
    """The policy that cases are about, and what is assumed where it is not pinned.

    Its counts are those of the cases; digests are made up, because a case has no questions and no models.

    Raises:
        FileError: as `load_policy` does; `unpinned`, if a count is known to neither; `bad-case`, for a count that the
            policy has itself.
    """
    counts = cases.record.items
    places = open_values(path)
    lacking = {str(at[1]) for at in places if at[0] == "tasks" and at[-1] == "items"}
    for task in counts:
        if task not in lacking:
            raise FileError(
                f"the policy does not leave the number of items of '{task}' open",
                remedy=f"Take it out. {nearest(task, sorted(lacking))}",
                where=cases.where("items", task),
                code="bad-case",
            )
    if missing := sorted(lacking - set(counts)):
        raise FileError(
            f"the policy leaves the number of items of {', '.join(missing)} open, and so do the cases",
            remedy="Write `items: {TASK: NUMBER}` into the file of cases.",
            where=cases.where(),
            code="unpinned",
        )
    given: Json = {"tasks": {task: {"items": count} for task, count in counts.items()}}
    digests = [".".join(map(str, at)) for at in places if at[-1] != "items"]
    assumed = [f"{task} has {count} items (not pinned)" for task, count in counts.items()]
    assumed += [f"made-up values (not pinned): {', '.join(digests)}"] if digests else []
    return load_policy(path, unpinned=True, given=given).record, tuple(assumed)


def try_all(policy: Policy, cases: Loaded[Cases], today: date) -> tuple[Tried, ...]:
    """Judge every case.

    Args:
        policy: the policy under test.
        cases: its cases.
        today: the day on which a case without a day is judged, if the policy is valid then.

    Raises:
        FileError: `bad-case`, for a task, attack or control that the policy does not have, or a metric of the policy
            that no task kind of ours has.
    """
    for task in policy.tasks:
        if not _kind_with(policy, task):
            raise FileError(
                f"the policy's rules on '{task}' are in {', '.join(sorted(_metrics(policy, task)))}, and no task kind "
                "of this release has all of these metrics: cases are made of its kinds alone.",
                remedy="Test a copy of the policy without 'metric' there; `policy check --suite` checks the metric.",
                where=cases.where("cases"),
                code="bad-case",
            )
    everywhere = cases.record
    _refuse_unknown(cases, [(task, list(policy.tasks), ("original", task)) for task in everywhere.original])
    _refuse_unknown(cases, _of_controls(policy, everywhere.controls))
    for index, case in enumerate(everywhere.cases):
        _refuse_strangers(policy, cases, index, case)
    whole = (_with_others(everywhere, case) for case in everywhere.cases)
    return tuple(_tried(policy, case, everywhere.options, today) for case in whole)


def _with_others(everywhere: Cases, case: Case) -> Case:
    """A case with what the file says of the other models."""
    controls: dict[str, Accuracies | None] = dict(everywhere.controls)
    for name, its in case.controls.items():
        controls[name] = None if its is None else (everywhere.controls.get(name) or {}) | its
    original = None if case.original is None else everywhere.original | case.original
    return case.model_copy(update={"original": original, "controls": controls})


def _tried(policy: Policy, case: Case, options: Mapping[str, int], today: date) -> Tried:
    judged, assumed = _assuming(policy)
    day = case.day or max(policy.effective or today, min(today, policy.expires or today))
    at = datetime(day.year, day.month, day.day, NOON, tzinfo=UTC)
    return Tried(case, judge(judged, evidence(judged, case, options), at), assumed)


def _assuming(policy: Policy) -> tuple[Policy, tuple[str, ...]]:
    assumed = []
    if policy.validity.self_test != "off":
        policy = policy.model_copy(update={"validity": policy.validity.model_copy(update={"self_test": "off"})})
        assumed.append("the attacks pass their self-test")
    if policy.validity.calibration != "off":
        policy = policy.model_copy(update={"validity": policy.validity.model_copy(update={"calibration": "off"})})
        assumed.append("the attacks are calibrated on the original")
    if any(pin.questions for pin in policy.tasks.values()):
        tasks = {name: pin.model_copy(update={"questions": None}) for name, pin in policy.tasks.items()}
        policy = policy.model_copy(update={"tasks": tasks})
        assumed.append("the questions are joined and grouped as pinned")
    if any(each.config_sha256 for each in policy.required):
        required = tuple(each.model_copy(update={"config_sha256": None}) for each in policy.required)
        policy = policy.model_copy(update={"required": required})
        assumed.append("the settings are the pinned ones")
    return policy, tuple(assumed)


Named = tuple[str, list[str], tuple[str | int, ...]]
"""A word in the file of cases, the words that can stand there, and its place."""


def _refuse_strangers(policy: Policy, cases: Loaded[Cases], index: int, case: Case) -> None:
    """Refuse unknown names: a typing error must not produce a case that tests nothing."""
    named: list[Named] = []
    tasks = list(policy.tasks)
    named += [(task, tasks, ("accuracy", task)) for task in case.accuracy]
    named += [(task, tasks, ("original", task)) for task in case.original or ()]
    named += _of_controls(policy, case.controls)
    for key in ("after", "missing", "failed"):
        for position, selector in enumerate(getattr(case, key)):
            if not any(_fits(selector, requirement) for requirement in policy.required):
                known = [Selector.__str__(each) for each in policy.required]
                named.append((Selector.__str__(selector), known, (key, position)))
    named += [(t, tasks, ("after", p, "accuracy", t)) for p, after in enumerate(case.after) for t in after.accuracy]
    _refuse_unknown(cases, named, "cases", index)


def _of_controls(policy: Policy, controls: Mapping[str, Accuracies | None]) -> list[Named]:
    found: list[Named] = [(name, list(policy.controls), ("controls", name)) for name in controls]
    tasks = list(policy.tasks)
    return found + [(task, tasks, ("controls", name, task)) for name, its in controls.items() for task in its or ()]


def _refuse_unknown(cases: Loaded[Cases], named: Sequence[Named], *within: str | int) -> None:
    for word, known, at in named:
        if word not in known:
            raise FileError(
                f"the policy has no '{word}'",
                remedy=nearest(word, known),
                where=cases.where(*within, *at),
                code="bad-case",
            )


def _metrics(policy: Policy, task: str) -> set[str]:
    """The metrics that the policy's rules on a task name."""
    rules: tuple[Limit | Utility | Guardrail, ...] = (*policy.limits, *policy.utility, *policy.guardrails)
    return {rule.metric for rule in rules if rule.task == task and rule.metric is not None}  # a score names none


def _kind_with(policy: Policy, task: str) -> str:
    """A task kind of ours that has every metric that the policy names for a task: multiple_choice if it can be.

    Empty if no kind has them.
    """
    named = _metrics(policy, task)
    kinds = {name: shipped_kind(name) for name in ("multiple_choice", *modules("tasks"))}
    return next((name for name, kind in kinds.items() if kind is not None and named <= set(kind.metrics)), "")


def _fits(selector: Selector, requirement: Requirement) -> bool:
    return selector.attack == requirement.attack and selector.where.items() <= requirement.where.items()


# --- evidence from accuracies ----------------------------------------------------------------------------------------


def evidence(policy: Policy, case: Case, options: Mapping[str, int]) -> Evidence:
    """Every trial that the policy requires, with the accuracies of the case."""
    make = _Maker(policy, options)
    planned: list[Trial] = []
    others: list[Trial] = []
    measurements: list[Measurement] = []
    closed: list[Closed] = []
    for requirement in policy.required:
        if any(_fits(each, requirement) for each in case.missing):
            continue
        after = [each for each in case.after if _fits(each, requirement)]
        for seed in range(requirement.seeds):
            trial = make.trial(CANDIDATE, Role.CANDIDATE, requirement, seed)
            planned.append(trial)
            for budget in trial.budgets:
                found = dict(case.accuracy)
                for each in after:
                    found |= each.accuracy if not each.at or budget in each.at else {}
                measurements += make.measurements(trial, budget, make.known(found), salt=trial.id)
            broke = any(_fits(each, requirement) for each in case.failed)
            closed.append(
                Closed(
                    trial=trial.id, attempt=1, status="failure" if broke else "ok", reason="it broke" if broke else ""
                )
            )
            for name, accuracies in case.controls.items():
                if accuracies is None:
                    continue
                subject = policy.controls[name].sha256
                its = make.trial(subject, Role.CONTROL, requirement, seed, control=name)
                others.append(its)
                for budget in its.budgets:
                    measurements += make.measurements(its, budget, make.known(accuracies), salt=its.id)
                closed.append(Closed(trial=its.id, attempt=1, status="ok"))
    untouched = next((trial for trial in planned if trial.attack == "none"), None)
    for attack in sorted({each.attack for each in policy.required} - {"none"}) if case.sham != "missing" else ():
        sham = make.trial(CANDIDATE, Role.SHAM, Requirement(attack=attack), 0)
        planned.append(sham)
        salt = untouched.id if untouched and case.sham == "steady" else sham.id
        measurements += make.measurements(sham, 0, make.known(case.accuracy), salt=salt)
        closed.append(Closed(trial=sham.id, attempt=1, status="ok"))
    for requirement in _of_original(policy) if case.original is not None else ():
        for seed in range(requirement.seeds):
            its = make.trial(policy.original or ORIGINAL, Role.ORIGINAL, requirement, seed)
            others.append(its)
            for budget in its.budgets:
                knows = dict.fromkeys(policy.tasks, 1.0) | (case.original or {})
                measurements += make.measurements(its, budget, knows, salt=its.id)
            closed.append(Closed(trial=its.id, attempt=1, status="ok"))
    asked = policy.provenance.require if policy.provenance else ()
    states = case.states if case.states is not None else dict.fromkeys(asked, "as claimed in a case of `policy test`")
    return Evidence(
        CANDIDATE,
        tuple(planned),
        tuple(measurements),
        tuple(closed),
        comparators=tuple(others),
        producer_claims=states,
        unread=Unread(),
        tokenizers=(make.tokenizer(case.original is not None),),
        questions=make.questions(),
    )


def _of_original(policy: Policy) -> Iterator[Requirement]:
    """What the original is asked: without attack, and after the required ones where a limit's yardstick is there."""
    yield Requirement(attack="none")
    if any(limit.recovered is not None and limit.recovered.yardstick == "same_attack" for limit in policy.limits):
        yield from (each for each in policy.required if each.attack != "none")


class _Maker:
    """What all trials of a synthetic run have in common."""

    def __init__(self, policy: Policy, options: Mapping[str, int]) -> None:
        self.policy = policy
        self.limited = {task for limit in policy.limits for task in limit.readings}
        self.hidden = {pin.choices_only for pin in policy.tasks.values()} - {None}
        self.chance = {name: 1 / options.get(name, 4) for name in policy.tasks}
        self.refs = {
            in_format(name, each): TaskRef(
                name=in_format(name, each),
                kind=_kind_with(policy, name),
                sha256=pin.sha256 or digest_of(["made up", name]),
                items=pin.items,
                options=options.get(name, 4),
            )
            for name, pin in policy.tasks.items()
            for each in pin.formats
        }

    @property
    def hazard(self) -> tuple[str, ...]:
        """Every task that has a limit, as a suite must name them."""
        return tuple(name for name in self.refs if name in self.limited or name.removesuffix(".chat") in self.limited)

    def questions(self) -> tuple[QuestionIds, ...]:
        """Ids for the tasks of a score: the n-th item of each asks the n-th question."""
        spelled = spelled_out(self.policy)
        joined = {task for limit in spelled.limits if limit.score or limit.heuristic for task in limit.readings}
        hidden = {spelled.tasks[task].choices_only for task in joined} - {None}
        joined |= {task for task in hidden if task is not None}
        return tuple(
            QuestionIds(
                task=ref.sha256,
                ids=tuple(f"{number:016x}" for number in range(ref.items)),
                choices=digest_of(["made up choices", ref.items]),
                hidden=name in hidden,
            )
            for name, ref in self.refs.items()
            if name in joined
        )

    def tokenizer(self, compared: bool) -> TokenizerCheck:
        """The original's tokenizer, or the one that the policy pins."""
        pin = self.policy.tokenizer
        digest, template = (pin.sha256, pin.template or "4" * 64) if pin else ("4" * 64, "4" * 64)
        return TokenizerCheck(
            subject=CANDIDATE,
            reference=(self.policy.original or ORIGINAL) if compared else None,
            tasks={name: ref.sha256 for name, ref in self.refs.items()},
            data=dict(self.policy.data),
            sha256=digest,
            template=template,
            reference_sha256=digest if compared else None,
            reference_template=template if compared else None,
            texts=int(compared),
        )

    def known(self, given: Mapping[str, float]) -> dict[str, float]:
        """Every task's accuracy: as given; else chance if it has a limit or hides the question; else 1."""
        ignorant = self.limited | self.hidden
        return {name: given.get(name, self.chance[name] if name in ignorant else 1.0) for name in self.policy.tasks}

    def trial(self, subject: Digest, role: Role, requirement: Requirement, seed: int, control: str = "") -> Trial:
        """One trial as `planning` would make it, with the settings that the requirement names."""
        return Trial(
            subject=subject,
            role=role,
            control=control,
            reference=None,
            attack=requirement.attack,
            attack_version=1,
            family="made-up",
            config=dict(requirement.where),
            budgets=requirement.budgets or (0,),
            seed_index=seed,
            seed=seed_of(subject, requirement.attack, seed),
            tasks=tuple(self.refs.values()),
            data=dict(self.policy.data),
            hazard=self.hazard,
            floors=(),
            dtype=self.policy.dtype or "float32",
        )

    def measurements(
        self, trial: Trial, budget: int, accuracy: Mapping[str, float], *, salt: str
    ) -> Iterator[Measurement]:
        """The answers at one budget: the share of right ones is exact, their positions depend only on the salt."""
        for name, pin in self.policy.tasks.items():
            for each in pin.formats:
                task = in_format(name, each)
                order = list(range(pin.items))
                random.Random(f"{salt} {budget} {task}").shuffle(order)
                right = set(order[: round(accuracy[name] * pin.items)])
                bits = pack([item in right for item in range(pin.items)])
                tuning = next((r.tuning for r in self.policy.required if r.tuning and r.selects(trial)), None)
                grid = (
                    [{tuning.setting: tuning.span ** (i / (tuning.points + 1))} for i in range(tuning.points + 2)]
                    if tuning
                    else []
                )
                yield Measurement(
                    trial=trial.id,
                    attempt=1,
                    budget=budget,
                    task=task,
                    items=pin.items,
                    correct=dict.fromkeys(self.refs[task].judged.metrics, bits),
                    missing=pack([False] * pin.items),
                    cost={},
                    signals={},
                    selected=grid[1] if grid else {},
                    settings_tried=tuple(grid),
                    summary={},
                )
