"""Contradictions in a well-formed policy: every check that involves more than one record.

Each check is a generator of `Trouble`; the first one in the order of the file is reported. `planning.compatibility` has
the checks that also need the suite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from robustness_gate.errors import FileError
from robustness_gate.inputs.validation import Loaded
from robustness_gate.inputs.yaml import Path_, Raw, where_in
from robustness_gate.policy_language.codes import Trouble, first_of
from robustness_gate.records.encode import digest_of
from robustness_gate.records.mechanisms import mechanism_of, methods
from robustness_gate.records.policy import MECHANISMS, Limit, Policy, Selector
from robustness_gate.system.sentences import nearest
from robustness_gate.verdict import covers, spelled_out

MOVING = re.compile(r"[@/](main|master|head|latest|dev|trunk)(/|$)", re.IGNORECASE)
PINNED = re.compile(r"@[0-9a-f]{40}(/|$)")
NEVER_WAIVED = frozenset(
    (
        "limit",
        "limits",
        "sham",
        "positive_control",
        "self_test",
        "calibration",
        "utility",
        "guardrail",
        "ratchet",
        "target",
        "required",
    )
)


def contradictions(policy: Policy) -> Iterator[Trouble]:
    """Every error in the policy that does not depend on the date."""
    yield from _duplicates(policy)
    yield from _names(policy)
    yield from _idle(policy)
    yield from _vacuous(policy)
    yield from _controls(policy)
    yield from _shares(policy)
    yield from _sources(policy)
    yield from _waivers(policy)
    yield from _calibration(policy)


def refuse_untimely(loaded: Loaded[Policy], day: date) -> None:
    """Refuse a policy that is not valid on a day (UTC), or contains anything that is not.

    Raises:
        FileError: `policy-expired`, `policy-not-yet`, `control-expired` or `waiver-expired`, at its place.
    """
    first_of(loaded, _untimely(loaded.record, day))


def refuse_wrong_targets(raw: Raw) -> None:
    """Refuse what cannot be waived with its own code, before validation reports an unknown key. Raises FileError."""
    waivers = raw.data.get("waivers")
    for index, waiver in enumerate(waivers if isinstance(waivers, list) else ()):
        if not isinstance(waiver, dict):
            continue
        at: Path_ = ("waivers", index)
        named = waiver.get("requirement")
        attack = named.get("attack") if isinstance(named, dict) else named
        if named == "*" or (isinstance(attack, str) and "*" in attack) or waiver.get("flag") == "*":
            key = "flag" if waiver.get("flag") == "*" else "requirement"
            raise _refuse(raw, (*at, key), "waiver-wildcard", "a waiver names one thing", "Name it.")
        wrong = sorted(NEVER_WAIVED & waiver.keys())
        if wrong or waiver.get("flag") in NEVER_WAIVED:
            word = wrong[0] if wrong else waiver["flag"]
            remedy = "Name one requirement or one flag; a FAIL can only be accepted, under 'accepted_risks'."
            place = (*at, wrong[0] if wrong else "flag")
            raise _refuse(raw, place, "waiver-target", f"'{word}' cannot be waived", remedy)


def _refuse(raw: Raw, at: Path_, code: str, message: str, remedy: str) -> FileError:
    return FileError(message, remedy=remedy, where=where_in(raw.places, at) or str(raw.path), code=code)


# --- the same thing twice --------------------------------------------------------------------------------------------


def _duplicates(policy: Policy) -> Iterator[Trouble]:
    for key in ("limits", "guardrails", "waivers", "accepted_risks"):
        ids = [each.id for each in getattr(policy, key)]
        for index in _again(ids):
            yield Trouble(
                "duplicate-id", f"the id '{ids[index]}' was used before", "Ids are unique.", (key, index, "id")
            )
    spelled = [each.id for each in spelled_out(policy).limits]
    for index, limit in enumerate(policy.limits):
        if spelled.count(limit.id) > 1 and [each.id for each in policy.limits].count(limit.id) == 1:
            words = f"the id '{limit.id}' is that of a rule which follows from another limit"
            yield Trouble("duplicate-id", words, "Give it another id.", ("limits", index, "id"))
    for index in _again([_name(each) for each in policy.required]):
        words = f"{_selector(policy.required[index])} is required before"
        yield Trouble("duplicate-id", words, "Put seeds and budgets into one line.", ("required", index))
    for index in _again([(each.task, each.metric) for each in policy.utility]):
        words = f"'{policy.utility[index].task}' has a utility before"
        yield Trouble("duplicate-id", words, "Keep the stricter.", ("utility", index, "task"))
    rules = [(*_same(each), frozenset(map(_name, each.attacks))) for each in policy.limits]
    for index in _again(rules):
        limit, earlier = policy.limits[index], policy.limits[rules.index(rules[index])]
        if limit.most == earlier.most:
            words = f"says what the limit '{earlier.id}' says"
        else:
            words = f"gives what the limit '{earlier.id}' holds at {earlier.most} another value, {limit.most}"
        yield Trouble("contradiction", words, "Keep one of the two.", ("limits", index))
    for index, limit in enumerate(policy.limits):
        for position in _again([_name(each) for each in limit.attacks]):
            words = f"{limit.attacks[position]} is named before"
            yield Trouble("duplicate-id", words, "Name it once.", ("limits", index, "attacks", position))
    for name, pin in policy.tasks.items():
        if len(set(pin.formats)) < len(pin.formats):
            words = "a format is named twice"
            yield Trouble("duplicate-format", words, "Name each once.", ("tasks", name, "formats"))
        if name.endswith(".chat"):
            words = f"'{name}': the ending '.chat' is kept for the chat format"
            remedy = "Write 'formats: [raw, chat]' under the task's own name."
            yield Trouble("reserved-name", words, remedy, ("tasks", name))


def _same(limit: Limit) -> tuple[object, ...]:
    """What two limits must have in common to be one rule with two numbers."""
    yardstick = None if limit.recovered is None else limit.recovered.yardstick
    return limit.readings, limit.metric, limit.control, yardstick


def _control_at(limit: Limit, index: int) -> Path_:
    """Where a limit names its control."""
    return ("limits", index, "relative_to") if limit.recovered is None else ("limits", index, "recovered", "control")


def _again(names: Sequence[Any]) -> list[int]:
    return [index for index, name in enumerate(names) if name in names[:index]]


def _name(selector: Selector) -> str:
    return digest_of([selector.attack, selector.where])  # true is not 1 here


def _selector(selector: Selector) -> str:
    return Selector.__str__(selector)


# --- unknown names ---------------------------------------------------------------------------------------------------


def _names(policy: Policy) -> Iterator[Trouble]:
    pinned = list(policy.tasks)
    named: list[tuple[str, Path_]] = []
    for key in ("utility", "guardrails"):
        named += [(each.task, (key, index, "task")) for index, each in enumerate(getattr(policy, key))]
    for index, limit in enumerate(policy.limits):
        where: Path_ = ("limits", index, "score" if limit.score else "task")
        named += [(task, where) for task in limit.readings]
    named += [
        (pin.choices_only, ("tasks", name, "choices_only"))
        for name, pin in policy.tasks.items()
        if pin.choices_only is not None
    ]
    for task, at in named:
        if task not in policy.tasks:
            remedy = f"{nearest(task, pinned)} Or add it under 'tasks' with its items."
            yield Trouble("unknown-task", f"the task '{task}' is not pinned", remedy, at)
    for name, pin in policy.tasks.items():
        if pin.choices_only == name:
            words = f"'{name}' cannot be its own baseline"
            yield Trouble("wrong-baseline", words, "Name the task without the questions.", (
                "tasks", name, "choices_only",
            ))  # fmt: skip
    controls: list[tuple[str, Path_]] = [
        (limit.control, _control_at(limit, index))
        for index, limit in enumerate(policy.limits)
        if limit.control is not None
    ]
    if policy.ratchet:
        controls.append((policy.ratchet.relative_to, ("ratchet", "relative_to")))
    for control, at in controls:
        if control not in policy.controls:
            remedy = nearest(control, list(policy.controls)) if policy.controls else "Add it under 'controls'."
            yield Trouble("unknown-control", f"there is no control '{control}'", remedy, at)


def _idle(policy: Policy) -> Iterator[Trouble]:
    """Limits and requirements without effect, because they do not cover each other."""
    for index, limit in enumerate(policy.limits):
        if not any(covers(limit, requirement) for requirement in policy.required):
            words = f"the limit '{limit.id}' is on nothing that is required"
            remedy = "Require an attack that it covers; a limit narrower than the requirement does not cover it."
            yield Trouble("idle-limit", words, remedy, ("limits", index))
    for index, requirement in enumerate(policy.required):
        if not any(covers(limit, requirement) for limit in policy.limits):
            words = f"{_selector(requirement)} is required, but no limit speaks of it"
            yield Trouble("no-limit", words, "Add a limit.", ("required", index))
    if not any(each.attack == "none" and not each.where for each in policy.required):
        words = "the untouched model is not required"
        yield Trouble("no-untouched", words, "Add `- attack: none`.", ("required",))


def _vacuous(policy: Policy) -> Iterator[Trouble]:
    bounds: list[tuple[str, float | None, Path_]] = []
    for index, limit in enumerate(policy.limits):
        bounds.append(("max", limit.max, ("limits", index, "max")))
    for index, guardrail in enumerate(policy.guardrails):
        bounds.append(("max_drop", guardrail.max_drop, ("guardrails", index, "max_drop")))
        bounds.append(("max_rise", guardrail.max_rise, ("guardrails", index, "max_rise")))
    if policy.ratchet:
        bounds.append(("max_rise", policy.ratchet.max_rise, ("ratchet", "max_rise")))
    for key, value, at in bounds:
        if value is not None and value >= 1.0:
            yield Trouble("vacuous", f"a '{key}' of {value:g} is met by every model", "Lower it.", at)
    for index, utility in enumerate(policy.utility):
        if utility.min is None:
            if not any(each.task == utility.task and each.max_drop is not None for each in policy.guardrails):
                words = f"nothing bounds what unlearning cost on '{utility.task}': it has no 'min', and no guardrail"
                yield Trouble("vacuous", words, "Add a guardrail with 'max_drop' on it, or 'min'.", ("utility", index))
            continue
        if utility.min <= 0.0:
            words = "a 'min' of 0 is met by every model"
            yield Trouble("vacuous", words, "Raise it.", ("utility", index, "min"))
        if utility.min_attacked > utility.min:
            words = f"more is asked after an attack ({utility.min_attacked:g}) than before ({utility.min:g})"
            yield Trouble("contradiction", words, "Exchange the two.", ("utility", index, "min_attacked"))
    attacked = any(each.attack != "none" for each in policy.required)
    if attacked and policy.utility and not any(each.min_attacked for each in policy.utility):
        words = "no utility has 'min_attacked', so an attack that destroys the model would establish compliance"
        yield Trouble("vacuous", words, "Add 'min_attacked' to one, above the accuracy of chance.", ("utility", 0))


# --- controls, sources, roles ----------------------------------------------------------------------------------------


def _controls(policy: Policy) -> Iterator[Trouble]:
    used: list[tuple[str, Path_]] = [
        (limit.control, _control_at(limit, index)) for index, limit in enumerate(policy.limits) if limit.control
    ]
    if policy.ratchet and (anchor := policy.controls.get(policy.ratchet.relative_to)):
        if anchor.kind == "earlier_release":
            used.append((policy.ratchet.relative_to, ("ratchet", "relative_to")))
        else:
            words = f"'{policy.ratchet.relative_to}' is a control of the kind {anchor.kind}, not an earlier release"
            remedy = "A ratchet needs an earlier release; for another control write a limit with 'relative_to'."
            yield Trouble("wrong-control", words, remedy, ("ratchet", "relative_to"))
    for name, at in used:
        control = policy.controls.get(name)
        if control and control.kind == "earlier_release" and control.report_sha256 is None:
            words = f"the earlier release '{name}' has no 'report_sha256', so its answers could be any model's"
            yield Trouble("no-report-pin", words, "Write the SHA-256 of its report.json into the control.", at)
    for name, control in policy.controls.items():
        if control.report_sha256 is not None and control.kind != "earlier_release":
            words = f"a control of the kind {control.kind} is examined anew, not read from a report"
            remedy = "Take 'report_sha256' out."
            yield Trouble("wrong-control", words, remedy, ("controls", name, "report_sha256"))


def _shares(policy: Policy) -> Iterator[Trouble]:
    """A limit on a share of a gap needs pins of everything that could widen the gap, or narrow the bound."""
    for index, limit in enumerate(policy.limits):
        formats = {frozenset(policy.tasks[task].formats) for task in limit.readings if task in policy.tasks}
        if len(formats) > 1:
            words, at = "the tasks of its score are asked in different formats", ("limits", index, "score")
            yield Trouble("contradiction", words, "Give them the same 'formats'.", at)
        if limit.recovered is not None and policy.original is None:
            words = f"the limit '{limit.id}' is on a share of what the original knows, and no original is pinned"
            remedy = "Write the digest of its manifest as 'original': another original would widen the gap."
            yield Trouble("share-not-pinned", words, remedy, ("limits", index, "recovered"))
        for task in limit.readings if limit.heuristic else ():
            pin = policy.tasks.get(task)
            if pin is not None and pin.choices_only is None:
                words = f"the limit '{limit.id}' has no control, and '{task}' no task with its questions hidden"
                remedy = "Name one as 'choices_only', or a model that never knew as 'control'."
                yield Trouble("share-not-pinned", words, remedy, ("tasks", task))
            other = policy.tasks.get(pin.choices_only) if pin is not None and pin.choices_only is not None else None
            if other is not None and other.sha256 is None:
                words = f"the limit '{limit.id}' rests on '{task}' with its questions hidden, without 'sha256' of it"
                remedy = "Write the digest: `robustness-gate policy pin` prints it."
                yield Trouble("share-not-pinned", words, remedy, ("tasks", str(pin.choices_only if pin else "")))
        yield from _never_knew(policy, limit, index)
        for task in limit.readings if limit.recovered is not None else limit.score:
            pin = policy.tasks.get(task)
            lacking = [] if pin is None else [key for key in ("sha256", "questions") if getattr(pin, key) is None]
            if lacking:
                words = (
                    f"the limit '{limit.id}' compares models on '{task}', without {' and '.join(map(repr, lacking))}"
                )
                remedy = "Write the digests: `robustness-gate policy pin` prints them."
                yield Trouble("share-not-pinned", words, remedy, ("tasks", task))


def _never_knew(policy: Policy, limit: Limit, index: int) -> Iterator[Trouble]:
    """The control of a share limit is a model that never knew: no earlier release, and not the original."""
    control = policy.controls.get(limit.control or "") if limit.recovered is not None else None
    at: Path_ = ("limits", index, "recovered", "control")
    if control is not None and control.kind == "earlier_release":
        words = f"'{limit.control}' is an earlier release, which may know as much as the candidate"
        yield Trouble("wrong-control", words, "Name a model that never knew.", at)
    if control is not None and control.sha256 == policy.original:
        yield Trouble("wrong-control", f"'{limit.control}' is the original itself", "Name a model that never knew.", at)


def _sources(policy: Policy) -> Iterator[Trouble]:
    for name, pin in policy.tasks.items():
        if pin.source is not None and is_moving(pin.source):
            words = f"the data at '{pin.source}' can change"
            yield Trouble("moving-tag", words, "Name the commit, 40 hexadecimal digits.", ("tasks", name, "source"))
        if pin.roles is not None and pin.roles.dev + pin.roles.train > 0.5:
            share = pin.roles.dev + pin.roles.train
            words = f"{share:.0%} of the items for attackers leave less than half for the verdict"
            yield Trouble("roles", words, "Give attackers at most 0.5.", ("tasks", name, "roles", "dev"))


def _calibration(policy: Policy) -> Iterator[Trouble]:
    """A required calibration needs its terms, and an original that no run can choose; its methods must be known."""
    if policy.calibration is not None:
        for index, method in enumerate(policy.calibration.methods):
            if mechanism_of(method) is None:
                remedy = nearest(method, list(methods()))
                at_it: Path_ = ("calibration", "methods", index)
                yield Trouble("calibration", f"there is no method '{method}'", remedy, at_it)
        kinds = {mechanism_of(each) for each in policy.calibration.needed}
        if len(kinds) < MECHANISMS:
            words = f"its methods have {len(kinds)} different mechanisms, and {MECHANISMS} are needed"
            remedy = "Name others: docs/calibration.md has the mechanism of each."
            yield Trouble("calibration", words, remedy, ("calibration", "methods"))
    if policy.validity.calibration == "off":
        return
    at: Path_ = ("validity", "calibration")
    if policy.calibration is None:
        words = "a calibration is required, and the policy has no terms for it"
        yield Trouble("calibration", words, "Add 'calibration' with three methods at least.", at)
    if policy.original is None:
        words = "a calibration is required, and the policy does not pin the original"
        remedy = "Write the digest of its manifest as 'original': `robustness-gate policy pin` prints it."
        yield Trouble("calibration", words, remedy, at)


def is_moving(source: str) -> bool:
    """Whether a source is named by a reference (a branch or a tag) that can change."""
    return bool(MOVING.search(source)) or ("://" in source and not PINNED.search(source))


# --- waivers and dates -----------------------------------------------------------------------------------------------


def _waivers(policy: Policy) -> Iterator[Trouble]:
    required = {_name(each): each for each in policy.required}
    for index, waiver in enumerate(policy.waivers):
        named = waiver.requirement
        if named is None:
            continue
        at: Path_ = ("waivers", index, "requirement")
        if "*" in named.where.values():
            yield Trouble("waiver-wildcard", "a waiver names one thing", "Write the value out.", (*at, "where"))
        elif _name(named) not in required:
            remedy = nearest(str(named), [_selector(each) for each in policy.required])
            yield Trouble("waiver-unknown", f"the policy does not require {named}", remedy, at)
    for key in ("waivers", "accepted_risks"):
        for index, each in enumerate(getattr(policy, key)):
            if not all(name.strip() for name in (each.owner, *each.approved_by)):
                yield Trouble("empty", "a name is blank", "Name the person.", (key, index))


def _untimely(policy: Policy, day: date) -> Iterator[Trouble]:
    if policy.expires and day > policy.expires:
        words = f"the policy expired on {policy.expires}; today is {day}"
        yield Trouble("policy-expired", words, "Review it, then set a new date.", ("expires",))
    if policy.effective and day < policy.effective:
        words = f"the policy is valid from {policy.effective}; today is {day}"
        yield Trouble("policy-not-yet", words, "Wait, or use the one before it.", ("effective",))
    for name, control in policy.controls.items():
        if control.expires and day > control.expires:
            words = f"the control '{name}' expired on {control.expires}"
            yield Trouble("control-expired", words, "Name a newer one.", ("controls", name, "expires"))
    for key in ("waivers", "accepted_risks"):
        for index, each in enumerate(getattr(policy, key)):
            if day > each.expires:
                words = f"'{each.id}' expired on {each.expires} and has no effect"
                yield Trouble("waiver-expired", words, "Take it out, or issue another.", (key, index, "expires"))


# --- two limits on one hypothesis ------------------------------------------------------------------------------------


def overlaps(policy: Policy) -> Iterator[tuple[Limit, Limit]]:
    """Pairs of limits with different values for the same hypothesis: the stricter, which decides, then the looser."""
    for index, one in enumerate(policy.limits):
        for other in policy.limits[index + 1 :]:
            same = _same(one) == _same(other)
            if same and any(covers(one, each) and covers(other, each) for each in policy.required):
                strict, loose = sorted((one, other), key=lambda limit: limit.most)
                if strict.most < loose.most:
                    yield strict, loose
