"""What a policy asks for, cell by cell: which limit is on which trial, and how often a false FAIL could happen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from robustness_gate.files import digest_of
from robustness_gate.nouns import READINGS, Format, Json, Kind, LeftOut, Mark, SelfTest, Trial, in_format, judged_as
from robustness_gate.policy import Limit, Policy, Requirement, same

DIAGNOSES = frozenset({"probe"})
"""Attacks that only look. They hand over the untouched model, so no limit speaks of them: what they see is told, and it
neither convicts nor acquits. By name and not by family: nobody's plug-in can take itself out of a limit."""

AIMLESS = frozenset({"none", "quantize", "interpolate"})
"""Attacks that train nothing and choose nothing: they are the same in whatever form a task asks. By name as well."""


def spelled_out(policy: Policy) -> Policy:
    """The same policy in its longest words: the ratchet as limits, and each format as a task of its own."""
    return _by_format(_ratcheted(policy))


def declared_cells(policy: Policy) -> int:
    """Chances of a false FAIL in the policy's text: limit x format x requirement x seed x mark, and each comparison.

    A comparison is a utility or a guardrail, in each format of its task.
    """
    policy = spelled_out(policy)
    limits = sum(
        requirement.seeds * max(1, len(requirement.marks))
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
    """Whether a trial's attack trained and chose in the form of a task, or needs none. Else it may convict alone."""
    return trial.attack in AIMLESS or task in trial.aims


def kind_of(task: str, trial: Trial) -> str:
    """The kind of a task that a trial asks; empty where it does not ask it."""
    return next((each.kind for each in trial.tasks if each.name == task), "")


def judged_in(task: str, trial: Trial) -> Kind:
    """How a trial's answers to a task are judged. One that it does not ask is held by every rule: it is missing."""
    kind = kind_of(task, trial)
    return judged_as(kind) if kind else Kind(written=False, hazard=True, guarded=True)


def declares(requirement: Requirement, trial: Trial | None, mark: int) -> bool:
    """Whether the requirement asks for this mark of this trial. Without marks it asks for an attack that has one.

    Never for one that asks otherwise than the suite does: it can convict, and the model as delivered has to acquit
    itself.
    """
    if trial is None or trial.role in OTHERWISE_ASKED:
        return False
    if trial.seed_index >= requirement.seeds or not requirement.selects(trial):
        return False
    if requirement.config_sha256 not in (None, digest_of(trial.config)):
        return False
    return mark in requirement.marks if requirement.marks else trial.marks == (mark,)


TELLING = ("source", "method", "scheme", "apply", "utility", "calibrate_on")
"""Settings that tell an attack from its siblings in a suite."""


OTHERWISE_ASKED = {
    "through_original": "no attack, through the original's tokenizer",
    "in_declared_dtype": "no attack, in the precision that config.json names",
}
"""What the candidate as delivered is called where it was asked otherwise than the suite asks, by the trial's role."""


def label(trial: Trial) -> str:
    """The attack and the settings that tell it from its siblings, e.g. `relearn (forget, lora)`."""
    return OTHERWISE_ASKED.get(trial.role) or label_of(trial.attack, trial.config)


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


def called(role: str, attack: str, config: Mapping[str, Json]) -> str:
    """The attack's label, with what it is where it is not the candidate under attack."""
    plain = OTHERWISE_ASKED.get(role) or label_of(attack, config)
    if role in ("candidate", *OTHERWISE_ASKED):
        return plain
    return f"sham of {attack}" if role == "sham" else f"{plain} [{role}]"


BY = {"only": "left out by --only"}
"""How a trial came to be left out, by its code."""


def place_of(each: LeftOut | str) -> str:
    """Which trial a run was told not to make: `relearn (forget, full), seed 0`."""
    if isinstance(each, str):
        return each.partition(": ")[0]
    return f"{called(each.role, each.attack, each.config)}, seed {each.seed_index}"


def not_made(each: LeftOut | str) -> str:
    """The same with what made it so: `relearn (forget, full), seed 0: left out by --only`."""
    return each if isinstance(each, str) else f"{place_of(each)}: {BY[each.why]}"


def untold(trial: Trial, attempt: int, marks: Iterable[Mark]) -> str:
    """What an attempt that ended well lacks of all that its trial asks, in words; empty where it lacks nothing.

    Answers are there in every reading or not at all: one that is taken out would hide what changed in it.

    Args:
        trial: which is asked every one of its tasks at every one of its marks.
        attempt: one that was closed as `ok`.
        marks: of that trial, of any attempt.
    """
    told = {(each.mark, each.task) for each in marks if each.attempt == attempt and set(READINGS) <= set(each.correct)}
    gone = [(mark, task.name) for mark in trial.marks for task in trial.tasks if (mark, task.name) not in told]
    if not gone:
        return ""
    first, task = gone[0]
    at = f" at budget {first}" if first else ""
    more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
    return f"attempt {attempt} is said to have ended well, and its answers to '{task}'{at}{more} are not on record"


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
    """What the requirement names of the suite's marks; all of them where it names none."""


def asked_by(requirement: Requirement, trial: Trial) -> Asked:
    """What a requirement asks for by selecting a trial."""
    return Asked(requirement, trial.attack_version, trial.config, requirement.marks or trial.marks)


def vouches(test: SelfTest, asked: Asked) -> bool:
    """Whether a self-test tried the attack that a requirement asks for.

    It is of the same attack and words, of what `where` says, at a budget that is asked for. A choice of words may have
    been shorter, never wider. Numbers may have been made to suit a small model; those that `where` or `marks` name only
    where the record says that these very ones were asked for.
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
    return test.mark in budgets or test.extended.get("marks") == list(budgets)


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
            update={"id": f"{limit.id}.ratchet", "max": policy.ratchet.max_rise, "over": policy.ratchet.over}
        )
        for limit in policy.limits
        if limit.over is None
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
