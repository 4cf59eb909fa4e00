"""What a policy asks for, cell by cell: which limit is on which trial, and how often a false FAIL could happen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from robustness_gate.records.base import METRICS, Format
from robustness_gate.records.encode import Json, digest_of
from robustness_gate.records.evidence import LeftOut, SelfTest
from robustness_gate.records.policy import Limit, Policy, Requirement, same
from robustness_gate.records.questions import UNASKED, Kind, in_format
from robustness_gate.records.trial import Measurement, Role, Trial
from robustness_gate.records.verdict import Blocker

DIAGNOSES = frozenset({"probe"})
"""Diagnostic attacks. They hand over the untouched model, so no limit covers them: what they find is reported, and it
establishes neither a breach nor compliance. By name and not by family: no plug-in can take itself out of a limit."""

AIMLESS = frozenset({"none", "quantize", "interpolate"})
"""Attacks that train nothing and choose nothing: they are the same in whatever form a task asks. By name as well."""


def spelled_out(policy: Policy) -> Policy:
    """The same policy in its longest words: the ratchet as limits, and each format as a task of its own."""
    return _by_format(_ratcheted(policy))


def declared_hypotheses(policy: Policy) -> int:
    """Chances of a false FAIL in the policy's text: limit x format x requirement x seed x budget, and each comparison.

    A comparison is a utility or a guardrail, in each format of its task.
    """
    policy = spelled_out(policy)
    limits = sum(
        requirement.seeds * max(1, len(requirement.budgets))
        for limit in policy.limits
        for requirement in policy.required
        if covers(limit, requirement)
    )
    return limits + len(policy.utility) + len(policy.guardrails)


def covers(limit: Limit, requirement: Requirement) -> bool:
    """Whether a limit speaks of a requirement's trials: it names no attack, or the same one no more narrowly."""
    return not limit.attacks or any(
        selector.attack == requirement.attack and selector.where.items() <= requirement.where.items()
        for selector in limit.attacks
    )


def limits(limit: Limit, trial: Trial) -> bool:
    """Whether a limit is held against a trial: it names no attack, or selects this one.

    None speaks of a diagnosis, nor of a task that only tells.
    """
    if trial.attack in DIAGNOSES or not judged_in(limit.task, trial).hazard:
        return False
    return not limit.attacks or any(selector.selects(trial) for selector in limit.attacks)


def aimed(task: str, trial: Trial) -> bool:
    """Whether an attack trained and chose in the form of a task, or needs none. Else it can only establish a breach."""
    return trial.attack in AIMLESS or task in trial.aims


def kind_of(task: str, trial: Trial) -> str:
    """The kind of a task that a trial asks; empty where it does not ask it."""
    return next((each.kind for each in trial.tasks if each.name == task), "")


def judged_in(task: str, trial: Trial) -> Kind:
    """How a trial's answers to a task are judged. One that it does not ask is held by every rule: it is missing."""
    return next((each.judged for each in trial.tasks if each.name == task), UNASKED)


def declares(requirement: Requirement, trial: Trial | None, budget: int) -> bool:
    """Whether the requirement asks for this budget of this trial. Without budgets it asks for an attack that has one.

    Never for one that asks otherwise than the suite does: it can establish a breach, and compliance is established on
    the model as delivered.
    """
    if trial is None or trial.role in OTHERWISE_ASKED:
        return False
    if trial.seed_index >= requirement.seeds or not requirement.selects(trial):
        return False
    if requirement.config_sha256 not in (None, digest_of(trial.config)):
        return False
    return budget in requirement.budgets if requirement.budgets else trial.budgets == (budget,)


TELLING = ("source", "method", "scheme", "apply", "utility", "calibrate_on")
"""Settings that tell an attack from its siblings in a suite."""


OTHERWISE_ASKED = {
    Role.THROUGH_ORIGINAL: "through the original's tokenizer",
    Role.IN_DECLARED_DTYPE: "in the precision that config.json names",
}
"""How the candidate as delivered was asked, where that is otherwise than the suite asks, by the trial's role."""


def label(trial: Trial) -> str:
    """The attack and the settings that tell it from its siblings, e.g. `relearn (forget, lora)`."""
    return _label(trial.role, trial.attack, trial.config)


def _label(role: Role, attack: str, config: Mapping[str, Json]) -> str:
    return f"no attack, {OTHERWISE_ASKED[role]}" if role in OTHERWISE_ASKED else label_of(attack, config)


def label_of(attack: str, config: Mapping[str, Json]) -> str:
    """The same of an attack that no trial has been made of."""
    told = [config[key] for key in TELLING if key in config]
    words = ["/".join(map(str, each)) if isinstance(each, list) else str(each) for each in told]
    words += ["texts"] if config.get("train_on") == "texts" else []
    repair = config.get("repair", "none")
    words += [f"repaired on {repair}"] if repair != "none" else []
    blocks = config.get("layers")
    words += [f"blocks {', '.join(str(each) for each in blocks)}"] if isinstance(blocks, list) and blocks else []
    return f"{attack} ({', '.join(words)})" if words else attack


def named(trial: Trial | LeftOut) -> dict[str, Json]:
    """Which trial, as the arguments of a code (`codes.TRIAL`)."""
    who = {"role": trial.role.value, "control": trial.control}
    shown = _label(trial.role, trial.attack, trial.config)
    return {**who, "attack": trial.attack, "label": shown, "seed_index": trial.seed_index}


def incomplete(trial: Trial, attempt: int, measurements: Iterable[Measurement]) -> Blocker | None:
    """What an attempt that ended well lacks of all that its trial asks; None where it lacks nothing.

    Answers are there in every reading or not at all: one that is taken out would hide what changed in it.

    Args:
        trial: which is asked every one of its tasks at every one of its budgets.
        attempt: one that was closed as `ok`.
        measurements: of that trial, of any attempt.
    """
    there = {
        (each.budget, each.task)
        for each in measurements
        if each.attempt == attempt and set(METRICS) <= set(each.correct)
    }
    gone = [(budget, task.name) for budget in trial.budgets for task in trial.tasks if (budget, task.name) not in there]
    if not gone:
        return None
    budget, task = gone[0]
    args = {**named(trial), "attempt": attempt, "task": task, "budget": budget, "more": len(gone) - 1}
    return Blocker(code="incomplete", args=args)


def which(config: Mapping[str, Json]) -> dict[str, Json]:
    """Which attack of its name a config is: every setting that is a word, and the blocks that it is held to.

    What is told in numbers says how much of it is done: budgets, rates, ranks, how many examples.
    """
    return {key: value for key, value in config.items() if isinstance(value, str) or key == "layers"}


class Asked(NamedTuple):
    """A requirement, and the suite's attack that it selects."""

    requirement: Requirement
    version: int
    """Of the attack."""
    config: Mapping[str, Json]
    """Every setting, as in a trial."""
    budgets: tuple[int, ...]
    """What the requirement names of the suite's budgets; all of them where it names none."""


def asked_by(requirement: Requirement, trial: Trial) -> Asked:
    """What a requirement asks for by selecting a trial."""
    return Asked(requirement, trial.attack_version, trial.config, requirement.budgets or trial.budgets)


def vouches(test: SelfTest, asked: Asked) -> bool:
    """Whether a self-test tried the attack that a requirement asks for.

    It is of the same attack and words, of what `where` says, at a budget that is asked for. A choice of words may have
    been shorter, never wider. Numbers may have been made to suit a small model; those that `where` or `budgets` name
    only where the record says that these very ones were asked for.
    """
    requirement, version, config, budgets = asked
    told = test.config
    if (test.attack, test.attack_version) != (requirement.attack, version):
        return False
    if told.keys() != config.keys() or not same(which(told), which(config)):
        return False
    for key, value in told.items():
        if isinstance(value, list) and has_words(value) and not all(each in config[key] for each in value):
            return False
    for key, value in requirement.where.items():
        if not same(told.get(key), value) and (has_words(value) or not same(test.extended.get(key), value)):
            return False
    return test.budget in budgets or test.extended.get("budgets") == list(budgets)


def has_words(value: Json) -> bool:
    """Whether a setting says what is done, not only how much: not all of it is numbers."""
    inside = value if isinstance(value, list) else [value]
    return any(isinstance(each, bool) or not isinstance(each, (int, float)) for each in inside)


def _ratcheted(policy: Policy) -> Policy:
    """Every absolute limit once more, as an excess over the earlier release that the ratchet names."""
    if policy.ratchet is None:
        return policy
    again = tuple(
        limit.model_copy(
            update={
                "id": f"{limit.id}.ratchet",
                "max": policy.ratchet.max_rise,
                "relative_to": policy.ratchet.relative_to,
            }
        )
        for limit in policy.limits
        if limit.relative_to is None
    )
    return policy.model_copy(update={"limits": (*policy.limits, *again), "ratchet": None})


def _by_format(policy: Policy) -> Policy:
    """Each format of a task as a task of its own, every rule repeated for each.

    So "the gate takes the worse of raw and chat" needs no rule: both must hold. Twice is the same as once.
    """

    def formats(task: str) -> tuple[Format, ...]:
        return policy.tasks[task].formats if task in policy.tasks else ("raw",)

    def named(id_: str, format_: Format) -> str:
        return id_ if format_ == "raw" else f"{id_}.{format_}"

    tasks = {
        in_format(name, each): pin.model_copy(update={"formats": ("raw",)})
        for name, pin in policy.tasks.items()
        for each in pin.formats
    }
    limits = tuple(
        limit.model_copy(update={"id": named(limit.id, each), "task": in_format(limit.task, each)})
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
