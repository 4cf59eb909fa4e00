"""From policy, suite and checkpoint to a Plan: every trial that will run, before anything runs.

All checks that need no GPU are made here: missing items and verdict items that an attacker could see (suite_data.py), a
limit on an attack that the suite does not run (compatibility.py), a budget larger than its pool (this module). None of
them needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from robustness_gate import attacks
from robustness_gate.errors import CheckpointError, PlanError
from robustness_gate.inputs import plugins
from robustness_gate.inputs.checkpoint.manifest import Manifest
from robustness_gate.inputs.checkpoint.place import CheckpointRef
from robustness_gate.inputs.precision import stored
from robustness_gate.inputs.validation import Loaded
from robustness_gate.planning import applicability
from robustness_gate.planning.compatibility import check_fit
from robustness_gate.planning.foreseen import foreseen
from robustness_gate.planning.suite_data import SuiteData
from robustness_gate.records.attack import Floor
from robustness_gate.records.base import Plugin
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.evidence import LeftOut
from robustness_gate.records.policy import Limit, Policy
from robustness_gate.records.questions import in_format
from robustness_gate.records.suite import Suite, SuiteAttack
from robustness_gate.records.trial import OWN_ROLES, ModelRef, Role, Trial, seed_of
from robustness_gate.system.sentences import nearest
from robustness_gate.verdict import label, spelled_out
from robustness_gate.verdict.hypotheses import label_of, limits


@dataclass(frozen=True)
class Subject:
    """A checkpoint with a role in the run."""

    role: Role
    place: CheckpointRef
    manifest: Manifest
    control: str = ""
    """The name of a control."""


@dataclass(frozen=True)
class Plan:
    """The trials of the run, in this order."""

    trials: tuple[Trial, ...]
    subjects: tuple[Subject, ...]
    left_out: tuple[LeftOut, ...] = field(default=())
    """Parts of the plan that this run leaves out: a PASS is then impossible."""
    foreseen: tuple[str, ...] = field(default=())
    """Attacks that will probably not be applicable, and why; `doctor` checks it with the loaded model."""
    others: tuple[Plugin, ...] = field(default=())
    """Third-party code of this run: plug-ins among its executor, attacks and kinds of task."""

    @property
    def candidate(self) -> Subject:
        """The checkpoint under attack."""
        return self.subjects[0]


@dataclass(frozen=True)
class Prepared:
    """Everything that was read and planned, before anything runs."""

    policy: Loaded[Policy]
    suite: Loaded[Suite]
    suite_data: SuiteData
    plan: Plan
    anchored: tuple[Trial, ...] = ()
    """Trials of earlier releases, from their reports."""

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All trials on which the verdict may rest."""
        return (*self.plan.trials, *self.anchored)

    @property
    def original(self) -> str | None:
        """The original's digest, if it is another model than the candidate."""
        digests = (each.manifest.digest for each in self.plan.subjects if each.role == Role.ORIGINAL)
        return next((each for each in digests if each != self.plan.candidate.manifest.digest), None)


def make(
    policy: Loaded[Policy],
    suite: Loaded[Suite],
    suite_data: SuiteData,
    subjects: Sequence[Subject],
    *,
    only: Sequence[str] = (),
    executor: str = "",
) -> Plan:
    """Make every trial.

    Args:
        policy: the limits and requirements.
        suite: the tasks and attacks.
        suite_data: the suite's files, from `gather`.
        subjects: the candidate first, then the original and controls, if any.
        only: run these attacks alone, by name or by label; the others are listed as left out, and a PASS is then
        impossible.
        executor: the executor, where it is a plug-in: it is part of the trials' identity.

    Raises:
        PlanError: policy and suite do not fit each other, the suite's data do not fit its attacks, or the original is
            the candidate itself.
    """
    _refuse_controls([subject.control for subject in subjects if subject.role == Role.CONTROL])
    configured = list(_configured(suite, suite_data))
    candidate = subjects[0]
    _refuse_itself(policy.record, subjects)
    reference = next((subject.manifest.digest for subject in subjects if subject.role == Role.ORIGINAL), None)
    everything = [
        trial_of(candidate, reference, module, config, index, suite_data, suite.record.dtype)
        for entry, module, config in configured
        for index in range(entry.seeds)
    ]
    check_fit(policy, suite, suite_data, everything)
    known = sorted({name for trial in everything for name in (trial.attack, label(trial))})
    for name in only:
        if name not in known:
            raise PlanError(f"--only '{name}': the suite has no such attack.", remedy=nearest(name, known))
    ordered = sorted(everything, key=lambda trial: trial.attack != "none")
    asked, dtype = spelled_out(policy.record), suite.record.dtype
    shams = _shams(asked, configured, candidate, reference, suite_data, dtype)
    beside = [each for subject in subjects[1:] for each in _beside(asked, subject, ordered, suite_data, dtype)]
    untouched = sum(trial.attack == "none" for trial in ordered)
    otherwise = _in_declared_dtype(candidate, suite_data, dtype)
    if any(not limit.absolute for limit in asked.limits):  # what is compared is asked in that precision too
        beside += [_of(subject, trial) for subject in subjects[1:] for trial in otherwise]
    whole = (*ordered[:untouched], *otherwise, *shams, *ordered[untouched:], *beside)
    made = {id(trial) for trial in whole if _is_made(trial, only, everything)}
    others = plugins.of((executor, *_named(suite.record)))
    trials = tuple(_beside_code(others, trial) for trial in whole if id(trial) in made)
    left_out = tuple(_left_out(trial) for trial in whole if id(trial) not in made)
    return Plan(trials, tuple(subjects), left_out, foreseen(policy, suite, suite_data, subjects, trials), others)


def _refuse_itself(policy: Policy, subjects: Sequence[Subject]) -> None:
    """Refuse the candidate as its own original: it would be compared with itself, and every difference would be 0.

    Where the policy pins that model as the original, no run has chosen it. The original is then examined as a
    candidate, to see that it FAILs; a limit on a share of a gap cannot judge it without its own untouched answers.
    """
    candidate = subjects[0].manifest.digest
    if policy.original != candidate and any(
        each.role == Role.ORIGINAL and each.manifest.digest == candidate for each in subjects
    ):
        raise PlanError(
            f"--original names the candidate itself: both have the digest {candidate[:16]}…",
            remedy="Name the model from before unlearning, or leave --original out.",
        )


def _left_out(trial: Trial) -> LeftOut:
    """A trial that --only leaves out."""
    return LeftOut(
        role=trial.role,
        control=trial.control,
        attack=trial.attack,
        config=trial.config,
        seed_index=trial.seed_index,
        why="only",
    )


def _named(suite: Suite) -> Iterator[str]:
    """The attacks and kinds of task that a suite names."""
    yield from (entry.attack for entry in suite.attacks)
    yield from (task.kind for task in suite.tasks.values())


def _beside_code(others: Sequence[Plugin], trial: Trial) -> Trial:
    """The trial with all third-party code of its run, also where its own attack is ours.

    Such code was imported by the program that planned and recorded the trial, and it can do anything there. So its
    result must not be taken for that of a run without it.
    """
    return trial.model_copy(update={"plugins": _merged(trial.plugins, others)}) if others else trial


def _merged(one: Sequence[Plugin], other: Sequence[Plugin]) -> tuple[Plugin, ...]:
    return tuple(sorted({*one, *other}, key=lambda each: each.distribution))


def _is_made(trial: Trial, only: Sequence[str], everything: Sequence[Trial]) -> bool:
    """Whether a run makes a trial of its plan: all of them, or with --only the named ones and their companions."""
    if not only or (trial.role not in OWN_ROLES and trial.attack == "none"):  # other models are always asked
        return True
    if trial.role == Role.SHAM:
        return any(each.attack == trial.attack and _is_made(each, only, ()) for each in everything)
    name = label_of(trial.attack, trial.config)
    return trial.attack in only or name in only


def _shams(
    policy: Policy,
    configured: Sequence[tuple[SuiteAttack, ModuleType, Any]],
    candidate: Subject,
    reference: str | None,
    suite_data: SuiteData,
    dtype: str,
) -> Iterator[Trial]:
    """Each required attack once at strength zero, on data that the suite has."""
    if policy.validity.sham == "off":
        return
    for attack in sorted({requirement.attack for requirement in policy.required} - {"none"}):
        module, config = next((m, c) for entry, m, c in configured if entry.attack == attack)
        yield sham_of(candidate, reference, module, config, suite_data, dtype)


def at_strength_zero(module: ModuleType, config: Any) -> Any:
    """An attack's config of strength zero, on the data of the given one."""
    sham = module.SHAM
    return dataclasses.replace(
        sham, **{name: getattr(config, name) for name in attacks.WHICH_DATA if hasattr(sham, name)}
    )


def sham_of(
    subject: Subject, reference: str | None, module: ModuleType, config: Any, suite_data: SuiteData, dtype: str
) -> Trial:
    """The attack at strength zero, on the data of the given config, so that it needs no missing data."""
    trial = trial_of(subject, reference, module, at_strength_zero(module, config), 0, suite_data, dtype)
    return trial.model_copy(update={"role": Role.SHAM, "floors": ()})  # at strength zero nothing can change


def _beside(
    policy: Policy, subject: Subject, own: Sequence[Trial], suite_data: SuiteData, dtype: str
) -> Iterator[Trial]:
    """The trials of the original and of a control: without attack, and the attacks after which it is compared."""
    none = attacks.load("none")
    yield trial_of(subject, None, none, none.Config(), 0, suite_data, dtype)
    whose: dict[str, Any] = {"subject": subject.manifest.digest, "role": subject.role, "control": subject.control}
    if subject.role == Role.ORIGINAL:
        whose["reference"] = None  # it cannot be compared with itself
    for trial in own:
        paired = any(_compares(limit, subject) and limits(limit, trial) for limit in policy.limits)
        if paired and trial.attack != "none":
            seed = seed_of(subject.manifest.digest, trial.attack, trial.seed_index)
            tasks = suite_data.task_refs(trial.attack, subject.role)
            yield trial.model_copy(update={**whose, "seed": seed, "tasks": tasks})


def _of(subject: Subject, trial: Trial) -> Trial:
    """A trial without attack, on another model."""
    digest = subject.manifest.digest
    whose = {"subject": digest, "role": subject.role, "control": subject.control}
    return trial.model_copy(update={**whose, "seed": seed_of(digest, trial.attack, trial.seed_index)})


def _compares(limit: Limit, subject: Subject) -> bool:
    """Whether a limit compares the attacked candidate with this model after the same attack."""
    if subject.role == Role.CONTROL:
        return limit.control == subject.control
    return limit.recovered is not None and limit.recovered.yardstick == "same_attack"


def without_pins(policy: Loaded[Policy], suite_data: SuiteData) -> Loaded[Policy]:
    """The same policy without what `policy pin` writes: digests of questions, data and settings, counts of items."""
    record = policy.record
    nothing: dict[str, Any] = {"sha256": None, "source": None, "questions": None}
    held = {name: len(each.items) for name, each in suite_data.tasks.items()}
    tasks = {
        name: pin.model_copy(update={**nothing, "items": held.get(in_format(name, pin.formats[0]), pin.items)})
        for name, pin in record.tasks.items()
    }
    required = tuple(each.model_copy(update={"config_sha256": None}) for each in record.required)
    bare = record.model_copy(update={"tasks": tasks, "data": {}, "required": required})
    return dataclasses.replace(policy, record=bare)


def _in_declared_dtype(candidate: Subject, suite_data: SuiteData, dtype: str) -> list[Trial]:
    """The candidate without attack in the dtype of its config.json, where that differs from the stored one.

    A config may declare float16 for weights in float32; the two may be built to behave differently.
    """
    try:
        declared = stored(candidate.place).declared
    except CheckpointError:  # invalid weights are refused later; a plan needs only the names
        return []
    if declared in (None, dtype):
        return []
    none = attacks.load("none")
    trial = trial_of(candidate, None, none, none.Config(), 0, suite_data, declared)
    return [trial.model_copy(update={"role": Role.IN_DECLARED_DTYPE})]


def through_original(plan: Plan, suite_data: SuiteData, dtype: str) -> Trial:
    """The untouched candidate with the original's tokenizer, which a run adds where the two differ.

    Only without attack: a policy that accepts a recorded difference accepts attacks through the delivered tokenizer.
    """
    none, original = attacks.load("none"), next(each for each in plan.subjects if each.role == Role.ORIGINAL)
    trial = trial_of(plan.candidate, None, none, none.Config(), 0, suite_data, dtype)
    asked = trial.model_copy(update={"role": Role.THROUGH_ORIGINAL, "reference": original.manifest.digest})
    return _beside_code(plan.others, asked)


def of_candidate(plan: Plan) -> tuple[Trial, ...]:
    """The candidate's trials."""
    return tuple(trial for trial in plan.trials if trial.role == Role.CANDIDATE)


def _refuse_controls(names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        try:
            ModelRef(role=Role.CONTROL, control=name)
        except ValidationError:
            raise PlanError(
                f"'{name}' is not a control's name.", remedy="Use letters, digits, '_', '.' and '-'."
            ) from None
        if name in names[:index]:
            raise PlanError(f"the control '{name}' is given twice.", remedy="Give each its own name.")


def _configured(suite: Loaded[Suite], suite_data: SuiteData) -> Iterator[tuple[SuiteAttack, ModuleType, Any]]:
    seen: dict[str, int] = {}
    for index, entry in enumerate(suite.record.attacks):
        module = attacks.load(entry.attack, where=suite.where("attacks", index, "attack"))
        try:
            config = attacks.configure(module, entry.config)
        except attacks.BadConfig as error:
            key = [error.key] if error.key else []
            place = suite.where("attacks", index, "config", *key)
            remedy = error.remedy or "`robustness-gate attacks --json` prints every setting with its default."
            raise PlanError(error.message, remedy=remedy, where=place, code=error.code) from None
        sources = getattr(config, "source", None)
        if sources not in (None, "dev", *suite_data.corpora):
            raise PlanError(
                f"the attack trains on '{sources}', and the suite has no such corpus.",
                remedy="Add it under 'corpora'.",
                where=suite.where("attacks", index, "config", "source"),
                code="unknown-corpus",
            )
        refusal = attacks.refusal(module, config, suite_data.pool())
        if refusal:
            raise PlanError(
                f"{refusal}.",
                remedy="Lower the budget or add data.",
                where=suite.where("attacks", index),
                code="too-little-data",
            )
        address = digest_of([entry.attack, attacks.as_json(config)])
        if address in seen:
            raise PlanError(
                f"is the same as attack {seen[address]}.",
                remedy="Use 'seeds'.",
                where=suite.where("attacks", index),
                code="duplicate-attack",
            )
        seen[address] = index
        yield entry, module, config


def trial_of(
    subject: Subject,
    reference: str | None,
    module: ModuleType,
    config: Any,
    index: int,
    suite_data: SuiteData,
    dtype: str,
) -> Trial:
    """One complete trial. `index` numbers the seeds, `reference` is the digest of the original."""
    attack, tasks = attacks.DOOR.name_of(module), suite_data.task_refs(attacks.DOOR.name_of(module))
    floors: tuple[Floor, ...] = module.FLOORS
    settings: dict[str, Json] = attacks.as_json(config)
    made = Trial(
        subject=subject.manifest.digest,
        role=subject.role,
        control=subject.control,
        reference=reference if _looks_at_the_original(module) else None,
        attack=attack,
        attack_version=module.VERSION,
        family=module.FAMILY,
        config=settings,
        budgets=attacks.budgets(config),
        seed_index=index,
        seed=seed_of(subject.manifest.digest, attack, index),
        tasks=tasks,
        data=suite_data.data_digests,
        floors=floors,
        dtype=dtype,
        plugins=plugins.of((attack, *(task.kind for task in tasks))),
    )
    aims = applicability.of(module, config, suite_data.hazards).names
    return made if made.aims == frozenset(aims) else made.model_copy(update={"hazard": aims})


def _looks_at_the_original(module: ModuleType) -> bool:
    """Whether an attack uses the original where there is one. It is not part of the identity of other attacks'
    trials.
    """
    return "original" in (*getattr(module, "NEEDS", ()), *getattr(module, "USES", ()))
