"""What a policy requires, hypothesis by hypothesis: which limit covers which trial, and how many could falsely FAIL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from robustness_gate.records.base import Format, Metric, Plugin
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.policy import Guardrail, Limit, Policy, Requirement, TaskPin, Utility, same
from robustness_gate.records.questions import UNASKED, Kind, TaskRef, in_format
from robustness_gate.records.trial import Role, Trial

if TYPE_CHECKING:  # reading a policy needs no record of what was found
    from robustness_gate.records.evidence import LeftOut, SelfTest

DIAGNOSES = frozenset({"probe"})
"""Diagnostic attacks: they yield the untouched model, so no limit covers them, and they establish neither a breach nor
compliance. By name and not by family, so that a plug-in cannot exempt itself from a limit."""

AIMLESS = frozenset({"none", "quantize", "interpolate"})
"""Attacks that train nothing and select nothing: they are the same for every form of a task. By name as well."""


def spelled_out(policy: Policy) -> Policy:
    """The same policy without shorthand: the ratchet as limits, and each format as a separate task."""
    return _by_format(_in_points(_ratcheted(policy)))


def declared_hypotheses(policy: Policy) -> int:
    """Number of hypotheses in the policy: limit x format x requirement x seed x budget, and each comparison.

    Each could cause a false FAIL. A comparison is a utility with a minimum or a guardrail, in each format of its task.
    """
    policy = spelled_out(policy)
    limits = sum(
        requirement.seeds * max(1, len(requirement.budgets))
        for limit in policy.limits
        for requirement in policy.required
        if covers(limit, requirement)
    )
    return limits + sum(each.min is not None for each in policy.utility) + len(policy.guardrails)


def covers(limit: Limit, requirement: Requirement) -> bool:
    """Whether a limit covers all trials of a requirement: it names no attack, or the same one at least as widely."""
    return not limit.attacks or any(
        selector.attack == requirement.attack and selector.where.items() <= requirement.where.items()
        for selector in limit.attacks
    )


def limits(limit: Limit, trial: Trial) -> bool:
    """Whether a limit covers a trial: it names no attack, or selects this one.

    No limit covers a diagnostic attack or a diagnostic task.
    """
    if trial.attack in DIAGNOSES or not all(judged_in(task, trial).hazard for task in limit.readings):
        return False
    return not limit.attacks or any(selector.selects(trial) for selector in limit.attacks)


def aimed(task: str, trial: Trial) -> bool:
    """Whether a trial's attack trained and selected in the form of a task, or needs no form.

    Otherwise it can establish a breach but not compliance.
    """
    return trial.attack in AIMLESS or task in trial.aims


def kind_of(task: str, trial: Trial) -> str:
    """The kind of a trial's task; empty if it does not ask the task."""
    return next((each.kind for each in trial.tasks if each.name == task), "")


def judged_in(task: str, trial: Trial) -> Kind:
    """How a trial's answers to a task are judged. For a task that it does not ask every rule applies (`UNASKED`)."""
    return next((each.judged for each in trial.tasks if each.name == task), UNASKED)


def metric_of(rule: Limit | Utility | Guardrail, trial: Trial) -> Metric:
    """The metric of a rule in a trial: the one that it names, else the one that decides in the kind of its task."""
    return metric_in(rule, rule.task, trial)


def metric_in(rule: Limit | Utility | Guardrail, task: str, trial: Trial) -> Metric:
    """The same for one of the tasks of a score."""
    return rule.metric or judged_in(task, trial).deciding


def without_metric(rule: Limit | Utility | Guardrail, trial: Trial) -> TaskRef | None:
    """The trial's task, if a rule is on it in a metric that its kind does not have: no answer is judged by it there."""
    return next(
        (t for t in trial.tasks if t.name == rule.task and metric_of(rule, trial) not in t.judged.metrics), None
    )


def declares(requirement: Requirement, trial: Trial | None, budget: int) -> bool:
    """Whether the requirement includes this budget of this trial; without budgets, the only budget of the attack.

    Never for a trial that asks differently from the suite: it can establish a breach, but compliance must be
    established by the model as delivered.
    """
    if trial is None or trial.role in OTHERWISE_ASKED:
        return False
    if trial.seed_index >= requirement.seeds or not requirement.selects(trial):
        return False
    if requirement.config_sha256 not in (None, digest_of(trial.config)):
        return False
    return budget in requirement.budgets if requirement.budgets else trial.budgets == (budget,)


TELLING = ("source", "method", "scheme", "apply", "utility", "calibrate_on")
"""Settings that distinguish an attack from similar ones in a suite."""


OTHERWISE_ASKED = {
    Role.THROUGH_ORIGINAL: "through the original's tokenizer",
    Role.IN_DECLARED_DTYPE: "in the precision that config.json names",
}
"""How the untouched candidate was asked, if not as the suite asks, by the trial's role."""


def label(trial: Trial) -> str:
    """The attack and the settings that distinguish it from similar ones, e.g. `relearn (forget, lora)`."""
    return _label(trial.role, trial.attack, trial.config)


def _label(role: Role, attack: str, config: Mapping[str, Json]) -> str:
    return f"no attack, {OTHERWISE_ASKED[role]}" if role in OTHERWISE_ASKED else label_of(attack, config)


def label_of(attack: str, config: Mapping[str, Json]) -> str:
    """The same for an attack without a trial."""
    values = [config[key] for key in TELLING if key in config]
    parts = ["/".join(map(str, each)) if isinstance(each, list) else str(each) for each in values]
    parts += ["texts"] if config.get("train_on") == "texts" else []
    repair = config.get("repair", "none")
    parts += [f"repaired on {repair}"] if repair != "none" else []
    blocks = config.get("layers")
    parts += [f"blocks {', '.join(str(each) for each in blocks)}"] if isinstance(blocks, list) and blocks else []
    return f"{attack} ({', '.join(parts)})" if parts else attack


def named(trial: Trial | LeftOut) -> dict[str, Json]:
    """Which trial, as the arguments of a code (`codes.TRIAL`)."""
    who = {"role": trial.role.value, "control": trial.control}
    shown = _label(trial.role, trial.attack, trial.config)
    return {**who, "attack": trial.attack, "label": shown, "seed_index": trial.seed_index}


def which(config: Mapping[str, Json]) -> dict[str, Json]:
    """The settings that define the kind of an attack: every setting that is a string, and its blocks.

    Numbers define only its strength: budgets, rates, ranks, how many examples.
    """
    return {key: value for key, value in config.items() if isinstance(value, str) or key == "layers"}


class Asked(NamedTuple):
    """A requirement, and the suite's attack that it selects."""

    requirement: Requirement
    version: int
    """The attack's version."""
    config: Mapping[str, Json]
    """Every setting, as in a trial."""
    budgets: tuple[int, ...]
    """The budgets that the requirement names; all of the trial's if it names none."""
    plugins: tuple[Plugin, ...] = ()
    """The plug-in of the attack, if it is one's."""


def asked_by(requirement: Requirement, trial: Trial) -> Asked:
    """What a requirement asks for if it selects a trial."""
    theirs = tuple(each for each in trial.plugins if trial.attack.startswith(f"{each.distribution}/"))
    return Asked(requirement, trial.attack_version, trial.config, requirement.budgets or trial.budgets, theirs)


def vouches(test: SelfTest, asked: Asked) -> bool:
    """Whether a self-test tried the attack that a requirement asks for.

    The attack, a plug-in's content, its non-numeric settings, the values in `where` and a required budget must match. A
    list of strings may be a subset, never a superset. Numbers may have been adapted to a small model; those in `where`
    or `budgets` only if `extended` records the required values.
    """
    requirement, version, config, budgets, plugins = asked
    tried = test.config
    if (test.attack, test.attack_version, test.plugins) != (requirement.attack, version, plugins):
        return False
    if tried.keys() != config.keys() or not same(which(tried), which(config)):
        return False
    for key, value in tried.items():
        if isinstance(value, list) and has_words(value) and not all(each in config[key] for each in value):
            return False
    for key, value in requirement.where.items():
        if not same(tried.get(key), value) and (has_words(value) or not same(test.extended.get(key), value)):
            return False
    return test.budget in budgets or test.extended.get("budgets") == list(budgets)


def has_words(value: Json) -> bool:
    """Whether a setting is not purely numeric, so that it defines what is done and not only how much."""
    inside = value if isinstance(value, list) else [value]
    return any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in inside)


def _ratcheted(policy: Policy) -> Policy:
    """Add each limit that is relative to no control once more, as an excess limit relative to the earlier release."""
    if policy.ratchet is None:
        return policy
    again = tuple(
        limit.model_copy(
            update={
                "id": f"{limit.id}.ratchet",
                "max": policy.ratchet.max_rise,
                "recovered": None,
                "relative_to": policy.ratchet.relative_to,
            }
        )
        for limit in policy.limits
        if limit.relative_to is None
    )
    return policy.model_copy(update={"limits": (*policy.limits, *again), "ratchet": None})


def _in_points(policy: Policy) -> Policy:
    """Make the `max` of a share limit an excess limit of its own, over the same control."""
    limits: list[Limit] = []
    for limit in policy.limits:
        if limit.recovered is None or limit.max is None:
            limits.append(limit)
            continue
        # without a control the record refuses `max`
        excess = {"id": f"{limit.id}.points", "recovered": None, "relative_to": limit.recovered.control}
        limits += [limit.model_copy(update={"max": None}), limit.model_copy(update=excess)]
    return policy.model_copy(update={"limits": tuple(limits)})


def _by_format(policy: Policy) -> Policy:
    """Make each format of a task a separate task, and repeat every rule for each.

    So the rule must hold in both raw and chat, and the worse result decides. Applying it twice changes nothing.
    """

    def formats(task: str) -> tuple[Format, ...]:
        return policy.tasks[task].formats if task in policy.tasks else ("raw",)

    def hiding(pin: TaskPin, format_: Format) -> str | None:
        other = pin.choices_only
        return in_format(other, format_) if other is not None and format_ in formats(other) else other

    def named(id_: str, format_: Format) -> str:
        return id_ if format_ == "raw" else f"{id_}.{format_}"

    tasks = {
        in_format(name, each): pin.model_copy(update={"formats": ("raw",), "choices_only": hiding(pin, each)})
        for name, pin in policy.tasks.items()
        for each in pin.formats
    }
    limits = tuple(
        limit.model_copy(
            update={
                "id": named(limit.id, each),
                "task_": None if limit.task_ is None else in_format(limit.task_, each),
                "score": tuple(in_format(task, each) for task in limit.score),
            }
        )
        for limit in policy.limits
        for each in formats(limit.task)
    )
    utility = tuple(
        each.model_copy(update={"task": in_format(each.task, format_)})
        for each in policy.utility
        for format_ in formats(each.task)
    )
    guardrails = tuple(
        each.model_copy(update={"id": named(each.id, format_), "task": in_format(each.task, format_)})
        for each in policy.guardrails
        for format_ in formats(each.task)
    )
    return policy.model_copy(update={"tasks": tasks, "limits": limits, "utility": utility, "guardrails": guardrails})
